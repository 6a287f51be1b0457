//! A file that is held open: parts of it are read, and whether its path still leads to it is asked.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::{major, minor};

use super::image::Image;
use super::record::Seen;
use super::{Error, Host, READ, Source, errno_of, stat, timestamp};
use crate::parse::ReadAt;

/// A regular file that is held open. It stays the same one when another gets its name.
#[derive(Debug)]
pub struct OpenFile<'a> {
    host: &'a Host,
    path: String,
    file: File,
    device: u64,
    inode: u64,
}

impl Host {
    /// Opens a regular file to read parts of it, links followed as everywhere.
    pub fn open_file(&self, path: &str) -> Result<OpenFile<'_>, Error> {
        self.regular(path, OFlag::O_PATH)?;
        let file = self.regular(path, READ)?;
        let meta = self.os(path, file.metadata().map_err(errno_of))?;
        let opened = OpenFile { host: self, path: path.to_owned(), file, device: meta.dev(), inode: meta.ino() };
        opened.note(|image| image.begin((meta.dev(), meta.ino()), meta.len()));
        Ok(opened)
    }
}

impl OpenFile<'_> {
    /// The path as it was asked for.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How many bytes it has now.
    pub fn length(&self) -> Result<u64, Error> {
        let length = self.metadata()?.len();
        self.note(|image| image.length = length);
        Ok(length)
    }

    /// What a write to it changes: its length, and when it was written to. Nothing changes a recorded node.
    pub fn stamp(&self) -> Result<(u64, Option<Timestamp>), Error> {
        let meta = self.metadata()?;
        Ok((meta.len(), timestamp(meta.modified()).filter(|_| !self.is_recorded())))
    }

    /// What was read of it is not of one moment: a recording forgets it. `is_busy`: and there was no other.
    pub fn forget(&self, is_busy: bool) {
        self.note(|image| image.forget(is_busy));
    }

    /// Whether its path still leads to it. A recorded node does not change.
    pub fn is_still_there(&self) -> Result<bool, Error> {
        if self.is_recorded() {
            return Ok(true);
        }
        match self.host.open_fd(&self.path, OFlag::O_PATH).and_then(|fd| File::from(fd).metadata().map_err(errno_of)) {
            Ok(there) => {
                let is_same = (there.dev(), there.ino()) == (self.device, self.inode);
                Ok(is_same && self.metadata()?.nlink() > 0)
            }
            Err(errno) => match Error::from_errno(&self.path, errno) {
                Error::Absent(_) => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Whether no path leads to it any more. A recorded node does not change.
    pub fn is_removed(&self) -> Result<bool, Error> {
        Ok(!self.is_recorded() && self.metadata()?.nlink() == 0)
    }

    /// The file system it lies on, as [`Stat::fstype`](super::Stat::fstype).
    pub fn fstype(&self) -> Option<String> {
        let fstype = match &*self.host.source {
            Source::Scenario(recorded) => recorded.fstype(&self.path),
            _ => stat::fstype(self.file.as_fd()).ok(),
        };
        self.note(|image| image.fstype.clone_from(&fstype));
        fstype
    }

    /// Inode number; 0 in a scenario that does not list it.
    pub fn inode(&self) -> u64 {
        match &*self.host.source {
            Source::Scenario(recorded) => recorded.inode(&self.path),
            _ => self.inode,
        }
    }

    /// Major and minor number of the device it lies on. A recorded node has none.
    pub fn device(&self) -> Option<(u64, u64)> {
        (!self.is_recorded()).then(|| (major(self.device), minor(self.device)))
    }

    fn is_recorded(&self) -> bool {
        matches!(*self.host.source, Source::Scenario(_))
    }

    fn metadata(&self) -> Result<Metadata, Error> {
        self.host.os(&self.path, self.file.metadata().map_err(errno_of))
    }

    fn note(&self, change: impl FnOnce(&mut Image)) {
        if let Some(recording) = &self.host.recording {
            recording.image(&self.path, change);
        }
    }
}

/// An error of it holds an [`Error`] that names the file.
impl ReadAt for OpenFile<'_> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.host.doing(&self.path);
        let read = whole(offset, into, |at, rest| self.file.read_at(rest, at));
        match read {
            Ok(count) => {
                self.note(|image| image.put(offset, into.get(..count).unwrap_or_default()));
                Ok(count)
            }
            Err(error) => {
                let (kind, errno) = (error.kind(), errno_of(error));
                self.host.note(&self.path, || Seen::Unreadable(errno));
                Err(io::Error::new(kind, Error::from_errno(&self.path, errno)))
            }
        }
    }
}

/// Reads until `into` is full or nothing comes; a signal ends neither.
fn whole(offset: u64, into: &mut [u8], mut read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
    // The kernel refuses what can't be an offset; to us it is beyond every end.
    let end = offset.checked_add(into.len() as u64).and_then(|end| libc::off_t::try_from(end).ok());
    let mut count = 0;
    while let Some(rest) = into.get_mut(count..).filter(|rest| !rest.is_empty() && end.is_some()) {
        match read(offset + count as u64, rest) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
