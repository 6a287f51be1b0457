//! Tables of legacy x_tables, as the kernel hands them out: `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`, and the same of
//! IPv6 (`uapi/linux/netfilter_ipv4/ip_tables.h`, `netfilter_ipv6/ip6_tables.h`, `netfilter/x_tables.h`), by the layout of
//! a 64-bit program.
//!
//! A table is one run of entries. The base chains come first; where each begins and where its policy stands is told beside
//! it. Then the other chains: an entry with the target `ERROR` that bears the name, the rules, and a RETURN that nobody wrote.
//! A last `ERROR` ends the table. A jump names the place of the first entry after that with the name.
//!
//! The policy and that RETURN are entries to the kernel and no rules here, as they are none to `iptables -S`.

mod entry;
mod rule;

use super::ruleset::{Action, ChainId, Family, Hook, Ruleset};
use rule::{Does, Told};

/// `struct ipt_getinfo`.
pub const INFO: usize = 84;
/// `struct ipt_get_entries` up to the entries.
pub const HEADER: usize = 40;
/// `XT_TABLE_MAXNAMELEN`.
pub const LONGEST_NAME: usize = 32;
/// By number (`NF_INET_PRE_ROUTING` and so on), with the chain's name.
const HOOKS: [(Hook, &str); 5] = [
    (Hook::Prerouting, "PREROUTING"),
    (Hook::Input, "INPUT"),
    (Hook::Forward, "FORWARD"),
    (Hook::Output, "OUTPUT"),
    (Hook::Postrouting, "POSTROUTING"),
];

/// Why a table can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not as long as it should be.
    #[error("{have} bytes instead of {want}")]
    Length {
        /// What there is.
        have: usize,
        /// What there should be.
        want: usize,
    },
    /// What is said of the table is another table's.
    #[error("the entries are of another table")]
    OtherTable,
    /// An entry is not as the kernel writes it.
    #[error("entry at {at}: {why}")]
    Entry {
        /// Its place among the entries.
        at: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A base chain is not where it should be.
    #[error("{chain}: {why}")]
    Base {
        /// Its name.
        chain: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The number of entries is another one.
    #[error("{have} entries instead of {want}")]
    Count {
        /// What there are.
        have: u32,
        /// What there should be.
        want: u32,
    },
}

/// What the kernel tells of a table beside its entries: `struct ipt_getinfo`, `struct ip6t_getinfo`.
///
/// Two that are equal can be of different rules: that one rule took the place of another of the same size shows in the entries
/// only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Of the table.
    name: [u8; LONGEST_NAME],
    /// A bit for each base chain that there is.
    valid_hooks: u32,
    /// Where each base chain begins.
    hook_entry: [u32; 5],
    /// Where the policy of each stands.
    underflow: [u32; 5],
    /// How many entries there are: rules, policies, two for every other chain, and one for the end.
    pub entries: u32,
    /// Bytes in them.
    pub size: u32,
}

impl Info {
    /// Whether it is of the table of this name.
    pub fn is_of(&self, other: &Info) -> bool {
        self.name == other.name
    }

    /// Reads it; more bytes than it has are ignored.
    pub fn parse(bytes: &[u8]) -> Result<Info, Fault> {
        let length = || Fault::Length { have: bytes.len(), want: INFO };
        let numbers = bytes.get(LONGEST_NAME..INFO).ok_or_else(length)?.as_chunks::<4>().0;
        let name = *bytes.first_chunk().ok_or_else(length)?;
        let mut numbers = numbers.iter().map(|bytes| u32::from_ne_bytes(*bytes));
        let mut next = || numbers.next().unwrap_or_default();
        let valid_hooks = next();
        let hook_entry = std::array::from_fn(|_| next());
        let underflow = std::array::from_fn(|_| next());
        Ok(Info { name, valid_hooks, hook_entry, underflow, entries: next(), size: next() })
    }

    /// The base chains that there are, with where each begins and where its policy stands.
    fn hooks(&self) -> impl Iterator<Item = (Hook, &'static str, u32, u32)> {
        let bits = (0..5).map(|number: u32| self.valid_hooks.checked_shr(number).unwrap_or_default() & 1 == 1);
        let places = self.hook_entry.iter().zip(&self.underflow);
        let all = bits.zip(HOOKS).zip(places);
        all.filter_map(|((is_there, (hook, name)), (first, last))| is_there.then_some((hook, name, *first, *last)))
    }

    /// Whether a base chain has no rule. `None` where there is no such chain.
    pub fn is_empty(&self, hook: Hook) -> Option<bool> {
        let (.., first, last) = self.hooks().find(|(known, ..)| *known == hook)?;
        Some(first == last)
    }
}

/// What precedes the entries: `struct ipt_get_entries`. It is also what asks for them.
pub fn header(name: &[u8; LONGEST_NAME], size: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    for (to, from) in header.iter_mut().zip(name.iter().chain(&size.to_ne_bytes())) {
        *to = *from;
    }
    header
}

/// Reads a table: what `IPT_SO_GET_ENTRIES` (or `IP6T_SO_GET_ENTRIES`) gave, with its header.
///
/// It takes a few MB where there are 10,000 services, whose entries are 40 MB.
pub fn table(family: Family, info: &Info, bytes: &[u8]) -> Result<Ruleset, Fault> {
    let entries = entries_of(info, bytes)?;
    // A chain has two entries at least, and the smallest one has 152 bytes.
    let most = entries.len().div_ceil(152);
    let most_chains = most.div_ceil(2);
    let mut table =
        Table { rules: Ruleset::default(), starts: Vec::with_capacity(most_chains), jumps: Vec::with_capacity(most) };
    table.rules.reserve(most_chains, most);
    table.fill(family, info, entries)?;
    table.land()?;
    Ok(table.rules)
}

/// What follows the header, if that is of this table.
fn entries_of<'a>(info: &Info, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
    let size = usize::try_from(info.size).unwrap_or(usize::MAX);
    let length = || Fault::Length { have: bytes.len(), want: size.saturating_add(HEADER) };
    let (head, entries) = bytes.split_first_chunk::<HEADER>().ok_or_else(length)?;
    if entries.len() != size {
        return Err(length());
    }
    if *head != header(&info.name, info.size) {
        return Err(Fault::OtherTable);
    }
    Ok(entries)
}

struct Table {
    rules: Ruleset,
    /// Where the chains begin, in order.
    starts: Vec<(u32, ChainId)>,
    /// All jumps: most lead to chains that come later.
    jumps: Vec<Jump>,
}

/// A rule that still lacks its action.
struct Jump {
    chain: ChainId,
    number: u32,
    at: u32,
    to: u32,
    is_goto: bool,
}

/// The chain that is being read.
#[derive(Clone, Copy)]
enum Inside {
    None,
    /// A base chain, and where its policy stands.
    Base(ChainId, u32),
    Other(ChainId),
}

impl Table {
    /// Reads the entries in order.
    fn fill(&mut self, family: Family, info: &Info, bytes: &[u8]) -> Result<(), Fault> {
        let mut hooks: Vec<_> = info.hooks().collect();
        hooks.sort_by_key(|(.., first, _)| *first);
        let mut hooks = hooks.into_iter().peekable();
        let (mut count, mut ends) = (0_u32, false);
        let mut inside = Inside::None;
        // The last one of a chain that is no base chain is nobody's.
        let mut held: Option<Told> = None;
        for entry in entry::entries(family, bytes) {
            let entry = entry?;
            count = count.saturating_add(1);
            if let Some((hook, name, first, policy)) = hooks.next_if(|(.., first, _)| *first == entry.at) {
                if !matches!(inside, Inside::None) {
                    return Err(entry.fault("is of two chains"));
                }
                inside = Inside::Base(self.begin(name, Some(hook), first).ok_or_else(|| entry.twice())?, policy);
            }
            if let Some(name) = entry.head()? {
                match (inside, held.take()) {
                    (Inside::Base(..), _) => return Err(entry.fault("is where a policy should have come")),
                    (Inside::Other(id), Some(rule)) if !rule.is_end_of_chain() => self.push(id, rule),
                    _ => {}
                }
                ends = entry.end == info.size;
                if !ends {
                    inside = Inside::Other(self.begin(&name, None, entry.end).ok_or_else(|| entry.twice())?);
                }
                continue;
            }
            let rule = Told::of(&entry)?;
            match inside {
                Inside::Base(id, policy) if policy == entry.at => {
                    self.rules.set_policy(id, rule.policy().ok_or_else(|| entry.fault("is no policy"))?);
                    inside = Inside::None;
                }
                Inside::Base(id, _) => self.push(id, rule),
                Inside::Other(id) => {
                    if let Some(before) = held.replace(rule) {
                        self.push(id, before);
                    }
                }
                Inside::None => return Err(entry.fault("belongs to no chain")),
            }
        }
        match hooks.next() {
            Some((_, chain, ..)) => Err(Fault::Base { chain, why: "does not begin where an entry does" }),
            None if count != info.entries => Err(Fault::Count { have: count, want: info.entries }),
            None if !ends => Err(Fault::Entry { at: info.size, why: "is not the end of the table" }),
            None => Ok(()),
        }
    }

    /// `None` where there is one of that name.
    fn begin(&mut self, name: &str, hook: Option<Hook>, first: u32) -> Option<ChainId> {
        let id = self.rules.define(name, hook)?;
        // A new one has a higher number than all before.
        if self.starts.last().is_some_and(|(_, last)| *last >= id) {
            return None;
        }
        self.starts.push((first, id));
        Some(id)
    }

    fn push(&mut self, chain: ChainId, rule: Told) {
        let action = match rule.does {
            Does::Action(action) => action,
            Does::Dnat(to) => self.rules.endpoint(to).map_or(Action::Other, Action::Dnat),
            Does::Jump { to, is_goto } => {
                let number = self.rules.get(chain).and_then(|chain| u32::try_from(chain.rules().len()).ok());
                self.jumps.extend(number.map(|number| Jump { chain, number, at: rule.at, to, is_goto }));
                Action::Other
            }
        };
        self.rules.push(chain, action, (rule.is_unconditional, rule.protocol), rule.destination);
    }

    /// Gives the jumps the chains that begin where they lead.
    fn land(&mut self) -> Result<(), Fault> {
        for jump in &self.jumps {
            let start = self.starts.binary_search_by_key(&jump.to, |(start, _)| *start).ok();
            let (_, to) = start
                .and_then(|number| self.starts.get(number))
                .ok_or(Fault::Entry { at: jump.at, why: "jumps to where no chain begins" })?;
            let action = if jump.is_goto { Action::Goto(*to) } else { Action::Jump(*to) };
            self.rules.set_action(jump.chain, jump.number, action);
        }
        Ok(())
    }
}

/// A recording of a table: its `ipt_getinfo` and its `ipt_get_entries`, one after the other.
pub fn recorded(bytes: &[u8]) -> Result<(Info, &[u8]), Fault> {
    let info = Info::parse(bytes)?;
    let entries = bytes.get(INFO..).unwrap_or_default();
    Ok((info, entries))
}

/// A recording without the texts of comments: no rule means another thing for them, and they name what runs on the node.
pub fn without_comments(family: Family, recording: &[u8]) -> Vec<u8> {
    let mut kept = recording.to_vec();
    let begin = INFO.saturating_add(HEADER);
    for entry in entry::entries(family, recording.get(begin..).unwrap_or_default()).map_while(Result::ok) {
        for comment in entry.comments() {
            let place = comment.start.saturating_add(begin)..comment.end.saturating_add(begin);
            kept.get_mut(place).unwrap_or_default().fill(0);
        }
    }
    kept
}

/// What must hold for any bytes, taken for a recording: no panic, and no rule that leads nowhere.
pub fn fuzz(data: &[u8]) {
    let Ok((info, bytes)) = recorded(data) else { return };
    for family in [Family::Ip, Family::Ip6] {
        let blank = without_comments(family, data);
        let again = recorded(&blank).and_then(|(info, bytes)| table(family, &info, bytes));
        let rules = table(family, &info, bytes);
        assert_eq!(again, rules);
        let Ok(rules) = rules else { continue };
        let mut count: usize = 0;
        for (id, chain) in rules.chains() {
            assert_eq!(rules.find(chain.name()), Some(id));
            assert_eq!(chain.hook.is_some(), chain.policy.is_some());
            count = count.saturating_add(chain.rules().len());
            for rule in chain.rules() {
                assert_eq!(rules.target(rule).is_some(), matches!(rule.action, Action::Dnat(_)));
                if let Action::Jump(to) | Action::Goto(to) = rule.action {
                    assert!(rules.get(to).is_some_and(|chain| chain.is_there));
                }
            }
        }
        assert!(u32::try_from(count).is_ok_and(|count| count < info.entries));
    }
}

#[cfg(test)]
mod tests;
