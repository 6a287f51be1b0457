//! Counting lines by the minute before now.
//!
//! Every window that ends a whole number of minutes ago is a sum of minutes: what was so a while ago is known without a past.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

const MINUTE: i64 = 60;
/// Of so many keys lines are told apart; those of others count as one.
const MOST_KEYS: usize = 1000;
/// The newest lines that are kept.
const SAMPLES: usize = 3;
/// Of one line.
const LONGEST_SAMPLE: usize = 400;

/// The lines of one pattern.
#[derive(Debug, Default)]
pub struct Tally {
    minutes: Vec<Minute>,
    keys: Vec<String>,
    by_key: BTreeMap<String, usize>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    samples: Vec<(Timestamp, Vec<u8>)>,
}

#[derive(Debug, Default, Clone)]
struct Minute {
    count: u64,
    highest: Option<f64>,
    by_key: BTreeMap<usize, u64>,
}

/// What a window came to.
#[derive(Debug, Default, PartialEq)]
pub struct Sum {
    /// Lines.
    pub count: u64,
    /// Minutes with a line.
    pub minutes: u64,
    /// The most in one minute.
    pub rate: u64,
    /// The highest value.
    pub highest: Option<f64>,
    /// How many keys, and the busiest with its lines.
    pub keys: usize,
    pub busiest: Option<(String, u64)>,
}

impl Tally {
    /// One for so long.
    pub fn of(span: Duration) -> Tally {
        let minutes = usize::try_from(span.as_secs().div_ceil(60)).unwrap_or(0);
        Tally { minutes: vec![Minute::default(); minutes], ..Tally::default() }
    }

    /// Counts a line of `at`; what is later than now is of now.
    pub fn add(&mut self, now: Timestamp, at: Timestamp, key: Option<String>, value: Option<f64>, line: &[u8]) {
        let age = now.as_second().saturating_sub(at.as_second()).max(0);
        let Some(minute) = usize::try_from(age / MINUTE).ok().and_then(|minute| self.minutes.get_mut(minute)) else {
            return;
        };
        minute.count = minute.count.saturating_add(1);
        minute.highest = minute.highest.into_iter().chain(value).reduce(f64::max);
        if let Some(key) = key {
            let known = self.by_key.len();
            let number = *self.by_key.entry(key).or_insert_with_key(|key| {
                if known < MOST_KEYS {
                    self.keys.push(key.clone());
                }
                known.min(MOST_KEYS)
            });
            *minute.by_key.entry(number).or_default() += 1;
            if self.by_key.len() > 2 * MOST_KEYS {
                self.by_key.retain(|_, number| *number < MOST_KEYS);
            }
        }
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        self.samples.push((at, line.get(..LONGEST_SAMPLE).unwrap_or(line).to_vec()));
        if self.samples.len() > 8 * SAMPLES {
            self.newest_samples();
        }
    }

    fn newest_samples(&mut self) {
        self.samples.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        self.samples.truncate(SAMPLES);
    }

    /// What the window that ended so many minutes ago came to.
    pub fn sum(&self, ago: usize, window: Duration) -> Sum {
        let length = usize::try_from(window.as_secs().div_ceil(60)).unwrap_or(usize::MAX);
        let minutes = self.minutes.iter().skip(ago).take(length);
        let (mut sum, mut by_key) = (Sum::default(), BTreeMap::<usize, u64>::new());
        for minute in minutes.filter(|minute| minute.count > 0) {
            sum.count = sum.count.saturating_add(minute.count);
            sum.minutes += 1;
            sum.rate = sum.rate.max(minute.count);
            sum.highest = sum.highest.into_iter().chain(minute.highest).reduce(f64::max);
            for (key, count) in &minute.by_key {
                *by_key.entry(*key).or_default() += count;
            }
        }
        sum.keys = by_key.len();
        let busiest = by_key.into_iter().max_by_key(|(key, count)| (*count, std::cmp::Reverse(*key)));
        sum.busiest =
            busiest.map(|(key, count)| (self.keys.get(key).cloned().unwrap_or_else(|| "others".to_owned()), count));
        sum
    }

    /// The first and the last line of all.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        self.first.zip(self.last)
    }

    /// The newest lines, the newest first.
    pub fn samples(mut self) -> Vec<(Timestamp, Vec<u8>)> {
        self.newest_samples();
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn windows_are_sums_of_minutes() {
        let now = at(100_000);
        let mut tally = Tally::of(Duration::from_secs(600));
        for age in [0, 59, 60, 61, 300, 599, 600, 5000, -30] {
            tally.add(now, at(100_000 - age), Some(format!("{}", age % 2)), Some(age as f64), b"x");
        }
        let sum = |ago, window| tally.sum(ago, Duration::from_secs(window));
        let last = sum(0, 120);
        assert_eq!((last.count, last.minutes, last.rate, last.highest), (5, 2, 3, Some(61.0)));
        assert_eq!((last.keys, last.busiest), (2, Some(("0".to_owned(), 3))));
        assert_eq!((sum(1, 300).count, sum(5, 60).count, sum(9, 600).count), (3, 1, 1));
        assert_eq!(sum(10, 60), Sum::default());
        assert_eq!(tally.span(), Some((at(100_000 - 599), at(100_030))));
        assert_eq!(tally.samples().len(), 3);
    }

    #[test]
    fn very_many_keys_are_one() {
        let mut tally = Tally::of(Duration::from_secs(60));
        for key in 0..100_000 {
            tally.add(at(0), at(0), Some(key.to_string()), None, b"");
        }
        let sum = tally.sum(0, Duration::from_secs(60));
        assert_eq!((sum.keys, sum.busiest), (MOST_KEYS + 1, Some(("others".to_owned(), 100_000 - MOST_KEYS as u64))));
    }
}
