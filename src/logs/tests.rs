use std::cell::Cell;
use std::io;

use jiff::SignedDuration;

use super::bisect::{Bisect, Start};
use super::*;
use crate::parse::ReadAt;

/// A file in memory that counts what is read of it.
struct Counting {
    bytes: Vec<u8>,
    read: Cell<u64>,
}

impl ReadAt for Counting {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read_at(offset, into)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn start(bytes: &[u8], since: i64) -> (Start, u64) {
    let file = Counting { bytes: bytes.to_vec(), read: Cell::new(0) };
    let clock = Clock::new(second(1_000_000), TimeZone::UTC);
    let length = bytes.len() as u64;
    let start = Bisect::new(&file, length, &clock, Format::Auto, second(since)).start().unwrap();
    (start, file.read.get())
}

/// The lines of the window that a search began too late for.
fn missed(bytes: &[u8], since: i64, start: Start) -> usize {
    let clock = Clock::new(second(1_000_000), TimeZone::UTC);
    let (mut at, mut missed) = (0, 0);
    for line in bytes.split(|byte| *byte == b'\n') {
        let time = clock.time(Format::Auto, line);
        missed += usize::from(at < start.at && time.is_some_and(|time| time >= second(since)));
        at += line.len() as u64 + 1;
    }
    missed
}

/// So many numbers in no order.
fn random(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    })
}

/// A log of so many lines, one a second, some long, with what `between` puts between them.
fn log(lines: i64, seed: u64, between: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
    let mut random = random(seed);
    let mut log = Vec::new();
    for line in 0..lines {
        let length = (random.next().unwrap() % 200) as usize;
        log.extend(format!("{} stdout F {}\n", second(line), "x".repeat(length)).bytes());
        log.extend(between(random.next().unwrap()));
    }
    log
}

#[test]
fn the_window_is_found_wherever_it_begins() {
    let log = log(20_000, 1, |_| Vec::new());
    for since in [-5, 0, 1, 2, 999, 10_000, 19_000, 19_998, 19_999, 20_000, 30_000] {
        let (start, read) = start(&log, since);
        assert_eq!(missed(&log, since, start), 0, "{since}");
        assert_eq!(start.first, Some(second(0)));
        assert_eq!(start.is_whole, since > 0, "{since}");
        assert!(start.at == 0 || log[start.at as usize - 1] == b'\n');
        // Not much more than the window itself, and the file has 3 MiB.
        let lines = log[start.at as usize..].split(|byte| *byte == b'\n').count() as i64;
        assert!(lines <= 20_000 - since.clamp(0, 20_000) + 1100, "{since}: {lines}");
        assert!(read < 2 << 20, "{since}: {read}");
    }
}

#[test]
fn parts_without_a_time_hide_no_line() {
    for seed in 0..5 {
        let log = log(3000, seed, |random| match random % 400 {
            0 => vec![0; (random % 900_000) as usize],
            1 => format!("goroutine 1 [running]:\n{}", "\tx.go:1\n".repeat((random % 90_000) as usize)).into_bytes(),
            2 => vec![0xff; (random % 300_000) as usize],
            _ => Vec::new(),
        });
        for since in [1, 700, 1500, 2999] {
            let (start, read) = start(&log, since);
            assert_eq!(missed(&log, since, start), 0, "{seed} {since}");
            assert!(read < 40 << 20, "{read}");
        }
    }
}

#[test]
fn lines_out_of_order_are_found() {
    let mut log = Vec::new();
    for line in 0..20_000 {
        // Threads that are late by up to two minutes.
        let late = if line % 7 == 0 { line % 120 } else { 0 };
        log.extend(format!("{} stdout F some text of a usual length\n", second(line - late)).bytes());
    }
    for since in (0..20_000).step_by(1333) {
        assert_eq!(missed(&log, since, start(&log, since).0), 0, "{since}");
    }
}

#[test]
fn nothing_to_find() {
    for (bytes, want) in [(&b""[..], 0), (b"\n", 0), (b"x", 0), (&[0; 300_000], 0)] {
        let (start, _) = start(bytes, 5);
        assert_eq!((start.at, start.first, start.is_whole), (want, None, false));
    }
    let (start, read) = start(&vec![b'x'; 64 << 20], 5);
    assert_eq!((start.at, start.is_whole), (0, false));
    assert!(read < 64 << 20, "{read}");
}

#[test]
fn every_prefix_of_a_log() {
    let log = log(40, 3, |_| Vec::new());
    for end in 0..log.len() {
        assert_eq!(missed(&log[..end], 20, start(&log[..end], 20).0), 0, "{end}");
    }
}

#[test]
fn patterns() {
    for good in ["/a", "/var/log/pods/*_calico-node-*_*/calico-node/*.log", "/a/.b"] {
        assert_eq!(fault(good), None, "{good}");
    }
    for bad in ["", "a", "/", "//a", "/a/", "/a/../b", "/a/./b", "/a\0"] {
        assert!(fault(bad).is_some(), "{bad}");
    }
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at_root(dir.path()).unwrap();
    let read = |files: &[&str]| {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let (since, until) = (second(0), second(0) + SignedDuration::from_mins(1));
        each(&host, &Query { files: &files, format: Format::Auto, zone: None, since, until }, &mut |_| {})
    };
    assert_eq!(read(&["/x/*.log", "/y"]), Err(Error::Absent("no log file /x/*.log, /y".into())));
    assert_eq!(read(&[]), Err(Error::Absent("no log file ".into())));
    assert_eq!(read(&["x"]), Err(Error::Failed("'x' is not an absolute path".into())));
}
