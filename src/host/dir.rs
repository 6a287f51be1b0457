//! A directory that is held open: what lies below is opened from there, without walking the whole path again.
//!
//! A node has up to tens of thousands of cgroups and of processes, and each is looked at every half minute. So the usual
//! way is short: open, read, close. That is enough on the kernel's own file systems ([`Kernel`]), where nothing can be
//! opened that blocks or changes the node. Everywhere else, and wherever `openat2(2)` fails, the careful way is gone, which
//! asks for the kind of a thing before it is opened.

mod whole;

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::PoisonError;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

use super::record::Seen;
use super::scenario::Recorded;
use super::tree::entries;
use super::{Error, FileKind, Host, Source, is_name, printable, stat};
use whole::{Kernel, whole};

const HANDLE: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const FILE: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_NOCTTY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const LISTING: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);

/// A directory that is held open. It stays the same one when another gets its name.
#[derive(Debug)]
pub struct Dir<'a> {
    host: &'a Host,
    path: String,
    /// `None`: an empty one that only stat.toml knows of.
    fd: Option<OwnedFd>,
    ground: Ground,
    /// Directories that the newest listing left out.
    odd: Cell<usize>,
}

/// What a directory is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Inode number; 0 in a scenario that does not list it.
    pub inode: u64,
    /// Number of the directories in it, those with odd names too. `None` where the file system is not known to count them,
    /// and in a scenario, whose tree may lack what nobody looked at: list them.
    pub dirs: Option<u64>,
}

/// The file system that a directory lies on.
#[derive(Debug, Clone, Copy, Default)]
struct Ground {
    device: u64,
    /// Whether the short way may be gone.
    kernel: Option<Kernel>,
    /// Whether the link count of a directory tells the number of directories in it.
    counts_dirs: bool,
}

/// What `stat(2)` says of a thing, as far as a directory needs it.
struct Looked {
    kind: FileKind,
    inode: u64,
    device: u64,
    links: u64,
    /// Only stat.toml knows of it.
    is_only_written: bool,
}

/// Why something could not be used: what a recording remembers of it.
#[derive(Clone, Copy)]
enum Fault {
    Refused(Errno),
    Unreadable(Errno),
    Kind(FileKind),
}

impl Host {
    /// Opens a directory, links followed as everywhere.
    pub fn dir(&self, path: &str) -> Result<Dir<'_>, Error> {
        let fd = self.os(path, self.open_fd(path, OFlag::O_PATH))?;
        let stat = self.os(path, fstat(&fd))?;
        let (kind, is_only_written) = match &*self.source {
            Source::Scenario(recorded) => (
                recorded.kind(path).unwrap_or(FileKind::of_mode(stat.st_mode)),
                recorded.is_directory(path) && self.tree.open_at(path, OFlag::O_PATH).err() == Some(Errno::ENOENT),
            ),
            _ => (FileKind::of_mode(stat.st_mode), false),
        };
        self.note(path, || Seen::Kind(kind));
        if kind != FileKind::Directory {
            return Err(is_not(path, kind, "a directory"));
        }
        let ground = self.os(path, self.ground(&fd, stat.st_dev))?;
        Ok(Dir {
            host: self,
            path: path.to_owned(),
            fd: Some(fd).filter(|_| !is_only_written),
            ground,
            odd: Cell::new(0),
        })
    }

    fn ground(&self, fd: &OwnedFd, device: u64) -> Result<Ground, Errno> {
        if matches!(*self.source, Source::Scenario(_)) {
            return Ok(Ground::default());
        }
        let fstype = stat::fstype(fd.as_fd())?;
        // Others count nothing, or what they like (btrfs, overlay, FUSE).
        let counts_dirs = ["cgroup", "cgroup2", "tmpfs", "ext4", "xfs"].contains(&fstype.as_str());
        Ok(Ground { device, kernel: Kernel::of(&fstype), counts_dirs })
    }
}

impl<'a> Dir<'a> {
    /// The path as it was asked for.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The names of the directories in it, sorted; more than `limit` is an error. A link to a directory is none, and a name
    /// that is not UTF-8 is left out: nobody could ask for it.
    pub fn dirs(&self, limit: usize) -> Result<Vec<String>, Error> {
        self.doing("");
        let names = self.names(limit).map_err(|errno| self.fail("", Fault::Unreadable(errno), "a directory"))?;
        self.note("", || Seen::Dirs(names.clone()));
        if names.len() > limit {
            return Err(Error::Failed(format!("{} holds more than {limit} directories", printable(&self.path))));
        }
        Ok(names)
    }

    /// How many directories the newest listing left out for their names.
    pub fn odd_names(&self) -> usize {
        self.odd.get()
    }

    /// A directory in it. A link is none.
    pub fn dir(&self, name: &str) -> Result<Dir<'a>, Error> {
        self.begin(name, 1)?;
        let (fd, ground) = match self.open_shortly(name, HANDLE) {
            Some(opened) => (opened.map(Some), self.ground),
            None => match self.dir_carefully(name) {
                Ok((fd, ground)) => (Ok(fd), ground),
                Err(fault) => (Err(fault), self.ground),
            },
        };
        let fd = fd.map_err(|fault| self.fail(name, fault, "a directory"))?;
        self.note(name, || Seen::Kind(FileKind::Directory));
        Ok(Dir { host: self.host, path: self.path_of(name), fd, ground, odd: Cell::new(0) })
    }

    /// The whole content of a regular file in it, or in a directory in it; no link is followed. More than `limit` bytes is
    /// an error, not a cut.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        self.begin(name, 2)?;
        let file = match (self.open_shortly(name, FILE), name.split_once('/')) {
            (Some(opened), _) => opened,
            (None, Some((dir, file))) => return self.dir(dir)?.read(file, limit),
            (None, None) => self.file_carefully(name),
        };
        let read = file
            .and_then(|file| whole(file, limit, self.ground.kernel.is_some_and(|kernel| kernel.is_read_at_once(name))));
        let bytes = read.map_err(|fault| self.fail(name, fault, "a regular file"))?;
        self.note(name, || Seen::Content(bytes.clone()));
        match u64::try_from(bytes.len()) {
            Ok(length) if length <= limit => Ok(bytes),
            _ => Err(Error::Failed(format!("{} is larger than {limit} bytes", printable(&self.path_of(name))))),
        }
    }

    /// The inode number of a directory in it, or of itself (`""`), and how many directories that has.
    pub fn node(&self, name: &str) -> Result<Node, Error> {
        if name.is_empty() {
            self.doing("")
        } else {
            self.begin(name, 1)?
        }
        let looked = self.look(name).and_then(|looked| looked.directory());
        let looked = looked.map_err(|fault| self.fail(name, fault, "a directory"))?;
        self.note(name, || Seen::Node(looked.inode));
        // Another file system may be mounted there.
        let counts = self.ground.counts_dirs && looked.device == self.ground.device;
        Ok(Node { inode: looked.inode, dirs: looked.links.checked_sub(2).filter(|_| counts) })
    }

    /// `None`: the careful way must be gone.
    fn open_shortly(&self, name: &str, flags: OFlag) -> Option<Result<OwnedFd, Fault>> {
        let fd = self.fd.as_ref().filter(|_| self.ground.kernel.is_some())?;
        match self.host.tree.open_beneath(fd, name, flags) {
            Ok(fd) => Some(Ok(fd)),
            Err(Errno::ENOENT) => Some(Err(Fault::Refused(Errno::ENOENT))),
            Err(_) => None,
        }
    }

    fn dir_carefully(&self, name: &str) -> Result<(Option<OwnedFd>, Ground), Fault> {
        let looked = self.look(name)?.directory()?;
        if looked.is_only_written {
            return Ok((None, self.ground));
        }
        let fd = self.open(name, HANDLE).map_err(Fault::Refused)?;
        let ground = match looked.device == self.ground.device {
            true => self.ground,
            false => self.host.ground(&fd, looked.device).map_err(Fault::Refused)?,
        };
        Ok((Some(fd), ground))
    }

    /// Opening a FIFO or a device could block or change the node, so the kind is asked first, and again of what was opened.
    fn file_carefully(&self, name: &str) -> Result<OwnedFd, Fault> {
        self.look(name)?.file()?;
        if let Some(errno) = self.recorded(name).and_then(|(recorded, path)| recorded.errno(&path, true)) {
            return Err(Fault::Unreadable(errno));
        }
        let fd = self.open(name, FILE).map_err(Fault::Unreadable)?;
        Looked::of(&fstat(&fd).map_err(Fault::Unreadable)?).file()?;
        Ok(fd)
    }

    /// What a name stands for, links not followed.
    fn look(&self, name: &str) -> Result<Looked, Fault> {
        let recorded = self.recorded(name);
        if let Some(errno) = recorded.as_ref().and_then(|(recorded, path)| recorded.errno(path, false)) {
            return Err(Fault::Refused(errno));
        }
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH;
        let stat = self.fd.as_ref().ok_or(Errno::ENOENT).and_then(|fd| fstatat(fd, name, flags));
        match (stat, recorded) {
            (Ok(stat), None) => Ok(Looked::of(&stat)),
            (Ok(stat), Some((recorded, path))) => {
                let looked = Looked::of(&stat);
                let kind = recorded.kind(&path).unwrap_or(looked.kind);
                Ok(Looked { kind, inode: recorded.inode(&path), device: 0, ..looked })
            }
            (Err(Errno::ENOENT), Some((recorded, path))) if recorded.is_directory(&path) => Ok(Looked {
                kind: FileKind::Directory,
                inode: recorded.inode(&path),
                device: 0,
                links: 0,
                is_only_written: true,
            }),
            (Err(errno), _) => Err(Fault::Refused(errno)),
        }
    }

    fn open(&self, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        openat(self.fd.as_ref().ok_or(Errno::ENOENT)?, name, flags, Mode::empty())
    }

    /// At most one more than `limit`.
    fn names(&self, limit: usize) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        if let Some((recorded, path)) = self.recorded("") {
            if let Some(errno) = recorded.errno(&path, true) {
                return Err(errno);
            }
            names.extend(recorded.directories(&path).map(str::to_owned));
        }
        let written = names.len();
        if self.fd.is_some() {
            let dir = self.open(".", LISTING)?;
            self.odd.set(0);
            entries(&dir, |name, kind| {
                match std::str::from_utf8(name) {
                    Ok(name) if is_dir(&dir, name, kind)? => names.push(name.to_owned()),
                    Ok(_) => {}
                    // A file of such a name is none of a cgroup's either.
                    Err(_) => self.odd.set(self.odd.get() + 1),
                }
                Ok(names.len() - written <= limit)
            })?;
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The recorded node, and what it calls a name. Nothing else needs a path as long as all goes well.
    fn recorded(&self, name: &str) -> Option<(&Recorded, String)> {
        match &*self.host.source {
            Source::Scenario(recorded) => Some((recorded, self.path_of(name))),
            _ => None,
        }
    }

    fn path_of(&self, name: &str) -> String {
        match name {
            "" => self.path.clone(),
            name => format!("{}/{name}", self.path.trim_end_matches('/')),
        }
    }

    /// Refuses what is no name of at most so many components.
    fn begin(&self, name: &str, components: usize) -> Result<(), Error> {
        self.doing(name);
        match name.split('/').count() <= components && name.split('/').all(is_name) {
            true => Ok(()),
            // Not noted: a recording writes what was read under the same name.
            false => Err(Error::from_errno(&self.path_of(name), Errno::EINVAL)),
        }
    }

    fn doing(&self, name: &str) {
        let mut busy = self.host.busy.lock().unwrap_or_else(PoisonError::into_inner);
        self.path.clone_into(&mut busy);
        if !name.is_empty() {
            busy.truncate(self.path.trim_end_matches('/').len());
            busy.push('/');
            busy.push_str(name);
        }
    }

    fn note(&self, name: &str, seen: impl FnOnce() -> Seen) {
        if self.host.recording.is_some() {
            self.host.note(&self.path_of(name), seen);
        }
    }

    fn fail(&self, name: &str, fault: Fault, wanted: &str) -> Error {
        let path = self.path_of(name);
        self.host.note(&path, || match fault {
            Fault::Refused(errno) => Seen::Refused(errno),
            Fault::Unreadable(errno) => Seen::Unreadable(errno),
            Fault::Kind(kind) => Seen::Kind(kind),
        });
        match fault {
            Fault::Refused(errno) | Fault::Unreadable(errno) => Error::from_errno(&path, errno),
            Fault::Kind(kind) => is_not(&path, kind, wanted),
        }
    }
}

impl Looked {
    fn of(stat: &FileStat) -> Looked {
        // The fields' types differ between architectures.
        #[allow(clippy::useless_conversion)]
        let (inode, device, links) = (stat.st_ino.into(), stat.st_dev.into(), stat.st_nlink.into());
        Looked { kind: FileKind::of_mode(stat.st_mode), inode, device, links, is_only_written: false }
    }

    fn directory(self) -> Result<Looked, Fault> {
        if self.kind == FileKind::Directory { Ok(self) } else { Err(Fault::Kind(self.kind)) }
    }

    fn file(self) -> Result<Looked, Fault> {
        if self.kind == FileKind::File { Ok(self) } else { Err(Fault::Kind(self.kind)) }
    }
}

fn is_not(path: &str, kind: FileKind, wanted: &str) -> Error {
    Error::Failed(format!("{} is {kind}, not {wanted}", printable(path)))
}

/// Whether an entry is a directory: some file systems leave its `d_type` open.
fn is_dir(dir: &OwnedFd, name: &str, kind: u8) -> Result<bool, Errno> {
    match kind {
        libc::DT_UNKNOWN => match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileKind::of_mode(stat.st_mode) == FileKind::Directory),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        },
        kind => Ok(kind == libc::DT_DIR),
    }
}

#[cfg(test)]
mod tests;
