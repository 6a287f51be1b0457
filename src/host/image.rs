//! What was read of a file that is read here and there: a file with holes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::parse::ReadAt;

/// The memory of a recording has holes no smaller than this.
const CHUNK: u64 = 4096;
/// More of one file is not remembered.
const LARGEST: u64 = 1 << 30;

/// Parts of a file; the others are taken for zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    /// Bytes in the file.
    pub length: u64,
    /// The file system it lies on, if somebody asked.
    pub fstype: Option<String>,
    /// Device and inode.
    file: (u64, u64),
    /// By number. Each has as many bytes as were read of it.
    chunks: BTreeMap<u64, Vec<u8>>,
    /// Whether more was read than is remembered.
    is_busy: bool,
    is_cut: bool,
}

impl Image {
    /// One of which nothing is known but its length.
    pub(super) fn hollow(length: u64) -> Image {
        Image { length, ..Image::default() }
    }

    /// One of which all is known.
    pub(super) fn of(bytes: &[u8]) -> Image {
        let mut image = Image::default();
        image.put(0, bytes);
        image
    }

    /// Of another file, what was read before is forgotten.
    pub(super) fn begin(&mut self, file: (u64, u64), length: u64) {
        if self.file != file {
            *self = Image { file, ..Image::default() };
        }
        self.length = length;
    }

    /// What was read is not of one moment, and does not count.
    pub(super) fn forget(&mut self, is_busy: bool) {
        self.chunks.clear();
        (self.is_cut, self.is_busy) = (false, is_busy);
    }

    /// Whether nothing that was read of it counts.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    pub(super) fn inode(&self) -> u64 {
        self.file.1
    }

    /// Whether more was read than is remembered.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Remembers what was read; what was read there before is replaced.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.is_busy = false;
        self.length = self.length.max(offset.saturating_add(bytes.len() as u64));
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() && !self.is_cut {
            let (number, from) = (at / CHUNK, (at % CHUNK) as usize);
            let (part, after) = rest.split_at(rest.len().min(CHUNK as usize - from));
            let chunk = self.chunks.entry(number).or_default();
            let end = from + part.len();
            if chunk.len() < end {
                chunk.reserve_exact(end - chunk.len());
                chunk.resize(end, 0);
            }
            chunk[from..end].copy_from_slice(part);
            (at, rest) = (at + part.len() as u64, after);
            if self.chunks.len() as u64 > LARGEST / CHUNK {
                self.chunks.clear();
                self.is_cut = true;
            }
        }
    }

    /// Writes the parts into an empty file, and makes it as long.
    pub(super) fn write(&self, file: &File) -> io::Result<()> {
        file.set_len(self.length)?;
        for (number, chunk) in &self.chunks {
            let at = number * CHUNK;
            let there = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX).min(chunk.len());
            if chunk.iter().any(|byte| *byte != 0) {
                file.write_all_at(&chunk[..there], at)?;
            }
        }
        Ok(())
    }
}

impl ReadAt for Image {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX).min(into.len());
        let (into, mut done) = (&mut into[..there], 0);
        into.fill(0);
        while done < there {
            let at = offset + done as u64;
            let (number, from) = (at / CHUNK, (at % CHUNK) as usize);
            let part = (CHUNK as usize - from).min(there - done);
            let known = self.chunks.get(&number).and_then(|chunk| chunk.get(from..)).unwrap_or_default();
            let known = &known[..known.len().min(part)];
            into[done..done + known.len()].copy_from_slice(known);
            done += part;
        }
        Ok(there)
    }
}

#[cfg(test)]
mod tests;
