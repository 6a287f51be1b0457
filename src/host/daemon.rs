//! Asking the daemon of this node over its socket.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Error, machine};

/// No answer of the daemon is longer.
const LONGEST: u64 = 4 << 20;

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// No daemon runs here.
    NoDaemon,
    /// There may be one, and this is why it could not be asked.
    Refused(String),
    /// Its answer.
    Answer(String),
}

/// Sends one line and reads the answer up to its end. A daemon that does not answer in time is an error: looking
/// beside a daemon that hangs would hang too.
pub fn ask(socket: &Path, line: &str, patience: Duration) -> Result<Asked, Error> {
    let (path, line) = (socket.to_owned(), format!("{line}\n"));
    // connect(2) blocks while the listener's queue is full, hence the thread.
    match machine::within("ask", patience, move || talk(&path, &line))? {
        Some(Ok(asked)) => Ok(asked),
        _ => Err(Error::Failed(format!(
            "the daemon on {} did not answer within {}: restart nodecheck, or look without it (--local)",
            socket.display(),
            super::clock::deadline_text(patience)
        ))),
    }
}

fn talk(path: &PathBuf, line: &str) -> Asked {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Asked::NoDaemon,
                ErrorKind::PermissionDenied => {
                    Asked::Refused(format!("{}: permission denied; needs group nodecheck", path.display()))
                }
                _ => Asked::Refused(format!("{}: {error}", path.display())),
            };
        }
    };
    let mut answer = String::new();
    let talked = stream
        .write_all(line.as_bytes())
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .and_then(|()| stream.take(LONGEST).read_to_string(&mut answer));
    match talked {
        Ok(0) => Asked::Refused(format!("{}: closed without an answer", path.display())),
        Ok(_) => Asked::Answer(answer),
        Err(error) => Asked::Refused(format!("{}: {error}", path.display())),
    }
}
