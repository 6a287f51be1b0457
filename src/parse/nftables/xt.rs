//! Matches and targets of x_tables inside nf_tables (`net/netfilter/nft_compat.c`).

use std::net::IpAddr;

use super::super::ruleset::{Action, Endpoint, Family};
use super::Fault;
use super::expression::{Deed, any};
use super::message::{Attributes, be16, be32};

/// What a match lets pass.
pub(super) enum Match {
    Every,
    /// What goes to this port.
    Port(u16),
    Some,
}

/// Name, revision and the struct of a target or match (`NFTA_TARGET_*`, `NFTA_MATCH_*`).
fn extension(data: &[u8]) -> Result<(&[u8], u32, &[u8]), Fault> {
    let (mut name, mut revision, mut info) = (&[][..], 0, &[][..]);
    for attribute in Attributes(data) {
        match attribute? {
            (1, value) => name = value.strip_suffix(&[0]).unwrap_or(value),
            (2, value) => revision = be32(value)?,
            (3, value) => info = value,
            _ => {}
        }
    }
    Ok((name, revision, info))
}

pub(super) fn target(data: &[u8], family: Option<Family>, protocol: u8) -> Result<Deed<'static>, Fault> {
    let (name, revision, info) = extension(data)?;
    Ok(match name {
        b"DNAT" => {
            let (address, port) = dnat(revision, family, info).ok_or(Fault::CUT)?;
            Deed::Dnat(Endpoint { address, port, protocol })
        }
        b"SNAT" => Deed::of(Action::Snat),
        b"MASQUERADE" => Deed::of(Action::Masquerade),
        b"REDIRECT" => Deed::of(Action::Redirect),
        b"REJECT" => Deed::of(Action::Reject),
        b"MARK" => Deed::of(Action::Mark),
        b"LOG" | b"NFLOG" | b"TRACE" => Deed::of(Action::None),
        _ => Deed::of(Action::Other),
    })
}

/// `struct nf_nat_ipv4_multi_range_compat` (revision 0), `nf_nat_range` (1) and `nf_nat_range2` (2): all in the byte order of
/// the machine but addresses and ports.
fn dnat(revision: u32, family: Option<Family>, info: &[u8]) -> Option<(IpAddr, u16)> {
    const NF_NAT_RANGE_MAP_IPS: u32 = 1;
    const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;
    let (info, address, port) = match revision {
        // How many ranges come before the one; IPv4 only.
        0 => (info.get(4..)?, 4..8, 12..14),
        _ => (info, 4..20, 36..38),
    };
    let flags = u32::from_ne_bytes(*info.first_chunk()?);
    let address = info.get(address)?;
    let address = match family {
        // Only the port is another one.
        _ if flags & NF_NAT_RANGE_MAP_IPS == 0 => any(family),
        Some(Family::Ip6) => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        // `union nf_inet_addr`.
        _ => IpAddr::from(*address.first_chunk::<4>()?),
    };
    let port = if flags & NF_NAT_RANGE_PROTO_SPECIFIED == 0 { 0 } else { be16(info.get(port)?).ok()? };
    Some((address, port))
}

/// `struct xt_tcp` and `struct xt_udp` begin with the first and last source and destination port, in the byte order of the
/// machine.
pub(super) fn matches(data: &[u8]) -> Result<Match, Fault> {
    let (name, _, info) = extension(data)?;
    Ok(match name {
        b"comment" => Match::Every,
        b"tcp" | b"udp" => ports(info).ok_or(Fault::CUT)?,
        _ => Match::Some,
    })
}

fn ports(info: &[u8]) -> Option<Match> {
    let port = |at: usize| Some(u16::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    // Flags of TCP, and which of all this is turned round; padding at the end of udp is one byte.
    let has_more = info.get(8..)?.iter().any(|byte| *byte != 0);
    Some(match ([port(0)?, port(2)?], [port(4)?, port(6)?]) {
        ([0, u16::MAX], [0, u16::MAX]) if !has_more => Match::Every,
        ([0, u16::MAX], [first, last]) if first == last && !has_more => Match::Port(first),
        _ => Match::Some,
    })
}
