//! One log: the file that is written to, and those that were put aside.

use jiff::SignedDuration;

use super::bisect::Bisect;
use super::find::{self, File};
use super::gather::{Gather, past_zeros};
use super::packed;
use crate::host::{Error, Host, OpenFile};
use crate::parse::log::Age;

/// A file's time is the kernel's, which is behind by some milliseconds.
const SLACK: SignedDuration = SignedDuration::from_secs(1);
/// So many files of one log are looked at; by default the kubelet keeps 5, and lumberjack as k3s sets it 4.
const MOST_FILES: usize = 64;
/// So often files may be put aside while they are opened.
const MOST_TRIES: u32 = 8;

/// The files of one log, the oldest first.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) dir: String,
    pub(super) base: String,
    pub(super) files: Vec<File>,
    /// Whether logs of the same container are known to be gone.
    pub(super) has_forgotten: bool,
}

/// A file that holds something of the window.
struct Part<'h> {
    file: OpenFile<'h>,
    length: u64,
    is_packed: bool,
    start: u64,
    /// Whether it does not begin with a line there.
    is_within: bool,
}

impl Stream {
    /// Whether it was written to within the window, as far as is known. If not, no file of it is opened.
    pub(super) fn is_live(&self, host: &Host, gather: &mut Gather<'_>) -> bool {
        let Some(newest) = self.files.last() else { return false };
        // One that was just put aside is looked at in earnest.
        let Ok(stat) = host.stat(&self.path(newest)) else { return true };
        match stat.modified {
            Some(written) if is_before(written, gather) && stat.size > 0 => {
                self.skip(written, self.files.len(), gather);
                false
            }
            Some(written) if is_before(written, gather) && self.files.len() == 1 => {
                gather.told.skipped += 1;
                false
            }
            _ => true,
        }
    }

    /// Reads what it has of the window: at most so much text.
    pub(super) fn read(&self, host: &Host, most: u64, gather: &mut Gather<'_>) {
        let (files, opened) = self.open(host, gather);
        let mut parts: Vec<Part<'_>> = Vec::new();
        let (mut most, mut first, mut is_whole) = (most, None, false);
        for (number, (file, opened)) in opened.into_iter().enumerate() {
            let older = files - number;
            if is_whole || most == 0 {
                gather.told.skipped += older;
                gather.told.is_cut |= !is_whole;
                break;
            }
            let opened = match opened {
                Opened::File(opened) => opened,
                Opened::Old(written) => {
                    self.skip(written, older, gather);
                    is_whole = true;
                    break;
                }
            };
            match part(opened, file.is_packed, &mut most, gather) {
                Ok((part, begins, is_enough)) => {
                    gather.told.begins = [gather.told.begins, begins].into_iter().flatten().min();
                    (first, is_whole) = (begins.or(first), is_enough);
                    parts.extend(part);
                }
                Err(error) => gather.told.trouble(error),
            }
        }
        let has_forgotten = self.has_forgotten || self.files.iter().any(|file| file.age != Age::Current);
        if has_forgotten && !is_whole {
            gather.told.whole_since = gather.told.whole_since.max(first);
        }
        // Lines go on from file to file.
        for part in parts.iter().rev() {
            gather.told.files += 1;
            let read = match part.is_packed {
                true => gather.packed(&part.file, part.length),
                false => gather.plain(&part.file, part.start, part.length, part.is_within),
            };
            if let Err(error) = read {
                gather.told.trouble(error);
            }
        }
        gather.end(&self.path_of(&self.base));
    }

    /// Opens the files, the newest first: what is put aside meanwhile is not missed, as long as the directory says the same
    /// before and after. Then names may change as they like. Tells how many files there are, too.
    fn open<'h>(&self, host: &'h Host, gather: &mut Gather<'_>) -> (usize, Vec<(File, Opened<'h>)>) {
        let mut files = self.files.clone();
        for attempt in 1.. {
            let mut opened: Vec<(File, Opened<'h>)> = Vec::new();
            let mut troubles = Vec::new();
            for file in files.iter().rev().take(MOST_FILES) {
                match self.open_one(host, file, gather) {
                    Ok(one) => {
                        let is_last = matches!(one, Opened::Old(_));
                        opened.push((file.clone(), one));
                        if is_last {
                            break;
                        }
                    }
                    Err(Error::Absent(_)) => {}
                    Err(error) => troubles.push(error),
                }
            }
            let now = find::files(host, &self.dir).ok().and_then(|mut all| all.remove(&self.base)).unwrap_or_default();
            if now == files || attempt == MOST_TRIES {
                for error in troubles {
                    gather.told.trouble(error);
                }
                // Only if they were moved on and on: some may be there twice.
                let mut known = Vec::new();
                opened.retain(|(_, one)| match one {
                    Opened::File(file) => {
                        let identity = (file.device(), file.inode());
                        let is_new = identity.0.is_none() || !known.contains(&identity);
                        known.push(identity);
                        is_new
                    }
                    Opened::Old(_) => true,
                });
                return (files.len(), opened);
            }
            files = now;
        }
        (0, Vec::new())
    }

    fn open_one<'h>(&self, host: &'h Host, file: &File, gather: &Gather<'_>) -> Result<Opened<'h>, Error> {
        let path = self.path(file);
        let stat = host.stat(&path)?;
        match stat.modified {
            Some(written) if is_before(written, gather) && stat.size > 0 => Ok(Opened::Old(written)),
            _ => Ok(Opened::File(host.open_file(&path)?)),
        }
    }

    /// Counts files that hold nothing of the window.
    fn skip(&self, written: jiff::Timestamp, files: usize, gather: &mut Gather<'_>) {
        let told = &mut gather.told;
        told.skipped += files;
        told.newest = told.newest.max(Some(written));
        told.begins = [told.begins, Some(written)].into_iter().flatten().min();
    }

    fn path(&self, file: &File) -> String {
        self.path_of(&file.name)
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }
}

enum Opened<'h> {
    File(OpenFile<'h>),
    /// Nothing was written to it within the window.
    Old(jiff::Timestamp),
}

fn is_before(written: jiff::Timestamp, gather: &Gather<'_>) -> bool {
    written.saturating_add(SLACK).is_ok_and(|written| written < gather.query.since)
}

/// What a file has of the window, when it begins, and whether it begins before the window.
fn part<'h>(
    file: OpenFile<'h>,
    is_packed: bool,
    most: &mut u64,
    gather: &mut Gather<'_>,
) -> Result<(Option<Part<'h>>, Option<jiff::Timestamp>, bool), Error> {
    let length = file.length()?;
    let since = gather.query.since;
    if length == 0 {
        return Ok((None, None, false));
    }
    if is_packed {
        let first = packed::first(&file, length, gather);
        let is_whole = first.is_some_and(|first| first < since);
        return Ok((Some(Part { file, length, is_packed, start: 0, is_within: false }), first, is_whole));
    }
    let found = Bisect::new(&file, length, gather.clock, gather.query.format, since).start();
    let found = found.map_err(|error| error.downcast().unwrap_or_else(|error| Error::Failed(error.to_string())))?;
    let (mut start, mut is_within) = (found.at, false);
    if length - start > *most {
        start = past_zeros(&file, start, length);
    }
    if length - start > *most {
        (start, is_within) = (length - *most, true);
        gather.told.is_cut = true;
    }
    *most -= length - start;
    Ok((Some(Part { file, length, is_packed, start, is_within }), found.first, found.is_whole))
}
