//! containerd's records of pod sandboxes that will hurt: names that are held twice or by what is dead, creations that never
//! end, records that containerd can't load, a damaged database.
//!
//! A record of a sandbox that is dead is normal after a reboot and harmless: the kubelet asks for the next attempt, which is
//! another name. So records are not counted; each is put into a class that tells what will happen (`judge`). Whether a
//! sandbox lives is asked of the kernel (`live`), never of containerd, which may be down, and never of time stamps, since
//! clocks move.

mod judge;
mod live;
mod look;
mod sort;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Probe;
use super::glob::Glob;
use super::words::{short_id, shown};
use crate::history::{Past, Trace};
use crate::host::{Error, Host, Moment};
use crate::parse::containerd::{Id, SandboxMetadata};
use crate::pods::PodName;
use crate::verdict::{Assessment, MetricSpec, Unit};

// A database that is damaged or can't be read is a finding of its own: what it hides needs no other.
const DUPLICATES: MetricSpec =
    MetricSpec::new("duplicates", Unit::None, "names that two records bear: containerd does not start again")
        .optional();
const BROKEN: MetricSpec = MetricSpec::new("broken", Unit::None, "records that containerd can't load").optional();
const INVERTED: MetricSpec = MetricSpec::new(
    "inverted",
    Unit::None,
    "pods whose newest sandbox by the clock is dead and has not the highest attempt: the next name is taken",
)
.optional();
const INVERTED_LIVE: MetricSpec = MetricSpec::new(
    "inverted_live",
    Unit::None,
    "pods whose newest sandbox by the clock has not the highest attempt, but lives, or whose containers have ended",
)
.optional();
const STUCK: MetricSpec =
    MetricSpec::new("stuck", Unit::None, "sandboxes whose creation began and does not end").optional();
const STUCK_AGE: MetricSpec =
    MetricSpec::new("stuck_age", Unit::Seconds, "how long the oldest creation has been stuck").optional();
const STALE: MetricSpec =
    MetricSpec::new("stale", Unit::None, "sandboxes that died uncleanly and have no successor").optional();
const ORPHANED: MetricSpec =
    MetricSpec::new("orphaned", Unit::None, "dead sandboxes of pods that the kubelet does not know any more")
        .optional();
const NETLESS: MetricSpec =
    MetricSpec::new("netless", Unit::None, "sandboxes that live and have lost their network namespace").optional();
const UNRECORDED: MetricSpec =
    MetricSpec::new("unrecorded", Unit::None, "containers in pods that run and that containerd has no record of")
        .optional();
const SANDBOXES: MetricSpec = MetricSpec::new("sandboxes", Unit::None, "sandboxes on record");
const LIVE: MetricSpec = MetricSpec::new("live", Unit::None, "sandboxes with a process");
const SUPERSEDED: MetricSpec = MetricSpec::new(
    "superseded",
    Unit::None,
    "dead sandboxes whose pod has a newer one that lives: normal after a reboot",
);
const RESERVED: MetricSpec = MetricSpec::new("reserved_names", Unit::None, "sandbox names that records hold");
const TRIES: MetricSpec =
    MetricSpec::new("tries", Unit::None, "reads of the database until nothing was written meanwhile").optional();
const SCAN_TIME: MetricSpec = MetricSpec::new("scan_time", Unit::Seconds, "how long the look took").optional();

/// The notes: of dead sandboxes by id, of those whose pod is gone, of broken records, and of containerd's root directories.
const DEAD: &str = "dead ";
const GONE: &str = "gone ";
const BROKE: &str = "broken ";
const ROOT: &str = "root ";

/// Looks for sandbox records that will hurt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandboxes {
    /// How long a sandbox may be dead, or being made, before it is told.
    #[serde(serialize_with = "crate::probe::params::span_out", deserialize_with = "crate::probe::params::span_in")]
    pub grace: Duration,
    /// containerd's root directories; empty: they are found.
    #[serde(deserialize_with = "crate::probe::params::dirs")]
    pub roots: Vec<String>,
    /// Pods whose dead sandboxes are left out.
    pub ignore: Vec<Glob>,
}

impl Default for Sandboxes {
    fn default() -> Self {
        Sandboxes { grace: Duration::from_secs(600), roots: Vec::new(), ignore: Vec::new() }
    }
}

/// What one look at the node saw.
#[derive(Debug, Default)]
pub struct Observation {
    databases: Vec<Seen>,
    /// Databases that could not be read.
    troubles: Vec<Error>,
    /// Databases that containerd has left for another one.
    left: Vec<String>,
    /// Containers in pods that no database has, with what their pods are called; `None` where that can't be told.
    unrecorded: Option<Vec<(String, String)>>,
    /// Why nothing can be called dead.
    blind: Option<String>,
    /// How long no pod has come or gone, where the directory tells.
    quiet: Option<Duration>,
    took: Option<Duration>,
}

/// One database.
#[derive(Debug)]
struct Seen {
    root: String,
    path: String,
    /// The distribution that has it there.
    of: Option<&'static str>,
    holder: Holder,
    tries: u32,
    /// What it holds, or what is damaged.
    read: Result<Contents, String>,
}

/// Who has a database open.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    Process(u32),
    Nobody,
    Unknown,
}

/// What a database holds.
#[derive(Debug, Default)]
struct Contents {
    /// `dbVersion`.
    schema: u64,
    sandboxes: Vec<Sandbox>,
    duplicates: Vec<Duplicate>,
    broken: Vec<Broken>,
    /// Names that the records hold.
    reserved: usize,
    /// Whether it can be told of no live sandbox that its network namespace is there.
    sees_no_netns: bool,
}

/// A sandbox.
#[derive(Debug)]
struct Sandbox {
    id: Id,
    metadata: SandboxMetadata,
    created: Option<Timestamp>,
    life: Life,
    /// containerd 2 alone has only this kind of record of it: until it has started.
    is_only_begun: bool,
    ignored: bool,
}

/// Whether a sandbox lives.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Life {
    /// It has a process; whether its network namespace is there, where that can be told.
    Live {
        netless: bool,
    },
    Dead(Dead),
    Unknown,
}

/// A dead sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Dead {
    /// A sandbox of the same pod with a higher attempt lives.
    is_superseded: bool,
    /// There is one with a higher attempt.
    is_former: bool,
    /// It was never made to its end.
    is_unfinished: bool,
    /// The containers of it that were running when something took them away.
    unclean: Vec<String>,
    /// The kubelet does not know its pod any more.
    is_orphan: bool,
    /// It had containers, and somebody saw the end of each.
    is_done: bool,
}

/// A name that several records bear.
#[derive(Debug)]
struct Duplicate {
    /// Of sandboxes, and not of containers.
    is_of_sandboxes: bool,
    what: String,
    /// Their ids, and whether each lives, where that can be told.
    ids: Vec<(String, Option<bool>)>,
}

/// A record that can't be loaded.
#[derive(Debug)]
struct Broken {
    id: String,
    what: String,
    why: String,
    /// What containerd does with it.
    then: &'static str,
    created: Option<Timestamp>,
    /// One that is being made may be so for a moment.
    has_grace: bool,
    /// Whether it has a process, where that can be told.
    lives: Option<bool>,
    /// Whether it is only among the sandboxes of containerd 2.
    is_of_api: bool,
}

impl Sandbox {
    fn short_id(&self) -> String {
        shown(short_id(&self.id.to_string()))
    }

    /// Its pod, as it is told.
    fn pod(&self) -> String {
        self.pod_name().map_or_else(|| shown(self.metadata.name()), |name| name.to_string())
    }

    fn pod_name(&self) -> Option<PodName> {
        let pod = self.metadata.pod()?;
        PodName::new(pod.namespace, pod.name)
    }

    fn uid(&self) -> &str {
        self.metadata.uid()
    }

    fn attempt(&self) -> u32 {
        self.metadata.pod().unwrap_or_default().attempt
    }
}

impl Probe for Sandboxes {
    const NAME: &'static str = "containerd-sandboxes";
    const PARAMS: &'static [(&'static str, &'static str)] = &[
        ("grace", "how long a sandbox may be dead, or being made, before it is told: \"10m\""),
        ("roots", "containerd's root directories, if nodecheck does not find them: [\"/var/lib/containerd\"]"),
        ("ignore", "pods whose dead sandboxes are left out, as namespace/pod with * and ?"),
    ];
    type Observation = Observation;

    fn metrics(&self) -> Vec<MetricSpec> {
        let judged =
            [DUPLICATES, BROKEN, INVERTED, STUCK, STUCK_AGE, INVERTED_LIVE, STALE, ORPHANED, NETLESS, UNRECORDED];
        let told = [SANDBOXES, LIVE, SUPERSEDED, RESERVED, TRIES, SCAN_TIME];
        judged.into_iter().chain(told).collect()
    }

    fn observe(&self, host: &Host, past: &Past) -> Result<Observation, Error> {
        look::observe(self, host, past)
    }

    fn trace(&self, seen: &Observation) -> Trace {
        let roots = seen.databases.iter().map(|database| (database.root.clone(), String::new()));
        let mut trace = Trace::default();
        // One that can't be read now is still there.
        if seen.troubles.is_empty() {
            trace = trace.group(ROOT, roots);
        }
        if seen.is_whole() {
            let broken = seen.contents().flat_map(|(_, contents)| &contents.broken);
            trace = trace.group(BROKE, broken.map(|broken| (broken.id.clone(), String::new())));
        }
        if seen.blind.is_none() && seen.is_whole() {
            let dead = || seen.sandboxes().filter_map(|(sandbox, dead)| dead.map(|dead| (sandbox, dead)));
            let of = |sandbox: &Sandbox| (sandbox.id.to_string(), String::new());
            trace = trace.group(DEAD, dead().filter(|(_, dead)| !dead.is_superseded).map(|(sandbox, _)| of(sandbox)));
            trace = trace.group(GONE, dead().filter(|(_, dead)| dead.is_orphan).map(|(sandbox, _)| of(sandbox)));
        }
        trace
    }

    fn assess(&self, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
        judge::assess(self, seen, past, now)
    }
}

impl Observation {
    fn contents(&self) -> impl Iterator<Item = (&Seen, &Contents)> {
        self.databases.iter().filter_map(|seen| Some((seen, seen.read.as_ref().ok()?)))
    }

    /// Whether every database could be read.
    fn is_whole(&self) -> bool {
        self.troubles.is_empty() && self.databases.iter().all(|seen| seen.read.is_ok())
    }

    /// All sandboxes, and what is known of the dead ones.
    fn sandboxes(&self) -> impl Iterator<Item = (&Sandbox, Option<&Dead>)> {
        let all = self.contents().flat_map(|(_, contents)| &contents.sandboxes);
        all.map(|sandbox| match &sandbox.life {
            Life::Dead(dead) => (sandbox, Some(dead)),
            _ => (sandbox, None),
        })
    }
}
