//! Lines on stderr, for the journal. Whoever reads them slowly, or not at all, holds up nobody.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Lines that wait to be written; further ones are lost.
const WAITING: usize = 256;

enum Item {
    Line(String),
    /// Tells the other end that everything before it is written.
    Mark(SyncSender<()>),
}

static WRITER: OnceLock<Option<SyncSender<Item>>> = OnceLock::new();

fn writer() -> Option<&'static SyncSender<Item>> {
    let start = || {
        let (send, receive) = sync_channel(WAITING);
        std::thread::Builder::new().name("log".to_owned()).spawn(|| write(receive)).ok().map(|_| send)
    };
    WRITER.get_or_init(start).as_ref()
}

fn write(items: Receiver<Item>) {
    for item in items {
        match item {
            // Nothing can be done about a closed stderr.
            Item::Line(line) => drop(writeln!(std::io::stderr(), "nodecheck: {line}")),
            Item::Mark(written) => drop(written.try_send(())),
        }
    }
}

/// Writes a line, some time soon.
pub fn say(text: impl std::fmt::Display) {
    if let Some(writer) = writer() {
        let _ = writer.try_send(Item::Line(text.to_string()));
    }
}

/// Gives the lines so far a moment to be written, before the process ends.
pub fn flush() {
    let (send, receive) = sync_channel(1);
    // Nothing is started for the sake of nothing.
    let writer = WRITER.get().and_then(Option::as_ref);
    if writer.is_some_and(|writer| writer.try_send(Item::Mark(send)).is_ok()) {
        let _ = receive.recv_timeout(Duration::from_millis(200));
    }
}

/// Lines on stderr about what peers did, a few a minute: whoever can connect must not fill the journal.
#[derive(Debug, Default)]
pub(super) struct Log {
    state: Mutex<LogState>,
}

#[derive(Debug, Default)]
struct LogState {
    since: Option<Instant>,
    written: u32,
    suppressed: u64,
}

impl Log {
    const LINES: u32 = 5;
    const PERIOD: Duration = Duration::from_secs(60);

    pub(super) fn line(&self, text: impl std::fmt::Display) {
        if let Some(suffix) = self.admit(Instant::now()) {
            say(format_args!("{text}{suffix}"));
        }
    }

    /// Whether a line may be written, and what must be added to it.
    fn admit(&self, now: Instant) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if state.since.is_none_or(|since| now.saturating_duration_since(since) >= Self::PERIOD) {
            state.since = Some(now);
            state.written = 0;
        }
        if state.written == Self::LINES {
            state.suppressed += 1;
            return None;
        }
        state.written += 1;
        match std::mem::take(&mut state.suppressed) {
            0 => Some(String::new()),
            count => Some(format!(" ({count} lines like this were left out before it)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_a_minute() {
        let log = Log::default();
        let start = Instant::now();
        let written = |at: u64| log.admit(start + Duration::from_secs(at));
        assert!((0..5).all(|second| written(second) == Some(String::new())));
        assert!((5..60).all(|second| written(second).is_none()));
        assert_eq!(written(60).unwrap(), " (55 lines like this were left out before it)");
        assert_eq!(written(61).unwrap(), "");
    }
}
