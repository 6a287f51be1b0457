//! NRPE versions 2, 3 and 4 over TCP, without TLS.
//!
//! A connection is one query and one answer, in the version of the query. Whatever can be refused with a sentence is:
//! a connection that just ends makes check_nrpe ask again in version 2 and say nothing of use.
use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::cut::cut;
use super::{Answer, Ask, Limits, Log};
use crate::parse::nrpe::{Error, Version, decode_query, encode};

/// What check_nrpe asks without `-c`. Discovery tools read the answer, so it begins as NRPE's own does.
const VERSION_QUERY: &str = "_NRPE_CHECK";
const VERSION_ANSWER: &str = concat!("NRPE v4.1.0-compatible; nodecheck ", env!("CARGO_PKG_VERSION"));
/// With these words anywhere in a version 2 answer check_nrpe throws it away and asks again (`src/check_nrpe.c`).
const POISON: &str = "Invalid packet version.3";
const POISON_FREE: &str = "Invalid packet version 3";
/// How long accepting rests after an error, doubled up to the second value while errors last: with no file descriptor
/// left, accept fails at once and again.
const REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
const READ_SIZE: usize = 4096;

/// Serves NRPE on `listener` until `shutdown` is done; then lets the open connections end, for [`Limits::drain`] at
/// most, and closes those that have not.
///
/// Errors of single connections end those; errors of accepting are logged on stderr and tried again.
pub async fn serve(listener: TcpListener, ask: Arc<dyn Ask>, limits: Limits, shutdown: impl Future<Output = ()>) {
    let drain = limits.drain;
    let places = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
    let threads = Arc::new(Semaphore::new(limits.asks.clamp(1, Semaphore::MAX_PERMITS)));
    let server = Arc::new(Server { ask, limits, threads, log: Log::default() });
    let mut connections = JoinSet::new();
    let mut rest = REST.0;
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((place, stream, peer)) => {
                rest = REST.0;
                let server = Arc::clone(&server);
                connections.spawn(async move {
                    // It only delays small writes; there is but one.
                    let _ = stream.set_nodelay(true);
                    server.converse(stream, peer).await;
                    drop(place);
                });
            }
            Err(error) => {
                server.log.line(format_args!("cannot accept a connection: {error}"));
                select! {
                    () = &mut shutdown => break,
                    () = sleep(rest) => rest = (rest * 2).min(REST.1),
                }
            }
        }
    }
    drop(listener);
    let _ = timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

/// A place first, then a connection: what there is no place for waits in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((place, stream, peer))
}

struct Server {
    ask: Arc<dyn Ask>,
    limits: Limits,
    threads: Arc<Semaphore>,
    log: Log,
}

impl Server {
    /// One connection, from its query to its end.
    async fn converse(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) {
        let deadline = Instant::now() + self.limits.request;
        let mut received = Vec::new();
        let answer = match hear(&mut stream, &mut received, deadline).await {
            Ok((version, text)) => Some((version, self.answer(text).await)),
            Err(error) => {
                self.note(peer, &error, &received);
                refusal(error)
            }
        };
        if let Some((version, Answer { code, text })) = answer {
            let text = text.replace('\0', " ").replace(POISON, POISON_FREE);
            let packet = encode(version, code, cut(&text, version.text_limit()).as_bytes());
            // All at once: check_nrpe 4.1 does not put a header together that comes in pieces.
            if !matches!(timeout(self.limits.write, stream.write_all(&packet)).await, Ok(Ok(()))) {
                return;
            }
        }
        let _ = timeout(self.limits.linger, part(&mut stream, &mut received, self.limits.linger_bytes)).await;
    }

    async fn answer(&self, text: Vec<u8>) -> Answer {
        let text = match String::from_utf8(text) {
            Ok(text) if !text.contains(char::is_control) => text,
            Ok(text) => return not_text(text.as_bytes()),
            Err(error) => return not_text(error.as_bytes()),
        };
        match words(&text).next() {
            None => Answer::unknown("the query names no command"),
            Some(VERSION_QUERY) => Answer { code: 0, text: VERSION_ANSWER.to_owned() },
            Some(command) => self.ask(command, &text).await,
        }
    }

    /// Asks on a thread of its own. Tokio's own threads for blocking work would be waited for when it shuts down, and
    /// one that hangs in the kernel never ends.
    async fn ask(&self, command: &str, text: &str) -> Answer {
        let name = quoted(command.as_bytes());
        let place = match timeout(self.limits.queue, Arc::clone(&self.threads).acquire_owned()).await {
            Ok(Ok(place)) => place,
            _ => return Answer::unknown(format_args!("busy, {} checks are still running", self.limits.asks)),
        };
        let (sender, receiver) = oneshot::channel();
        let (ask, text) = (Arc::clone(&self.ask), text.to_owned());
        let thread = std::thread::Builder::new().name("ask".to_owned()).spawn(move || {
            let mut words = words(&text);
            let command = words.next().unwrap_or_default();
            let arguments: Vec<&str> = words.collect();
            // The receiver is gone when the deadline has passed.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(|| ask.ask(command, &arguments))));
            drop(place);
        });
        if let Err(error) = thread {
            return Answer::unknown(format_args!("no thread for {name}: {error}"));
        }
        match timeout(self.limits.ask, receiver).await {
            Ok(Ok(Ok(answer))) => answer,
            Ok(Ok(Err(panic))) => Answer::unknown(format_args!("{name} failed, a bug: {}", quoted(message(&*panic)))),
            Ok(Err(_)) => Answer::unknown(format_args!("{name} ended without an answer")),
            Err(_) => Answer::unknown(format_args!("{name} gave no answer in {:?}", self.limits.ask)),
        }
    }

    fn note(&self, peer: SocketAddr, error: &Error, received: &[u8]) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        match (error, received) {
            // A load balancer that looks whether the port is open.
            (_, []) => {}
            (Error::Version(_), [0x16, 0x03, ..]) => {
                self.log.line(format_args!("{peer} speaks TLS, this port is without: check_nrpe needs -n"));
            }
            (Error::Version(_), _) if speaks_http(received) => {
                self.log.line(format_args!("{peer} speaks HTTP, this is NRPE"));
            }
            _ => self.log.line(format_args!("query from {peer} refused: {error}")),
        }
    }
}

/// Reads until a whole query is there; the error is why there will be none.
async fn hear(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
    deadline: Instant,
) -> Result<(Version, Vec<u8>), Error> {
    loop {
        let error = match decode_query(received) {
            Ok(query) => return Ok((query.version, query.text.to_vec())),
            Err(error) => error,
        };
        let Error::Truncated { have, need, .. } = error else { return Err(error) };
        // Memory follows what came, not what was announced.
        received.reserve_exact((need - have).clamp(1036, READ_SIZE));
        match timeout_at(deadline, stream.read_buf(received)).await {
            Ok(Ok(count)) if count > 0 => {}
            _ => return Err(error),
        }
    }
}

/// The answer to what is no query, if there is one that the peer understands.
fn refusal(error: Error) -> Option<(Version, Answer)> {
    match error {
        // What check_nrpe 4.0.0 sends. It asks again in version 2 when the connection ends, and crashes on an answer.
        Error::Crc(Version::V4) => None,
        _ => error.version().map(|version| (version, Answer::unknown(format_args!("query refused: {error}")))),
    }
}

/// Ends the connection so that no reset overtakes the answer: closes our side, then reads until the peer has closed.
async fn part(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    scratch: &mut Vec<u8>,
    mut limit: usize,
) -> io::Result<()> {
    stream.shutdown().await?;
    while limit > 0 {
        scratch.clear();
        scratch.reserve_exact(READ_SIZE);
        match stream.read_buf(scratch).await? {
            0 => break,
            count => limit = limit.saturating_sub(count),
        }
    }
    Ok(())
}

/// Command and arguments. Several `!` are as one, as NRPE's strtok has it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('!').filter(|word| !word.is_empty())
}

fn not_text(bytes: &[u8]) -> Answer {
    Answer::unknown(format_args!("the query {} is not plain text", quoted(bytes)))
}

/// Bytes of a peer as they may be shown: ASCII, no control character, nothing that ends the text.
fn quoted(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let (shown, more) = bytes.get(..SHOWN).map_or((bytes, ""), |shown| (shown, "..."));
    format!("\"{}{more}\"", shown.escape_ascii()).replace('|', "\\x7c")
}

fn message(panic: &(dyn Any + Send)) -> &[u8] {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message").as_bytes()
}

fn speaks_http(received: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PATCH ", b"PRI * HTTP/2"];
    METHODS.iter().any(|method| received.starts_with(method) || method.starts_with(received))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::nrpe::{decode_response, encode_query};

    /// Answers its own command and arguments; "panic" panics, "sleep" takes its argument's milliseconds.
    struct Echo;

    impl Ask for Echo {
        fn ask(&self, command: &str, arguments: &[&str]) -> Answer {
            match command {
                "panic" => panic!("odd | end"),
                "sleep" => std::thread::sleep(Duration::from_millis(arguments[0].parse().unwrap())),
                _ => {}
            }
            Answer { code: 1, text: format!("{command}{arguments:?}") }
        }
    }

    async fn start(limits: Limits) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, Arc::new(Echo), limits, async { drop(stopped.await) }));
        (address, stop, served)
    }

    async fn exchange(address: SocketAddr, query: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(query).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    }

    async fn say(address: SocketAddr, text: impl AsRef<[u8]>) -> (u16, String) {
        let answer = exchange(address, &encode_query(Version::V4, text.as_ref())).await;
        let response = decode_response(&answer).unwrap();
        (response.code, String::from_utf8(response.text.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers_in_kind() {
        let (address, _stop, _) = start(Limits::default()).await;
        for version in [Version::V2, Version::V3, Version::V4] {
            let answer = exchange(address, &encode_query(version, b"check!!a!b!")).await;
            let response = decode_response(&answer).unwrap();
            assert_eq!((response.version, response.code), (version, 1));
            assert_eq!(response.text, br#"check["a", "b"]"#);
        }
        let version = concat!("NRPE v4.1.0-compatible; nodecheck ", env!("CARGO_PKG_VERSION"));
        assert_eq!(say(address, "_NRPE_CHECK").await, (0, version.to_owned()));
    }

    #[tokio::test]
    async fn refuses_in_words() {
        let limits = Limits { ask: Duration::from_secs(1), ..Limits::default() };
        let (address, _stop, _) = start(limits).await;
        let unknown = |sentence: &str| (3, format!("UNKNOWN - nodecheck: {sentence}"));
        assert_eq!(say(address, "").await, unknown("the query names no command"));
        assert_eq!(say(address, "!!").await, unknown("the query names no command"));
        assert_eq!(say(address, b"a\xff|").await, unknown(r#"the query "a\xff\x7c" is not plain text"#));
        assert_eq!(say(address, "a!b\nc").await, unknown(r#"the query "a!b\nc" is not plain text"#));
        assert_eq!(say(address, "panic").await, unknown(r#""panic" failed, a bug: "odd \x7c end""#));
        assert_eq!(say(address, "sleep!5000").await, unknown(r#""sleep" gave no answer in 1s"#));
        assert_eq!(say(address, "Invalid packet version.3").await.1, "Invalid packet version 3[]");
    }

    #[tokio::test]
    async fn an_ask_that_hangs_keeps_its_place() {
        let (ask, queue) = (Duration::from_millis(200), Duration::from_millis(20));
        let (address, _stop, _) = start(Limits { asks: 1, ask, queue, ..Limits::default() }).await;
        assert_eq!(say(address, "sleep!1500").await.0, 3);
        assert_eq!(say(address, "check").await.1, "UNKNOWN - nodecheck: busy, 1 checks are still running");
        let free = async { while say(address, "check").await.0 != 1 {} };
        timeout(Duration::from_secs(20), free).await.unwrap();
    }

    #[tokio::test]
    async fn at_the_cap_connections_wait() {
        let limits = Limits { connections: 2, request: Duration::from_millis(300), ..Limits::default() };
        let (address, _stop, _) = start(limits).await;
        let begun = Instant::now();
        let _silent = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        assert_eq!(say(address, "check").await.0, 1);
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }

    #[tokio::test]
    async fn stopping_lets_answers_out() {
        let (address, stop, served) = start(Limits::default()).await;
        let asked = tokio::spawn(say(address, "sleep!600"));
        sleep(Duration::from_millis(200)).await;
        stop.send(()).unwrap();
        served.await.unwrap();
        assert_eq!(asked.await.unwrap().0, 1);
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn stopping_does_not_wait_for_ever() {
        let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
        let (address, stop, served) = start(limits).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let asked = tokio::spawn(async move { exchange(address, &encode_query(Version::V4, b"sleep!5000")).await });
        sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        stop.send(()).unwrap();
        served.await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert_eq!(asked.await.unwrap(), b"");
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    }
}
