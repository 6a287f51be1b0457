//! Messages that were lost before they came into the journal, as journald itself tells.

use std::io;

use crate::host::OpenFile;
use crate::parse::journal::{Entry, Fault, Reader};

/// `SD_MESSAGE_JOURNAL_DROPPED`: a unit wrote more than its rate limit allows. Written once the unit may write again.
const DROPPED: &[u8] = b"MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e";
/// `SD_MESSAGE_JOURNAL_MISSED`: the kernel's ring overtook journald.
const MISSED: &[u8] = b"MESSAGE_ID=e9bf28e6e834481bb6f48f548ad13606";
const UNIT: &[u8] = b"_SYSTEMD_UNIT=";
const KERNEL: &[u8] = b"_TRANSPORT=kernel";
/// So many such entries of a file are read.
const MOST: usize = 10_000;

/// Whose losses matter.
pub(super) struct Wanted<'a> {
    /// `None`: whoever lost some.
    units: Option<Vec<&'a [u8]>>,
    kernel: bool,
}

impl<'a> Wanted<'a> {
    pub(super) fn by(matches: &[&'a [u8]]) -> Wanted<'a> {
        let is_other = |field: &&[u8]| !field.starts_with(UNIT) && *field != KERNEL;
        let units = matches.iter().filter_map(|field| field.strip_prefix(UNIT)).collect();
        Wanted {
            units: Some(units).filter(|_| !matches.is_empty() && !matches.iter().any(is_other)),
            kernel: matches.is_empty() || matches.contains(&KERNEL),
        }
    }

    /// How many messages of these units, and of the kernel, a file says were lost inside a window.
    pub(super) fn lost(
        &self,
        reader: &mut Reader<'_, OpenFile<'_>>,
        (since, until): (u64, u64),
    ) -> Result<(u64, u64), io::Error> {
        let (mut dropped, mut missed) = (0_u64, 0_u64);
        let fields: &[&[u8]] = match (self.units.as_ref().is_none_or(|units| !units.is_empty()), self.kernel) {
            (true, true) => &[DROPPED, MISSED],
            (true, false) => &[DROPPED],
            (false, _) => &[MISSED],
        };
        let mut walk = sound(reader.walk(fields, since, until))?;
        let mut entry = Entry::default();
        for _ in 0..MOST {
            let Some(walk) = &mut walk else { break };
            let Some(Some(by)) = sound(walk.next(reader, &mut entry))? else { break };
            if fields.get(by) == Some(&MISSED) {
                missed = missed.saturating_add(number(reader, &entry)?);
            } else if self.is_wanted(reader, &entry)? {
                dropped = dropped.saturating_add(number(reader, &entry)?);
            }
        }
        Ok((dropped, missed))
    }

    /// journald wrote it: the unit that it is about is another field.
    fn is_wanted(&self, reader: &mut Reader<'_, OpenFile<'_>>, entry: &Entry) -> Result<bool, io::Error> {
        let Some(units) = &self.units else { return Ok(true) };
        let unit = sound(reader.field(entry, b"OBJECT_SYSTEMD_UNIT"))?.flatten();
        Ok(unit.is_some_and(|unit| units.contains(&unit)))
    }
}

/// How many messages an entry says were lost: `N_DROPPED`, or in older ones the number in its text ("Suppressed 12 messages
/// from x.service", "Missed 12 kernel messages").
fn number(reader: &mut Reader<'_, OpenFile<'_>>, entry: &Entry) -> Result<u64, io::Error> {
    let parse = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    if let Some(number) = sound(reader.field(entry, b"N_DROPPED"))?.flatten().and_then(parse) {
        return Ok(number);
    }
    let text = sound(reader.field(entry, b"MESSAGE"))?.flatten().unwrap_or_default();
    // That it says nothing else is no reason to take it for none.
    Ok(text.split(|byte| *byte == b' ').find_map(parse).unwrap_or(1))
}

/// What is broken here is no entry that anybody waits for.
fn sound<T>(result: Result<T, Fault>) -> Result<Option<T>, io::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Fault::Read(error)) => Err(error),
        Err(_) => Ok(None),
    }
}
