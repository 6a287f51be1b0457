#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::cell::RefCell;
use std::io;

use super::super::ReadAt;
use super::{Entry, Fault, Reader, fuzz};
use crate::journal_writer::{Compression, Format, NEWEST, OLDEST, Writer};

const T: u64 = 1_795_000_000_000_000;
const A: &[u8] = b"_SYSTEMD_UNIT=a.service";
const B: &[u8] = b"_SYSTEMD_UNIT=b.service";

fn formats() -> Vec<Format> {
    let mut formats = Vec::new();
    for header in [240, 256, 264, 272] {
        for (is_keyed, is_compact) in [(false, false), (true, false), (false, true), (true, true)] {
            for compression in [Compression::None, Compression::Lz4, Compression::Zstd, Compression::Xz] {
                formats.push(Format { header, is_keyed, is_compact, compression, buckets: 8 });
            }
        }
    }
    formats
}

/// What a walk gave: by which field, seconds since [`T`], and the message's end.
fn walked<F: ReadAt + ?Sized>(reader: &mut Reader<'_, F>, fields: &[&[u8]], since: u64, until: u64) -> Vec<String> {
    let (mut told, mut entry) = (Vec::new(), Entry::default());
    let mut walk = reader.walk(fields, since, until).unwrap();
    while let Some(by) = walk.next(reader, &mut entry).unwrap() {
        let second = (entry.realtime - T) / 1_000_000;
        let message = match reader.field(&entry, b"MESSAGE") {
            Ok(message) => String::from_utf8_lossy(message.unwrap_or(b"none")).into_owned(),
            Err(fault) => fault.to_string(),
        };
        let end: String = message.chars().skip(message.len().saturating_sub(40)).collect();
        told.push(format!("{by} {second} {end}"));
    }
    told
}

fn all(file: &[u8]) -> (Vec<String>, u64) {
    fuzz(file);
    let mut reader = Reader::open(file).unwrap();
    (walked(&mut reader, &[], 0, u64::MAX), reader.broken())
}

/// Entries of two units in turns, one a second; each tenth message is long.
fn file(format: Format, count: u64) -> Writer {
    let mut writer = Writer::new(format);
    for number in 0..count {
        let message = match number % 10 {
            9 => format!("MESSAGE={}{number}", "x".repeat(600)),
            _ => format!("MESSAGE=text {number}"),
        };
        let unit = if number % 3 == 0 { A } else { B };
        writer.entry(T + number * 1_000_000, &[message.as_bytes(), unit, b"PRIORITY=6", b"_TRANSPORT=stdout"]);
    }
    writer
}

#[test]
fn every_format_is_read() {
    for format in formats() {
        let bytes = file(format, 100).bytes;
        let (entries, broken) = all(&bytes);
        assert_eq!((entries.len(), broken), (100, 0), "{format:?}");
        for (number, line) in entries.iter().enumerate() {
            let text = match (number % 10, format.compression) {
                (9, Compression::Xz) => "is not read: it is compressed with XZ".to_owned(),
                (9, _) => format!("xx{number}"),
                _ => format!("0 {number} text {number}"),
            };
            assert!(line.ends_with(&text), "{format:?}: {line}");
        }
        let mut reader = Reader::open(&bytes).unwrap();
        assert_eq!(walked(&mut reader, &[A], 0, u64::MAX).len(), 34);
        assert_eq!(walked(&mut reader, &[B], 0, u64::MAX).len(), 66);
        assert_eq!(walked(&mut reader, &[B, A], 0, u64::MAX).len(), 100);
        assert_eq!(walked(&mut reader, &[A, b"PRIORITY=6"], T, u64::MAX)[..2], ["0 0 text 0", "1 1 text 1"]);
        assert_eq!(walked(&mut reader, &[b"PRIORITY=7"], 0, u64::MAX), [""; 0]);
        let mut entry = Entry::default();
        reader.walk(&[A], 0, u64::MAX).unwrap().next(&mut reader, &mut entry).unwrap();
        assert_eq!(reader.field(&entry, b"PRIORITY").unwrap(), Some(&b"6"[..]));
        assert_eq!(reader.field(&entry, b"PRIO").unwrap(), None);
    }
}

/// Each window that begins or ends at or beside an entry, by brute force.
#[test]
fn windows() {
    for count in [0, 1, 2, 3, 17, 40] {
        for format in [OLDEST, NEWEST] {
            let bytes = file(format, count).bytes;
            let mut reader = Reader::open(&bytes).unwrap();
            for since in 0..=count {
                for until in since..=count + 1 {
                    for (field, is_it) in [(None, 0..3), (Some(A), 0..1), (Some(B), 1..3)] {
                        let fields: Vec<&[u8]> = field.into_iter().collect();
                        let at = |second: u64| T + second * 1_000_000;
                        let got = walked(&mut reader, &fields, at(since), at(until) - 1).len();
                        let want = (since..until.min(count)).filter(|number| is_it.contains(&(number % 3))).count();
                        assert_eq!(got, want, "{count} entries, {since}..{until}, {fields:?}");
                    }
                }
            }
        }
    }
}

/// Before systemd 253 a clock that was set back a little did not begin a new file.
#[test]
fn times_that_go_backwards() {
    let mut writer = Writer::new(OLDEST);
    let seconds = [10, 11, 12, 13, 12, 13, 14, 20, 19, 18, 30, 31, 29, 32];
    for second in seconds {
        writer.entry(T + second * 1_000_000, &[b"MESSAGE=x", A]);
    }
    let mut reader = Reader::open(&writer.bytes).unwrap();
    for since in 9..34 {
        for until in since..34 {
            let want = seconds.iter().filter(|second| (since..=until).contains(*second)).count();
            let got = walked(&mut reader, &[A], T + since * 1_000_000, T + until * 1_000_000);
            assert_eq!(got.len(), want, "{since}..={until}");
        }
    }
}

#[test]
fn what_is_later_is_counted() {
    let bytes = file(NEWEST, 100).bytes;
    let mut reader = Reader::open(&bytes).unwrap();
    for (until, later) in [(99, 0), (98, 1), (90, 9), (50, 49), (0, 99)] {
        let mut walk = reader.walk(&[], T, T + until * 1_000_000).unwrap();
        let mut entry = Entry::default();
        while walk.next(&mut reader, &mut entry).unwrap().is_some() {}
        assert_eq!(walk.later(), later, "{until}");
        assert_eq!(reader.newest(T + until * 1_000_000).unwrap(), Some(T + until * 1_000_000));
    }
    assert_eq!(reader.newest(T - 1).unwrap(), None);
}

/// A sound file, cut after each byte: it tells less, and never anything else.
#[test]
fn every_prefix() {
    for format in [OLDEST, NEWEST] {
        let bytes = file(format, 10).bytes;
        let (whole, _) = all(&bytes);
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            fuzz(cut);
            let Ok(mut reader) = Reader::open(cut) else { continue };
            let told = walked(&mut reader, &[], 0, u64::MAX);
            let is_sound = |line: &&String| !line.contains("lies beyond") && !line.contains("the end of the file");
            assert!(told.iter().filter(is_sound).all(|line| whole.contains(line)), "{end}: {told:?}");
            assert!(told == whole || reader.broken() > 0 || told.iter().any(|line| !is_sound(&line)), "{end}");
        }
    }
}

/// No byte of a file can be such that reading panics or does not end.
#[test]
fn every_byte_changed() {
    for format in [OLDEST, NEWEST] {
        let bytes = file(Format { buckets: 4, ..format }, 6).bytes;
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= [1, 0x80, 0xff][at % 3];
            fuzz(&changed);
        }
    }
}

#[test]
fn a_broken_part_costs_only_itself() {
    let sound = || file(NEWEST, 100);
    let entry = |writer: &Writer, number: u64| {
        let bytes = writer.bytes.clone();
        let (mut reader, mut entry) = (Reader::open(&bytes).unwrap(), Entry::default());
        let mut walk = reader.walk(&[], T + number * 1_000_000, u64::MAX).unwrap();
        walk.next(&mut reader, &mut entry).unwrap();
        // Where it lies: its newest field was written right before it.
        let field = *entry.items.first().unwrap();
        (field, field + writer.get(field + 8).next_multiple_of(8))
    };
    let told = |writer: &Writer, fields: &[&[u8]]| {
        let mut reader = Reader::open(&writer.bytes).unwrap();
        let lines = walked(&mut reader, fields, 0, u64::MAX);
        let faults = lines.iter().filter(|line| line.contains("the object at") || line.contains("its hash is of"));
        (lines.len(), faults.count(), reader.broken())
    };
    let mut writer = sound();
    let (field, at) = entry(&writer, 50);
    writer.bytes[field as usize] = 2;
    assert_eq!(told(&writer, &[]), (100, 1, 0), "a field of another type");
    let mut writer = sound();
    writer.bytes[field as usize + 80] ^= 1;
    assert_eq!(told(&writer, &[]), (100, 1, 0), "a field that is not what it was");
    let mut writer = sound();
    writer.bytes[at as usize] = 0;
    assert_eq!(told(&writer, &[]), (99, 0, 1), "an entry that is none");
    assert_eq!(told(&writer, &[A, B]), (99, 0, 1));
    let mut writer = sound();
    writer.put(at + 8, u64::MAX - 7);
    assert_eq!(told(&writer, &[]), (99, 0, 1), "an entry without an end");
    for time in [0, 1 << 60] {
        let mut writer = sound();
        writer.put(at + 24, time);
        assert_eq!(told(&writer, &[]), (99, 0, 1), "an entry of no time");
    }
    // An array that leads to itself, or back, or nowhere.
    for next in [0, 1, 8, u64::MAX - 7] {
        let mut writer = sound();
        let first = writer.get(176);
        writer.put(first + 16, if next == 0 { first } else { next });
        let (count, _, broken) = told(&writer, &[]);
        assert_eq!((count, broken), (4, 1), "an array followed by {next}");
        assert_eq!(told(&writer, &[A, B]), (100, 0, 0));
    }
    // The same of a DATA object's chain, of its bucket, and of its counters.
    let mut writer = sound();
    let unit = writer.data_at(A);
    let array = writer.get(unit + 48);
    writer.put(array + 16, array);
    assert_eq!(told(&writer, &[A]), (5, 0, 1));
    assert_eq!(told(&writer, &[B]), (66, 0, 0));
    for count in [0, 3, 35, u64::MAX] {
        let mut writer = sound();
        writer.put(unit + 56, count);
        assert_eq!(told(&writer, &[A]).0 as u64, count.min(34), "{count} entries claimed");
    }
    let mut writer = Writer::new(Format { buckets: 1, ..NEWEST });
    writer.entry(T, &[b"MESSAGE=x", A]);
    let (first, second) = (writer.data_at(b"MESSAGE=x"), writer.data_at(A));
    writer.put(second + 24, first);
    assert_eq!(told(&writer, &[A]), (1, 0, 0));
    assert_eq!(told(&writer, &[B]), (0, 0, 1), "a bucket that leads back");
}

#[test]
fn refused_with_a_reason() {
    let sound = file(NEWEST, 3).bytes;
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        fuzz(&bytes);
        Reader::open(&bytes).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(refused(&|bytes| bytes.clear()), "it is no journal: it is empty (0 bytes)");
    assert_eq!(refused(&|bytes| bytes[0] = 0), "it is no journal: no signature");
    assert_eq!(refused(&|bytes| bytes.truncate(207)), "it is no journal: the file ends in its header");
    assert_eq!(refused(&|bytes| bytes[12] |= 32), "it has the incompatible flag 0x20 (a newer journal format)");
    assert_eq!(refused(&|bytes| bytes[88] = 7), "it is no journal: its header has a size that can't be");
    assert_eq!(refused(&|bytes| bytes[104] = 8), "it is no journal: its hash table lies where none can");
    // Unknown compatible flags are no reason (SEALED and later ones).
    let mut bytes = sound.clone();
    bytes[11] = 0x80;
    assert_eq!(all(&bytes).0.len(), 3);
}

/// A few bytes that claim to be gigabytes.
#[test]
fn bombs() {
    for (compression, claim) in [(Compression::Lz4, 0), (Compression::Zstd, 5)] {
        let format = Format { compression, is_compact: false, ..NEWEST };
        let long = [&b"MESSAGE="[..], &[b'x'; 4000]].concat();
        let mut writer = Writer::new(format);
        writer.entry(T, &[&long]);
        let payload = writer.data_at(&long) as usize + 64;
        for size in [(1_u32 << 20) + 1, u32::MAX] {
            let mut bytes = writer.bytes.clone();
            bytes[payload + claim..payload + claim + 4].copy_from_slice(&size.to_le_bytes());
            let (told, _) = all(&bytes);
            let is_told = told[0].contains("larger than 1 MiB") || told[0].contains("is no ZSTD");
            assert!(is_told, "{compression:?} {size}: {told:?}");
        }
        let mut bytes = writer.bytes.clone();
        bytes[payload + claim..payload + claim + 4].copy_from_slice(&100_000_u32.to_le_bytes());
        assert!(all(&bytes).0[0].contains("is no "), "{compression:?}");
    }
    // An entry with more fields than there can be, and a plain field that is too large.
    let mut writer = Writer::new(NEWEST);
    let entry = writer.entry(T, &[b"MESSAGE=x"]);
    let data = writer.data_at(b"MESSAGE=x");
    let mut large = writer.bytes.clone();
    large[entry as usize + 8..entry as usize + 16].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    assert_eq!(all(&large), (Vec::new(), 1));
    let mut large = writer.bytes.clone();
    large[data as usize + 8..data as usize + 16].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    assert!(all(&large).0[0].contains("larger than 1 MiB"));
}

/// A file that is written to between any two reads of it.
struct Growing {
    bytes: RefCell<Vec<u8>>,
    later: Vec<u8>,
    reads: RefCell<usize>,
    grows_at: usize,
}

impl ReadAt for Growing {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        *self.reads.borrow_mut() += 1;
        if *self.reads.borrow() == self.grows_at {
            self.bytes.borrow_mut().clone_from(&self.later);
        }
        self.bytes.borrow().read_at(offset, into)
    }
}

#[test]
fn a_file_that_is_being_written() {
    let before = file(NEWEST, 30).bytes;
    let after = file(NEWEST, 300).bytes;
    for grows_at in 1..20 {
        for is_in_parts in [false, true] {
            let (bytes, reads) = (RefCell::new(before.clone()), RefCell::new(0));
            let file = Growing { bytes, later: after.clone(), reads, grows_at };
            let mut reader = Reader::open(&file).unwrap();
            if is_in_parts {
                reader = reader.in_parts();
            }
            let told = walked(&mut reader, &[A, B], 0, u64::MAX);
            assert!(told.len() >= 30 && reader.broken() == 0, "{grows_at}: {} {}", told.len(), reader.broken());
            assert!(told.iter().all(|line| line.contains("text") || line.contains("xx")));
        }
    }
}

/// A disk that fails is no broken part.
#[test]
fn what_can_not_be_read_is_an_error() {
    struct Failing(Vec<u8>, RefCell<usize>);
    impl ReadAt for Failing {
        fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
            let left = self.1.borrow().checked_sub(1).ok_or_else(|| io::Error::from_raw_os_error(5))?;
            *self.1.borrow_mut() = left;
            self.0.read_at(offset, into)
        }
    }
    let bytes = file(NEWEST, 500).bytes;
    for reads in 0.. {
        let file = Failing(bytes.clone(), RefCell::new(reads));
        let read = Reader::open(&file).and_then(|mut reader| {
            let mut walk = reader.walk(&[A], 0, u64::MAX)?;
            let mut entry = Entry::default();
            while walk.next(&mut reader, &mut entry)?.is_some() {
                reader.field(&entry, b"MESSAGE")?;
            }
            Ok(reader.broken())
        });
        match read {
            Err(Fault::Read(_)) => {}
            other => {
                assert_eq!(other.unwrap(), 0);
                assert!(reads > 4);
                break;
            }
        }
    }
}
