//! Counters over time: what grew, and between which looks. Nothing is consumed by reading.
//!
//! All times are seconds since the boot, since a counter of the kernel does not outlive one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::host::Moment;

/// Steps are kept so long, whatever the window: readers with different windows share one past.
const KEPT: i64 = 25 * 3600;
/// A counter that was not seen for so long is forgotten, once it has no steps: reading it may fail for a while.
const MISSED: i64 = 3600;
/// Steps become one when they end in the same stretch of so many seconds, so that a loop of kills stays small...
const FINE: i64 = 180;
/// ...or of so many, once it is older than the next.
const COARSE: i64 = 3600;
const OLD: i64 = 2 * 3600;

/// A counter as one look read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What it counts, for example the path of a cgroup.
    pub key: String,
    /// Of which instance: another inode under the same path is another counter, which began at 0.
    pub identity: u64,
    /// Its value.
    pub value: u64,
    /// Whether it may have been above 0 for long when it is read for the first time: nobody cared before. What it has
    /// then is not growth.
    pub old: bool,
}

/// Growth between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Step(i64, i64, u64);

/// What is remembered of a counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    #[serde(rename = "i")]
    identity: u64,
    #[serde(rename = "v")]
    value: u64,
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Step>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    missed_since: Option<i64>,
}

/// The counters of one check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counters {
    /// The boot that they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    /// The first and the newest look of that boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    looks: Option<(i64, i64)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    all: BTreeMap<String, Counter>,
}

/// What a counter grew by within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growth {
    /// By how much.
    pub by: u64,
    /// Some of it may have come before the window began: the looks around that were further apart.
    pub maybe_before: bool,
}

/// The second that counters go by: since the boot, or by the wall clock where the boot clock is not known.
fn second(now: &Moment) -> i64 {
    // Saturates; an uptime beyond i64 is nonsense in a fixture.
    now.uptime.map_or(now.wall.as_second(), |uptime| uptime as i64)
}

impl Counters {
    /// Takes in one look; `window` is that of the check. Returns whether something grew, came or went.
    pub(super) fn take(&mut self, readings: &[Reading], now: &Moment, window: i64) -> bool {
        let at = second(now);
        if self.boot != now.boot || self.looks.is_none() {
            *self = Counters { boot: now.boot.clone(), ..Counters::default() };
        }
        let before = self.looks.map(|(_, newest)| newest);
        // In a boot that is younger than the window, everything since the boot lies in it.
        let young = now.uptime.is_some() && at <= window;
        let mut changed = before.is_none();
        for reading in readings {
            let old = self.all.get_mut(&reading.key);
            let by = match (&old, before) {
                (Some(old), _) if old.identity == reading.identity && reading.value >= old.value => {
                    reading.value - old.value
                }
                (None, None) if !young => 0,
                (None, _) if reading.old => 0,
                // Another instance, one that came since the last look, or one that was set back: all it has is new.
                _ => reading.value,
            };
            let step = (by > 0).then_some(Step(before.unwrap_or(0), at, by));
            changed |= step.is_some();
            match old {
                Some(counter) => {
                    (counter.identity, counter.value, counter.missed_since) = (reading.identity, reading.value, None);
                    counter.steps.extend(step);
                }
                None => {
                    let (identity, value) = (reading.identity, reading.value);
                    let counter = Counter { identity, value, steps: step.into_iter().collect(), missed_since: None };
                    self.all.insert(reading.key.clone(), counter);
                    changed = true;
                }
            }
        }
        let seen: std::collections::HashSet<&str> = readings.iter().map(|reading| reading.key.as_str()).collect();
        let count = self.all.len();
        self.all.retain(|key, counter| {
            if !seen.contains(key.as_str()) {
                counter.missed_since.get_or_insert(at);
            }
            tidy(&mut counter.steps, at, window);
            !counter.steps.is_empty() || counter.missed_since.is_none_or(|since| at.saturating_sub(since) <= MISSED)
        });
        self.looks = Some((self.looks.map_or(at, |(first, _)| first), at));
        changed || self.all.len() != count
    }

    /// What a counter grew by in the window that ends now.
    pub(super) fn growth(&self, key: &str, now: &Moment, window: i64) -> Growth {
        let begin = second(now).saturating_sub(window);
        let counted = self.all.get(key).filter(|_| self.boot == now.boot);
        let mut growth = Growth::default();
        for Step(from, to, by) in counted.into_iter().flat_map(|counter| &counter.steps) {
            if *to > begin {
                growth.by = growth.by.saturating_add(*by);
                growth.maybe_before |= *from < begin;
            }
        }
        growth
    }

    /// The value that the newest look which read it saw, of the same boot.
    pub(super) fn value(&self, key: &str, now: &Moment) -> Option<u64> {
        self.all.get(key).filter(|_| self.boot == now.boot).map(|counter| counter.value)
    }

    /// The keys below `prefix`, the ones of counters that are gone included.
    pub(super) fn keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let from = self.all.range(prefix.to_owned()..);
        from.map(|(key, _)| key.as_str()).take_while(move |key| key.starts_with(prefix))
    }

    /// How much of the window the looks of this boot cover, in seconds: all of it in a boot that is younger.
    pub(super) fn covered(&self, now: &Moment, window: i64) -> i64 {
        let Some((first, _)) = self.looks.filter(|_| self.boot == now.boot) else { return 0 };
        let since = if first <= window && now.uptime.is_some() { 0 } else { first };
        second(now).saturating_sub(since).clamp(0, window)
    }
}

/// Drops what is too old and joins the steps of a stretch that is over: fine stretches of the last hours, coarse ones
/// before. A joined step, and one alone too, ends with its stretch. So all counters forget what happened at one time at
/// one time, and a counter less those of its parts never shows what is none's.
fn tidy(steps: &mut Vec<Step>, now: i64, window: i64) {
    for step in steps.iter_mut() {
        for (length, age) in [(FINE, 0), (COARSE, OLD)] {
            let end = step.1.saturating_add(length - 1).div_euclid(length).saturating_mul(length);
            if now.saturating_sub(end) >= age {
                step.1 = end;
            }
        }
    }
    let kept = KEPT.max(window.saturating_add(COARSE));
    steps.retain(|Step(_, to, _)| now.saturating_sub(*to) <= kept);
    steps.dedup_by(|next, kept| {
        let joins = next.1 == kept.1;
        if joins {
            kept.2 = kept.2.saturating_add(next.2);
        }
        joins
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(second: i64) -> Moment {
        in_boot(second, "a")
    }

    fn in_boot(second: i64, boot: &str) -> Moment {
        let wall = jiff::Timestamp::from_second(1_800_000_000 + second).unwrap();
        Moment { wall, boot: Some(boot.to_owned()), uptime: Some(second as f64) }
    }

    fn reading(identity: u64, value: u64) -> [Reading; 1] {
        [Reading { key: "pod".to_owned(), identity, value, old: false }]
    }

    /// What a history of (second, inode, value) has counted in the hour before its last look.
    fn counted(looks: &[(i64, u64, u64)]) -> u64 {
        let mut counters = Counters::default();
        for (second, identity, value) in looks {
            counters.take(&reading(*identity, *value), &at(*second), HOUR);
        }
        counters.growth("pod", &at(looks.last().unwrap().0), HOUR).by
    }

    #[test]
    fn the_rules() {
        const T: i64 = 100_000;
        for (looks, growth, why) in [
            (&[(T, 1, 149)][..], 0, "the first look ever is the baseline"),
            (&[(T, 1, 149), (T + 30, 1, 149)], 0, "nothing grew"),
            (&[(T, 1, 149), (T + 30, 1, 152)], 3, "a difference"),
            (&[(T, 1, 149), (T + 30, 2, 2)], 2, "another inode began at 0"),
            (&[(T, 1, 149), (T + 30, 1, 2)], 2, "a counter that ran backwards began at 0"),
            (&[(T, 1, 149), (T + 30, 2, 150)], 150, "another inode, though the value is larger"),
            (&[(T, 1, 0), (T + 30, 1, 5), (T + 3000, 1, 5)], 5, "it stays for the window"),
            (&[(T, 1, 0), (T + 30, 1, 5), (T + 3700, 1, 5)], 0, "and not much longer"),
            (&[(1000, 1, 7)], 7, "a boot younger than the window: all since boot"),
            (&[(T, 1, u64::MAX), (T + 30, 2, u64::MAX), (T + 900, 3, u64::MAX)], u64::MAX, "no overflow"),
        ] {
            assert_eq!(counted(looks), growth, "{why}");
        }
    }

    #[test]
    fn one_that_came_between_two_looks_counts_whole() {
        let mut counters = Counters::default();
        counters.take(&[], &at(100_000), HOUR);
        counters.take(&reading(1, 4), &at(100_030), HOUR);
        assert_eq!(counters.growth("pod", &at(100_030), HOUR).by, 4);
    }

    #[test]
    fn one_that_nobody_read_before_begins_where_it_is() {
        let old = |value| [Reading { old: true, ..reading(1, value)[0].clone() }];
        let mut counters = Counters::default();
        counters.take(&[], &at(100_000), HOUR);
        counters.take(&old(4000), &at(100_030), HOUR);
        assert_eq!(counters.growth("pod", &at(100_030), HOUR).by, 0);
        counters.take(&old(4002), &at(100_060), HOUR);
        assert_eq!(counters.growth("pod", &at(100_060), HOUR).by, 2);
        assert_eq!(counters.value("pod", &at(100_060)), Some(4002));
        assert_eq!(counters.value("pod", &in_boot(9, "b")), None);
    }

    /// A pod and its two containers: whenever somebody asks, the pod has what they have together.
    #[test]
    fn a_sum_and_its_parts_forget_together() {
        let mut counters = Counters::default();
        let mut values = [0_u64; 2];
        for look in 0..700_i64 {
            // Kills at odd moments, in one container, in the other, in both.
            values[0] += u64::from(look % 7 == 3);
            values[1] += u64::from(look % 11 < 2);
            let reading = |key: &str, value| Reading { key: key.to_owned(), identity: 1, value, old: false };
            let pod = values.iter().sum();
            let now = at(100_007 + look * 97);
            counters.take(&[reading("a", values[0]), reading("b", values[1]), reading("pod", pod)], &now, HOUR);
            for later in [0, 13, 30] {
                let now = at(100_007 + look * 97 + later);
                for window in [60, 900, HOUR, 5 * HOUR, 24 * HOUR] {
                    let growth = |key| counters.growth(key, &now, window).by;
                    assert_eq!(growth("pod"), growth("a") + growth("b"), "look {look}, window {window}");
                }
            }
        }
    }

    #[test]
    fn a_reboot_drops_counters() {
        let mut counters = Counters::default();
        counters.take(&reading(1, 4), &at(100_000), HOUR);
        counters.take(&reading(1, 9), &at(100_060), HOUR);
        counters.take(&reading(1, 3), &in_boot(50, "b"), HOUR);
        assert_eq!(counters.growth("pod", &in_boot(60, "b"), HOUR).by, 3);
        assert_eq!(counters.growth("pod", &at(100_061), HOUR).by, 0);
    }

    #[test]
    fn what_is_gone_still_counts_and_is_then_forgotten() {
        let mut counters = Counters::default();
        counters.take(&reading(1, 0), &at(100_000), HOUR);
        counters.take(&reading(1, 6), &at(100_060), HOUR);
        counters.take(&[], &at(100_120), HOUR);
        assert_eq!(counters.growth("pod", &at(100_120), HOUR).by, 6);
        assert_eq!(counters.keys("po").collect::<Vec<_>>(), ["pod"]);
        assert!(counters.take(&[], &at(100_060 + KEPT + COARSE), HOUR));
        assert_eq!(counters.keys("").count(), 0);
    }

    #[test]
    fn a_look_that_failed_makes_no_kills() {
        let mut counters = Counters::default();
        counters.take(&reading(1, 149), &at(100_000), HOUR);
        counters.take(&[], &at(100_030), HOUR);
        counters.take(&reading(1, 149), &at(100_060), HOUR);
        assert_eq!(counters.growth("pod", &at(100_060), HOUR).by, 0);
    }

    #[test]
    fn two_readers_with_different_windows() {
        let mut counters = Counters::default();
        for (second, value) in [(100_000, 0), (100_600, 2), (103_000, 5), (103_600, 6)] {
            counters.take(&reading(1, value), &at(second), HOUR);
        }
        let growth = |window| counters.growth("pod", &at(103_700), window);
        assert_eq!(growth(HOUR), Growth { by: 6, maybe_before: true });
        assert_eq!(growth(60 * 15), Growth { by: 4, maybe_before: true });
        assert_eq!(growth(60 * 5), Growth { by: 1, maybe_before: true });
        assert_eq!(growth(24 * HOUR).by, 6);
        // Asked twice, the same.
        assert_eq!(growth(HOUR).by, 6);
    }

    #[test]
    fn coverage() {
        let mut counters = Counters::default();
        assert_eq!(counters.covered(&at(100_000), HOUR), 0);
        counters.take(&[], &at(100_000), HOUR);
        assert_eq!(counters.covered(&at(100_000 + 37 * 60), HOUR), 37 * 60);
        assert_eq!(counters.covered(&at(200_000), HOUR), HOUR);
        let mut young = Counters::default();
        young.take(&[], &at(600), HOUR);
        assert_eq!(young.covered(&at(900), HOUR), 900);
    }

    #[test]
    fn a_day_of_loops_in_500_containers_stays_small() {
        let mut counters = Counters::default();
        let keys: Vec<String> = (0..500).map(|n| format!("/kubepods/burstable/pod{n:036}/{n:064}")).collect();
        for look in 0..2880_u64 {
            let readings: Vec<Reading> =
                keys.iter().map(|key| Reading { key: key.clone(), identity: 1, value: look, old: false }).collect();
            counters.take(&readings, &at(100_000 + i64::try_from(look).unwrap() * 30), HOUR);
        }
        let now = at(100_000 + 2879 * 30);
        // The step in which the window begins counts whole, and says so.
        let growth = counters.growth(&keys[0], &now, HOUR);
        assert!((120..=126).contains(&growth.by) && growth.maybe_before, "{growth:?}");
        assert_eq!(counters.growth(&keys[0], &now, 25 * HOUR).by, 2879);
        let size = serde_json::to_vec(&counters).unwrap().len();
        assert!(size < 1_000_000, "{size} bytes");
    }
}
