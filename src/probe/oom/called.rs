//! What is counted is called by name: pods, containers, and the limits that they had.
//!
//! Kept as notes while it counts, so that a pod that is gone still has its name.

use std::collections::{BTreeMap, BTreeSet};

use super::Observation;
use super::tally::{KILLS, OWN_OOMS, Tally};
use crate::history::Past;
use crate::host::{Error, Host};
use crate::parse::cgroup::{Place, Uid};
use crate::pods::{self, Names, PodName};

/// The notes: a pod's by its uid, a container's by its id, and limits by either.
pub(super) const POD: &str = "pod ";
pub(super) const CONTAINER: &str = "container ";
pub(super) const LIMIT: &str = "limit ";
/// The key of the limit of all pods together.
pub(super) const ALL: &str = "kubepods";

/// Names and limits.
#[derive(Debug, Default)]
pub(super) struct Called {
    pub pods: BTreeMap<Uid, PodName>,
    /// Containers' names by id.
    pub containers: BTreeMap<String, String>,
    /// Bytes, by pod's uid or container's id.
    pub limits: BTreeMap<String, u64>,
    /// The containers of pods in which some ended, with the number of their newest restart.
    pub restarts: BTreeMap<Uid, Vec<(String, u32)>>,
    /// What could not be read.
    pub troubles: Vec<Error>,
}

impl Called {
    /// Names what was counted within the window, and what the kernel's log tells of it.
    pub(super) fn look(host: &Host, past: &Past, seen: &Observation, tally: &Tally) -> Called {
        let mut wanted: BTreeMap<Uid, BTreeSet<String>> = BTreeMap::new();
        for (uid, pod) in &tally.pods {
            wanted.insert(*uid, pod.containers.keys().cloned().collect());
        }
        for victim in &seen.killed.victims {
            if let Some(uid) = victim.pod() {
                wanted.entry(uid).or_default().extend(victim.container.clone());
            }
        }
        let mut called = Called::before(past, &wanted);
        let mut unnamed: BTreeMap<Uid, Vec<String>> = BTreeMap::new();
        for (uid, ids) in &wanted {
            let ids: Vec<String> = ids.iter().filter(|id| !called.containers.contains_key(*id)).cloned().collect();
            if !ids.is_empty() || !called.pods.contains_key(uid) {
                unnamed.insert(*uid, ids);
            }
        }
        if !unnamed.is_empty() {
            host.doing("the names of pods");
            let names = Names::look(host, &unnamed);
            for (uid, ids) in unnamed {
                called.pods.extend(names.pod(uid).map(|name| (uid, name.clone())));
                let mut logs = None;
                for id in ids {
                    let name = names.container(&id).and_then(|known| known.container.clone());
                    let name = name.or_else(|| {
                        // Without the runtime's files a pod of one container has one name to give.
                        let pod = called.pods.get(&uid)?;
                        match logs.get_or_insert_with(|| pods::restarts(host, pod, uid)).as_slice() {
                            [(only, _)] => Some(only.clone()),
                            _ => None,
                        }
                    });
                    called.containers.extend(name.map(|name| (id, name)));
                }
            }
            called.troubles = names.troubles;
        }
        for (uid, _) in tally.pods.iter().filter(|(_, pod)| pod.ended.events > 0) {
            let found = called.pods.get(uid).map(|name| pods::restarts(host, name, *uid));
            called.restarts.extend(found.map(|found| (*uid, found)));
        }
        let now = host.now();
        for cgroup in &seen.cgroups.all {
            let of = match Place::of(&cgroup.path) {
                Place::Pod(uid) if wanted.contains_key(&uid) => uid.to_string(),
                Place::Container(container) if wanted.contains_key(&container.pod) => container.id.to_owned(),
                Place::Kubepods { .. } => ALL.to_owned(),
                _ => continue,
            };
            // The limit that was hit, and not what somebody made of it since.
            let before = |letter: &str| past.counter(&format!("{letter}{}", cgroup.path), &now);
            let is_still = before(KILLS) == Some(cgroup.kills) && before(OWN_OOMS) == cgroup.own_ooms;
            if !(is_still && called.limits.contains_key(&of)) {
                called.limits.extend(cgroup.limit.and_then(|limit| limit.bytes()).map(|bytes| (of, bytes)));
            }
        }
        called
    }

    /// What the past knows of those that are wanted.
    fn before(past: &Past, wanted: &BTreeMap<Uid, BTreeSet<String>>) -> Called {
        let mut called = Called::default();
        let uid_of = |text: &str| Uid::parse(text).filter(|uid| wanted.contains_key(uid));
        for (uid, note) in past.notes(POD) {
            called.pods.extend(uid_of(uid).and_then(|uid| Some((uid, note.value.parse().ok()?))));
        }
        let ids: BTreeSet<&str> = wanted.values().flatten().map(String::as_str).collect();
        for (id, note) in past.notes(CONTAINER).filter(|(id, _)| ids.contains(id)) {
            called.containers.insert(id.to_owned(), note.value.clone());
        }
        let is_wanted = |of: &str| of == ALL || ids.contains(of) || uid_of(of).is_some();
        for (of, note) in past.notes(LIMIT).filter(|(of, _)| is_wanted(of)) {
            called.limits.extend(note.value.parse().map(|bytes| (of.to_owned(), bytes)));
        }
        called
    }
}
