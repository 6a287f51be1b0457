//! The daemon's socket for `nodecheck run` on the same node: a line with a question, an answer up to the end.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::host::machine;

/// No question is longer.
const LONGEST: u64 = 64 * 1024;
/// Questions at a time.
const AT_ONCE: usize = 256;
/// For sending the question, which is written in one piece, and again for taking the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Gives the answer to a question; may block, and is called on a thread of its own.
pub type Answers = dyn Fn(&str) -> String + Send + Sync;

/// Makes the socket (0660, group `nodecheck` where there is one) and its directory. One that a killed daemon left is
/// replaced; that of a living one is not.
pub fn bind(path: &Path) -> io::Result<(UnixListener, Place)> {
    if let Some(parent) = path.parent() {
        match DirBuilder::new().mode(0o755).create(parent) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::new(ErrorKind::AddrInUse, "another nodecheck answers on it")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            // A regular file refuses connections too.
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::new(ErrorKind::AlreadyExists, "it exists and is no socket"));
            }
            std::fs::remove_file(path)?;
        }
        Err(_) => {}
    }
    // Nobody may connect between bind and the permissions below.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    let listener = listener?;
    if let Some(gid) = machine::group_id(machine::GROUP) {
        chown(path, None, Some(gid))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    let id = identity(path)?;
    Ok((listener, Place { path: path.to_owned(), id }))
}

/// Where a socket was made.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    id: (u64, u64),
}

impl Place {
    /// Takes the socket away when its daemon ends, unless it is another daemon's by now.
    pub fn unbind(self) {
        if identity(&self.path).is_ok_and(|id| id == self.id) {
            // Left behind it does no harm: nobody answers, and the next daemon replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Answers until told to stop.
pub async fn serve(listener: UnixListener, answers: Arc<Answers>, shutdown: impl Future<Output = ()>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    tokio::pin!(shutdown);
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let answers = answers.clone();
                tokio::spawn(async move {
                    // An asker that went away is its own business.
                    let _ = answer(stream, answers).await;
                    drop(permit);
                });
            }
            // Out of descriptors: wait for some to come back instead of spinning.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: UnixStream, answers: Arc<Answers>) -> io::Result<()> {
    let mut question = Vec::new();
    timeout(PATIENCE, (&mut stream).take(LONGEST).read_to_end(&mut question)).await??;
    let question = String::from_utf8(question).map_err(io::Error::other)?;
    let (send, receive) = oneshot::channel();
    std::thread::Builder::new().name("ask".to_owned()).spawn(move || {
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answers(&question)));
        let _ = send.send(answer);
    })?;
    if let Ok(Ok(answer)) = receive.await {
        timeout(PATIENCE, stream.write_all(answer.as_bytes())).await??;
    }
    Ok(())
}
