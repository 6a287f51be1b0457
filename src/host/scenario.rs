//! A recorded node's clock and `stat.toml`: what git can't keep and a check judges.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::tree::Tree;
use super::{Error, FileKind, READ, Stat, errno_of as code_of, machine};

/// A node has tens of thousands of cgroups, each with an inode to be told.
const LARGEST_STATS: u64 = 64 << 20;

/// What a scenario holds beside its tree.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) clock: Timestamp,
    dir: PathBuf,
    files: BTreeMap<String, Entry>,
}

/// One table of `stat.toml`; its key is the path as a probe asks for it.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Entry {
    /// An empty directory, which git does not keep.
    #[serde(skip_serializing_if = "is_false")]
    pub directory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctime: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Octal, as in `"0644"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fstype: Option<String>,
    /// What it is, when it is neither a regular file nor a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<FileKind>,
    /// What every look at the path, or at anything below it, answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// What opening or reading it answers, when it can be looked at all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_errno: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The name that `stat.toml` has for an error, as `errno(3)`.
pub(super) fn errno_name(errno: Errno) -> String {
    format!("{errno:?}")
}

/// The error with this name; Linux has none above 133 (`asm-generic/errno.h`).
fn errno_of(name: &str) -> Option<Errno> {
    (1..=133).map(Errno::from_raw).find(|errno| *errno != Errno::UnknownErrno && errno_name(*errno) == name)
}

impl Recorded {
    pub(super) fn load(dir: &Path) -> Result<Recorded, Error> {
        let clock = dir.join("clock");
        let text = machine::read_given(&clock)?;
        let clock = text
            .trim()
            .parse()
            .map_err(|_| Error::Failed(format!("{}: '{}' is not an RFC 3339 time", clock.display(), text.trim())))?;
        let path = dir.join("stat.toml");
        let files = match super::optional(machine::read_given_up_to(&path, LARGEST_STATS))? {
            Some(text) => {
                toml::from_str(&text).map_err(|error| Error::Failed(format!("{}: {error}", path.display())))?
            }
            None => BTreeMap::new(),
        };
        let recorded = Recorded { clock, dir: dir.to_owned(), files };
        for (file, entry) in &recorded.files {
            for name in entry.errno.iter().chain(&entry.read_errno) {
                if errno_of(name).is_none() {
                    return Err(Error::Failed(format!("{}: {file}: unknown errno {name}", path.display())));
                }
            }
        }
        Ok(recorded)
    }

    /// The recorded error of a path or of a directory above it; `reading` counts what only forbids that.
    pub(super) fn errno(&self, path: &str, reading: bool) -> Option<Errno> {
        let own = self.files.get(path).and_then(|entry| entry.read_errno.as_deref()).filter(|_| reading);
        let name = own.or_else(|| {
            Path::new(path).ancestors().find_map(|above| self.files.get(above.to_str()?)?.errno.as_deref())
        })?;
        errno_of(name)
    }

    /// What is recorded beside the tree: answers of the kernel that no file gives. `name` is its path in the scenario, and that
    /// of its error in `stat.toml`.
    pub(super) fn beside(&self, name: &str, limit: u64) -> Result<Vec<u8>, Errno> {
        if let Some(errno) = self.errno(name, true) {
            return Err(errno);
        }
        let mut bytes = Vec::new();
        let file = Tree::open(&self.dir)?.open_at(name, READ)?;
        File::from(file).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(code_of)?;
        if bytes.len() as u64 > limit { Err(Errno::EFBIG) } else { Ok(bytes) }
    }

    /// What the path leads to, when that is neither a regular file nor a directory.
    pub(super) fn kind(&self, path: &str) -> Option<FileKind> {
        self.files.get(path)?.kind
    }

    pub(super) fn is_directory(&self, path: &str) -> bool {
        self.files.get(path).is_some_and(|entry| entry.directory)
    }

    /// The directories right below `path` that a checkout of the tree may lack, being empty.
    pub(super) fn directories(&self, path: &str) -> impl Iterator<Item = &str> {
        let above = format!("{}/", path.trim_end_matches('/'));
        let all = self.files.range(above.clone()..).take_while({
            let above = above.clone();
            move |(key, _)| key.starts_with(&above)
        });
        all.filter_map(move |(key, entry)| {
            let name = key.strip_prefix(&above)?;
            (entry.directory && !name.is_empty() && !name.contains('/')).then_some(name)
        })
    }

    /// The inode number of a path, 0 where none was written down.
    pub(super) fn inode(&self, path: &str) -> u64 {
        self.files.get(path).and_then(|entry| entry.inode).unwrap_or(0)
    }

    /// The file system of a path, where one was written down.
    pub(super) fn fstype(&self, path: &str) -> Option<String> {
        self.files.get(path)?.fstype.clone()
    }

    /// Replaces what a checkout of the tree can't tell by what was recorded, or by "not known".
    pub(super) fn overlay(&self, path: &str, stat: &mut Stat) {
        let unknown = Entry::default();
        let entry = self.files.get(path).unwrap_or(&unknown);
        if entry.directory {
            stat.kind = FileKind::Directory;
        }
        stat.kind = entry.kind.unwrap_or(stat.kind);
        stat.size = entry.size.unwrap_or(stat.size);
        stat.inode = self.inode(path);
        stat.mode = entry.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(stat.mode);
        (stat.modified, stat.changed, stat.born) = (entry.mtime, entry.ctime, entry.birth);
        stat.fstype.clone_from(&entry.fstype);
    }
}
