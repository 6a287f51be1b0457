//! How much there was not long ago. Deleting a namespace is legal: less is told, and then forgotten.

use std::time::Duration;

use crate::dataplane::family_name;
use crate::dataplane::kube::Set;
use crate::history::{Past, Trace};
use crate::host::Moment;
use crate::host::clock::spoken;
use crate::parse::ruleset::Family;

/// The notes, by family: the numbers of then; that there is less now.
const BASE: &str = "base ";
const LESS: &str = "less ";
/// For so long a drop is told.
const TOLD: Duration = Duration::from_secs(3600);
/// Smaller changes are not noted down, and of fewer than so many nothing is concluded.
const SLACK: f64 = 5.0;
const FEWEST: usize = 10;
const WHAT: [&str; 3] = ["Services", "endpoints", "rules"];

/// The numbers that a family is measured by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Base {
    numbers: [usize; 3],
    pub drop: Option<Drop>,
}

/// That there is less than there was.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drop {
    family: Family,
    /// In per cent, of the number that fell most.
    pub part: f64,
    what: &'static str,
    from: usize,
    to: usize,
    since: Moment,
}

impl Base {
    /// What the look before left of it.
    pub(super) fn before(past: &Past, family: Family) -> Option<Base> {
        let note = past.note(&format!("{BASE}{}", family_name(family)))?;
        Some(Base { numbers: parse(&note.value)?, drop: None })
    }

    /// What a look leaves of it. A set that is broken is not measured.
    pub(super) fn after(past: &Past, family: Family, set: &Set, is_whole: bool, now: &Moment) -> Option<Base> {
        let seen = [set.services, set.endpoints, set.entries];
        let name = family_name(family);
        let before = Base::before(past, family);
        if !is_whole {
            return before;
        }
        let Some(before) = before else { return Some(Base { numbers: seen, drop: None }) };
        let numbers = before.numbers;
        let drops = numbers.into_iter().zip(seen).zip(WHAT).filter(|((from, _), _)| *from >= FEWEST);
        let drops = drops.map(|((from, to), what)| (part(from, to), what, from, to));
        let worst = drops.max_by(|(a, ..), (b, ..)| a.total_cmp(b)).filter(|(part, ..)| *part > SLACK);
        let Some((part, what, from, to)) = worst else {
            let grew = numbers.into_iter().zip(seen).any(|(from, to)| part(to, from) > SLACK);
            return Some(Base { numbers: if grew { seen } else { numbers }, drop: None });
        };
        let since = past.note(&format!("{LESS}{name}")).map_or_else(|| now.clone(), |note| note.first.clone());
        if now.since(&since) >= TOLD {
            return Some(Base { numbers: seen, drop: None });
        }
        Some(Base { numbers, drop: Some(Drop { family, part, what, from, to, since }) })
    }
}

impl Drop {
    pub(super) fn said(&self, now: &Moment) -> String {
        let Drop { family, part, what, from, to, since } = self;
        let (family, ago) = (family_name(*family), spoken(now.since(since)));
        format!("{family}: {what} fell by {part:.0} %, from {from} to {to}, {ago} ago; told for an hour (B1)")
    }
}

/// What is to be remembered.
pub(super) fn trace(bases: &[(Family, Base)], trace: Trace) -> Trace {
    let name = |family: &Family| family_name(*family).to_owned();
    let text = |base: &Base| base.numbers.map(|number| number.to_string()).join(" ");
    let less = bases.iter().filter(|(_, base)| base.drop.is_some());
    trace
        .group(BASE, bases.iter().map(|(family, base)| (name(family), text(base))))
        .group(LESS, less.map(|(family, _)| (name(family), String::new())))
}

/// How much of `from` is not in `to`, in per cent.
fn part(from: usize, to: usize) -> f64 {
    if from <= to { 0.0 } else { 100.0 * (from - to) as f64 / from as f64 }
}

fn parse(text: &str) -> Option<[usize; 3]> {
    let numbers: Vec<usize> = text.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}
