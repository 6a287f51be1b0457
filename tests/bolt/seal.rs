//! What `sealed` leaves in a file, and whether a walk found it whole.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{cell::Cell, fs::File, io, thread::sleep};

use nodecheck::parse::ReadAt;
use nodecheck::parse::bolt::{Bucket, Db, Fault, Meta, Value};

/// A file, and what happens during a walk through it.
pub struct Reader {
    file: File,
    reads: Cell<u32>,
    /// Before which of the reads to wait, and for what.
    pub wait: Option<(u32, Wait)>,
}

/// What a walk waits for in its midst, so that the writer comes in between.
#[derive(Clone, Copy)]
pub enum Wait {
    For(Duration),
    /// Until the newest meta is of this transaction or of a later one, and then for a while.
    Until(u64, Duration),
}

impl Reader {
    pub fn open(path: &Path) -> Reader {
        Reader { file: File::open(path).unwrap(), reads: Cell::new(0), wait: None }
    }

    /// The newest meta, without a wait.
    pub fn newest(&self) -> Result<Meta, Fault> {
        Meta::newest(&Plain(&self.file))
    }

    fn wait(&self, wait: Wait) {
        match wait {
            Wait::For(time) => sleep(time),
            Wait::Until(txid, time) => {
                let begun = Instant::now();
                while self.newest().is_ok_and(|meta| meta.txid < txid) && begun.elapsed() < Duration::from_secs(10) {
                    sleep(Duration::from_micros(50));
                }
                sleep(time);
            }
        }
    }
}

impl ReadAt for Reader {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.reads.set(self.reads.get() + 1);
        if let Some((_, wait)) = self.wait.filter(|(read, _)| *read == self.reads.get()) {
            self.wait(wait);
        }
        Plain(&self.file).read_at(offset, into)
    }
}

struct Plain<'a>(&'a File);

impl ReadAt for Plain<'_> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.0.read_at(&mut into[done..], offset + done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }
}

/// All that a walk saw. It is judged later, so that the walk is as quick as it can be.
#[derive(Default)]
pub struct Seen {
    /// What the sum goes over.
    transcript: Vec<u8>,
    /// The first eight bytes of each value.
    generations: Vec<u64>,
    generation: Option<u64>,
    seal: Option<u64>,
}

impl Seen {
    /// Walks the tree of a meta.
    pub fn walk(reader: &Reader, meta: &Meta) -> Result<Seen, Fault> {
        reader.reads.set(0);
        let db = Db::new(reader, meta.clone());
        let mut seen = Seen::default();
        db.each(db.root(), &mut |key, value| match value {
            Value::Bucket(bucket) if key == b"sealed" => seen.below(&db, bucket, true),
            // `junk`, which is there to make the file grow.
            _ => Ok(()),
        })?;
        Ok(seen)
    }

    fn below(&mut self, db: &Db<'_, Reader>, bucket: Bucket<'_>, is_top: bool) -> Result<(), Fault> {
        db.each(bucket, &mut |key, value| {
            let number = value.bytes().and_then(|bytes| Some(u64::from_be_bytes(*bytes.first_chunk()?)));
            if is_top && key == b"seal" {
                self.seal = number;
                return Ok(());
            }
            if is_top && key == b"gen" {
                self.generation = number;
            }
            self.part(b'k', key);
            match value {
                Value::Bytes(bytes, _) => {
                    self.generations.extend(number);
                    self.part(b'v', bytes);
                }
                Value::Bucket(bucket) => {
                    self.part(b'<', b"");
                    self.below(db, bucket, false)?;
                    self.part(b'>', b"");
                }
            }
            Ok(())
        })
    }

    fn part(&mut self, kind: u8, bytes: &[u8]) {
        self.transcript.push(kind);
        self.transcript.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        self.transcript.extend(bytes);
    }

    /// The generation, if this is what one transaction left. `is_all` if each writes every value.
    pub fn generation(&self, is_all: bool) -> Result<u64, String> {
        let (Some(generation), Some(seal)) = (self.generation, self.seal) else {
            return Err("no generation, or no seal".to_owned());
        };
        if let Some(other) =
            self.generations.iter().find(|other| **other > generation || is_all && **other < generation)
        {
            return Err(format!("a value of generation {other} in generation {generation}"));
        }
        let sum = fnv1a(&self.transcript);
        if sum == seal { Ok(generation) } else { Err(format!("sum {sum:016x} and not {seal:016x}")) }
    }
}

pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
