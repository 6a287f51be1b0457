//! What was found, in the operator's words.

use std::time::Duration;

use super::look::Cgroup;
use crate::probe::words::{minutes, shown, size};

/// What a cgroup is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    /// On line 1.
    pub short: String,
    pub long: String,
    has: &'static str,
}

impl Who {
    /// Several pods.
    pub(super) fn group(name: &str) -> Who {
        Who { short: name.to_owned(), long: name.to_owned(), has: "have" }
    }

    /// A pod, or a container of one.
    pub(super) fn one(pod: String, container: Option<String>) -> Who {
        let (short, long) = match container.as_deref().map(shown) {
            Some(container) => (format!("{pod} {container}"), format!("{pod} container {container}")),
            None => (pod.clone(), pod),
        };
        Who { short, long, has: "has" }
    }

    /// `kured/gate-x7 gate 95 % of 64Mi`
    pub(super) fn in_short(&self, cgroup: &Cgroup) -> String {
        format!("{} {} of {}", self.short, percent(cgroup), size(cgroup.place.limit))
    }

    /// `kured/gate-x7 container gate has 61Mi of 64Mi that can't be reclaimed (95 %)`
    pub(super) fn in_full(&self, cgroup: &Cgroup) -> String {
        let (bytes, limit) = (cgroup.unreclaimable.unwrap_or_default(), cgroup.place.limit);
        let (used, limit, percent) = (size(bytes), size(limit), percent(cgroup));
        format!("{} {} {used} of {limit} that can't be reclaimed ({percent})", self.long, self.has)
    }
}

/// Hits within a time.
pub(super) fn hits(whose: &str, by: u64, covered: Duration) -> String {
    let times = match by {
        1 => "once".to_owned(),
        by => format!("{by} times"),
    };
    format!("{whose} hit {times} in {}", minutes(covered))
}

/// The part of its limit that can't be reclaimed: in tenths, never rounded up, so that a threshold on it is passed when
/// it is reached.
pub(super) fn part(cgroup: &Cgroup) -> f64 {
    let bytes = u128::from(cgroup.unreclaimable.unwrap_or_default());
    let tenths = bytes * 1000 / u128::from(cgroup.place.limit.max(1));
    f64::from(u32::try_from(tenths.min(1000)).unwrap_or(1000)) / 10.0
}

fn percent(cgroup: &Cgroup) -> String {
    format!("{} %", part(cgroup).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(hits("limit", 1, Duration::from_secs(3600)), "limit hit once in 60 min");
        assert_eq!(hits("limit", 12, Duration::from_secs(2240)), "limit hit 12 times in 37 min");
    }
}
