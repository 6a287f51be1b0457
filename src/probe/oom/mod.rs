//! OOM kills on the node: how many in the window, in which pod, at whose limit, and who was killed.
//!
//! The count is the kernel's own, per memory cgroup (see `look` and `tally`); the names come from `/var/log/pods`, the
//! runtime's directories and the kernel's log (`killed`). Kills that a program does (kubelet evictions, systemd-oomd)
//! are none, and the kernel counts neither a victim that was ending already nor those that shared its memory.

mod called;
mod judge;
mod killed;
mod look;
mod params;
mod tally;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::glob::Glob;
use super::{Probe, container};
use crate::history::{Past, Reading, Trace};
use crate::host::{Error, Host, Moment};
use crate::memcg::Memcg;
use crate::parse::cgroup::{Place, Uid};
use crate::parse::kmsg::Kill;
use crate::verdict::{Assessment, MetricSpec, Unit};

use called::Called;
use killed::Killed;
use look::{Cgroup, Cgroups};
pub use params::{OfPods, Scope};
use tally::{GROUPS, KILLS, OOMS, OWN_OOMS, SINGLES, TOTAL, Tally};

const KILLS_METRIC: MetricSpec = MetricSpec::new("kills", Unit::None, "OOM events in the window; a group kill is one");
const PROCESSES: MetricSpec = MetricSpec::new("processes", Unit::None, "processes that died in them");
const WORST_POD: MetricSpec = MetricSpec::new("worst_pod", Unit::None, "the most OOM events in one pod");
const PODS: MetricSpec = MetricSpec::new("pods", Unit::None, "pods with OOM events");
const LOOPS: MetricSpec =
    MetricSpec::new("oom_loops", Unit::None, "pods with a container that was OOM-terminated again and again");
const ALLOCATABLE: MetricSpec =
    MetricSpec::new("node_allocatable", Unit::None, "OOM events at the limit of all pods together");
const IGNORED: MetricSpec = MetricSpec::new("ignored", Unit::None, "OOM events in pods that are ignored");
const KILLS_OWN: MetricSpec =
    MetricSpec::new("kills_own", Unit::None, "OOM events in pods with thresholds of their own");
const GLOBAL: MetricSpec =
    MetricSpec::new("global", Unit::None, "OOM events in pods since the node itself had no memory left");
const SYSTEM: MetricSpec =
    MetricSpec::new("system", Unit::None, "OOM events outside all pods since the node had no memory left");
const SYSTEM_LIMIT: MetricSpec =
    MetricSpec::new("system_limit", Unit::None, "OOM events outside all pods at a service's own limit");
const UNATTRIBUTED: MetricSpec =
    MetricSpec::new("unattributed", Unit::None, "OOM events in containers or pods that are gone").optional();
const KILLS_BOOT: MetricSpec =
    MetricSpec::new("kills_boot", Unit::Counter, "processes that the OOM killer killed since the boot").optional();

/// The note that a look could not read all.
const UNREAD: &str = "unread";

/// Looks for OOM kills.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct CgroupOom {
    /// The classes of OOM events that are judged.
    pub scopes: BTreeSet<Scope>,
    /// OOM terminations of one container in the window that are a loop.
    pub loop_at: u64,
    /// Pods whose OOM kills are told and not judged.
    pub ignore: Vec<Glob>,
    /// Pods with thresholds of their own; the first that fits holds.
    pub thresholds: Vec<OfPods>,
}

impl Default for CgroupOom {
    fn default() -> Self {
        let scopes = [Scope::Container, Scope::Pod, Scope::NodeAllocatable];
        CgroupOom { scopes: scopes.into(), loop_at: 3, ignore: Vec::new(), thresholds: Vec::new() }
    }
}

/// What one look at the node saw.
#[derive(Debug)]
pub struct Observation {
    /// `None` on a node without the memory controller.
    memcg: Option<Memcg>,
    cgroups: Cgroups,
    /// OOM kills since the boot, on the whole node.
    total: Result<u64, Error>,
    /// The sign that the kernel, and its total, belong to a host around this node.
    host_of: Option<String>,
    /// What is to be remembered of it.
    readings: Vec<Reading>,
    killed: Killed,
    called: Called,
}

impl CgroupOom {
    fn judges(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    fn judges_pods(&self) -> bool {
        self.scopes.iter().any(|scope| scope.is_of_pods())
    }

    fn judges_node(&self) -> bool {
        self.scopes.iter().any(|scope| !scope.is_of_pods())
    }
}

impl Probe for CgroupOom {
    const NAME: &'static str = "cgroup-oom";
    const PARAMS: &'static [(&'static str, &'static str)] = &[
        (
            "scopes",
            "the classes of OOM events that are judged: container, pod and node-allocatable (whose limit it was), global (a \
             pod, since the node had no memory left), system (outside all pods), unattributed (in what is gone)",
        ),
        ("loop_at", "OOM terminations of one container within the window that are a loop"),
        ("ignore", "pods whose OOM kills are told and not judged, as namespace/pod with * and ?"),
        ("thresholds", "pods with thresholds of their own: [{ pods = \"ci/*\", warning = \"5\", critical = \"50\" }]"),
    ];
    type Observation = Observation;

    fn metrics(&self) -> Vec<MetricSpec> {
        let mut metrics = vec![KILLS_METRIC, PROCESSES];
        let mut add = |holds: bool, some: &[MetricSpec]| metrics.extend(some.iter().filter(|_| holds).cloned());
        add(self.judges_pods(), &[WORST_POD, PODS, LOOPS]);
        add(self.judges(Scope::NodeAllocatable), &[ALLOCATABLE]);
        add(self.judges(Scope::Global), &[GLOBAL]);
        add(self.judges(Scope::System), &[SYSTEM, SYSTEM_LIMIT]);
        add(self.judges(Scope::Unattributed), &[UNATTRIBUTED]);
        add(true, &[IGNORED, KILLS_BOOT]);
        add(self.judges_pods(), &[KILLS_OWN]);
        metrics
    }

    fn observe(&self, host: &Host, past: &Past) -> Result<Observation, Error> {
        let now = host.now();
        let (memcg, cgroups, total) = match Memcg::find(host) {
            Ok(memcg) => {
                let (cgroups, total) = Cgroups::look(host, &memcg)?;
                if !self.judges_node() && !cgroups.kubepods && cgroups.unread.is_none() {
                    return Err(Error::Absent(format!("no kubepods cgroup in {}", memcg.point)));
                }
                (Some(memcg), cgroups, total)
            }
            // Without the controller nothing has a limit: every kill is the node's.
            Err(Error::Absent(_)) if self.judges_node() => (None, Cgroups::default(), Ok(look::vmstat(host)?)),
            Err(error) => return Err(error),
        };
        let is_guest = !cgroups.is_namespace;
        let host_of = is_guest.then(|| container::sign(host, true, &mut None)).flatten();
        let killed = Killed::before(past, &now);
        let counted = total.as_ref().ok().copied().filter(|_| host_of.is_none());
        let readings = readings(&cgroups, counted, past, &now);
        let called = Called::default();
        let mut seen = Observation { memcg, cgroups, total, host_of, readings, killed, called };
        let after = past.after(&seen.readings, &now);
        let tally = Tally::of(&after, &now, seen.is_hierarchical(), &|_, _| None);
        if !tally.is_empty() {
            let moved = moved_pod(&Tally::of(past, &now, seen.is_hierarchical(), &|_, _| None), &tally);
            let is_ours = |kill: &Kill| {
                let pod = kill.cgroup.as_deref().and_then(|path| Place::of(path).pod());
                let is_part = seen.cgroups.is_namespace || seen.host_of.is_some();
                !is_part || pod.is_some_and(|pod| tally.pods.contains_key(&pod))
            };
            seen.killed.look(host, past, &now, moved, &is_ours);
        }
        seen.called = Called::look(host, past, &seen, &tally);
        Ok(seen)
    }

    fn trace(&self, seen: &Observation) -> Trace {
        let called = &seen.called;
        let pods = called.pods.iter().map(|(uid, name)| (uid.to_string(), name.to_string()));
        let limits = called.limits.iter().map(|(of, bytes)| (of.clone(), bytes.to_string()));
        let mut trace = Trace::default();
        // Without the total its next reading would have what others had long before, and forget it later than they.
        if seen.total.is_ok() || seen.host_of.is_some() || !self.judges_node() {
            trace = trace.counters(seen.readings.iter().cloned());
        }
        trace
            .group(called::POD, pods)
            .group(called::CONTAINER, called.containers.clone())
            .group(called::LIMIT, limits)
            .group(UNREAD, seen.cgroups.unread.iter().map(|_| (String::new(), String::new())))
            .group(killed::VICTIMS, seen.killed.notes())
            .group(killed::READ, seen.killed.read.iter().map(|read| (String::new(), read.clone())))
    }

    fn assess(&self, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
        judge::assess(self, seen, past, now)
    }
}

impl Observation {
    fn is_hierarchical(&self) -> bool {
        self.memcg.as_ref().is_some_and(Memcg::is_hierarchical)
    }
}

/// The counters of a look. What the look before could not read may be of any time, and is no growth.
fn readings(cgroups: &Cgroups, total: Option<u64>, past: &Past, now: &Moment) -> Vec<Reading> {
    let old = past.note(UNREAD).is_some();
    let mut readings = Vec::new();
    let mut add = |letter: &str, path: &str, identity: u64, value: Option<u64>| {
        readings.extend(value.map(|value| Reading { key: format!("{letter}{path}"), identity, value, old }));
    };
    for cgroup in &cgroups.all {
        add(KILLS, &cgroup.path, cgroup.inode, Some(cgroup.kills).filter(|kills| *kills > 0));
        add(GROUPS, &cgroup.path, cgroup.inode, cgroup.groups);
        add(SINGLES, &cgroup.path, cgroup.inode, singles(cgroup, past, now));
        add(OOMS, &cgroup.path, cgroup.inode, cgroup.ooms);
        add(OWN_OOMS, &cgroup.path, cgroup.inode, cgroup.own_ooms);
    }
    add(TOTAL, "", 0, total);
    readings
}

/// The single kills of a cgroup, where the kernel tells groups: what a look finds grown is of groups if one was killed, and
/// else it is single ones. A container may have both, one after the other.
fn singles(cgroup: &Cgroup, past: &Past, now: &Moment) -> Option<u64> {
    let groups = cgroup.groups?;
    let before = |letter: &str| past.counter(&format!("{letter}{}", cgroup.path), now);
    Some(match (before(KILLS), before(GROUPS)) {
        (Some(kills), Some(had)) if kills <= cgroup.kills && had <= groups => {
            let new = if groups == had { cgroup.kills - kills } else { 0 };
            before(SINGLES).unwrap_or_default().saturating_add(new)
        }
        // New, or made anew.
        _ if groups == 0 => cgroup.kills,
        _ => 0,
    })
}

/// The one pod in which something was counted since the look before, if it is one and nothing else was.
fn moved_pod(before: &Tally, after: &Tally) -> Option<Uid> {
    let processes = |tally: &Tally| {
        let system = tally.system.iter().map(|system| system.count.processes);
        system.fold(tally.unattributed.processes, u64::saturating_add)
    };
    let had = |uid: &Uid| before.pods.get(uid).map_or(0, |pod| pod.count.processes);
    let mut moved = after.pods.iter().filter(|(uid, pod)| pod.count.processes > had(uid)).map(|(uid, _)| *uid);
    let first = moved.next()?;
    (moved.next().is_none() && processes(after) <= processes(before)).then_some(first)
}
