//! `confirm`: a state gets worse only after so many looks in a row.
//!
//! Looks are counted when they are made, by the thresholds that are set on the node; a question counts nothing. A daemon
//! has its looks an interval apart. Who looks alone does not come back to hear the rest: it makes them all, one soon after
//! the other. A recorded node and a tree stay as they are, however often they are looked at.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use crate::check::flight::Landed;
use crate::check::{Check, Examined};
use crate::definition::Definition;
use crate::history::{History, Streak, Trace};
use crate::host::Host;
use crate::host::clock::{deadline_text, spoken};
use crate::host::machine::Patience;
use crate::status::Status;
use crate::verdict::{Finding, Verdict};

/// Between two looks of one run.
const AGAIN: Duration = Duration::from_secs(1);

/// How far apart the looks are that confirm a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// There is one, and nothing to wait for.
    Once,
    /// A daemon's.
    Interval,
    /// So many have been made by a run that looks alone, this one included: all but this one were worse.
    Alone(u32),
}

impl Check {
    /// Looks here and now, and while a worse state is not confirmed, again: all within the definition's deadline and
    /// `patience`.
    pub fn run_until_sure(self: &Arc<Self>, host: &Arc<Host>, history: &Arc<History>, patience: Duration) -> Verdict {
        let whole = patience.min(self.definition.deadline);
        let ends = Patience::of(whole);
        let mut newest = self.look_once(host, history, Pace::Alone(1), patience);
        let Some(first) = self.unsure(&newest) else { return self.outcome(newest) };
        let (mut looks, mut longest) = (1, ends.gone());
        while let Some(seen) = self.unsure(&newest) {
            // One that can't end in time would be no answer at all.
            if ends.left() <= AGAIN.saturating_add(longest) {
                // What nobody remembers would never be told.
                let mut verdict = if seen.is_kept { self.outcome(newest) } else { seen.verdict };
                let text = format!("no time was left for another look within {}", deadline_text(whole));
                verdict.findings.push(Finding::fact(text));
                return verdict;
            }
            sleep(AGAIN);
            looks += 1;
            let begun = ends.gone();
            newest = self.look_once(&Arc::new(host.again()), history, Pace::Alone(looks), ends.left());
            longest = longest.max(ends.gone().saturating_sub(begun));
        }
        let mut verdict = self.outcome(newest);
        let Verdict { status, summary, .. } = first.verdict;
        if verdict.status != status {
            let which = if looks == 2 { "a second one" } else { "a later one" };
            let later = spoken(AGAIN * (looks - 1));
            let text = format!("the first look was {status} ({summary}), {which} {later} later was not");
            verdict.findings.push(Finding::fact(text));
        }
        verdict
    }

    fn outcome(&self, look: Result<Arc<Landed>, Box<Verdict>>) -> Verdict {
        look.map_or_else(|why| *why, |landed| self.tell(&landed))
    }

    /// What a look saw, if that is worse than the state told and not confirmed.
    fn unsure(&self, look: &Result<Arc<Landed>, Box<Verdict>>) -> Option<Unsure> {
        let seen = look.as_ref().ok()?.result.as_ref().ok()?;
        if self.own.is_some() || !self.counts(seen) {
            return None;
        }
        let verdict = self.judge(seen);
        let next = streak_after(verdict.status, seen, &self.definition);
        (verdict.status.rank() < next.told.rank()).then(|| Unsure { verdict, is_kept: seen.not_kept.is_none() })
    }

    /// Records what a look does to the streak, where that is something new.
    pub(super) fn count_look(&self, seen: &Examined, history: &History) {
        if self.own.is_none() && seen.not_kept.is_none() && self.counts(seen) {
            let next = streak_after(self.judge(seen).status, seen, &self.definition);
            if seen.streak.as_ref() != Some(&next) {
                history.record(self.name(), &seen.now, &Trace::default(), Some(next));
            }
        }
    }

    /// Whether looks like this one are counted: what can't be measured, or can't be counted, is told at once.
    fn counts(&self, seen: &Examined) -> bool {
        let can_be = match seen.pace {
            Pace::Once => false,
            Pace::Interval => seen.not_kept.is_none(),
            Pace::Alone(_) => true,
        };
        can_be && self.definition.confirm > 1 && seen.result.is_ok()
    }

    /// Tells the state before, for as long as a worse one is not confirmed.
    pub(super) fn confirm(&self, mut verdict: Verdict, seen: &Examined) -> Verdict {
        if !self.counts(seen) {
            return verdict;
        }
        let raw = verdict.status;
        // Nobody counts looks by the thresholds of one call: whoever has set them would never hear of them.
        if self.own.is_some() {
            if raw != Status::Ok {
                let text = "told at once: looks in a row are only counted by the thresholds that are set on the node";
                verdict.findings.push(Finding::fact(text));
            }
            return verdict;
        }
        let next = streak_after(raw, seen, &self.definition);
        if raw.rank() < next.told.rank() {
            let count = format!("seen in {} of {} looks", next.worse, self.definition.confirm);
            verdict.summary = format!("{raw} not confirmed yet ({count}): {}", verdict.summary);
            verdict.status = next.told;
        }
        verdict
    }
}

/// A state that is not confirmed.
struct Unsure {
    /// As if it were.
    verdict: Verdict,
    /// Whether the next run knows of this look.
    is_kept: bool,
}

/// The streak that includes a look with the state `raw`.
fn streak_after(raw: Status, seen: &Examined, definition: &Definition) -> Streak {
    let (before, now) = (seen.streak.as_ref(), &seen.now);
    let told = before.map_or(Status::Ok, |streak| streak.told);
    let fresh = Streak { told: raw, worse: 0, counted: now.clone() };
    if raw.rank() >= told.rank() {
        // The same once more: nothing to write down.
        return before.filter(|streak| streak.told == raw && streak.worse == 0).cloned().unwrap_or(fresh);
    }
    let (apart, made) = match seen.pace {
        Pace::Alone(looks) => (AGAIN, looks),
        Pace::Interval | Pace::Once => (definition.interval, 1),
    };
    let (worse, counted) = match before.filter(|streak| streak.worse > 0) {
        // A second look within half the time between looks is a re-check of the first.
        Some(streak) if now.since(&streak.counted) < apart / 2 => (streak.worse, &streak.counted),
        Some(streak) => (streak.worse.saturating_add(1), now),
        None => (1, now),
    };
    // Those of this run count where nothing is kept, too.
    let worse = worse.max(made);
    if worse >= definition.confirm { fresh } else { Streak { told, worse, counted: counted.clone() } }
}

#[cfg(test)]
mod tests;
