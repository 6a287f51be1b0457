//! Pods that get one sandbox after the other: the kubelet numbers them, and the highest number of a pod climbs.
//!
//! The network of a pod that can't be set up, a sandbox whose first process dies, a kubelet and a containerd that disagree
//! (`SandboxChanged`): the pod is torn down and made anew, again and again, with containers whose restart counts begin at
//! 0 each time. The first sandbox of a pod after a boot is none of these.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Probe;
use super::glob::Glob;
use super::words::{minutes, shown, some_of};
use crate::containerd::find;
use crate::history::{Past, Reading, Trace};
use crate::host::{Error, Host, Moment};
use crate::parse::containerd::Records;
use crate::pods::PodName;
use crate::status::Status;
use crate::verdict::{Assessment, Finding, MetricSpec, Unit};

const WORST: MetricSpec = MetricSpec::new("worst_pod", Unit::None, "the most new sandboxes of one pod in the window");
const ATTEMPTS: MetricSpec =
    MetricSpec::new("attempts", Unit::None, "new sandboxes of all pods that had one before, in the window");
const PODS: MetricSpec = MetricSpec::new("pods", Unit::None, "pods that got them");
const IGNORED: MetricSpec = MetricSpec::new("ignored", Unit::None, "new sandboxes of pods that are ignored");

/// The notes: of a pod by its uid, `<boot of its newest sandbox> <highest attempt> <name>`; and containerd's root
/// directories.
const POD: &str = "pod ";
const ROOT: &str = "root ";
/// The root directories that the newest look could read.
const READ: &str = "read ";
/// In a note for a boot: of some boot, perhaps an earlier one.
const ANY_BOOT: &str = "-";
/// So many pods have a line.
const LINES: usize = 20;

/// Looks for pods that get one sandbox after the other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Churn {
    /// containerd's root directories; empty: they are found.
    #[serde(deserialize_with = "super::params::dirs")]
    pub roots: Vec<String>,
    /// Pods that are told and not judged.
    pub ignore: Vec<Glob>,
}

/// What one look at the node saw.
#[derive(Debug, Default)]
pub struct Observation {
    pods: BTreeMap<String, Pod>,
    /// Those that this look could read.
    read: BTreeSet<String>,
    /// The notes of pods that are missing: those that are gone count as long as others, and others could not be read.
    missing: BTreeMap<String, String>,
    roots: BTreeSet<String>,
    /// Databases that could not be read: their pods are missing.
    troubles: Vec<Error>,
}

/// A pod.
#[derive(Debug)]
struct Pod {
    name: String,
    /// The boot in which it got its newest sandbox, and the number of that.
    boot: String,
    attempt: u32,
    /// How many it got in this boot beyond the first, as far as looks saw.
    count: u64,
    /// Whether it may have got them at any time: this is the first look of the boot.
    is_first_look: bool,
}

impl Probe for Churn {
    const NAME: &'static str = "sandbox-churn";
    const PARAMS: &'static [(&'static str, &'static str)] = &[
        ("roots", "containerd's root directories, if nodecheck does not find them: [\"/var/lib/containerd\"]"),
        ("ignore", "pods whose new sandboxes are told and not judged, as namespace/pod with * and ?"),
    ];
    type Observation = Observation;

    fn metrics(&self) -> Vec<MetricSpec> {
        vec![WORST, ATTEMPTS, PODS, IGNORED]
    }

    fn observe(&self, host: &Host, past: &Past) -> Result<Observation, Error> {
        let now = host.now();
        let remembered: Vec<String> = past.notes(ROOT).map(|(root, _)| root.to_owned()).collect();
        let mut seen = Observation::default();
        for place in find(host, &self.roots, &remembered)? {
            let root = place.root.clone();
            // What the look before could not read may be of any time.
            let is_new = past.note(&format!("{READ}{root}")).is_none();
            match place.database.and_then(|mut database| Ok((database.snapshot()?, database))) {
                Ok((snapshot, database)) => match snapshot.read {
                    Ok(records) => {
                        seen.read.insert(root.clone());
                        seen.roots.insert(root);
                        seen.take(&records, past, &now, is_new);
                    }
                    // stale-sandboxes tells of it.
                    Err(why) => {
                        let text = format!("{} is damaged: {why}", crate::host::printable(database.path()));
                        seen.troubles.push(Error::Failed(text));
                    }
                },
                Err(error) => seen.troubles.push(error),
            }
        }
        match seen.troubles.first() {
            Some(error) if seen.roots.is_empty() => return Err(error.clone()),
            Some(_) => seen.roots.extend(remembered),
            None => {}
        }
        let is_missing = |uid: &str| {
            !seen.pods.contains_key(uid) && (!seen.troubles.is_empty() || past.counter(uid, &now).is_some())
        };
        let missing = past.notes(POD).filter(|(uid, _)| is_missing(uid));
        seen.missing = missing.map(|(uid, note)| (uid.to_owned(), note.value.clone())).collect();
        Ok(seen)
    }

    fn trace(&self, seen: &Observation) -> Trace {
        let readings = seen.pods.iter().map(|(uid, pod)| Reading {
            key: uid.clone(),
            identity: 0,
            value: pod.count,
            old: pod.is_first_look,
        });
        let trace = Trace::default().counters(readings);
        let pods =
            seen.pods.iter().map(|(uid, pod)| (uid.clone(), format!("{} {} {}", pod.boot, pod.attempt, pod.name)));
        let missing = seen.missing.iter().map(|(uid, note)| (uid.clone(), note.clone()));
        let roots = |of: &BTreeSet<String>| of.iter().map(|root| (root.clone(), String::new())).collect::<Vec<_>>();
        trace.group(POD, pods.chain(missing)).group(ROOT, roots(&seen.roots)).group(READ, roots(&seen.read))
    }

    fn assess(&self, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
        let name_of = |uid: &str| {
            let noted = || Some(seen.missing.get(uid)?.splitn(3, ' ').nth(2)?.to_owned());
            let name = seen.pods.get(uid).map(|pod| pod.name.clone()).or_else(noted);
            name.unwrap_or_else(|| format!("pod {}", shown(uid)))
        };
        let mut grown: Vec<(u64, String)> = Vec::new();
        let (mut ignored, mut maybe_before) = (0, false);
        for uid in past.counter_keys("") {
            let growth = past.growth(uid, now);
            if growth.by == 0 {
                continue;
            }
            let name = name_of(uid);
            if name.parse().is_ok_and(|name: PodName| self.ignore.iter().any(|glob| glob.matches(&name))) {
                ignored += growth.by;
                continue;
            }
            maybe_before |= growth.maybe_before;
            let is_gone = !seen.pods.contains_key(uid) && seen.troubles.is_empty();
            grown.push((growth.by, if is_gone { format!("{name} (gone)") } else { name }));
        }
        grown.sort_by(|(a, a_name), (b, b_name)| b.cmp(a).then_with(|| a_name.cmp(b_name)));
        let sum: u64 = grown.iter().map(|(by, _)| by).sum();
        let worst = grown.first();
        let (window, covered) = (minutes(past.window), past.covered(now));
        let many = |by: u64| if by == 1 { "1 new sandbox".to_owned() } else { format!("{by} new sandboxes") };
        let mut findings: Vec<Finding> = Vec::new();
        for trouble in &seen.troubles {
            findings.push(Finding::new(Status::Unknown, format!("some pods may be missing: {trouble}")));
        }
        let attempt = |name: &str| {
            seen.pods.values().find(|pod| pod.name == name).map(|pod| format!("; attempt {} now", pod.attempt))
        };
        let lines = grown
            .iter()
            .take(LINES)
            .map(|(by, name)| format!("{name}: {}{}", many(*by), attempt(name).unwrap_or_default()));
        findings.extend(lines.map(Finding::fact));
        if grown.len() > LINES {
            findings.push(Finding::fact(format!("and {} more pods", grown.len() - LINES)));
        }
        if !covered.is_zero() && covered < past.window {
            findings.push(Finding::fact(format!("looks cover {} of {window}", minutes(covered))));
        }
        if maybe_before {
            findings.push(Finding::fact(format!("looks were far apart: some of it may be older than {window}")));
        }
        if ignored > 0 {
            findings.push(Finding::fact(format!("{} of pods that are ignored", many(ignored))));
        }
        let summary = match worst {
            Some((by, name)) => format!("{name} got {} in {window}", many(*by)),
            None if covered.is_zero() => {
                let then = if past.is_blind(now) { "" } else { ": they are counted from now on" };
                format!("{} in the first look{then}", counted_pods(seen.pods.len()))
            }
            None => format!("no pod got sandbox after sandbox in {}", minutes(covered.min(past.window))),
        };
        let others: Vec<String> = grown.iter().skip(1).map(|(by, name)| format!("{name} {by}")).collect();
        let detail = if others.is_empty() { String::new() } else { format!("also {}", some_of(&others, 2)) };
        let said = format!("{} in {} in {window}", many(sum), counted_pods(grown.len()));
        let metrics = vec![
            WORST.value(worst.map_or(0.0, |(by, _)| *by as f64)),
            ATTEMPTS.value(sum as f64).said(said),
            PODS.value(grown.len() as f64),
            IGNORED.value(ignored as f64),
        ];
        Assessment { summary, detail, findings, metrics, ..Assessment::default() }
    }
}

fn counted_pods(count: usize) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{count} pods") }
}

impl Observation {
    /// Takes the highest attempt of each pod, and compares it with what is remembered.
    fn take(&mut self, records: &Records, past: &Past, now: &Moment, is_new: bool) {
        let mut highest: BTreeMap<&str, (u32, String)> = BTreeMap::new();
        for metadata in records.sandboxes.values().filter_map(|sandbox| sandbox.metadata()) {
            let Some(pod) = metadata.pod().filter(|pod| !pod.uid.is_empty()) else { continue };
            let name =
                PodName::new(pod.namespace, pod.name).map_or_else(|| shown(metadata.name()), |name| name.to_string());
            let known = highest.entry(pod.uid).or_insert_with(|| (pod.attempt, name));
            known.0 = known.0.max(pod.attempt);
        }
        for (uid, (attempt, name)) in highest {
            self.pods.insert(uid.to_owned(), Pod::new(uid, name, attempt, past, now, is_new));
        }
    }
}

impl Pod {
    fn new(uid: &str, name: String, attempt: u32, past: &Past, now: &Moment, is_new: bool) -> Pod {
        let this_boot = now.boot.clone().unwrap_or_default();
        let is_first_look = is_new || past.last_look().is_none_or(|last| !last.same_boot(now));
        let note = past.note(&format!("{POD}{uid}")).and_then(|note| {
            let mut parts = note.value.splitn(3, ' ');
            Some((parts.next()?.to_owned(), parts.next()?.parse::<u32>().ok()?))
        });
        let before = past.counter(uid, now).unwrap_or_default();
        let (boot, new) = match note {
            Some((boot, had)) if attempt <= had => (boot, 0),
            // After a boot each pod gets a sandbox more.
            Some((boot, had)) if boot != this_boot => (this_boot, attempt.saturating_sub(had).saturating_sub(1)),
            Some((boot, had)) => (boot, attempt.saturating_sub(had)),
            None if is_first_look => {
                // In a boot that has just begun its pods may still have those of before.
                let is_young = now.uptime.is_none_or(|uptime| uptime < past.window.as_secs_f64());
                (if is_young { ANY_BOOT.to_owned() } else { this_boot }, 0)
            }
            None => (this_boot, attempt),
        };
        Pod { name, boot, attempt, count: before.saturating_add(new.into()), is_first_look }
    }
}

#[cfg(test)]
mod tests;
