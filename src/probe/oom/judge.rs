//! What to think of what was counted.

use std::collections::BTreeMap;

use super::called::ALL;
use super::look::ancestors;
use super::tally::{Count, Hit, Pod, System, Tally};
use super::text::{at_limit, brief, kills, service};
use super::{
    ALLOCATABLE, CgroupOom, GLOBAL, IGNORED, KILLS_BOOT, KILLS_METRIC, KILLS_OWN, LOOPS, Observation, PODS, PROCESSES,
    Place, SYSTEM, SYSTEM_LIMIT, Scope, UNATTRIBUTED, WORST_POD,
};
use crate::history::Past;
use crate::host::Moment;
use crate::host::clock::spoken;
use crate::memcg::Version;
use crate::parse::cgroup::Uid;
use crate::probe::words::{minutes, shown, size, some_of};
use crate::status::Status;
use crate::verdict::{Assessment, Finding, Metric};

/// So many pods and services are told of, one line each.
const MOST_LINES: usize = 20;

/// What of a tally this check judges.
struct Judged<'a> {
    probe: &'a CgroupOom,
    seen: &'a Observation,
    /// Judged by the check's thresholds, the worst first.
    pods: Vec<(Uid, Pod)>,
    /// Events in them that the scopes have.
    sum: Count,
    ignored: u64,
    /// Judged by thresholds of their own.
    own: u64,
    findings: Vec<Finding>,
}

pub(super) fn assess(probe: &CgroupOom, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
    let mut tally = Tally::of(past, now, seen.is_hierarchical(), &|pod, id| seen.killed.whose(pod, id));
    // Nothing has a limit where nothing accounts for memory: every kill is the node's.
    let node = if seen.memcg.is_none() { std::mem::take(&mut tally.unattributed) } else { Count::default() };
    let window = minutes(past.window);
    let mut judged = Judged::sort_out(probe, seen, &tally);
    let mut metrics = Vec::new();
    if probe.judges_pods() {
        metrics.extend(judged.pod_metrics(&window));
    }
    if probe.judges(Scope::Global) {
        judged.sum.events += node.events;
        judged.sum.processes += node.processes;
        let names = judged.names(|pod| pod.by.global > 0);
        let events = judged.pods.iter().map(|(_, pod)| pod.by.global).sum::<u64>() + node.events;
        let place = if names.is_empty() { names } else { format!(" in {names}") };
        let text = format!("the node ran out of memory: {}{place}", kills(events));
        metrics.push(GLOBAL.value(events as f64).said(text));
        if node.events > 0 {
            judged.findings.extend(seen.others_killed(&tally).map(Finding::fact));
        }
    }
    if probe.judges(Scope::System) {
        metrics.extend(judged.system_metrics(&tally.system));
    }
    if probe.judges(Scope::Unattributed) {
        metrics.extend(judged.unattributed(&tally));
    }
    metrics.extend(judged.since_boot(now));
    metrics.insert(0, KILLS_METRIC.value(judged.sum.events as f64));
    metrics.insert(1, PROCESSES.value(judged.sum.processes as f64));
    metrics.push(IGNORED.value(judged.ignored as f64));
    if probe.judges_pods() {
        metrics.push(KILLS_OWN.value(judged.own as f64));
    }
    judged.remarks(&tally, past, now, &window);
    let summary = match judged.sum.events {
        0 => judged.nothing(past, now),
        events => format!("{} in {window}", kills(events)),
    };
    let detail = judged.detail(&tally);
    Assessment { summary, detail, findings: judged.findings, metrics, ..Assessment::default() }
}

impl<'a> Judged<'a> {
    /// Leaves out what other checks judge, and what the parameters set apart.
    fn sort_out(probe: &'a CgroupOom, seen: &'a Observation, tally: &Tally) -> Judged<'a> {
        let mut judged =
            Judged { probe, seen, pods: Vec::new(), sum: Count::default(), ignored: 0, own: 0, findings: Vec::new() };
        let mut lines: Vec<(u64, Finding)> = Vec::new();
        for (uid, whole) in &tally.pods {
            let events = judged.events(whole);
            if events == 0 {
                continue;
            }
            let mut pod = whole.clone();
            // Who died in events of other classes is not known apart.
            pod.count.processes = if events == whole.count.events { whole.count.processes } else { events };
            pod.count.events = events;
            let line = seen.pod_line(*uid, &pod);
            let name = seen.called.pods.get(uid);
            if name.is_some_and(|name| probe.ignore.iter().any(|glob| glob.matches(name))) {
                judged.ignored += events;
                lines.push((events, Finding::fact(format!("ignored: {line}"))));
                continue;
            }
            let own = name.and_then(|name| probe.thresholds.iter().find(|own| own.pods.matches(name)));
            if let Some(own) = own {
                let (status, range) = own.threshold().judge(events as f64);
                let limit = range.map(|range| format!(" (own threshold {range} of {})", own.pods)).unwrap_or_default();
                judged.own += events;
                lines.push((events, Finding::new(status, format!("{line}{limit}"))));
                continue;
            }
            lines.push((events, Finding::fact(line)));
            judged.sum.events += events;
            judged.sum.processes += pod.count.processes;
            judged.pods.push((*uid, pod));
        }
        judged.pods.sort_by_key(|(_, pod)| std::cmp::Reverse(pod.count.events));
        lines.sort_by_key(|(events, _)| std::cmp::Reverse(*events));
        judged.tell(lines.into_iter().map(|(_, finding)| finding).collect(), "pods");
        judged
    }

    fn tell(&mut self, lines: Vec<Finding>, what: &str) {
        let left = lines.len().saturating_sub(MOST_LINES);
        // One that has a state of its own is always told.
        let (grave, plain): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.status != Status::Ok);
        let room = MOST_LINES.saturating_sub(grave.len());
        self.findings.extend(grave);
        self.findings.extend(plain.into_iter().take(room));
        if left > 0 {
            self.findings.push(Finding::fact(format!("and about {left} more {what}")));
        }
    }

    /// The events of a pod that the scopes have.
    fn events(&self, pod: &Pod) -> u64 {
        let of = |scope, events| if self.probe.judges(scope) { events } else { 0 };
        of(Scope::Container, pod.by.container)
            + of(Scope::Pod, pod.by.pod)
            + of(Scope::NodeAllocatable, pod.by.allocatable)
            + of(Scope::Global, pod.by.global)
    }

    fn names(&self, which: impl Fn(&Pod) -> bool) -> String {
        let pods = self.pods.iter().filter(|(_, pod)| which(pod));
        some_of(&pods.map(|(uid, _)| self.seen.pod_name(*uid)).collect::<Vec<_>>(), 3)
    }

    fn pod_metrics(&mut self, window: &str) -> Vec<Metric> {
        let mut metrics = Vec::new();
        let loops: Vec<String> = self.pods.iter().filter_map(|(uid, pod)| self.loop_text(*uid, pod)).collect();
        let text = format!("OOM loop: {}", some_of(&loops, 2));
        metrics.push(LOOPS.value(loops.len() as f64).said(text));
        if self.probe.judges(Scope::NodeAllocatable) {
            let events = self.pods.iter().map(|(_, pod)| pod.by.allocatable).sum::<u64>();
            let limit = self.seen.called.limits.get(ALL).map(|limit| format!(" ({})", size(*limit)));
            let names = self.names(|pod| pod.by.allocatable > 0);
            let text = format!("all pods together hit their limit{}: {names}", limit.unwrap_or_default());
            metrics.push(ALLOCATABLE.value(events as f64).said(text));
        }
        let worst = self.pods.first().map_or(0, |(_, pod)| pod.count.events);
        let name = self.pods.first().map(|(uid, _)| self.seen.pod_name(*uid)).unwrap_or_default();
        metrics.push(WORST_POD.value(worst as f64).said(format!("{name} alone has {} in {window}", kills(worst))));
        let count = self.pods.len();
        let text = format!("{count} pods have OOM kills: {}", self.names(|_| true));
        metrics.push(PODS.value(count as f64).said(text));
        metrics
    }

    /// Whether one container of the pod must have ended so often that it is a loop; of several that may have, the one
    /// that did so most often has at least its share.
    fn loop_text(&self, uid: Uid, pod: &Pod) -> Option<String> {
        let restarts = self.seen.called.restarts.get(&uid).map_or(&[][..], Vec::as_slice);
        let candidates: Vec<String> = self.seen.restarted(uid).map(str::to_owned).collect();
        // Several single kills may have ended one container together; it was not started more often than it was.
        let started = restarts.iter().map(|(_, newest)| u64::from(*newest) + 1).sum::<u64>();
        let ended = match pod.in_groups || restarts.is_empty() {
            true => pod.ended.events,
            false => pod.ended.events.min(started),
        };
        let share = ended.div_ceil(u64::try_from(candidates.len().max(1)).unwrap_or(1));
        // Those that a look saw with their kills before they were gone.
        let mut gone: BTreeMap<String, u64> = BTreeMap::new();
        for id in pod.containers.keys().filter(|id| !self.seen.is_alive(id)) {
            *gone.entry(self.seen.container_name(id)).or_default() += 1;
        }
        let may_be = |name: &String| candidates.is_empty() || candidates.contains(name);
        let most = gone.into_iter().max_by_key(|(_, count)| *count);
        let (name, ended, share) = match most {
            Some((name, count)) if may_be(&name) => (Some(name), ended + count, share + count),
            Some((name, count)) if count > share => (Some(name), count, count),
            _ => (None, ended, share),
        };
        if share < self.probe.loop_at {
            return None;
        }
        let container = match (name, candidates.as_slice()) {
            (Some(name), _) => format!(" container {name}"),
            (None, []) => String::new(),
            (None, [one]) => format!(" container {one}"),
            (None, several) => format!(" one of {}", some_of(several, 3)),
        };
        let limit = self.seen.limit_text(uid, pod).map(|limit| format!(", {limit}")).unwrap_or_default();
        Some(format!("{}{container}{limit}, ended {ended} times", self.seen.pod_name(uid)))
    }

    fn system_metrics(&mut self, system: &[System]) -> Vec<Metric> {
        let mut lines = Vec::new();
        for system in system {
            let why =
                at_limit(&system.hit).unwrap_or_else(|| "no limit was hit: the node ran out of memory".to_owned());
            let who = self.seen.killed_at(&system.path).map(|who| format!("; {who}")).unwrap_or_default();
            let path = shown(&system.path);
            lines.push(Finding::fact(format!("{path}: {}; {why}{who}", kills(system.count.events))));
            self.sum.events += system.count.events;
            self.sum.processes += system.count.processes;
        }
        self.tell(lines, "services");
        let metric = |spec: &super::MetricSpec, of_node: bool, text: &dyn Fn(&str, &str) -> String| {
            let of = system.iter().filter(|system| (system.hit == Hit::None) == of_node);
            let events: u64 = of.clone().map(|system| system.count.events).sum();
            let names: Vec<String> = of.map(|system| service(&system.path)).collect();
            spec.value(events as f64).said(text(&kills(events), &some_of(&names, 3)))
        };
        vec![
            metric(&SYSTEM, true, &|kills, names| format!("the node ran out of memory: {kills} in {names}")),
            metric(&SYSTEM_LIMIT, false, &|kills, names| format!("{kills} at a limit outside all pods: {names}")),
        ]
    }

    fn unattributed(&mut self, tally: &Tally) -> Option<Metric> {
        match (&self.seen.total, &self.seen.host_of) {
            (_, Some(sign)) => {
                let text = "kills in containers that are gone can't be told from those of the host around this node";
                self.findings.push(Finding::fact(format!("{text} ({sign})")));
                return None;
            }
            (Err(error), None) => {
                let text = format!("the kills of the whole node are not known: {error}");
                self.findings.push(Finding::new(Status::Unknown, text));
                return None;
            }
            (Ok(_), None) => {}
        }
        let count = tally.unattributed;
        self.sum.events += count.events;
        self.sum.processes += count.processes;
        if count.events > 0 {
            self.findings.extend(self.seen.others_killed(tally).map(Finding::fact));
        }
        let who = self.seen.others(tally).map(|who| format!(": {who}")).unwrap_or_default();
        let text = format!("{} in cgroups that are gone{who}", kills(count.events));
        Some(UNATTRIBUTED.value(count.events as f64).said(text))
    }

    /// What the kernel counted since the boot: the part that this check is about, as far as it is still there.
    fn since_boot(&mut self, now: &Moment) -> Option<Metric> {
        let is_of_pods =
            |path: &str| matches!(Place::of(path), Place::Kubepods { .. }) || Place::of(path).pod().is_some();
        let of_pods = |kills: u64, path: &str| match self.seen.is_hierarchical() {
            // What is counted above it already is not counted again.
            true if is_of_pods(path) && !ancestors(path).any(is_of_pods) => kills,
            false if Place::of(path).pod().is_some() => kills,
            _ => 0,
        };
        let pods = self.seen.cgroups.all.iter().map(|cgroup| of_pods(cgroup.kills, &cgroup.path));
        let pods = pods.fold(0, u64::saturating_add);
        let kills = match self.probe.judges_node() {
            true if self.seen.host_of.is_some() => return None,
            true => *self.seen.total.as_ref().ok()?,
            false => pods,
        };
        if kills > 0 {
            let up = now.uptime.and_then(|up| std::time::Duration::try_from_secs_f64(up).ok());
            let up = up.map(|up| format!(" ({} ago)", spoken(up))).unwrap_or_default();
            let place = match (self.probe.judges_node(), self.seen.is_hierarchical()) {
                (true, _) => "on the node",
                (false, true) => "in pods",
                (false, false) => "in containers that still run",
            };
            let processes = if kills == 1 { "process" } else { "processes" };
            let text = format!("since the boot{up} the OOM killer killed {kills} {processes} {place}");
            self.findings.push(Finding::fact(text));
        }
        // The sum of those that still run goes down when one ends: no counter.
        (self.probe.judges_node() || self.seen.is_hierarchical()).then(|| KILLS_BOOT.value(kills as f64))
    }

    /// What the numbers rest on, where that is not all.
    fn remarks(&mut self, tally: &Tally, past: &Past, now: &Moment, window: &str) {
        if let Some((count, first)) = &self.seen.cgroups.unread {
            let more = if *count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
            let first = brief(&first.to_string());
            let text = format!("kills may be missing, not all cgroups could be read: {first}{more}");
            self.findings.push(Finding::new(Status::Unknown, text));
        }
        let mut fact = |text: String| self.findings.push(Finding::fact(text));
        let covered = past.covered(now);
        // Of the first look line 1 tells.
        let is_part = !covered.is_zero() && covered < past.window;
        if is_part && now.uptime.is_none_or(|up| up > past.window.as_secs_f64()) {
            fact(format!("looks cover {} of {window}", minutes(covered)));
        }
        if tally.maybe_before {
            fact(format!("looks were far apart: some of it may be older than {window}"));
        }
        let has_kills = tally.pods.values().any(|pod| pod.count.events > 0) || tally.unattributed.events > 0;
        if has_kills && !self.seen.is_hierarchical() && self.seen.memcg.is_some() {
            let is_v1 = self.seen.memcg.as_ref().is_some_and(|memcg| memcg.version == Version::V1);
            let of = if is_v1 { "cgroup v1" } else { "cgroup v2 with memory_localevents" };
            let where_to = match self.probe.judges_node() {
                true => "such kills are among those in cgroups that are gone",
                false => "such kills are told by node-oom-kills",
            };
            fact(format!("{of} forgets what was killed in a container that ended: {where_to}"));
        }
        if has_kills || !tally.system.is_empty() {
            self.seen.killed.remarks.iter().cloned().for_each(&mut fact);
            self.seen.called.troubles.iter().for_each(|trouble| fact(format!("a name was not read: {trouble}")));
        }
    }

    /// The names for line 1.
    fn detail(&self, tally: &Tally) -> String {
        let mut parts: Vec<String> = Vec::new();
        for (uid, pod) in &self.pods {
            let place = self.seen.place_in(*uid, pod);
            let place = if place.is_empty() { place } else { format!(" {place}") };
            let limit = self.seen.limit_text(*uid, pod).map(|limit| format!(", {limit}")).unwrap_or_default();
            // The sentence before it says so.
            let limit = if self.probe.judges(Scope::Global) { String::new() } else { limit };
            parts.push(format!("{} {}x{place}{limit}", self.seen.pod_name(*uid), pod.count.events));
        }
        if self.probe.judges(Scope::System) {
            let system = tally.system.iter();
            parts.extend(system.map(|system| {
                let limit = at_limit(&system.hit).map(|text| format!(" {text}")).unwrap_or_default();
                format!("{} {}x{limit}", service(&system.path), system.count.events)
            }));
        }
        if self.probe.judges(Scope::Unattributed) && tally.unattributed.events > 0 && self.seen.host_of.is_none() {
            let who = self.seen.others(tally).map(|who| format!(" ({who})")).unwrap_or_default();
            parts.push(format!("{} in cgroups that are gone{who}", tally.unattributed.events));
        }
        some_of(&parts, 3)
    }

    /// The summary where nothing is judged: of no longer than the looks cover, and with what is set apart.
    fn nothing(&self, past: &Past, now: &Moment) -> String {
        let what = if self.probe.judges_node() { "of the node or its services" } else { "in a pod" };
        // In a boot that is younger than the window a look covers all of it.
        let covered = past.covered(now);
        if self.probe.judges_node() && self.seen.total.is_err() && self.seen.host_of.is_none() {
            return format!("no OOM kill {what} that is known of");
        }
        if covered.is_zero() {
            let then = if past.is_blind(now) { "" } else { ": kills are counted from now on" };
            return format!("no OOM kill {what} in the first look{then}");
        }
        let apart = [(self.ignored, "ignored pods"), (self.own, "pods with thresholds of their own")];
        let apart: Vec<String> =
            apart.iter().filter(|(count, _)| *count > 0).map(|(count, pods)| format!("{count} in {pods}")).collect();
        let but = if apart.is_empty() { String::new() } else { format!(" but {}", apart.join(" and ")) };
        format!("no OOM kill {what} in {}{but}", minutes(covered))
    }
}
