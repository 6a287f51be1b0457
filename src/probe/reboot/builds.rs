//! What the installed kernels say of themselves: two can bear one release, and NixOS has generations.

use super::kernels::Kernels;
use super::shown;
use crate::host::{Error, Host, optional};
use crate::parse::kernel::{self, Banner};

/// The image of the running release holds another build than the running one.
#[derive(Debug)]
pub(super) struct Rebuilt {
    pub path: String,
    pub build: String,
}

impl Kernels {
    /// Two kernels can bear one release (Debian until 2025, and whoever builds his own): only their builds differ.
    pub(super) fn look_at_builds(&mut self, host: &Host) {
        let own = running_build(host);
        if let Ok(build) = &own {
            self.build.clone_from(build);
        }
        if let Some(newest) = self.newest().filter(|newest| newest.release.newer_than(&self.running)) {
            // No more than a word in the text.
            let newest_build = banner(host, &newest.path).ok().flatten().map(|banner| banner.build);
            self.newest_build = newest_build.unwrap_or_default();
        }
        let Some(path) = self.find(&self.running).map(|image| image.path.clone()) else { return };
        let build = match optional(banner(host, &path)) {
            Ok(Some(Some(Banner { release, build }))) if release == self.running.text() && !build.is_empty() => build,
            Ok(_) => return,
            // Ubuntu's images are for root alone; every build there has a release of its own.
            Err(error @ Error::Denied { .. }) => {
                return self.remarks.push(format!("the running kernel's image was not read: {error}"));
            }
            Err(error) => return self.unread.push(error),
        };
        match own {
            // uname holds 64 bytes of it.
            Ok(own) if own.is_empty() || build.starts_with(&own) || own.starts_with(&build) => {}
            Ok(_) => self.rebuilt = Some(Rebuilt { path, build }),
            Err(error) => self.unread.push(error),
        }
    }

    /// NixOS: the current generation's kernel where it is not the booted one's (what `system.autoUpgrade` compares).
    pub(super) fn look_at_generations(&mut self, host: &Host) {
        let part = |system: &str, name: &str| optional(host.read_link(&format!("/run/{system}-system/{name}")));
        let (mut differ, mut failed) = (false, None);
        for name in ["kernel", "kernel-modules", "initrd"] {
            match (part("booted", name), part("current", name)) {
                (Ok(Some(booted)), Ok(Some(current))) => {
                    self.compared = true;
                    differ |= booted != current;
                }
                (Ok(_), Ok(_)) => {}
                (Err(error), _) | (_, Err(error)) => {
                    failed.get_or_insert(error);
                }
            }
        }
        self.unread.extend(failed);
        if differ {
            // Only for the name: /nix/store/HASH-linux-6.6.58/bzImage
            let target = part("current", "kernel").ok().flatten().unwrap_or_default();
            let name = target.parent().and_then(|dir| dir.file_name()).unwrap_or_default().to_string_lossy();
            self.generation = Some(shown(name.split_once('-').map_or(&*name, |(_, rest)| rest)));
        }
    }
}

/// The build of the running kernel; empty where none is told.
fn running_build(host: &Host) -> Result<String, Error> {
    let version = optional(host.read("/proc/sys/kernel/version", 4096));
    if let Ok(Some(bytes)) = &version {
        let text = String::from_utf8_lossy(bytes).trim().to_owned();
        if text.starts_with('#') {
            return Ok(text);
        }
    }
    let bytes = optional(host.read("/proc/version", 64 << 10))?.unwrap_or_default();
    match (kernel::proc_version(&bytes), version) {
        (Some(banner), _) => Ok(banner.build),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Ok(String::new()),
    }
}

/// What an x86 image says of itself; `None` for another machine's.
pub(super) fn banner(host: &Host, path: &str) -> Result<Option<Banner>, Error> {
    Ok(kernel::image(&host.read_head(path, kernel::IMAGE_HEAD)?))
}
