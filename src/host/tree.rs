//! Opening files below a root directory without ever leaving it.
//!
//! `openat2(2)` with `RESOLVE_IN_ROOT` (Linux 5.6) does it in one call. Older kernels answer ENOSYS and some seccomp
//! filters EPERM: then the path is walked component by component, each opened with `O_NOFOLLOW`, and links are resolved
//! here. Either way an absolute link and `..` stay inside, as they would after a chroot.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat};

/// As many links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A directory that stands for `/`.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// Set once openat2 was refused; it will be refused again.
    walk: AtomicBool,
}

impl Tree {
    /// Opens the directory that stands for `/`.
    pub fn open(dir: &Path) -> Result<Tree, Errno> {
        let root = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Tree { root, walk: AtomicBool::new(false) })
    }

    /// Opens `path` below the root with `flags`; `O_NOFOLLOW` concerns the last component only.
    pub fn open_at(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlag::O_CLOEXEC;
        if !self.walk.load(Ordering::Relaxed) {
            match self.open_in_root(path, flags) {
                Err(Errno::ENOSYS | Errno::EPERM) => {}
                result => return result,
            }
        }
        let walked = self.open_walking(path, flags);
        // EPERM may also be the file's own answer: /dev/kmsg without CAP_SYSLOG.
        if !matches!(walked, Err(Errno::EPERM)) {
            self.walk.store(true, Ordering::Relaxed);
        }
        walked
    }

    fn open_in_root(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        resolve(&self.root, path, flags, ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS)
    }

    /// Opens `name` below an open directory in one call. No link is followed and no other mount entered (EXDEV); an
    /// error but ENOENT may only mean that this way is barred.
    pub fn open_beneath(&self, dir: &OwnedFd, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        if self.walk.load(Ordering::Relaxed) {
            return Err(Errno::ENOSYS);
        }
        let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
        let links = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        resolve(dir, name, flags | OFlag::O_CLOEXEC, inside | links)
    }

    fn open_walking(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let components = |path: &OsStr| -> Vec<OsString> {
            let parts = path.as_bytes().split(|&b| b == b'/');
            parts.filter(|p| !p.is_empty() && *p != b".").map(|p| OsString::from_vec(p.to_vec())).collect()
        };
        let mut todo: VecDeque<OsString> = components(OsStr::new(path)).into();
        // The directories on the way down, so that ".." needs no lookup and can't pass the root.
        let mut above: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                above.pop();
                continue;
            }
            let here = above.last().unwrap_or(&self.root);
            let is_last = todo.is_empty();
            let seen = openat(here, &*name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
            let kind = SFlag::from_bits_truncate(fstat(&seen)?.st_mode & SFlag::S_IFMT.bits());
            if kind == SFlag::S_IFLNK {
                if is_last && flags.contains(OFlag::O_NOFOLLOW) {
                    return if flags.contains(OFlag::O_PATH) { Ok(seen) } else { Err(Errno::ELOOP) };
                }
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP);
                }
                let target = readlinkat(&seen, "")?;
                if target.as_bytes().starts_with(b"/") {
                    above.clear();
                }
                for part in components(&target).into_iter().rev() {
                    todo.push_front(part);
                }
            } else if is_last {
                return openat(here, &*name, flags | OFlag::O_NOFOLLOW, Mode::empty());
            } else {
                if kind != SFlag::S_IFDIR {
                    return Err(Errno::ENOTDIR);
                }
                above.push(seen);
            }
        }
        openat(above.last().unwrap_or(&self.root), ".", flags, Mode::empty())
    }

    /// Refuses openat2 from now on, as an old kernel or a seccomp filter does.
    #[cfg(test)]
    pub fn force_walk(&self) {
        self.walk.store(true, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn walks(&self) -> bool {
        self.walk.load(Ordering::Relaxed)
    }
}

fn resolve(dir: &OwnedFd, path: &str, flags: OFlag, how: ResolveFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags).resolve(how);
    // EAGAIN: something was renamed while the kernel resolved "..".
    for _ in 0..16 {
        match openat2(dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            result => return result,
        }
    }
    Err(Errno::EAGAIN)
}

/// Hands the name and the `d_type` of every entry of an open directory to `each`, but not `.` and `..`; `each` says
/// whether to go on.
///
/// `readdir(3)` shows a directory that was removed meanwhile as an empty one; the system call tells (ENOENT).
pub fn entries(dir: &OwnedFd, mut each: impl FnMut(&[u8], u8) -> Result<bool, Errno>) -> Result<(), Errno> {
    let mut buffer = [0; 16384];
    loop {
        let length = getdents(dir, &mut buffer)?;
        let mut rest = buffer.get(..length).ok_or(Errno::EIO)?;
        if rest.is_empty() {
            return Ok(());
        }
        // struct linux_dirent64: inode (8), offset (8), length (2), type (1), name up to a zero byte.
        while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, low, high, kind, ..] = *rest {
            let (entry, after) = rest.split_at_checked(u16::from_ne_bytes([low, high]).into()).ok_or(Errno::EIO)?;
            let name = entry.get(19..).and_then(|name| name.split(|byte| *byte == 0).next()).ok_or(Errno::EIO)?;
            if name != b"." && name != b".." && !each(name, kind)? {
                return Ok(());
            }
            rest = after;
        }
    }
}

#[allow(unsafe_code)]
fn getdents(dir: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the descriptor is open as long as `dir` lives, and the kernel writes at most `buffer.len()` bytes.
    let length = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(length).map_err(|_| Errno::last())
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir_all, write};
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    /// root/ with links of every kind, and a secret beside it.
    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        create_dir_all(at("root/etc/deep")).unwrap();
        create_dir_all(at("root/var")).unwrap();
        create_dir_all(at("root/run")).unwrap();
        write(at("secret"), "secret").unwrap();
        write(at("root/etc/plain"), "plain").unwrap();
        write(at("root/run/flag"), "flag").unwrap();
        for (target, link) in [
            ("/etc/plain", "absolute"),
            ("../../../../etc/plain", "etc/deep/climbing"),
            ("../secret", "escaping"),
            ("/secret", "missing"),
            ("loop-b", "loop-a"),
            ("loop-a", "loop-b"),
            ("../run", "var/run"),
            ("plain", "etc/beside"),
            ("etc/deep/..", "dotdot"),
        ] {
            symlink(target, at("root").join(link)).unwrap();
        }
        dir
    }

    #[test]
    fn links_stay_inside_with_openat2_and_without() {
        let dir = sample();
        for walk in [false, true] {
            let tree = Tree::open(&dir.path().join("root")).unwrap();
            if walk {
                tree.force_walk();
            }
            let read = |path: &str| -> Result<String, Errno> {
                let mut text = String::new();
                File::from(tree.open_at(path, OFlag::O_RDONLY)?).read_to_string(&mut text).unwrap();
                Ok(text)
            };
            for path in
                ["/etc/plain", "etc/plain", "/absolute", "/etc/deep/climbing", "/etc/beside", "/../../etc/plain"]
            {
                assert_eq!(read(path).as_deref(), Ok("plain"), "{path}, walk {walk}");
            }
            assert_eq!(read("/var/run/flag").as_deref(), Ok("flag"), "walk {walk}");
            assert_eq!(read("/dotdot/plain").as_deref(), Ok("plain"), "walk {walk}");
            for path in ["/escaping", "/missing", "/nowhere", "/../secret", "/var/../../secret"] {
                assert_eq!(read(path), Err(Errno::ENOENT), "{path}, walk {walk}");
            }
            assert_eq!(read("/loop-a"), Err(Errno::ELOOP), "walk {walk}");
            assert_eq!(read("/etc/plain/x"), Err(Errno::ENOTDIR), "walk {walk}");
            assert!(tree.open_at("/", OFlag::O_RDONLY | OFlag::O_DIRECTORY).is_ok(), "walk {walk}");
            let link = tree.open_at("/absolute", OFlag::O_PATH | OFlag::O_NOFOLLOW).unwrap();
            assert_eq!(readlinkat(&link, "").unwrap(), OsStr::new("/etc/plain"), "walk {walk}");
        }
    }
}
