//! The header of a file (`journal-def.h`, struct Header).

use super::super::ReadAt;
use super::{Fault, id_at, u32_at, u64_at};

/// systemd's `sd_id128_t`: of a machine, a boot, a file, a sequence of numbers.
pub type Id = [u8; 16];

const SIGNATURE: &[u8; 8] = b"LPKSHHRH";
/// What every revision of the header has. Later ones (systemd 187 to 254) added nothing that is needed here.
const LEAST: usize = 208;
const XZ: u32 = 1;
const LZ4: u32 = 2;
const KEYED_HASH: u32 = 4;
const ZSTD: u32 = 8;
const COMPACT: u32 = 16;
/// A time of a valid object is below (`VALID_REALTIME`, `VALID_MONOTONIC`).
pub(super) const TIMES: std::ops::Range<u64> = 1..1 << 55;

/// What the file was doing when it was written to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Closed.
    Offline,
    /// Being written, or left so by a crash.
    Online,
    /// Closed for ever.
    Archived,
    /// None of those that are known.
    Other(u8),
}

impl From<State> for usize {
    fn from(state: State) -> usize {
        match state {
            State::Offline => 0,
            State::Online => 1,
            State::Archived => 2,
            State::Other(number) => number.into(),
        }
    }
}

/// The header of a file. Of one that is being written, the numbers and times at its tail change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Whether it is being written.
    pub state: State,
    /// Of this file, whatever its name is.
    pub file_id: Id,
    /// Of the machine that wrote it; zeros where somebody else did (systemd-journal-remote).
    pub machine_id: Id,
    /// What the sequence numbers of its entries belong to.
    pub seqnum_id: Id,
    /// Bytes that it takes itself.
    pub size: u64,
    /// How many entries there are.
    pub entries: u64,
    /// The first entry's sequence number.
    pub head_seqnum: u64,
    /// The last entry's.
    pub tail_seqnum: u64,
    /// When the first entry was made, in microseconds since 1970. 0 where there is none, or it was not written down.
    pub head_realtime: u64,
    /// When the last entry was made, likewise.
    pub tail_realtime: u64,
    flags: u32,
    /// Where the hash table of the DATA objects is, and how many buckets it has.
    pub(super) data_hash_table: (u64, u64),
    /// The first array of all entries.
    pub(super) entry_array: u64,
}

impl Header {
    /// Reads a file's header. One with a flag that is not known here is an error: everything in it may be otherwise.
    pub fn read<F: ReadAt + ?Sized>(file: &F) -> Result<Header, Fault> {
        let mut bytes = [0; LEAST];
        let length = file.read_at(0, &mut bytes)?;
        let bytes = bytes.get(..length).unwrap_or_default();
        Header::of(bytes)
    }

    fn of(bytes: &[u8]) -> Result<Header, Fault> {
        if bytes.is_empty() {
            return Err(Fault::NoJournal("it is empty (0 bytes)"));
        }
        if bytes.get(..8).is_some_and(|signature| signature != SIGNATURE) {
            return Err(Fault::NoJournal("no signature"));
        }
        let whole = |bytes: &[u8]| {
            let number = |at| u64_at(bytes, at);
            Some(Header {
                flags: u32_at(bytes, 12)?,
                state: match *bytes.get(16)? {
                    0 => State::Offline,
                    1 => State::Online,
                    2 => State::Archived,
                    other => State::Other(other),
                },
                file_id: id_at(bytes, 24)?,
                machine_id: id_at(bytes, 40)?,
                seqnum_id: id_at(bytes, 72)?,
                size: number(88)?,
                data_hash_table: (number(104)?, number(112)? >> 4),
                entries: number(152)?,
                tail_seqnum: number(160)?,
                head_seqnum: number(168)?,
                entry_array: number(176)?,
                head_realtime: number(184)?,
                tail_realtime: number(192)?,
            })
        };
        let header =
            whole(bytes).filter(|_| bytes.len() >= LEAST).ok_or(Fault::NoJournal("the file ends in its header"))?;
        let unknown = header.flags & !(XZ | LZ4 | KEYED_HASH | ZSTD | COMPACT);
        if unknown != 0 {
            return Err(Fault::Incompatible(unknown));
        }
        let (table, buckets) = header.data_hash_table;
        match () {
            () if header.size < super::offset(LEAST) || !header.size.is_multiple_of(8) => {
                Err(Fault::NoJournal("its header has a size that can't be"))
            }
            () if buckets > 0 && (!table.is_multiple_of(8) || table < header.size) => {
                Err(Fault::NoJournal("its hash table lies where none can"))
            }
            () => Ok(header),
        }
    }

    /// Offsets and entries of 4 bytes (flag COMPACT, systemd 252 and later).
    pub(super) fn is_compact(&self) -> bool {
        self.flags & COMPACT != 0
    }

    /// SipHash, not Jenkins' (flag KEYED_HASH, systemd 246 and later).
    pub(super) fn is_keyed(&self) -> bool {
        self.flags & KEYED_HASH != 0
    }

    /// The number of the last entry that there was when the header was read. What is written from then on may be in one chain
    /// and not yet in another, and is of no look that began before it.
    pub(super) fn last(&self) -> u64 {
        match self.state {
            State::Offline | State::Online if (1..=self.tail_seqnum).contains(&self.head_seqnum) => self.tail_seqnum,
            _ => u64::MAX,
        }
    }

    /// Whether an entry of these times, in microseconds, may be in it. A time that was not written down says nothing, and
    /// the tail of a file that is being written is later than it was.
    pub fn may_overlap(&self, since: u64, until: u64) -> bool {
        let is_before = TIMES.contains(&self.tail_realtime) && self.tail_realtime < since;
        let is_after = TIMES.contains(&self.head_realtime) && self.head_realtime > until;
        self.entries > 0 && !is_before && !is_after
    }
}
