//! The kernels that are installed, as far as they are of the running one's flavour.
//!
//! What counts is an image, in `/boot` or beside its modules, or a BLS entry whose kernel is still there. A directory
//! of modules alone does not: dpkg and rpm leave it behind when a module was built on the node (DKMS).

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::builds::{Rebuilt, banner};
use super::next_boot::{self, NextBoot};
use crate::host::{Error, FileKind, Host, Stat, optional};
use crate::parse::release::{self, Release};

/// What is smaller is no kernel; an empty one is, in a tree of a few files that stands for a node.
const LEAST: u64 = 1_000_000;
/// More names than this are no `/boot`.
pub(super) const MOST_NAMES: usize = 4096;
const MODULES: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];
/// Of a file system that is mounted at the first access below it, which would be ours.
const AUTOFS: [&str; 2] = ["autofs", "0x187"];

/// What is installed, beside what runs.
#[derive(Debug)]
pub(super) struct Kernels {
    pub running: Release,
    /// Of the running flavour, oldest first, one a release.
    pub installed: Vec<Image>,
    /// Releases of other flavours.
    pub others: BTreeSet<String>,
    /// The kernel that the next boot takes, where somebody has settled that.
    pub next: NextBoot,
    pub build: String,
    pub newest_build: String,
    pub rebuilt: Option<Rebuilt>,
    /// There are modules, but none of the running kernel; with the time that their directory last changed.
    pub modules_gone: Option<Option<Timestamp>>,
    /// NixOS: the kernel of the current generation, which is not the booted one.
    pub generation: Option<String>,
    /// Images that can't be booted, with their sizes.
    pub broken: Vec<(String, u64)>,
    /// What could not be read and may hold a newer kernel.
    pub unread: Vec<Error>,
    pub remarks: Vec<String>,
    /// Whether anything was found that could have told of a newer kernel.
    pub compared: bool,
    real: bool,
    /// Images without a release in their names: those that could not be read, and those that do not tell.
    nameless: Vec<Error>,
    silent: Vec<String>,
}

/// An installed kernel.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub release: Release,
    pub path: String,
    pub changed: Option<Timestamp>,
    pub modified: Option<Timestamp>,
    /// The mtime of its `modules.dep`; only looked at where the change time is not known.
    pub depmod: Option<Timestamp>,
}

/// What came of a look into `/boot`.
#[derive(PartialEq)]
enum Boot {
    /// Or there is none.
    Looked,
    Unread,
    /// Every look below it would mount it.
    OnDemand,
}

impl Kernels {
    /// What lies in `/run` is looked at with `in_run` only.
    pub(super) fn look(host: &Host, running: &Release, real: bool, in_run: bool) -> Kernels {
        let mut kernels = Kernels {
            running: running.clone(),
            installed: Vec::new(),
            others: BTreeSet::new(),
            next: NextBoot::default(),
            build: String::new(),
            newest_build: String::new(),
            rebuilt: None,
            modules_gone: None,
            generation: None,
            broken: Vec::new(),
            unread: Vec::new(),
            remarks: Vec::new(),
            compared: false,
            real,
            nameless: Vec::new(),
            silent: Vec::new(),
        };
        let in_boot = kernels.look_in_boot(host);
        let modules = kernels.look_in_modules(host);
        kernels.settle_nameless(modules.as_ref());
        match in_boot {
            Boot::Looked => kernels.look_at_entries(host, modules.as_ref()),
            Boot::Unread => {}
            Boot::OnDemand => {
                let text = "/boot is mounted on demand and was not looked into";
                match kernels.installed.is_empty() {
                    true => kernels.unread.push(Error::Failed(text.to_owned())),
                    false => kernels.remarks.push(text.to_owned()),
                }
            }
        }
        kernels.installed.sort_by(|a, b| a.release.order(&b.release));
        kernels.look_at_builds(host);
        if in_run {
            kernels.look_at_generations(host);
        }
        kernels.compared |= modules.is_some() || !kernels.installed.is_empty() || !kernels.others.is_empty();
        if kernels.installed.iter().any(|image| image.release.newer_than(running)) {
            let releases: Vec<&Release> = kernels.installed.iter().map(|image| &image.release).collect();
            kernels.next = next_boot::look(host, running, &releases, in_boot == Boot::Looked, &mut kernels.remarks);
        }
        // One directory can fail under two names.
        let mut told = BTreeSet::new();
        kernels.unread.retain(|error| told.insert(error.to_string()));
        kernels
    }

    /// The newest installed one.
    pub(super) fn newest(&self) -> Option<&Image> {
        self.installed.last()
    }

    /// The installed ones that are newer than the running one and may be booted next.
    pub(super) fn newer(&self) -> impl Iterator<Item = &Image> {
        let wanted =
            |image: &Image| self.next.choice.as_ref().is_none_or(|choice| choice.release == image.release.text());
        self.installed.iter().filter(move |image| image.release.newer_than(&self.running) && wanted(image))
    }

    pub(super) fn find(&self, release: &Release) -> Option<&Image> {
        self.installed.iter().find(|image| image.release == *release)
    }

    /// Whether the kernel is older than the running one: then nothing about it matters.
    pub(super) fn is_past(&self, release: &Release) -> bool {
        self.running.newer_than(release)
    }

    fn look_in_boot(&mut self, host: &Host) -> Boot {
        match optional(host.stat("/boot")) {
            Ok(Some(stat)) if stat.fstype.as_deref().is_some_and(|fstype| AUTOFS.contains(&fstype)) => {
                return Boot::OnDemand;
            }
            Ok(_) => {}
            Err(error) => {
                self.unread.push(error);
                return Boot::Unread;
            }
        }
        let names = match optional(host.list("/boot", MOST_NAMES)) {
            Ok(names) => names.unwrap_or_default(),
            Err(error) => {
                self.unread.push(error);
                return Boot::Unread;
            }
        };
        for name in &names {
            // No release has bytes that are not UTF-8.
            let Some(name) = name.to_str() else { continue };
            let path = format!("/boot/{name}");
            let release = release::of_image_name(name).or_else(|| match release_inside(host, name, &path) {
                Inside::Release(release) => Some(release),
                Inside::Nothing => None,
                Inside::Silent => {
                    self.silent.push(path.clone());
                    None
                }
                Inside::Unread(error) => {
                    self.nameless.push(error);
                    None
                }
            });
            match release {
                Some(release) if release.same_flavour(&self.running) => self.add(host, release, &path),
                Some(release) => {
                    self.others.insert(release.text().to_owned());
                }
                None => {}
            }
        }
        Boot::Looked
    }

    /// An image without a release may be a newer kernel, unless the modules tell: where this flavour has some, each of
    /// its kernels has, and each newer one that has is known. An image that could not be read is only outweighed where
    /// the packages put images beside the modules too (Arch).
    fn settle_nameless(&mut self, modules: Option<&BTreeSet<String>>) {
        let releases = modules.into_iter().flatten().filter_map(|text| Release::parse(text));
        let mut ours = releases.filter(|release| release.same_flavour(&self.running)).peekable();
        let any = ours.peek().is_some();
        let known = any && ours.all(|release| !release.newer_than(&self.running) || self.find(&release).is_some());
        let beside = self.installed.iter().any(|image| !image.path.starts_with("/boot/"));
        if !known {
            let silent = std::mem::take(&mut self.silent);
            let text = |path: String| format!("{} does not tell which release it is", super::shown(&path));
            self.unread.extend(silent.into_iter().map(|path| Error::Failed(text(path))));
        }
        if !known || !beside {
            self.unread.append(&mut self.nameless);
        }
    }

    /// Takes in an image, if it is one that can be booted.
    pub(super) fn add(&mut self, host: &Host, release: Release, path: &str) {
        if self.find(&release).is_some() {
            return;
        }
        let stat = match optional(host.stat(path)) {
            // A link that leads nowhere: the kernel was removed.
            Ok(None) => return,
            Ok(Some(stat)) => stat,
            Err(error) => return self.missed(&release, error),
        };
        if stat.kind != FileKind::File {
            let text = format!("{} is {}, not a regular file", super::shown(path), stat.kind);
            self.missed(&release, Error::Failed(text));
        } else if stat.size >= LEAST || (stat.size == 0 && !self.real) {
            self.install(host, release, path, &stat);
        } else if self.real && !self.is_past(&release) {
            self.broken.push((super::shown(path), stat.size));
        }
    }

    /// Keeps the reason why a kernel could not be looked at, where it may be one to boot.
    pub(super) fn missed(&mut self, release: &Release, error: Error) {
        if !self.is_past(release) {
            let text = format!("the kernel {} could not be looked at: {error}", release.text());
            self.unread.push(Error::Failed(text));
        }
    }

    pub(super) fn install(&mut self, host: &Host, release: Release, path: &str, stat: &Stat) {
        let depmod = if stat.changed.is_none() { self.depmod(host, &release) } else { None };
        let (changed, modified) = (stat.changed, stat.modified);
        self.installed.push(Image { release, path: path.to_owned(), changed, modified, depmod });
    }

    fn depmod(&mut self, host: &Host, release: &Release) -> Option<Timestamp> {
        for dir in MODULES {
            match optional(host.stat(&format!("{dir}/{}/modules.dep", release.text()))) {
                Ok(None) => {}
                Ok(Some(stat)) => return stat.modified,
                Err(error) => self.missed(release, error),
            }
        }
        None
    }

    /// Looks below `/lib/modules`, for images too (Fedora, SUSE, Arch); returns the releases that have modules, unless
    /// some may be missing.
    fn look_in_modules(&mut self, host: &Host) -> Option<BTreeSet<String>> {
        let mut found: Option<BTreeSet<String>> = None;
        let mut whole = true;
        for dir in MODULES {
            let names = match optional(host.list(dir, MOST_NAMES)) {
                Ok(Some(names)) => names,
                Ok(None) => continue,
                Err(error) => {
                    whole = false;
                    self.unread.push(error);
                    continue;
                }
            };
            let found = found.get_or_insert_default();
            for release in names.iter().filter_map(|name| Release::parse(name.to_str()?)) {
                found.insert(release.text().to_owned());
                if !release.same_flavour(&self.running) {
                    self.others.insert(release.text().to_owned());
                } else if self.find(&release).is_none() {
                    self.add_beside_modules(host, dir, release);
                }
            }
        }
        let found = found.filter(|_| whole);
        if let Some(found) = &found {
            self.look_for_modules(host, found);
        }
        found
    }

    fn add_beside_modules(&mut self, host: &Host, dir: &str, release: Release) {
        for image in ["vmlinuz", "Image", "image", "vmlinux", "zImage"] {
            let path = format!("{dir}/{}/{image}", release.text());
            match host.exists(&path) {
                Ok(false) => {}
                Ok(true) => return self.add(host, release, &path),
                Err(error) => return self.missed(&release, error),
            }
        }
    }

    /// Whether the modules of the running kernel were removed: nothing more can be loaded then. A kernel without
    /// modules, or one from outside the node (a microVM's), misses none.
    fn look_for_modules(&mut self, host: &Host, found: &BTreeSet<String>) {
        let related = found.iter().filter_map(|text| Release::parse(text)).any(|r| r.same_flavour(&self.running));
        let there = found.contains(self.running.text()) && (!self.real || self.has_modules(host));
        if related && !there && (!self.real || self.is_modular(host)) {
            // Only for the age: without it, the first look that found them gone tells.
            let times = MODULES.iter().filter_map(|dir| host.stat(dir).ok());
            self.modules_gone = Some(times.filter_map(|stat| stat.modified).next());
        }
    }

    /// Whether the running kernel's directory holds any: of a removed kernel it may stay, without what depmod and the
    /// package put there.
    fn has_modules(&mut self, host: &Host) -> bool {
        let mut failed = None;
        for dir in MODULES {
            for name in ["modules.dep", "modules.builtin", "kernel"] {
                match host.exists(&format!("{dir}/{}/{name}", self.running.text())) {
                    Ok(true) => return true,
                    Ok(false) => {}
                    Err(error) => failed = Some(error),
                }
            }
        }
        let Some(error) = failed else { return false };
        let text = format!("whether the running kernel's modules are there is not known: {error}");
        self.unread.push(Error::Failed(text));
        true
    }

    fn is_modular(&mut self, host: &Host) -> bool {
        match optional(host.read_head("/proc/modules", 64)) {
            Ok(bytes) => bytes.is_some_and(|bytes| !bytes.is_empty()),
            Err(error) => {
                self.unread.push(error);
                false
            }
        }
    }
}

/// What an image tells whose name has no release (`vmlinuz-linux` on Arch, `vmlinuz-lts` on Alpine).
enum Inside {
    Release(Release),
    /// It is no image, or a copy of one.
    Nothing,
    /// It is large enough for an image; only those of x86 tell.
    Silent,
    Unread(Error),
}

fn release_inside(host: &Host, name: &str, path: &str) -> Inside {
    let Some(suffix) = release::image_suffix(name) else { return Inside::Nothing };
    if [".old", ".bak", "~"].iter().any(|end| suffix.ends_with(end)) || suffix.contains("rescue") {
        return Inside::Nothing;
    }
    let looked = optional(host.stat(path)).and_then(|stat| match stat {
        Some(stat) if stat.kind != FileKind::Directory => Ok((stat.size, optional(banner(host, path))?.flatten())),
        _ => Ok((0, None)),
    });
    match looked {
        Ok((size, banner)) => match banner.and_then(|banner| Release::parse(&banner.release)) {
            Some(release) => Inside::Release(release),
            None if size >= LEAST => Inside::Silent,
            None => Inside::Nothing,
        },
        Err(error) => Inside::Unread(error),
    }
}
