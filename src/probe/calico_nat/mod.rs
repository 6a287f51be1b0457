//! Whether the NAT that Calico's Felix programs is whole: its chains, the jumps to them, and the masquerading of what leaves
//! the cluster.
//!
//! Felix puts back what is missing within three minutes (`felix/iptables/table.go`): chains that stay away mean that it does
//! not run, or writes into the other backend. Its liveness and its metrics tell of neither.

mod judge;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Probe;
use super::whole::{self, LastSeen, Memory, Only, Part};
use super::words::some_of;
use crate::dataplane::calico::Set;
use crate::dataplane::{SIDES, Side, elsewhere, family_name, node, unless_denied};
use crate::history::{Past, Trace};
use crate::host::clock::spoken;
use crate::host::{Error, Host, Moment};
use crate::parse::ruleset::Family;
use crate::status::Status;
use crate::verdict::{Assessment, Finding, MetricSpec, Unit};

const MISSING: MetricSpec =
    MetricSpec::new("missing", Unit::None, "chains, jumps and rules of Calico that must be there and are not");
const CHAINS: MetricSpec = MetricSpec::new("cali_chains", Unit::None, "chains of Calico that carry NAT");
const REPEATED: MetricSpec =
    MetricSpec::new("repeated_jumps", Unit::None, "how often a jump to Calico's chains is there beyond once");
const READ_TIME: MetricSpec = MetricSpec::new("read_time", Unit::Seconds, "how long it took to read all").optional();

/// Looks whether Calico's NAT is there.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CalicoNat {
    /// What must be there.
    pub expect: Expect,
    /// The families that must be there and are judged; empty: those that were.
    pub families: Vec<Only>,
    #[serde(skip)]
    last_seen: LastSeen,
}

/// How Felix must carry packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// As it did when it was whole.
    #[default]
    Auto,
    /// By chains of iptables.
    Iptables,
    /// By a table of its own.
    Nftables,
    /// By eBPF, with few chains.
    Bpf,
    /// Not at all.
    None,
}

impl Expect {
    fn mode(self) -> Option<&'static str> {
        match self {
            Expect::Iptables => Some("iptables"),
            Expect::Nftables => Some("nftables"),
            Expect::Bpf => Some("bpf"),
            Expect::Auto | Expect::None => None,
        }
    }
}

/// What one look at the node saw.
#[derive(Debug, Default)]
pub struct Observation {
    sets: Vec<Set>,
    /// Where packets get to kube-proxy's chains.
    kube: Vec<Side>,
    /// What could not be read, by family.
    troubles: Vec<(Family, Error)>,
    known: Vec<(Family, String)>,
    /// The configuration of CNI that makes Calico the network of this node.
    conf: Option<String>,
    faults: Vec<judge::Fault>,
    memory: Memory,
    writers: Vec<String>,
    distribution: Option<&'static str>,
    elsewhere: Option<String>,
    took: Option<Duration>,
    is_off: bool,
}

impl Observation {
    fn known(&self, family: Family) -> Option<&str> {
        self.known.iter().find(|(of, _)| *of == family).map(|(_, mode)| mode.as_str())
    }
}

impl Probe for CalicoNat {
    const NAME: &'static str = "calico-nat";
    const PARAMS: &'static [(&'static str, &'static str)] = &[
        ("expect", "auto (as it was when it was whole), iptables, nftables, bpf, or none: nothing is judged"),
        (
            "families",
            "[\"IPv4\", \"IPv6\"] or one of them: what must be there, and no other is judged; []: what was seen",
        ),
    ];
    type Observation = Observation;

    fn metrics(&self) -> Vec<MetricSpec> {
        vec![MISSING, CHAINS, REPEATED, READ_TIME]
    }

    fn observe(&self, host: &Host, past: &Past) -> Result<Observation, Error> {
        if self.expect == Expect::None {
            return Ok(Observation { is_off: true, ..Observation::default() });
        }
        let began = host.stopwatch();
        let mut seen = Observation::default();
        let is_bpf = self.expect == Expect::Bpf || node::is_calico_bpf(host)?;
        for side in SIDES {
            let read = Set::of_iptables(host, side, is_bpf);
            if let Some((set, is_kube)) = unless_denied(&mut seen.troubles, side.family, read)? {
                seen.sets.extend(set);
                seen.kube.extend(is_kube.then_some(side));
            }
        }
        for family in [Family::Ip, Family::Ip6] {
            let read = Set::of_nftables(host, family);
            seen.sets.extend(unless_denied(&mut seen.troubles, family, read)?.flatten());
            let known = whole::known(past, family_name(family)).map(str::to_owned);
            seen.known.extend(whole::expected(&self.families, family, known).map(|mode| (family, mode)));
        }
        seen.sets.retain(|set| whole::is_judged(&self.families, set.family));
        seen.took = began.zip(host.stopwatch()).map(|(began, ended)| ended.saturating_sub(began));
        if seen.sets.is_empty() {
            seen.conf = node::calico_conf(host)?;
            if self.expect == Expect::Auto && seen.known.is_empty() && seen.conf.is_none() {
                return Err(match seen.troubles.pop() {
                    Some((_, error)) => error,
                    None => Error::Absent("no chain of Calico, and no configuration of CNI names it".to_owned()),
                });
            }
        }
        seen.faults = judge::faults(&seen, self.expect);
        let is_broken = |family: Family| seen.faults.iter().any(|fault| fault.family.is_none_or(|of| of == family));
        let parts: Vec<Part> = judge::chosen(&seen, self.expect)
            .iter()
            .map(|set| Part {
                name: family_name(set.family),
                mode: set.mode.name(),
                is_whole: !is_broken(set.family) && seen.troubles.is_empty(),
            })
            .collect();
        // What is expected otherwise is no news of what is there.
        let is_other = parts.is_empty() && self.expect.mode().is_some() && !seen.sets.is_empty();
        seen.memory = match is_other {
            true => Memory::unchanged(past),
            false => Memory::after(past, &parts, &self.last_seen, &host.now()),
        };
        if !seen.faults.is_empty() {
            seen.distribution = node::distribution(host);
            seen.writers = whole::writers(host, &seen.memory);
        }
        seen.elsewhere = elsewhere(host);
        Ok(seen)
    }

    fn trace(&self, seen: &Observation) -> Trace {
        if seen.is_off { Trace::default() } else { seen.memory.trace(Trace::default()) }
    }

    fn assess(&self, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
        if seen.is_off {
            let metrics = vec![MISSING.value(0.0), REPEATED.value(0.0)];
            let summary = "nothing is judged: expect is none".to_owned();
            return Assessment { summary, metrics, ..Assessment::default() };
        }
        seen.assess(self.expect, past, now)
    }
}

impl Observation {
    fn assess(&self, expect: Expect, past: &Past, now: &Moment) -> Assessment {
        let chosen = judge::chosen(self, expect);
        let is_missing = |fault: &&judge::Fault| fault.status == Status::Critical;
        let missing = self.faults.iter().filter(is_missing).count();
        let repeated: usize = chosen.iter().map(|set| judge::repeated(set)).max().unwrap_or_default();
        let mut findings: Vec<Finding> =
            self.faults.iter().map(|fault| Finding::new(fault.status, fault.text.clone())).collect();
        findings.extend(self.troubles.iter().map(|(_, error)| Finding::new(Status::Unknown, error.to_string())));
        let said = some_of(&chosen.iter().flat_map(|set| judge::repeated_jumps(set)).collect::<Vec<_>>(), 3);
        let metrics = vec![
            MISSING.value(missing as f64),
            CHAINS.value(chosen.iter().map(|set| set.chains).sum::<usize>() as f64),
            REPEATED.value(repeated as f64).said(said),
        ];
        let took = self.took.map(|took| READ_TIME.value((took.as_secs_f64() * 1e6).round() / 1e6));
        if !self.faults.is_empty() {
            findings.extend(whole::until_texts(past, now).into_iter().map(Finding::fact));
            if !self.writers.is_empty() {
                let text = format!("since then nf_tables was changed by {}", some_of(&self.writers, 5));
                findings.push(Finding::fact(text));
            }
            findings.extend(judge::cures(self).into_iter().map(Finding::fact));
        }
        for set in chosen.iter() {
            if let Err(error) = &set.pools {
                findings.push(Finding::fact(format!(
                    "{}: not judged by the address pools: {error}",
                    family_name(set.family)
                )));
            }
        }
        if let Some(netns) = &self.elsewhere {
            findings.push(Finding::fact(format!("this is {netns}, not the network namespace of process 1")));
        }
        let parts: Vec<String> = chosen
            .iter()
            .map(|set| {
                let family = family_name(set.family);
                let since =
                    whole::whole_since(past, family).map(|since| now.since(since)).filter(|age| age.as_secs() > 0);
                let since = since.map(|age| format!(", whole for {}", spoken(age))).unwrap_or_default();
                format!("{family} by {}: {} chains{since}", set.mode.name(), set.chains)
            })
            .collect();
        let summary = match self.faults.len() {
            0 => parts.join("; "),
            faults => whole::broken_text(past, faults, now),
        };
        let is_settled = whole::known_parts(past).any(|part| whole::was_whole_in_this_boot(past, part, now));
        Assessment {
            summary,
            detail: String::new(),
            findings,
            metrics: metrics.into_iter().chain(took).collect(),
            is_settled,
            ..Assessment::default()
        }
    }
}
