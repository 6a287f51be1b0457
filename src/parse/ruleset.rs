//! Rules and chains of one table, as far as the way of a packet through NAT depends on them; the same for x_tables and for
//! nf_tables.
//!
//! A node with 10,000 services has 100,000 rules in 40,000 chains: names are kept once, and a rule takes a few bytes.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;

/// Whose packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

/// A chain of a [`Ruleset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(u32);

/// Where in the kernel a base chain is called (`linux/netfilter.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
}

/// What becomes of a packet that no rule of a base chain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It ends.
    Drop,
}

/// What a rule does with a packet that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing that matters here: it counts, logs, or is a comment.
    None,
    /// Ends the table.
    Accept,
    /// Ends the packet.
    Drop,
    /// Ends the packet and says so.
    Reject,
    /// Back to the chain before.
    Return,
    /// To another chain and back.
    Jump(ChainId),
    /// To another chain and not back.
    Goto(ChainId),
    /// To another address; the number is that of [`Ruleset::target`].
    Dnat(u32),
    /// From another address.
    Snat,
    /// From the address of the interface it leaves by.
    Masquerade,
    /// To this host.
    Redirect,
    /// Sets (a bit of) the mark.
    Mark,
    /// To the chain that a map has for the packet, if it has one; the number is that of
    /// [`nftables::Contents::map`](super::nftables::Contents::map).
    Vmap(u32),
    /// A target that is not known.
    Other,
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// Whether every packet (of a protocol, at most) matches.
    pub is_unconditional: bool,
    /// The destination that it asks for: one more than the number of the endpoint, so that it takes four bytes.
    destination: Option<NonZeroU32>,
}

/// An address with a port and a protocol, where they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address; unspecified where only a port is told ([`Action::Dnat`]).
    pub address: IpAddr,
    /// 0 where none is told.
    pub port: u16,
    /// `IPPROTO_TCP` and so on; 0 where none is told.
    pub protocol: u8,
}

impl fmt::Display for Endpoint {
    /// `10.96.0.1:443/tcp`, as `kubectl get services` has its parts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => write!(f, "{}", self.address)?,
            port => write!(f, "{}", SocketAddr::new(self.address, port))?,
        }
        match self.protocol {
            0 => Ok(()),
            6 => f.write_str("/tcp"),
            17 => f.write_str("/udp"),
            132 => f.write_str("/sctp"),
            other => write!(f, "/{other}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = ();

    /// Reads what is written; with a port and a known protocol.
    fn from_str(text: &str) -> Result<Endpoint, ()> {
        let (at, protocol) = text.rsplit_once('/').ok_or(())?;
        let protocol = match protocol {
            "tcp" => 6,
            "udp" => 17,
            "sctp" => 132,
            _ => return Err(()),
        };
        let at: SocketAddr = at.parse().map_err(|_| ())?;
        Ok(Endpoint { address: at.ip(), port: at.port(), protocol })
    }
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    name: Box<str>,
    /// Where it is called, if it is a base chain.
    pub hook: Option<Hook>,
    /// Whether it is there, and was not only jumped to.
    pub is_there: bool,
    /// Its policy, if it is a base chain. It is none of the [`rules`](Chain::rules).
    pub policy: Option<Policy>,
    rules: Vec<Rule>,
}

/// A table.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    chains: Vec<Chain>,
    by_name: Index,
    endpoints: Vec<Endpoint>,
}

impl PartialEq for Ruleset {
    fn eq(&self, other: &Ruleset) -> bool {
        self.chains == other.chains && self.endpoints == other.endpoints
    }
}

impl Eq for Ruleset {}

impl Ruleset {
    /// Makes room. Memory that is not used costs nothing; one that grows leaves holes.
    pub fn reserve(&mut self, chains: usize, endpoints: usize) {
        self.chains.reserve_exact(chains);
        self.endpoints.reserve_exact(endpoints);
    }

    /// The chain of this name, to be jumped to or to be filled. `None` where there are too many.
    pub fn chain(&mut self, name: &str) -> Option<ChainId> {
        if let Some(number) = self.by_name.find(name, &self.chains) {
            return Some(ChainId(number));
        }
        let number = u32::try_from(self.chains.len()).ok()?;
        self.chains.push(Chain { name: name.into(), ..Chain::default() });
        self.by_name.insert(number, &self.chains);
        Some(ChainId(number))
    }

    /// The same, and it is there.
    pub fn define(&mut self, name: &str, hook: Option<Hook>) -> Option<ChainId> {
        let id = self.chain(name)?;
        let chain = self.chain_mut(id)?;
        chain.is_there = true;
        chain.hook = hook.or(chain.hook);
        Some(id)
    }

    /// Says what becomes of a packet at the end of a base chain.
    pub fn set_policy(&mut self, chain: ChainId, policy: Policy) {
        if let Some(chain) = self.chain_mut(chain) {
            chain.policy = Some(policy);
        }
    }

    /// Adds a rule at the end of a chain.
    pub fn push(&mut self, chain: ChainId, action: Action, is_unconditional: bool, destination: Option<Endpoint>) {
        let destination = destination.and_then(|endpoint| self.endpoint(endpoint));
        let destination = destination.and_then(|number| NonZeroU32::MIN.checked_add(number));
        if let Some(chain) = self.chain_mut(chain) {
            // Most chains have two rules; a Vec would begin with four.
            if chain.rules.len() == chain.rules.capacity() {
                chain.rules.reserve_exact(chain.rules.len().max(2));
            }
            chain.rules.push(Rule { action, is_unconditional, destination });
        }
    }

    /// Changes what a rule does: a jump may lead to a chain that is not known when the rule is.
    pub fn set_action(&mut self, chain: ChainId, rule: u32, action: Action) {
        let rules = self.chain_mut(chain).map(|chain| &mut chain.rules);
        let rule = usize::try_from(rule).ok().and_then(|number| rules?.get_mut(number));
        if let Some(rule) = rule {
            rule.action = action;
        }
    }

    /// Keeps an address, for [`Action::Dnat`].
    pub fn endpoint(&mut self, endpoint: Endpoint) -> Option<u32> {
        let number = u32::try_from(self.endpoints.len()).ok()?;
        self.endpoints.push(endpoint);
        Some(number)
    }

    /// The chain of this name, if it is there.
    pub fn find(&self, name: &str) -> Option<ChainId> {
        let id = ChainId(self.by_name.find(name, &self.chains)?);
        self.get(id).filter(|chain| chain.is_there).map(|_| id)
    }

    /// A chain.
    pub fn get(&self, id: ChainId) -> Option<&Chain> {
        self.chains.get(usize::try_from(id.0).ok()?)
    }

    fn chain_mut(&mut self, id: ChainId) -> Option<&mut Chain> {
        self.chains.get_mut(usize::try_from(id.0).ok()?)
    }

    /// All chains that are there.
    pub fn chains(&self) -> impl Iterator<Item = (ChainId, &Chain)> {
        let all = (0_u32..).map(ChainId).zip(&self.chains);
        all.filter(|(_, chain)| chain.is_there)
    }

    /// The destination that a rule asks for.
    pub fn destination(&self, rule: &Rule) -> Option<Endpoint> {
        self.kept(rule.destination?.get().checked_sub(1)?)
    }

    /// Where a rule sends packets.
    pub fn target(&self, rule: &Rule) -> Option<Endpoint> {
        match rule.action {
            Action::Dnat(number) => self.kept(number),
            _ => None,
        }
    }

    fn kept(&self, number: u32) -> Option<Endpoint> {
        self.endpoints.get(usize::try_from(number).ok()?).copied()
    }
}

impl Chain {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// Which chain has a name, without keeping the name a second time: numbers of chains, each at the first free place from where
/// the hash of its name leads.
#[derive(Debug, Clone, Default)]
struct Index {
    /// A power of two, and at most half of them used; or none.
    slots: Vec<u32>,
    hasher: RandomState,
}

/// No chain has this number.
const FREE: u32 = u32::MAX;

impl Index {
    fn find(&self, name: &str, chains: &[Chain]) -> Option<u32> {
        let number = |place: usize| self.slots.get(place).copied().filter(|number| *number != FREE);
        let mut used = self.places(name).map_while(number);
        used.find(|number| named(*number, chains) == Some(name))
    }

    /// Adds the chain of this number, whose name none of the others has.
    fn insert(&mut self, number: u32, chains: &[Chain]) {
        let needed = chains.len().saturating_mul(2);
        if needed <= self.slots.len() {
            return self.put(number, chains);
        }
        self.slots = vec![FREE; needed.next_power_of_two().max(16)];
        for known in 0..=number {
            self.put(known, chains);
        }
    }

    fn put(&mut self, number: u32, chains: &[Chain]) {
        let Some(name) = named(number, chains) else { return };
        let free = self.places(name).find(|place| self.slots.get(*place) == Some(&FREE));
        if let Some(slot) = free.and_then(|place| self.slots.get_mut(place)) {
            *slot = number;
        }
    }

    /// All places, from that of this name on.
    fn places(&self, name: &str) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len().saturating_sub(1);
        // Half of it is more than there are places.
        let hash = self.hasher.hash_one(name) & u64::from(u32::MAX);
        let first = usize::try_from(hash).unwrap_or_default();
        (0..self.slots.len()).map(move |step| first.wrapping_add(step) & mask)
    }
}

fn named(number: u32, chains: &[Chain]) -> Option<&str> {
    chains.get(usize::try_from(number).ok()?).map(Chain::name)
}

/// What must hold whatever is asked for: bytes are the calls, and names of one letter.
pub fn fuzz(data: &[u8]) {
    let mut rules = Ruleset::default();
    let mut pushed: usize = 0;
    for call in data.chunks_exact(2) {
        let &[kind, name] = call else { continue };
        let name = char::from(name).to_string();
        let Some(id) = (if kind & 1 == 0 { rules.define(&name, None) } else { rules.chain(&name) }) else { continue };
        assert_eq!(rules.get(id).map(Chain::name), Some(&*name));
        let to = Endpoint { address: std::net::Ipv4Addr::LOCALHOST.into(), port: kind.into(), protocol: 6 };
        let action = rules.endpoint(to).map_or(Action::Jump(id), Action::Dnat);
        rules.push(id, action, false, (kind & 2 == 0).then_some(to));
        pushed = pushed.saturating_add(1);
        let rule = rules.get(id).and_then(|chain| chain.rules().last()).copied();
        assert_eq!(rule.and_then(|rule| rules.target(&rule)), Some(to));
        assert_eq!(rule.and_then(|rule| rules.destination(&rule)).is_some(), kind & 2 == 0);
    }
    assert_eq!(rules.chains.iter().map(|chain| chain.rules.len()).sum::<usize>(), pushed);
    for (id, chain) in rules.chains() {
        assert_eq!(rules.find(chain.name()), Some(id));
    }
    for chain in rules.chains.iter().filter(|chain| !chain.is_there) {
        assert_eq!(rules.find(chain.name()), None);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_found_and_rules_stay_small() {
        let mut rules = Ruleset::default();
        let ids: Vec<_> = (0..1000).map(|n| rules.chain(&format!("KUBE-SVC-{n}")).unwrap()).collect();
        assert_eq!(rules.chains().count(), 0);
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(rules.chain(&format!("KUBE-SVC-{n}")), Some(*id));
            assert_eq!(rules.find(&format!("KUBE-SVC-{n}")), None);
        }
        let base = rules.define("PREROUTING", Some(Hook::Prerouting)).unwrap();
        assert_eq!(rules.define("PREROUTING", None), Some(base));
        rules.set_policy(base, Policy::Drop);
        let chain = rules.get(base).unwrap();
        assert_eq!((chain.hook, chain.policy, chain.is_there), (Some(Hook::Prerouting), Some(Policy::Drop), true));
        assert_eq!((rules.find("PREROUTING"), rules.find("OUTPUT")), (Some(base), None));
        assert_eq!(rules.clone(), rules);
        assert!(size_of::<Rule>() <= 16 && size_of::<Chain>() <= 48 && size_of::<Endpoint>() <= 20);
    }

    #[test]
    fn every_prefix() {
        let calls: Vec<u8> = (0..=255).flat_map(|n: u8| [n, n.wrapping_mul(7)]).collect();
        for end in 0..=calls.len() {
            fuzz(&calls[..end]);
        }
    }
}
