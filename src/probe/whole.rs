//! What was whole once, and until when: what a node without any rules is measured by.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::words::shown;
use crate::history::{Note, Past, Trace};
use crate::host::clock::spoken;
use crate::host::{Host, Moment, Writer};
use crate::parse::ruleset::Family;

/// The notes, by part: how it was done when it was whole; since when it is whole; until when it was, where it is not.
const KNOWN: &str = "known ";
const WHOLE: &str = "whole ";
const BROKEN: &str = "broken ";
/// In a note, for a part that no look has seen whole.
const NEVER: &str = "never";

/// A part of the node, as one look saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// `IPv4`, for instance.
    pub name: &'static str,
    /// How it is done.
    pub mode: &'static str,
    /// Whether nothing is wrong with it.
    pub is_whole: bool,
}

/// A family of addresses, as a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Only {
    /// IPv4.
    #[serde(rename = "IPv4")]
    Ip,
    /// IPv6.
    #[serde(rename = "IPv6")]
    Ip6,
}

/// Whether a family is judged; with none given, all are.
pub fn is_judged(families: &[Only], family: Family) -> bool {
    let is = |only: &Only| matches!((only, family), (Only::Ip, Family::Ip) | (Only::Ip6, Family::Ip6));
    families.is_empty() || families.iter().any(is)
}

/// How a family must be there, if it must: as it is known, or, where only a setting says so, somehow: then it is empty.
pub fn expected(families: &[Only], family: Family, known: Option<String>) -> Option<String> {
    if families.is_empty() {
        return known;
    }
    is_judged(families, family).then(|| known.unwrap_or_default())
}

/// What is to be remembered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    known: BTreeMap<String, String>,
    whole: BTreeMap<String, String>,
    broken: BTreeMap<String, String>,
}

/// When looks of this process saw the parts whole last: what brings nothing new is only written down now and then.
#[derive(Debug, Default)]
pub struct LastSeen(Mutex<BTreeMap<&'static str, Moment>>);

impl Memory {
    /// What is remembered after a look at these parts. One that is known and was not seen is broken.
    pub fn after(past: &Past, parts: &[Part], last_seen: &LastSeen, now: &Moment) -> Memory {
        let mut memory = Memory::default();
        let mut last_seen = last_seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        last_seen.extend(parts.iter().filter(|part| part.is_whole).map(|part| (part.name, now.clone())));
        for (name, note) in past.notes(KNOWN) {
            memory.known.insert(name.to_owned(), note.value.clone());
        }
        for part in parts.iter().filter(|part| part.is_whole) {
            memory.known.insert(part.name.to_owned(), part.mode.to_owned());
            // Nobody looked between two boots.
            memory.whole.insert(part.name.to_owned(), now.boot.clone().unwrap_or_default());
        }
        let seen = parts.iter().map(|part| part.name.to_owned());
        let broken: Vec<String> = seen.chain(memory.known.keys().cloned()).collect();
        for name in broken.into_iter().filter(|name| !memory.whole.contains_key(name)) {
            let was = past.note(&format!("{WHOLE}{name}"));
            let was =
                was.map(|note| last_seen.get(&*name).filter(|seen| seen.same_boot(&note.last)).unwrap_or(&note.last));
            let was = was.map(|last| format!("{} {}", last.wall, last.boot.as_deref().unwrap_or_default()));
            let before = || past.note(&format!("{BROKEN}{name}")).map(|note| note.value.clone());
            let value = was.or_else(before).unwrap_or_else(|| NEVER.to_owned());
            memory.broken.insert(name, value);
        }
        memory
    }

    /// What is remembered already.
    pub fn unchanged(past: &Past) -> Memory {
        let of = |prefix| past.notes(prefix).map(|(name, note)| (name.to_owned(), note.value.clone())).collect();
        Memory { known: of(KNOWN), whole: of(WHOLE), broken: of(BROKEN) }
    }

    /// Adds it to what a look wants remembered.
    pub fn trace(&self, trace: Trace) -> Trace {
        trace.group(KNOWN, self.known.clone()).group(WHOLE, self.whole.clone()).group(BROKEN, self.broken.clone())
    }
}

/// How a part was done when it was whole; `None` where no look ever saw it so.
pub fn known<'p>(past: &'p Past, part: &str) -> Option<&'p str> {
    past.note(&format!("{KNOWN}{part}")).map(|note| note.value.as_str())
}

/// The parts that were whole once.
pub fn known_parts(past: &Past) -> impl Iterator<Item = &str> {
    past.notes(KNOWN).map(|(name, _)| name)
}

/// Since when a part is whole.
pub fn whole_since<'p>(past: &'p Past, part: &str) -> Option<&'p Moment> {
    past.note(&format!("{WHOLE}{part}")).map(|note| &note.first)
}

/// When a part that is not was whole last, with the boot of then.
fn whole_until(past: &Past, part: &str) -> Option<(Timestamp, String)> {
    let (wall, boot) = past.note(&format!("{BROKEN}{part}"))?.value.split_once(' ')?;
    Some((wall.parse().ok()?, boot.to_owned()))
}

/// Whether a part was whole in this boot: then it needs no time any more to come to be.
pub fn was_whole_in_this_boot(past: &Past, part: &str, now: &Moment) -> bool {
    let is_this = |boot: &str| now.boot.as_deref().is_some_and(|now| now == boot);
    whole_since(past, part).and_then(|since| since.boot.as_deref()).is_some_and(is_this)
        || whole_until(past, part).is_some_and(|(_, boot)| is_this(&boot))
}

/// Who changed nf_tables since what is broken was whole last, if anybody listened. The newest comes last.
pub fn writers(host: &Host, memory: &Memory) -> Vec<String> {
    let last = memory.broken.values().filter_map(|value| value.split_once(' ')?.0.parse::<Timestamp>().ok());
    let Some(since) = last.min() else { return Vec::new() };
    let said = |writer: &Writer| {
        let at = writer.last.strftime("%H:%M:%S UTC");
        match (writer.comm.as_str(), writer.count) {
            ("", _) => format!("somebody ({at})"),
            (comm, 1) => format!("{} (process {}, {at})", shown(comm), writer.pid),
            (comm, count) => format!("{} ({count} times, process {}, last {at})", shown(comm), writer.pid),
        }
    };
    host.nft_writers_since(Some(since)).unwrap_or_default().iter().map(said).collect()
}

/// Until when what is broken was whole, for people: a sentence for each part.
pub fn until_texts(past: &Past, now: &Moment) -> Vec<String> {
    past.notes(BROKEN).map(|(part, note)| until_text(past, part, note, now)).collect()
}

fn until_text(past: &Past, part: &str, note: &Note, now: &Moment) -> String {
    let at = |wall: &Timestamp| wall.strftime("%Y-%m-%d %H:%M:%S UTC");
    let since = match now.since(&note.first) {
        age if age.is_zero() => String::new(),
        age => format!(", broken since {} ({})", at(&note.first.wall), spoken(age)),
    };
    match whole_until(past, part) {
        Some((wall, boot)) => {
            let before = if now.boot.as_deref() == Some(&boot) { "" } else { " (before this boot)" };
            format!("{part}: last seen whole {}{before}{since}", at(&wall))
        }
        None => format!("{part}: never seen whole{since}"),
    }
}

/// What follows the worst of so many faults on line 1.
pub fn broken_text(past: &Past, faults: usize, now: &Moment) -> String {
    let age = past.notes(BROKEN).map(|(_, note)| now.since(&note.first)).max().unwrap_or_default();
    let age = if age.is_zero() { "seen for the first time".to_owned() } else { format!("for {}", spoken(age)) };
    match faults.saturating_sub(1) {
        0 => age,
        more => format!("and {more} more; {age}"),
    }
}

/// Why a part of which nothing is there must be there.
pub fn known_text(known: &str) -> String {
    if known.is_empty() { "`families` asks for it".to_owned() } else { format!("it had {known}") }
}
