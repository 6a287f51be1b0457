//! ipsets: what they are and how many members they have.

use super::message::{Attributes, Message, be32, text};
use super::{Fault, NFNL_SUBSYS_IPSET};

const IPSET_CMD_LIST: u8 = 7;
const IPSET_ATTR_SETNAME: u16 = 2;
const IPSET_ATTR_TYPENAME: u16 = 3;
const IPSET_ATTR_FAMILY: u16 = 5;
const IPSET_ATTR_DATA: u16 = 7;
const IPSET_ATTR_ELEMENTS: u16 = 24;
const IPSET_ATTR_REFERENCES: u16 = 25;

/// An ipset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ipset {
    /// Its name.
    pub name: String,
    /// `hash:net` and so on.
    pub kind: String,
    /// 2 is IPv4, 10 IPv6, 0 neither.
    pub family: u8,
    /// How many members it has. `None` on kernels that do not tell (before 4.18), and of bitmaps and lists on newer ones.
    pub members: Option<u32>,
    /// How many rules and sets ask it.
    pub references: u32,
}

impl Ipset {
    /// `None` of other messages.
    pub fn read(message: &Message<'_>) -> Result<Option<Ipset>, Fault> {
        if message.kind != u16::from_be_bytes([NFNL_SUBSYS_IPSET, IPSET_CMD_LIST]) {
            return Ok(None);
        }
        let mut set = Ipset::default();
        for attribute in message.attributes() {
            match attribute? {
                (IPSET_ATTR_SETNAME, name) => set.name = text(name).into_owned(),
                (IPSET_ATTR_TYPENAME, kind) => set.kind = text(kind).into_owned(),
                (IPSET_ATTR_FAMILY, family) => set.family = family.first().copied().unwrap_or(0),
                (IPSET_ATTR_DATA, data) => {
                    for attribute in Attributes(data) {
                        match attribute? {
                            (IPSET_ATTR_ELEMENTS, count) => set.members = Some(be32(count)?),
                            (IPSET_ATTR_REFERENCES, count) => set.references = be32(count)?,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Some(set))
    }
}
