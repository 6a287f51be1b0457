//! From counters that grew to OOM events: how many, in which pod, and at whose limit.
//!
//! The kernel counts a kill where the victim was and a limit that was hit where the limit is
//! (`memcg_memory_event_mm`, `mem_cgroup_oom` in `mm/memcontrol.c`). So a kill in a container whose own limit was hit is
//! the container's; one without any limit hit is the node's. A group kill (`memory.oom.group`, which the kubelet sets) is
//! one event, however many processes died.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::look::ancestors;
use crate::history::Past;
use crate::host::Moment;
use crate::parse::cgroup::{Place, Uid};

/// What the counters of one cgroup are called: a letter, then its path.
pub(super) const KILLS: &str = "k ";
pub(super) const GROUPS: &str = "g ";
/// Kills that were single ones, as far as looks could tell: not in a look's interval with a group kill.
pub(super) const SINGLES: &str = "s ";
pub(super) const OOMS: &str = "o ";
pub(super) const OWN_OOMS: &str = "l ";
/// The whole node's.
pub(super) const TOTAL: &str = "t";

/// OOM events, and the processes that died in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub events: u64,
    pub processes: u64,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.events = self.events.saturating_add(other.events);
        self.processes = self.processes.saturating_add(other.processes);
    }
}

/// Events by whose limit it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ByLimit {
    /// The container's own.
    pub container: u64,
    /// The pod's.
    pub pod: u64,
    /// That of all pods together, or of a QoS class.
    pub allocatable: u64,
    /// Nobody's: the node had no memory left.
    pub global: u64,
}

/// Whose limit was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Whose {
    Container,
    Pod,
    /// All pods', or something's around them.
    Shared,
    /// Nobody's.
    Node,
}

impl Whose {
    /// By the cgroup that hit its limit.
    pub(super) fn of(place: Option<Place<'_>>) -> Whose {
        match place {
            Some(Place::Container(_) | Place::InContainer(_)) => Whose::Container,
            Some(Place::Pod(_) | Place::InPod(_)) => Whose::Pod,
            Some(_) => Whose::Shared,
            None => Whose::Node,
        }
    }
}

/// What happened in one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pod {
    pub count: Count,
    pub by: ByLimit,
    /// Containers by id.
    pub containers: BTreeMap<String, Count>,
    /// In containers that were gone before a look saw them with it: what took them down. 0 on v1, which forgets it.
    pub ended: Count,
    /// Whether `ended` was counted in groups: then each is a container that ended.
    pub in_groups: bool,
}

/// What happened outside all pods, in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct System {
    pub path: String,
    pub count: Count,
    pub hit: Hit,
}

/// Whose limit was hit where something outside all pods was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hit {
    /// Its own.
    Own,
    /// That of a cgroup around it.
    Above(String),
    /// That of a cgroup in it, which is gone.
    Below,
    /// None: the node had no memory left.
    None,
}

/// All that happened in the window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub pods: BTreeMap<Uid, Pod>,
    pub system: Vec<System>,
    /// In no cgroup that a look saw with it.
    pub unattributed: Count,
    /// Some of it may be older than the window.
    pub maybe_before: bool,
}

/// What one cgroup grew by.
#[derive(Debug, Clone, Copy, Default)]
struct Growth {
    kills: u64,
    /// `None` where the kernel does not count groups.
    groups: Option<u64>,
    singles: u64,
    ooms: u64,
}

impl Growth {
    fn less(self, part: Growth) -> Growth {
        Growth {
            kills: self.kills.saturating_sub(part.kills),
            groups: self.groups.map(|groups| groups.saturating_sub(part.groups.unwrap_or_default())),
            singles: self.singles.saturating_sub(part.singles),
            ooms: self.ooms.saturating_sub(part.ooms),
        }
    }

    fn plus(self, part: Growth) -> Growth {
        Growth {
            kills: self.kills.saturating_add(part.kills),
            groups: self.groups.map_or(part.groups, |groups| Some(groups.saturating_add(part.groups.unwrap_or(0)))),
            singles: self.singles.saturating_add(part.singles),
            ooms: self.ooms.saturating_add(part.ooms),
        }
    }

    /// Where groups are killed each is one event; otherwise each kill is one. A kernel that does not count groups still
    /// counts how often a limit was hit: once or more an event.
    fn count(self) -> Count {
        let events = match self.groups {
            Some(groups) if groups > 0 => groups.saturating_add(self.singles),
            None if self.ooms > 0 => self.kills.min(self.ooms),
            _ => self.kills,
        };
        Count { events: events.min(self.kills), processes: self.kills }
    }
}

impl Tally {
    /// Adds up what the past says of the window that ends now. `hierarchical`: a cgroup's counters include those below.
    /// `told`: whose limit it was in a pod's container, where the log says so.
    pub(super) fn of(
        past: &Past,
        now: &Moment,
        hierarchical: bool,
        told: &dyn Fn(Uid, &str) -> Option<Whose>,
    ) -> Tally {
        let mut tally = Tally::default();
        let mut grown: BTreeMap<&str, Growth> = BTreeMap::new();
        for key in past.counter_keys(KILLS) {
            let path = &key[KILLS.len()..];
            let kills = past.growth(key, now);
            if kills.by == 0 {
                continue;
            }
            tally.maybe_before |= kills.maybe_before;
            let of = |letter: &str| past.growth(&format!("{letter}{path}"), now).by;
            let counts_groups = past.counter(&format!("{GROUPS}{path}"), now).is_some();
            let groups = counts_groups.then(|| of(GROUPS));
            grown.insert(path, Growth { kills: kills.by, groups, singles: of(SINGLES), ooms: of(OOMS) });
        }
        let hit = |path: &str| past.growth(&format!("{OWN_OOMS}{path}"), now).by;
        let total = past.growth(TOTAL, now);
        let mut own = grown.clone();
        let mut top = Growth::default();
        for (path, growth) in &grown {
            let parent = ancestors(path).find(|above| grown.contains_key(above)).filter(|_| hierarchical);
            match parent.and_then(|parent| own.get_mut(parent)) {
                Some(parent) => *parent = parent.less(*growth),
                None => top = top.plus(*growth),
            }
        }
        let mut sums: BTreeMap<Uid, Growth> = BTreeMap::new();
        for (path, own) in own {
            let place = Place::of(path);
            // A limit that was hit counts in its own cgroup, whoever was killed below.
            if let Some(uid) = place.pod() {
                let sum = sums.entry(uid).or_default();
                *sum = sum.plus(own);
            }
            if own.kills == 0 {
                continue;
            }
            let Some(uid) = place.pod() else {
                if matches!(place, Place::Kubepods { .. } | Place::Qos(_)) {
                    // In a pod that was gone before a look saw it.
                    tally.unattributed.add(own.count());
                } else {
                    let (count, mut limits) = (own.count(), std::iter::once(path).chain(ancestors(path)));
                    let mut add = |hit, count: Count| {
                        tally.system.extend((count.events > 0).then(|| System { path: path.to_owned(), count, hit }));
                    };
                    if let Some(limit) = limits.find(|path| hit(path) > 0) {
                        add(if limit == path { Hit::Own } else { Hit::Above(limit.to_owned()) }, count);
                        continue;
                    }
                    let below = if hierarchical { own.ooms.min(count.events) } else { 0 };
                    let rest = count.events - below;
                    // Who died in which of them is not known apart.
                    let processes = |events| if events == count.events { count.processes } else { events };
                    add(Hit::Below, Count { events: below, processes: processes(below) });
                    add(Hit::None, Count { events: rest, processes: processes(rest) });
                }
                continue;
            };
            let pod = tally.pods.entry(uid).or_default();
            let count = own.count();
            match place.container() {
                Some(container) => pod.containers.entry(container.id.to_owned()).or_default().add(count),
                None => {
                    pod.ended.add(count);
                    pod.in_groups |= own.groups.is_some_and(|groups| groups > 0);
                }
            }
            pod.count.add(count);
            if !hierarchical {
                // Page cache hits limits too, and on v1 that counts like what led to a kill: the log knows better.
                let told = place.container().and_then(|container| told(uid, container.id));
                pod.by.add(count.events, told.unwrap_or_else(|| Whose::of(first_limit(path, &hit))));
            }
        }
        if hierarchical {
            tally.classify(&sums, past, now, &hit);
        }
        let rest = total.by.saturating_sub(top.kills);
        tally.unattributed.add(Count { events: rest, processes: rest });
        tally.maybe_before |= total.maybe_before && rest > 0;
        tally.system.sort_by(|a, b| b.count.events.cmp(&a.count.events).then(a.path.cmp(&b.path)));
        tally
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.system.is_empty() && self.unattributed == Count::default()
    }

    /// Whose limits they were, where every limit that was hit inside a pod shows in the pod's numbers: what is left came
    /// from above it.
    fn classify(&mut self, sums: &BTreeMap<Uid, Growth>, past: &Past, now: &Moment, hit: &dyn Fn(&str) -> u64) {
        let mut own: BTreeMap<Uid, u64> = BTreeMap::new();
        let mut shared = 0_u64;
        for key in past.counter_keys(OWN_OOMS) {
            let path = &key[OWN_OOMS.len()..];
            match Place::of(path) {
                Place::Pod(uid) => *own.entry(uid).or_default() += hit(path),
                Place::Kubepods { .. } | Place::Qos(_) => shared = shared.saturating_add(hit(path)),
                // The kubelet's --cgroup-root.
                Place::Other if self.holds_pods(past, now, path) => shared = shared.saturating_add(hit(path)),
                _ => {}
            }
        }
        for (uid, pod) in &mut self.pods {
            let sum = sums.get(uid).copied().unwrap_or_default();
            // Without a number of groups the sum is a better measure than its parts: the limit may have been the pod's.
            if sum.groups.is_none() {
                pod.count = sum.count();
            }
            let inside = pod.count.events.min(sum.ooms);
            pod.by.pod = inside.min(own.get(uid).copied().unwrap_or_default());
            pod.by.container = inside - pod.by.pod;
            let outside = pod.count.events - inside;
            pod.by.allocatable = outside.min(shared);
            pod.by.global = outside - pod.by.allocatable;
            shared -= pod.by.allocatable;
        }
    }

    fn holds_pods(&self, past: &Past, now: &Moment, path: &str) -> bool {
        let below = format!("{KILLS}{path}/");
        let mut keys = past.counter_keys(&below).filter(|key| past.growth(key, now).by > 0);
        keys.any(|key| matches!(Place::of(&key[KILLS.len()..]), Place::Kubepods { .. }))
    }
}

impl ByLimit {
    fn add(&mut self, events: u64, whose: Whose) {
        let slot = match whose {
            Whose::Container => &mut self.container,
            Whose::Pod => &mut self.pod,
            Whose::Shared => &mut self.allocatable,
            Whose::Node => &mut self.global,
        };
        *slot = slot.saturating_add(events);
    }
}

/// The first cgroup on the way up whose limit was hit.
fn first_limit<'a>(path: &'a str, hit: &dyn Fn(&str) -> u64) -> Option<Place<'a>> {
    std::iter::once(path).chain(ancestors(path)).find(|path| hit(path) > 0).map(Place::of)
}
