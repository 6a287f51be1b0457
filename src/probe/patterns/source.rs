//! Where the lines come from: the journal, files, or both.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::LogPatterns;
use crate::host::{Error, Host, optional};
use crate::journal::{self, Journal};
use crate::logs;

/// Clocks are set while others write.
const AHEAD: Duration = Duration::from_secs(300);
/// The field by which the entries of a unit are found.
const UNIT: &str = "_SYSTEMD_UNIT=";
const KERNEL: &str = "_TRANSPORT=kernel";

/// How far what was read can be trusted to be all.
#[derive(Debug, Default)]
pub struct Told {
    /// Sentences: why a count is at least that.
    pub lower_bounds: Vec<String>,
    /// Why nothing can be told.
    pub troubles: Vec<Error>,
    /// What is worth knowing.
    pub facts: Vec<String>,
}

/// Hands each line of the span to `each`. Absent if no source is there.
pub fn read(
    probe: &LogPatterns,
    host: &Host,
    span: Duration,
    each: &mut dyn FnMut(Timestamp, &[u8]),
) -> Result<Told, Error> {
    let now = host.now().wall;
    let back = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    let since = now.checked_sub(back).unwrap_or(Timestamp::MIN);
    let until = now.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
    let mut told = Told::default();
    let mut absent = Vec::new();
    let mut is_there = false;
    if !probe.units.is_empty() || probe.kernel {
        match of_journal(probe, host, (since, until), &mut told, each) {
            Ok(()) => is_there = true,
            Err(Error::Absent(what)) => absent.push(what),
            // Files may tell all the same.
            Err(error) if probe.files.is_empty() => return Err(error),
            Err(error) => told.troubles.push(error),
        }
    }
    if !probe.files.is_empty() {
        let query = logs::Query { files: &probe.files, format: logs::Format::Auto, zone: None, since, until };
        match optional(logs::each(host, &query, &mut |line| each(line.at, line.text))) {
            Ok(Some(read)) => {
                is_there = true;
                told.take_files(&read, since, now);
            }
            Ok(None) => absent.push(format!("no log file {}", probe.files.join(", "))),
            Err(error) => told.troubles.push(error),
        }
    }
    match (is_there, told.troubles.first()) {
        (false, Some(error)) => Err(error.clone()),
        (false, None) => Err(Error::Absent(absent.join("; "))),
        (true, _) => Ok(told),
    }
}

fn of_journal(
    probe: &LogPatterns,
    host: &Host,
    (since, until): (Timestamp, Timestamp),
    told: &mut Told,
    each: &mut dyn FnMut(Timestamp, &[u8]),
) -> Result<(), Error> {
    let journal = Journal::open(host)?;
    let mut matches: Vec<Vec<u8>> = probe.units.iter().map(|unit| format!("{UNIT}{unit}").into_bytes()).collect();
    matches.extend(probe.kernel.then(|| KERNEL.as_bytes().to_vec()));
    let matches: Vec<&[u8]> = matches.iter().map(Vec::as_slice).collect();
    let query = journal::Query { matches: &matches, since, until };
    let read = journal.each(&query, &mut |entry| each(entry.at, entry.message))?;
    let now = host.now();
    // A unit that wrote nothing may be quiet, or not of this node.
    if read.matched == 0 && read.files.unreadable == 0 && !journal.knows(&matches)? {
        return Err(Error::Absent(format!("the journal has no entry of {}", names(probe))));
    }
    let is_old = |newest: Timestamp| now.since_wall(newest) > probe.silent;
    let has_time = now.uptime.is_none_or(|uptime| uptime > probe.silent.as_secs_f64());
    match read.newest {
        None if has_time => told.troubles.push(Error::Failed("the journal is empty".to_owned())),
        Some(newest) if is_old(newest) && has_time => told.troubles.push(Error::Failed(format!(
            "the journal has ended: its newest entry, of whatever unit, is of {newest:.0}; is systemd-journald running?"
        ))),
        _ => {}
    }
    if let Some(begins) = read.begins.filter(|begins| *begins > since) {
        let age = crate::host::clock::spoken(now.since_wall(begins));
        told.lower_bounds.push(format!("the journal begins {age} ago"));
    }
    if read.dropped > 0 {
        told.lower_bounds.push(format!("journald dropped {} messages (rate limit)", read.dropped));
    }
    if read.missed_kernel > 0 {
        told.lower_bounds.push(format!("journald missed {} messages of the kernel", read.missed_kernel));
    }
    if read.is_cut {
        told.lower_bounds.push(format!("more than {} entries: the newest were not read", journal::MOST_ENTRIES));
    }
    if read.unread > 0 {
        told.lower_bounds
            .push(format!("{} entries have a message that can't be read here (XZ, or too large)", read.unread));
    }
    if read.broken > 0 {
        told.lower_bounds.push(format!("{} parts of the journal are damaged", read.broken));
    }
    if read.files.removed > 0 {
        told.lower_bounds.push(format!("{} files of the journal were removed meanwhile", read.files.removed));
    }
    if read.later > 0 {
        told.facts.push(format!("{} entries are from the future and do not count", read.later));
    }
    match read.unreadable.first() {
        // Not one could be read.
        Some(error) if read.files.read == 0 => return Err(error.clone()),
        Some(error) => told.lower_bounds.push(format!("{} files of the journal: {error}", read.files.unreadable)),
        None => {}
    }
    Ok(())
}

impl Told {
    fn take_files(&mut self, read: &logs::Told, since: Timestamp, now: Timestamp) {
        if let Some(begins) = read.whole_since.filter(|begins| *begins > since) {
            let age = now.duration_since(begins).unsigned_abs();
            self.lower_bounds.push(format!("the log files begin {} ago", crate::host::clock::spoken(age)));
        }
        if read.is_cut {
            self.lower_bounds.push("the log files have more than is read: the oldest lines were not".to_owned());
        }
        if read.broken > 0 {
            self.lower_bounds.push(format!("{} lines or parts of log files can't be read", read.broken));
        }
        if read.ahead > 0 {
            self.facts.push(format!("{} lines are from the future and do not count", read.ahead));
        }
        match read.unreadable.first() {
            Some(error) if read.files == 0 && read.skipped == 0 => self.troubles.push(error.clone()),
            Some(error) => self.lower_bounds.push(error.to_string()),
            None => {}
        }
    }
}

/// What of the journal is read.
fn names(probe: &LogPatterns) -> String {
    let kernel = probe.kernel.then(|| "the kernel".to_owned());
    probe.units.iter().cloned().chain(kernel).collect::<Vec<_>>().join(", ")
}
