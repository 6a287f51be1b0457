//! The looks of a check: at most one at a time, so that one that hangs costs one thread however often it is asked for,
//! and what the newest that ended came to.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::check::confirm::Pace;
use crate::check::{Check, Examined, internal_error};
use crate::history::History;
use crate::host::Host;
use crate::host::clock::{deadline_text, spoken};
use crate::host::machine::{self, Patience};
use crate::verdict::{Finding, Verdict};

/// The newest look of a sampler is believed for so many intervals, or so long if that is longer.
const STALE: (u32, Duration) = (3, Duration::from_secs(180));

#[derive(Default)]
pub(super) struct Flight {
    state: Mutex<Looks>,
    landed: Condvar,
}

#[derive(Default)]
pub(super) struct Looks {
    pub(super) under_way: Option<Begun>,
    /// How many have ended, and the newest of them.
    pub(super) count: u64,
    newest: Option<Arc<Landed>>,
}

/// A look that has begun.
#[derive(Clone)]
pub(super) struct Begun {
    at: Timestamp,
    /// Its deadline and its age, by a clock that nobody sets.
    clock: Patience,
    host: Arc<Host>,
}

/// A look that has ended; `Err` when it panicked, or could not even begin.
pub(super) struct Landed {
    at: Timestamp,
    clock: Patience,
    pub(super) result: Result<Examined, String>,
}

/// A look that somebody waits for.
struct Awaited {
    begun: Begun,
    joined: bool,
    /// How many had ended before it.
    before: u64,
}

impl Flight {
    pub(super) fn looks(&self) -> MutexGuard<'_, Looks> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn land(&self, begun: &Begun, result: Result<Examined, String>) {
        let mut looks = self.looks();
        looks.under_way = None;
        looks.count += 1;
        let replaced = looks.newest.replace(Arc::new(Landed { at: begun.at, clock: begun.clock, result }));
        self.landed.notify_all();
        drop((looks, replaced));
    }

    /// What a look came to, if it ends within its deadline and `patience`.
    fn wait(&self, look: &Awaited, patience: Duration) -> Option<Arc<Landed>> {
        let left = look.begun.clock.left().min(patience);
        let flying = |looks: &mut Looks| looks.count == look.before;
        let waited = self.landed.wait_timeout_while(self.looks(), left, flying);
        let looks = waited.unwrap_or_else(PoisonError::into_inner).0;
        looks.newest.clone().filter(|_| looks.count != look.before)
    }
}

impl Check {
    /// Looks once, within the definition's deadline and `patience`, and judges; a look that is under way is joined.
    /// Never fails: what went wrong is in the verdict. What it sees is told, whatever `confirm` says.
    pub fn run(self: &Arc<Self>, host: &Arc<Host>, history: &Arc<History>, patience: Duration) -> Verdict {
        self.look_once(host, history, Pace::Once, patience).map_or_else(|why| *why, |landed| self.tell(&landed))
    }

    /// A look that ended within the definition's deadline and `patience`, or what to say where none did.
    pub(super) fn look_once(
        self: &Arc<Self>,
        host: &Arc<Host>,
        history: &Arc<History>,
        pace: Pace,
        patience: Duration,
    ) -> Result<Arc<Landed>, Box<Verdict>> {
        let ends = Patience::of(patience);
        let look = self.begin(host, history, pace);
        self.own().flight.wait(&look, ends.left()).ok_or_else(|| {
            let deadline = deadline_text(self.definition.deadline.min(patience));
            Box::new(self.unknown(match look.joined {
                true => still_running(&look.begun),
                false => format!("the look did not end within {deadline}{}", place(&look.begun)),
            }))
        })
    }

    /// Answers from the newest look that has ended, at once; only where there is none yet, looks. For a check that a
    /// sampler looks at.
    pub fn newest(self: &Arc<Self>, host: &Arc<Host>, history: &Arc<History>, patience: Duration) -> Verdict {
        let (under_way, newest) = {
            let looks = self.own().flight.looks();
            (looks.under_way.clone(), looks.newest.clone())
        };
        if let Some(look) = under_way.filter(Begun::is_overdue) {
            return self.unknown(still_running(&look));
        }
        let Some(landed) = newest else {
            let first = self.look_once(host, history, Pace::Interval, patience);
            return first.map_or_else(|why| *why, |landed| self.tell(&landed));
        };
        let age = landed.clock.gone();
        let interval = self.definition.interval;
        if age > (interval * STALE.0).max(STALE.1) {
            let (age, every) = (spoken(age), spoken(interval));
            return self
                .unknown(format!("stale: the newest look is {age} old, of {:.0}; due every {every}", landed.at));
        }
        let mut verdict = self.tell(&landed);
        verdict.findings.push(Finding::fact(format!("looked {} ago", spoken(age))));
        verdict
    }

    /// Begins a look that nobody waits for, unless somebody's question has just made one. Where one is under way it
    /// does not, and tells of one that hangs.
    pub fn sample(self: &Arc<Self>, host: &Arc<Host>, history: &Arc<History>) -> Result<(), String> {
        let newest = self.own().flight.looks().newest.as_ref().map(|landed| landed.clock.gone());
        if newest.is_some_and(|age| age < self.definition.interval / 4) {
            return Ok(());
        }
        let look = self.begin(host, history, Pace::Interval);
        if look.joined && look.begun.is_overdue() { Err(still_running(&look.begun)) } else { Ok(()) }
    }

    /// The check whose looks these are.
    fn own(self: &Arc<Self>) -> &Arc<Check> {
        self.own.as_ref().unwrap_or(self)
    }

    /// Joins the look that is under way, or begins one on a thread of its own.
    fn begin(self: &Arc<Self>, host: &Arc<Host>, history: &Arc<History>, pace: Pace) -> Awaited {
        let check = self.own().clone();
        // A recorded node has one moment: nothing would ever be confirmed.
        let pace = if host.stopwatch().is_none() { Pace::Once } else { pace };
        let mut looks = check.flight.looks();
        let before = looks.count;
        if let Some(begun) = looks.under_way.clone() {
            return Awaited { begun, joined: true, before };
        }
        let clock = Patience::of(self.definition.deadline);
        let begun = Begun { at: machine::wall_clock(), clock, host: host.clone() };
        looks.under_way = Some(begun.clone());
        drop(looks);
        let (looker, look, history) = (check.clone(), begun.clone(), history.clone());
        let work = move || {
            let examine = std::panic::AssertUnwindSafe(|| looker.examine(&look.host, &history, pace));
            let result = std::panic::catch_unwind(examine).map_err(|panic| internal_error(&*panic));
            looker.flight.land(&look, result);
        };
        if let Err(error) = machine::start(self.name(), work) {
            check.flight.land(&begun, Err(error.to_string()));
        }
        Awaited { begun, joined: false, before }
    }

    pub(super) fn tell(&self, landed: &Landed) -> Verdict {
        match &landed.result {
            Ok(seen) => self.conclude(seen),
            Err(reason) => self.unknown(reason.clone()),
        }
    }

    fn unknown(&self, reason: String) -> Verdict {
        Verdict::unknown(self.name(), reason, machine::wall_clock())
    }
}

impl Begun {
    fn is_overdue(&self) -> bool {
        self.clock.left().is_zero()
    }
}

fn still_running(look: &Begun) -> String {
    format!("the look that began at {:.0} is still running{}; no second one is started", look.at, place(look))
}

/// Where a look hangs.
fn place(look: &Begun) -> String {
    look.host.busy_with().map(|path| format!(" (at: {path})")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
