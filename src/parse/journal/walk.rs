//! Going through the entries of a window.

use super::super::ReadAt;
use super::chain::Chain;
use super::{Entry, Fault, Reader};

/// So many entries in a row that are later than a window end it: before systemd 253 the times of a file could go backwards.
const MOST_LATER: u64 = 16;
/// So many entries are passed over: those of a file whose times are in no order.
const MOST_PASSED: u64 = 1_000_000;

/// The entries of a file that lie in a window and have one of some fields, the oldest first.
pub struct Walk {
    /// With what comes next in each, and the number of the field that leads there.
    chains: Vec<(Chain, Option<u64>, usize)>,
    since: u64,
    until: u64,
    later: u64,
    later_in_a_row: u64,
    passed: u64,
}

impl<F: ReadAt + ?Sized> Reader<'_, F> {
    /// The entries that have one of these fields (`FIELD=value`; none: all entries), from `since` to `until`, both included,
    /// in microseconds since 1970.
    pub fn walk(&mut self, fields: &[&[u8]], since: u64, until: u64) -> Result<Walk, Fault> {
        let mut walk = Walk { chains: Vec::new(), since, until, later: 0, later_in_a_row: 0, passed: 0 };
        if fields.is_empty() {
            let all = self.all()?;
            walk.add(self, all, 0)?;
        }
        for (number, field) in fields.iter().enumerate() {
            if let Some(having) = self.having(field)? {
                walk.add(self, having, number)?;
            }
        }
        Ok(walk)
    }
}

impl Walk {
    fn add<F: ReadAt + ?Sized>(
        &mut self,
        reader: &mut Reader<'_, F>,
        mut chain: Chain,
        number: usize,
    ) -> Result<(), Fault> {
        reader.seek(&mut chain, self.since)?;
        let next = reader.take(&mut chain)?;
        self.chains.push((chain, next, number));
        Ok(())
    }

    /// Reads the next entry into `entry`; the number of the field that it has, the first of them if it has several. Entries
    /// that are broken are counted and passed over; an error is that the file can't be read at all.
    pub fn next<F: ReadAt + ?Sized>(
        &mut self,
        reader: &mut Reader<'_, F>,
        entry: &mut Entry,
    ) -> Result<Option<usize>, Fault> {
        let last = reader.header().last();
        while let Some((at, number)) = self.take(reader)? {
            match reader.entry(at, entry) {
                Ok(()) if entry.seqnum > last => self.chains.clear(),
                Ok(()) if entry.realtime < self.since => self.pass(),
                Ok(()) if entry.realtime > self.until => {
                    self.later = self.later.saturating_add(1);
                    self.later_in_a_row = self.later_in_a_row.saturating_add(1);
                    self.pass();
                    if self.later_in_a_row > MOST_LATER {
                        self.end();
                    }
                }
                Ok(()) => {
                    self.later_in_a_row = 0;
                    return Ok(Some(number));
                }
                Err(fault @ Fault::Read(_)) => return Err(fault),
                Err(_) => reader.note_broken(),
            }
            if self.passed > MOST_PASSED || reader.is_given_up() {
                reader.note_broken();
                self.chains.clear();
            }
        }
        Ok(None)
    }

    /// How many entries came that are later than the window; an entry with several of the fields may count for each.
    pub fn later(&self) -> u64 {
        self.later
    }

    fn pass(&mut self) {
        self.passed = self.passed.saturating_add(1);
    }

    /// All that is left is later.
    fn end(&mut self) {
        for (chain, next, _) in self.chains.drain(..) {
            self.later = self.later.saturating_add(chain.rest()).saturating_add(u64::from(next.is_some()));
        }
    }

    /// The offset of the next entry, and the number of the field that leads to it.
    fn take<F: ReadAt + ?Sized>(&mut self, reader: &mut Reader<'_, F>) -> Result<Option<(u64, usize)>, Fault> {
        let next = self.chains.iter().filter_map(|(_, next, number)| Some(((*next)?, *number))).min();
        let Some((at, number)) = next else { return Ok(None) };
        for (chain, next, _) in &mut self.chains {
            if *next == Some(at) {
                *next = reader.take(chain)?;
            }
        }
        Ok(Some((at, number)))
    }
}
