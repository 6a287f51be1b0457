//! Whether what kube-proxy programs is whole: the way from the base chains over a service to an endpoint's DNAT.
//!
//! kube-proxy looks at one empty chain in `mangle` and rewrites everything only if that is gone: who flushes `nat` is never
//! noticed (`pkg/util/iptables/iptables.go`, `Monitor`). So nothing is counted here that could be left over; ways are
//! followed. A node without any rule is measured by what it had when it was whole, and by whether a kubelet runs.

mod base;
mod cure;
mod judge;
mod survey;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Probe;
use super::whole::{self, LastSeen, Memory, Only, Part};
use super::words::some_of;
use crate::dataplane::kube::Set;
use crate::dataplane::{Jump, elsewhere, family_name, node};
use crate::history::{Past, Trace};
use crate::host::clock::spoken;
use crate::host::{Error, Host, Moment};
use crate::parse::ruleset::{Endpoint, Family};
use crate::status::Status;
use crate::verdict::{Assessment, Finding, MetricSpec, Unit};

use base::Base;
use judge::{Chosen, Fault};
use survey::{Kept, Survey};

const BROKEN: MetricSpec = MetricSpec::new("broken", Unit::None, "Services and ports that lead to no endpoint");
const BROKEN_SHARE: MetricSpec = MetricSpec::percent("broken_share", "the part of all of a family that these are");
const SERVICES: MetricSpec = MetricSpec::new("services", Unit::None, "Services and ports that are carried");
const ENDPOINTS: MetricSpec = MetricSpec::new("endpoints", Unit::None, "endpoints that they lead to");
const REJECTS: MetricSpec =
    MetricSpec::new("rejects", Unit::None, "Services and ports without endpoints: their packets are rejected");
const ENTRIES: MetricSpec = MetricSpec::new("nat_entries", Unit::None, "rules (or elements of maps) in all");
const DROP: MetricSpec = MetricSpec::percent("drop", "how much is gone of what was there not long ago");
const REPEATED: MetricSpec =
    MetricSpec::new("repeated_jumps", Unit::None, "how often a jump to kube-proxy's chains is there beyond once");
const READ_TIME: MetricSpec = MetricSpec::new("read_time", Unit::Seconds, "how long it took to read all").optional();

/// The notes: the API server's service by family.
const API: &str = "api ";

/// Looks whether services are carried.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubeNat {
    /// What must be there.
    pub expect: Expect,
    /// The families that must be there and are judged; empty: those that were.
    pub families: Vec<Only>,
    #[serde(skip)]
    kept: Kept,
    #[serde(skip)]
    last_seen: LastSeen,
}

/// How kube-proxy must carry services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// As it did when it was whole.
    #[default]
    Auto,
    /// By chains of iptables.
    Iptables,
    /// By IPVS.
    Ipvs,
    /// By a table of its own.
    Nftables,
    /// Not at all.
    None,
}

impl Expect {
    fn mode(self) -> Option<&'static str> {
        match self {
            Expect::Iptables => Some("iptables"),
            Expect::Ipvs => Some("ipvs"),
            Expect::Nftables => Some("nftables"),
            Expect::Auto | Expect::None => None,
        }
    }
}

/// What one look at the node saw.
#[derive(Debug, Default)]
pub struct Observation {
    survey: Arc<Survey>,
    /// How old that is.
    age: Duration,
    around: Around,
    faults: Vec<Fault>,
    memory: Memory,
    bases: Vec<(Family, Base)>,
    /// Where the API server's service is or was.
    apis: Vec<(Family, Endpoint)>,
    /// Who changed the rules of nf_tables since they were whole.
    writers: Vec<String>,
    distribution: Option<&'static str>,
    /// The network namespace, where it is not the node's.
    elsewhere: Option<String>,
    is_off: bool,
}

/// What is known beside the rules.
#[derive(Debug, Default)]
struct Around {
    /// How it was done in the families that must be there.
    known: Vec<(Family, String)>,
    families: Vec<Only>,
    /// Where the API server's service was.
    api: Option<Endpoint>,
    kubelet: Option<String>,
    /// What may carry services instead, where kube-proxy has no rule.
    replacement: Option<&'static str>,
}

impl Around {
    fn known(&self, family: Family) -> Option<&str> {
        self.known.iter().find(|(of, _)| *of == family).map(|(_, mode)| mode.as_str())
    }
}

impl Probe for KubeNat {
    const NAME: &'static str = "kube-nat";
    const PARAMS: &'static [(&'static str, &'static str)] = &[
        ("expect", "auto (as it was when it was whole), iptables, ipvs, nftables, or none: nothing is judged"),
        (
            "families",
            "[\"IPv4\", \"IPv6\"] or one of them: what must be there, and no other is judged; []: what was seen",
        ),
    ];
    type Observation = Observation;

    fn metrics(&self) -> Vec<MetricSpec> {
        vec![BROKEN, BROKEN_SHARE, SERVICES, ENDPOINTS, REJECTS, ENTRIES, DROP, REPEATED, READ_TIME]
    }

    fn observe(&self, host: &Host, past: &Past) -> Result<Observation, Error> {
        if self.expect == Expect::None {
            return Ok(Observation { is_off: true, ..Observation::default() });
        }
        let now = host.now();
        let (survey, age) = self.kept.survey(host)?;
        let mut around = Around::default();
        for family in [Family::Ip, Family::Ip6] {
            let known = whole::known(past, family_name(family)).map(str::to_owned);
            around.known.extend(whole::expected(&self.families, family, known).map(|mode| (family, mode)));
        }
        around.families.clone_from(&self.families);
        let apis = apis(&survey, past);
        around.api = apis.first().map(|(_, at)| *at);
        if survey.sets.is_empty() {
            around.kubelet = node::kubelet(host)?;
            around.replacement = node::replacement(host)?;
            is_applicable(self.expect, &survey, &around)?;
        }
        let faults = judge::faults(&survey, &around, self.expect);
        let is_broken = |family: Family| faults.iter().any(|fault| fault.family.is_none_or(|of| of == family));
        let (mut parts, mut bases) = (Vec::new(), Vec::new());
        for Chosen { family, mode, set, .. } in
            judge::chosen(&survey, &around, self.expect).into_iter().filter(|one| one.carries)
        {
            // A skeleton is no measure.
            let is_whole = !is_broken(family) && set.broken.0 == 0 && set.services > 0 && survey.troubles.is_empty();
            parts.push(Part { name: family_name(family), mode: mode.name(), is_whole });
            let is_plain = set.jumps.iter().all(|jump| jump.repeats() == 0);
            bases.extend(Base::after(past, family, set, is_whole && is_plain, &now).map(|base| (family, base)));
        }
        for family in [Family::Ip, Family::Ip6] {
            if !bases.iter().any(|(of, _)| *of == family) {
                bases.extend(Base::before(past, family).map(|base| (family, base)));
            }
        }
        self.kept.judged(faults.is_empty() && !parts.is_empty() && parts.iter().all(|part| part.is_whole));
        // What is expected otherwise is no news of what is there.
        let is_other = bases.is_empty() && self.expect.mode().is_some() && !survey.sets.is_empty();
        let memory = match is_other {
            true => Memory::unchanged(past),
            false => Memory::after(past, &parts, &self.last_seen, &host.now()),
        };
        let mut seen = Observation { memory, apis, bases, age, around, ..Observation::default() };
        if parts.iter().any(|part| !part.is_whole) || !faults.is_empty() {
            seen.distribution = node::distribution(host);
            seen.writers = whole::writers(host, &seen.memory);
        }
        seen.elsewhere = elsewhere(host);
        (seen.survey, seen.faults) = (survey, faults);
        Ok(seen)
    }

    fn trace(&self, seen: &Observation) -> Trace {
        if seen.is_off {
            return Trace::default();
        }
        let apis = seen.apis.iter().map(|(family, at)| (family_name(*family).to_owned(), at.to_string()));
        base::trace(&seen.bases, seen.memory.trace(Trace::default()).group(API, apis))
    }

    fn assess(&self, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
        if seen.is_off {
            let metrics = vec![BROKEN.value(0.0), BROKEN_SHARE.value(0.0), DROP.value(0.0), REPEATED.value(0.0)];
            let summary = "nothing is judged: expect is none".to_owned();
            return Assessment { summary, metrics, ..Assessment::default() };
        }
        seen.assess(self.expect, past, now)
    }
}

/// Absent where nothing tells of kube-proxy, or something else does its work.
fn is_applicable(expect: Expect, survey: &Survey, around: &Around) -> Result<(), Error> {
    if expect != Expect::Auto || !around.known.is_empty() {
        return Ok(());
    }
    if let Some((_, error)) = survey.troubles.first() {
        return Err(error.clone());
    }
    if let Some(name) = around.replacement {
        return Err(Error::Absent(format!("no rule of kube-proxy; {name} carries the Services")));
    }
    match (&around.kubelet, survey.canaries.is_empty() && survey.hints.is_empty()) {
        (None, true) => Err(Error::Absent("no rule of kube-proxy and no kubelet".to_owned())),
        _ => Ok(()),
    }
}

/// The API server's service: where it is, else where it was.
fn apis(survey: &Survey, past: &Past) -> Vec<(Family, Endpoint)> {
    let of_family = |family: Family| {
        let sets = survey.sets.iter().filter(|(of, _, _)| *of == family);
        let seen = sets.filter_map(|(_, _, set)| set.api.as_ref()?.service).next();
        let known = || past.note(&format!("{API}{}", family_name(family))).and_then(|note| note.value.parse().ok());
        seen.or_else(known).map(|at| (family, at))
    };
    [Family::Ip, Family::Ip6].into_iter().filter_map(of_family).collect()
}

impl Observation {
    fn assess(&self, expect: Expect, past: &Past, now: &Moment) -> Assessment {
        let chosen = judge::chosen(&self.survey, &self.around, expect);
        let carrying: Vec<&Chosen<'_>> = chosen.iter().filter(|one| one.carries).collect();
        let sum = |of: &dyn Fn(&Set) -> usize| carrying.iter().map(|one| of(one.set)).sum::<usize>();
        let (services, broken) = (sum(&|set| set.services), sum(&|set| set.broken.0));
        let share = carrying.iter().map(|one| share(one.set)).fold(0.0, f64::max);
        let mut findings: Vec<Finding> =
            self.faults.iter().map(|fault| Finding::new(fault.status, fault.text.clone())).collect();
        findings.extend(self.survey.troubles.iter().map(|(_, error)| Finding::new(Status::Unknown, error.to_string())));
        let names: Vec<String> = carrying.iter().flat_map(|one| one.set.broken.1.clone()).collect();
        let of = format!("{broken} of {}", counted(services, "Service"));
        let lead = if broken == 1 { "leads" } else { "lead" };
        let broken_said = format!("{of} {lead} nowhere: {} (K6)", judge::some(broken, &names));
        let drop =
            self.bases.iter().filter_map(|(_, base)| base.drop.as_ref()).max_by(|a, b| a.part.total_cmp(&b.part));
        let (drop_part, drop_said) = drop.map(|drop| (drop.part, drop.said(now))).unwrap_or_default();
        let repeated: usize =
            carrying.iter().flat_map(|one| &one.set.jumps).map(Jump::repeats).max().unwrap_or_default();
        let took = self.survey.took.map(|took| READ_TIME.value((took.as_secs_f64() * 1e6).round() / 1e6));
        if let (true, Some((_, error))) = (carrying.is_empty(), self.survey.troubles.first()) {
            // What could not be read is not 0.
            let summary = error.to_string();
            return Assessment { summary, findings, metrics: took.into_iter().collect(), ..Assessment::default() };
        }
        let metrics = vec![
            BROKEN.value(broken as f64).said(&broken_said),
            BROKEN_SHARE
                .value((share * 10.0).floor() / 10.0)
                .said(format!("{share:.0} % of the Services lead nowhere (K6)")),
            SERVICES.value(services as f64),
            ENDPOINTS.value(sum(&|set| set.endpoints) as f64),
            REJECTS.value(sum(&|set| set.rejected.len()) as f64),
            ENTRIES.value(sum(&|set| set.entries) as f64),
            DROP.value(drop_part.round()).said(drop_said),
            REPEATED.value(repeated as f64).said(repeated_text(&carrying)),
        ];
        if broken > 0 && !self.faults.is_empty() {
            // Line 1 tells of something else.
            findings.push(Finding::fact(&broken_said));
        }
        let is_broken = broken > 0 || !self.faults.is_empty();
        findings.extend(self.facts(&chosen, is_broken, past, now).into_iter().map(Finding::fact));
        let summary = match (broken, self.faults.len()) {
            (0, 0) => whole_text(&carrying, past, now),
            (1.., 0) => broken_said,
            (_, faults) => whole::broken_text(past, faults, now),
        };
        let was_whole = |one: &&Chosen<'_>| whole::was_whole_in_this_boot(past, family_name(one.family), now);
        let is_settled = carrying.iter().any(was_whole)
            || whole::known_parts(past).any(|part| whole::was_whole_in_this_boot(past, part, now));
        Assessment {
            summary,
            detail: String::new(),
            findings,
            metrics: metrics.into_iter().chain(took).collect(),
            is_settled,
            ..Assessment::default()
        }
    }

    /// What whoever has to mend it must know.
    fn facts(&self, chosen: &[Chosen<'_>], is_broken: bool, past: &Past, now: &Moment) -> Vec<String> {
        let mut facts = Vec::new();
        if is_broken {
            facts.extend(whole::until_texts(past, now));
            if !self.writers.is_empty() {
                facts.push(format!("since then nf_tables was changed by {}", some_of(&self.writers, 5)));
            }
            facts.extend(self.cures(chosen));
            if self.distribution == Some("microk8s") {
                let text =
                    "microk8s has its own iptables-legacy: `iptables -t nat -L` of this host may show nothing of it";
                facts.push(text.to_owned());
            }
        }
        facts.extend(judge::hint_elsewhere(&self.survey, chosen));
        if let Some(netns) = &self.elsewhere {
            facts.push(format!("this is {netns}, not the network namespace of process 1"));
        }
        if self.age >= Duration::from_secs(1) {
            facts.push(format!("nothing has changed much since the rules were read {} ago", spoken(self.age)));
        }
        facts
    }
}

/// The part of its Services that lead nowhere, in per cent.
fn share(set: &Set) -> f64 {
    if set.services == 0 { 0.0 } else { (100.0 * set.broken.0 as f64 / set.services as f64).min(100.0) }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn repeated_text(carrying: &[&Chosen<'_>]) -> String {
    let of = |one: &&Chosen<'_>| {
        let place = one.mode.place(one.family);
        let repeated = one.set.jumps.iter().filter(|jump| jump.repeats() > 0);
        repeated.map(|jump| format!("{place}: {jump} is there {} times (K12)", jump.count)).collect::<Vec<_>>()
    };
    some_of(&carrying.iter().flat_map(of).collect::<Vec<_>>(), 3)
}

fn whole_text(carrying: &[&Chosen<'_>], past: &Past, now: &Moment) -> String {
    let parts: Vec<String> = carrying
        .iter()
        .map(|one| {
            let family = family_name(one.family);
            let since = whole::whole_since(past, family).map(|since| now.since(since)).filter(|age| age.as_secs() > 0);
            let since = since.map(|age| format!(", whole for {}", spoken(age))).unwrap_or_default();
            let (services, endpoints) = (counted(one.set.services, "Service"), counted(one.set.endpoints, "endpoint"));
            format!("{family} by {}: {services} to {endpoints}{since}", one.mode.name())
        })
        .collect();
    if parts.is_empty() { "no Service is carried".to_owned() } else { parts.join("; ") }
}
