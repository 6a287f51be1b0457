//! One look through the files.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::thread::sleep;
use std::time::Duration;

use super::lost::Wanted;
use super::{Entry, Fields, MOST_ENTRIES, Query, Told, find, microseconds, timestamp};
use crate::host::{Error, Host, OpenFile, printable};
use crate::parse::journal::{self as file, Fault, Header, Id, Reader, State, Walk};

/// So often the directories are listed: a journal that rotates several times a second changes while it is read.
const MOST_ROUNDS: usize = 8;
/// The name of the file that journald writes to.
const ACTIVE: &str = "/system.journal";
/// So often a file is looked at that has no header yet.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(2);
/// So many files that can't be read are told of.
const MOST_UNREADABLE: usize = 16;

type Each<'e> = dyn FnMut(&mut Entry<'_>) + 'e;

/// A file that may hold something of the window.
struct Candidate {
    path: String,
    header: Header,
    /// Whether another one holds entries of the same time.
    overlaps: bool,
}

struct Run<'a> {
    host: &'a Host,
    query: &'a Query<'a>,
    since: u64,
    until: u64,
    wanted: Wanted<'a>,
    told: Told,
    /// Files that were read, or were found to hold nothing of the window.
    done: HashSet<Id>,
    /// Entries of files that overlap with others.
    seen: HashSet<u64>,
    message: Vec<u8>,
    /// When the first and the last entries were made of the files that were read, and whether they were still being written.
    read: Vec<(u64, u64, bool)>,
    /// When the newest entry was made, by all headers that were looked at.
    tail: u64,
    /// Whether the file that is being written was found to hold nothing of the window.
    is_idle: bool,
}

pub(super) fn run(host: &Host, dirs: &[String], query: &Query<'_>, each: &mut Each<'_>) -> Result<Told, Error> {
    let mut run = Run {
        host,
        query,
        since: microseconds(query.since),
        until: microseconds(query.until),
        wanted: Wanted::by(query.matches),
        told: Told::default(),
        done: HashSet::new(),
        seen: HashSet::new(),
        message: Vec::new(),
        read: Vec::new(),
        tail: 0,
        is_idle: false,
    };
    let mut known = BTreeSet::new();
    for round in 0..MOST_ROUNDS {
        let mut paths = find::files(host, dirs)?;
        paths.retain(|path| !known.contains(path));
        if paths.is_empty() {
            break;
        }
        let mut candidates = Vec::new();
        for path in paths {
            candidates.extend(run.candidate(&path));
            known.insert(path);
        }
        if std::mem::take(&mut run.is_idle) {
            run.read.push((u64::MAX, run.tail, true));
        }
        candidates.retain(|candidate| round == 0 || run.is_missing(candidate.header.head_realtime));
        for candidate in in_order(candidates) {
            if !run.file(&candidate, each) {
                // Another file has its name by now, or none: it has another name, or was removed.
                known.remove(&candidate.path);
            }
        }
    }
    run.end(dirs)
}

/// By their first entries. A file that is being written has no last one yet.
fn in_order(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates
        .sort_by(|one, other| (one.header.head_realtime, &one.path).cmp(&(other.header.head_realtime, &other.path)));
    let end = |header: &Header| if header.state == State::Archived { header.tail_realtime } else { u64::MAX };
    let mut latest: Option<(u64, usize)> = None;
    for number in 0..candidates.len() {
        let header = &candidates[number].header;
        let (head, end) = (header.head_realtime, end(header));
        if let Some((before, at)) = latest.filter(|(before, _)| head <= *before) {
            candidates[number].overlaps = true;
            candidates[at].overlaps = true;
            latest = Some(if end > before { (end, number) } else { (before, at) });
        } else {
            latest = Some((end, number));
        }
    }
    candidates
}

impl Run<'_> {
    /// A file's header. `None`: it is gone. journald makes the file first, and writes its header a moment later.
    fn header(&self, path: &str) -> Option<Result<Header, Error>> {
        for tries in 0.. {
            let fault = match self.host.open_file(path) {
                Ok(file) => match Header::read(&file) {
                    Ok(header) => return Some(Ok(header)),
                    Err(fault) => fault,
                },
                Err(Error::Absent(_)) => return None,
                Err(error) => return Some(Err(error)),
            };
            let may_be_new = matches!(fault, Fault::NoJournal(_)) && path.ends_with(ACTIVE);
            if !may_be_new || tries == TRIES || self.host.stopwatch().is_none() {
                return Some(Err(error_of(path, fault)));
            }
            sleep(PAUSE);
        }
        None
    }

    /// Looks at a file's header.
    fn candidate(&mut self, path: &str) -> Option<Candidate> {
        let header = self.header(path)?;
        let header = match header {
            Ok(header) => header,
            Err(error) => {
                self.unreadable(path, error);
                return None;
            }
        };
        if self.done.contains(&header.file_id) {
            return None;
        }
        self.tail = self.tail.max(header.tail_realtime);
        let earliest = |one: Option<_>, other: Option<_>| one.into_iter().chain(other).min();
        if header.entries > 0 {
            let head = timestamp(header.head_realtime).filter(|_| header.head_realtime > 0);
            self.told.begins = earliest(self.told.begins, head);
        }
        if !header.may_overlap(self.since, self.until) {
            self.is_idle |= is_growing(path, &header);
            if header.tail_realtime <= self.until {
                self.newest(header.tail_realtime);
            }
            self.done.insert(header.file_id);
            self.told.files.outside += 1;
            return None;
        }
        Some(Candidate { path: path.to_owned(), header, overlaps: false })
    }

    /// Reads a file. `false`: its path leads to another one now, or to none.
    fn file(&mut self, candidate: &Candidate, each: &mut Each<'_>) -> bool {
        let Candidate { path, header, .. } = candidate;
        if self.done.contains(&header.file_id) {
            return true;
        }
        let file = match self.host.open_file(path) {
            Ok(file) => file,
            // Maybe it is listed under another name now.
            Err(Error::Absent(_)) => return false,
            Err(error) => {
                self.unreadable(path, error);
                return true;
            }
        };
        let broken = self.told.broken;
        let read = match Reader::open(&file) {
            Ok(reader) if reader.header().file_id != header.file_id => return false,
            // It had a header.
            Err(Fault::NoJournal(_)) => return false,
            // What a recording has not read is not in it.
            Ok(reader) if self.host.recorded().is_some() => self.read(reader.in_parts(), candidate, each),
            Ok(reader) => self.read(reader, candidate, each),
            Err(fault) => Err(fault),
        };
        self.done.insert(header.file_id);
        // journald punches a hole into a file that it removes, whoever has it open (`unlinkat_deallocate`).
        if self.told.broken > broken && file.is_removed().unwrap_or(false) {
            self.told.broken = broken;
            self.told.files.removed += 1;
        }
        match read {
            Ok(()) => self.told.files.read += 1,
            Err(fault) => self.unreadable(path, error_of(path, fault)),
        }
        true
    }

    fn read(
        &mut self,
        mut reader: Reader<'_, OpenFile<'_>>,
        candidate: &Candidate,
        each: &mut Each<'_>,
    ) -> Result<(), Fault> {
        let header = reader.header();
        self.read.push((header.head_realtime, header.tail_realtime, is_growing(&candidate.path, header)));
        if let Some(newest) = reader.newest(self.until)? {
            self.newest(newest);
        }
        let (dropped, missed) = self.wanted.lost(&mut reader, (self.since, self.until))?;
        self.told.dropped = self.told.dropped.saturating_add(dropped);
        self.told.missed_kernel = self.told.missed_kernel.saturating_add(missed);
        let walk = reader.walk(self.query.matches, self.since, self.until);
        let walked = walk.and_then(|walk| self.walk(walk, &mut reader, candidate.overlaps, each));
        self.told.broken = self.told.broken.saturating_add(reader.broken());
        walked
    }

    fn walk(
        &mut self,
        mut walk: Walk,
        reader: &mut Reader<'_, OpenFile<'_>>,
        overlaps: bool,
        each: &mut Each<'_>,
    ) -> Result<(), Fault> {
        let mut found = file::Entry::default();
        // Of this file: an entry is no double of one beside it.
        let mut fresh = Vec::new();
        while let Some(by) = walk.next(reader, &mut found)? {
            if self.told.matched >= MOST_ENTRIES {
                self.told.is_cut = true;
                break;
            }
            if overlaps {
                let identity = identity(&found);
                if self.seen.contains(&identity) {
                    continue;
                }
                fresh.push(identity);
            }
            self.message.clear();
            match reader.field(&found, b"MESSAGE") {
                Ok(message) => self.message.extend_from_slice(message.unwrap_or_default()),
                Err(fault @ Fault::Read(_)) => return Err(fault),
                Err(Fault::Unread { .. }) => {
                    self.told.unread += 1;
                    continue;
                }
                Err(_) => {
                    self.told.broken += 1;
                    continue;
                }
            }
            let Some(at) = timestamp(found.realtime) else { continue };
            self.told.matched += 1;
            each(&mut Entry {
                at,
                monotonic: found.monotonic,
                boot_id: found.boot_id,
                seqnum: found.seqnum,
                by,
                message: &self.message,
                fields: &mut Of { reader, entry: &found },
            });
        }
        self.told.later = self.told.later.saturating_add(walk.later());
        self.seen.extend(fresh);
        Ok(())
    }

    /// Whether a file that came up later, and begins then, is one that this look misses. What is later than a file that was
    /// still being written came after the look began, and would be told with a hole before it. And what begins in the middle
    /// of another file is a copy of that.
    fn is_missing(&self, head: u64) -> bool {
        !self.read.iter().any(|(first, last, is_growing)| {
            (*is_growing && head > *last) || head == *first || (*first..*last).contains(&head)
        })
    }

    fn newest(&mut self, realtime: u64) {
        self.told.newest = self.told.newest.max(timestamp(realtime).filter(|_| realtime > 0));
    }

    /// A file that can't be read matters if it was written to since the window began.
    fn unreadable(&mut self, path: &str, error: Error) {
        let written = self.host.stat(path).ok().and_then(|stat| stat.modified);
        if written.is_some_and(|written| written < self.query.since) {
            self.told.files.outside += 1;
            return;
        }
        self.told.files.unreadable += 1;
        if self.told.unreadable.len() < MOST_UNREADABLE {
            self.told.unreadable.push(find::denied(error));
        }
    }

    /// A journal of which nothing could be read tells nothing.
    fn end(mut self, dirs: &[String]) -> Result<Told, Error> {
        let files = self.told.files;
        match (files.read + files.outside, self.told.unreadable.is_empty()) {
            (0, true) => Err(Error::Absent(format!("no system journal in {}", dirs.join(" nor in ")))),
            (0, false) => {
                let is_denied = |error: &Error| matches!(error, Error::Denied { .. });
                let worst = self.told.unreadable.iter().position(is_denied).unwrap_or(0);
                Err(self.told.unreadable.swap_remove(worst))
            }
            _ => Ok(self.told),
        }
    }
}

/// Whether journald writes to it. One that a crash left behind says so, too, and has another name.
fn is_growing(path: &str, header: &Header) -> bool {
    header.state != State::Archived && path.ends_with(ACTIVE)
}

/// The same in each file that has the entry: while journald moves its journal from /run to /var, it gives new numbers to the
/// copies.
fn identity(entry: &file::Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (entry.boot_id, entry.monotonic, entry.realtime, entry.xor_hash).hash(&mut hasher);
    hasher.finish()
}

fn error_of(path: &str, fault: Fault) -> Error {
    match fault {
        // The host's own error, which names the file.
        Fault::Read(error) => error.downcast().unwrap_or_else(|error| Error::Failed(error.to_string())),
        fault => Error::Failed(format!("{}: {fault}", printable(path))),
    }
}

struct Of<'r, 'f, 'h> {
    reader: &'r mut Reader<'f, OpenFile<'h>>,
    entry: &'r file::Entry,
}

impl Fields for Of<'_, '_, '_> {
    fn field(&mut self, name: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.reader.field(self.entry, name)?.map(<[u8]>::to_vec))
    }
}
