//! nf_tables and ipset as the kernel tells them over netlink (`linux/netfilter/nf_tables.h`, `nf_tables_compat.h`,
//! `ipset/ip_set.h`).
//!
//! Rules come as lists of expressions, little programs that load fields of a packet into registers and compare these.
//! Only what decides the way of a packet through NAT is understood; of the rest it is enough to know that it is a
//! condition. What iptables-nft writes and what nft writes differ in that iptables puts its own matches and targets into
//! `match` and `target`.
//!
//! Nothing is allocated for an attribute: a node has a million of them.

mod expression;
mod ipset;
mod map;
mod message;
mod object;
mod request;
mod rule;
mod verdict;
mod xt;

use super::ruleset::{Action, ChainId, Family, Ruleset};

pub use ipset::Ipset;
pub use map::{Element, Map};
pub use message::{Message, Messages, Part, messages};
pub use object::{Chain, Elements, NFT_MSG_NEWGEN, Table, generation, writer};
pub use request::{Question, key};
pub use rule::RuleMessage;

/// `linux/netfilter/nfnetlink.h`.
pub const NFNL_SUBSYS_IPSET: u8 = 6;
/// The same.
pub const NFNL_SUBSYS_NFTABLES: u8 = 10;

/// A message is not as the kernel makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of netlink that can't be read: {0}")]
pub struct Fault(&'static str);

impl Fault {
    const CUT: Fault = Fault("it is cut");
    /// Numbers of chains and rules have 32 bits.
    const TOO_MANY: Fault = Fault("too many names");
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6` (`linux/netfilter.h`).
fn number_of(family: Family) -> u8 {
    match family {
        Family::Ip => 2,
        Family::Ip6 => 10,
    }
}

fn family_of(number: u8) -> Option<Family> {
    [Family::Ip, Family::Ip6].into_iter().find(|family| number_of(*family) == number)
}

/// As nft writes it.
fn name_of(family: Family) -> &'static str {
    match family {
        Family::Ip => "ip",
        Family::Ip6 => "ip6",
    }
}

/// A table, or as much of it as was asked for.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Its chains and rules.
    pub rules: Ruleset,
    /// Its base chains: several may have the same hook.
    pub bases: Vec<Base>,
    maps: map::Maps,
}

/// A base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its hook, policy and rules.
    pub chain: ChainId,
    /// `nat`, `filter` or `route`.
    pub kind: String,
    /// The lowest of a hook comes first.
    pub priority: i32,
}

impl Contents {
    /// A map, by the number in [`Action::Vmap`].
    pub fn map(&self, number: u32) -> Option<&Map> {
        self.maps.get(number)
    }

    /// The map of this name, if a rule asks it or it was read.
    pub fn find_map(&self, name: &str) -> Option<&Map> {
        self.maps.get(self.maps.find(name)?)
    }

    /// All of them.
    pub fn maps(&self) -> &[Map] {
        self.maps.all()
    }

    /// Adds a chain.
    pub fn add_chain(&mut self, chain: &Chain) -> Result<ChainId, Fault> {
        let id = self.rules.define(&chain.name, chain.hook).ok_or(Fault::TOO_MANY)?;
        if let Some(policy) = chain.policy {
            self.rules.set_policy(id, policy);
        }
        if chain.hook.is_some() && !self.bases.iter().any(|base| base.chain == id) {
            self.bases.push(Base { chain: id, kind: chain.kind.clone(), priority: chain.priority });
        }
        Ok(id)
    }

    /// Adds whatever these messages tell, as if it were of one table.
    pub fn add_all(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for message in messages(bytes) {
            let message = message?;
            if let Some(chain) = Chain::read(&message)? {
                self.add_chain(&chain)?;
            } else if let Some(rule) = RuleMessage::read(&message)? {
                let chain = self.rules.chain(&rule.chain).ok_or(Fault::TOO_MANY)?;
                rule.push(chain, self)?;
            } else if let Some(elements) = Elements::read(&message)? {
                elements.push(self)?;
            }
        }
        Ok(())
    }
}

/// What must hold for any bytes: no panic, an end, and no more told than there is.
pub fn fuzz(data: &[u8]) {
    let mut length = 0_usize;
    for message in messages(data).flatten() {
        length = length.saturating_add(message.bytes.len());
        let _ = (message.part(), message.is_interrupted());
        let _ = (generation(&message), writer(&message), key(&message));
        let _ = (Table::read(&message), Ipset::read(&message));
    }
    assert!(length <= data.len());
    let mut contents = Contents::default();
    let _ = contents.add_all(data);
    let rules = &contents.rules;
    let count = rules.chains().fold(0, |sum: usize, (_, chain)| sum.saturating_add(chain.rules().len()));
    assert!(count <= data.len());
    for rule in rules.chains().flat_map(|(_, chain)| chain.rules()) {
        let _ = rules.destination(rule);
        match rule.action {
            Action::Dnat(_) => assert!(rules.target(rule).is_some()),
            Action::Vmap(number) => assert!(contents.map(number).is_some()),
            Action::Jump(chain) | Action::Goto(chain) => assert!(rules.get(chain).is_some()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
