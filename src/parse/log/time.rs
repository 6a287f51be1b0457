//! The time at the beginning of a line.
//!
//! - RFC 3339 as Go prints it: `2016-10-06T00:17:09.669794202Z`, any number of digits after the second, any zone;
//! - logrus: `time="2026-11-21T03:22:00.123456789Z" level=error msg="..."` (containerd, k3s), and its JSON;
//! - klog: `E1121 03:22:00.123456   12345 remote_runtime.go:176] ...`, in the zone of the node, without a year.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// So much of a line of JSON is searched for its time.
const JSON_HEAD: usize = 512;
/// A time without a year is later than the reference by no more; else it is of another year, or of another hour.
const JITTER: SignedDuration = SignedDuration::from_mins(10);
/// There may be no 29th of February for so many years (1896 to 1904).
const MOST_YEARS: i16 = 8;

/// What the lines of a file look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `/var/log/pods`.
    Cri,
    /// containerd and k3s, as text or JSON.
    Logrus,
    /// The kubelet and other parts of Kubernetes.
    Klog,
    /// Any of these, line by line.
    Auto,
}

/// What tells the year and the zone of times that have none.
#[derive(Debug, Clone)]
pub struct Clock {
    zone: TimeZone,
    latest: Timestamp,
    year: i16,
}

impl Clock {
    /// Times without a year are of the year before `reference`, or of as little after it as clocks may differ.
    pub fn new(reference: Timestamp, zone: TimeZone) -> Clock {
        let latest = reference.saturating_add(JITTER).unwrap_or(reference);
        let year = zone.to_datetime(latest).year();
        Clock { zone, latest, year }
    }

    /// No time without a year is later.
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// The time of a line, if it has one.
    pub fn time(&self, format: Format, line: &[u8]) -> Option<Timestamp> {
        match format {
            Format::Cri => super::Entry::parse(line).map(|entry| entry.at),
            Format::Logrus => logrus(line),
            Format::Klog => self.klog(line),
            Format::Auto => match line.first()? {
                b'0'..=b'9' => begins_with_rfc3339(line),
                b'I' | b'W' | b'E' | b'F' => self.klog(line),
                _ => logrus(line),
            },
        }
    }

    fn klog(&self, line: &[u8]) -> Option<Timestamp> {
        let (severity, rest) = line.split_first()?;
        if !matches!(severity, b'I' | b'W' | b'E' | b'F') {
            return None;
        }
        let (month, rest) = number::<2>(rest)?;
        let (day, rest) = number::<2>(rest)?;
        let (time, rest) = clock_time(rest.strip_prefix(b" ")?)?;
        if !matches!(rest.first(), Some(b' ')) {
            return None;
        }
        (0..=MOST_YEARS).find_map(|years| {
            let year = self.year.checked_sub(years)?;
            let date = Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()?;
            self.nearest(date.to_datetime(time))
        })
    }

    /// The last moment, not after the latest, at which clocks in the zone showed this. In the night in which they are put
    /// back an hour is there twice, and the lines do not say which: those of the first are then told an hour too late.
    fn nearest(&self, shown: DateTime) -> Option<Timestamp> {
        let all = match self.zone.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => [offset, offset],
            // The second time the offset is the smaller one.
            AmbiguousOffset::Fold { before, after } => [after, before],
            // No clock showed it. Whatever is made of it, it is a time.
            AmbiguousOffset::Gap { before, .. } => [before, before],
        };
        let fits = |at: &Timestamp| *at <= self.latest;
        all.into_iter().filter_map(|offset| offset.to_timestamp(shown).ok()).find(fits)
    }
}

fn logrus(line: &[u8]) -> Option<Timestamp> {
    if let Some(rest) = line.strip_prefix(b"time=\"") {
        return begins_with_rfc3339(rest);
    }
    let head = line.get(..JSON_HEAD).unwrap_or(line);
    // logrus sorts the keys: the time may stand last, behind a long message.
    let tail = line.get(line.len().saturating_sub(JSON_HEAD)..)?;
    let key = b"\"time\":\"";
    let of = |part: &[u8]| {
        let at = part.windows(key.len()).rposition(|window| window == key)?;
        begins_with_rfc3339(part.get(at.checked_add(key.len())?..)?)
    };
    line.starts_with(b"{").then(|| of(tail).or_else(|| of(head))).flatten()
}

fn begins_with_rfc3339(text: &[u8]) -> Option<Timestamp> {
    let (at, rest) = rfc3339(text)?;
    matches!(rest.first(), None | Some(b' ' | b'"' | b'\t')).then_some(at)
}

/// A time at the beginning of a text, and what follows it.
pub(super) fn rfc3339(text: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (year, rest) = number::<4>(text)?;
    let (month, rest) = number::<2>(rest.strip_prefix(b"-")?)?;
    let (day, rest) = number::<2>(rest.strip_prefix(b"-")?)?;
    let (time, rest) = clock_time(rest.strip_prefix(b"T")?)?;
    let (offset, rest) = offset(rest)?;
    let date = Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()?;
    Some((offset.to_timestamp(date.to_datetime(time)).ok()?, rest))
}

/// `03:22:00.123456`, and what follows it.
fn clock_time(text: &[u8]) -> Option<(Time, &[u8])> {
    let (hour, rest) = number::<2>(text)?;
    let (minute, rest) = number::<2>(rest.strip_prefix(b":")?)?;
    let (second, mut rest) = number::<2>(rest.strip_prefix(b":")?)?;
    let mut nanosecond: i32 = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        let (fraction, after) = fraction.split_at_checked(digits)?;
        let padded = fraction.iter().map(|byte| byte.wrapping_sub(b'0')).chain(std::iter::repeat(0)).take(9);
        nanosecond = padded.fold(0, |sum, digit| sum.saturating_mul(10).saturating_add(digit.into()));
        rest = after;
    }
    let time = Time::new(hour.try_into().ok()?, minute.try_into().ok()?, second.try_into().ok()?, nanosecond).ok()?;
    Some((time, rest))
}

/// `Z` or `+02:00`, and what follows it.
fn offset(text: &[u8]) -> Option<(Offset, &[u8])> {
    let (sign, rest) = match text.split_first()? {
        (b'Z', rest) => return Some((Offset::UTC, rest)),
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = number::<2>(rest)?;
    let (minutes, rest) = number::<2>(rest.strip_prefix(b":")?)?;
    let seconds = i32::from(hours).checked_mul(3600)?.checked_add(i32::from(minutes).checked_mul(60)?)?;
    let offset = Offset::from_seconds(seconds.checked_mul(sign)?).ok()?;
    (hours < 24 && minutes < 60).then_some((offset, rest))
}

/// A number of so many digits, and what follows it.
fn number<const DIGITS: usize>(text: &[u8]) -> Option<(i16, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<DIGITS>()?;
    let mut sum: i16 = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        sum = sum.checked_mul(10)?.checked_add(i16::from(byte.wrapping_sub(b'0')))?;
    }
    Some((sum, rest))
}

#[cfg(test)]
mod tests;
