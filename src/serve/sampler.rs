//! The daemon's own looks: each check once an interval, whether anybody asks or not.
//!
//! One thread keeps the time, by a clock that nobody sets; every look has a thread of its own, so that one that hangs
//! holds up neither the others nor the end of the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::log::say;
use crate::check::{Check, internal_error};
use crate::host::{Error, machine};
use crate::node::Node;

/// Between the first looks of two checks.
const STEP: Duration = Duration::from_millis(200);
/// After a panic, so that one which returns at once does not fill the log.
const REST: Duration = Duration::from_millis(100);

/// Begins to look at every usable check of a node.
pub fn start(node: &Arc<Node>) -> Result<(), Error> {
    let checks = node.catalog.names().into_iter().filter_map(|name| node.check(name)?.ok());
    let mut checks: Vec<Arc<Check>> = checks.collect();
    // What is to be looked at often comes first.
    checks.sort_by_key(|check| check.definition.interval);
    let turn = |(place, check): (usize, Arc<Check>)| {
        Turn::new(place, check.definition.interval, looking(node.clone(), check.clone()))
    };
    let turns: Vec<Turn> = checks.into_iter().enumerate().map(turn).collect();
    if turns.is_empty() {
        return Ok(());
    }
    machine::start("sampler", move || keep_on(turns))
}

/// Looks at a check; one that hangs is told of in the log when it is noticed, and when it is over.
fn looking(node: Arc<Node>, check: Arc<Check>) -> impl FnMut() + Send {
    let mut hung = false;
    move || match check.sample(&Arc::new(node.host.again()), &node.history) {
        Err(reason) if !hung => {
            hung = true;
            say(format_args!("{}: {reason}", check.name()));
        }
        Ok(()) if hung => {
            hung = false;
            say(format_args!("{}: that look has ended, and another one has begun", check.name()));
        }
        _ => {}
    }
}

/// When a check is looked at, as times since the start: soon after it, then once an interval.
struct Turn {
    due: Duration,
    interval: Duration,
    /// Where in its interval it is looked at.
    phase: Duration,
    look: Box<dyn FnMut() + Send>,
}

impl Turn {
    fn new(place: usize, interval: Duration, look: impl FnMut() + Send + 'static) -> Turn {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        // Multiples of the golden ratio lie far apart from each other, however many there are.
        let phase = interval.mul_f64((f64::from(place) * 0.618_034).fract());
        Turn { due: STEP.saturating_mul(place), interval, phase, look: Box::new(look) }
    }

    /// The next time after a look at `now`: in the check's own rhythm, and at least half an interval away.
    fn after(&self, now: Duration) -> Duration {
        let interval = self.interval.as_nanos().max(1);
        let gone = now.saturating_add(self.interval / 2).saturating_sub(self.phase).as_nanos();
        let nanos = self.phase.as_nanos() + gone.div_ceil(interval) * interval;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

fn keep_on(mut turns: Vec<Turn>) {
    let start = Instant::now();
    loop {
        match catch_unwind(AssertUnwindSafe(|| round(&mut turns, start))) {
            Ok(rest) => sleep(rest),
            Err(panic) => {
                say(format_args!("the sampler goes on after this: {}", internal_error(&*panic)));
                sleep(REST);
            }
        }
    }
}

/// Begins the looks that are due, and tells how long it is until the next one.
fn round(turns: &mut [Turn], start: Instant) -> Duration {
    for turn in turns.iter_mut() {
        let now = start.elapsed();
        if turn.due <= now {
            // First, so that a panic in the look does not repeat it at once.
            turn.due = turn.after(now);
            (turn.look)();
        }
    }
    let next = turns.iter().map(|turn| turn.due).min().unwrap_or(Duration::MAX);
    next.saturating_sub(start.elapsed())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_looks_come_soon_and_the_others_are_spread_over_the_interval() {
        let interval = Duration::from_secs(60);
        let mut seconds = Vec::new();
        for place in 0..20 {
            let turn = Turn::new(place, interval, || {});
            assert_eq!(turn.due, ms(200) * place as u32);
            let second = turn.after(turn.due);
            let (least, most) = (turn.due + interval / 2, turn.due + interval * 3 / 2);
            assert!(least <= second && second <= most, "{place}: {second:?}");
            assert_eq!(turn.after(second), second + interval);
            // A tick that came late keeps the rhythm; one that came very late is not made up for.
            assert_eq!(turn.after(second + ms(20_000)), second + interval);
            assert_eq!(turn.after(second + ms(1_000_000)), second + interval * 18);
            seconds.push(second.as_millis() % interval.as_millis());
        }
        seconds.sort_unstable();
        assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{seconds:?}");
    }

    /// A turn that tells of each look.
    fn telling(place: usize, mut look: impl FnMut(u32) + Send + 'static) -> (Turn, Receiver<Instant>) {
        let (send, receive) = channel();
        let mut count = 0;
        let turn = Turn::new(place, ms(30), move || {
            count += 1;
            let _ = send.send(Instant::now());
            look(count);
        });
        (Turn { due: Duration::ZERO, ..turn }, receive)
    }

    #[test]
    fn a_panic_stops_neither_that_check_nor_another() {
        let (bad, bad_looks) = telling(0, |count| assert!(count % 2 == 0, "told to"));
        let (good, good_looks) = telling(1, |_| {});
        std::thread::spawn(|| keep_on(vec![bad, good]));
        for looks in [bad_looks, good_looks] {
            let at: Vec<Instant> = (0..6).map(|_| looks.recv_timeout(ms(10_000)).unwrap()).collect();
            assert!(at[5] - at[0] >= ms(60), "{at:?}");
        }
    }
}
