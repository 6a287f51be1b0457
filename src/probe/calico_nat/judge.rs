//! What is wrong with Calico's rules. The codes are those of the README.

use std::collections::BTreeSet;

use super::{Expect, Observation, whole};
use crate::dataplane::calico::{Mode, Set};
use crate::dataplane::{Jump, family_name, node};
use crate::parse::ruleset::Family;
use crate::status::Status;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    /// `None`: with all of it.
    pub family: Option<Family>,
    pub status: Status,
    pub cure: Cure,
    /// A sentence with the code at its end.
    pub text: String,
}

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cure {
    /// Felix must write its rules again.
    Rewrite,
    /// A rule of somebody else's must go.
    Foreign,
    /// One of two sets must go.
    Leftover,
    /// Felix must write into the other backend.
    Backend,
    /// The setting or the node is wrong.
    Setting,
}

/// One sentence for each kind of fault.
pub(super) fn cures(seen: &Observation) -> Vec<String> {
    let kubectl = node::kubectl(seen.distribution);
    let restart = format!(
        "{kubectl} -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName=$(hostname) (-n calico-system \
         with the operator; -l k8s-app=canal for Canal)"
    );
    let mut told = Vec::new();
    for fault in &seen.faults {
        let text = match fault.cure {
            Cure::Rewrite => format!(
                "Felix puts back what is missing within 3 min: if it stays away Felix does not run, or writes into the other \
                 backend; see the log of this node's calico-node, or restart it: {restart}"
            ),
            Cure::Foreign => "that rule is not Felix' and stays when that is restarted: find who adds it".to_owned(),
            Cure::Leftover => {
                "one of the two is left over: the log of calico-node tells which backend it uses; take the other \
                               out, or reboot: a restart of calico-node does not"
                    .to_owned()
            }
            Cure::Backend => format!(
                "Felix follows the kubelet's hints when it starts: set FELIX_IPTABLESBACKEND (Legacy or NFT) to kube-proxy's \
                 backend, or restart it: {restart}"
            ),
            Cure::Setting => "if it should be so, change `expect`".to_owned(),
        };
        if !told.contains(&text) {
            told.push(text);
        }
    }
    if seen.sets.is_empty() {
        told.push("if Calico was taken from this node: set expect = \"none\"".to_owned());
    }
    told
}

/// What stands for each family: of several, the one that packets get to.
pub(super) fn chosen(seen: &Observation, expect: Expect) -> Vec<&Set> {
    let of_family = |family: Family| {
        let known = seen.known(family);
        let is_expected = |mode: Mode| expect.mode().is_none_or(|word| mode.word() == word);
        let sets = seen.sets.iter().filter(|set| set.family == family && is_expected(set.mode));
        sets.max_by_key(|set| (set.is_live(), known == Some(set.mode.name()), set.missing.is_empty(), set.chains))
    };
    [Family::Ip, Family::Ip6].into_iter().filter_map(of_family).collect()
}

/// Jumps that are there more than once.
pub(super) fn repeated(set: &Set) -> usize {
    set.jumps.iter().map(Jump::repeats).max().unwrap_or_default()
}

/// What they are.
pub(super) fn repeated_jumps(set: &Set) -> Vec<String> {
    let place = set.mode.place(set.family);
    let repeated = set.jumps.iter().filter(|jump| jump.repeats() > 0);
    repeated.map(|jump| format!("{place}: {jump} is there {} times (C5)", jump.count)).collect()
}

/// All that is wrong.
pub(super) fn faults(seen: &Observation, expect: Expect) -> Vec<Fault> {
    let chosen = chosen(seen, expect);
    let mut faults = Vec::new();
    let mut add = |family, cure, text| faults.push(Fault { family, status: Status::Critical, cure, text });
    let others: BTreeSet<&str> = seen.sets.iter().filter(|set| set.is_live()).map(|set| set.mode.name()).collect();
    if let (Some(mode), true, false) = (expect.mode(), chosen.is_empty(), others.is_empty()) {
        let others = others.into_iter().collect::<Vec<_>>().join(" and ");
        add(None, Cure::Setting, format!("Calico's rules are those of {others}, and {mode} is expected (C0)"));
        return faults;
    }
    // What could not be read may be there.
    let is_unread = |family: Family| seen.troubles.iter().any(|(of, _)| *of == family);
    for family in [Family::Ip, Family::Ip6].into_iter().filter(|family| !is_unread(*family)) {
        let Some(known) = seen.known(family).filter(|_| !chosen.iter().any(|set| set.family == family)) else {
            continue;
        };
        let known = whole::known_text(known);
        let text = format!("no {} NAT chain of Calico, {known} (C0)", family_name(family));
        add(Some(family), Cure::Rewrite, text);
    }
    if chosen.is_empty() && seen.known.is_empty() && seen.troubles.is_empty() {
        let why = match (expect.mode(), &seen.conf) {
            (Some(mode), _) => format!("mode {mode} is expected"),
            (None, Some(conf)) => format!("{conf} makes it the network of this node"),
            (None, None) => "its chains are those of another mode".to_owned(),
        };
        add(None, Cure::Rewrite, format!("no NAT chain of Calico, and {why} (C0)"));
    }
    for set in chosen.iter().filter(|set| set.is_live() || !is_unread(set.family)) {
        of_set(set, &mut faults);
    }
    twice(seen, &mut faults);
    split(seen, &chosen, &mut faults);
    faults
}

fn of_set(set: &Set, faults: &mut Vec<Fault>) {
    let place = set.mode.place(set.family);
    let mut add = |cure, text| faults.push(Fault { family: Some(set.family), status: Status::Critical, cure, text });
    if set.is_dormant {
        add(Cure::Rewrite, format!("{place}: the table nat is dormant, no packet gets to it (C2)"));
    }
    // The last one hurts most.
    for chain in set.missing.iter().rev() {
        add(Cure::Rewrite, format!("{place}: chain {chain} is missing: {} (C1)", without(chain)));
    }
    for jump in set.jumps.iter().rev().filter(|jump| !set.missing.iter().any(|missing| missing == jump.to)) {
        let for_some = if jump.is_for_some { " for every packet" } else { "" };
        match &jump.ended_by {
            _ if jump.count == 0 => {
                add(Cure::Rewrite, format!("{place}: no jump {jump}{for_some}: {} (C2)", without(jump.to)));
            }
            Some(end) => add(Cure::Foreign, format!("{place}: {end} in front of {jump}: {} (C2)", without(jump.to))),
            None => {}
        }
    }
    let has_post = !set.missing.iter().any(|missing| missing.ends_with("POSTROUTING"));
    if has_post && !set.outgoing.works() {
        let (jump, ended) = (&set.outgoing, set.outgoing.ended_by.as_ref().filter(|_| set.outgoing.count > 0));
        let what = ended.map_or_else(|| format!("no jump {jump}"), |end| format!("{end} in front of {jump}"));
        add(Cure::Rewrite, format!("{place}: {what}: pods do not reach what is outside (C2)"));
    }
    if let (Ok(Some(1..)), false) = (&set.pools, set.masquerades) {
        let text = format!(
            "{place}: cali-nat-outgoing has no MASQUERADE, and an address pool asks for it: pods do not reach what is outside (C3)"
        );
        add(Cure::Rewrite, text);
    }
}

/// What does not work without a chain.
fn without(chain: &str) -> &'static str {
    if chain.ends_with("POSTROUTING") { "pods do not reach what is outside" } else { "floating IPs do not work" }
}

/// S2: two sets that packets get to.
fn twice(seen: &Observation, faults: &mut Vec<Fault>) {
    for family in [Family::Ip, Family::Ip6] {
        let mut live = seen.sets.iter().filter(|set| set.family == family && set.is_live());
        let (Some(a), Some(b)) = (live.next(), live.next()) else { continue };
        let (a, b) = (a.mode.place(family), b.mode.place(family));
        let text = format!("Calico's chains are live twice, in {a} and in {b}: one of them goes stale (S2)");
        faults.push(Fault { family: Some(family), status: Status::Warning, cure: Cure::Leftover, text });
    }
}

/// S3: packets get to kube-proxy's chains in one backend and to Calico's in the other.
fn split(seen: &Observation, chosen: &[&Set], faults: &mut Vec<Fault>) {
    for set in chosen.iter().filter(|set| matches!(set.mode, Mode::Iptables(_)) && set.is_live()) {
        let kube: Vec<_> = seen.kube.iter().filter(|side| side.family == set.family).collect();
        if kube.is_empty() || kube.iter().any(|side| side.backend == set.mode.backend()) {
            continue;
        }
        let side = kube.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let text = format!(
            "kube-proxy writes with {side} and Calico with {}: Felix has chosen its backend wrongly (S3)",
            set.mode.place(set.family)
        );
        faults.push(Fault { family: Some(set.family), status: Status::Warning, cure: Cure::Backend, text });
    }
}
