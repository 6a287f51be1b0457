//! From bytes of files to lines of the window.

use jiff::Timestamp;

use super::{Line, MOST_TEXT, MOST_UNPACKED, Query, Told};
use crate::host::{Error, OpenFile};
use crate::parse::ReadAt;
use crate::parse::log::{Clock, Entry, Format, Joined, Joiner, LONGEST, Lines, Stream};

/// So much is read at once.
const BLOCK: usize = 128 << 10;
/// So much tells whether there are still zeros.
const SAMPLE: usize = 4 << 10;

/// What becomes of the lines, and what is told in the end.
pub(super) struct Gather<'a> {
    pub(super) query: &'a Query<'a>,
    pub(super) clock: &'a Clock,
    pub(super) told: Told,
    /// Text that may still be read.
    pub(super) left: u64,
    /// What may still be unpacked.
    pub(super) unpacked_left: u64,
    each: &'a mut dyn FnMut(&Line<'_>),
    joiner: Joiner,
    /// The time of the line before.
    last: Option<Timestamp>,
    block: Vec<u8>,
}

impl<'a> Gather<'a> {
    pub(super) fn new(
        query: &'a Query<'a>,
        clock: &'a Clock,
        told: Told,
        each: &'a mut dyn FnMut(&Line<'_>),
    ) -> Gather<'a> {
        let joiner = Joiner::new(LONGEST);
        let (left, unpacked_left) = (MOST_TEXT, MOST_UNPACKED);
        Gather { query, clock, told, left, unpacked_left, each, joiner, last: None, block: Vec::new() }
    }

    /// Reads a file from an offset on, up to the length that it had. `is_within`: it does not begin with a line.
    pub(super) fn plain(&mut self, file: &OpenFile<'_>, start: u64, length: u64, is_within: bool) -> Result<(), Error> {
        let mut block = std::mem::take(&mut self.block);
        block.resize(BLOCK, 0);
        let mut lines = Lines::new(LONGEST);
        let mut is_within = is_within;
        let mut at = start;
        let mut outcome = Ok(());
        while at < length {
            let wanted = BLOCK.min(usize::try_from(length - at).unwrap_or(BLOCK));
            let read = match file.read_at(at, &mut block[..wanted]) {
                Ok(read) => read,
                Err(error) => {
                    outcome = Err(error.downcast().unwrap_or_else(|error| Error::Failed(error.to_string())));
                    break;
                }
            };
            if read < wanted {
                // Somebody emptied it.
                self.told.broken += 1;
            }
            let mut piece = &block[..read];
            at += read as u64;
            if read == BLOCK && is_zero(piece) {
                lines.end_at_zeros(&mut |line, _| self.line(line, file.path()));
                at = past_zeros(file, at - SAMPLE as u64, length);
                continue;
            }
            self.left = self.left.saturating_sub(read as u64);
            if is_within {
                let end = piece.iter().position(|byte| *byte == b'\n');
                is_within = end.is_none();
                piece = end.and_then(|end| piece.get(end + 1..)).unwrap_or_default();
            }
            lines.feed(piece, &mut |line, _| self.line(line, file.path()));
            if read < wanted {
                break;
            }
        }
        lines.finish(&mut |line, _| self.line(line, file.path()));
        self.told.broken += lines.broken;
        self.block = block;
        outcome
    }

    /// A line of a file, without its newline.
    pub(super) fn line(&mut self, line: &[u8], file: &str) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let format = self.query.format;
        if matches!(format, Format::Cri | Format::Auto)
            && let Some(entry) = Entry::parse(line)
        {
            self.last = Some(entry.at);
            // Taken out: what is joined lies in it.
            let mut joiner = std::mem::replace(&mut self.joiner, Joiner::new(LONGEST));
            if let Some(joined) = joiner.push(&entry) {
                self.joined(&joined, file);
            }
            self.joiner = joiner;
        } else if format == Format::Cri {
            self.told.broken += 1;
        } else {
            self.last = self.clock.time(format, line).or(self.last);
            match self.last {
                Some(at) if !line.is_empty() => self.hand(at, line, file),
                Some(_) => {}
                None => self.told.broken += 1,
            }
        }
    }

    /// The stream of files ends: parts that wait for their last one are lines, too.
    pub(super) fn end(&mut self, file: &str) {
        let mut joiner = std::mem::replace(&mut self.joiner, Joiner::new(LONGEST));
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(joined) = joiner.rest(stream) {
                self.joined(&joined, file);
            }
        }
        self.last = None;
    }

    fn joined(&mut self, joined: &Joined<'_>, file: &str) {
        self.told.broken += u64::from(joined.cut > 0);
        self.hand(joined.at, joined.text, file);
    }

    fn hand(&mut self, at: Timestamp, text: &[u8], file: &str) {
        if at > self.query.until {
            self.told.ahead += 1;
            return;
        }
        self.told.newest = self.told.newest.max(Some(at));
        if at >= self.query.since {
            (self.each)(&Line { at, text, file });
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// A place at or a little before the end of the zeros that begin at `from`, if some do. They are not all read: a file that was
/// emptied under its writer begins with as many as it ever had bytes.
pub(super) fn past_zeros(file: &OpenFile<'_>, from: u64, length: u64) -> u64 {
    let mut sample = [0; SAMPLE];
    let mut are_zeros = |at: u64| {
        let wanted = SAMPLE.min(usize::try_from(length.saturating_sub(at)).unwrap_or(SAMPLE));
        let sample = &mut sample[..wanted];
        file.read_at(at, sample).is_ok_and(|read| is_zero(&sample[..read]))
    };
    if !are_zeros(from) {
        return from;
    }
    let (mut low, mut step) = (from, BLOCK as u64);
    let mut high = loop {
        let next = low.saturating_add(step);
        if next >= length {
            break length;
        }
        if !are_zeros(next) {
            break next;
        }
        (low, step) = (next, step.saturating_mul(2));
    };
    while high - low > BLOCK as u64 {
        let middle = low + (high - low) / 2;
        if are_zeros(middle) { low = middle } else { high = middle }
    }
    low
}
