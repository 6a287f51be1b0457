//! The names of what is told, looked up once: the past keeps them.

use std::collections::{BTreeMap, HashSet};

use super::NAMED;
use super::look::Cgroup;
use super::text::Who;
use super::walk::{Kind, Walk};
use crate::history::Past;
use crate::host::Host;
use crate::parse::cgroup::{Qos, Uid};
use crate::pods::{Names, PodName};
use crate::probe::words::short_id;

/// The names of some pods and their containers.
#[derive(Debug, Default)]
pub(super) struct Labels {
    pods: BTreeMap<Uid, PodName>,
    containers: BTreeMap<(Uid, String), String>,
    /// Why some could not be found.
    pub troubles: Vec<String>,
}

impl Labels {
    /// Those that earlier looks have found.
    pub(super) fn of(past: &Past) -> Labels {
        let mut labels = Labels::default();
        for (key, note) in past.notes(NAMED) {
            let (uid, id) = key.split_once('/').map_or((key, None), |(uid, id)| (uid, Some(id)));
            match (Uid::parse(uid), id) {
                (Some(uid), None) => labels.pods.extend(note.value.parse().ok().map(|name| (uid, name))),
                (Some(uid), Some(id)) => {
                    labels.containers.insert((uid, id.to_owned()), note.value.clone());
                }
                (None, _) => {}
            }
        }
        labels
    }

    pub(super) fn pod(&self, uid: Uid) -> Option<&PodName> {
        self.pods.get(&uid)
    }

    /// Forgets those that are gone. The others stay, lest the past changes with whoever is told of.
    pub(super) fn keep(&mut self, walk: &Walk) {
        self.pods.retain(|uid, _| walk.pods.contains(uid));
        if self.containers.is_empty() {
            return;
        }
        let alive: HashSet<(Uid, &str)> = walk.limited.iter().filter_map(|cgroup| cgroup.kind.container()).collect();
        self.containers.retain(|(uid, id), _| alive.contains(&(*uid, id.as_str())));
    }

    /// Looks up what these cgroups are called, as far as it is not known.
    pub(super) fn learn(&mut self, host: &Host, cgroups: &[&Cgroup]) {
        let mut wanted: BTreeMap<Uid, Vec<String>> = BTreeMap::new();
        for cgroup in cgroups {
            match &cgroup.place.kind {
                Kind::Container(uid, id) if !self.containers.contains_key(&(*uid, id.clone())) => {
                    wanted.entry(*uid).or_default().push(id.clone());
                }
                Kind::Pod(uid) | Kind::Container(uid, _) if !self.pods.contains_key(uid) => {
                    wanted.entry(*uid).or_default();
                }
                _ => {}
            }
        }
        if wanted.is_empty() {
            return;
        }
        let names = Names::look(host, &wanted);
        for (uid, ids) in wanted {
            self.pods.extend(names.pod(uid).map(|name| (uid, name.clone())));
            for id in ids {
                let name = names.container(&id).and_then(|known| known.container.clone());
                self.containers.extend(name.map(|name| ((uid, id), name)));
            }
        }
        self.troubles = names.troubles.iter().map(ToString::to_string).collect();
    }

    /// For the past.
    pub(super) fn notes(&self) -> Vec<(String, String)> {
        let pods = self.pods.iter().map(|(uid, name)| (uid.to_string(), name.to_string()));
        let containers = self.containers.iter().map(|((uid, id), name)| (format!("{uid}/{id}"), name.clone()));
        pods.chain(containers).collect()
    }

    /// What to call a cgroup.
    pub(super) fn who(&self, kind: &Kind) -> Who {
        let pod = |uid: &Uid| self.pods.get(uid).map_or_else(|| format!("pod {uid}"), ToString::to_string);
        match kind {
            Kind::Kubepods => Who::group("all pods together"),
            Kind::Qos(Qos::Burstable) => Who::group("all burstable pods together"),
            Kind::Qos(Qos::BestEffort) => Who::group("all best-effort pods together"),
            Kind::Pod(uid) => Who::one(pod(uid), None),
            Kind::Container(uid, id) => {
                let name = self.containers.get(&(*uid, id.clone())).cloned();
                Who::one(pod(uid), Some(name.unwrap_or_else(|| short_id(id).to_owned())))
            }
        }
    }
}
