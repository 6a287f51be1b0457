//! The chains of a table, in a few long lists: names one after another, and rules, and which chain has which of them.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use super::{ChainId, Hook, Policy, Rule};

/// A chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain<'a> {
    name: &'a str,
    /// Where it is called, if it is a base chain.
    pub hook: Option<Hook>,
    /// Whether it is there, and was not only jumped to.
    pub is_there: bool,
    /// Its policy, if it is a base chain. It is none of the [`rules`](Chain::rules).
    pub policy: Option<Policy>,
    rules: &'a [Rule],
}

impl<'a> Chain<'a> {
    /// Its name.
    pub fn name(self) -> &'a str {
        self.name
    }

    /// Its rules, in order.
    pub fn rules(self) -> &'a [Rule] {
        self.rules
    }
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Chains {
    kept: Vec<Kept>,
    names: String,
    rules: Vec<Rule>,
    /// Which chain has a name: numbers of chains, each at the first free place from where the hash of its name leads. A power
    /// of two, and at most half of them used; or none.
    slots: Vec<u32>,
    hasher: RandomState,
}

/// What is kept of a chain.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    name: Range<u32>,
    rules: Range<u32>,
    /// The end of what it may fill without moving.
    room: u32,
    pub hook: Option<Hook>,
    pub is_there: bool,
    pub policy: Option<Policy>,
}

/// No chain has this number.
const FREE: u32 = u32::MAX;

impl Chains {
    pub(super) fn reserve(&mut self, chains: usize, rules: usize) {
        self.kept.reserve_exact(chains);
        self.rules.reserve_exact(rules);
    }

    pub(super) fn find(&self, name: &str) -> Option<ChainId> {
        let number = |place: usize| self.slots.get(place).copied().filter(|number| *number != FREE);
        let mut used = self.places(name).map_while(number).map(ChainId);
        used.find(|id| self.name(*id) == Some(name))
    }

    /// Adds a chain whose name none of the others has. `None` where there are too many.
    pub(super) fn add(&mut self, name: &str) -> Option<ChainId> {
        let number = u32::try_from(self.kept.len()).ok().filter(|number| *number != FREE)?;
        let start = u32::try_from(self.names.len()).ok()?;
        let end = start.checked_add(u32::try_from(name.len()).ok()?)?;
        self.names.push_str(name);
        self.kept.push(Kept { name: start..end, rules: 0..0, room: 0, hook: None, is_there: false, policy: None });
        self.enter(number);
        Some(ChainId(number))
    }

    pub(super) fn get(&self, id: ChainId) -> Option<Chain<'_>> {
        let Kept { rules, hook, is_there, policy, .. } = self.kept.get(id.place())?;
        let rules = self.rules.get(places(rules)).unwrap_or_default();
        Some(Chain { name: self.name(id)?, hook: *hook, is_there: *is_there, policy: *policy, rules })
    }

    pub(super) fn get_mut(&mut self, id: ChainId) -> Option<&mut Kept> {
        self.kept.get_mut(id.place())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (ChainId, Chain<'_>)> {
        let ids = (0..).map(ChainId).take(self.kept.len());
        ids.filter_map(|id| Some((id, self.get(id)?)))
    }

    /// Adds a rule at the end of a chain. The kernel tells one chain after another: where the rules of another one came
    /// meanwhile, those of this one are put behind them, and what they leave is not used any more.
    pub(super) fn push(&mut self, id: ChainId, rule: Rule) {
        let Some(kept) = self.kept.get_mut(id.place()) else { return };
        let rules = places(&kept.rules);
        let room = self.rules.get_mut(rules.end..place(kept.room));
        if let Some(free) = room.and_then(<[Rule]>::first_mut) {
            *free = rule;
            kept.rules.end = number(rules.end.saturating_add(1));
            return;
        }
        if rules.end == self.rules.len() {
            self.rules.push(rule);
            kept.rules.end = number(self.rules.len());
        } else {
            let start = number(self.rules.len());
            self.rules.extend_from_within(rules.clone());
            self.rules.push(rule);
            kept.rules = start..number(self.rules.len());
            // Room for as many: who is put behind others again and again moves seldom.
            self.rules.extend_from_within(rules);
        }
        kept.room = number(self.rules.len());
    }

    /// A rule of a chain, by its number there.
    pub(super) fn rule_mut(&mut self, id: ChainId, number: u32) -> Option<&mut Rule> {
        let rules = places(&self.kept.get(id.place())?.rules);
        self.rules.get_mut(rules)?.get_mut(usize::try_from(number).ok()?)
    }

    fn name(&self, id: ChainId) -> Option<&str> {
        self.names.get(places(&self.kept.get(id.place())?.name))
    }

    /// Makes the name of the newest chain known.
    fn enter(&mut self, number: u32) {
        let needed = self.kept.len().saturating_mul(2);
        if needed <= self.slots.len() {
            return self.put(number);
        }
        self.slots = vec![FREE; needed.next_power_of_two().max(16)];
        for known in 0..=number {
            self.put(known);
        }
    }

    fn put(&mut self, number: u32) {
        let Some(name) = self.name(ChainId(number)) else { return };
        let free = self.places(name).find(|place| self.slots.get(*place) == Some(&FREE));
        if let Some(slot) = free.and_then(|place| self.slots.get_mut(place)) {
            *slot = number;
        }
    }

    /// All places for a name, from that of its hash on.
    fn places(&self, name: &str) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len().saturating_sub(1);
        // Half of it is more than there are places.
        let hash = self.hasher.hash_one(name) & u64::from(u32::MAX);
        let first = usize::try_from(hash).unwrap_or_default();
        (0..self.slots.len()).map(move |step| first.wrapping_add(step) & mask)
    }
}

impl PartialEq for Chains {
    fn eq(&self, other: &Chains) -> bool {
        self.all().eq(other.all())
    }
}

impl Eq for Chains {}

fn places(range: &Range<u32>) -> Range<usize> {
    place(range.start)..place(range.end)
}

fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// No memory has room for more.
fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
