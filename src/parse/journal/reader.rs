//! A file that is being read.

use super::super::ReadAt;
use super::blocks::Blocks;
use super::chain::Chain;
use super::header::TIMES;
use super::object::Payload;
use super::payload::{Decoder, Form, LARGEST};
use super::{Entry, Fault, Header, State, hash, length, offset, u64_at};

/// Objects of one bucket: journald makes a new file when it has three for each four buckets.
const MOST_IN_BUCKET: usize = 4096;
/// A file that has more broken parts is given up.
const MOST_BROKEN: u64 = 10_000;

/// A journal file, read in blocks of 16 KiB of which up to 2 MiB are remembered.
pub struct Reader<'f, F: ?Sized> {
    header: Header,
    pub(super) blocks: Blocks<'f, F>,
    decoder: Decoder,
    broken: u64,
}

impl<'f, F: ReadAt + ?Sized> Reader<'f, F> {
    /// Reads the header.
    pub fn open(file: &'f F) -> Result<Reader<'f, F>, Fault> {
        let header = Header::read(file)?;
        Ok(Reader { header, blocks: Blocks::new(file), decoder: Decoder::default(), broken: 0 })
    }

    /// The same, but only what is needed is read, and nothing beside it: slower, for recordings.
    pub fn in_parts(self) -> Reader<'f, F> {
        Reader { blocks: self.blocks.in_parts(), ..self }
    }

    /// The header as it was when the file was opened.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many parts were wrong so far: entries, fields, and what leads to them.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    pub(super) fn note_broken(&mut self) {
        self.broken = self.broken.saturating_add(1);
    }

    /// Whether so much was wrong that nothing more is read.
    pub fn is_given_up(&self) -> bool {
        self.broken > MOST_BROKEN
    }

    /// journald closes a file that nothing was written to for minutes, and opens it again.
    pub(super) fn is_being_written(&self) -> bool {
        self.header.state != State::Archived
    }

    /// All entries.
    pub(super) fn all(&mut self) -> Result<Chain, Fault> {
        self.chain(None, self.header.entry_array, self.header.entries)
    }

    /// When the last entry was made that is not later than `until`, in microseconds since 1970.
    pub fn newest(&mut self, until: u64) -> Result<Option<u64>, Fault> {
        let tail = self.header.tail_realtime;
        if TIMES.contains(&tail) && tail <= until {
            return Ok(Some(tail));
        }
        let mut all = self.all()?;
        self.seek(&mut all, until.saturating_add(1))?;
        self.before(&all)
    }

    /// The entries that have this field, `FIELD=value`.
    pub(super) fn having(&mut self, field: &[u8]) -> Result<Option<Chain>, Fault> {
        match self.find(field) {
            Ok(None) => Ok(None),
            Ok(Some((first, array, count))) => {
                let first = Some(first).filter(|first| *first != 0);
                self.chain(first, array, count).map(Some)
            }
            Err(Fault::Damaged { .. } | Fault::Unread { .. }) => {
                self.note_broken();
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// The DATA object with this payload: its first entry, its array and how many entries it has.
    fn find(&mut self, payload: &[u8]) -> Result<Option<(u64, u64, u64)>, Fault> {
        let hash = hash_of(&self.header, payload);
        let (table, buckets) = self.header.data_hash_table;
        let Some(bucket) = hash.checked_rem(buckets) else { return Ok(None) };
        let at = table.saturating_add(bucket.saturating_mul(16));
        let mut next = u64_at(self.blocks.get(at, 8)?, 0).unwrap_or(0);
        for _ in 0..MOST_IN_BUCKET {
            if next == 0 {
                return Ok(None);
            }
            let at = next;
            let data = self.data(at)?;
            if data.hash == hash && self.is_payload(&data.payload, payload)? {
                return Ok(Some((data.entry, data.entry_array, data.entries)));
            }
            next = data.next_hash;
            if next != 0 && next <= at {
                return Err(Fault::damaged(at, "is followed by one before it"));
            }
        }
        Err(Fault::damaged(next, "is one of too many in a bucket"))
    }

    fn is_payload(&mut self, payload: &Payload, wanted: &[u8]) -> Result<bool, Fault> {
        match payload.form {
            Form::Plain if payload.size != offset(wanted.len()) => Ok(false),
            Form::Plain => Ok(self.blocks.get(payload.at, wanted.len())? == wanted),
            _ => {
                self.decode(payload)?;
                Ok(self.decoder.plain == wanted)
            }
        }
    }

    fn decode(&mut self, payload: &Payload) -> Result<(), Fault> {
        let size = read_size(payload)?;
        let bytes = self.blocks.get(payload.at, size)?;
        self.decoder.decode(payload.object, &payload.form, bytes)
    }

    /// The value of an entry's field, `None` where it has none; of several with one name, the one that was new last. Where
    /// none is found, and one that can't be read may have been it, that is the error.
    pub fn field(&mut self, entry: &Entry, name: &[u8]) -> Result<Option<&[u8]>, Fault> {
        let mut wrong = None;
        let mut found = None;
        for at in &entry.items {
            match self.is_field(*at, name) {
                Ok(Some(payload)) => {
                    found = Some(payload);
                    break;
                }
                Ok(None) => {}
                Err(fault @ Fault::Read(_)) => return Err(fault),
                Err(fault) => wrong = wrong.or(Some(fault)),
            }
        }
        let payload = match (found, wrong) {
            (Some(payload), _) => payload,
            // It may have been that one.
            (None, Some(fault)) => return Err(fault),
            (None, None) => return Ok(None),
        };
        let hash = self.data(payload.object)?.hash;
        let bytes = match payload.form {
            Form::Plain => self.blocks.get(payload.at, read_size(&payload)?)?,
            _ => &self.decoder.plain,
        };
        // journald makes holes where files were, and a disk may have its own.
        if hash_of(&self.header, bytes) != hash {
            return Err(Fault::damaged(payload.object, "is not what its hash is of"));
        }
        Ok(bytes.get(name.len().saturating_add(1)..))
    }

    /// The payload of the DATA object at this offset, if it is a field of this name; one that is compressed is decoded by
    /// then.
    fn is_field(&mut self, at: u64, name: &[u8]) -> Result<Option<Payload>, Fault> {
        let payload = self.payload(at)?;
        let is_it = |bytes: &[u8]| bytes.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&b'='));
        let is_it = match payload.form {
            Form::Plain => {
                let size = length(payload.size).min(name.len().saturating_add(1));
                is_it(self.blocks.get(payload.at, size)?)
            }
            _ => {
                self.decode(&payload)?;
                is_it(&self.decoder.plain)
            }
        };
        Ok(Some(payload).filter(|_| is_it))
    }
}

fn hash_of(header: &Header, payload: &[u8]) -> u64 {
    match header.is_keyed() {
        true => hash::siphash24(&header.file_id, payload),
        false => hash::jenkins(payload),
    }
}

/// How many bytes are read of it.
fn read_size(payload: &Payload) -> Result<usize, Fault> {
    match length(payload.size) {
        size if size > LARGEST => Err(Fault::Unread { at: payload.object, why: "it is larger than 1 MiB" }),
        size => Ok(size),
    }
}
