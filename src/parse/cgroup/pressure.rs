//! `memory.pressure`: how long tasks waited for memory.

use super::{Error, digits, excerpt, lines};

/// One line of a pressure file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Percent of the time that was lost, over the last 10 seconds.
    pub avg10: f64,
    /// Over the last minute.
    pub avg60: f64,
    /// Over the last 5 minutes.
    pub avg300: f64,
    /// Microseconds lost since the cgroup was made.
    pub total: u64,
}

/// `memory.pressure`: how long tasks waited for memory. Not on v1, and not on a kernel booted with `psi=0`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Option<Stall>,
    /// All tasks waited.
    pub full: Option<Stall>,
}

/// Reads a pressure file (`kernel/sched/psi.c`).
pub fn pressure(bytes: &[u8]) -> Result<Pressure, Error> {
    let mut found = Pressure::default();
    for line in lines(bytes)? {
        let wrong = || Error::Line(excerpt(line));
        let (kind, values) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')).ok_or_else(wrong)?;
        let (slot, name) = match kind {
            "some" => (&mut found.some, "some"),
            "full" => (&mut found.full, "full"),
            // What a later kernel may add.
            kind if kind.bytes().all(|byte| byte.is_ascii_graphic()) => continue,
            _ => return Err(wrong()),
        };
        if slot.replace(stall(values).ok_or_else(wrong)?).is_some() {
            return Err(Error::Twice(name));
        }
    }
    Ok(found)
}

/// `avg10=0.00 avg60=0.00 avg300=0.00 total=157874`, in this order.
fn stall(values: &str) -> Option<Stall> {
    let mut values = values.split(' ');
    let mut next = |key: &str| values.next()?.strip_prefix(key)?.strip_prefix('=');
    let percent = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        text.parse().ok().filter(|value: &f64| plain && value.is_finite())
    };
    Some(Stall {
        avg10: percent(next("avg10")?)?,
        avg60: percent(next("avg60")?)?,
        avg300: percent(next("avg300")?)?,
        total: digits("total", next("total")?.as_bytes()).ok()?,
    })
}

/// For the fuzzer: percents are numbers.
pub fn fuzz(data: &[u8]) {
    if let Ok(found) = pressure(data) {
        for stall in [found.some, found.full].into_iter().flatten() {
            assert!([stall.avg10, stall.avg60, stall.avg300].iter().all(|value| value.is_finite() && *value >= 0.0));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]
mod tests {
    use super::*;

    const GOOD: &str = "some avg10=12.50 avg60=6.25 avg300=1.56 total=157874\n\
                        full avg10=0.00 avg60=0.00 avg300=100.00 total=18446744073709551615\n";

    #[test]
    fn good_ones() {
        let found = pressure(GOOD.as_bytes()).unwrap();
        assert_eq!(found.some, Some(Stall { avg10: 12.5, avg60: 6.25, avg300: 1.56, total: 157_874 }));
        assert_eq!(found.full, Some(Stall { avg10: 0.0, avg60: 0.0, avg300: 100.0, total: u64::MAX }));
        assert_eq!(pressure(b""), Ok(Pressure::default()));
        let alone = pressure(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nirq avg10=x\n").unwrap();
        assert!(alone.some.is_some() && alone.full.is_none());
        let real = include_bytes!("../../../tests/captures/cgroup/pressure-memory");
        assert_eq!(pressure(real).unwrap().full.unwrap().total, 22_633);
    }

    #[test]
    fn bad_ones() {
        for text in [
            "some\n",
            "some \n",
            "some avg10=0.00\n",
            "some avg10=0.00 avg60=0.00 avg300=0.00\n",
            "some avg10= avg60=0.00 avg300=0.00 total=0\n",
            "some avg10=nan avg60=0.00 avg300=0.00 total=0\n",
            "some avg10=inf avg60=0.00 avg300=0.00 total=0\n",
            "some avg10=-1.00 avg60=0.00 avg300=0.00 total=0\n",
            "some avg10=1e9 avg60=0.00 avg300=0.00 total=0\n",
            "some avg10=1.2.3 avg60=0.00 avg300=0.00 total=0\n",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=18446744073709551616\n",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=-1\n",
            "some avg60=0.00 avg10=0.00 avg300=0.00 total=0\n",
            "\n",
            "\0\u{1} \n",
        ] {
            let error = pressure(text.as_bytes()).unwrap_err().to_string();
            assert!(error.ends_with("is not a line as the kernel prints it"), "{text:?}: {error}");
        }
        assert_eq!(pressure(GOOD.repeat(2).as_bytes()), Err(Error::Twice("some")));
    }

    #[test]
    fn every_prefix() {
        for end in 0..GOOD.len() {
            fuzz(&GOOD.as_bytes()[..end]);
            let read = pressure(&GOOD.as_bytes()[..end]);
            assert_eq!(read.is_ok(), end == 0 || GOOD[..end].ends_with('\n'), "{end}");
        }
    }
}
