//! Tables, chains, and the elements of maps; the number of the ruleset, and who changed it.

use std::net::IpAddr;

use super::super::ruleset::{Action, Endpoint, Family, Hook, Policy};
use super::map::Element;
use super::message::{Attributes, Message, be16, be32, find, text};
use super::verdict::Verdict;
use super::{Contents, Fault, NFNL_SUBSYS_NFTABLES, family_of};

const fn of_nftables(message: u8) -> u16 {
    u16::from_be_bytes([NFNL_SUBSYS_NFTABLES, message])
}

const NFT_MSG_NEWTABLE: u16 = of_nftables(0);
pub(super) const NFT_MSG_NEWCHAIN: u16 = of_nftables(3);
pub(super) const NFT_MSG_NEWRULE: u16 = of_nftables(6);
pub(super) const NFT_MSG_NEWSETELEM: u16 = of_nftables(12);
/// The number of the ruleset, and in a notification who made it.
pub const NFT_MSG_NEWGEN: u16 = of_nftables(15);

const NFTA_GEN_ID: u16 = 1;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_USE: u16 = 3;
const NFT_TABLE_F_DORMANT: u32 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_USE: u16 = 6;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;

/// The number of the ruleset (`NFT_MSG_NEWGEN`): another one after every transaction. `None` of other messages.
pub fn generation(message: &Message<'_>) -> Option<u32> {
    let attributes = Some(message).filter(|message| message.kind == NFT_MSG_NEWGEN)?.attributes();
    be32(find(attributes.0, NFTA_GEN_ID)?).ok()
}

/// Who made the ruleset that a notification tells of: the process and its name. In an *answer* it is who asked.
pub fn writer(message: &Message<'_>) -> Option<(u32, String)> {
    let attributes = Some(message).filter(|message| message.kind == NFT_MSG_NEWGEN)?.attributes();
    let process = be32(find(attributes.0, NFTA_GEN_PROC_PID)?).ok()?;
    Some((process, text(find(attributes.0, NFTA_GEN_PROC_NAME)?).into_owned()))
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `None` for those of bridges, ARP and devices.
    pub family: Option<Family>,
    /// Its name.
    pub name: String,
    /// How many chains, sets and other objects it holds (`NFTA_TABLE_USE`).
    pub uses: u32,
    /// Whether no packet gets to it (`NFT_TABLE_F_DORMANT`).
    pub is_dormant: bool,
}

impl Table {
    /// `None` of other messages.
    pub fn read(message: &Message<'_>) -> Result<Option<Table>, Fault> {
        if message.kind != NFT_MSG_NEWTABLE {
            return Ok(None);
        }
        let mut table = Table { family: family_of(message.family()), name: String::new(), uses: 0, is_dormant: false };
        for attribute in message.attributes() {
            match attribute? {
                (NFTA_TABLE_NAME, name) => table.name = text(name).into_owned(),
                (NFTA_TABLE_FLAGS, flags) => table.is_dormant = be32(flags)? & NFT_TABLE_F_DORMANT != 0,
                (NFTA_TABLE_USE, uses) => table.uses = be32(uses)?,
                _ => {}
            }
        }
        Ok(Some(table))
    }
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The table it is of.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is called, if it is a base chain.
    pub hook: Option<Hook>,
    /// Which of the base chains of a hook comes first: the lowest.
    pub priority: i32,
    /// `nat`, `filter` or `route`; empty where it is no base chain.
    pub kind: String,
    /// Of a base chain.
    pub policy: Option<Policy>,
    /// How many rules it has and how many lead to it, in one sum (`NFTA_CHAIN_USE`).
    pub uses: u32,
}

impl Chain {
    /// `None` of other messages.
    pub fn read(message: &Message<'_>) -> Result<Option<Chain>, Fault> {
        if message.kind != NFT_MSG_NEWCHAIN {
            return Ok(None);
        }
        let (table, name, kind) = (String::new(), String::new(), String::new());
        let mut chain = Chain { table, name, hook: None, priority: 0, kind, policy: None, uses: 0 };
        for attribute in message.attributes() {
            match attribute? {
                (NFTA_CHAIN_TABLE, table) => chain.table = text(table).into_owned(),
                (NFTA_CHAIN_NAME, name) => chain.name = text(name).into_owned(),
                (NFTA_CHAIN_HOOK, hook) => {
                    for attribute in Attributes(hook) {
                        match attribute? {
                            (NFTA_HOOK_HOOKNUM, number) => chain.hook = hook_of(message.family(), be32(number)?),
                            (NFTA_HOOK_PRIORITY, value) => chain.priority = be32(value)?.cast_signed(),
                            _ => {}
                        }
                    }
                }
                // `NF_DROP` is 0.
                (NFTA_CHAIN_POLICY, policy) => {
                    chain.policy = Some(if be32(policy)? == 0 { Policy::Drop } else { Policy::Accept });
                }
                (NFTA_CHAIN_USE, uses) => chain.uses = be32(uses)?,
                (NFTA_CHAIN_TYPE, kind) => chain.kind = text(kind).into_owned(),
                _ => {}
            }
        }
        Ok(Some(chain))
    }
}

/// `enum nf_inet_hooks`; other families have others.
fn hook_of(family: u8, number: u32) -> Option<Hook> {
    family_of(family)?;
    Some(match number {
        0 => Hook::Prerouting,
        1 => Hook::Input,
        2 => Hook::Forward,
        3 => Hook::Output,
        4 => Hook::Postrouting,
        _ => return None,
    })
}

/// Elements of a set or map.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    set: std::borrow::Cow<'a, str>,
    elements: &'a [u8],
}

impl<'a> Elements<'a> {
    /// `None` of other messages.
    pub fn read(message: &Message<'a>) -> Result<Option<Elements<'a>>, Fault> {
        if message.kind != NFT_MSG_NEWSETELEM {
            return Ok(None);
        }
        let mut elements = Elements { set: "".into(), elements: &[] };
        for attribute in message.attributes() {
            match attribute? {
                (NFTA_SET_ELEM_LIST_SET, set) => elements.set = text(set),
                (NFTA_SET_ELEM_LIST_ELEMENTS, list) => elements.elements = list,
                _ => {}
            }
        }
        Ok(Some(elements))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        Attributes(self.elements).map_while(Result::ok).count()
    }

    /// Adds them to the map of this name.
    pub fn push(&self, contents: &mut Contents) -> Result<(), Fault> {
        let map = contents.maps.number(&self.set).ok_or(Fault::TOO_MANY)?;
        for element in Attributes(self.elements) {
            let (_, element) = element?;
            let (mut key, mut verdict) = (None, None);
            for attribute in Attributes(element) {
                match attribute? {
                    (NFTA_SET_ELEM_KEY, data) => key = find(data, NFTA_DATA_VALUE).and_then(endpoint),
                    (NFTA_SET_ELEM_DATA, data) => verdict = find(data, NFTA_DATA_VERDICT),
                    _ => {}
                }
            }
            let action = verdict.map(Verdict::read).transpose()?.flatten();
            let action =
                action.map(|verdict| verdict.action(&mut contents.rules).ok_or(Fault::TOO_MANY)).transpose()?;
            contents.maps.push(map, Element { key, action: action.unwrap_or(Action::None) });
        }
        Ok(())
    }
}

/// The key `address . protocol . port`. Each part of a key begins at a multiple of four.
fn endpoint(key: &[u8]) -> Option<Endpoint> {
    let (rest, address) = match key.len() {
        12 => (key.get(4..)?, IpAddr::from(*key.first_chunk::<4>()?)),
        24 => (key.get(16..)?, IpAddr::from(*key.first_chunk::<16>()?)),
        _ => return None,
    };
    Some(Endpoint { address, protocol: *rest.first()?, port: be16(rest.get(4..)?).ok()? })
}
