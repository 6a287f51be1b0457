//! What Calico's Felix has programmed for one family.

use super::walk::{Jump, Walk};
use super::{Backend, Side, Table};
use crate::host::{Error, Host, Wanted as NftWanted, optional};
use crate::parse::ruleset::{Action, Family, Rule};

/// The chains that Felix is called from, in the table `nat` of iptables and in its own of nf_tables, and its own.
const JUMPS: [(&str, &str, &str, &str); 3] = [
    ("PREROUTING", "cali-PREROUTING", "nat-PREROUTING", "nat-cali-PREROUTING"),
    ("OUTPUT", "cali-OUTPUT", "nat-OUTPUT", "nat-cali-OUTPUT"),
    ("POSTROUTING", "cali-POSTROUTING", "nat-POSTROUTING", "nat-cali-POSTROUTING"),
];

/// How Felix carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By chains in the tables of iptables.
    Iptables(Backend),
    /// By a table of its own.
    Nftables,
    /// By programs, and very few chains.
    Bpf(Backend),
}

/// What is there for one family.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    /// Whose packets.
    pub family: Family,
    /// How.
    pub mode: Mode,
    /// From the base chains to Felix' own; with eBPF only the last.
    pub jumps: Vec<Jump>,
    /// Chains of those that are not there.
    pub missing: Vec<String>,
    /// From `cali-POSTROUTING` to `cali-nat-outgoing`.
    pub outgoing: Jump,
    /// Whether no packet gets to its table.
    pub is_dormant: bool,
    /// Whether packets that leave the cluster get another source.
    pub masquerades: bool,
    /// How many address pools ask for that; `None` where the set is not there, or why it can't be told.
    pub pools: Result<Option<usize>, Error>,
    /// Chains of Felix in this table.
    pub chains: usize,
}

impl Mode {
    /// As it is remembered and told.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Iptables(Backend::Legacy) => "iptables (legacy)",
            Mode::Iptables(Backend::Nft) => "iptables (nft)",
            Mode::Nftables => "nftables",
            Mode::Bpf(Backend::Legacy) => "bpf (legacy)",
            Mode::Bpf(Backend::Nft) => "bpf (nft)",
        }
    }

    /// The word of Felix' own setting.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Iptables(_) => "iptables",
            Mode::Nftables => "nftables",
            Mode::Bpf(_) => "bpf",
        }
    }

    /// Where its rules are.
    pub fn backend(self) -> Backend {
        match self {
            Mode::Iptables(backend) | Mode::Bpf(backend) => backend,
            Mode::Nftables => Backend::Nft,
        }
    }

    /// The table, as the tools of the node call it.
    pub fn place(self, family: Family) -> String {
        match self {
            Mode::Iptables(backend) | Mode::Bpf(backend) => Side { family, backend }.to_string(),
            Mode::Nftables => format!("table {} calico", if family == Family::Ip { "ip" } else { "ip6" }),
        }
    }
}

impl Set {
    /// Whether packets get to it.
    pub fn is_live(&self) -> bool {
        !self.is_dormant && self.jumps.iter().any(Jump::works)
    }

    /// In the tables of iptables; with that, whether packets get to kube-proxy's chains there. `None` where nothing is Felix'.
    pub fn of_iptables(host: &Host, side: Side, is_bpf: bool) -> Result<(Option<Set>, bool), Error> {
        let bases = ["PREROUTING", "OUTPUT", "POSTROUTING", "cali-PREROUTING", "cali-OUTPUT", "cali-POSTROUTING"];
        let wanted = NftWanted { chains: Some(&bases), follow: &|_, to| to.starts_with("cali-"), maps: &|_| false };
        let nat = side.table(host, "nat", &wanted)?.unwrap_or_default();
        let walk = nat.walk();
        let is_kube = !nat.is_dormant() && walk.base_jump("PREROUTING", "KUBE-SERVICES").works();
        let chains = walk.rules.chains().filter(|(_, chain)| chain.name().starts_with("cali-")).count();
        // Felix has more of them in other tables: who flushes one leaves those.
        if chains == 0 && !is_elsewhere(host, side)? {
            return Ok((None, is_kube));
        }
        // With programs for it Felix has no use for this one.
        let mode = match is_bpf && walk.chain("cali-PREROUTING").is_none() {
            true => Mode::Bpf(side.backend),
            false => Mode::Iptables(side.backend),
        };
        let set = (if side.family == Family::Ip { "cali40" } else { "cali60" }).to_owned() + "masq-ipam-pools";
        let mut set = Set { pools: members(host, &set), ..Set::of(&walk, side.family, mode) };
        (set.chains, set.is_dormant) = (chains, nat.is_dormant());
        Ok((Some(set), is_kube))
    }

    /// The table `calico`.
    pub fn of_nftables(host: &Host, family: Family) -> Result<Option<Set>, Error> {
        let chains = JUMPS.map(|(_, _, base, own)| [base, own]).concat();
        let wanted =
            NftWanted { chains: Some(&chains), follow: &|_, to| to.starts_with("nat-cali-"), maps: &|_| false };
        let Some(table) = optional(host.nft_table(family, "calico", &wanted))? else { return Ok(None) };
        let table = Table::Nft { contents: Box::new(table.contents), is_dormant: table.is_dormant };
        let set = (if family == Family::Ip { "cali40" } else { "cali60" }).to_owned() + "masq-ipam-pools";
        let pools = optional(host.nft_set_size(family, "calico", &set));
        let walk = table.walk();
        let chains = walk.rules.chains().filter(|(_, chain)| chain.name().starts_with("nat-cali-")).count();
        Ok(Some(Set { pools, chains, is_dormant: table.is_dormant(), ..Set::of(&walk, family, Mode::Nftables) }))
    }

    fn of(walk: &Walk<'_>, family: Family, mode: Mode) -> Set {
        let names = JUMPS.map(|(base, own, nft_base, nft_own)| match mode {
            Mode::Nftables => (nft_base, nft_own),
            Mode::Iptables(_) | Mode::Bpf(_) => (base, own),
        });
        // Where programs carry the packets there is nothing to do before routing.
        let needed = if matches!(mode, Mode::Bpf(_)) { &names[2..] } else { &names[..] };
        let (post, outgoing) = match mode {
            Mode::Nftables => ("nat-cali-POSTROUTING", "nat-cali-nat-outgoing"),
            Mode::Iptables(_) | Mode::Bpf(_) => ("cali-POSTROUTING", "cali-nat-outgoing"),
        };
        let missing = needed.iter().filter(|(_, own)| walk.chain(own).is_none());
        let masquerades = |rule: &Rule| matches!(rule.action, Action::Masquerade | Action::Snat);
        Set {
            family,
            mode,
            jumps: needed.iter().map(|(base, own)| walk.base_jump(base, own)).collect(),
            missing: missing.map(|(_, own)| (*own).to_owned()).collect(),
            outgoing: walk.jump(post, outgoing),
            is_dormant: false,
            masquerades: walk.does(outgoing, masquerades),
            pools: Ok(None),
            chains: 0,
        }
    }
}

/// Whether Felix has chains in the table `filter`.
fn is_elsewhere(host: &Host, side: Side) -> Result<bool, Error> {
    let wanted = NftWanted { chains: Some(&["cali-FORWARD", "cali-INPUT"]), follow: &|_, _| false, maps: &|_| false };
    let filter = side.table(host, "filter", &wanted)?;
    Ok(filter.is_some_and(|filter| filter.rules().chains().any(|(_, chain)| chain.name().starts_with("cali-"))))
}

/// How many members an ipset has.
fn members(host: &Host, name: &str) -> Result<Option<usize>, Error> {
    let Some(sets) = optional(host.ipsets())? else { return Ok(None) };
    let set = sets.iter().find(|set| set.name == name);
    Ok(set.and_then(|set| usize::try_from(set.members?).ok()))
}
