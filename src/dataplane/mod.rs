//! The rules that carry services and pods on a node: what kube-proxy and Calico's Felix have programmed, and where.
//!
//! Both write into the tables of iptables, of which each kernel may have two at once, or into a table of their own. What is
//! there is found by its chains, whoever's the table is; nothing is asked of the cluster.

pub mod calico;
pub mod kube;
pub mod names;
pub mod node;
mod stamp;
mod walk;

use std::fmt;

use crate::host::{Error, Host, Wanted as NftWanted, optional, printable};
use crate::parse::nftables::Contents;
use crate::parse::ruleset::{Family, Ruleset};

pub use stamp::Stamp;
pub use walk::{Jump, Walk};

/// Which of the kernel's two halves has the tables of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// x_tables: `iptables-legacy`.
    Legacy,
    /// nf_tables: `iptables-nft`, which most programs called `iptables` are by now.
    Nft,
}

/// The tables of iptables of one family in one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Side {
    /// Whose packets.
    pub family: Family,
    /// Where.
    pub backend: Backend,
}

/// All there can be.
pub const SIDES: [Side; 4] = [
    Side { family: Family::Ip, backend: Backend::Legacy },
    Side { family: Family::Ip, backend: Backend::Nft },
    Side { family: Family::Ip6, backend: Backend::Legacy },
    Side { family: Family::Ip6, backend: Backend::Nft },
];

impl Backend {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Legacy => "legacy",
            Backend::Nft => "nft",
        }
    }
}

impl fmt::Display for Side {
    /// The program that shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = if self.family == Family::Ip { "iptables" } else { "ip6tables" };
        write!(f, "{program}-{}", self.backend.name())
    }
}

/// As people write it.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ip => "IPv4",
        Family::Ip6 => "IPv6",
    }
}

/// A table that was read.
pub enum Table {
    /// Of x_tables.
    Legacy(Ruleset),
    /// Of nf_tables.
    Nft {
        /// What was read of it.
        contents: Box<Contents>,
        /// Whether no packet gets to it.
        is_dormant: bool,
    },
}

impl Default for Table {
    fn default() -> Table {
        Table::Legacy(Ruleset::default())
    }
}

impl Table {
    /// Its chains and rules.
    pub fn rules(&self) -> &Ruleset {
        match self {
            Table::Legacy(rules) => rules,
            Table::Nft { contents, .. } => &contents.rules,
        }
    }

    /// To be followed.
    pub fn walk(&self) -> Walk<'_> {
        match self {
            Table::Legacy(rules) => Walk::new(rules),
            Table::Nft { contents, .. } => Walk::with_maps(contents),
        }
    }

    /// Whether no packet gets to it.
    pub fn is_dormant(&self) -> bool {
        matches!(self, Table::Nft { is_dormant: true, .. })
    }
}

impl Side {
    /// A table of iptables; of nf_tables no more than is wanted. `None` where it is not there.
    pub fn table(self, host: &Host, name: &str, wanted: &NftWanted<'_>) -> Result<Option<Table>, Error> {
        match self.backend {
            Backend::Legacy => {
                let Some(table) = optional(host.legacy_table(self.family, name))? else { return Ok(None) };
                Ok(Some(Table::Legacy(table.ruleset()?)))
            }
            Backend::Nft => {
                let table = optional(host.nft_table(self.family, name, wanted))?;
                Ok(table.map(|table| Table::Nft { contents: Box::new(table.contents), is_dormant: table.is_dormant }))
            }
        }
    }
}

/// Our network namespace, if it is not that of process 1.
pub fn elsewhere(host: &Host) -> Option<String> {
    if host.is_in_first_netns().unwrap_or(true) {
        return None;
    }
    let ours = optional(host.read_link("/proc/self/ns/net")).ok().flatten()?;
    Some(printable(&ours.to_string_lossy()))
}

/// Keeps why something of a family could not be read, and goes on without it. What is forbidden is so everywhere: that ends it.
pub fn unless_denied<T>(
    troubles: &mut Vec<(Family, Error)>,
    family: Family,
    read: Result<T, Error>,
) -> Result<Option<T>, Error> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error @ Error::Denied { .. }) => Err(error),
        Err(error) => {
            troubles.push((family, error));
            Ok(None)
        }
    }
}
