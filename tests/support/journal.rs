//! Writes small journal files, as journald does but for the sizes: hash tables of a few buckets, no room to grow.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::collections::BTreeMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// How long payloads are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Compression {
    None,
    Lz4,
    Zstd,
    /// Says so; nobody decodes it.
    Xz,
}

/// A variant of the format.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// 240 (systemd up to 245), 256 (251), 264 (253) or 272.
    pub header: usize,
    pub is_keyed: bool,
    pub is_compact: bool,
    pub compression: Compression,
    /// In the hash table of the DATA objects: few make long chains.
    pub buckets: u64,
}

pub const NEWEST: Format =
    Format { header: 272, is_keyed: true, is_compact: true, compression: Compression::Zstd, buckets: 16 };
pub const OLDEST: Format =
    Format { header: 240, is_keyed: false, is_compact: false, compression: Compression::Lz4, buckets: 16 };

/// journald compresses a payload from this size on.
const COMPRESSED_FROM: usize = 512;
pub const FILE_ID: [u8; 16] = *b"the id of a file";
pub const BOOT_ID: [u8; 16] = *b"the id of a boot";
const SEQNUM_ID: [u8; 16] = *b"of the numbers .";

/// Entries in the order in which they were written: arrays, and how many there are.
#[derive(Default)]
struct Chain {
    /// Offset, room, and how many items are used.
    arrays: Vec<(u64, u64, u64)>,
}

/// What a DATA object's bookkeeping needs.
#[derive(Default)]
struct Data {
    at: u64,
    count: u64,
    chain: Chain,
}

pub struct Writer {
    format: Format,
    pub bytes: Vec<u8>,
    data: BTreeMap<Vec<u8>, Data>,
    /// The last DATA object of each bucket.
    tails: BTreeMap<u64, u64>,
    chain: Chain,
    table: u64,
    objects: u64,
    pub entries: u64,
}

impl Writer {
    pub fn new(format: Format) -> Writer {
        Writer::with_file_id(format, FILE_ID)
    }

    pub fn with_file_id(format: Format, file_id: [u8; 16]) -> Writer {
        let mut writer = Writer {
            format,
            bytes: vec![0; format.header],
            data: BTreeMap::new(),
            tails: BTreeMap::new(),
            chain: Chain::default(),
            table: 0,
            objects: 0,
            entries: 0,
        };
        let compression = match format.compression {
            Compression::None => 0,
            Compression::Xz => 1,
            Compression::Lz4 => 2,
            Compression::Zstd => 8,
        };
        let flags = compression | u32::from(format.is_keyed) << 2 | u32::from(format.is_compact) << 4;
        writer.bytes[..8].copy_from_slice(b"LPKSHHRH");
        writer.bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        for (at, id) in [(24, file_id), (40, [7; 16]), (56, BOOT_ID), (72, SEQNUM_ID)] {
            writer.bytes[at..at + 16].copy_from_slice(&id);
        }
        let fields = writer.object(5, 0, &[0; 16 * 4]);
        writer.table = writer.object(4, 0, &vec![0; 16 * format.buckets as usize]) + 16;
        writer.put(88, format.header as u64);
        for (at, value) in [(104, writer.table), (112, 16 * format.buckets), (120, fields + 16), (128, 16 * 4)] {
            writer.put(at, value);
        }
        writer.state(1);
        writer
    }

    /// 0 offline, 1 online, 2 archived.
    pub fn state(&mut self, state: u8) {
        self.bytes[16] = state;
    }

    pub fn put(&mut self, at: u64, value: u64) {
        self.bytes[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub fn get(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes[at as usize..at as usize + 8].try_into().unwrap())
    }

    /// An object with a body, at the end.
    fn object(&mut self, kind: u8, flags: u8, body: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len() as u64;
        self.bytes.extend([kind, flags, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend((16 + body.len() as u64).to_le_bytes());
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.objects += 1;
        self.put(96, self.bytes.len() as u64 - self.format.header as u64);
        self.put(136, at);
        self.put(144, self.objects);
        at
    }

    /// Adds an entry with these fields (`FIELD=value`); its offset.
    pub fn entry(&mut self, realtime: u64, fields: &[&[u8]]) -> u64 {
        let monotonic = realtime % 1_000_000_000_000;
        let mut items: Vec<(u64, u64)> = fields.iter().map(|field| self.data(field)).collect();
        items.sort_unstable();
        items.dedup();
        let mut body = Vec::new();
        let seqnum = self.entries + 1;
        for value in [seqnum, realtime, monotonic] {
            body.extend(value.to_le_bytes());
        }
        body.extend(BOOT_ID);
        let xor = fields.iter().fold(0, |sum, field| sum ^ jenkins(field));
        body.extend(xor.to_le_bytes());
        for (at, hash) in &items {
            if self.format.is_compact {
                body.extend((*at as u32).to_le_bytes());
            } else {
                body.extend(at.to_le_bytes());
                body.extend(hash.to_le_bytes());
            }
        }
        let at = self.object(3, 0, &body);
        let mut chain = std::mem::take(&mut self.chain);
        self.link(&mut chain, 176, at);
        self.chain = chain;
        if self.entries == 0 {
            self.put(168, seqnum);
            self.put(184, realtime);
        }
        self.entries += 1;
        for (place, value) in [(152, self.entries), (160, seqnum), (192, realtime), (200, monotonic)] {
            self.put(place, value);
        }
        let fields: std::collections::BTreeSet<&&[u8]> = fields.iter().collect();
        for field in fields {
            let mut data = self.data.remove(*field).unwrap();
            match data.count {
                0 => self.put(data.at + 40, at),
                _ => self.link(&mut data.chain, data.at + 48, at),
            }
            data.count += 1;
            self.put(data.at + 56, data.count);
            if let Some((array, _, used)) = data.chain.arrays.last().filter(|_| self.format.is_compact) {
                self.put(data.at + 64, array | used << 32);
            }
            self.data.insert(field.to_vec(), data);
        }
        at
    }

    /// Adds an item to a chain whose first array is named at `root`.
    fn link(&mut self, chain: &mut Chain, root: u64, entry: u64) {
        let size = if self.format.is_compact { 4 } else { 8 };
        if chain.arrays.last().is_none_or(|(_, room, used)| room == used) {
            let room = chain.arrays.last().map_or(4, |(_, room, _)| room * 2);
            let array = self.object(6, 0, &vec![0; 8 + (room * size) as usize]);
            let before = chain.arrays.last().map_or(root, |(before, ..)| before + 16);
            self.put(before, array);
            chain.arrays.push((array, room, 0));
        }
        let (array, _, used) = chain.arrays.last_mut().unwrap();
        let at = (*array + 24 + *used * size) as usize;
        self.bytes[at..at + size as usize].copy_from_slice(&entry.to_le_bytes()[..size as usize]);
        *used += 1;
    }

    /// The offset and the hash of the DATA object with this payload.
    fn data(&mut self, field: &[u8]) -> (u64, u64) {
        let hash = match self.format.is_keyed {
            true => {
                let mut hasher = SipHasher24::new_with_key(self.bytes[24..40].try_into().unwrap());
                hasher.write(field);
                hasher.finish()
            }
            false => jenkins(field),
        };
        if let Some(data) = self.data.get(field) {
            return (data.at, hash);
        }
        let (flags, payload) = match self.format.compression {
            _ if field.len() < COMPRESSED_FROM => (0, field.to_vec()),
            Compression::None => (0, field.to_vec()),
            Compression::Xz => (1, [b"\xfd7zXZ\0", &field[..20]].concat()),
            Compression::Lz4 => (2, lz4(field)),
            Compression::Zstd => (4, zstd(field)),
        };
        let mut body = vec![0; if self.format.is_compact { 56 } else { 48 }];
        body[..8].copy_from_slice(&hash.to_le_bytes());
        body.extend(payload);
        let at = self.object(1, flags, &body);
        let bucket = hash % self.format.buckets;
        let place = self.table + 16 * bucket;
        match self.tails.insert(bucket, at) {
            None => self.put(place, at),
            Some(before) => self.put(before + 24, at),
        }
        self.put(place + 8, at);
        self.data.insert(field.to_vec(), Data { at, ..Data::default() });
        (at, hash)
    }

    /// The offset of the DATA object with this payload.
    pub fn data_at(&self, field: &[u8]) -> u64 {
        self.data[field].at
    }
}

fn lz4(field: &[u8]) -> Vec<u8> {
    [&(field.len() as u64).to_le_bytes()[..], &lz4_flex::block::compress(field)].concat()
}

/// One raw block.
fn zstd(field: &[u8]) -> Vec<u8> {
    let size = field.len() as u32;
    let mut frame = b"\x28\xb5\x2f\xfd\xa0".to_vec();
    frame.extend(size.to_le_bytes());
    frame.extend(&(size << 3 | 1).to_le_bytes()[..3]);
    frame.extend(field);
    frame
}

/// `jenkins_hash64` of systemd, after the text of lookup3.c.
fn jenkins(bytes: &[u8]) -> u64 {
    let begin = 0xdead_beef_u32.wrapping_add(bytes.len() as u32);
    let mut s = [begin; 3];
    let mut rest = bytes;
    let add = |s: &mut [u32; 3], part: &[u8]| {
        for (at, byte) in part.iter().enumerate() {
            s[at / 4] = s[at / 4].wrapping_add(u32::from(*byte) << (8 * (at % 4)));
        }
    };
    while rest.len() > 12 {
        add(&mut s, &rest[..12]);
        for (x, y, z, by) in [(0, 2, 1, 4), (1, 0, 2, 6), (2, 1, 0, 8), (0, 2, 1, 16), (1, 0, 2, 19), (2, 1, 0, 4)] {
            s[x] = s[x].wrapping_sub(s[y]) ^ s[y].rotate_left(by);
            s[y] = s[y].wrapping_add(s[z]);
        }
        rest = &rest[12..];
    }
    if !rest.is_empty() {
        add(&mut s, rest);
        for (x, y, by) in [(2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24)] {
            s[x] = (s[x] ^ s[y]).wrapping_sub(s[y].rotate_left(by));
        }
    }
    u64::from(s[2]) << 32 | u64::from(s[1])
}
