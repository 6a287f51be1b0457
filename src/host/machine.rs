//! The machine this process runs on, whatever node it looks at: its clock, its signals, and files that the user named.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::{SigSet, Signal};

use super::{Error, FileKind, SMALL, errno_of};

/// The group that may ask the daemon and read what it remembers, beside root.
pub const GROUP: &str = "nodecheck";

/// A group's number from `/etc/group`; getgrnam would load the host's NSS libraries into a static binary.
pub fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None }
    })
}

/// CLOCK_REALTIME.
pub fn wall_clock() -> Timestamp {
    Timestamp::now()
}

/// The text of a file whose path the user gave; at most 1 MiB of UTF-8.
pub fn read_given(path: &Path) -> Result<String, Error> {
    read_given_up_to(path, SMALL)
}

/// The same, of a file that may have `limit` bytes.
pub(super) fn read_given_up_to(path: &Path, limit: u64) -> Result<String, Error> {
    let name = path.display();
    let meta = std::fs::metadata(path).map_err(|e| Error::from_errno(&name.to_string(), errno_of(e)))?;
    if FileKind::of(&meta) != FileKind::File {
        return Err(Error::Failed(format!("{name} is {}, not a regular file", FileKind::of(&meta))));
    }
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|e| Error::from_errno(&name.to_string(), errno_of(e)))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Failed(format!("{name} is larger than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Error::Failed(format!("{name} is not UTF-8 text")))
}

/// The names in a directory that the user gave, sorted; none where it does not exist.
pub fn list_given(dir: &Path) -> Result<Vec<String>, Error> {
    let fail = |e: std::io::Error| Error::from_errno(&dir.display().to_string(), errno_of(e));
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(fail)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Whether a path that the user gave is a directory.
pub fn is_directory(path: &Path) -> bool {
    path.is_dir()
}

/// Writes a file of the user's that only the user may read, making the directory for it.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

/// The columns of the terminal on stdout; `None` where stdout is no terminal.
pub fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    // Some terminals (serial lines) do not know their size.
    Some(terminal_size::terminal_size_of(stdout).map_or(80, |(width, _)| usize::from(width.0)))
}

fn polite_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
}

/// Holds the signals that end a process politely, for this thread and every one it starts. [`wait_for_signal`] gets
/// them.
pub fn hold_signals() {
    // Can only fail for a bad argument; then the signals keep their default action.
    let _ = polite_signals().thread_block();
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SIGHUP.
    Hangup,
    /// SIGTERM or SIGINT, by name.
    Stop(&'static str),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Ending::Hangup => "SIGHUP",
            Ending::Stop(name) => name,
        })
    }
}

/// Waits for one of the held signals; `None` if that can't be done.
pub fn wait_for_signal() -> Option<Ending> {
    match polite_signals().wait().ok()? {
        Signal::SIGHUP => Some(Ending::Hangup),
        signal => Some(Ending::Stop(signal.as_str())),
    }
}

/// Measures how much of somebody's patience is gone.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    begun: Instant,
    whole: Duration,
}

impl Patience {
    /// Begins now.
    pub fn of(whole: Duration) -> Patience {
        Patience { begun: Instant::now(), whole }
    }

    /// What is left; zero once it is over.
    pub fn left(&self) -> Duration {
        self.whole.saturating_sub(self.begun.elapsed())
    }

    /// What is gone, by the clock that nobody sets.
    pub fn gone(&self) -> Duration {
        self.begun.elapsed()
    }

    /// As if it had begun that much earlier.
    #[cfg(test)]
    pub(crate) fn earlier(self, by: Duration) -> Patience {
        Patience { begun: self.begun.checked_sub(by).unwrap_or(self.begun), ..self }
    }
}

/// Starts a thread that nobody waits for.
pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(|_| ()).map_err(|error| Error::Failed(format!("no thread could be started: {error}")))
}

/// Runs `work` on a thread of its own and waits at most `deadline`. `None`: it is still running, and the thread is
/// left to itself: one that hangs in the kernel can't be stopped.
pub fn within<T: Send + 'static>(
    name: &str,
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<std::thread::Result<T>>, Error> {
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let _ = send.send(result);
    };
    start(name, run)?;
    Ok(receive.recv_timeout(deadline).ok())
}
