//! What is wrong with Calico's rules. The codes are those of the README.

use super::{Expect, Observation};
use crate::dataplane::calico::{Mode, Set};
use crate::dataplane::{Jump, family_name};
use crate::parse::ruleset::Family;
use crate::status::Status;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    /// `None`: with all of it.
    pub family: Option<Family>,
    pub status: Status,
    /// A sentence with the code at its end.
    pub text: String,
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
    set.jumps.iter().map(Jump::repeats).sum()
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
    let mut add = |family, status, text| faults.push(Fault { family, status, text });
    // What could not be read may be there.
    let is_unread = |family: Family| seen.troubles.iter().any(|(of, _)| *of == family);
    for family in [Family::Ip, Family::Ip6].into_iter().filter(|family| !is_unread(*family)) {
        let Some(known) = seen.known(family).filter(|_| !chosen.iter().any(|set| set.family == family)) else {
            continue;
        };
        let text = format!("no NAT chain of Calico in {}, where it had {known} (C0)", family_name(family));
        add(Some(family), Status::Critical, text);
    }
    if chosen.is_empty() && seen.known.is_empty() && seen.troubles.is_empty() {
        let why = match (expect.mode(), &seen.conf) {
            (Some(mode), _) => format!("mode {mode} is expected"),
            (None, Some(conf)) => format!("{conf} makes it the network of this node"),
            (None, None) => "its chains are those of another mode".to_owned(),
        };
        add(None, Status::Critical, format!("no NAT chain of Calico, and {why} (C0)"));
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
    let mut add = |status, text| faults.push(Fault { family: Some(set.family), status, text });
    for chain in &set.missing {
        add(Status::Critical, format!("{place}: chain {chain} is missing (C1)"));
    }
    for jump in set.jumps.iter().filter(|jump| !set.missing.iter().any(|missing| missing == jump.to)) {
        let for_some = if jump.is_for_some { " for every packet" } else { "" };
        match &jump.ended_by {
            _ if jump.count == 0 => {
                add(Status::Critical, format!("{place}: no jump {jump}{for_some} (C2)"));
            }
            Some(end) => add(Status::Critical, format!("{place}: {end} in front of {jump} (C2)")),
            None => {}
        }
    }
    let has_post = !set.missing.iter().any(|missing| missing.ends_with("POSTROUTING"));
    if !set.is_outgoing && has_post {
        let (post, outgoing) = match set.mode {
            Mode::Nftables => ("nat-cali-POSTROUTING", "nat-cali-nat-outgoing"),
            _ => ("cali-POSTROUTING", "cali-nat-outgoing"),
        };
        add(Status::Critical, format!("{place}: no jump {post} -> {outgoing}: pods do not reach what is outside (C2)"));
    }
    if let (Ok(Some(1..)), false) = (&set.pools, set.masquerades) {
        let text = format!(
            "{place}: cali-nat-outgoing has no MASQUERADE, and an address pool asks for it: pods do not reach what is outside (C3)"
        );
        add(Status::Critical, text);
    }
}

/// S2: two sets that packets get to.
fn twice(seen: &Observation, faults: &mut Vec<Fault>) {
    for family in [Family::Ip, Family::Ip6] {
        let mut live = seen.sets.iter().filter(|set| set.family == family && set.is_live());
        let (Some(a), Some(b)) = (live.next(), live.next()) else { continue };
        let (a, b) = (a.mode.place(family), b.mode.place(family));
        let text = format!("Calico's chains are live twice, in {a} and in {b}: one of them goes stale (S2)");
        faults.push(Fault { family: Some(family), status: Status::Warning, text });
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
        faults.push(Fault { family: Some(set.family), status: Status::Warning, text });
    }
}
