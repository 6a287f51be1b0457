//! Chains of arrays that name entries, in the order in which they were written.

use super::super::ReadAt;
use super::object::ENTRY_ARRAY;
use super::{Fault, Reader, u32_at, u64_at};

/// An array before its items.
const HEAD: usize = 24;
/// Each array is twice as large as the one before it.
const MOST_ARRAYS: usize = 512;
/// So many entries around the place where a window should begin may be broken, or out of order: before systemd 253 the
/// times of a file could go backwards.
const NEAR: u64 = 16;
/// So often a window is begun earlier than it should.
const MOST_STEPS: u32 = 1000;

/// Entries, by number.
#[derive(Default)]
pub(super) struct Chain {
    /// The first one, where it is in no array.
    first: Option<u64>,
    arrays: Vec<Array>,
    /// How many entries there are.
    count: u64,
    /// The number of the one that comes next.
    next: u64,
    /// The one that came before it: offsets only grow.
    newest: u64,
}

struct Array {
    /// The offset of its first item.
    items: u64,
    /// The number of the first entry that it names, and of the first that it does not.
    from: u64,
    below: u64,
}

impl Chain {
    /// How many entries were not taken yet.
    pub(super) fn rest(&self) -> u64 {
        self.count.saturating_sub(self.next)
    }
}

impl<F: ReadAt + ?Sized> Reader<'_, F> {
    /// The chain that begins with an entry, if it does, and goes on with an array, if it does. `count` is how many entries
    /// are in it as far as is known.
    pub(super) fn chain(&mut self, first: Option<u64>, array: u64, count: u64) -> Result<Chain, Fault> {
        let mut chain = Chain { first, ..Chain::default() };
        let (mut at, mut from) = (array, u64::from(first.is_some()));
        while at != 0 && from < count {
            match self.array(at, from) {
                Ok((array, next)) => {
                    from = array.below;
                    chain.arrays.push(array);
                    // The next one was written later. What a wrong one leads to is lost.
                    at = if next > at && chain.arrays.len() < MOST_ARRAYS { next } else { 0 };
                }
                Err(Fault::Damaged { .. }) => break,
                Err(fault) => return Err(fault),
            }
        }
        chain.count = from.min(count);
        self.trim(&mut chain)?;
        if chain.count < count {
            self.note_broken();
        }
        Ok(chain)
    }

    /// The array at this offset, and the one after it.
    fn array(&mut self, at: u64, from: u64) -> Result<(Array, u64), Fault> {
        let size = self.head(at, ENTRY_ARRAY, HEAD)?.size;
        let next = u64_at(self.blocks.get(at, HEAD)?, 16).unwrap_or(0);
        let size = size.saturating_sub(24);
        let items = if self.header().is_compact() { size / 4 } else { size / 8 };
        Ok((Array { items: at.saturating_add(24), from, below: from.saturating_add(items) }, next))
    }

    /// The offset of an entry.
    fn item(&mut self, chain: &Chain, number: u64) -> Result<u64, Fault> {
        if let (Some(first), 0) = (chain.first, number) {
            return Ok(first);
        }
        let none = Fault::damaged(0, "is in no array");
        let index = chain.arrays.partition_point(|array| array.below <= number);
        let Some(array) = chain.arrays.get(index) else { return Err(none) };
        let before = number.saturating_sub(array.from).saturating_mul(if self.header().is_compact() { 4 } else { 8 });
        let at = array.items.saturating_add(before);
        match self.item_at(at)? {
            0 if self.is_being_written() => {
                self.blocks.forget(at);
                self.item_at(at)
            }
            item => Ok(item),
        }
    }

    fn item_at(&mut self, at: u64) -> Result<u64, Fault> {
        let is_compact = self.header().is_compact();
        Ok(match is_compact {
            true => u32_at(self.blocks.get(at, 4)?, 0).unwrap_or(0).into(),
            false => u64_at(self.blocks.get(at, 8)?, 0).unwrap_or(0),
        })
    }

    fn is_used(&mut self, chain: &Chain, number: u64) -> Result<bool, Fault> {
        match self.item(chain, number) {
            Ok(item) => Ok(item != 0),
            Err(Fault::Damaged { .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Ends a chain where its items do: they are filled one after the other.
    fn trim(&mut self, chain: &mut Chain) -> Result<(), Fault> {
        let Some(last) = chain.count.checked_sub(1) else { return Ok(()) };
        if self.is_used(chain, last)? {
            return Ok(());
        }
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = low.midpoint(high);
            if self.is_used(chain, middle)? { low = middle.saturating_add(1) } else { high = middle }
        }
        chain.count = low;
        Ok(())
    }

    /// Begins a chain with the first entry from a time on (microseconds since 1970).
    pub(super) fn seek(&mut self, chain: &mut Chain, since: u64) -> Result<(), Fault> {
        // From the end, in steps that grow: a window is most often there.
        let (mut low, mut high, mut step) = (0, chain.count, 1_u64);
        while let Some(number) = chain.count.checked_sub(step).filter(|number| *number < high) {
            if self.is_before(chain, number, since)? {
                low = number.saturating_add(1);
                break;
            }
            (high, step) = (number, step.saturating_mul(2));
        }
        while low < high {
            let middle = low.midpoint(high);
            if self.is_before(chain, middle, since)? { low = middle.saturating_add(1) } else { high = middle }
        }
        for _ in 0..MOST_STEPS {
            match self.is_late(chain, low, since)? {
                Some(earlier) => low = earlier,
                None => break,
            }
        }
        chain.next = low;
        Ok(())
    }

    /// The earliest entry close before this one that belongs to the window all the same.
    fn is_late(&mut self, chain: &Chain, number: u64, since: u64) -> Result<Option<u64>, Fault> {
        for before in number.saturating_sub(NEAR)..number {
            let item = self.item(chain, before);
            match item.and_then(|item| self.realtime(item)) {
                Ok(time) if time >= since => return Ok(Some(before)),
                Ok(_) | Err(Fault::Damaged { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }

    /// When the last sound entry close before the next one was made.
    pub(super) fn before(&mut self, chain: &Chain) -> Result<Option<u64>, Fault> {
        for number in (chain.next.saturating_sub(NEAR)..chain.next).rev() {
            let item = self.item(chain, number);
            match item.and_then(|item| self.realtime(item)) {
                Ok(time) => return Ok(Some(time)),
                Err(Fault::Damaged { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }

    /// Whether an entry was made before a time; of a broken one, the next that is sound tells.
    fn is_before(&mut self, chain: &Chain, number: u64, since: u64) -> Result<bool, Fault> {
        for number in number..chain.count.min(number.saturating_add(NEAR)) {
            let item = self.item(chain, number);
            match item.and_then(|item| self.realtime(item)) {
                Ok(time) => return Ok(time < since),
                Err(Fault::Damaged { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(false)
    }

    /// The offset of the next entry. Items that name nothing new are counted and passed over.
    pub(super) fn take(&mut self, chain: &mut Chain) -> Result<Option<u64>, Fault> {
        while chain.next < chain.count && !self.is_given_up() {
            let item = self.item(chain, chain.next);
            chain.next = chain.next.saturating_add(1);
            match item {
                Ok(item) if item > chain.newest => {
                    chain.newest = item;
                    return Ok(Some(item));
                }
                Ok(_) | Err(Fault::Damaged { .. }) => self.note_broken(),
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }
}
