//! What an entry means: its verdict or its target, and what it asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::ruleset::{Action, Endpoint, Family, Policy};
use super::Fault;
use super::entry::{Entry, Extension, u16_at, u32_at};

/// `-NF_DROP - 1`, `-NF_ACCEPT - 1`, `XT_RETURN`.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;
/// `NF_NAT_RANGE_MAP_IPS`, `NF_NAT_RANGE_PROTO_SPECIFIED` (`uapi/linux/netfilter/nf_nat.h`).
const HAS_ADDRESS: u32 = 1;
const HAS_PORT: u32 = 2;
/// `XT_TCP_INV_DSTPT`, `XT_UDP_INV_DSTPT` and `XT_SCTP_DEST_PORTS`.
const DESTINATION_PORT: u32 = 2;
/// Targets after which the next rule is asked, and that matter to no NAT.
const PASSING: &[&[u8]] = &[
    b"AUDIT",
    b"CHECKSUM",
    b"CLASSIFY",
    b"CONNMARK",
    b"CONNSECMARK",
    b"CT",
    b"DSCP",
    b"ECN",
    b"HL",
    b"LOG",
    b"NFLOG",
    b"NOTRACK",
    b"RATEEST",
    b"SECMARK",
    b"SET",
    b"TCPMSS",
    b"TEE",
    b"TOS",
    b"TRACE",
    b"TTL",
];

/// A rule before it has its place.
#[derive(Clone, Copy)]
pub(super) struct Told {
    /// The place of its entry.
    pub at: u32,
    pub does: Does,
    pub is_unconditional: bool,
    pub protocol: u8,
    pub destination: Option<Endpoint>,
}

#[derive(Clone, Copy)]
pub(super) enum Does {
    Action(Action),
    Dnat(Endpoint),
    /// To the chain that begins at this place.
    Jump {
        to: u32,
        is_goto: bool,
    },
}

impl Told {
    pub(super) fn of(entry: &Entry<'_>) -> Result<Told, Fault> {
        let asked = entry.asked();
        let (mut is_unconditional, mut port) = (asked.is_nothing, None);
        for one in entry.matches() {
            let one = one?;
            let (asks_nothing, to) = ports(&one);
            is_unconditional &= asks_nothing;
            port = port.or(to);
        }
        let protocol = asked.protocol;
        let destination =
            asked.destination.map(|address| Endpoint { address, port: port.unwrap_or_default(), protocol });
        Ok(Told { at: entry.at, does: does(entry, protocol)?, is_unconditional, protocol, destination })
    }

    /// Whether it is what stands at the end of each chain that is no base chain.
    pub(super) fn is_end_of_chain(&self) -> bool {
        self.is_unconditional && matches!(self.does, Does::Action(Action::Return))
    }

    /// What it means at the end of a base chain.
    pub(super) fn policy(&self) -> Option<Policy> {
        match self.does {
            Does::Action(Action::Accept) if self.is_unconditional => Some(Policy::Accept),
            Does::Action(Action::Drop) if self.is_unconditional => Some(Policy::Drop),
            _ => None,
        }
    }
}

/// Whether a match lets everything through, and the one port that it asks for as destination.
fn ports(one: &Extension<'_>) -> (bool, Option<u16>) {
    let pair = |at: usize| Some((u16_at(one.data, at)?, u16_at(one.data, at.checked_add(2)?)?));
    let byte = |at: usize| one.data.get(at).copied();
    let single = |(first, last): (u16, u16)| (first == last).then_some(first);
    match (one.name, one.revision) {
        (b"comment", _) => (true, None),
        // struct xt_tcp: source ports, destination ports, option, mask and value of flags, what is inverted.
        // struct xt_udp: the same without option and flags.
        (b"tcp", 0) | (b"udp", 0) => {
            let (from, to) = (pair(0), pair(4));
            let others: &[usize] = if one.name == b"tcp" { &[8, 9, 11] } else { &[8] };
            let inverted = others.last().and_then(|at| byte(*at)).unwrap_or(u8::MAX);
            let all = Some((0, u16::MAX));
            let asks_nothing = from == all && to == all && others.iter().all(|at| byte(*at) == Some(0));
            (asks_nothing, to.filter(|_| u32::from(inverted) & DESTINATION_PORT == 0).and_then(single))
        }
        // struct xt_sctp_info: destination ports, source ports, ..., what is asked for, what of it is inverted.
        (b"sctp", 0) => {
            let asks = |at| u32_at(one.data, at).is_some_and(|flags| flags & DESTINATION_PORT != 0);
            (false, pair(0).filter(|_| asks(60) && !asks(64)).and_then(single))
        }
        _ => (false, None),
    }
}

fn does(entry: &Entry<'_>, protocol: u8) -> Result<Does, Fault> {
    let target = entry.target()?;
    let action = match target.name {
        b"" => return verdict(entry, &target),
        b"DNAT" => {
            let to =
                dnat(entry.family, &target, protocol).ok_or_else(|| entry.fault("has a DNAT that is too short"))?;
            return Ok(to.map_or(Does::Action(Action::Other), Does::Dnat));
        }
        b"SNAT" => Action::Snat,
        b"MASQUERADE" => Action::Masquerade,
        b"REDIRECT" => Action::Redirect,
        b"MARK" => Action::Mark,
        b"REJECT" => Action::Reject,
        name if PASSING.contains(&name) => Action::None,
        _ => Action::Other,
    };
    Ok(Does::Action(action))
}

/// `struct xt_standard_target`: what becomes of the packet, or the place of the entry that is next.
fn verdict(entry: &Entry<'_>, target: &Extension<'_>) -> Result<Does, Fault> {
    let bytes = target.data.first_chunk().ok_or_else(|| entry.fault("has no verdict"))?;
    let verdict = i32::from_ne_bytes(*bytes);
    let is_goto = entry.is_goto();
    Ok(match u32::try_from(verdict) {
        Ok(to) if to == entry.end && !is_goto => Does::Action(Action::None),
        Ok(to) => Does::Jump { to, is_goto },
        Err(_) => Does::Action(match verdict {
            DROP => Action::Drop,
            ACCEPT => Action::Accept,
            RETURN => Action::Return,
            // NF_QUEUE.
            _ => Action::Other,
        }),
    })
}

/// Where a DNAT leads; `Some(None)` where its form is not known, `None` where it is cut off.
fn dnat(family: Family, target: &Extension<'_>, protocol: u8) -> Option<Option<Endpoint>> {
    let data = target.data;
    let array = |at: usize| data.get(at..);
    // Where flags, the first address and the first port are. 0: struct nf_nat_ipv4_multi_range_compat. 1: struct
    // nf_nat_range. 2: struct nf_nat_range2.
    let (flags, first, port) = match (target.revision, family) {
        (0, Family::Ip) => (4, 8, 16),
        (1 | 2, _) => (0, 4, 36),
        _ => return Some(None),
    };
    let flags = u32_at(data, flags)?;
    let address: IpAddr = match family {
        Family::Ip => Ipv4Addr::from(*array(first)?.first_chunk::<4>()?).into(),
        Family::Ip6 => Ipv6Addr::from(*array(first)?.first_chunk::<16>()?).into(),
    };
    let port = u16::from_be_bytes(*array(port)?.first_chunk()?);
    let unspecified = match family {
        Family::Ip => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ip6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    Some(Some(Endpoint {
        address: if flags & HAS_ADDRESS != 0 { address } else { unspecified },
        port: if flags & HAS_PORT != 0 { port } else { 0 },
        protocol,
    }))
}
