//! The bytes of a file, read block by block: what belongs together was written at the same time and lies side by side.

use super::super::ReadAt;
use super::{Fault, length};

/// Small enough for a few objects here and there, large enough for a walk along the entries.
const BLOCK: u64 = 16 << 10;
const BLOCK_SIZE: usize = 16 << 10;
/// So many blocks are remembered, each in the one place that its number gives it: 2 MiB.
const PLACES: u64 = 128;
/// What is looked at a second time, from an offset on.
const AGAIN: u64 = 64 << 10;
const NONE: u64 = u64::MAX;

pub(super) struct Blocks<'f, F: ?Sized> {
    file: &'f F,
    places: Vec<Place>,
    /// What lies in more than one block.
    joined: Vec<u8>,
    /// Read exactly what is asked for.
    in_parts: bool,
}

struct Place {
    number: u64,
    bytes: Vec<u8>,
}

impl<'f, F: ReadAt + ?Sized> Blocks<'f, F> {
    pub(super) fn new(file: &'f F) -> Blocks<'f, F> {
        Blocks { file, places: Vec::new(), joined: Vec::new(), in_parts: false }
    }

    pub(super) fn in_parts(self) -> Blocks<'f, F> {
        Blocks { in_parts: true, ..self }
    }

    /// So many bytes from `at` on. `size` is bounded by who asks.
    pub(super) fn get(&mut self, at: u64, size: usize) -> Result<&[u8], Fault> {
        let beyond = || Fault::damaged(at, "lies beyond the end of the file");
        let from = length(at % BLOCK);
        let end = from.checked_add(size).ok_or_else(beyond)?;
        if self.in_parts || end > BLOCK_SIZE {
            self.joined.resize(size, 0);
            return match self.file.read_at(at, &mut self.joined)? == size {
                true => Ok(&self.joined),
                false => Err(beyond()),
            };
        }
        let number = at / BLOCK;
        self.block(number)?.get(from..end).ok_or_else(beyond)
    }

    /// Forgets what was read from `at` on.
    pub(super) fn forget(&mut self, at: u64) {
        let numbers = at / BLOCK..=at.saturating_add(AGAIN) / BLOCK;
        for place in &mut self.places {
            if numbers.contains(&place.number) {
                place.number = NONE;
            }
        }
    }

    fn block(&mut self, number: u64) -> Result<&[u8], Fault> {
        if self.places.is_empty() {
            self.places.resize_with(length(PLACES), || Place { number: NONE, bytes: Vec::new() });
        }
        let beyond = || Fault::damaged(number.saturating_mul(BLOCK), "lies beyond the end of the file");
        let place = self.places.get_mut(length(number % PLACES)).ok_or_else(beyond)?;
        if place.number != number {
            place.number = NONE;
            place.bytes.resize(BLOCK_SIZE, 0);
            let count = self.file.read_at(number.checked_mul(BLOCK).ok_or_else(beyond)?, &mut place.bytes)?;
            place.bytes.truncate(count);
            place.number = number;
        }
        Ok(&place.bytes)
    }
}
