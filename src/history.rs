//! The past: what outlives a look, and the only place that knows the rules for it.
//!
//! Notes say when something was first and last seen; they survive reboots. Counters say what grew between which looks;
//! they begin anew with each boot. One small JSON file a check lies in the state directory. A look that can't be recorded is judged all the same, with the reason at hand.

mod counters;
mod file;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::Moment;
use crate::host::state_dir::StateDir;
use crate::status::Status;

use counters::Counters;
pub use counters::{Growth, Reading};

/// A look that brings nothing new is written down only this often: an fsync hurts a dqlite on the same disk.
const QUIET_WRITE: Duration = Duration::from_secs(300);
/// Clocks of two boots differ a little; only more than this is "from the future".
const CLOCK_SLACK: Duration = Duration::from_secs(120);

/// Something that was seen, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The first look that saw it with this value.
    pub first: Moment,
    /// The newest look that saw it.
    pub last: Moment,
    /// The newest look before the first that read its group, and did not have it; about, since a look that brings
    /// nothing new is not always written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Moment>,
    /// Its identity or content: another value starts the note anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// What one look wants remembered: complete groups of notes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    groups: Vec<(String, Vec<(String, String)>)>,
    readings: Option<Vec<Reading>>,
    window: Duration,
    ended: Option<f64>,
}

impl Trace {
    /// Says when, since the boot, the last of it was read: a look that began before may have read it before.
    pub fn read_until(mut self, uptime: Option<f64>) -> Trace {
        self.ended = uptime;
        self
    }

    /// Adds a group: *all* that there is under `prefix`, as (key below it, value). A note of the group that is not
    /// listed any more is forgotten; a source that could not be read gives no group, and its notes stay.
    pub fn group(mut self, prefix: &str, notes: impl IntoIterator<Item = (String, String)>) -> Trace {
        self.groups.push((prefix.to_owned(), notes.into_iter().collect()));
        self
    }
}

impl Trace {
    /// Adds every counter that this look could read. One that is missing was not readable, or is gone.
    pub fn counters(mut self, readings: impl IntoIterator<Item = Reading>) -> Trace {
        self.readings.get_or_insert_default().extend(readings);
        self
    }

    /// Says how far back the check counts.
    pub fn within(mut self, window: Duration) -> Trace {
        self.window = window;
        self
    }
}

/// How many looks in a row gave a state that is worse than the one told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Streak {
    /// The state that the check tells.
    pub told: Status,
    /// Looks in a row that were worse than it.
    pub worse: u32,
    /// When the newest of them was counted.
    pub counted: Moment,
}

/// What one check remembers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    record: Record,
    /// Why this look can't be kept for the next one; `None` when it can.
    pub not_kept: Option<String>,
    /// What the operator should know about the history itself.
    pub remarks: Vec<String>,
    /// How far back the check counts.
    pub window: Duration,
    /// Why what grew can't be told by this look.
    pub unclear: Option<String>,
    /// Whether it ends with this process.
    passing: bool,
    /// Whether this look read counters.
    counts: bool,
}

/// The content of a state file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// The newest look.
    #[serde(default)]
    look: Option<Moment>,
    /// When that look had read all, in seconds since its boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<f64>,
    #[serde(default)]
    notes: BTreeMap<String, Note>,
    /// The newest look that read each group whole.
    #[serde(default)]
    groups: BTreeMap<String, Moment>,
    #[serde(default)]
    streak: Option<Streak>,
    #[serde(default)]
    counters: Counters,
}

impl Past {
    /// The note with this key.
    pub fn note(&self, key: &str) -> Option<&Note> {
        self.record.notes.get(key)
    }

    /// The notes whose keys start with `prefix`, with the rest of the key.
    pub fn notes<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Note)> {
        let from = self.record.notes.range(prefix.to_owned()..);
        from.map_while(move |(key, note)| Some((key.strip_prefix(prefix)?, note)))
    }

    /// What a counter grew by in the window that ends now.
    pub fn growth(&self, key: &str, now: &Moment) -> Growth {
        self.record.counters.growth(key, now, self.window_seconds())
    }

    /// This past as it will be once a look with these readings is recorded: what grew is known while it looks.
    pub fn after(&self, readings: &[Reading], now: &Moment) -> Past {
        let mut past = self.clone();
        if past.is_newest(now) {
            past.record.counters.take(readings, now, past.window_seconds());
        }
        past
    }

    /// What the newest look of this boot that read a counter saw.
    pub fn counter(&self, key: &str, now: &Moment) -> Option<u64> {
        self.record.counters.value(key, now)
    }

    /// The keys of the counters below `prefix`; those of counters that are gone stay while their growth counts.
    pub fn counter_keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.record.counters.keys(prefix)
    }

    /// How much of the window the looks of this boot cover.
    pub fn covered(&self, now: &Moment) -> Duration {
        let seconds = self.record.counters.covered(now, self.window_seconds());
        Duration::from_secs(seconds.unsigned_abs())
    }

    /// Whether this look tells nothing of what grew, and the next one will not either: none before it is known, and
    /// nothing keeps this one. In a boot that is younger than the window a look tells all the same.
    pub fn is_blind(&self, now: &Moment) -> bool {
        self.counts && self.covered(now).is_zero() && (self.passing || self.not_kept.is_some())
    }

    fn window_seconds(&self) -> i64 {
        i64::try_from(self.window.as_secs()).unwrap_or(i64::MAX)
    }

    /// The newest recorded look.
    pub fn last_look(&self) -> Option<&Moment> {
        self.record.look.as_ref()
    }

    /// The looks in a row that were worse than the state told.
    pub fn streak(&self) -> Option<&Streak> {
        self.record.streak.as_ref()
    }

    /// A record of a later moment of this boot than `uptime`, which it really is, by more than looks overlap, is damaged: it
    /// would keep out every look until then.
    fn drop_what_is_ahead(&mut self, uptime: Option<f64>, now: &Moment) {
        let Some(last) = self.record.look.as_ref().filter(|last| last.same_boot(now)) else { return };
        let newest = [last.uptime, self.record.ended].into_iter().flatten().reduce(f64::max);
        if newest.zip(uptime).is_some_and(|(newest, uptime)| newest - uptime > CLOCK_SLACK.as_secs_f64()) {
            self.remarks
                .push("the newest look on record lies ahead in this boot: what was counted is dropped".to_owned());
            (self.record.look, self.record.ended, self.record.counters) = (None, None, Counters::default());
        }
    }

    /// Whether `now` is not before the newest recorded look. An earlier boot is always over.
    fn is_newest(&self, now: &Moment) -> bool {
        let Some(last) = &self.record.look else { return true };
        match (&now.boot, &last.boot, now.uptime, last.uptime) {
            // One that began before the other had read all may have read less of it.
            (Some(a), Some(b), Some(now), Some(last)) if a == b => {
                now == last || (now > last && self.record.ended.is_none_or(|ended| now >= ended))
            }
            (Some(a), Some(b), ..) if a != b => true,
            // A look from the future was made by a wrong clock, and must not stop the recording for ever.
            _ => now.wall >= last.wall || is_from_the_future(last, now),
        }
    }

    /// Takes in one look. Returns whether something changed that must be written now.
    fn take(&mut self, trace: &Trace, now: &Moment) -> bool {
        let mut changed = self.record.look.as_ref().is_none_or(|last| now.since(last) >= QUIET_WRITE);
        for (prefix, notes) in &trace.groups {
            let listed: std::collections::HashSet<&str> = notes.iter().map(|(name, _)| name.as_str()).collect();
            let stays = |key: &str| key.strip_prefix(prefix.as_str()).is_none_or(|name| listed.contains(name));
            let before = self.record.notes.len();
            self.record.notes.retain(|key, _| stays(key));
            changed |= self.record.notes.len() != before;
            let missed = self.record.groups.insert(prefix.clone(), now.clone());
            for (key, value) in notes {
                let missed = missed.clone();
                let fresh = Note { first: now.clone(), last: now.clone(), missed, value: value.clone() };
                match self.record.notes.entry(format!("{prefix}{key}")) {
                    std::collections::btree_map::Entry::Occupied(mut old) if old.get().value == *value => {
                        old.get_mut().last = now.clone();
                    }
                    std::collections::btree_map::Entry::Occupied(mut old) => {
                        old.insert(fresh);
                        changed = true;
                    }
                    std::collections::btree_map::Entry::Vacant(place) => {
                        place.insert(fresh);
                        changed = true;
                    }
                }
            }
        }
        if let Some(readings) = &trace.readings {
            let had_uptime = self.record.look.as_ref().map(|look| look.uptime.is_some());
            if had_uptime.is_some_and(|had| had != now.uptime.is_some()) {
                // Seconds of another clock.
                self.record.counters = Counters::default();
            }
            (self.window, self.counts) = (trace.window, true);
            changed |= self.record.counters.take(readings, now, self.window_seconds());
        }
        self.record.look = Some(now.clone());
        self.record.ended =
            trace.ended.or(self.record.ended.filter(|ended| now.uptime.is_some_and(|now| *ended >= now)));
        changed
    }
}

/// Where the pasts of all checks are kept.
#[derive(Debug)]
pub struct History {
    store: Store,
    passing: bool,
}

#[derive(Debug)]
enum Store {
    /// For `--root` and `--scenario` without a state directory.
    Memory(Mutex<BTreeMap<String, Record>>),
    Directory(StateDir),
}

impl History {
    /// A history that stands for one that is kept: a scenario's.
    pub fn in_memory() -> History {
        History { store: Store::Memory(Mutex::default()), passing: false }
    }

    /// A history that ends with this process.
    pub fn passing() -> History {
        History { passing: true, ..History::in_memory() }
    }

    /// The history in a state directory.
    pub fn in_directory(dir: StateDir) -> History {
        History { store: Store::Directory(dir), passing: false }
    }

    /// Gives a history in memory what a check remembered, as [`History::export`] wrote it.
    pub fn seed(&self, check: &str, text: &str) -> Result<(), String> {
        let record = file::parse(text.as_bytes())?;
        if let Store::Memory(all) = &self.store {
            all.lock().unwrap_or_else(PoisonError::into_inner).insert(check.to_owned(), record);
        }
        Ok(())
    }

    /// What a check remembers, as JSON; `None` when that is nothing, or can't be read.
    pub fn export(&self, check: &str) -> Option<String> {
        let record = match &self.store {
            Store::Memory(all) => all.lock().unwrap_or_else(PoisonError::into_inner).get(check).cloned()?,
            Store::Directory(dir) => file::read(dir, check).ok()?,
        };
        record.look.as_ref()?;
        serde_json::to_string(&Record { format: file::FORMAT, ..record }).ok()
    }

    /// What the check remembers before this look.
    pub fn load(&self, check: &str, now: &Moment) -> Past {
        match &self.store {
            Store::Memory(all) => {
                let all = all.lock().unwrap_or_else(PoisonError::into_inner);
                Past { record: all.get(check).cloned().unwrap_or_default(), ..Past::default() }
            }
            Store::Directory(dir) => match file::read(dir, check) {
                Ok(record) => {
                    let mut past = from_record(record, now);
                    past.drop_what_is_ahead(now.uptime, now);
                    past
                }
                Err(reason) => Past { remarks: vec![file::unread(&reason.to_string())], ..Past::default() },
            },
        }
    }

    /// Records a look (and the streak of states that follows from it) and returns the past that includes it.
    pub fn record(&self, check: &str, now: &Moment, trace: &Trace, streak: Option<Streak>) -> Past {
        match &self.store {
            Store::Memory(all) => {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let record = all.entry(check.to_owned()).or_default();
                let passing = self.passing;
                let mut past = Past { record: std::mem::take(record), passing, ..Past::default() };
                merge(&mut past, now, trace, streak);
                *record = past.record.clone();
                past
            }
            Store::Directory(dir) => file::record(dir, check, now, trace, streak),
        }
    }
}

/// Merges one look into a past; returns whether it must be written.
fn merge(past: &mut Past, now: &Moment, trace: &Trace, streak: Option<Streak>) -> bool {
    if trace.readings.is_some()
        && let Some(last) = &past.record.look
    {
        let missing = [
            ("the boot id", now.boot.is_none() && last.boot.is_some()),
            ("the uptime", now.uptime.is_none() && last.uptime.is_some()),
        ];
        if let Some((what, _)) = missing.into_iter().find(|(_, is_missing)| *is_missing) {
            // Taken for another boot, it would make all that was counted forgotten.
            past.unclear = Some(format!("what grew is not known: {what} could not be read this time"));
            return false;
        }
    }
    if !past.is_newest(now) {
        past.remarks.push("a newer look is on record: this one is judged and not recorded".to_owned());
        return false;
    }
    let mut changed = past.take(trace, now);
    if streak.is_some() && past.record.streak != streak {
        past.record.streak = streak;
        changed = true;
    }
    changed
}

/// Whether a look that is on record, not of this boot as far as is known, lies in the future.
fn is_from_the_future(last: &Moment, now: &Moment) -> bool {
    !last.same_boot(now) && Moment::at(last.wall).since_wall(now.wall) > CLOCK_SLACK
}

fn from_record(record: Record, now: &Moment) -> Past {
    let mut past = Past { record, ..Past::default() };
    if let Some(last) = past.last_look()
        && is_from_the_future(last, now)
    {
        past.remarks.push(format!("the newest look on record is from the future ({}): a clock was wrong", last.wall));
    }
    past
}

#[cfg(test)]
mod tests;
