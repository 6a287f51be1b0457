//! Rules and chains of one table, as far as the way of a packet through NAT depends on them; the same for x_tables and for
//! nf_tables.
//!
//! A node with 10,000 services has 100,000 rules in 40,000 chains: names are kept once, and a rule takes a few bytes.

mod chains;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;

pub use chains::Chain;
use chains::Chains;

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

impl ChainId {
    /// Its place among the chains: what is known of each can be kept in a list.
    pub fn place(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

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
    /// Whether every packet of the protocol matches.
    pub is_unconditional: bool,
    /// `IPPROTO_TCP` and so on; 0 is any.
    pub protocol: u8,
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

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    chains: Chains,
    endpoints: Vec<Endpoint>,
}

impl Ruleset {
    /// Makes room for so many chains, and for so many rules and endpoints. Memory that is not used costs nothing; one that
    /// grows leaves holes.
    pub fn reserve(&mut self, chains: usize, rules: usize) {
        self.chains.reserve(chains, rules);
        self.endpoints.reserve_exact(rules);
    }

    /// The chain of this name, to be jumped to or to be filled. `None` where there are too many.
    pub fn chain(&mut self, name: &str) -> Option<ChainId> {
        self.chains.find(name).or_else(|| self.chains.add(name))
    }

    /// The same, and it is there.
    pub fn define(&mut self, name: &str, hook: Option<Hook>) -> Option<ChainId> {
        let id = self.chain(name)?;
        let chain = self.chains.get_mut(id)?;
        chain.is_there = true;
        chain.hook = hook.or(chain.hook);
        Some(id)
    }

    /// Says what becomes of a packet at the end of a base chain.
    pub fn set_policy(&mut self, chain: ChainId, policy: Policy) {
        if let Some(chain) = self.chains.get_mut(chain) {
            chain.policy = Some(policy);
        }
    }

    /// Adds a rule at the end of a chain.
    pub fn push(
        &mut self,
        chain: ChainId,
        action: Action,
        (is_unconditional, protocol): (bool, u8),
        destination: Option<Endpoint>,
    ) {
        let destination = destination.and_then(|endpoint| self.endpoint(endpoint));
        let destination = destination.and_then(|number| NonZeroU32::MIN.checked_add(number));
        self.chains.push(chain, Rule { action, is_unconditional, protocol, destination });
    }

    /// Changes what a rule does: a jump may lead to a chain that is not known when the rule is.
    pub fn set_action(&mut self, chain: ChainId, rule: u32, action: Action) {
        if let Some(rule) = self.chains.rule_mut(chain, rule) {
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
        let id = self.chains.find(name)?;
        self.get(id).filter(|chain| chain.is_there).map(|_| id)
    }

    /// A chain.
    pub fn get(&self, id: ChainId) -> Option<Chain<'_>> {
        self.chains.get(id)
    }

    /// All chains that are there.
    pub fn chains(&self) -> impl Iterator<Item = (ChainId, Chain<'_>)> {
        self.chains.all().filter(|(_, chain)| chain.is_there)
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
        rules.push(id, action, (false, 0), (kind & 2 == 0).then_some(to));
        pushed = pushed.saturating_add(1);
        let rule = rules.get(id).and_then(|chain| chain.rules().last()).copied();
        assert_eq!(rule.and_then(|rule| rules.target(&rule)), Some(to));
        assert_eq!(rule.and_then(|rule| rules.destination(&rule)).is_some(), kind & 2 == 0);
    }
    assert_eq!(rules.chains.all().map(|(_, chain)| chain.rules().len()).sum::<usize>(), pushed);
    for (id, chain) in rules.chains() {
        assert_eq!(rules.find(chain.name()), Some(id));
    }
    for (_, chain) in rules.chains.all().filter(|(_, chain)| !chain.is_there) {
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
        assert!(size_of::<Rule>() <= 16 && size_of::<chains::Kept>() <= 24 && size_of::<Endpoint>() <= 20);
    }

    #[test]
    fn rules_that_come_in_turns() {
        let mut rules = Ruleset::default();
        let ids = ["a", "b", "c"].map(|name| rules.define(name, None).unwrap());
        for n in 0..300_u32 {
            for id in ids {
                rules.push(id, Action::Dnat(n), (false, 0), None);
            }
            // What was written for one of them is not in another.
            rules.set_action(ids[1], n, Action::Snat);
        }
        for id in ids {
            let actions = rules.get(id).unwrap().rules().iter().map(|rule| rule.action);
            assert!(actions.eq((0..300).map(|n| if id == ids[1] { Action::Snat } else { Action::Dnat(n) })));
        }
        let mut others = Ruleset::default();
        for id in ids {
            let chain = rules.get(id).unwrap();
            let other = others.define(chain.name(), None).unwrap();
            chain.rules().iter().for_each(|rule| others.push(other, rule.action, (false, 0), None));
        }
        assert_eq!(rules, others);
        others.set_action(ids[0], 299, Action::Accept);
        assert_ne!(rules, others);
    }

    #[test]
    fn every_prefix() {
        let calls: Vec<u8> = (0..=255).flat_map(|n: u8| [n, n.wrapping_mul(7)]).collect();
        for end in 0..=calls.len() {
            fuzz(&calls[..end]);
        }
    }
}
