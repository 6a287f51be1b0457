//! What kube-proxy has programmed for one family, in whichever of its modes.

use std::collections::BTreeSet;

use super::names::{API_CHAIN, API_NFT, endpoint_chain, endpoint_of, service};
use super::walk::{Jump, Walk, is_for_all};
use super::{Backend, Side};
use crate::parse::ipvs;
use crate::parse::nftables::Contents;
use crate::parse::ruleset::{Action, Chain, ChainId, Endpoint, Family, Rule, Ruleset};

/// So many services that lead nowhere have names.
const NAMED: usize = 5;

/// What the chains of services in a table of nf_tables begin with.
const KINDS: &[&str] = &["service", "local", "external"];

/// How kube-proxy carries services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By chains in the tables of iptables.
    Iptables(Backend),
    /// By a table of its own.
    Nftables,
    /// By IPVS, with a few chains in the tables of iptables.
    Ipvs(Backend),
}

/// What is there for one family.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Set {
    /// From the base chains to kube-proxy's.
    pub jumps: Vec<Jump>,
    /// Whether marked packets get the node's address.
    pub masquerades: bool,
    /// Whether packets are marked for that.
    pub marks: bool,
    /// How many rules (or elements, or virtual servers) choose the service; `None` where the chain is not there.
    pub chosen: Option<usize>,
    /// Services and ports that are chosen.
    pub services: usize,
    /// How many of them lead to no endpoint, in one way at least, and some of these.
    pub broken: (usize, Vec<String>),
    /// Endpoints of others that lead nowhere: some of the connections are lost.
    pub dead_endpoints: (usize, Vec<String>),
    /// Endpoints that can be reached.
    pub endpoints: usize,
    /// Rules (or elements) in all.
    pub entries: usize,
    /// The API server's service; `None` where it is not chosen.
    pub api: Option<Api>,
    /// What is refused because it has no endpoints.
    pub rejected: Vec<Endpoint>,
    /// Rules that come after those for node ports, which must be the last.
    pub after_node_ports: usize,
    /// Endpoints whose name is that of another, with where they lead.
    pub misnamed: Vec<String>,
    /// Chains that are jumped to and are not there.
    pub dangling: Vec<String>,
    /// Of IPVS: destinations that get new connections.
    pub usable: Option<usize>,
    /// What ends every packet in front of some of the rules that choose.
    pub ended_by: Option<String>,
    /// Whether no packet gets to its table.
    pub is_dormant: bool,
    /// Whether anything else of kube-proxy's is there: chains that nothing chooses.
    pub has_chains: bool,
}

/// What was counted.
#[derive(Default)]
struct Chosen<'a> {
    chains: BTreeSet<ChainId>,
    services: BTreeSet<&'a str>,
    broken: BTreeSet<&'a str>,
}

/// The service `default/kubernetes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Its address and port.
    pub service: Option<Endpoint>,
    /// Where it leads.
    pub targets: Vec<Endpoint>,
}

impl Mode {
    /// As it is remembered and told.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Iptables(Backend::Legacy) => "iptables (legacy)",
            Mode::Iptables(Backend::Nft) => "iptables (nft)",
            Mode::Nftables => "nftables",
            Mode::Ipvs(Backend::Legacy) => "ipvs (legacy)",
            Mode::Ipvs(Backend::Nft) => "ipvs (nft)",
        }
    }

    /// The word of kube-proxy's own setting.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Iptables(_) => "iptables",
            Mode::Nftables => "nftables",
            Mode::Ipvs(_) => "ipvs",
        }
    }

    /// Where its rules are.
    pub fn backend(self) -> Backend {
        match self {
            Mode::Iptables(backend) | Mode::Ipvs(backend) => backend,
            Mode::Nftables => Backend::Nft,
        }
    }

    /// The table, as the tools of the node call it.
    pub fn place(self, family: Family) -> String {
        match self {
            Mode::Iptables(backend) | Mode::Ipvs(backend) => Side { family, backend }.to_string(),
            Mode::Nftables => format!("table {} kube-proxy", if family == Family::Ip { "ip" } else { "ip6" }),
        }
    }
}

impl Set {
    /// Whether packets get to it and it knows where to send them.
    pub fn is_live(&self) -> bool {
        !self.is_dormant && self.services > 0 && self.jumps.iter().take(2).any(Jump::works)
    }

    /// How many of the jumps work.
    pub fn working(&self) -> usize {
        if self.is_dormant { 0 } else { self.jumps.iter().filter(|jump| jump.works()).count() }
    }

    /// The chains in a `nat` table; `None` where nothing is kube-proxy's but its canary.
    pub fn of_iptables(nat: &Ruleset, filter: Option<&Ruleset>) -> Option<Set> {
        let mut walk = Walk::new(nat);
        let set = Set { has_chains: nat.chains().any(|(_, chain)| is_of_services(chain.name())), ..Set::base(&walk) };
        let set =
            Set { entries: nat.chains().fold(0, |sum, (_, chain)| sum.saturating_add(chain.rules().len())), ..set };
        let Some(services) = walk.chain("KUBE-SERVICES") else { return set.has_chains.then_some(set) };
        let mut set = Set { chosen: Some(services.rules().len()), has_chains: true, ..set };
        set.count(&mut walk, services);
        set.rejected = filter.map(rejected).unwrap_or_default();
        set.dangling = dangling(nat, "KUBE-");
        Some(set)
    }

    /// The few chains of IPVS, with its virtual servers of this family.
    pub fn of_ipvs(nat: &Ruleset, family: Family, services: &[ipvs::Service]) -> Set {
        let walk = Walk::new(nat);
        let mut set = Set::base(&walk);
        let of_family = |service: &&ipvs::Service| service.at.address.is_ipv4() == (family == Family::Ip);
        let of_family: Vec<&ipvs::Service> = services.iter().filter(of_family).collect();
        set.chosen = Some(of_family.len());
        set.services = of_family.len();
        set.endpoints = of_family.iter().map(|service| service.destinations).sum();
        set.usable = Some(of_family.iter().map(|service| service.usable).sum());
        set.entries = nat.chains().fold(0, |sum, (_, chain)| sum.saturating_add(chain.rules().len()));
        set.has_chains = true;
        set
    }

    fn base(walk: &Walk<'_>) -> Set {
        let jumps = [("PREROUTING", "KUBE-SERVICES"), ("OUTPUT", "KUBE-SERVICES"), ("POSTROUTING", "KUBE-POSTROUTING")];
        Set {
            jumps: jumps.map(|(from, to)| walk.base_jump(from, to)).to_vec(),
            masquerades: walk.does("KUBE-POSTROUTING", |rule| is_for_all(rule) && rule.action == Action::Masquerade),
            marks: walk.does("KUBE-MARK-MASQ", |rule| is_for_all(rule) && rule.action == Action::Mark),
            ..Set::default()
        }
    }

    fn count<'a>(&mut self, walk: &mut Walk<'a>, services: Chain<'a>) {
        let mut chosen = Chosen::default();
        let mut node_ports_at = None;
        let mut end = None;
        for (at, rule) in services.rules().iter().enumerate() {
            end = end.or_else(|| walk.end_of(rule));
            for to in walk.ways(rule) {
                let name = walk.rules.get(to).map(Chain::name).unwrap_or_default();
                if name == "KUBE-NODEPORTS" {
                    node_ports_at.get_or_insert(at);
                    continue;
                }
                if node_ports_at.is_some() {
                    self.after_node_ports = self.after_node_ports.saturating_add(1);
                }
                match &end {
                    Some(end) => self.ended_by = Some(end.clone()),
                    None => self.choose(walk, rule, to, &mut chosen),
                }
            }
        }
        for rule in walk.chain("KUBE-NODEPORTS").map(Chain::rules).unwrap_or_default() {
            end = end.or_else(|| walk.end_of(rule));
            for to in walk.ways(rule) {
                match &end {
                    Some(end) => self.ended_by = Some(end.clone()),
                    None => self.choose(walk, rule, to, &mut chosen),
                }
            }
        }
        self.endpoints = walk.endpoints();
    }

    /// Takes in a chain that a rule leads to, if it is that of a service.
    fn choose<'a>(&mut self, walk: &mut Walk<'a>, rule: &Rule, to: ChainId, chosen: &mut Chosen<'a>) {
        let name = walk.rules.get(to).map(Chain::name).unwrap_or_default();
        let is_service = name.starts_with("KUBE-SVC-") || name.starts_with("KUBE-SVL-");
        let is_external = name.starts_with("KUBE-EXT-") || name.starts_with("KUBE-XLB-");
        // One for the sources of a load balancer may lead nowhere where all are of the other family, but it says so.
        let is_empty_firewall =
            name.starts_with("KUBE-FW-") && walk.rules.get(to).is_some_and(|chain| chain.rules().is_empty());
        if !(is_service || is_external || is_empty_firewall) || !chosen.chains.insert(to) {
            return;
        }
        let destination = walk.rules.destination(rule);
        // The chains of a service and port end with one hash.
        self.follow(walk, to, name.rsplit('-').next().unwrap_or(name), destination, "KUBE-SEP-", chosen);
        let Some((port, protocol)) = service(name) else { return };
        let targets = walk.targets(to);
        let is_misnamed = |(chain, target): &&(&str, Endpoint)| {
            chain.starts_with("KUBE-SEP-") && *chain != endpoint_chain(port, protocol, target.address, target.port)
        };
        self.misnamed.extend(targets.iter().filter(is_misnamed).map(|(chain, target)| format!("{chain} to {target}")));
        if name == API_CHAIN {
            let targets = targets.into_iter().map(|(_, target)| target).collect();
            self.api = Some(Api { service: destination, targets });
        }
    }

    /// Counts the service of a chain, and whether it and its endpoints lead anywhere.
    fn follow<'a>(
        &mut self,
        walk: &mut Walk<'a>,
        to: ChainId,
        key: &'a str,
        destination: Option<Endpoint>,
        endpoints: &str,
        chosen: &mut Chosen<'a>,
    ) {
        self.services = self.services.saturating_add(usize::from(chosen.services.insert(key)));
        let chain = walk.rules.get(to).map(Chain::name).unwrap_or_default();
        let name = service(chain).map_or(chain, |(port, _)| port);
        let named = || destination.map_or_else(|| name.to_owned(), |at| format!("{at} ({name})"));
        if !walk.reaches_dnat(to) {
            if chosen.broken.insert(key) {
                add(&mut self.broken, named);
            }
            return;
        }
        let rules = walk.rules.get(to).map(Chain::rules).unwrap_or_default();
        for end in rules.iter().flat_map(|rule| walk.ways(rule)).collect::<Vec<_>>() {
            let end_name = walk.rules.get(end).map(Chain::name).unwrap_or_default();
            if end_name.starts_with(endpoints) && !walk.reaches_dnat(end) {
                add(&mut self.dead_endpoints, || format!("{end_name} of {}", named()));
            }
        }
    }

    /// The table `kube-proxy`.
    pub fn of_nftables(contents: &Contents) -> Set {
        let mut walk = Walk::with_maps(contents);
        let jumps = [("nat-prerouting", "services"), ("nat-output", "services"), ("nat-postrouting", "masquerading")];
        let elements = contents.find_map("service-ips").map(|map| map.elements.as_slice()).unwrap_or_default();
        let mut set = Set {
            jumps: jumps.map(|(from, to)| walk.base_jump(from, to)).to_vec(),
            masquerades: walk.does("masquerading", |rule| is_for_all(rule) && rule.action == Action::Masquerade),
            marks: walk.does("mark-for-masquerade", |rule| is_for_all(rule) && rule.action == Action::Mark),
            // The rule that asks the map may be gone, the map is not.
            chosen: walk
                .chain("services")
                .map(|chain| if asks(contents, chain).is_some() { elements.len() } else { 0 }),
            ended_by: walk.chain("services").and_then(|chain| {
                let before = chain.rules().get(..asks(contents, chain)?)?;
                before.iter().find_map(|rule| walk.end_of(rule))
            }),
            has_chains: true,
            ..Set::default()
        };
        let mut chosen = Chosen::default();
        for element in elements {
            let (Action::Jump(to) | Action::Goto(to)) = element.action else { continue };
            if !chosen.chains.insert(to) {
                continue;
            }
            let name = walk.rules.get(to).map(Chain::name).unwrap_or_default();
            let Some((kind, key)) = name.split_once('-').filter(|(kind, _)| KINDS.contains(kind)) else { continue };
            set.follow(&mut walk, to, key, element.key, "endpoint-", &mut chosen);
            if kind == "service" && name.ends_with(API_NFT) {
                let targets = walk.targets(to);
                let wrong = targets.iter().filter(|(chain, target)| {
                    endpoint_of(chain).is_some_and(|named| (named.ip(), named.port()) != (target.address, target.port))
                });
                set.misnamed.extend(wrong.map(|(chain, target)| format!("{chain} to {target}")));
                let targets = targets.into_iter().map(|(_, target)| target).collect();
                set.api = Some(Api { service: element.key, targets });
            }
        }
        set.endpoints = walk.endpoints();
        let of_rules = contents.rules.chains().fold(0_usize, |sum, (_, chain)| sum.saturating_add(chain.rules().len()));
        set.entries = of_rules.saturating_add(contents.maps().iter().map(|map| map.elements.len()).sum());
        let without = contents.find_map("no-endpoint-services").map(|map| map.elements.as_slice()).unwrap_or_default();
        set.rejected = without.iter().filter_map(|element| element.key).collect();
        set.dangling = dangling(&contents.rules, "");
        set
    }
}

/// The number of the rule that has the map of Services asked for every packet.
fn asks(contents: &Contents, chain: Chain<'_>) -> Option<usize> {
    let is_asked = |rule: &Rule| match rule.action {
        Action::Vmap(number) => contents.map(number).is_some_and(|map| map.name() == "service-ips"),
        _ => false,
    };
    chain.rules().iter().position(|rule| is_for_all(rule) && is_asked(rule))
}

/// Whether a chain of a `nat` table is one that carries services: a canary is none, nor is what the kubelet leaves.
fn is_of_services(name: &str) -> bool {
    const NAMES: &[&str] = &["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING"];
    const BEGINNINGS: &[&str] = &["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-XLB-", "KUBE-FW-"];
    NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether these are the chains of IPVS, and not those of it that were left behind when kube-proxy got another mode.
pub fn has_chains_of_ipvs(nat: &Ruleset) -> bool {
    let walk = Walk::new(nat);
    let is_service = |id| walk.rules.get(id).is_some_and(|chain| chain.name().starts_with("KUBE-SV"));
    let services = walk.chain("KUBE-SERVICES").map(Chain::rules).unwrap_or_default();
    let is_iptables = services.iter().any(|rule| walk.ways(rule).any(is_service));
    !is_iptables && ["KUBE-NODE-PORT", "KUBE-LOAD-BALANCER"].iter().any(|name| nat.find(name).is_some())
}

/// The services without endpoints, in a `filter` table.
fn rejected(filter: &Ruleset) -> Vec<Endpoint> {
    let rules = filter.find("KUBE-SERVICES").and_then(|id| filter.get(id)).map(Chain::rules).unwrap_or_default();
    let rejects = rules.iter().filter(|rule| rule.action == Action::Reject);
    rejects.filter_map(|rule| filter.destination(rule)).collect()
}

/// The chains that are jumped to and are not there. No kernel allows that.
fn dangling(rules: &Ruleset, from: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (_, chain) in rules.chains().filter(|(_, chain)| chain.name().starts_with(from)) {
        for rule in chain.rules() {
            let (Action::Jump(to) | Action::Goto(to)) = rule.action else { continue };
            if let Some(missing) = rules.get(to).filter(|chain| !chain.is_there) {
                found.insert(missing.name().to_owned());
            }
        }
    }
    found.into_iter().collect()
}

fn add(to: &mut (usize, Vec<String>), name: impl FnOnce() -> String) {
    to.0 = to.0.saturating_add(1);
    if to.1.len() < NAMED {
        to.1.push(name());
    }
}
