//! containerd's databases on this node: where they are, who has them open, and what is in them.
//!
//! They are read without a lock, whatever containerd does meanwhile (see [`crate::parse::bolt`]): even a shared lock would
//! keep containerd from starting for as long as it is held.

mod config;
mod find;
mod snapshot;
#[cfg(test)]
mod tests;

use crate::host::{Error, Host, OpenFile, optional, printable};
use crate::parse::process::{self, Flock};

pub use find::{Place, find};
pub use snapshot::Snapshot;

/// Below containerd's root directory.
const META_DB: &str = "io.containerd.metadata.v1.bolt/meta.db";
/// A database server has thousands.
const LARGEST_LOCKS: u64 = 32 << 20;
/// Below it, too: what the CRI plugin keeps beside the database.
const CRI: &str = "io.containerd.grpc.v1.cri";
/// A reader without a lock is safe because it and the writer share one page cache. Other machines', and other programs' as
/// file systems, have their own.
const FOREIGN_FILE_SYSTEMS: &[&str] = &["nfs", "cifs", "smb", "smb2", "fuse", "9p", "ceph"];

/// A database that is held open. Never locked.
#[derive(Debug)]
pub struct Database<'h> {
    host: &'h Host,
    path: String,
    file: OpenFile<'h>,
}

impl<'h> Database<'h> {
    /// Opens the database below a root directory of containerd.
    pub fn open(host: &'h Host, root: &str) -> Result<Database<'h>, Error> {
        let path = path_of(root);
        let file = open(host, &path).map_err(unread)?;
        Ok(Database { host, path, file })
    }

    /// The file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What makes it the same file under two paths.
    pub fn identity(&self) -> (Option<(u64, u64)>, u64) {
        (self.file.device(), self.file.inode())
    }

    /// The process that has it open: containerd holds a lock on it as long as it runs. `None` where no process does, as far
    /// as this pid namespace sees.
    pub fn holder<'l>(&self, locks: &'l [Flock]) -> Option<&'l Flock> {
        // A recorded node has no devices, and knows an inode that was written down.
        let (device, inode) = self.identity();
        let is_it = |lock: &&Flock| lock.inode == inode && device.is_none_or(|device| device == lock.device);
        locks.iter().filter(|_| inode > 0).find(is_it)
    }
}

fn open<'h>(host: &'h Host, path: &str) -> Result<OpenFile<'h>, Error> {
    let file = host.open_file(path)?;
    match file.fstype() {
        Some(fstype) if FOREIGN_FILE_SYSTEMS.contains(&fstype.as_str()) => Err(Error::Failed(format!(
            "{} lies on {fstype}: what containerd writes there can't be read safely beside it",
            printable(path)
        ))),
        _ => Ok(file),
    }
}

/// An error that begins with what it means: the path is longer than what a pager shows.
fn unread(error: Error) -> Error {
    const WHAT: &str = "containerd's database can't be read";
    match error {
        Error::Denied { what, need } => Error::Denied { what: format!("{WHAT}: {what}"), need },
        Error::Failed(why) => Error::Failed(format!("{WHAT}: {why}")),
        Error::Absent(_) => error,
    }
}

/// The database below a root directory.
pub fn path_of(root: &str) -> String {
    format!("{root}/{META_DB}")
}

/// Where the CRI plugin keeps what became of a container.
pub fn status_of(root: &str, container: &str) -> String {
    format!("{root}/{CRI}/containers/{container}/status")
}

/// Who holds what `flock(2)`; `None` where it can't be read.
pub fn locks(host: &Host) -> Option<Vec<Flock>> {
    let locks = optional(host.read("/proc/locks", LARGEST_LOCKS)).ok()??;
    Some(process::flocks(&locks).collect())
}
