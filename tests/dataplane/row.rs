//! A row of a table: a way to break a node, and what is said of it then.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use nodecheck::parse::ruleset::Family;

use crate::generate::Cluster;
use crate::node::{At, Backend};

pub const OK: i32 = 0;
pub const WARNING: i32 = 1;
pub const CRITICAL: i32 = 2;
pub const UNKNOWN: i32 = 3;

/// Backends and families that a row is tried with.
pub type Sides = &'static [(Backend, Family)];
pub const BOTH: Sides = &[(Backend::Legacy, Family::Ip), (Backend::Nft, Family::Ip)];
pub const ALL: Sides = &[
    (Backend::Legacy, Family::Ip),
    (Backend::Nft, Family::Ip),
    (Backend::Legacy, Family::Ip6),
    (Backend::Nft, Family::Ip6),
];
/// For what has no legacy form.
pub const NFT: Sides = &[(Backend::Nft, Family::Ip)];
pub const NFT_BOTH: Sides = &[(Backend::Nft, Family::Ip), (Backend::Nft, Family::Ip6)];

/// Looks of many rows wait for a second look at a time.
const AT_ONCE: usize = 24;

/// What a check must say.
#[derive(Debug, Clone)]
pub struct Look {
    check: &'static str,
    state: i32,
    /// Codes that must be told, of `A|B` one at least.
    must: &'static str,
    /// Codes that may be told besides; no others.
    may: &'static str,
    says: &'static str,
}

impl Look {
    /// What may follow from the fault, too. A whole set that is missing hides all that it had, so how much of that is told
    /// is not for these tables to say.
    pub fn may(self, may: &'static str) -> Look {
        Look { may, ..self }
    }

    /// Words that its output has.
    pub fn says(self, says: &'static str) -> Look {
        Look { says, ..self }
    }
}

fn look(check: &'static str, state: i32, must: &'static str) -> Look {
    Look { check, state, must, may: "", says: "" }
}

pub fn kube(state: i32, must: &'static str) -> Look {
    look("kube-nat", state, must)
}

pub fn calico(state: i32, must: &'static str) -> Look {
    look("calico-nat", state, must)
}

/// Both checks find nothing.
pub fn fine() -> [Look; 2] {
    [kube(OK, ""), calico(OK, "")]
}

type Step = Box<dyn Fn(&At) + Send + Sync>;

pub struct Row {
    name: &'static str,
    on: Sides,
    whole: Step,
    broken: Option<Step>,
    looks: Vec<Look>,
    /// What is said of the broken node by who never saw it whole, where it is not the same.
    first: Option<Vec<Look>>,
}

/// A node that is whole, then broken so, then repaired. Both looks are taken on it with a past; and without one, where the
/// same must be found.
pub fn row(name: &'static str, broken: impl Fn(&At) + Send + Sync + 'static, looks: [Look; 2]) -> Row {
    let whole = |at: &At| at.load(&plain(at));
    let broken: Step = Box::new(broken);
    Row { name, on: BOTH, whole: Box::new(whole), broken: Some(broken), looks: looks.to_vec(), first: None }
}

/// A script of [`At::sh`] breaks it.
pub fn script(name: &'static str, broken: &'static str, looks: [Look; 2]) -> Row {
    row(name, move |at| at.sh(broken), looks)
}

/// A node on which nothing is wrong.
pub fn quiet(name: &'static str, whole: impl Fn(&At) + Send + Sync + 'static) -> Row {
    Row { name, on: BOTH, whole: Box::new(whole), broken: None, looks: fine().to_vec(), first: None }
}

impl Row {
    pub fn on(self, on: Sides) -> Row {
        Row { on, ..self }
    }

    /// Another node than [`plain`].
    pub fn whole(self, whole: impl Fn(&At) + Send + Sync + 'static) -> Row {
        Row { whole: Box::new(whole), ..self }
    }

    /// What a first look finds, where it is not the same.
    pub fn first(self, first: impl IntoIterator<Item = Look>) -> Row {
        Row { first: Some(first.into_iter().collect()), ..self }
    }

    /// Calico's check isn't asked.
    pub fn kube_only(mut self) -> Row {
        self.looks.retain(|look| look.check == "kube-nat");
        self
    }

    /// Only who saw it whole can tell, or the definition leaves open what others tell.
    pub fn remembered(self) -> Row {
        self.first([])
    }
}

/// A node of twenty services.
pub fn plain(at: &At) -> Cluster {
    Cluster::new(at.family, 20, 3)
}

/// Runs the rows, many at once, and tells of all that fail.
pub fn run(rows: Vec<Row>) {
    let words = std::env::var("NODECHECK_ROWS").unwrap_or_default();
    let sides = |row: &Row| row.on.to_vec();
    let jobs: VecDeque<(&Row, (Backend, Family))> = rows
        .iter()
        .filter(|row| row.name.contains(&words))
        .flat_map(|row| sides(row).into_iter().map(move |side| (row, side)))
        .collect();
    let (count, jobs, failed) = (jobs.len(), Mutex::new(jobs), Mutex::new(Vec::new()));
    let next = || jobs.lock().unwrap().pop_front();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((row, (backend, family))) = next() {
                    let name = format!("{} ({backend:?}, {family:?})", row.name);
                    let faults = catch_unwind(AssertUnwindSafe(|| row.run(&At::new(backend, family))));
                    let faults = faults.unwrap_or_else(|_| vec!["  it panicked, see above\n".to_owned()]);
                    if !faults.is_empty() {
                        failed.lock().unwrap().push(format!("{name}\n{}", faults.concat()));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("{count} rows");
    assert!(failed.is_empty(), "{} of {count} rows:\n\n{}", failed.len(), failed.join("\n"));
}

impl Row {
    fn run(&self, at: &At) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |stage: &str, look: &Look, answer: (i32, String)| {
            faults.extend(fault(look, &answer).map(|why| format!("  {stage}: {why}\n{}\n", indented(&answer.1))));
        };
        (self.whole)(at);
        let fine: Vec<Look> = fine().into_iter().filter(|look| self.asks(look.check)).collect();
        for look in &fine {
            expect("whole", look, at.look(look.check, "past"));
        }
        if let Some(broken) = &self.broken {
            broken(at);
            for look in &self.looks {
                expect("broken", look, at.look(look.check, "past"));
            }
        }
        // Who has nothing to find is not asked again and again.
        let is_worth = |look: &&Look| self.broken.is_none() || look.state != OK || !look.must.is_empty();
        let same = || self.looks.iter().filter(is_worth).cloned().collect();
        for look in self.first.clone().unwrap_or_else(same) {
            expect("first look", &look, at.first_look(look.check, "no-past"));
        }
        if self.broken.is_some() {
            at.clear();
            (self.whole)(at);
        }
        for look in
            self.looks.iter().filter(is_worth).flat_map(|look| fine.iter().find(|fine| fine.check == look.check))
        {
            expect("whole again", look, at.look(look.check, "past"));
        }
        faults
    }

    fn asks(&self, check: &str) -> bool {
        self.looks.iter().any(|look| look.check == check)
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// What is wrong with an answer.
fn fault(look: &Look, (code, text): &(i32, String)) -> Option<String> {
    let told = codes(text);
    let words = |list: &'static str| list.split(' ').filter(|word| !word.is_empty());
    let missing = words(look.must).find(|any| !any.split('|').any(|code| told.contains(code)));
    let known: Vec<&str> = words(look.must).flat_map(|any| any.split('|')).chain(words(look.may)).collect();
    let unasked = told.iter().find(|code| !known.contains(&code.as_str()));
    if *code != look.state {
        Some(format!("{} is {code}, not {}", look.check, look.state))
    } else if let Some(code) = missing {
        Some(format!("{} has no {code}", look.check))
    } else if let Some(code) = unasked {
        Some(format!("{} has {code}", look.check))
    } else {
        (!text.contains(look.says)).then(|| format!("{} does not say {:?}", look.check, look.says))
    }
}

/// The codes in a text: a letter and a number in parentheses.
fn codes(text: &str) -> BTreeSet<String> {
    let inner = text.split('(').skip(1).filter_map(|rest| rest.split_once(')')).map(|(inner, _)| inner);
    let is_code = |inner: &&str| {
        let number = inner.strip_prefix(['K', 'C', 'S', 'B']);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    inner.filter(is_code).map(str::to_owned).collect()
}

#[test]
fn codes_are_found() {
    let told = codes("CRITICAL - kube-nat: no jump (ip, nft) (K2); again (K12)\n(K) (K2x) (X1)");
    assert_eq!(told, BTreeSet::from(["K2".to_owned(), "K12".to_owned()]));
}
