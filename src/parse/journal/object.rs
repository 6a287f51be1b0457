//! Objects: their headers, DATA and ENTRY (`journal-def.h`).

use super::super::ReadAt;
use super::header::TIMES;
use super::payload::Form;
use super::{Fault, Id, Reader, id_at, length, offset, u32_at, u64_at};

/// Types of objects.
pub(super) const DATA: u8 = 1;
pub(super) const ENTRY: u8 = 3;
pub(super) const ENTRY_ARRAY: u8 = 6;
/// What every object begins with.
const HEAD: usize = 16;
/// An ENTRY before its items.
const ENTRY_HEAD: usize = 64;
/// journald takes 1024 fields for an entry.
const MOST_ITEMS: usize = 4096;

/// The header of an object, checked.
#[derive(Clone, Copy)]
pub(super) struct Head {
    flags: u8,
    /// Bytes of the object, header included.
    pub size: u64,
}

/// A DATA object.
pub(super) struct Data {
    pub hash: u64,
    pub next_hash: u64,
    /// The first entry that has it; the others are in the chain.
    pub entry: u64,
    pub entry_array: u64,
    /// How many there are.
    pub entries: u64,
    pub payload: Payload,
}

/// Where the payload of a DATA object lies.
pub(super) struct Payload {
    /// The offset of the object.
    pub object: u64,
    pub at: u64,
    pub size: u64,
    pub form: Form,
}

/// An entry: its times, and where its fields are ([`Reader::field`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the sequence that [`Header::seqnum_id`](super::Header::seqnum_id) names.
    pub seqnum: u64,
    /// When journald got it, in microseconds since 1970.
    pub realtime: u64,
    /// The same, in microseconds since the boot.
    pub monotonic: u64,
    /// The boot.
    pub boot_id: Id,
    /// A sum over its fields, the same in each file that has it.
    pub xor_hash: u64,
    /// The offsets of its DATA objects, the newest first.
    pub(super) items: Vec<u64>,
}

impl<F: ReadAt + ?Sized> Reader<'_, F> {
    /// The header of the object at this offset, which must be of that type and at least that large. A file that is being
    /// written may have got it since it was read: then it is read again.
    pub(super) fn head(&mut self, at: u64, kind: u8, least: usize) -> Result<Head, Fault> {
        match self.head_once(at, kind, least) {
            Err(Fault::Damaged { .. }) if self.is_being_written() => {
                self.blocks.forget(at);
                self.head_once(at, kind, least)
            }
            head => head,
        }
    }

    fn head_once(&mut self, at: u64, kind: u8, least: usize) -> Result<Head, Fault> {
        if !at.is_multiple_of(8) || at < self.header().size {
            return Err(Fault::damaged(at, "lies where none can"));
        }
        let bytes = self.blocks.get(at, HEAD)?;
        let cut = || Fault::damaged(at, "is cut off");
        let (found, flags) = (*bytes.first().ok_or_else(cut)?, *bytes.get(1).ok_or_else(cut)?);
        let size = u64_at(bytes, 8).ok_or_else(cut)?;
        if found != kind {
            return Err(Fault::damaged(at, "is of another type"));
        }
        if size < offset(least) || at.checked_add(size).is_none() {
            return Err(Fault::damaged(at, "has a size that can't be"));
        }
        Ok(Head { flags, size })
    }

    /// The DATA object at this offset.
    pub(super) fn data(&mut self, at: u64) -> Result<Data, Fault> {
        let least = if self.header().is_compact() { 72 } else { 64 };
        let head = self.head(at, DATA, least)?;
        let bytes = self.blocks.get(at, least)?;
        let number = |place| u64_at(bytes, place).ok_or(Fault::damaged(at, "is cut off"));
        Ok(Data {
            hash: number(16)?,
            next_hash: number(24)?,
            entry: number(40)?,
            entry_array: number(48)?,
            entries: number(56)?,
            payload: payload(at, head, least),
        })
    }

    /// Where the payload of the DATA object at this offset lies.
    pub(super) fn payload(&mut self, at: u64) -> Result<Payload, Fault> {
        let least = if self.header().is_compact() { 72 } else { 64 };
        let head = self.head(at, DATA, least)?;
        Ok(payload(at, head, least))
    }

    /// When the entry at this offset was made, in microseconds since 1970.
    pub(super) fn realtime(&mut self, at: u64) -> Result<u64, Fault> {
        self.head(at, ENTRY, ENTRY_HEAD)?;
        let time = u64_at(self.blocks.get(at, 32)?, 24).unwrap_or(0);
        if TIMES.contains(&time) { Ok(time) } else { Err(Fault::damaged(at, "was made at a time that can't be")) }
    }

    /// Reads the entry at this offset into `entry`, whose memory is used again. The newest one may be written just now.
    pub(super) fn entry(&mut self, at: u64, entry: &mut Entry) -> Result<(), Fault> {
        match self.entry_once(at, entry) {
            Err(Fault::Damaged { .. }) if self.is_being_written() => {
                self.blocks.forget(at);
                self.entry_once(at, entry)
            }
            read => read,
        }
    }

    fn entry_once(&mut self, at: u64, entry: &mut Entry) -> Result<(), Fault> {
        let head = self.head(at, ENTRY, ENTRY_HEAD)?;
        let is_compact = self.header().is_compact();
        let item = if is_compact { 4 } else { 16 };
        let size = length(head.size);
        if size.saturating_sub(ENTRY_HEAD) > MOST_ITEMS.saturating_mul(item) {
            return Err(Fault::damaged(at, "claims more fields than it can have"));
        }
        let bytes = self.blocks.get(at, size)?;
        let cut = || Fault::damaged(at, "is cut off");
        let number = |place| u64_at(bytes, place).ok_or_else(cut);
        (entry.seqnum, entry.realtime, entry.monotonic) = (number(16)?, number(24)?, number(32)?);
        entry.boot_id = id_at(bytes, 40).ok_or_else(cut)?;
        entry.xor_hash = number(56)?;
        if !TIMES.contains(&entry.realtime) || entry.monotonic >= TIMES.end || entry.seqnum == 0 {
            return Err(Fault::damaged(at, "has a time or a number that can't be"));
        }
        let offsets = bytes.get(ENTRY_HEAD..).unwrap_or_default().chunks_exact(item);
        entry.items.clear();
        entry.items.extend(offsets.filter_map(|item| match is_compact {
            true => u32_at(item, 0).map(u64::from),
            false => u64_at(item, 0),
        }));
        // What only this entry has was written with it.
        entry.items.sort_unstable_by(|one, other| other.cmp(one));
        Ok(())
    }
}

fn payload(object: u64, head: Head, before: usize) -> Payload {
    let before = offset(before);
    // Neither overflows: the header was checked.
    let (at, size) = (object.saturating_add(before), head.size.saturating_sub(before));
    Payload { object, at, size, form: Form::of(head.flags) }
}
