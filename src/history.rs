//! The past: what outlives a look, and the only place that knows the rules for it.
//!
//! Notes say when something was first and last seen; they survive reboots. One small JSON file a check lies in the
//! state directory. A look that can't be recorded is judged all the same, with the reason at hand.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::state_dir::StateDir;
use crate::host::{Moment, printable};
use crate::status::Status;

/// The layout of the state files; another number is set aside.
const FORMAT: u32 = 1;
/// A state file is far smaller; what is larger is not ours.
const LARGEST: u64 = 16 << 20;
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
    /// Its identity or content: another value starts the note anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// What one look wants remembered: complete groups of notes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    groups: Vec<(String, Vec<(String, String)>)>,
}

impl Trace {
    /// Adds a group: *all* that there is under `prefix`, as (key below it, value). A note of the group that is not
    /// listed any more is forgotten; a source that could not be read gives no group, and its notes stay.
    pub fn group(mut self, prefix: &str, notes: impl IntoIterator<Item = (String, String)>) -> Trace {
        self.groups.push((prefix.to_owned(), notes.into_iter().collect()));
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
}

/// The content of a state file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// The newest look.
    #[serde(default)]
    look: Option<Moment>,
    #[serde(default)]
    notes: BTreeMap<String, Note>,
    #[serde(default)]
    streak: Option<Streak>,
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

    /// The newest recorded look.
    pub fn last_look(&self) -> Option<&Moment> {
        self.record.look.as_ref()
    }

    /// The looks in a row that were worse than the state told.
    pub fn streak(&self) -> Option<&Streak> {
        self.record.streak.as_ref()
    }

    /// Whether `now` is not before the newest recorded look. An earlier boot is always over.
    fn is_newest(&self, now: &Moment) -> bool {
        let Some(last) = &self.record.look else { return true };
        match (&now.boot, &last.boot, now.uptime, last.uptime) {
            (Some(a), Some(b), Some(now), Some(last)) if a == b => now >= last,
            (Some(a), Some(b), ..) if a != b => true,
            _ => now.wall >= last.wall,
        }
    }

    /// Takes in one look. Returns whether something changed that must be written now.
    fn take(&mut self, trace: &Trace, now: &Moment) -> bool {
        let mut changed = self.record.look.as_ref().is_none_or(|last| now.since(last) >= QUIET_WRITE);
        for (prefix, notes) in &trace.groups {
            let stays = |key: &str| key.strip_prefix(prefix.as_str()).is_none_or(|k| notes.iter().any(|(n, _)| n == k));
            let before = self.record.notes.len();
            self.record.notes.retain(|key, _| stays(key));
            changed |= self.record.notes.len() != before;
            for (key, value) in notes {
                let fresh = Note { first: now.clone(), last: now.clone(), value: value.clone() };
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
        self.record.look = Some(now.clone());
        changed
    }
}

/// Where the pasts of all checks are kept.
#[derive(Debug)]
pub struct History {
    store: Store,
}

#[derive(Debug)]
enum Store {
    /// For `--root` and `--scenario` without a state directory.
    Memory(Mutex<BTreeMap<String, Record>>),
    Directory(StateDir),
}

impl History {
    /// A history that lasts as long as this process.
    pub fn in_memory() -> History {
        History { store: Store::Memory(Mutex::default()) }
    }

    /// The history in a state directory.
    pub fn in_directory(dir: StateDir) -> History {
        History { store: Store::Directory(dir) }
    }

    /// Gives a history in memory what a check remembered, as [`History::export`] wrote it.
    pub fn seed(&self, check: &str, text: &str) -> Result<(), String> {
        let record = parse(text.as_bytes())?;
        if let Store::Memory(all) = &self.store {
            all.lock().unwrap_or_else(PoisonError::into_inner).insert(check.to_owned(), record);
        }
        Ok(())
    }

    /// What a check remembers, as JSON; `None` when that is nothing, or can't be read.
    pub fn export(&self, check: &str) -> Option<String> {
        let record = match &self.store {
            Store::Memory(all) => all.lock().unwrap_or_else(PoisonError::into_inner).get(check).cloned()?,
            Store::Directory(dir) => read(dir, check).ok()?,
        };
        record.look.as_ref()?;
        serde_json::to_string(&Record { format: FORMAT, ..record }).ok()
    }

    /// What the check remembers before this look.
    pub fn load(&self, check: &str, now: &Moment) -> Past {
        match &self.store {
            Store::Memory(all) => {
                let all = all.lock().unwrap_or_else(PoisonError::into_inner);
                Past { record: all.get(check).cloned().unwrap_or_default(), ..Past::default() }
            }
            Store::Directory(dir) => match read(dir, check) {
                Ok(record) => from_record(record, now),
                Err(reason) => Past { remarks: vec![unread(&reason)], ..Past::default() },
            },
        }
    }

    /// Records a look (and the streak of states that follows from it) and returns the past that includes it.
    pub fn record(&self, check: &str, now: &Moment, trace: &Trace, streak: Option<Streak>) -> Past {
        match &self.store {
            Store::Memory(all) => {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let record = all.entry(check.to_owned()).or_default();
                let mut past = Past { record: std::mem::take(record), ..Past::default() };
                merge(&mut past, now, trace, streak);
                *record = past.record.clone();
                past
            }
            Store::Directory(dir) => record_in(dir, check, now, trace, streak),
        }
    }
}

/// Merges one look into a past; returns whether it must be written.
fn merge(past: &mut Past, now: &Moment, trace: &Trace, streak: Option<Streak>) -> bool {
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

fn record_in(dir: &StateDir, check: &str, now: &Moment, trace: &Trace, streak: Option<Streak>) -> Past {
    let why = |error: std::io::Error| printable(&format!("{}: {error}", dir.path().display()));
    // Reloaded under the lock: another look may have been recorded since this one began.
    let lock = dir.lock();
    let mut past = match read(dir, check) {
        Ok(record) => from_record(record, now),
        Err(reason) => {
            let remark = match lock.as_ref().ok().map(|lock| lock.set_aside(&file_name(check))) {
                None => unread(&reason),
                Some(Ok(aside)) => {
                    let aside = aside.display();
                    format!("the history of this check could not be read ({reason}); kept as {aside}, it begins anew")
                }
                Some(Err(error)) => format!("{}; it can't be set aside either: {error}", unread(&reason)),
            };
            Past { remarks: vec![printable(&remark)], ..Past::default() }
        }
    };
    let changed = merge(&mut past, now, trace, streak);
    match lock {
        Err(error) => past.not_kept = Some(why(error)),
        Ok(lock) if changed => {
            past.record.format = FORMAT;
            let written = serde_json::to_vec(&past.record).map_err(std::io::Error::other);
            if let Err(error) = written.and_then(|bytes| lock.write(&file_name(check), &bytes)) {
                past.not_kept = Some(why(error));
            }
        }
        Ok(_) => {}
    }
    past
}

fn unread(reason: &str) -> String {
    printable(&format!("the history of this check can't be read ({reason}); judged without it"))
}

fn file_name(check: &str) -> String {
    format!("{check}.json")
}

fn read(dir: &StateDir, check: &str) -> Result<Record, String> {
    let bytes = dir.read(&file_name(check), LARGEST).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok(Record::default()) };
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if record.format != FORMAT {
        return Err(format!("its format is {}, this version reads {FORMAT}", record.format));
    }
    Ok(record)
}

fn from_record(record: Record, now: &Moment) -> Past {
    let mut past = Past { record, ..Past::default() };
    if let Some(last) = past.last_look()
        && !(last.same_boot(now))
        && Moment::at(last.wall).since_wall(now.wall) > CLOCK_SLACK
    {
        past.remarks.push(format!("the newest look on record is from the future ({}): a clock was wrong", last.wall));
    }
    past
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64, boot: &str) -> Moment {
        let wall = jiff::Timestamp::from_second(1_800_000_000 + minute * 60).unwrap();
        Moment { wall, boot: Some(boot.to_owned()), uptime: Some((minute * 60) as f64) }
    }

    fn flag(value: &str) -> Trace {
        Trace::default().group("flag ", [("/run/x".to_owned(), value.to_owned())])
    }

    fn directory() -> (tempfile::TempDir, History) {
        let dir = tempfile::tempdir().unwrap();
        let history = History::in_directory(StateDir::new(&dir.path().join("state")));
        (dir, history)
    }

    #[test]
    fn first_seen_survives_looks_and_reboots_until_the_value_changes() {
        let (_dir, on_disk) = directory();
        for history in [History::in_memory(), on_disk] {
            history.record("c", &at(0, "a"), &flag("v"), None);
            let past = history.record("c", &at(10, "b"), &flag("v"), None);
            assert_eq!(past.note("flag /run/x").map(|n| n.first.wall), Some(at(0, "a").wall));
            let past = history.record("c", &at(20, "b"), &flag("w"), None);
            assert_eq!(past.note("flag /run/x").map(|n| n.first.wall), Some(at(20, "b").wall));
            assert_eq!(history.load("c", &at(21, "b")).notes("flag ").count(), 1);
        }
    }

    #[test]
    fn a_complete_group_forgets_and_a_missing_group_keeps() {
        let (_dir, history) = directory();
        history.record("c", &at(0, "a"), &flag("v"), None);
        assert!(history.record("c", &at(1, "a"), &Trace::default(), None).note("flag /run/x").is_some());
        assert!(
            history.record("c", &at(2, "a"), &Trace::default().group("flag ", []), None).note("flag /run/x").is_none()
        );
    }

    #[test]
    fn an_older_look_is_not_recorded() {
        let (_dir, history) = directory();
        history.record("c", &at(10, "a"), &flag("v"), None);
        let past = history.record("c", &at(5, "a"), &flag("w"), None);
        assert_eq!(past.note("flag /run/x").map(|n| n.value.as_str()), Some("v"));
        assert_eq!(past.remarks.len(), 1);
        // Another boot is newer, whatever its clock says.
        let past = history.record("c", &at(5, "b"), &flag("w"), None);
        assert_eq!(past.note("flag /run/x").map(|n| n.value.as_str()), Some("w"));
        assert!(history.load("c", &at(-60, "c")).remarks[0].contains("from the future"));
    }

    #[test]
    fn an_unreadable_file_is_set_aside_and_said() {
        for garbage in ["", "{", "\0\u{1}\u{2}", "[]", r#"{"format":99}"#, r#"{"format":1,"look":"x"}"#] {
            let (dir, history) = directory();
            history.record("c", &at(0, "a"), &flag("v"), None);
            let file = dir.path().join("state/c.json");
            std::fs::write(&file, garbage).unwrap();
            assert!(history.load("c", &at(1, "a")).remarks[0].contains("judged without it"));
            let past = history.record("c", &at(1, "a"), &flag("v"), None);
            assert!(past.remarks[0].contains("kept as"), "{:?}", past.remarks);
            assert_eq!(past.not_kept, None);
            assert_eq!(std::fs::read_to_string(dir.path().join("state/c.json.unreadable")).unwrap(), garbage);
            assert!(history.load("c", &at(2, "a")).remarks.is_empty());
        }
    }

    #[test]
    fn what_can_not_be_kept_is_said() {
        let history = History::in_directory(StateDir::new(std::path::Path::new("/proc/nodecheck")));
        let past = history.record("c", &at(0, "a"), &flag("v"), None);
        assert!(past.not_kept.is_some());
        assert!(past.note("flag /run/x").is_some());
    }

    #[test]
    fn a_quiet_look_writes_only_every_five_minutes() {
        let (dir, history) = directory();
        let file = dir.path().join("state/c.json");
        let content = || std::fs::read(&file).unwrap();
        history.record("c", &at(0, "a"), &flag("v"), None);
        let first = content();
        history.record("c", &at(4, "a"), &flag("v"), None);
        assert_eq!(content(), first);
        history.record("c", &at(5, "a"), &flag("v"), None);
        assert_ne!(content(), first);
    }
}
