//! What `statx(2)` and `statfs(2)` say of a file.

use std::fmt;
use std::fs::Metadata;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::libc;
use nix::sys::statfs::fstatfs;
use serde::{Deserialize, Serialize};

/// What kind of file a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link (only seen when links are not followed).
    Link,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A block or character device.
    Device,
}

impl FileKind {
    pub(super) fn of(meta: &Metadata) -> FileKind {
        FileKind::of_mode(meta.mode())
    }

    /// Of a `st_mode`.
    pub(super) fn of_mode(mode: u32) -> FileKind {
        match mode & libc::S_IFMT {
            libc::S_IFREG => FileKind::File,
            libc::S_IFDIR => FileKind::Directory,
            libc::S_IFLNK => FileKind::Link,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            _ => FileKind::Device,
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::File => "a regular file",
            FileKind::Directory => "a directory",
            FileKind::Link => "a symbolic link",
            FileKind::Fifo => "a FIFO",
            FileKind::Socket => "a socket",
            FileKind::Device => "a device",
        })
    }
}

/// A file's metadata. A time that is not known is `None`, never 1970.
#[derive(Debug, Clone, PartialEq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Inode number; 0 when not known.
    pub inode: u64,
    /// Permission bits.
    pub mode: u32,
    /// Modification time.
    pub modified: Option<Timestamp>,
    /// Inode change time.
    pub changed: Option<Timestamp>,
    /// Birth time: statx `stx_btime`; not kept by every file system and kernel.
    pub born: Option<Timestamp>,
    /// The file system it lies on, as `stat -f` names it.
    pub fstype: Option<String>,
}

impl Stat {
    pub(super) fn of(meta: &Metadata) -> Stat {
        let nanoseconds = i32::try_from(meta.ctime_nsec()).unwrap_or(0);
        Stat {
            kind: FileKind::of(meta),
            size: meta.len(),
            inode: meta.ino(),
            mode: meta.mode() & 0o7777,
            modified: super::timestamp(meta.modified()),
            changed: Timestamp::new(meta.ctime(), nanoseconds).ok(),
            born: super::timestamp(meta.created()),
            fstype: None,
        }
    }
}

/// The name of the file system that holds an open file; its magic number (`linux/magic.h`) in hex where it has none
/// here.
pub(super) fn fstype(fd: BorrowedFd) -> Result<String, Errno> {
    // The field's type differs between architectures.
    #[allow(clippy::useless_conversion)]
    let magic = i64::from(fstatfs(fd)?.filesystem_type().0) & 0xffff_ffff;
    let name = match magic {
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x9fa0 => "proc",
        0x6265_6572 => "sysfs",
        0x27_e0eb => "cgroup",
        0x6367_7270 => "cgroup2",
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x794c_7630 => "overlay",
        0x6969 => "nfs",
        0x2fc1_2fc1 => "zfs",
        0x7371_7368 => "squashfs",
        0x6e73_6673 => "nsfs",
        0x517b => "smb",
        0xff53_4d42 => "cifs",
        0xfe53_4d42 => "smb2",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0x00c3_6400 => "ceph",
        0xf2f5_2010 => "f2fs",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        0x0116_1970 => "gfs2",
        0x7461_636f => "ocfs2",
        0x6b41_4653 => "afs",
        0x7375_7245 => "coda",
        0xca45_1a4e => "bcachefs",
        0xe0f5_e1e2 => "erofs",
        0x4d44 => "msdos",
        0x3153_464a => "jfs",
        0x5265_4973 => "reiserfs",
        0x3434 => "nilfs2",
        0xf15f => "ecryptfs",
        other => return Ok(format!("{other:#x}")),
    };
    Ok(name.to_owned())
}
