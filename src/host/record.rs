//! Remembering what the probes read, and writing it down as a scenario (`nodecheck capture`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use nix::errno::Errno;

use super::scenario::{Entry, errno_name};
use super::{FileKind, Stat};

/// One answer of the node.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    Content(Vec<u8>),
    Names(Vec<OsString>),
    Link(PathBuf),
    Stat(Stat),
    /// The path could not be resolved or looked at.
    Refused(Errno),
    /// It is there, and could not be opened or read.
    Unreadable(Errno),
    /// It is there, and is no regular file.
    Kind(FileKind),
}

/// All that was read, by path.
#[derive(Debug, Default)]
pub struct Recording(Mutex<BTreeMap<String, Vec<Seen>>>);

impl Recording {
    pub(super) fn add(&self, path: &str, seen: Seen) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(path.to_owned()).or_default().push(seen);
    }

    /// Writes the recording as a scenario below `dir`, which must not exist yet or be empty. Everything is 0700/0600:
    /// a node's files may be nobody else's business.
    pub fn write(&self, dir: &Path, clock: Timestamp) -> io::Result<()> {
        make_dir(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        if fs::read_dir(dir)?.next().is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the directory is not empty"));
        }
        let root = dir.join("root");
        // Written last: nothing may be written through a link.
        let mut links = Vec::new();
        make_dir(&root)?;
        write_new(&dir.join("clock"), format!("{clock}\n").as_bytes())?;
        let mut stats: BTreeMap<&str, Entry> = BTreeMap::new();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, answers) in all.iter() {
            let place = root.join(path.trim_start_matches('/'));
            // Only for what is there: a directory too many would be found by the replay.
            let is_there = |seen: &Seen| match seen {
                Seen::Refused(_) => false,
                Seen::Unreadable(errno) => !matches!(errno, Errno::ENOENT | Errno::ENOTDIR),
                _ => true,
            };
            if let Some(parent) = place.parent().filter(|_| answers.iter().any(is_there)) {
                make_dir(parent)?;
            }
            let lengths = answers.iter().map(|seen| if let Seen::Content(bytes) = seen { bytes.len() } else { 0 });
            let longest = lengths.max().unwrap_or(0);
            for seen in answers {
                match seen {
                    // A head that was read beside the whole must not replace it.
                    Seen::Content(bytes) if bytes.len() < longest => {}
                    Seen::Content(bytes) => write_new(&place, &blanked(path, bytes))?,
                    Seen::Link(target) => links.push((place.clone(), target)),
                    Seen::Names(names) => {
                        make_dir(&place)?;
                        if names.is_empty() {
                            stats.entry(path).or_default().directory = true;
                        }
                    }
                    // What is not there needs no file; the tree says so by itself.
                    Seen::Refused(Errno::ENOENT | Errno::ENOTDIR)
                    | Seen::Unreadable(Errno::ENOENT | Errno::ENOTDIR) => {}
                    Seen::Refused(errno) => {
                        stats.entry(path).or_default().errno = Some(errno_name(*errno));
                    }
                    Seen::Unreadable(errno) => {
                        if !place.exists() {
                            write_new(&place, b"")?;
                        }
                        stats.entry(path).or_default().read_errno = Some(errno_name(*errno));
                    }
                    Seen::Kind(FileKind::Directory) => make_dir(&place)?,
                    Seen::Kind(kind) => {
                        if !place.exists() {
                            write_new(&place, b"")?;
                        }
                        stats.entry(path).or_default().kind = Some(*kind);
                    }
                    Seen::Stat(stat) => {
                        match stat.kind {
                            FileKind::Directory => make_dir(&place)?,
                            _ if !place.exists() => write_new(&place, b"")?,
                            _ => {}
                        }
                        let entry = stats.entry(path).or_default();
                        entry.directory |= stat.kind == FileKind::Directory;
                        entry.kind =
                            Some(stat.kind).filter(|kind| !matches!(kind, FileKind::File | FileKind::Directory));
                        (entry.mtime, entry.ctime, entry.birth) = (stat.modified, stat.changed, stat.born);
                        entry.inode = Some(stat.inode);
                        entry.mode = Some(format!("{:04o}", stat.mode));
                        entry.size = (stat.kind == FileKind::File).then_some(stat.size);
                        entry.fstype.clone_from(&stat.fstype);
                    }
                }
            }
            // A name that was listed and not looked at any further must be there to be listed again.
            for name in answers.iter().filter_map(|s| if let Seen::Names(names) = s { Some(names) } else { None }) {
                for entry in name {
                    let child = place.join(entry);
                    let asked = format!("{}/{}", path.trim_end_matches('/'), entry.to_string_lossy());
                    if !all.keys().any(|other| *other == asked || other.starts_with(&format!("{asked}/"))) {
                        write_new(&child, b"")?;
                    }
                }
            }
        }
        for (place, target) in links {
            if place.symlink_metadata().is_err() {
                symlink(target, &place)?;
            }
        }
        let text = toml::to_string(&stats).map_err(io::Error::other)?;
        write_new(&dir.join("stat.toml"), text.as_bytes())
    }
}

/// A file's content without what no check judges and nobody else should read: the values of a process's environment,
/// but for `container`, which an init system of a container has.
fn blanked(path: &str, bytes: &[u8]) -> Vec<u8> {
    if !(path.starts_with("/proc/") && path.ends_with("/environ")) {
        return bytes.to_owned();
    }
    let blank = |entry: &[u8]| match entry.iter().position(|byte| *byte == b'=') {
        Some(at) if !entry.starts_with(b"container=") => entry[..=at].to_owned(),
        _ => entry.to_owned(),
    };
    bytes.split(|byte| *byte == 0).map(blank).collect::<Vec<_>>().join(&0)
}

fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    options.open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_keeps_its_names_and_loses_its_secrets() {
        let environ = b"PATH=/bin\0TOKEN=hunter2\0container=lxc\0odd\0";
        assert_eq!(blanked("/proc/1/environ", environ), b"PATH=\0TOKEN=\0container=lxc\0odd\0");
        assert_eq!(blanked("/etc/environ", environ), environ);
    }
}
