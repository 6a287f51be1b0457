//! Boot entries (BLS), which name images in other places: kernel-install's and ostree's.

use std::collections::BTreeSet;

use super::kernels::{Kernels, MOST_NAMES};
use super::shown;
use crate::host::{Error, Host, optional};
use crate::parse::bootloader::{self, Entry};
use crate::parse::release::{self, Release};

const ENTRIES: &str = "/boot/loader/entries";
/// An entry has a dozen lines.
const LONGEST_ENTRY: u64 = 64 << 10;

impl Kernels {
    /// Takes in the kernels that only an entry tells of; `modules` are the releases that have some.
    pub(super) fn look_at_entries(&mut self, host: &Host, modules: Option<&BTreeSet<String>>) {
        let names = match optional(host.list(ENTRIES, MOST_NAMES)) {
            Ok(names) => names.unwrap_or_default(),
            // Mode 0700 on RHEL; where the running kernel's image lies in /boot, so do all others, and the entries add
            // nothing. Not so with ostree, whose images in /usr are the running deployment's alone.
            Err(error @ Error::Denied { .. }) if self.runs_from_boot() => {
                return self.remarks.push(format!("the boot entries were not read: {error}"));
            }
            Err(error) => return self.unread.push(error),
        };
        for name in names.iter().map(|name| name.to_string_lossy()).filter(|name| name.ends_with(".conf")) {
            let path = format!("{ENTRIES}/{name}");
            match optional(host.read(&path, LONGEST_ENTRY)) {
                Ok(Some(bytes)) => self.look_at_entry(host, &name, &path, &bootloader::entry(&bytes), modules),
                // A name that is not UTF-8 was replaced.
                Ok(None) if name.contains(char::REPLACEMENT_CHARACTER) => {
                    self.unread
                        .push(Error::Failed(format!("the name of the boot entry {} is not UTF-8", shown(&path))));
                }
                Ok(None) => {}
                Err(error) => {
                    let text = format!("a boot entry was not read: {error}");
                    match self.is_told_by_name(&name) {
                        true => self.remarks.push(text),
                        false => self.unread.push(Error::Failed(text)),
                    }
                }
            }
        }
    }

    fn runs_from_boot(&self) -> bool {
        let image = self.find(&self.running);
        image.and_then(|image| image.path.strip_prefix("/boot/")).is_some_and(|name| !name.contains('/'))
    }

    /// Whether an entry's name shows that it leads to no kernel which is not known already.
    fn is_told_by_name(&self, name: &str) -> bool {
        if name.trim_end_matches(".conf").split('-').any(|part| part == "rescue") {
            return true;
        }
        release::of_entry_name(name).is_some_and(|release| match release.same_flavour(&self.running) {
            true => self.find(&release).is_some() || self.is_past(&release),
            false => self.others.contains(release.text()),
        })
    }

    fn look_at_entry(
        &mut self,
        host: &Host,
        name: &str,
        path: &str,
        entry: &Entry,
        modules: Option<&BTreeSet<String>>,
    ) {
        let (dir, file) = entry.linux.rsplit_once('/').unwrap_or(("", &entry.linux));
        let release = Release::parse(&entry.version)
            .or_else(|| release::of_image_name(file))
            // kernel-install: /MACHINE-ID/RELEASE/linux
            .or_else(|| Release::parse(dir.rsplit('/').next()?));
        let Some(release) = release.filter(|release| release.same_flavour(&self.running)) else { return };
        if self.find(&release).is_some() {
            return;
        }
        if entry.linux.split('/').any(|part| part == "..") {
            return self
                .remarks
                .push(format!("the boot entry {} leads upwards, which is no path of a kernel", shown(name)));
        }
        // The path is the boot file system's, which may be mounted on /boot or be the root.
        let parts: Vec<&str> = entry.linux.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let linux = parts.join("/");
        let mut images = vec![format!("/boot/{linux}")];
        if entry.linux.starts_with('/') {
            images.push(format!("/{linux}"));
        }
        for image in images.iter().filter(|_| !linux.is_empty()) {
            match host.exists(image) {
                Ok(true) => return self.add(host, release, image),
                Ok(false) => {}
                Err(error) => return self.missed(&release, error),
            }
        }
        if modules.is_some_and(|modules| !modules.contains(release.text())) {
            return self.remarks.push(format!("the boot entry {} leads to no kernel", shown(name)));
        }
        // In a file system that is not mounted; the entry goes when the kernel does.
        match optional(host.stat(path)) {
            Ok(Some(stat)) => self.install(host, release, path, &stat),
            Ok(None) => {}
            Err(error) => self.missed(&release, error),
        }
    }
}
