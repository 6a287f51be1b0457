//! Questions to the kernel (`net/netfilter/nf_tables_api.c`, `ipset/ip_set_core.c`).

use std::fmt::Write as _;

use super::super::ruleset::Family;
use super::message::{Message, NLA_HDRLEN, find, padded, text};
use super::object::{NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWSETELEM};
use super::{NFNL_SUBSYS_IPSET, NFNL_SUBSYS_NFTABLES, name_of, number_of};

const NFT_MSG_GETTABLE: u8 = 1;
const NFT_MSG_GETCHAIN: u8 = 4;
const NFT_MSG_GETRULE: u8 = 7;
const NFT_MSG_GETSETELEM: u8 = 13;
const NFT_MSG_GETGEN: u8 = 16;
const IPSET_CMD_LIST: u8 = 7;

const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_DUMP: u16 = 0x300;

/// The same number for a table, a chain, a rule and the elements of a set: `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`,
/// `NFTA_SET_ELEM_LIST_TABLE`.
const TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const IPSET_ATTR_PROTOCOL: u16 = 1;
const IPSET_ATTR_FLAGS: u16 = 6;
/// All kernels take it (`IPSET_PROTOCOL_MIN`).
const IPSET_PROTOCOL: u8 = 6;
const IPSET_FLAG_LIST_HEADER: u32 = 1 << 2;

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// The number of the ruleset.
    Generation,
    /// The tables of a family.
    Tables(Family),
    /// The chains of a family, of all its tables: the kernel knows no other list.
    Chains(Family),
    /// A chain of a table.
    Chain(Family, &'a str, &'a str),
    /// The rules of a chain of a table. All rules of a table at once take the kernel time that grows with the square of
    /// their number: it begins anew for each datagram (`nf_tables_dump_rules`).
    Rules(Family, &'a str, &'a str),
    /// The elements of a set or map of a table.
    Elements(Family, &'a str, &'a str),
    /// What all ipsets are, without their members.
    Ipsets,
}

impl Question<'_> {
    /// Writes the request into `out`, in place of what it holds.
    pub fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        let (message, family, names) = match *self {
            Question::Generation => (NFT_MSG_GETGEN, 0, [None, None]),
            Question::Tables(family) => (NFT_MSG_GETTABLE, number_of(family), [None, None]),
            Question::Chains(family) => (NFT_MSG_GETCHAIN, number_of(family), [None, None]),
            Question::Chain(family, table, chain) => {
                (NFT_MSG_GETCHAIN, number_of(family), [Some((TABLE, table)), Some((NFTA_CHAIN_NAME, chain))])
            }
            Question::Rules(family, table, chain) => {
                (NFT_MSG_GETRULE, number_of(family), [Some((TABLE, table)), Some((NFTA_RULE_CHAIN, chain))])
            }
            Question::Elements(family, table, set) => {
                (NFT_MSG_GETSETELEM, number_of(family), [Some((TABLE, table)), Some((NFTA_SET_ELEM_LIST_SET, set))])
            }
            Question::Ipsets => (IPSET_CMD_LIST, 0, [None, None]),
        };
        let subsystem = if self.is_of_ipset() { NFNL_SUBSYS_IPSET } else { NFNL_SUBSYS_NFTABLES };
        let flags = if self.is_list() { NLM_F_REQUEST | NLM_F_DUMP } else { NLM_F_REQUEST };
        out.clear();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&u16::from_be_bytes([subsystem, message]).to_ne_bytes());
        out.extend_from_slice(&flags.to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&[0; 4]);
        // `struct nfgenmsg`: family, version, res_id.
        out.extend_from_slice(&[family, 0, 0, 0]);
        for (kind, name) in names.into_iter().flatten() {
            attribute(kind, &[name.as_bytes(), &[0]], out);
        }
        if self.is_of_ipset() {
            attribute(IPSET_ATTR_PROTOCOL, &[&[IPSET_PROTOCOL]], out);
            attribute(IPSET_ATTR_FLAGS, &[&IPSET_FLAG_LIST_HEADER.to_be_bytes()], out);
        }
        let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
        if let Some(head) = out.first_chunk_mut() {
            *head = length.to_ne_bytes();
        }
    }

    /// Whether any number of messages answers.
    pub fn is_list(&self) -> bool {
        !matches!(self, Question::Generation | Question::Chain(..))
    }

    /// Whether it is a question of ipset, and not of nf_tables.
    pub fn is_of_ipset(&self) -> bool {
        matches!(self, Question::Ipsets)
    }

    /// The name of the file in which a recorded node keeps the answer, and the [`key`] of its messages in there where the
    /// file holds others too.
    pub fn place(&self) -> (String, Option<String>) {
        match *self {
            Question::Generation => ("nft-generation".to_owned(), None),
            Question::Tables(family) => (format!("nft-{}-tables", name_of(family)), None),
            Question::Chains(family) => (format!("nft-{}-chains", name_of(family)), None),
            Question::Chain(family, table, chain) => {
                (format!("nft-{}-chains", name_of(family)), Some(format!("{table} {chain}")))
            }
            Question::Rules(family, table, chain) => {
                (format!("nft-{}-{}-rules", name_of(family), plain(table)), Some(format!("{table} {chain}")))
            }
            Question::Elements(family, table, set) => {
                (format!("nft-{}-{}-elements", name_of(family), plain(table)), Some(format!("{table} {set}")))
            }
            Question::Ipsets => ("ipset-headers".to_owned(), None),
        }
    }
}

/// The chain or set that a message is about, with its table; of a chain, a rule or elements only.
pub fn key(message: &Message<'_>) -> Option<String> {
    let name_of = match message.kind {
        NFT_MSG_NEWCHAIN => NFTA_CHAIN_NAME,
        NFT_MSG_NEWRULE => NFTA_RULE_CHAIN,
        NFT_MSG_NEWSETELEM => NFTA_SET_ELEM_LIST_SET,
        _ => return None,
    };
    let attributes = message.attributes();
    let (table, name) = (text(find(attributes.0, TABLE)?), text(find(attributes.0, name_of)?));
    Some(format!("{table} {name}"))
}

/// The name of a table may be anything; that of a file not.
fn plain(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            out.push(char::from(byte));
        } else {
            // Nothing can go wrong in writing to a String.
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}

/// Names that are too long for the kernel are for it to refuse.
fn attribute(kind: u16, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length = parts.iter().fold(NLA_HDRLEN, |sum, part| sum.saturating_add(part.len()));
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.resize(padded(out.len()).unwrap_or(out.len()), 0);
}
