//! The file that a check's past is kept in.

use super::{Past, Record, Streak, Trace, from_record, merge};
use crate::host::state_dir::StateDir;
use crate::host::{Moment, printable};

/// The layout of the state files; another number is set aside.
pub(super) const FORMAT: u32 = 1;
/// Ten thousand containers with kills, each with its steps of a day, stay below it; what is larger is not ours.
const LARGEST: usize = 64 << 20;
/// No machine has been up for longer, in seconds (300 years): a larger uptime is damage.
const LONGEST_UPTIME: f64 = 1e10;

/// Records a look in the state directory.
pub(super) fn record(dir: &StateDir, check: &str, now: &Moment, trace: &Trace, streak: Option<Streak>) -> Past {
    let why = |error: std::io::Error| printable(&format!("{}: {error}", dir.path().display()));
    // Reloaded under the lock: another look may have been recorded since this one began.
    let lock = dir.lock();
    let (record, remark) = match (read(dir, check), &lock) {
        (Ok(record), _) => (record, None),
        (Err(Unread::Garbage(reason)), Ok(lock)) => {
            let remark = match lock.set_aside(&file_name(check)) {
                Ok(aside) => format!("{}; kept as {}, it begins anew", unread(&reason), aside.display()),
                Err(error) => format!("{}; it can't be set aside either: {error}", unread(&reason)),
            };
            (Record::default(), Some(printable(&remark)))
        }
        // It may be whole: what could not be opened now is left alone.
        (Err(error), _) => {
            let mut past = Past { remarks: vec![unread(&error.to_string())], ..Past::default() };
            merge(&mut past, now, trace, streak);
            past.not_kept = Some(printable(&format!("{}: {error}", dir.path().join(file_name(check)).display())));
            return past;
        }
    };
    let mut past = from_record(record, now);
    // By the clock of now: a look that hung for long is older than what was recorded meanwhile.
    past.drop_what_is_ahead(trace.ended, now);
    if trace.readings.is_some() && remark.is_some() {
        past.unclear = Some("what grew until now is lost with the past, which could not be read: see below".to_owned());
    }
    past.remarks.extend(remark);
    let changed = merge(&mut past, now, trace, streak);
    match lock {
        Err(error) => past.not_kept = Some(why(error)),
        Ok(lock) if changed => {
            past.record.format = FORMAT;
            let written = serde_json::to_vec(&past.record).map_err(std::io::Error::other).and_then(|bytes| {
                // Written all the same, it would be set aside by the next look, and every look would be the first.
                match bytes.len() <= LARGEST {
                    true => lock.write(&file_name(check), &bytes),
                    false => Err(std::io::Error::other(format!("the past of {check} is larger than {LARGEST} bytes"))),
                }
            });
            if let Err(error) = written {
                past.not_kept = Some(why(error));
            }
        }
        Ok(_) => {}
    }
    past
}

/// What to tell of a past that could not be read.
pub(super) fn unread(reason: &str) -> String {
    let text = format!("the past of this check can't be read ({reason}): judged without it");
    printable(&text)
}

fn file_name(check: &str) -> String {
    format!("{check}.json")
}

/// Why a state file gave no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("{0}")]
    Io(std::io::Error),
    #[error("{0}")]
    Garbage(String),
}

/// What a check remembers; nothing where there is no file.
pub(super) fn read(dir: &StateDir, check: &str) -> Result<Record, Unread> {
    match dir.read(&file_name(check), LARGEST as u64) {
        Ok(None) => Ok(Record::default()),
        Ok(Some(bytes)) => parse(&bytes).map_err(Unread::Garbage),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(Unread::Garbage(error.to_string())),
        Err(error) => Err(Unread::Io(error)),
    }
}

/// Reads the content of a state file.
pub(super) fn parse(bytes: &[u8]) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if record.format != FORMAT {
        return Err(format!("its format is {}, this version reads {FORMAT}", record.format));
    }
    let moments = record.notes.values().flat_map(|note| [&note.first, &note.last]).chain(&record.look);
    let odd = moments.filter_map(|moment| moment.uptime).find(|uptime| !(0.0..LONGEST_UPTIME).contains(uptime));
    odd.map_or(Ok(()), |uptime| Err(format!("an uptime of {uptime} s can't be")))?;
    Ok(record)
}
