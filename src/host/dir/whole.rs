//! Reading a file to its end with as few calls as that takes.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::Fault;
use crate::host::{FileKind, errno_of};

/// Few files of the kernel are longer; one that is takes more reads.
const USUAL: usize = 4096;

/// A file system in which the kernel tells of itself: it has no FIFOs and no devices, and its links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Cgroup,
    Proc,
}

impl Kernel {
    /// By the name of [`Stat::fstype`](crate::host::Stat::fstype).
    pub(super) fn of(fstype: &str) -> Option<Kernel> {
        match fstype {
            "cgroup" | "cgroup2" => Some(Kernel::Cgroup),
            "proc" => Some(Kernel::Proc),
            _ => None,
        }
    }

    /// Whether the kernel makes all of a file at once (`single_open`), so that a read that gives less than was asked for
    /// gave the last. A list is made entry by entry, and a read ends before the one that doesn't fit (`seq_read_iter`).
    pub(super) fn is_read_at_once(self, name: &str) -> bool {
        let name = name.rsplit('/').next().unwrap_or(name);
        match self {
            Kernel::Cgroup => !(name.ends_with(".procs") || name.ends_with(".threads") || name == "tasks"),
            Kernel::Proc => ["cgroup", "stat", "status"].contains(&name),
        }
    }
}

/// Reads to the end. One byte more than `limit` tells that there are more. `is_short_last`: less than was asked for is the
/// end, and asking again would be one call in four.
pub(super) fn whole(fd: OwnedFd, limit: u64, is_short_last: bool) -> Result<Vec<u8>, Fault> {
    let mut file = File::from(fd).take(limit.saturating_add(1));
    let mut bytes = Vec::new();
    let mut read = || {
        let mut buffer = [0; USUAL];
        // An error comes again below, unless it was a signal.
        if is_short_last && let Ok(count) = file.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
            if count < USUAL {
                return Ok(());
            }
        }
        bytes.reserve(USUAL);
        file.read_to_end(&mut bytes).map(|_| ())
    };
    match read().map_err(errno_of) {
        Ok(()) => Ok(bytes),
        Err(Errno::EISDIR) => Err(Fault::Kind(FileKind::Directory)),
        Err(errno) => Err(Fault::Unreadable(errno)),
    }
}
