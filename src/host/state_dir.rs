//! Our own directory on the node (`/var/lib/nodecheck`): the only place that a look may write to.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;

use super::machine;

/// How long a look waits for another one that is writing, which takes a few milliseconds.
const LOCK_WAIT: Duration = Duration::from_millis(300);

/// So many unreadable files of a check are kept.
const KEPT_ASIDE: u32 = 5;

/// A directory with one small file a check, safe against a crash at any point and against two writers.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// The lock on a state directory; released when dropped.
#[derive(Debug)]
pub struct Locked {
    dir: StateDir,
    _lock: Flock<File>,
}

impl StateDir {
    /// Names the directory; nothing is touched.
    pub fn new(path: &Path) -> StateDir {
        StateDir { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of a file, at most `limit` bytes; `None` where it does not exist.
    pub fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = match options.open(self.path.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidData, "not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Makes the directory if it is missing (its parent must exist) and locks it, waiting a bounded time.
    pub fn lock(&self) -> io::Result<Locked> {
        match DirBuilder::new().mode(0o750).create(&self.path) {
            // Whoever may ask the daemon may also read what it remembers.
            Ok(()) => {
                if let Some(gid) = machine::group_id(machine::GROUP) {
                    let _ = std::os::unix::fs::chown(&self.path, None, Some(gid));
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let mut options = OpenOptions::new();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        options.write(true).create(true).mode(0o640).custom_flags(flags);
        let mut file = options.open(self.path.join("lock"))?;
        self.adopt(&file)?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Locked { dir: self.clone(), _lock: lock }),
                Err((back, _)) if Instant::now() < deadline => file = back,
                Err((_, errno)) => {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        format!("another nodecheck holds its lock for over {LOCK_WAIT:?} ({errno})"),
                    ));
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Gives a file that root made to the directory's owner, so that a run by root never locks the daemon out.
    fn adopt(&self, file: &File) -> io::Result<()> {
        let (dir, mine) = (std::fs::metadata(&self.path)?, file.metadata()?);
        if (dir.uid(), dir.gid()) != (mine.uid(), mine.gid()) && nix::unistd::geteuid().is_root() {
            fchown(file, Some(dir.uid()), Some(dir.gid()))?;
        }
        Ok(())
    }
}

impl Locked {
    /// Replaces a file whole: a temporary name, sync, rename. Whoever reads meanwhile sees the old or the new one.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.dir.path.join(format!(".{name}.new"));
        // Left by a writer that was killed; nobody else holds the lock.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let result = self.write_temporary(&temporary, bytes).and_then(|()| {
            std::fs::rename(&temporary, self.dir.path.join(name))?;
            File::open(&self.dir.path)?.sync_all()
        });
        if result.is_err() {
            // A full disk: leave no half file behind.
            let _ = std::fs::remove_file(&temporary);
        }
        result
    }

    fn write_temporary(&self, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let mut file = options.open(temporary)?;
        self.dir.adopt(&file)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Moves a file whose content makes no sense out of the way, keeping it, and the few before it, for whoever wants to
    /// know why.
    pub fn set_aside(&self, name: &str) -> io::Result<PathBuf> {
        let aside = |number: u32| self.dir.path.join(format!("{name}.unreadable-{number}"));
        let free = (1..KEPT_ASIDE).map(aside).find(|path| path.symlink_metadata().is_err());
        let aside = free.unwrap_or_else(|| aside(KEPT_ASIDE));
        std::fs::rename(self.dir.path.join(name), &aside)?;
        Ok(aside)
    }
}
