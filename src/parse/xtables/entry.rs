//! One entry: an `ipt_entry` or `ip6t_entry`, its matches and its target.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::super::ruleset::Family;
use super::Fault;

/// `struct xt_entry_match` and `struct xt_entry_target`: size, name, revision.
const HEAD: usize = 32;
/// `__alignof__(struct ipt_entry)`: where an entry and a target may begin.
const ALIGN: usize = 8;
/// `IPT_F_FRAG`, `IPT_F_GOTO`; `IP6T_F_PROTO`, `IP6T_F_TOS`, `IP6T_F_GOTO`.
const V4_FRAG: u8 = 1;
const V4_GOTO: u8 = 2;
const V6_PROTO: u8 = 1;
const V6_TOS: u8 = 2;
const V6_GOTO: u8 = 4;
/// `IPT_INV_DSTIP` and `IPT_INV_PROTO`, and the same of IPv6.
const NOT_DESTINATION: u8 = 0x10;
const NOT_PROTOCOL: u8 = 0x40;

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// An entry that lies where it can, and its target too.
pub(super) struct Entry<'a> {
    pub family: Family,
    /// Its place among the entries.
    pub at: u32,
    /// That of the next one.
    pub end: u32,
    /// All up to the target.
    asks: &'a [u8],
    /// `struct xt_entry_target` and what belongs to it.
    target: &'a [u8],
}

/// A match or a target.
pub(super) struct Extension<'a> {
    pub name: &'a [u8],
    pub revision: u8,
    /// What follows the head.
    pub data: &'a [u8],
}

/// What an entry asks for without a match.
pub(super) struct Asked {
    /// Nothing but a protocol.
    pub is_nothing: bool,
    /// 0 for any.
    pub protocol: u8,
    pub destination: Option<IpAddr>,
}

/// All entries in order. It ends with the first that is wrong.
pub(super) fn entries(family: Family, bytes: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, Fault>> {
    let (mut at, mut rest) = (0, bytes);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = Entry::parse(family, at, rest).map_err(|why| Fault::Entry { at, why });
        (at, rest) = parsed.as_ref().map_or((at, &[][..]), |(entry, others)| (entry.end, *others));
        Some(parsed.map(|(entry, _)| entry))
    })
}

impl<'a> Entry<'a> {
    /// The entry at the beginning of `rest`, and what follows it.
    fn parse(family: Family, at: u32, rest: &'a [u8]) -> Result<(Entry<'a>, &'a [u8]), &'static str> {
        let (of_target, of_next) = match family {
            Family::Ip => (88, 90),
            Family::Ip6 => (140, 142),
        };
        let offset = |at| u16_at(rest, at).map(usize::from).ok_or("is cut off");
        let (target, length) = (offset(of_target)?, offset(of_next)?);
        if length % ALIGN != 0 || target % ALIGN != 0 {
            return Err("is not aligned");
        }
        if target < header(family) {
            return Err("has its target before its end");
        }
        let (entry, others) = rest.split_at_checked(length).ok_or("reaches beyond the table")?;
        let (asks, target) = entry.split_at_checked(target).ok_or("has its target beyond its end")?;
        let size = u16_at(target, 0).map(usize::from).filter(|size| *size >= HEAD);
        let target = size.and_then(|size| target.get(..size)).ok_or("has a target of a size that can't be")?;
        let end = u32::try_from(length).ok().and_then(|length| at.checked_add(length)).ok_or("is beyond 4 GiB")?;
        Ok((Entry { family, at, end, asks, target }, others))
    }

    pub(super) fn fault(&self, why: &'static str) -> Fault {
        Fault::Entry { at: self.at, why }
    }

    pub(super) fn twice(&self) -> Fault {
        self.fault("begins a chain that is there")
    }

    /// Whether its target is `ERROR`: it begins a chain or ends the table.
    fn is_head(&self) -> bool {
        self.target.get(2..8) == Some(b"ERROR\0")
    }

    /// The name of the chain that begins after it.
    pub(super) fn head(&self) -> Result<Option<Cow<'a, str>>, Fault> {
        if !self.is_head() {
            return Ok(None);
        }
        // struct xt_error_target: the name may have 30 bytes.
        let name = self.target.get(HEAD..62).and_then(text).ok_or_else(|| self.fault("has a name without an end"))?;
        // No program writes others, but nothing hinders it.
        Ok(Some(std::str::from_utf8(name).map_or_else(|_| name.escape_ascii().to_string().into(), Cow::Borrowed)))
    }

    pub(super) fn target(&self) -> Result<Extension<'a>, Fault> {
        extension(self.target).ok_or_else(|| self.fault("has a target without a name"))
    }

    pub(super) fn matches(&self) -> impl Iterator<Item = Result<Extension<'a>, Fault>> {
        let mut rest = self.asks.get(header(self.family)..).unwrap_or_default();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let size = u16_at(rest, 0).map(usize::from).filter(|size| *size >= HEAD);
            let split = size.and_then(|size| rest.split_at_checked(size));
            let found = split.and_then(|(one, others)| Some((extension(one)?, others)));
            rest = found.as_ref().map_or(&[], |(_, others)| others);
            Some(found.map(|(one, _)| one).ok_or_else(|| self.fault("has a match that can't be")))
        })
    }

    /// Where among the entries the texts of its comments are.
    pub(super) fn comments(&self) -> impl Iterator<Item = Range<usize>> {
        let mut end = usize::try_from(self.at).unwrap_or(usize::MAX).saturating_add(header(self.family));
        self.matches().map_while(Result::ok).filter_map(move |one| {
            let start = end.saturating_add(HEAD);
            end = start.saturating_add(one.data.len());
            (one.name == b"comment").then_some(start..end)
        })
    }

    /// Whether it goes to another chain without coming back.
    pub(super) fn is_goto(&self) -> bool {
        match self.family {
            Family::Ip => self.byte(82) & V4_GOTO != 0,
            Family::Ip6 => self.byte(131) & V6_GOTO != 0,
        }
    }

    /// `struct ipt_ip` or `struct ip6t_ip6`: addresses, masks of addresses, interfaces, masks of interfaces, protocol, flags.
    pub(super) fn asked(&self) -> Asked {
        let is_zero = |from, to| self.asks.get(from..to).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
        // Protocols have two bytes there, and no number above 255 matches anything.
        let protocol = |at| u16_at(self.asks, at).and_then(|number| u8::try_from(number).ok()).unwrap_or_default();
        let (asks_nothing, protocol, inverted, destination) = match self.family {
            Family::Ip => {
                let asks_nothing = is_zero(8, 16) && is_zero(48, 80) && self.byte(82) & V4_FRAG == 0;
                let [to, mask] = [self.array::<4>(4), self.array::<4>(12)];
                let destination = (mask == [0xff; 4]).then(|| Ipv4Addr::from(to).into());
                (asks_nothing, protocol(80), self.byte(83), destination)
            }
            Family::Ip6 => {
                let asks_nothing = is_zero(32, 64) && is_zero(96, 128) && self.byte(131) & V6_TOS == 0;
                let [to, mask] = [self.array::<16>(16), self.array::<16>(48)];
                let destination = (mask == [0xff; 16]).then(|| Ipv6Addr::from(to).into());
                let protocol = if self.byte(131) & V6_PROTO != 0 { protocol(128) } else { 0 };
                (asks_nothing, protocol, self.byte(132), destination)
            }
        };
        Asked {
            is_nothing: asks_nothing && inverted == 0,
            protocol: if inverted & NOT_PROTOCOL == 0 { protocol } else { 0 },
            destination: destination.filter(|_| inverted & NOT_DESTINATION == 0),
        }
    }

    fn byte(&self, at: usize) -> u8 {
        self.asks.get(at).copied().unwrap_or_default()
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.asks.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
    }
}

/// The size of `struct ipt_entry` and `struct ip6t_entry`.
fn header(family: Family) -> usize {
    match family {
        Family::Ip => 112,
        Family::Ip6 => 168,
    }
}

fn extension(bytes: &[u8]) -> Option<Extension<'_>> {
    let (head, data) = bytes.split_at_checked(HEAD)?;
    Some(Extension { name: text(head.get(2..31)?)?, revision: *head.get(31)?, data })
}

/// What stands before the zero byte.
fn text(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.get(..end)
}
