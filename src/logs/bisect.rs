//! Where in a file the window begins: found by the times of lines here and there.
//!
//! The lines of a file are in order, but for a little: threads that write at a time, and a clock that was set. Parts without
//! any time (zeros, traces of a panic) may be anywhere.

use std::io;

use jiff::Timestamp;

use crate::parse::ReadAt;
use crate::parse::log::{Clock, Format};

/// So much is read at one place.
const BLOCK: u64 = 64 << 10;
/// So many places are tried; a third would do for the largest file.
const MOST_PROBES: u32 = 200;
/// How far lines may be out of order, in blocks.
const MOST_STEPS_BACK: u32 = 16;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// The offset of a line. All before it is before the window.
    pub(super) at: u64,
    /// The time of the first line that has one, if one of the first has.
    pub(super) first: Option<Timestamp>,
    /// Whether the file has a line from before the window.
    pub(super) is_whole: bool,
}

pub(super) struct Bisect<'a, F: ReadAt + ?Sized> {
    file: &'a F,
    length: u64,
    clock: &'a Clock,
    format: Format,
    since: Timestamp,
    block: Vec<u8>,
}

/// What is at a place.
enum Probe {
    /// A line of before the window begins at this offset.
    Before(u64),
    /// The first line there is of the window.
    Within,
    /// No line with a time.
    Nothing,
}

impl<'a, F: ReadAt + ?Sized> Bisect<'a, F> {
    pub(super) fn new(file: &'a F, length: u64, clock: &'a Clock, format: Format, since: Timestamp) -> Self {
        Bisect { file, length, clock, format, since, block: Vec::new() }
    }

    /// Finds the first line of the window, or one that is a little before it.
    pub(super) fn start(&mut self) -> io::Result<Start> {
        self.read(0, self.length)?;
        let first = self.timed(0).next().map(|(_, at)| at);
        if first.is_some_and(|first| first >= self.since) {
            return Ok(Start { at: 0, first, is_whole: false });
        }
        let (mut low, mut high) = (0, self.length);
        for _ in 0..MOST_PROBES {
            if high - low <= BLOCK {
                break;
            }
            match self.halve(low, high)? {
                (Some(before), high_now) => (low, high) = (before, high_now),
                (None, high_now) => high = high_now,
            }
        }
        let is_whole = low > 0 || first.is_some_and(|first| first < self.since);
        Ok(Start { at: self.step_back(low)?, first, is_whole })
    }

    /// One step: a new lower end if there is one, and the upper end. Where there is nothing in the middle, the side behind it
    /// is halved, until something tells on which side of the gap the window begins.
    fn halve(&mut self, low: u64, high: u64) -> io::Result<(Option<u64>, u64)> {
        let middle = low + (high - low) / 2;
        let (mut place, mut gap, mut high) = (middle, middle, high);
        loop {
            match self.probe(place, high)? {
                Probe::Before(at) => return Ok((Some(at), high)),
                Probe::Within if place == middle => return Ok((None, middle)),
                Probe::Within => high = place,
                Probe::Nothing => gap = place + BLOCK,
            }
            if high.saturating_sub(gap) <= BLOCK {
                return Ok((None, middle));
            }
            place = gap + (high - gap) / 2;
        }
    }

    /// Looks at the lines that begin in a block. All from `high` on is within the window.
    fn probe(&mut self, from: u64, high: u64) -> io::Result<Probe> {
        self.read(from, high)?;
        let (since, is_all) = (self.since, from + BLOCK >= high);
        let found =
            self.timed(from).next().map(|(offset, at)| if at < since { Probe::Before(offset) } else { Probe::Within });
        Ok(found.unwrap_or(if is_all { Probe::Within } else { Probe::Nothing }))
    }

    /// An earlier offset, as long as lines of the window stand before it.
    fn step_back(&mut self, start: u64) -> io::Result<u64> {
        let mut start = start;
        for _ in 0..MOST_STEPS_BACK {
            let from = start.saturating_sub(BLOCK);
            self.read(from, start)?;
            let since = self.since;
            if start == 0 || !self.timed(from).any(|(_, at)| at >= since) {
                break;
            }
            let line = self.lines(from).next().map_or(from, |(offset, _)| offset);
            start = line;
        }
        Ok(start)
    }

    fn read(&mut self, from: u64, to: u64) -> io::Result<()> {
        // Never more than the file had: a recording tells its length.
        let length = BLOCK.min(to.min(self.length).saturating_sub(from));
        self.block.resize(length as usize, 0);
        let read = self.file.read_at(from, &mut self.block)?;
        self.block.truncate(read);
        Ok(())
    }

    /// The lines that begin in the block, with their offsets; the last may be cut.
    fn lines(&self, from: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let mut at = from;
        let lines = self.block.split(|byte| *byte == b'\n').map(move |line| {
            let offset = at;
            at += line.len() as u64 + 1;
            (offset, line)
        });
        // The block begins in the middle of a line.
        lines.skip(usize::from(from > 0))
    }

    /// Those that have a time.
    fn timed(&self, from: u64) -> impl Iterator<Item = (u64, Timestamp)> {
        self.lines(from).filter_map(|(offset, line)| {
            let zeros = line.iter().take_while(|byte| **byte == 0).count();
            Some((offset, self.clock.time(self.format, &line[zeros..])?))
        })
    }
}
