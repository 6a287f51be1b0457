//! What to think of what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::look::{Cgroup, by_ratio, worst};
use super::text::{hits, part};
use super::walk::Kind;
use super::{CONTAINERS, CgroupHeadroom, NEAR_LIMIT, Observation, PRESSED, PSI_FULL60, THRASHING, WORST};
use crate::history::Past;
use crate::host::Moment;
use crate::parse::cgroup::Uid;
use crate::probe::words::{minutes, shown, some_of};
use crate::status::Status;
use crate::verdict::{Assessment, Finding, Metric};

/// Lines of one kind.
const LINES: usize = 20;
/// Names on line 1.
const FEW: usize = 3;
/// Two looks that are closer tell of mostly the same minute.
const APART: Duration = Duration::from_secs(30);

pub(super) fn assess(probe: &CgroupHeadroom, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
    let judge = Judge { probe, seen, past, now };
    let (near, close) = judge.near();
    let (thrashing, fresh) = judge.pressed();
    let mut findings = judge.unread();
    findings.extend(lines(near.iter().map(|one| one.text.clone())));
    findings.extend(lines(close.iter().map(|one| one.text.clone())));
    findings.extend(lines(thrashing.iter().map(|cgroup| judge.waits(cgroup))));
    findings.extend(lines(
        fresh.iter().map(|cgroup| format!("{}; it counts when the next look sees that too", judge.waits(cgroup))),
    ));
    findings.extend(judge.facts().into_iter().map(Finding::fact));
    let (summary, detail) = judge.line_1(&near, &close);
    Assessment { summary, detail, findings, metrics: judge.metrics(&near, &thrashing), ..Assessment::default() }
}

/// A cgroup near its limit.
struct Near<'a> {
    cgroup: &'a Cgroup,
    text: String,
}

struct Judge<'a> {
    probe: &'a CgroupHeadroom,
    seen: &'a Observation,
    past: &'a Past,
    now: &'a Moment,
}

impl<'a> Judge<'a> {
    /// Those near their limit: with hits of it, and without; worst first.
    fn near(&self) -> (Vec<Near<'a>>, Vec<Near<'a>>) {
        let mut all: Vec<&Cgroup> = self.seen.cgroups.iter().filter(|cgroup| cgroup.is_near(self.probe.near)).collect();
        let ratio = |cgroup: &Cgroup| (cgroup.unreclaimable.unwrap_or_default(), cgroup.place.limit);
        all.sort_by(|a, b| by_ratio(ratio(b), ratio(a)));
        let explained = explained(&all);
        let pods: BTreeSet<&str> = explained.values().map(|pod| pod.place.path.as_str()).collect();
        let (mut near, mut close) = (Vec::new(), Vec::new());
        for cgroup in all.iter().filter(|cgroup| !pods.contains(cgroup.place.path.as_str())) {
            let own = self.growth(cgroup);
            // Where both have the same limit the pod's is hit first: it holds the pause process too.
            let pod = explained.get(cgroup.place.path.as_str()).map_or(0, |pod| self.growth(pod));
            let who = self.seen.labels.who(&cgroup.place.kind).in_full(cgroup);
            let covered = self.past.covered(self.now);
            let (list, hits) = match (own, pod) {
                (1.., _) => (&mut near, hits("limit", own, covered)),
                (0, 1..) => (&mut near, hits("its pod's limit", pod, covered)),
                (0, 0) if cgroup.was_counted && !covered.is_zero() => {
                    (&mut close, format!("limit not hit in {}", minutes(covered)))
                }
                (0, 0) => (&mut close, "hits of its limit are counted from this look on".to_owned()),
            };
            list.push(Near { cgroup, text: format!("{who}, {hits}") });
        }
        (near, close)
    }

    fn growth(&self, cgroup: &Cgroup) -> u64 {
        self.past.growth(&cgroup.place.path, self.now).by
    }

    /// Containers that wait too long for memory: in this look and the one before, and in this one only; worst first.
    fn pressed(&self) -> (Vec<&'a Cgroup>, Vec<&'a Cgroup>) {
        let lasts = |cgroup: &&Cgroup| {
            let note = self.past.note(&format!("{PRESSED}{}", cgroup.place.path));
            let note = note.filter(|note| note.value == self.seen.identity_of(cgroup));
            note.is_some_and(|note| self.now.since(&note.first) >= APART)
        };
        let pressed = self.seen.cgroups.iter().filter(|cgroup| cgroup.is_pressed(self.probe.pressure));
        let mut pressed: Vec<&Cgroup> = pressed.collect();
        pressed.sort_by(|a, b| full60(b).total_cmp(&full60(a)));
        pressed.into_iter().partition(lasts)
    }

    fn waits(&self, cgroup: &Cgroup) -> String {
        let who = self.seen.labels.who(&cgroup.place.kind);
        format!("{} lost {} % of the last minute waiting for memory", who.long, full60(cgroup))
    }

    fn in_short(&self, cgroup: &Cgroup) -> String {
        self.seen.labels.who(&cgroup.place.kind).in_short(cgroup)
    }

    fn line_1(&self, near: &[Near<'_>], close: &[Near<'_>]) -> (String, String) {
        let names = |all: &[Near<'_>]| {
            let names: Vec<String> = all.iter().map(|one| self.in_short(one.cgroup)).collect();
            some_of(&names, FEW)
        };
        let whose = |count: usize| {
            if count == 1 { "1 near its memory limit".to_owned() } else { format!("{count} near their memory limit") }
        };
        if !near.is_empty() {
            return (whose(near.len()), names(near));
        }
        if !close.is_empty() {
            return (format!("{}, no hits counted", whose(close.len())), names(close));
        }
        let text = match (self.is_whole(), worst(&self.seen.cgroups)) {
            (true, Some(worst)) => format!("no container near its memory limit (worst: {})", self.in_short(worst)),
            (true, None) => "no container near its memory limit (none has one)".to_owned(),
            (false, Some(worst)) => {
                format!("none of the others near its memory limit (worst: {})", self.in_short(worst))
            }
            (false, None) => "nothing else is known to have a memory limit".to_owned(),
        };
        (text, String::new())
    }

    fn is_whole(&self) -> bool {
        self.seen.unread.count == 0
    }

    fn unread(&self) -> Vec<Finding> {
        let error = self.seen.unread.first.as_ref();
        let count = match self.seen.unread.count {
            1 => "1 cgroup".to_owned(),
            count => format!("{count} cgroups"),
        };
        error
            .map(|error| Finding::new(Status::Unknown, format!("{count} can't be read: {error}")))
            .into_iter()
            .collect()
    }

    fn facts(&self) -> Vec<String> {
        let mut facts = Vec::new();
        let psi = &self.seen.psi;
        match (psi.read, psi.why) {
            (0, Some(why)) => {
                let hint = if psi.missing > 0 { "; the kernel may need psi=1 at boot" } else { "" };
                facts.push(format!("PSI is not available: {why}{hint}"));
            }
            (read, Some(why)) => {
                let all = read + psi.missing;
                facts.push(format!("PSI is not available for {} of {all} containers: {why}", psi.missing));
            }
            (_, None) => {}
        }
        if !self.seen.ignored.is_empty() {
            facts.push(format!("ignored: {}", some_of(&self.seen.ignored, FEW)));
        }
        let troubles = self.seen.labels.troubles.iter().take(FEW);
        facts.extend(troubles.map(|trouble| format!("not all names are known: {}", shown(trouble))));
        facts
    }

    /// What could not be measured has no number: nor has what may be larger than what was seen, unless that is enough.
    fn metrics(&self, near: &[Near<'_>], thrashing: &[&Cgroup]) -> Vec<Metric> {
        let mut metrics = Vec::new();
        if self.is_whole() || !near.is_empty() {
            let more = near.len().saturating_sub(1);
            let text = near.first().map(|one| one.text.clone()).unwrap_or_default();
            let text = if more == 0 { text } else { format!("{text}; and {more} more") };
            metrics.push(NEAR_LIMIT.value(near.len() as f64).said(text));
        }
        let knows_psi = self.is_whole() && self.seen.psi.is_whole();
        if knows_psi || !thrashing.is_empty() {
            let what = match thrashing.len() {
                1 => "1 container thrashes".to_owned(),
                count => format!("{count} containers thrash"),
            };
            let names = thrashing
                .iter()
                .map(|cgroup| format!("{} {} %", self.seen.labels.who(&cgroup.place.kind).short, full60(cgroup)));
            let text = format!("{what}: {}", some_of(&names.collect::<Vec<_>>(), FEW));
            metrics.push(THRASHING.value(thrashing.len() as f64).said(text));
        }
        if knows_psi {
            let most = self.seen.cgroups.iter().max_by(|a, b| full60(a).total_cmp(&full60(b)));
            let text = most.map(|cgroup| self.waits(cgroup)).unwrap_or_default();
            metrics.push(PSI_FULL60.value(most.map_or(0.0, full60)).said(text));
        }
        if self.is_whole() {
            let worst = worst(&self.seen.cgroups);
            let text = worst.map(|worst| self.seen.labels.who(&worst.place.kind).in_full(worst));
            metrics.push(WORST.value(worst.map_or(0.0, part)).said(text.unwrap_or_default()));
        }
        metrics.push(CONTAINERS.value(self.seen.containers as f64));
        metrics
    }
}

/// The pods that are near their limit because of one container, by the path of that container, which is near its own.
fn explained<'a>(near: &[&'a Cgroup]) -> BTreeMap<&'a str, &'a Cgroup> {
    let mut containers: BTreeMap<Uid, Vec<&Cgroup>> = BTreeMap::new();
    for cgroup in near {
        if let Kind::Container(uid, _) = cgroup.place.kind {
            containers.entry(uid).or_default().push(cgroup);
        }
    }
    let bytes = |cgroup: &Cgroup| cgroup.unreclaimable.unwrap_or_default();
    let pods = near.iter().filter_map(|pod| match pod.place.kind {
        Kind::Pod(uid) => Some((pod, containers.get(&uid)?.as_slice())),
        _ => None,
    });
    let explained = pods.filter_map(|(pod, containers)| match containers {
        [only] if bytes(only) >= bytes(pod) / 2 => Some((only.place.path.as_str(), *pod)),
        _ => None,
    });
    explained.collect()
}

fn full60(cgroup: &Cgroup) -> f64 {
    cgroup.full60.unwrap_or_default().min(100.0)
}

/// Facts, at most [`LINES`] of them.
fn lines(texts: impl Iterator<Item = String>) -> Vec<Finding> {
    let mut texts: Vec<String> = texts.collect();
    let more = texts.len().saturating_sub(LINES);
    texts.truncate(LINES);
    texts.extend((more > 0).then(|| format!("and {more} more")));
    texts.into_iter().map(Finding::fact).collect()
}
