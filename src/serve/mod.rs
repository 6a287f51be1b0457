//! The daemon: its looks, and answering over the network, which is the only async code.
//!
//! A server is given its listener, who answers ([`Ask`]), its [`Limits`] and a future that tells when to stop.

// Sockets, and the clock that their deadlines are kept by, belong here.
#![allow(clippy::disallowed_methods)]

use std::time::Duration;

pub mod ask;
pub mod cut;
pub mod log;
pub mod nrpe;
pub mod sampler;

use log::Log;

/// Who answers a command.
pub trait Ask: Send + Sync + 'static {
    /// Answers `command` with its arguments, none of which is empty or holds a control character.
    ///
    /// It may block: it is called on a thread of its own. A panic becomes an UNKNOWN answer.
    fn ask(&self, command: &str, arguments: &[&str]) -> Answer;
}

/// What a command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; anything else is sent as 3.
    pub code: u8,
    /// `STATE - name: sentence | perfdata`, then any long text, one line each.
    pub text: String,
}

impl Answer {
    /// An answer of the server itself: why there is no answer to the command.
    fn unknown(sentence: impl std::fmt::Display) -> Self {
        Self { code: 3, text: format!("UNKNOWN - nodecheck: {sentence}") }
    }
}

/// What a server bears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; at the limit no more are accepted until one ends.
    pub connections: usize,
    /// Threads at a time that ask. One that hangs keeps its place until it returns.
    pub asks: usize,
    /// From accepting a connection to having its whole query.
    pub request: Duration,
    /// How long a query waits for one of the `asks`.
    pub queue: Duration,
    /// How long an answer is waited for. A backstop: who answers has a shorter deadline of its own.
    pub ask: Duration,
    /// From having the answer to having written it.
    pub write: Duration,
    /// How long, after the answer, the peer may take to close. Closing while it still sends would be a reset, on which
    /// check_nrpe loses the answer.
    pub linger: Duration,
    /// How many bytes, after the answer, are read and thrown away for the same reason.
    pub linger_bytes: usize,
    /// How long, once told to stop, the connections may take to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            asks: 64,
            request: Duration::from_secs(10),
            queue: Duration::from_secs(3),
            ask: Duration::from_secs(15),
            write: Duration::from_secs(5),
            linger: Duration::from_secs(1),
            linger_bytes: 128 * 1024,
            drain: Duration::from_secs(5),
        }
    }
}
