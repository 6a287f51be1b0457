//! Whether a container, a pod or all pods together are about to hit their memory limit for real.
//!
//! A cgroup's usage holds page cache, which fills it to the limit and means nothing: the kernel takes it back. So what
//! counts is the memory that can't be taken back, together with hits of the limit: each of the two alone is harmless.
//! Where the kernel tells for how long tasks wait for memory (PSI), a container that thrashes is told too: it may be so
//! slow as to be down long before anything is killed.

mod judge;
mod look;
mod names;
mod params;
#[cfg(test)]
mod tests;
mod text;
mod walk;

use serde::{Deserialize, Serialize};

use super::Probe;
use super::glob::Glob;
use crate::history::{Past, Reading, Trace};
use crate::host::{Error, Host, Moment};
use crate::verdict::{Assessment, MetricSpec, Unit};

use look::{Cgroup, Psi};
use names::Labels;
use walk::Unread;

/// The notes of containers whose tasks wait too long: since which look.
const PRESSED: &str = "pressed ";
/// The notes of names: of a pod by its uid, of a container by the pod's uid and its own id.
const NAMED: &str = "pod ";

const NEAR_LIMIT: MetricSpec = MetricSpec::new(
    "near_limit",
    Unit::None,
    "containers, pods and groups of pods that hit their memory limit with too little to reclaim",
);
const THRASHING: MetricSpec =
    MetricSpec::new("thrashing", Unit::None, "containers whose tasks all wait for memory too long, look after look")
        .optional();
const PSI_FULL60: MetricSpec =
    MetricSpec::percent("psi_full60", "most of the last minute that all tasks of a container waited for memory")
        .optional();
const WORST: MetricSpec =
    MetricSpec::percent("worst_unreclaimable", "largest part of a memory limit that can't be reclaimed");
const CONTAINERS: MetricSpec = MetricSpec::new("containers", Unit::None, "containers with a memory limit");

/// Looks for memory limits that are about to be hit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CgroupHeadroom {
    /// Percent of a limit that can't be reclaimed: from there on it is near.
    #[serde(deserialize_with = "params::percent")]
    pub near: u8,
    /// Percent of a minute that all tasks of a container wait for memory: from there on it thrashes.
    #[serde(deserialize_with = "params::percent")]
    pub pressure: u8,
    /// Pods that nobody wants to be told of.
    pub ignore: Vec<Glob>,
}

impl Default for CgroupHeadroom {
    fn default() -> Self {
        CgroupHeadroom { near: 90, pressure: 10, ignore: Vec::new() }
    }
}

/// What one look at the node saw.
#[derive(Debug)]
pub struct Observation {
    boot_id: Option<String>,
    /// Those of which more than limit and usage was read, in the order of usage to limit.
    cgroups: Vec<Cgroup>,
    /// How many containers have a limit.
    containers: usize,
    /// Pods with a limit that are left out by `ignore`.
    ignored: Vec<String>,
    /// Whether hits were counted before.
    has_past: bool,
    psi: Psi,
    labels: Labels,
    unread: Unread,
}

impl Probe for CgroupHeadroom {
    const NAME: &'static str = "cgroup-headroom";
    const PARAMS: &'static [(&'static str, &'static str)] = &[
        ("near", "percent of a limit that can't be reclaimed, from which on hits of it count (1 to 100)"),
        ("pressure", "percent of a minute that all tasks of a container waited for memory: thrashing (1 to 100)"),
        ("ignore", "pods that are left out, as namespace/pod with * and ?"),
    ];
    type Observation = Observation;

    fn metrics(&self) -> Vec<MetricSpec> {
        vec![NEAR_LIMIT, THRASHING, PSI_FULL60, WORST, CONTAINERS]
    }

    fn observe(&self, host: &Host, past: &Past) -> Result<Observation, Error> {
        look::observe(self, host, past)
    }

    fn trace(&self, seen: &Observation) -> Trace {
        let readings = seen.cgroups.iter().filter_map(|cgroup| {
            let (key, identity) = (cgroup.place.path.clone(), cgroup.inode);
            Some(Reading { key, identity, value: cgroup.hits?, old: true })
        });
        let readings: Vec<Reading> = readings.collect();
        let is_pressed = |cgroup: &&Cgroup| cgroup.is_pressed(self.pressure);
        let mut trace = Trace::default().group(NAMED, seen.labels.notes());
        // Where none is near or waits, a look needs no past, and none that can be kept.
        if seen.has_past || !readings.is_empty() || seen.cgroups.iter().any(|cgroup| is_pressed(&cgroup)) {
            trace = trace.counters(readings);
        }
        if seen.psi.is_whole() {
            let pressed = seen.cgroups.iter().filter(is_pressed);
            trace = trace.group(PRESSED, pressed.map(|cgroup| (cgroup.place.path.clone(), seen.identity_of(cgroup))));
        }
        trace
    }

    fn assess(&self, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
        judge::assess(self, seen, past, now)
    }
}

impl Observation {
    /// What makes a cgroup another one under the same path: a static pod keeps its uid over a reboot.
    fn identity_of(&self, cgroup: &Cgroup) -> String {
        format!("{} {}", cgroup.inode, self.boot_id.as_deref().unwrap_or_default())
    }
}
