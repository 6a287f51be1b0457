//! The node: its files, its clocks and its identity. All I/O of a look goes through [`Host`].
//!
//! A host is the live node, a directory that stands for `/` (`--root`), or a recorded node (`--scenario`). Neither of
//! the last two reads anything of the machine it runs on.

// .clippy.toml sends all others here.
#![allow(clippy::disallowed_methods)]

mod blank;
pub mod clock;
pub mod daemon;
mod dir;
mod error;
mod file;
mod image;
mod kmsg;
pub mod machine;
mod netlink;
mod nft_writers;
mod nftables;
mod record;
mod scenario;
mod stat;
pub mod state_dir;
mod stdio;
mod tree;
mod xtables;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use procfs_core::FromRead;

pub use clock::Moment;
pub use dir::{Dir, Node};
pub use error::{Error, optional, printable};
pub use file::OpenFile;
pub use kmsg::Kmsg;
pub use nft_writers::Writer;
pub use nftables::{NftTable, Wanted};
pub use record::Recording;
pub use stat::{FileKind, Stat};
pub use xtables::LegacyTable;

use nft_writers::NftWriters;
use record::Seen;
use scenario::Recorded;
use tree::Tree;

/// No kernel or package file that we read as a whole is larger.
pub const SMALL: u64 = 1 << 20;

/// What is opened could be slow, or a terminal.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// The node that is looked at.
#[derive(Debug)]
pub struct Host {
    tree: Arc<Tree>,
    source: Arc<Source>,
    nft_writers: Arc<NftWriters>,
    recording: Option<Recording>,
    /// One look has one moment.
    moment: OnceLock<Moment>,
    /// When the look began.
    began: Instant,
    /// What is being done, to be named when the look hangs.
    busy: Mutex<String>,
}

#[derive(Debug)]
enum Source {
    /// The node we run on.
    Live,
    /// A tree that stands for `/`, with the real clock.
    Root,
    /// A recorded node.
    Scenario(Recorded),
}

impl Host {
    /// The node that this process runs on.
    pub fn live() -> Result<Host, Error> {
        Self::open(Path::new("/"), Source::Live)
    }

    /// The tree below `dir`, judged by the real clock.
    pub fn at_root(dir: &Path) -> Result<Host, Error> {
        Self::open(dir, Source::Root)
    }

    /// The recorded node in `dir` (see [`crate::scenario`] for the layout).
    pub fn scenario(dir: &Path) -> Result<Host, Error> {
        let recorded = Recorded::load(dir)?;
        Self::open(&dir.join("root"), Source::Scenario(recorded))
    }

    fn open(dir: &Path, source: Source) -> Result<Host, Error> {
        let tree = Tree::open(dir).map_err(|errno| Error::from_errno(&dir.to_string_lossy(), errno))?;
        Ok(Host::new(Arc::new(tree), Arc::new(source)))
    }

    fn new(tree: Arc<Tree>, source: Arc<Source>) -> Host {
        let (nft_writers, moment, busy) = (Arc::default(), OnceLock::new(), Mutex::default());
        Host { tree, source, nft_writers, recording: None, moment, began: Instant::now(), busy }
    }

    /// The same node, to be looked at again: a host has one moment.
    pub fn again(&self) -> Host {
        let nft_writers = self.nft_writers.clone();
        Host { nft_writers, ..Host::new(self.tree.clone(), self.source.clone()) }
    }

    /// The same host, remembering all that is read from now on.
    pub fn recording(mut self) -> Host {
        self.recording = Some(Recording::default());
        self
    }

    /// What was read so far, when this host records.
    pub fn recorded(&self) -> Option<&Recording> {
        self.recording.as_ref()
    }

    /// Whether this is the node we run on, and not a tree or a record of another.
    pub fn is_live(&self) -> bool {
        matches!(*self.source, Source::Live)
    }

    /// The moment of this look: the same however often it is asked.
    pub fn now(&self) -> Moment {
        self.moment.get_or_init(|| self.read_clocks()).clone()
    }

    /// How long this look has been going on. A recorded node is looked at in no time: the same text is told of it however
    /// slow the machine is.
    pub fn stopwatch(&self) -> Option<Duration> {
        (!matches!(*self.source, Source::Scenario(_))).then(|| self.began.elapsed())
    }

    /// Says what is being done, for the message when it does not end.
    pub fn doing(&self, what: &str) {
        what.clone_into(&mut self.busy.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The path that was opened last, or what was begun since; where a look that does not end hangs.
    pub fn busy_with(&self) -> Option<String> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        (!busy.is_empty()).then(|| printable(&busy))
    }

    fn read_clocks(&self) -> Moment {
        let wall = match &*self.source {
            Source::Scenario(recorded) => recorded.clock,
            _ => machine::wall_clock(),
        };
        let text = |path: &str| self.read(path, 4096).ok();
        let boot = text("/proc/sys/kernel/random/boot_id")
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty() && id.len() <= 64);
        let uptime = text("/proc/uptime")
            .and_then(|bytes| procfs_core::Uptime::from_read(bytes.as_slice()).ok())
            .map(|uptime| uptime.uptime)
            .filter(|uptime| uptime.is_finite() && *uptime >= 0.0);
        Moment { wall, boot, uptime }
    }

    /// The whole content of a regular file; more than `limit` bytes is an error, not a cut.
    pub fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let bytes = self.read_head(path, limit.saturating_add(1))?;
        match u64::try_from(bytes.len()) {
            Ok(length) if length <= limit => Ok(bytes),
            _ => Err(Error::Failed(format!("{} is larger than {limit} bytes", printable(path)))),
        }
    }

    /// The first `limit` bytes of a regular file, or all of a shorter one.
    pub fn read_head(&self, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        self.regular(path, OFlag::O_PATH)?;
        let file = self.regular(path, READ)?;
        let mut bytes = Vec::new();
        let read = file.take(limit).read_to_end(&mut bytes).map(|_| ()).map_err(errno_of);
        self.note(path, || match read {
            Ok(()) => Seen::Content(bytes.clone()),
            Err(errno) => Seen::Unreadable(errno),
        });
        self.os(path, read)?;
        Ok(bytes)
    }

    /// Opens and refuses anything but a regular file. Opening a FIFO or a device could block or change the node, so
    /// the kind is asked through O_PATH first.
    fn regular(&self, path: &str, flags: OFlag) -> Result<File, Error> {
        let file = File::from(self.os(path, self.open_fd(path, flags))?);
        let meta = self.os(path, file.metadata().map_err(errno_of))?;
        let kind = match &*self.source {
            Source::Scenario(recorded) => recorded.kind(path).unwrap_or(FileKind::of(&meta)),
            _ => FileKind::of(&meta),
        };
        match kind {
            FileKind::File => Ok(file),
            other => {
                self.note(path, || Seen::Kind(other));
                Err(Error::Failed(format!("{} is {other}, not a regular file", printable(path))))
            }
        }
    }

    /// What `stat(2)` and `statfs(2)` say of a path, links followed.
    ///
    /// A recorded node knows only what was written down: a time that is not listed is `None` and an inode 0. Under
    /// `--root` the birth and change times are those of the copy, hence `None`.
    pub fn stat(&self, path: &str) -> Result<Stat, Error> {
        let looked = (|| {
            let file = File::from(self.open_fd(path, OFlag::O_PATH)?);
            let meta = file.metadata().map_err(errno_of)?;
            let mut stat = Stat::of(&meta);
            match &*self.source {
                Source::Live => stat.fstype = Some(stat::fstype(file.as_fd())?),
                Source::Root => {
                    stat.fstype = Some(stat::fstype(file.as_fd())?);
                    (stat.born, stat.changed) = (None, None);
                }
                Source::Scenario(recorded) => recorded.overlay(path, &mut stat),
            }
            Ok(stat)
        })();
        let stat = self.os(path, looked)?;
        self.note(path, || Seen::Stat(stat.clone()));
        Ok(stat)
    }

    /// Whether a path exists, links followed.
    pub fn exists(&self, path: &str) -> Result<bool, Error> {
        Ok(optional(self.stat(path))?.is_some())
    }

    /// The names in a directory, sorted; more than `limit` is an error.
    pub fn list(&self, path: &str, limit: usize) -> Result<Vec<OsString>, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK;
        let names = match self.open_fd(path, flags) {
            // An empty directory that only stat.toml knows of.
            Err(Errno::ENOENT) if self.is_recorded_directory(path) => Vec::new(),
            opened => {
                let dir = self.os(path, opened)?;
                let mut names = Vec::new();
                let listed = tree::entries(&dir, |name, _| {
                    names.push(OsString::from_vec(name.to_vec()));
                    Ok(names.len() <= limit)
                });
                self.os(path, listed)?;
                if names.len() > limit {
                    return Err(Error::Failed(format!("{} holds more than {limit} entries", printable(path))));
                }
                names
            }
        };
        let mut names = names;
        names.sort();
        self.note(path, || Seen::Names(names.clone()));
        Ok(names)
    }

    /// The target of a symbolic link, as it is written.
    pub fn read_link(&self, path: &str) -> Result<PathBuf, Error> {
        let link = self.open_fd(path, OFlag::O_PATH | OFlag::O_NOFOLLOW).and_then(|fd| readlinkat(&fd, ""));
        let target = PathBuf::from(self.os(path, link)?);
        self.note(path, || Seen::Link(target.clone()));
        Ok(target)
    }

    fn open_fd(&self, path: &str, flags: OFlag) -> Result<std::os::fd::OwnedFd, Errno> {
        self.doing(path);
        // A recording writes what was read under the same name: no name may lead elsewhere.
        if !is_plain(path) {
            return Err(Errno::EINVAL);
        }
        if let Source::Scenario(recorded) = &*self.source
            && let Some(errno) = recorded.errno(path, !flags.contains(OFlag::O_PATH))
        {
            return Err(errno);
        }
        let opened = match self.tree.open_at(path, flags) {
            Err(Errno::ENOENT) if flags.contains(OFlag::O_PATH) && self.is_recorded_directory(path) => {
                self.tree.open_at("/", flags)
            }
            result => result,
        };
        opened.inspect_err(|errno| {
            self.note(path, || match flags.contains(OFlag::O_PATH) {
                true => Seen::Refused(*errno),
                false => Seen::Unreadable(*errno),
            });
        })
    }

    fn is_recorded_directory(&self, path: &str) -> bool {
        matches!(&*self.source, Source::Scenario(recorded) if recorded.is_directory(path))
    }

    fn note(&self, path: &str, seen: impl FnOnce() -> Seen) {
        if let Some(recording) = &self.recording {
            recording.add(path, seen());
        }
    }

    fn os<T>(&self, path: &str, result: Result<T, Errno>) -> Result<T, Error> {
        result.map_err(|errno| Error::from_errno(path, errno))
    }
}

/// Whether a path is absolute and holds no `.`, `..`, empty component or NUL.
fn is_plain(path: &str) -> bool {
    path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_name))
}

/// Whether it can be the name of a file.
fn is_name(part: &str) -> bool {
    !(part.is_empty() || part == "." || part == ".." || part.contains(['/', '\0']))
}

/// The wall-clock time of a file's metadata, where the file system keeps it.
pub(crate) fn timestamp(time: std::io::Result<std::time::SystemTime>) -> Option<Timestamp> {
    Timestamp::try_from(time.ok()?).ok()
}

pub(crate) fn errno_of(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};

    use super::*;

    #[test]
    fn only_regular_files_of_a_sane_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        create_dir_all(at("d")).unwrap();
        write(at("file"), [b'x'; 100]).unwrap();
        write(at("exact"), [b'x'; 64]).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let host = Host::at_root(dir.path()).unwrap();
        assert_eq!(host.read("/exact", 64).unwrap().len(), 64);
        assert_eq!(host.read("/file", 64), Err(Error::Failed("/file is larger than 64 bytes".into())));
        assert_eq!(host.read_head("/file", 64).unwrap().len(), 64);
        assert_eq!(host.read("/fifo", 64), Err(Error::Failed("/fifo is a FIFO, not a regular file".into())));
        assert_eq!(host.read("/d", 64), Err(Error::Failed("/d is a directory, not a regular file".into())));
        assert_eq!(host.read("/none", 64), Err(Error::Absent("no /none".into())));
        assert_eq!(host.list("/", 4).unwrap(), ["d", "exact", "fifo", "file"]);
        assert!(host.list("/", 3).is_err());
        let stat = host.stat("/file").unwrap();
        assert_eq!((stat.size, stat.born, stat.changed), (100, None, None));
        assert!(stat.modified.is_some());
    }
}
