//! The kernels that are installed, as far as they are of the running one's flavour.
//!
//! What counts is an image, in `/boot` or beside its modules, or a BLS entry whose kernel is still there. A directory
//! of modules alone does not: dpkg and rpm leave it behind when a module was built on the node (DKMS).

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::next_boot::{self, Choice};
use crate::host::{Error, FileKind, Host, Stat, optional};
use crate::parse::bootloader;
use crate::parse::kernel::{self, Banner};
use crate::parse::release::{self, Release};

/// What is smaller is no kernel; an empty one is, in a tree of a few files that stands for a node.
const LEAST: u64 = 1_000_000;
/// More names than this are no `/boot`.
const MOST_NAMES: usize = 4096;
const MODULES: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];
const ENTRIES: &str = "/boot/loader/entries";
/// A BLS entry has a dozen lines.
const LONGEST_ENTRY: u64 = 64 << 10;
/// Of a file system that is mounted at the first access below it, which would be ours.
const AUTOFS: [&str; 2] = ["autofs", "0x187"];

/// What is installed, beside what runs.
#[derive(Debug)]
pub(super) struct Kernels {
    pub running: Release,
    /// Of the running flavour, oldest first, one a release.
    pub installed: Vec<Image>,
    /// Releases of other flavours.
    pub others: usize,
    /// The kernel that the next boot takes, where somebody has settled that.
    pub choice: Option<Choice>,
    pub build: String,
    pub newest_build: String,
    pub rebuilt: Option<Rebuilt>,
    /// There are modules, but none of the running kernel; with the time that their directory last changed.
    pub modules_gone: Option<Option<Timestamp>>,
    /// NixOS: the kernel of the current generation, which is not the booted one.
    pub generation: Option<String>,
    /// Images that can't be booted.
    pub broken: Vec<String>,
    /// What could not be read and may hold a newer kernel.
    pub unread: Vec<Error>,
    pub remarks: Vec<String>,
    real: bool,
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

/// The image of the running release holds another build than the running one.
#[derive(Debug)]
pub(super) struct Rebuilt {
    pub path: String,
    pub build: String,
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
    pub(super) fn look(host: &Host, running: &Release, real: bool) -> Kernels {
        let mut kernels = Kernels {
            running: running.clone(),
            installed: Vec::new(),
            others: 0,
            choice: None,
            build: String::new(),
            newest_build: String::new(),
            rebuilt: None,
            modules_gone: None,
            generation: None,
            broken: Vec::new(),
            unread: Vec::new(),
            remarks: Vec::new(),
            real,
        };
        let mut other_releases = BTreeSet::new();
        let in_boot = kernels.look_in_boot(host, &mut other_releases);
        let modules = kernels.look_in_modules(host, &mut other_releases);
        match in_boot {
            Boot::Looked => kernels.look_at_entries(host, &modules),
            Boot::Unread => {}
            Boot::OnDemand => {
                let text = "/boot is mounted on demand and was not looked into";
                match kernels.installed.is_empty() {
                    true => kernels.unread.push(Error::Failed(text.to_owned())),
                    false => kernels.remarks.push(text.to_owned()),
                }
            }
        }
        kernels.others = other_releases.len();
        kernels.installed.sort_by(|a, b| a.release.order(&b.release));
        kernels.look_at_builds(host);
        kernels.generation = generation(host);
        if kernels.installed.iter().any(|image| image.release.newer_than(running)) {
            let releases: Vec<&Release> = kernels.installed.iter().map(|image| &image.release).collect();
            kernels.choice = next_boot::look(host, running, &releases, in_boot == Boot::Looked, &mut kernels.remarks);
        }
        kernels
    }

    /// The newest installed one.
    pub(super) fn newest(&self) -> Option<&Image> {
        self.installed.last()
    }

    /// The installed ones that are newer than the running one and may be booted next.
    pub(super) fn newer(&self) -> impl Iterator<Item = &Image> {
        let wanted = |image: &Image| self.choice.as_ref().is_none_or(|choice| choice.release == image.release.text());
        self.installed.iter().filter(move |image| image.release.newer_than(&self.running) && wanted(image))
    }

    fn find(&self, release: &Release) -> Option<&Image> {
        self.installed.iter().find(|image| image.release == *release)
    }

    fn look_in_boot(&mut self, host: &Host, others: &mut BTreeSet<String>) -> Boot {
        let stat = host.stat("/boot");
        if stat.is_ok_and(|stat| stat.fstype.as_deref().is_some_and(|fstype| AUTOFS.contains(&fstype))) {
            return Boot::OnDemand;
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
            match release::of_image_name(name) {
                Some(release) if release.same_flavour(&self.running) => self.add(host, release, &path),
                Some(release) => {
                    others.insert(release.text().to_owned());
                }
                None => {
                    if let Some(release) = self.release_inside(host, name, &path)
                        && release.same_flavour(&self.running)
                    {
                        self.add(host, release, &path);
                    }
                }
            }
        }
        Boot::Looked
    }

    /// The release of an image whose name has none (`vmlinuz-linux` on Arch, `vmlinuz-lts` on Alpine).
    fn release_inside(&self, host: &Host, name: &str, path: &str) -> Option<Release> {
        let suffix = release::image_suffix(name)?;
        let copy = [".old", ".bak"].iter().any(|end| suffix.ends_with(end)) || suffix.contains("rescue");
        if copy || host.stat(path).ok()?.size < LEAST {
            return None;
        }
        Release::parse(&banner(host, path).ok()??.release)
    }

    /// Takes in an image, if it is one that can be booted.
    fn add(&mut self, host: &Host, release: Release, path: &str) {
        if self.find(&release).is_some() {
            return;
        }
        let stat = match optional(host.stat(path)) {
            // A link that leads nowhere: the kernel was removed.
            Ok(None) => return,
            Ok(Some(stat)) => stat,
            Err(error) => return self.unread.push(error),
        };
        let complete = stat.size >= LEAST || (stat.size == 0 && !self.real);
        if stat.kind == FileKind::File && complete {
            self.install(host, release, path, &stat);
        } else if stat.kind == FileKind::File && stat.size == 0 && !self.running.newer_than(&release) {
            self.broken.push(super::shown(path));
        }
    }

    fn install(&mut self, host: &Host, release: Release, path: &str, stat: &Stat) {
        let mtime = |dir: &str| host.stat(&format!("{dir}/{}/modules.dep", release.text())).ok()?.modified;
        let depmod = if stat.changed.is_none() { MODULES.into_iter().find_map(mtime) } else { None };
        let (changed, modified) = (stat.changed, stat.modified);
        self.installed.push(Image { release, path: path.to_owned(), changed, modified, depmod });
    }

    /// Looks below `/lib/modules`, for images too (Fedora, SUSE, Arch); returns the releases that have modules.
    fn look_in_modules(&mut self, host: &Host, others: &mut BTreeSet<String>) -> Option<BTreeSet<String>> {
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
                // The second directory is most often the first one over again.
                if !found.insert(release.text().to_owned()) {
                    continue;
                }
                if !release.same_flavour(&self.running) {
                    others.insert(release.text().to_owned());
                } else if self.find(&release).is_none() {
                    let images = ["vmlinuz", "Image", "image", "vmlinux", "zImage"];
                    let path = images.iter().map(|image| format!("{dir}/{}/{image}", release.text()));
                    if let Some(path) = path.into_iter().find(|path| host.exists(path) == Ok(true)) {
                        self.add(host, release, &path);
                    }
                }
            }
        }
        if whole && let Some(found) = &found {
            self.look_for_modules(host, found);
        }
        found
    }

    /// Whether the modules of the running kernel were removed: nothing more can be loaded then. A kernel without
    /// modules, or one from outside the node (a microVM's), misses none.
    fn look_for_modules(&mut self, host: &Host, found: &BTreeSet<String>) {
        let running = self.running.text();
        let related = found.iter().filter_map(|text| Release::parse(text)).any(|r| r.same_flavour(&self.running));
        let modular = !self.real || host.read_head("/proc/modules", 64).is_ok_and(|bytes| !bytes.is_empty());
        let dirs = MODULES.map(|dir| format!("{dir}/{running}"));
        // Of a removed kernel the directory may stay, without what depmod and the package put there.
        let filled = |dir: &String| {
            ["modules.dep", "modules.builtin", "kernel"]
                .iter()
                .any(|name| host.exists(&format!("{dir}/{name}")) != Ok(false))
        };
        let there = found.contains(running) && (!self.real || dirs.iter().any(filled));
        if related && modular && !there {
            let times = MODULES.iter().filter_map(|dir| host.stat(dir).ok());
            self.modules_gone = Some(times.filter_map(|stat| stat.modified).next());
        }
    }

    /// BLS entries name images in other places (kernel-install, ostree).
    fn look_at_entries(&mut self, host: &Host, modules: &Option<BTreeSet<String>>) {
        let names = match optional(host.list(ENTRIES, MOST_NAMES)) {
            Ok(names) => names.unwrap_or_default(),
            // Mode 0700 on RHEL; where every kernel has its image in /boot the entries add nothing.
            Err(error) if self.installed.is_empty() => return self.unread.push(error),
            Err(error) => return self.remarks.push(format!("the boot entries were not read: {error}")),
        };
        for name in names.iter().filter_map(|name| name.to_str()).filter(|name| name.ends_with(".conf")) {
            let path = format!("{ENTRIES}/{name}");
            let entry = match host.read(&path, LONGEST_ENTRY) {
                Ok(bytes) => bootloader::entry(&bytes),
                Err(error) => {
                    self.remarks.push(format!("a boot entry was not read: {error}"));
                    continue;
                }
            };
            let (dir, file) = entry.linux.rsplit_once('/').unwrap_or(("", &entry.linux));
            let release = Release::parse(&entry.version)
                .or_else(|| release::of_image_name(file))
                // kernel-install: /MACHINE-ID/RELEASE/linux
                .or_else(|| Release::parse(dir.rsplit('/').next()?));
            let Some(release) = release.filter(|release| release.same_flavour(&self.running)) else { continue };
            if self.find(&release).is_some() {
                continue;
            }
            // The path is the boot file system's, which may be mounted on /boot or be the root.
            let images = [format!("/boot/{}", entry.linux.trim_start_matches('/')), entry.linux.clone()];
            let image =
                images.iter().filter(|image| image.starts_with('/')).find(|image| host.exists(image) == Ok(true));
            match image {
                Some(image) => self.add(host, release, image),
                // In a file system that is not mounted; the entry goes when the kernel does.
                None if modules.as_ref().is_none_or(|modules| modules.contains(release.text())) => {
                    if let Ok(stat) = host.stat(&path) {
                        self.install(host, release, &path, &stat);
                    }
                }
                None => self.remarks.push(format!("the boot entry {} leads to no kernel", super::shown(name))),
            }
        }
    }

    /// Two kernels can bear one release (Debian until 2025, and whoever builds his own): only their builds differ.
    fn look_at_builds(&mut self, host: &Host) {
        let version = host.read("/proc/sys/kernel/version", 4096).ok();
        let version = version.and_then(|bytes| String::from_utf8(bytes).ok()).map(|text| text.trim().to_owned());
        self.build = version.filter(|text| text.starts_with('#')).unwrap_or_else(|| {
            let bytes = host.read("/proc/version", 64 << 10).unwrap_or_default();
            kernel::proc_version(&bytes).map(|banner| banner.build).unwrap_or_default()
        });
        if let Some(newest) = self.newest().filter(|newest| newest.release.newer_than(&self.running)) {
            self.newest_build = banner(host, &newest.path).ok().flatten().map(|b| b.build).unwrap_or_default();
        }
        let Some(image) = self.find(&self.running).filter(|_| !self.build.is_empty()) else { return };
        match banner(host, &image.path) {
            Ok(Some(Banner { release, build })) if release == self.running.text() && !build.is_empty() => {
                // uname holds 64 bytes of it.
                if !build.starts_with(&self.build) && !self.build.starts_with(&build) {
                    self.rebuilt = Some(Rebuilt { path: image.path.clone(), build });
                }
            }
            Ok(_) => {}
            // Ubuntu's images are for root alone; every build there has a release of its own.
            Err(error) => self.remarks.push(format!("the running kernel's image was not read: {error}")),
        }
    }
}

/// What an x86 image says of itself; `None` for another machine's.
fn banner(host: &Host, path: &str) -> Result<Option<Banner>, Error> {
    Ok(kernel::image(&host.read_head(path, kernel::IMAGE_HEAD)?))
}

/// NixOS: the current generation's kernel where it is not the booted one's (what `system.autoUpgrade` compares).
fn generation(host: &Host) -> Option<String> {
    let part = |system: &str, name: &str| host.read_link(&format!("/run/{system}-system/{name}")).ok();
    let differs = |name: &str| Some(part("booted", name)? != part("current", name)?);
    if !["kernel", "kernel-modules", "initrd"].iter().any(|name| differs(name) == Some(true)) {
        return None;
    }
    // /nix/store/HASH-linux-6.6.58/bzImage
    let target = part("current", "kernel").unwrap_or_default();
    let name = target.parent().and_then(|dir| dir.file_name()).unwrap_or_default().to_string_lossy().into_owned();
    let release = name.split_once('-').map_or(name.as_str(), |(_, rest)| rest);
    Some(super::shown(release))
}
