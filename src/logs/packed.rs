//! Files that were packed by gzip: they have no middle to begin at.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::gather::Gather;
use crate::host::{Error, OpenFile};
use crate::parse::ReadAt;
use crate::parse::log::{LONGEST, Lines};

const BLOCK: usize = 64 << 10;

/// A file from its beginning up to the length that it had.
struct Front<'a> {
    file: &'a OpenFile<'a>,
    at: u64,
    length: u64,
}

impl Read for Front<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX).min(into.len());
        let read = self.file.read_at(self.at, &mut into[..most])?;
        self.at += read as u64;
        Ok(read)
    }
}

fn unpacked<'a>(file: &'a OpenFile<'a>, length: u64) -> MultiGzDecoder<Front<'a>> {
    MultiGzDecoder::new(Front { file, at: 0, length })
}

/// The time of the first line that has one, if one of the first has.
pub(super) fn first(file: &OpenFile<'_>, length: u64, gather: &Gather<'_>) -> Option<Timestamp> {
    let mut head = Vec::new();
    // What is damaged further on is told when it is read.
    let _ = unpacked(file, length).take(BLOCK as u64).read_to_end(&mut head);
    let time = |line: &[u8]| gather.clock.time(gather.query.format, line);
    head.split(|byte| *byte == b'\n').find_map(time)
}

impl Gather<'_> {
    /// Reads a packed file, as far as it is whole.
    pub(super) fn packed(&mut self, file: &OpenFile<'_>, length: u64) -> Result<(), Error> {
        let mut text = unpacked(file, length);
        let mut lines = Lines::new(LONGEST);
        let mut block = vec![0; BLOCK];
        let outcome = loop {
            match text.read(&mut block) {
                Ok(0) => break Ok(()),
                Ok(read) if (read as u64) <= self.unpacked_left => {
                    self.unpacked_left -= read as u64;
                    lines.feed(&block[..read], &mut |line, _| self.line(line, file.path()));
                }
                Ok(_) => {
                    self.told.is_cut = true;
                    break Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => match error.downcast::<Error>() {
                    Ok(error) => break Err(error),
                    // It is damaged, or cut.
                    Err(_) => {
                        self.told.broken += 1;
                        break Ok(());
                    }
                },
            }
        };
        lines.finish(&mut |line, _| self.line(line, file.path()));
        self.told.broken += lines.broken;
        outcome
    }
}
