//! Remembering what the probes read, and writing it down as a scenario (`nodecheck capture`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use nix::errno::Errno;

use super::blank::{blanked, database, is_database};
use super::image::Image;
use super::scenario::{Entry, errno_name};
use super::{FileKind, Stat};

/// One answer of the node.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    Content(Vec<u8>),
    /// Parts of a regular file.
    Parts(Image),
    /// Messages of the kernel, by what they are about; under no name what was told as a whole.
    Messages(BTreeMap<Option<String>, Vec<u8>>),
    Names(Vec<OsString>),
    /// The directories in a directory.
    Dirs(Vec<String>),
    /// It is a directory with this inode number.
    Node(u64),
    Link(PathBuf),
    Stat(Stat),
    /// The path could not be resolved or looked at.
    Refused(Errno),
    /// It is there, and could not be opened or read.
    Unreadable(Errno),
    /// It is there, and is no regular file.
    Kind(FileKind),
}

impl Seen {
    /// Whether there was something at that path.
    fn is_there(&self) -> bool {
        match self {
            Seen::Refused(_) => false,
            Seen::Unreadable(errno) => !matches!(errno, Errno::ENOENT | Errno::ENOTDIR),
            _ => true,
        }
    }
}

/// All that was read, by path.
#[derive(Debug, Default)]
pub struct Recording(Mutex<BTreeMap<String, Vec<Seen>>>);

impl Recording {
    pub(super) fn add(&self, path: &str, seen: Seen) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(path.to_owned()).or_default().push(seen);
    }

    /// Changes what is remembered of a file that is read in parts.
    pub(super) fn image(&self, path: &str, change: impl FnOnce(&mut Image)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = all.entry(path.to_owned()).or_default();
        for seen in &mut *answers {
            if let Seen::Parts(image) = seen {
                return change(image);
            }
        }
        let mut image = Image::default();
        change(&mut image);
        answers.push(Seen::Parts(image));
    }

    /// Remembers an answer of the kernel, in place of what it answered to the same question before.
    pub(super) fn messages(&self, path: &str, part: Option<String>, answer: Result<Vec<u8>, Errno>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = all.entry(path.to_owned()).or_default();
        let bytes = match answer {
            Ok(bytes) => bytes,
            Err(errno) if part.is_none() => return answers.push(Seen::Refused(errno)),
            // It is none of those that are there.
            Err(_) => Vec::new(),
        };
        let known =
            answers.iter_mut().find_map(|seen| if let Seen::Messages(parts) = seen { Some(parts) } else { None });
        match known {
            Some(parts) if part.is_some() && parts.contains_key(&None) => {}
            Some(parts) => {
                if part.is_none() {
                    parts.clear();
                }
                parts.insert(part, bytes);
            }
            None => answers.push(Seen::Messages(BTreeMap::from([(part, bytes)]))),
        }
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
        let mut stats: BTreeMap<String, Entry> = BTreeMap::new();
        let mut dirs: BTreeMap<String, PathBuf> = BTreeMap::new();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, answers) in all.iter() {
            // What has no path on the node lies beside its tree.
            let place = path.strip_prefix('/').map_or_else(|| dir.join(path), |path| root.join(path));
            // Only for what is there: a directory too many would be found by the replay.
            if let Some(parent) = place.parent().filter(|_| answers.iter().any(Seen::is_there)) {
                make_dir(parent)?;
            }
            let lengths = answers.iter().map(|seen| if let Seen::Content(bytes) = seen { bytes.len() } else { 0 });
            let longest = lengths.max().unwrap_or(0);
            let has_parts = answers.iter().any(|seen| matches!(seen, Seen::Parts(_)));
            for seen in answers {
                match seen {
                    Seen::Parts(image) => {
                        let entry = stats.entry(path.clone()).or_default();
                        entry.inode = Some(image.inode());
                        if image.fstype.is_some() {
                            entry.fstype.clone_from(&image.fstype);
                        }
                        if image.is_busy() {
                            entry.read_errno = Some(errno_name(Errno::EBUSY));
                        }
                        if image.is_cut() {
                            entry.read_errno = Some(errno_name(Errno::EFBIG));
                        }
                        write_image(&place, path, image)?;
                    }
                    Seen::Messages(parts) => {
                        write_new(&place, &parts.values().flatten().copied().collect::<Vec<u8>>())?
                    }
                    Seen::Content(_) if has_parts => {}
                    // A head that was read beside the whole must not replace it.
                    Seen::Content(bytes) if bytes.len() < longest => {}
                    Seen::Content(bytes) if is_database(path) => write_image(&place, path, &Image::of(bytes))?,
                    Seen::Content(bytes) => write_new(&place, &blanked(path, bytes))?,
                    Seen::Link(target) => links.push((place.clone(), target)),
                    Seen::Names(names) => {
                        make_dir(&place)?;
                        if names.is_empty() {
                            stats.entry(path.clone()).or_default().directory = true;
                        }
                    }
                    Seen::Dirs(names) => {
                        make_dir(&place)?;
                        for name in names {
                            make_dir(&place.join(name))?;
                            let child = below(path, name);
                            // It went away between the listing and the look.
                            if all.contains_key(&child) && !answers_at(&all, &child).any(Seen::is_there) {
                                stats.entry(child.clone()).or_default().errno = Some(errno_name(Errno::ENOENT));
                            }
                            dirs.insert(child, place.join(name));
                        }
                    }
                    Seen::Node(inode) => {
                        make_dir(&place)?;
                        dirs.insert(path.clone(), place.clone());
                        stats.entry(path.clone()).or_default().inode = Some(*inode);
                    }
                    // What is not there needs no file; the tree says so by itself.
                    Seen::Refused(Errno::ENOENT | Errno::ENOTDIR)
                    | Seen::Unreadable(Errno::ENOENT | Errno::ENOTDIR) => {}
                    Seen::Refused(errno) => {
                        stats.entry(path.clone()).or_default().errno = Some(errno_name(*errno));
                    }
                    Seen::Unreadable(errno) => {
                        if !place.exists() {
                            write_new(&place, b"")?;
                        }
                        stats.entry(path.clone()).or_default().read_errno = Some(errno_name(*errno));
                    }
                    Seen::Kind(FileKind::Directory) => {
                        make_dir(&place)?;
                        dirs.insert(path.clone(), place.clone());
                    }
                    Seen::Kind(kind) => {
                        if !place.exists() {
                            write_new(&place, b"")?;
                        }
                        stats.entry(path.clone()).or_default().kind = Some(*kind);
                    }
                    Seen::Stat(stat) => {
                        match stat.kind {
                            FileKind::Directory => make_dir(&place)?,
                            _ if !place.exists() => write_new(&place, b"")?,
                            _ => {}
                        }
                        let entry = stats.entry(path.clone()).or_default();
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
                    let is_known = answers_at(&all, &below(path, &entry.to_string_lossy())).next().is_some();
                    if !is_known && child.symlink_metadata().is_err() {
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
        for (path, place) in dirs {
            if fs::read_dir(&place)?.next().is_none() {
                stats.entry(path).or_default().directory = true;
            }
        }
        let text = toml::to_string(&stats).map_err(io::Error::other)?;
        write_new(&dir.join("stat.toml"), text.as_bytes())
    }
}

fn below(path: &str, name: &str) -> String {
    format!("{}/{name}", path.trim_end_matches('/'))
}

/// The answers for a path and for all below it.
fn answers_at<'a>(all: &'a BTreeMap<String, Vec<Seen>>, path: &str) -> impl Iterator<Item = &'a Seen> {
    let above = below(path, "");
    let own = all.get(path).into_iter();
    let all =
        all.range(above.clone()..).take_while(move |(key, _)| key.starts_with(&above)).map(|(_, answers)| answers);
    own.chain(all).flatten()
}

fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create(path)?.write_all(bytes)
}

fn write_image(place: &Path, path: &str, image: &Image) -> io::Result<()> {
    let file = create(place)?;
    if is_database(path) { database(image).write(&file) } else { image.write(&file) }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    options.open(path)
}
