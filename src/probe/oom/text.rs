//! The sentences of the OOM checks.

use std::collections::{BTreeMap, BTreeSet};

use super::called::ALL;
use super::killed::Victim;
use super::tally::{Hit, Pod, Tally};
use super::{Observation, Place};
use crate::parse::cgroup::Uid;
use crate::probe::words::{short_id, shown, size, some_of};

/// `1 OOM kill`, `3 OOM kills`.
pub(super) fn kills(count: u64) -> String {
    format!("{count} OOM kill{}", if count == 1 { "" } else { "s" })
}

/// A text with a path in it whose depth somebody else chose: its beginning and its end.
pub(super) fn brief(text: &str) -> String {
    const LONGEST: usize = 360;
    let count = text.chars().count();
    if count <= LONGEST {
        return text.to_owned();
    }
    let begin = text.chars().take(LONGEST / 2);
    begin.chain("...".chars()).chain(text.chars().skip(count - LONGEST / 2)).collect()
}

/// A cgroup outside all pods as people call it: `kubelet.service`.
pub(super) fn service(path: &str) -> String {
    let ends = [".service", ".scope", ".slice"];
    let unit = path.rsplit('/').position(|name| ends.iter().any(|end| name.ends_with(end)));
    let from = unit.and_then(|below| path.rmatch_indices('/').nth(below));
    shown(from.map_or(path, |(at, _)| &path[at + 1..]))
}

/// Whose limit it was outside all pods, where it was one.
pub(super) fn at_limit(hit: &Hit) -> Option<String> {
    match hit {
        Hit::Own => Some("at its own limit".to_owned()),
        Hit::Above(path) => Some(format!("at the limit of {}", service(path))),
        Hit::Below => Some("at the limit of a cgroup in it that is gone".to_owned()),
        Hit::None => None,
    }
}

impl Observation {
    /// A pod's name, or its uid where none is known.
    pub(super) fn pod_name(&self, uid: Uid) -> String {
        self.called.pods.get(&uid).map_or_else(|| format!("pod {uid}"), ToString::to_string)
    }

    pub(super) fn container_name(&self, id: &str) -> String {
        self.called.containers.get(id).cloned().unwrap_or_else(|| shown(short_id(id)))
    }

    pub(super) fn is_alive(&self, id: &str) -> bool {
        let mut alive = self.cgroups.all.iter().filter_map(|cgroup| Place::of(&cgroup.path).container());
        alive.any(|container| container.id == id)
    }

    fn limit_of(&self, of: &str) -> Option<String> {
        self.called.limits.get(of).map(|limit| size(*limit))
    }

    /// The limit of a pod, as short as it can be said.
    pub(super) fn limit_text(&self, uid: Uid, pod: &Pod) -> Option<String> {
        let worst = pod.containers.iter().max_by_key(|(_, count)| count.events).map(|(id, _)| id.as_str());
        let own = worst.and_then(|id| self.limit_of(id));
        let logged = || self.victims(uid, pod).find_map(|victim| victim.limit).map(size);
        let by = &pod.by;
        if by.global > by.container.max(by.pod).max(by.allocatable) {
            return Some("no limit was hit: the node ran out of memory".to_owned());
        }
        if by.allocatable > by.container.max(by.pod) {
            let limit = self.limit_of(ALL).map(|limit| format!(" of {limit}")).unwrap_or_default();
            return Some(format!("limit{limit} of all pods together"));
        }
        // The pause container is the pod's too, so a pod of one container hits its own limit first: the same number.
        let of_pod = self.limit_of(&uid.to_string());
        if by.pod > by.container && worst.is_some() && of_pod != own {
            return of_pod.map(|limit| format!("limit {limit} of the pod"));
        }
        own.or(of_pod).or_else(logged).map(|limit| format!("limit {limit}"))
    }

    /// Who was killed in a pod, of those that are counted there.
    fn victims<'a>(&'a self, uid: Uid, pod: &'a Pod) -> impl Iterator<Item = &'a Victim> {
        self.killed.victims.iter().filter(move |victim| victim.pod() == Some(uid) && self.is_in(victim, pod))
    }

    /// Where nothing adds up a pod has no more than what a look saw in its containers.
    fn is_in(&self, victim: &Victim, pod: &Pod) -> bool {
        let id = victim.container.as_ref().filter(|_| !self.is_hierarchical());
        id.is_none_or(|id| pod.containers.contains_key(id))
    }

    /// Where in a pod: `container gate`.
    pub(super) fn place_in(&self, uid: Uid, pod: &Pod) -> String {
        let mut names: BTreeMap<String, u64> = BTreeMap::new();
        for (id, count) in &pod.containers {
            *names.entry(self.container_name(id)).or_default() += count.events;
        }
        if names.is_empty() {
            let ids = self.victims(uid, pod).filter_map(|victim| victim.container.as_ref());
            names.extend(ids.filter_map(|id| Some((self.called.containers.get(id)?.clone(), 0))));
        }
        if names.is_empty() {
            names.extend(self.restarted(uid).map(|name| (name.to_owned(), 0)));
        }
        let names: Vec<String> = names.into_keys().collect();
        match names.as_slice() {
            [] => String::new(),
            [one] => format!("container {one}"),
            several => format!("containers {}", some_of(several, 3)),
        }
    }

    /// The containers of a pod that were restarted ever: those that can have ended.
    pub(super) fn restarted(&self, uid: Uid) -> impl Iterator<Item = &str> {
        let all = self.called.restarts.get(&uid).into_iter().flatten();
        all.filter(|(_, newest)| *newest > 0).map(|(name, _)| name.as_str())
    }

    /// One line on a pod: how many, where, at which limit, who.
    pub(super) fn pod_line(&self, uid: Uid, pod: &Pod) -> String {
        let mut parts = vec![format!("{}: {}", self.pod_name(uid), kills(pod.count.events))];
        if pod.count.processes != pod.count.events {
            parts.push(format!("{} processes died", pod.count.processes));
        }
        let mut places: BTreeMap<(String, bool), (u64, usize)> = BTreeMap::new();
        for (id, count) in &pod.containers {
            let place = places.entry((self.container_name(id), !self.is_alive(id))).or_default();
            *place = (place.0 + count.events, place.1 + 1);
        }
        for ((name, is_gone), (events, instances)) in places {
            let state = match (is_gone, instances) {
                (false, _) => "it still runs: restarts do not show this".to_owned(),
                (true, 1) => "it is gone".to_owned(),
                (true, instances) => format!("{instances} of that name are gone"),
            };
            parts.push(format!("{events} in container {name} ({state})"));
        }
        if pod.ended.events > 0 {
            let ended: Vec<String> = self.restarted(uid).map(str::to_owned).collect();
            let of = if ended.is_empty() { String::new() } else { format!(" (restarted: {})", some_of(&ended, 3)) };
            parts.push(format!("{} took a container down{of}", pod.ended.events));
        }
        parts.extend(self.limit_text(uid, pod));
        let victims: Vec<&Victim> = self.victims(uid, pod).collect();
        parts.extend(who(&victims));
        parts.join("; ")
    }

    /// Who the log names of those that no pod and no service has, the largest first: a program, where it was, and in how
    /// many containers of that name.
    fn rest(&self, tally: &Tally) -> Vec<(&Victim, String, usize)> {
        let is_counted = |victim: &Victim| match (victim.pod(), &victim.path) {
            (Some(uid), _) => tally.pods.get(&uid).is_some_and(|pod| self.is_in(victim, pod)),
            (None, Some(path)) => tally.system.iter().any(|system| shown(&system.path) == *path),
            (None, None) => false,
        };
        let mut victims: Vec<&Victim> = self.killed.victims.iter().filter(|victim| !is_counted(victim)).collect();
        victims.sort_by_key(|victim| std::cmp::Reverse(victim.rss_kib));
        let mut rest: Vec<(&Victim, String, usize)> = Vec::new();
        for victim in victims {
            let name = victim.container.as_ref().and_then(|id| self.called.containers.get(id));
            let name = name.map(|name| format!(" {name}")).unwrap_or_default();
            let place = match (victim.pod(), &victim.path) {
                (Some(uid), _) => format!(" in {}{name}", self.pod_name(uid)),
                (None, Some(path)) => format!(" in {path}"),
                (None, None) => String::new(),
            };
            match rest.iter_mut().find(|(other, at, _)| other.name == victim.name && *at == place) {
                Some((_, _, count)) => *count += 1,
                None => rest.push((victim, place, 1)),
            }
        }
        rest
    }

    /// What the log tells of what is gone, in one line.
    pub(super) fn others_killed(&self, tally: &Tally) -> Option<String> {
        let places = self.rest(tally).into_iter().map(|(victim, place, count)| {
            let times = if count > 1 { format!(" ({count} containers)") } else { String::new() };
            format!("{}{place}{times}", one(victim))
        });
        let places: Vec<String> = places.collect();
        (!places.is_empty()).then(|| format!("the kernel's log names {}", some_of(&places, 5)))
    }

    /// The same for line 1.
    pub(super) fn others(&self, tally: &Tally) -> Option<String> {
        let mut rest = self.rest(tally);
        // Of a group its largest.
        let mut places: BTreeSet<String> = BTreeSet::new();
        rest.retain(|(_, place, _)| place.is_empty() || places.insert(place.clone()));
        let names: Vec<String> = rest.iter().map(|(victim, place, _)| format!("{}{place}", victim.name)).collect();
        (!names.is_empty()).then(|| some_of(&names, 1))
    }

    /// Who the log names of a service.
    pub(super) fn killed_at(&self, path: &str) -> Option<String> {
        let victims: Vec<&Victim> =
            self.killed.victims.iter().filter(|victim| victim.path.as_deref() == Some(&shown(path))).collect();
        who(&victims)
    }
}

/// `kubectl (48Mi, limit 64Mi)`
fn one(victim: &Victim) -> String {
    let held = victim.rss_kib.map(|kib| size(kib.saturating_mul(1024)));
    let limit = victim.limit.map(|limit| format!("limit {}", size(limit)));
    let parts: Vec<String> = held.into_iter().chain(limit).collect();
    if parts.is_empty() { victim.name.clone() } else { format!("{} ({})", victim.name, parts.join(", ")) }
}

fn who(victims: &[&Victim]) -> Option<String> {
    let mut largest: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    for victim in victims {
        let most = largest.entry(&victim.name).or_default();
        *most = (*most).max(victim.rss_kib);
    }
    let mut largest: Vec<(&str, Option<u64>)> = largest.into_iter().collect();
    largest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let held = |kib: u64| format!(" ({})", size(kib.saturating_mul(1024)));
    let names = largest.iter().map(|(name, kib)| format!("{name}{}", kib.map(held).unwrap_or_default()));
    let names: Vec<String> = names.collect();
    (!names.is_empty()).then(|| format!("killed: {}", some_of(&names, 5)))
}
