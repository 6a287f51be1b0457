//! What is wrong with what is there. The codes are those of the README.

use std::collections::BTreeSet;

use super::survey::Survey;
use super::{Around, Expect, whole};
use crate::dataplane::family_name;
use crate::dataplane::kube::{Mode, Set};
use crate::dataplane::names::API_CHAIN;
use crate::parse::ruleset::{Endpoint, Family};
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
    /// kube-proxy must write its rules again.
    Rewrite,
    /// A rule of somebody else's must go.
    Foreign,
    /// One of two sets must go.
    Leftover,
    /// kube-proxy does what it was told.
    Cluster,
    /// The setting or the node is wrong.
    Setting,
}

/// What a family is judged by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chosen<'a> {
    pub family: Family,
    pub mode: Mode,
    pub set: &'a Set,
    /// Whether it has services, or had.
    pub carries: bool,
}

/// What stands for each family: of several, the one that packets get to.
pub(super) fn chosen<'a>(survey: &'a Survey, around: &Around, expect: Expect) -> Vec<Chosen<'a>> {
    let mut chosen = Vec::new();
    for family in [Family::Ip, Family::Ip6].into_iter().filter(|family| whole::is_judged(&around.families, *family)) {
        let known = around.known(family);
        let is_expected = |mode: &Mode| expect.mode().is_none_or(|word| mode.word() == word);
        let of_family = survey.sets.iter().filter(|(of, mode, _)| *of == family && is_expected(mode));
        let best = of_family.max_by_key(|(_, mode, set)| {
            (set.is_live(), set.working(), known == Some(mode.name()), set.chosen.is_some(), set.services)
        });
        chosen.extend(best.map(|(_, mode, set)| {
            let carries = set.services > 0 || set.ended_by.is_some() || known.is_some();
            Chosen { family, mode: *mode, set, carries }
        }));
    }
    // Where nothing is carried, something should be: by IPv4, as a rule. kube-proxy makes the chains of both families.
    if around.known.is_empty()
        && !chosen.iter().any(|one| one.carries)
        && let Some(first) = chosen.first_mut()
    {
        first.carries = first.family == Family::Ip || first.set.chosen.is_none_or(|chosen| chosen == 0);
    }
    chosen
}

/// All that is wrong.
pub(super) fn faults(survey: &Survey, around: &Around, expect: Expect) -> Vec<Fault> {
    let chosen = chosen(survey, around, expect);
    let mut faults = Vec::new();
    missing(survey, around, expect, &chosen, &mut faults);
    let carrying: Vec<&Chosen<'_>> = chosen.iter().filter(|one| one.carries).collect();
    for one in &carrying {
        // Another set, which packets do get to, may be among it.
        let is_sure = one.set.is_live() || !survey.troubles.iter().any(|(family, _)| *family == one.family);
        if is_sure {
            of_set(one, around, &mut faults);
        }
    }
    if survey.troubles.is_empty() {
        api(&carrying, around, &mut faults);
    }
    twice(survey, &mut faults);
    faults
}

fn fault(family: Option<Family>, status: Status, cure: Cure, text: String) -> Fault {
    Fault { family, status, cure, text }
}

/// K0: nothing at all, where there was something or should be.
fn missing(survey: &Survey, around: &Around, expect: Expect, chosen: &[Chosen<'_>], faults: &mut Vec<Fault>) {
    // What could not be read may be there.
    let is_there = |family: Family| {
        chosen.iter().any(|one| one.family == family) || survey.troubles.iter().any(|(of, _)| *of == family)
    };
    let others = survey.sets.iter().filter(|(_, _, set)| set.is_live());
    let others: BTreeSet<&str> = others.map(|(_, mode, _)| mode.name()).collect();
    if let (Some(mode), true, false) = (expect.mode(), chosen.is_empty(), others.is_empty()) {
        let others = others.into_iter().collect::<Vec<_>>().join(" and ");
        let text = format!("kube-proxy's rules are those of {others}, and {mode} is expected (K0)");
        return faults.push(fault(None, Status::Critical, Cure::Setting, text));
    }
    for family in [Family::Ip, Family::Ip6] {
        let Some(known) = around.known(family).filter(|_| !is_there(family)) else { continue };
        let name = family_name(family);
        let known = whole::known_text(known);
        let text = format!("no {name} Service works: kube-proxy's rules are gone, {known} (K0)");
        faults.push(fault(Some(family), Status::Critical, Cure::Rewrite, text));
    }
    if chosen.iter().any(|one| one.carries) || !faults.is_empty() || !survey.troubles.is_empty() {
        return;
    }
    if let Some(one) = chosen.first() {
        let (place, name) = (one.mode.place(one.family), family_name(one.family));
        let text = format!(
            "no Service works: {place} has chains of kube-proxy and no {name} Service, and no others are there (K0)"
        );
        return faults.push(fault(None, Status::Critical, Cure::Rewrite, text));
    }
    let why = match (expect.mode(), &around.kubelet, survey.hints.first(), survey.canaries.first()) {
        (Some(mode), ..) => format!("mode {mode} is expected"),
        (None, Some(kubelet), ..) => format!("{kubelet} runs"),
        (None, None, Some(side), _) => format!("the kubelet's chains are in mangle of {side}"),
        (None, None, None, Some(side)) => format!("its canary is in mangle of {side}"),
        (None, None, None, None) => return,
    };
    let text = format!("no Service works: no rule of kube-proxy, and {why} (K0)");
    faults.push(fault(None, Status::Critical, Cure::Rewrite, text));
}

fn of_set(one: &Chosen<'_>, around: &Around, faults: &mut Vec<Fault>) {
    let Chosen { family, mode, set, .. } = one;
    let (place, name) = (mode.place(*family), family_name(*family));
    let mut add = |status, cure, text: String| faults.push(fault(Some(*family), status, cure, text));
    let mut critical = |text: String| add(Status::Critical, Cure::Rewrite, text);
    let services = if *mode == Mode::Nftables { "services" } else { "KUBE-SERVICES" };
    match set.chosen {
        None => critical(format!("{place}: chain {services} is missing: no {name} Service works (K1)")),
        Some(0) if matches!(mode, Mode::Ipvs(_)) => critical(format!("IPVS has no {name} service: none works (K1)")),
        Some(0) => critical(format!("{place}: {services} is empty: no {name} Service works (K1)")),
        Some(_) => {}
    }
    if set.is_dormant {
        critical(format!("{place}: the table is dormant, no packet gets to it: no {name} Service works (K2)"));
    }
    let without = ["pods reach no Service", "this host reaches no Service", "replies to masqueraded packets are lost"];
    for (jump, without) in set.jumps.iter().zip(without).filter(|(jump, _)| jump.count == 0) {
        let for_some = if jump.is_for_some { " for every packet" } else { "" };
        critical(format!("{place}: no jump {jump}{for_some}: {without} (K2)"));
    }
    if !set.masquerades {
        let chain = set.jumps.last().map_or("KUBE-POSTROUTING", |jump| jump.to);
        critical(format!("{place}: {chain} has no MASQUERADE: hairpin and NodePort traffic is lost (K3)"));
    }
    if !set.marks {
        let chain = if *mode == Mode::Nftables { "mark-for-masquerade" } else { "KUBE-MARK-MASQ" };
        critical(format!("{place}: {chain} sets no mark: hairpin and NodePort traffic is lost (K3)"));
    }
    if set.usable == Some(0) && set.services > 0 {
        critical(format!("IPVS: no {name} service has a destination in use (K5)"));
    }
    if let Some(api) = set.api.as_ref().filter(|api| api.targets.is_empty()) {
        let at = api.service.map(|at| format!(" {at}")).unwrap_or_default();
        critical(format!("{place}: pods reach no API server: service kubernetes{at} has no DNAT (K5)"));
    }
    for missing in set.dangling.iter().take(3) {
        critical(format!("{place}: a jump to {missing}, which is not there (K9)"));
    }
    for (jump, without) in set.jumps.iter().zip(without) {
        if let (Some(end), 1..) = (&jump.ended_by, jump.count) {
            let text = format!("{place}: {end} in front of {jump}: {without} (K11)");
            add(Status::Critical, Cure::Foreign, text);
        }
    }
    if let Some(end) = &set.ended_by {
        add(Status::Critical, Cure::Foreign, format!("{place}: {end} in {services} in front of Services (K11)"));
    }
    if let (count @ 1.., names) = &set.dead_endpoints {
        let lead = if *count == 1 { "1 endpoint leads" } else { &format!("{count} endpoints lead") };
        let text = format!("{place}: {lead} nowhere, some connections are lost: {} (K6)", some(*count, names));
        add(Status::Warning, Cure::Rewrite, text);
    }
    if set.after_node_ports > 0 {
        let text = format!("{place}: {} rules of KUBE-SERVICES come after KUBE-NODEPORTS (K13)", set.after_node_ports);
        add(Status::Warning, Cure::Rewrite, text);
    }
    if let count @ 1.. = set.misnamed.len() {
        let text = format!("{place}: {}: not the endpoint of its name (K14)", some(count, &set.misnamed));
        add(Status::Warning, Cure::Rewrite, text);
    }
    if let Some(at) = rejected_api(set, around) {
        let text = format!("{place}: pods reach no API server: service kubernetes {at} \"has no endpoints\" (K7)");
        add(Status::Critical, Cure::Cluster, text);
    }
}

/// The first of so many names.
pub(super) fn some(count: usize, names: &[String]) -> String {
    const SHOWN: usize = 3;
    let text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if count > SHOWN { format!("{text} and {} more", count - SHOWN) } else { text }
}

/// The API server's service, where it is refused: its address is the first of all.
fn rejected_api(set: &Set, around: &Around) -> Option<Endpoint> {
    let known = set.api.as_ref().and_then(|api| api.service).or(around.api);
    if known.is_some() {
        return set.rejected.iter().find(|at| Some(**at) == known).copied();
    }
    let first = set.rejected.iter().min()?;
    (set.api.is_none() && first.port == 443 && first.protocol == 6).then_some(*first)
}

/// K4: the API server's service is chosen in one family.
fn api(carrying: &[&Chosen<'_>], around: &Around, faults: &mut Vec<Fault>) {
    let chain_modes = carrying.iter().filter(|one| !matches!(one.mode, Mode::Ipvs(_)));
    // Where nothing is chosen that is all there is to say.
    let choosing: Vec<_> = chain_modes.filter(|one| one.set.chosen.is_some_and(|chosen| chosen > 0)).collect();
    if choosing.is_empty() || choosing.iter().any(|one| one.set.api.is_some()) {
        return;
    }
    // The family that had it may be the one that chooses nothing.
    if carrying.iter().any(|one| one.set.chosen.is_none_or(|chosen| chosen == 0)) {
        return;
    }
    // K7 tells more.
    if choosing.iter().any(|one| rejected_api(one.set, around).is_some()) {
        return;
    }
    let places: Vec<String> = choosing.iter().map(|one| one.mode.place(one.family)).collect();
    let at = around.api.map(|at| format!(" {at}")).unwrap_or_default();
    let chain = if choosing.iter().any(|one| one.mode == Mode::Nftables) { "default/kubernetes" } else { API_CHAIN };
    let place = places.join(" and ");
    let text = format!("{place}: pods reach no API server: no rule leads to service kubernetes{at}, {chain} (K4)");
    faults.push(fault(None, Status::Critical, Cure::Rewrite, text));
}

/// S1: two sets that packets get to.
fn twice(survey: &Survey, faults: &mut Vec<Fault>) {
    for family in [Family::Ip, Family::Ip6] {
        let mut live = survey.sets.iter().filter(|(of, _, set)| *of == family && set.is_live());
        let (Some((_, a, first)), Some((_, b, second))) = (live.next(), live.next()) else { continue };
        let targets = |set: &Set| set.api.as_ref().map(|api| api.targets.clone()).unwrap_or_default();
        let differ = targets(first) != targets(second);
        let (status, which) = match differ {
            true => (Status::Critical, "the API server's endpoints differ, one of them is stale"),
            false => (Status::Warning, "whichever kube-proxy does not write goes stale"),
        };
        let text = format!(
            "kube-proxy's rules are live twice, in {} and in {}: {which} (S1)",
            a.place(family),
            b.place(family)
        );
        faults.push(fault(Some(family), status, Cure::Leftover, text));
    }
}

/// S4: the kubelet's hints are in another backend than kube-proxy's rules.
pub(super) fn hint_elsewhere(survey: &Survey, chosen: &[Chosen<'_>]) -> Option<String> {
    let one = chosen.iter().find(|one| matches!(one.mode, Mode::Iptables(_)))?;
    let mut sides = survey.hints.iter().filter(|side| side.family == one.family);
    let (Some(side), None) = (sides.next(), sides.next()) else { return None };
    (side.backend != one.mode.backend()).then(|| {
        let place = one.mode.place(one.family);
        format!("the kubelet's hints are in mangle of {side}, kube-proxy's rules in nat of {place}: other programs may choose wrongly (S4)")
    })
}
