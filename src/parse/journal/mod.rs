//! Files of systemd's journal (`JOURNAL_FILE_FORMAT.md`, `journal-def.h`), read while journald writes.
//!
//! A file holds objects, which lie at offsets that are multiples of 8. An ENTRY names the DATA objects that hold its fields
//! (`FIELD=value`, each value once a file), and each DATA object names the entries that have it. All that names entries
//! does so in a chain of arrays, in the order in which they were written. A hash table leads from a value to its DATA
//! object, so that the entries of one unit are found without looking at the others.
//!
//! journald takes no lock and expects none: it writes an object first and links it afterwards. What a reader finds is
//! checked each time, and what is not as it should be may be so only for now ([`Reader`] looks twice at a file that is
//! being written). What stays wrong costs only itself and is counted.
//!
//! All numbers are little-endian. Times are microseconds since 1970 (realtime) or since the boot (monotonic).

mod blocks;
mod chain;
mod hash;
mod header;
mod object;
mod payload;
mod reader;
mod walk;

use std::io;

pub use header::{Header, Id, State};
pub use object::Entry;
pub use reader::Reader;
pub use walk::Walk;

/// Why a file, or a part of one, can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file could not be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It does not begin as a journal.
    #[error("it is no journal: {0}")]
    NoJournal(&'static str),
    /// It is of a format that is newer than what is known here. Whoever does not know such a flag must not read on.
    #[error("it has the incompatible flag {0:#x} (a newer journal format)")]
    Incompatible(u32),
    /// An object is not as journald writes it.
    #[error("the object at {at}: {why}")]
    Damaged {
        /// Its offset in the file.
        at: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A field that is there and sound, and is not read.
    #[error("the field at {at} is not read: {why}")]
    Unread {
        /// The offset of its DATA object.
        at: u64,
        /// Why not.
        why: &'static str,
    },
}

impl Fault {
    fn damaged(at: u64, why: &'static str) -> Fault {
        Fault::Damaged { at, why }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn id_at(bytes: &[u8], at: usize) -> Option<Id> {
    Some(*bytes.get(at..)?.first_chunk()?)
}

/// More than this is cut off before it comes here.
fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn offset(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// What must hold for any bytes: no panic, an end, and the same whether it is read in blocks or in parts.
pub fn fuzz(data: &[u8]) {
    payload::fuzz(data);
    let told = |reader: Result<Reader<'_, [u8]>, Fault>| {
        let mut told = Vec::new();
        let Ok(mut reader) = reader else { return told };
        let matches: [&[&[u8]]; 3] = [&[], &[b"_SYSTEMD_UNIT=a.service", b"PRIORITY=6"], &[b"MESSAGE=", b"N=1"]];
        for (matches, since) in matches.into_iter().zip([0, 1_700_000_000_000_000, 1]) {
            let Ok(mut walk) = reader.walk(matches, since, 1_800_000_000_000_000) else { continue };
            let mut entry = Entry::default();
            while let Ok(Some(by)) = walk.next(&mut reader, &mut entry) {
                let field = |reader: &mut Reader<'_, [u8]>, name: &[u8]| match reader.field(&entry, name) {
                    Ok(field) => field.map(<[u8]>::to_vec),
                    Err(fault) => Some(fault.to_string().into_bytes()),
                };
                let fields = (field(&mut reader, b"MESSAGE"), field(&mut reader, b"PRIORITY"));
                told.push((by, entry.seqnum, entry.realtime, fields));
            }
            told.push((reader.header().state.into(), walk.later(), reader.broken(), (None, None)));
        }
        told
    };
    assert_eq!(told(Reader::open(data)), told(Reader::open(data).map(Reader::in_parts)));
}

#[cfg(test)]
mod tests;
