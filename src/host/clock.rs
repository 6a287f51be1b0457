//! When something was, on the two clocks of a node.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A moment: wall-clock time, and, where it is known, the boot and the time since it.
///
/// The wall clock jumps (a node often boots with a wrong one); the boot clock does not, but is void after a reboot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Wall-clock time.
    pub wall: Timestamp,
    /// `/proc/sys/kernel/random/boot_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Seconds of CLOCK_BOOTTIME, from `/proc/uptime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime: Option<f64>,
}

impl Moment {
    /// A moment of which only the wall-clock time is known.
    pub fn at(wall: Timestamp) -> Moment {
        Moment { wall, boot: None, uptime: None }
    }

    /// Whether both are known to lie in one boot.
    pub fn same_boot(&self, other: &Moment) -> bool {
        self.boot.is_some() && self.boot == other.boot
    }

    /// The time from `earlier` until this moment: by the boot clock within one boot, else by the wall clock. Never
    /// negative.
    pub fn since(&self, earlier: &Moment) -> Duration {
        if let (true, Some(now), Some(then)) = (self.same_boot(earlier), self.uptime, earlier.uptime) {
            return Duration::try_from_secs_f64(now - then).unwrap_or_default();
        }
        self.since_wall(earlier.wall)
    }

    /// The time from a wall-clock time until this moment; zero when that lies in the future.
    pub fn since_wall(&self, earlier: Timestamp) -> Duration {
        Duration::try_from(self.wall.duration_since(earlier)).unwrap_or_default()
    }

    /// When the boot began, by the wall clock of now.
    pub fn boot_time(&self) -> Option<Timestamp> {
        let uptime = SignedDuration::try_from_secs_f64(self.uptime?).ok()?;
        self.wall.checked_sub(uptime).ok()
    }
}

/// A duration in the two largest units that say something, for people: `2 d 3 h`, `45 min`, `12 s`.
pub fn spoken(duration: Duration) -> String {
    let s = duration.as_secs();
    let (d, h, min) = (s / 86400, s / 3600 % 24, s / 60 % 60);
    match (d, h, min) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, min) => format!("{min} min"),
        (0, h, 0) => format!("{h} h"),
        (0, h, min) => format!("{h} h {min} min"),
        (d, 0, _) => format!("{d} d"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// A deadline for people: `1s`, `250ms`. From a second on to the tenth, since part of it may be spent.
pub fn deadline_text(deadline: Duration) -> String {
    let milliseconds = deadline.as_millis() as u64;
    let step = if milliseconds < 900 { 1 } else { 100 };
    humantime::format_duration(Duration::from_millis((milliseconds + step / 2) / step * step)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: &str, boot: &str, uptime: f64) -> Moment {
        Moment { wall: wall.parse().unwrap(), boot: Some(boot.to_owned()), uptime: Some(uptime) }
    }

    #[test]
    fn within_a_boot_the_boot_clock_counts() {
        // The node booted with its clock in 1970 and was corrected later.
        let early = moment("1970-01-01T00:01:00Z", "a", 60.0);
        let late = moment("2026-11-21T00:00:00Z", "a", 3660.0);
        assert_eq!(late.since(&early), Duration::from_secs(3600));
        let other_boot = moment("2026-11-20T23:00:00Z", "b", 9999.0);
        assert_eq!(late.since(&other_boot), Duration::from_secs(3600));
        assert_eq!(early.since(&late), Duration::ZERO);
    }

    #[test]
    fn spoken_durations() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3600, "1 h"),
            (5400, "1 h 30 min"),
            (86400, "1 d"),
            (604_800, "7 d"),
            (180_000, "2 d 2 h"),
        ] {
            assert_eq!(spoken(Duration::from_secs(seconds)), text);
        }
    }
}
