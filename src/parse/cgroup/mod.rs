//! Memory cgroups: what a path stands for, what its files say, and where the controller is mounted.
//!
//! The formats are those of Linux 5.4 and later: `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`,
//! printed by `mm/memcontrol.c`, `mm/memcontrol-v1.c`, `kernel/sched/psi.c` and `kernel/cgroup/cgroup-v1.c`. A key that is
//! not in a file is `None`, never 0. What does not look as the kernel prints it is an error: a number that is wrong tells
//! of kills that never were.

mod files;
mod mounts;
mod place;
mod pressure;

pub use files::{Events, Limit, MemoryStat, OomControl, events, limit, number, oom_control, vmstat_oom_kills};
pub use mounts::{Hierarchy, Mount, V1Controller, hierarchy, lists_memory, v1_controller};
pub use place::{Container, Place, Qos, Runtime, Uid};
pub use pressure::{Pressure, Stall, pressure};

/// Why a file is not what the kernel prints. Says nothing of its path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Negative, too large, or no number at all.
    #[error("{key} is '{value}', not a whole number from 0 to 18446744073709551615")]
    Number {
        /// What the number belongs to.
        key: String,
        /// The beginning of what is there, escaped.
        value: String,
    },
    /// A key that can have one value has two.
    #[error("{0} is there twice")]
    Twice(&'static str),
    /// A line of another shape; its beginning, escaped.
    #[error("'{0}' is not a line as the kernel prints it")]
    Line(String),
    /// No line end at the end: a number there could lack digits.
    #[error("ends within a line")]
    Cut,
}

/// As much of a file as an error message quotes, escaped.
fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 40;
    match bytes.get(..LONGEST) {
        Some(head) => format!("{}...", head.escape_ascii()),
        None => bytes.escape_ascii().to_string(),
    }
}

/// The lines of a file; each must have its end.
fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Error> {
    let whole = bytes.strip_suffix(b"\n");
    if whole.is_none() && !bytes.is_empty() {
        return Err(Error::Cut);
    }
    Ok(whole.into_iter().flat_map(|whole| whole.split(|byte| *byte == b'\n')))
}

/// A number in decimal digits and nothing else.
fn digits(key: &str, value: &[u8]) -> Result<u64, Error> {
    let wrong = || Error::Number { key: key.to_owned(), value: excerpt(value) };
    // `str::parse` would take a sign.
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)
}

/// For the fuzzer: what is found in any bytes was in them, and reads the same again.
pub fn fuzz(data: &[u8]) {
    place::fuzz(data);
    mounts::fuzz(data);
    files::fuzz(data);
    pressure::fuzz(data);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_and_on_one_line() {
        let garbage: Vec<u8> = (0..=255).chain([b'\n']).collect();
        for message in [
            events(&garbage).unwrap_err().to_string(),
            number(&garbage).unwrap_err().to_string(),
            pressure(&garbage).unwrap_err().to_string(),
            limit(b"-1\n").unwrap_err().to_string(),
            vmstat_oom_kills(b"oom_kill").unwrap_err().to_string(),
        ] {
            assert!(message.len() < 250 && message.chars().all(|c| (' '..='~').contains(&c)), "{message}");
        }
    }

    #[test]
    fn every_prefix() {
        let captures: [&[u8]; 4] = [
            include_bytes!("../../../tests/captures/cgroup/v1-leaf-memory.stat"),
            include_bytes!("../../../tests/captures/cgroup/v2-leaf-memory.stat"),
            include_bytes!("../../../tests/captures/cgroup/proc-cgroups-hybrid"),
            include_bytes!("../../../tests/captures/cgroup/mounts-hybrid"),
        ];
        for capture in captures {
            for end in 0..=capture.len() {
                fuzz(&capture[..end]);
            }
        }
    }
}
