//! Lines of log files, of the last minutes: containers' (`/var/log/pods`), and those that k3s and RKE2 write beside the journal.
//!
//! A file is not read from its beginning: the times of lines here and there tell where the window begins. Files that were put
//! aside are read as far as the window reaches, and meanwhile any of them may be renamed, packed, emptied or removed.

mod bisect;
mod containers;
mod find;
mod gather;
mod packed;
mod stream;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

pub use containers::{ContainerLogs, Containers, LogFile, containers};
pub use find::fault;

use crate::host::{Error, Host, optional};
use crate::parse::log::Clock;
pub use crate::parse::log::Format;
use gather::Gather;

/// So much text is read in one run.
const MOST_TEXT: u64 = 64 << 20;
/// So much is unpacked in one run, to get at the end of it.
const MOST_UNPACKED: u64 = 128 << 20;
/// So many things that can't be read are told of.
const MOST_TROUBLES: usize = 8;
/// A table of time zones has 1 to 4 KiB.
const LARGEST_ZONE: u64 = 256 << 10;

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Paths of files as they are called while they are written to; `*` and `?` stand for what has no `/`. Those that were
    /// put aside are found by themselves. A file that two of them reach on different paths is read twice.
    pub files: &'a [String],
    /// What the lines look like.
    pub format: Format,
    /// The zone of klog's times; `None`: that of the node.
    pub zone: Option<Offset>,
    /// No line is earlier.
    pub since: Timestamp,
    /// No line is later, and times without a year are before it.
    pub until: Timestamp,
}

/// One line, or all parts of one that a runtime cut.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Its time, or that of the line before if it has none.
    pub at: Timestamp,
    /// The line; of a container, what it wrote.
    pub text: &'a [u8],
    /// The file that it ends in.
    pub file: &'a str,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The oldest line that is known to be there: the files are not searched for an older one once one lies before the
    /// window.
    pub begins: Option<Timestamp>,
    /// Where older lines of some file were thrown away within the window: since when nothing is missing.
    pub whole_since: Option<Timestamp>,
    /// The newest line, of which none is later than asked for. Of a file that was not opened: when it was written to.
    pub newest: Option<Timestamp>,
    /// Files that were read, in part or as a whole.
    pub files: usize,
    /// Files that hold nothing of the window.
    pub skipped: usize,
    /// Lines and parts of files that could not be read, or not as a whole.
    pub broken: u64,
    /// Lines that are later than asked for.
    pub ahead: u64,
    /// Whether there was more than is read in one run; the oldest lines were left out.
    pub is_cut: bool,
    /// What could not be opened or read; the first few.
    pub unreadable: Vec<Error>,
}

impl Told {
    fn trouble(&mut self, error: Error) {
        if self.unreadable.len() < MOST_TROUBLES && !self.unreadable.contains(&error) {
            self.unreadable.push(error);
        }
    }

    /// `None` when absent, or when it is a trouble.
    fn keep<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        optional(result).unwrap_or_else(|error| {
            self.trouble(error);
            None
        })
    }
}

/// Hands every line of the window to `each`: file by file, those of one in their order. Absent if there is no such file;
/// another error if none is found, and there may be some where nobody may look.
pub fn each(host: &Host, query: &Query<'_>, each: &mut dyn FnMut(&Line<'_>)) -> Result<Told, Error> {
    let mut told = Told::default();
    let streams = find::streams(host, query.files, &mut told)?;
    if streams.is_empty() {
        let absent = || Error::Absent(format!("no log file {}", find::spoken(query.files)));
        return Err(told.unreadable.into_iter().next().unwrap_or_else(absent));
    }
    let clock = Clock::new(query.until, zone(host, query, &mut told));
    let mut gather = Gather::new(query, &clock, told, each);
    let live: Vec<_> = streams.into_iter().filter(|stream| stream.is_live(host, &mut gather)).collect();
    for (number, stream) in live.iter().enumerate() {
        // A loud one leaves the others something.
        let is_last = number + 1 == live.len();
        let most = if is_last { gather.left } else { gather.left / 2 };
        stream.read(host, most, &mut gather);
    }
    Ok(gather.told)
}

fn zone(host: &Host, query: &Query<'_>, told: &mut Told) -> TimeZone {
    match (query.format, query.zone) {
        (Format::Cri | Format::Logrus, _) => TimeZone::UTC,
        (_, Some(offset)) => TimeZone::fixed(offset),
        (_, None) => {
            let table = told.keep(host.read("/etc/localtime", LARGEST_ZONE));
            let zone = table.and_then(|table| TimeZone::tzif("local", &table).ok());
            // As the C library has it where there is no table.
            zone.unwrap_or(TimeZone::UTC)
        }
    }
}
