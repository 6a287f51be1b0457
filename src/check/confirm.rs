//! `confirm`: a state gets worse only after so many looks in a row.
//!
//! Looks are counted when they are made, by the thresholds that are set on the node; a question counts nothing.

use crate::check::{Check, Examined};
use crate::definition::Definition;
use crate::history::{History, Streak, Trace};
use crate::host::Moment;
use crate::status::Status;
use crate::verdict::{Finding, Verdict};

impl Check {
    /// Records what a look does to the streak, where that is something new.
    pub(super) fn count_look(&self, seen: &Examined, history: &History) {
        if self.own.is_none() && self.counts(seen) {
            let next = streak_after(self.judge(seen).status, seen.streak.as_ref(), &seen.now, &self.definition);
            if seen.streak.as_ref() != Some(&next) {
                history.record(self.name(), &seen.now, &Trace::default(), Some(next));
            }
        }
    }

    /// Whether looks like this one are counted: what can't be measured, or can't be counted, is told at once.
    fn counts(&self, seen: &Examined) -> bool {
        self.definition.confirm > 1 && seen.not_kept.is_none() && seen.result.is_ok()
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
        let next = streak_after(raw, seen.streak.as_ref(), &seen.now, &self.definition);
        if raw.rank() < next.told.rank() {
            let count = format!("seen in {} of {} looks", next.worse, self.definition.confirm);
            verdict.summary = format!("{raw} not confirmed yet ({count}): {}", verdict.summary);
            verdict.status = next.told;
        }
        verdict
    }
}

/// The streak that includes a look at `now` with the state `raw`.
fn streak_after(raw: Status, before: Option<&Streak>, now: &Moment, definition: &Definition) -> Streak {
    let told = before.map_or(Status::Ok, |streak| streak.told);
    let fresh = Streak { told: raw, worse: 0, counted: now.clone() };
    if raw.rank() >= told.rank() {
        // The same once more: nothing to write down.
        return before.filter(|streak| streak.told == raw && streak.worse == 0).cloned().unwrap_or(fresh);
    }
    let (worse, counted) = match before.filter(|streak| streak.worse > 0) {
        // A second look within half an interval is a re-check of the first.
        Some(streak) if now.since(&streak.counted) < definition.interval / 2 => (streak.worse, &streak.counted),
        Some(streak) => (streak.worse.saturating_add(1), now),
        None => (1, now),
    };
    if worse >= definition.confirm { fresh } else { Streak { told, worse, counted: counted.clone() } }
}
