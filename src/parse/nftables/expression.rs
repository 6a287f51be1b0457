//! Expressions (`net/netfilter/nft_*.c`). Registers are followed as far as it takes to know what is compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::ruleset::{Action, Endpoint, Family};
use super::message::{Attributes, be16, be32, find, text};
use super::verdict::Verdict;
use super::xt::{self, Match};
use super::{Contents, Fault};

/// `NFTA_LIST_ELEM` holds a name and what the expression itself knows.
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;

const NFT_REG_VERDICT: u32 = 0;
const NFT_META_MARK: u32 = 3;
const NFT_META_NFPROTO: u32 = 15;
const NFT_META_L4PROTO: u32 = 16;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const NFT_CMP_EQ: u32 = 0;
const NFT_NAT_DNAT: u32 = 1;

/// What a rule does, before its ruleset knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed<'a> {
    Verdict(Verdict<'a>),
    Dnat(Endpoint),
    Vmap(&'a [u8]),
}

impl Deed<'_> {
    const NONE: Self = Deed::of(Action::None);

    pub const fn of(action: Action) -> Self {
        Deed::Verdict(Verdict::Plain(action))
    }

    /// `None` where there are too many chains.
    pub fn action(self, contents: &mut Contents) -> Option<Action> {
        Some(match self {
            Deed::Verdict(verdict) => verdict.action(&mut contents.rules)?,
            Deed::Dnat(to) => Action::Dnat(contents.rules.endpoint(to)?),
            Deed::Vmap(map) => Action::Vmap(contents.maps.number(&text(map))?),
        })
    }
}

/// What a register holds.
#[derive(Debug, Clone, Copy, Default)]
enum Load<'a> {
    #[default]
    Unknown,
    /// The address that the packet goes to.
    Daddr,
    /// The port that it goes to.
    Dport,
    /// TCP, UDP and so on.
    Protocol,
    /// IPv4 or IPv6.
    Nfproto,
    /// A value from the rule itself.
    Value(&'a [u8]),
}

/// The expressions of a rule so far.
pub(super) struct Program<'a> {
    family: Option<Family>,
    /// Of four bytes each, as `NFT_REG32_00` and on; `NFT_REG_1` and on are four of them each.
    registers: [Load<'a>; 20],
    pub action: Deed<'a>,
    has_conditions: bool,
    address: Option<IpAddr>,
    port: u16,
    protocol: u8,
}

impl<'a> Program<'a> {
    pub fn new(family: Option<Family>) -> Program<'a> {
        Program {
            family,
            registers: [Load::Unknown; 20],
            action: Deed::NONE,
            has_conditions: false,
            address: None,
            port: 0,
            protocol: 0,
        }
    }

    /// Whether every packet of a protocol, at most, comes to what it does.
    pub fn is_unconditional(&self) -> bool {
        !self.has_conditions && self.address.is_none() && self.port == 0
    }

    /// 0 where none is asked for.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    pub fn destination(&self) -> Option<Endpoint> {
        self.address.map(|address| Endpoint { address, port: self.port, protocol: self.protocol })
    }

    /// Takes the next expression.
    pub fn add(&mut self, expression: &'a [u8]) -> Result<(), Fault> {
        let (mut name, mut data) = (&[][..], &[][..]);
        for attribute in Attributes(expression) {
            match attribute? {
                (NFTA_EXPR_NAME, value) => name = value.strip_suffix(&[0]).unwrap_or(value),
                (NFTA_EXPR_DATA, value) => data = value,
                _ => {}
            }
        }
        match name {
            b"immediate" => self.immediate(data)?,
            b"payload" => self.payload(data)?,
            b"meta" => self.meta(data)?,
            b"cmp" => self.cmp(data)?,
            b"bitwise" => self.bitwise(data)?,
            b"lookup" => self.lookup(data)?,
            b"nat" => self.nat(data)?,
            b"masq" => self.act(Deed::of(Action::Masquerade)),
            b"redir" => self.act(Deed::of(Action::Redirect)),
            b"reject" => self.act(Deed::of(Action::Reject)),
            b"target" => {
                let deed = xt::target(data, self.family, self.protocol)?;
                self.act(deed);
            }
            b"match" => match xt::matches(data)? {
                Match::Every => {}
                Match::Port(port) => self.port = port,
                Match::Some => self.has_conditions = true,
            },
            b"counter" | b"log" | b"notrack" | b"objref" | b"last" | b"flow_offload" => {}
            // They load what is not followed: a field, a number, a state.
            b"ct" | b"fib" | b"rt" | b"osf" | b"numgen" | b"exthdr" | b"xfrm" => self.load(data, 1)?,
            b"hash" | b"byteorder" | b"socket" | b"tunnel" => self.load(data, 2)?,
            b"tproxy" | b"queue" | b"fwd" | b"dup" | b"synproxy" => self.act(Deed::of(Action::Other)),
            // Limits, ranges, quotas, sets that fill up, and what is not known.
            _ => self.has_conditions = true,
        }
        Ok(())
    }

    /// What ends a rule counts more than what it does on its way.
    fn act(&mut self, deed: Deed<'a>) {
        if deed != Deed::NONE {
            self.action = deed;
        }
    }

    fn register(number: u32) -> Option<usize> {
        let number = usize::try_from(number).ok()?;
        match number {
            1..=4 => number.checked_sub(1)?.checked_mul(4),
            8..=23 => number.checked_sub(8),
            _ => None,
        }
    }

    fn set(&mut self, number: u32, load: Load<'a>) {
        if let Some(register) = Self::register(number).and_then(|at| self.registers.get_mut(at)) {
            *register = load;
        }
    }

    fn get(&self, number: u32) -> Load<'a> {
        Self::register(number).and_then(|at| self.registers.get(at)).copied().unwrap_or_default()
    }

    fn value(&self, number: u32) -> Option<&'a [u8]> {
        if let Load::Value(value) = self.get(number) { Some(value) } else { None }
    }

    /// Loads something else into the register that this attribute names: `NFTA_FIB_DREG` is 1, `NFTA_HASH_DREG` 2.
    fn load(&mut self, data: &[u8], dreg: u16) -> Result<(), Fault> {
        if let Some(register) = find(data, dreg) {
            self.set(be32(register)?, Load::Unknown);
        }
        Ok(())
    }

    /// `NFTA_IMMEDIATE_DREG` 1, `NFTA_IMMEDIATE_DATA` 2.
    fn immediate(&mut self, data: &'a [u8]) -> Result<(), Fault> {
        let (mut register, mut value) = (NFT_REG_VERDICT, &[][..]);
        for attribute in Attributes(data) {
            match attribute? {
                (1, number) => register = be32(number)?,
                (2, data) => value = data,
                _ => {}
            }
        }
        if register != NFT_REG_VERDICT {
            let value = find(value, NFTA_DATA_VALUE).ok_or(Fault("a value without bytes"))?;
            self.set(register, Load::Value(value));
        } else if let Some(verdict) = Verdict::read(find(value, NFTA_DATA_VERDICT).ok_or(Fault("no verdict"))?)? {
            self.act(Deed::Verdict(verdict));
        }
        Ok(())
    }

    /// `NFTA_PAYLOAD_DREG` 1, `_BASE` 2, `_OFFSET` 3, `_LEN` 4, `_SREG` 5: that one writes.
    fn payload(&mut self, data: &[u8]) -> Result<(), Fault> {
        let (mut register, mut base, mut offset, mut length) = (None, 0, 0, 0);
        for attribute in Attributes(data) {
            match attribute? {
                (1, value) => register = Some(be32(value)?),
                (2, value) => base = be32(value)?,
                (3, value) => offset = be32(value)?,
                (4, value) => length = be32(value)?,
                _ => {}
            }
        }
        let (is_ip, is_ip6) = (self.family == Some(Family::Ip), self.family == Some(Family::Ip6));
        let load = match (base, offset, length) {
            (NFT_PAYLOAD_NETWORK_HEADER, 16, 4) if !is_ip6 => Load::Daddr,
            (NFT_PAYLOAD_NETWORK_HEADER, 24, 16) if !is_ip => Load::Daddr,
            (NFT_PAYLOAD_NETWORK_HEADER, 9, 1) if is_ip => Load::Protocol,
            (NFT_PAYLOAD_NETWORK_HEADER, 6, 1) if is_ip6 => Load::Protocol,
            (NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2) => Load::Dport,
            _ => Load::Unknown,
        };
        if let Some(register) = register {
            self.set(register, load);
        }
        Ok(())
    }

    /// `NFTA_META_DREG` 1, `_KEY` 2, `_SREG` 3: that one sets.
    fn meta(&mut self, data: &[u8]) -> Result<(), Fault> {
        let (mut register, mut key, mut is_set) = (None, 0, false);
        for attribute in Attributes(data) {
            match attribute? {
                (1, value) => register = Some(be32(value)?),
                (2, value) => key = be32(value)?,
                (3, _) => is_set = true,
                _ => {}
            }
        }
        if is_set && key == NFT_META_MARK && self.action == Deed::NONE {
            self.action = Deed::of(Action::Mark);
        }
        if let Some(register) = register {
            let load = match key {
                NFT_META_L4PROTO => Load::Protocol,
                NFT_META_NFPROTO => Load::Nfproto,
                _ => Load::Unknown,
            };
            self.set(register, load);
        }
        Ok(())
    }

    /// `NFTA_CMP_SREG` 1, `_OP` 2, `_DATA` 3.
    fn cmp(&mut self, data: &[u8]) -> Result<(), Fault> {
        let (mut register, mut operator, mut value) = (0, 0, &[][..]);
        for attribute in Attributes(data) {
            match attribute? {
                (1, number) => register = be32(number)?,
                (2, number) => operator = be32(number)?,
                (3, data) => value = find(data, NFTA_DATA_VALUE).unwrap_or_default(),
                _ => {}
            }
        }
        match (self.get(register), operator, value) {
            (Load::Daddr, NFT_CMP_EQ, value) => match address(value) {
                Some(address) => self.address = Some(address),
                None => self.has_conditions = true,
            },
            (Load::Dport, NFT_CMP_EQ, value) if value.len() == 2 => self.port = be16(value)?,
            (Load::Protocol, NFT_CMP_EQ, [protocol]) => self.protocol = *protocol,
            (Load::Nfproto, NFT_CMP_EQ, _) => {}
            _ => self.has_conditions = true,
        }
        Ok(())
    }

    /// `NFTA_BITWISE_SREG` 1, `_DREG` 2, `_LEN` 3, `_MASK` 4, `_XOR` 5. A mask of ones changes nothing.
    fn bitwise(&mut self, data: &[u8]) -> Result<(), Fault> {
        let (mut source, mut target, mut is_same) = (0, 0, false);
        for attribute in Attributes(data) {
            match attribute? {
                (1, number) => source = be32(number)?,
                (2, number) => target = be32(number)?,
                (4, mask) => {
                    let mask = find(mask, NFTA_DATA_VALUE).unwrap_or_default();
                    is_same = !mask.is_empty() && mask.iter().all(|byte| *byte == 0xff);
                }
                (5, bits) => is_same &= find(bits, NFTA_DATA_VALUE).unwrap_or_default().iter().all(|byte| *byte == 0),
                _ => {}
            }
        }
        let load = if is_same { self.get(source) } else { Load::Unknown };
        self.set(target, load);
        Ok(())
    }

    /// `NFTA_LOOKUP_SET` 1, `_SREG` 2, `_DREG` 3: without that it is a set, with the verdict's register a verdict map.
    fn lookup(&mut self, data: &'a [u8]) -> Result<(), Fault> {
        let (mut set, mut register) = (&[][..], None);
        for attribute in Attributes(data) {
            match attribute? {
                (1, name) => set = name,
                (3, number) => register = Some(be32(number)?),
                _ => {}
            }
        }
        match register {
            Some(NFT_REG_VERDICT) => self.act(Deed::Vmap(set)),
            _ => self.has_conditions = true,
        }
        if let Some(register) = register {
            self.set(register, Load::Unknown);
        }
        Ok(())
    }

    /// `NFTA_NAT_TYPE` 1, `_FAMILY` 2, `_REG_ADDR_MIN` 3, `_REG_PROTO_MIN` 5.
    fn nat(&mut self, data: &[u8]) -> Result<(), Fault> {
        let (mut kind, mut to, mut port) = (0, None, 0);
        for attribute in Attributes(data) {
            match attribute? {
                (1, number) => kind = be32(number)?,
                (3, number) => to = self.value(be32(number)?).and_then(address),
                (5, number) => port = self.value(be32(number)?).map_or(Ok(0), be16)?,
                _ => {}
            }
        }
        match kind {
            NFT_NAT_DNAT => {
                let protocol = self.protocol;
                // It comes from a map, or only the port is another one.
                let address = to.unwrap_or(any(self.family));
                self.act(Deed::Dnat(Endpoint { address, port, protocol }));
            }
            _ => self.act(Deed::of(Action::Snat)),
        }
        Ok(())
    }
}

/// A whole address.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// The address that none is.
pub(super) fn any(family: Option<Family>) -> IpAddr {
    match family {
        Some(Family::Ip6) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
}
