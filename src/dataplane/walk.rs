//! The ways of a packet through the chains of a table.

use std::collections::BTreeSet;
use std::fmt;

use crate::parse::nftables::Contents;
use crate::parse::ruleset::{Action, Chain, ChainId, Endpoint, Hook, Rule, Ruleset};

/// kube-proxy's longest way has five chains; a way that is longer leads nowhere that matters.
const DEEPEST: usize = 16;

/// A table whose ways are followed.
pub struct Walk<'a> {
    /// Its chains.
    pub rules: &'a Ruleset,
    contents: Option<&'a Contents>,
    /// Of each chain by its place; those at the end may be missing.
    known: Vec<Known>,
}

/// Whether a DNAT is reached from a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    /// That is being found out: a circle ends here.
    Begun,
    Reached(bool),
}

/// What stands in a base chain for a jump to another chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// The base chain.
    pub from: &'static str,
    /// The chain that it should lead to.
    pub to: &'static str,
    /// How often it does, for every packet.
    pub count: usize,
    /// Whether it does for some packets only.
    pub is_for_some: bool,
    /// What ends every packet before: `ACCEPT`, for instance.
    pub ended_by: Option<String>,
}

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

impl Jump {
    /// Whether every packet gets there.
    pub fn works(&self) -> bool {
        self.count > 0 && self.ended_by.is_none()
    }

    /// How often it is there beyond once.
    pub fn repeats(&self) -> usize {
        self.count.saturating_sub(1)
    }
}

impl<'a> Walk<'a> {
    /// A table of x_tables, or one of nf_tables without maps.
    pub fn new(rules: &'a Ruleset) -> Walk<'a> {
        Walk { rules, contents: None, known: Vec::new() }
    }

    /// A table of nf_tables.
    pub fn with_maps(contents: &'a Contents) -> Walk<'a> {
        Walk { contents: Some(contents), ..Walk::new(&contents.rules) }
    }

    /// The chain of this name.
    pub fn chain(&self, name: &str) -> Option<Chain<'a>> {
        self.rules.get(self.rules.find(name)?)
    }

    /// The chains that a rule leads to.
    pub fn ways(&self, rule: &Rule) -> impl Iterator<Item = ChainId> + use<'a> {
        let (one, many) = match rule.action {
            Action::Jump(to) | Action::Goto(to) => (Some(to), None),
            Action::Vmap(number) => (None, self.contents.and_then(|contents| contents.map(number))),
            _ => (None, None),
        };
        let elements = many.into_iter().flat_map(|map| &map.elements).filter_map(|element| match element.action {
            Action::Jump(to) | Action::Goto(to) => Some(to),
            _ => None,
        });
        one.into_iter().chain(elements)
    }

    /// Whether a packet in this chain may get another destination.
    pub fn reaches_dnat(&mut self, chain: ChainId) -> bool {
        self.is_dnat_within(chain, DEEPEST)
    }

    fn is_dnat_within(&mut self, id: ChainId, depth: usize) -> bool {
        match self.known(id) {
            Known::Nothing => {}
            Known::Begun => return false,
            Known::Reached(is_dnat) => return is_dnat,
        }
        let (Some(chain), Some(depth)) = (self.rules.get(id), depth.checked_sub(1)) else { return false };
        self.learn(id, Known::Begun);
        let mut found = false;
        for rule in chain.rules() {
            let is_end = matches!(rule.action, Action::Dnat(_));
            // All of them are followed: they are counted.
            for to in self.ways(rule) {
                found |= self.is_dnat_within(to, depth);
            }
            found |= is_end;
            if is_for_all(rule) && ends(rule.action).is_some() {
                break;
            }
        }
        self.learn(id, Known::Reached(found));
        found
    }

    fn known(&self, id: ChainId) -> Known {
        self.known.get(id.place()).copied().unwrap_or(Known::Nothing)
    }

    /// `id` must be that of a chain.
    fn learn(&mut self, id: ChainId, known: Known) {
        if self.known.len() <= id.place() {
            self.known.resize(id.place().saturating_add(1), Known::Nothing);
        }
        if let Some(place) = self.known.get_mut(id.place()) {
            *place = known;
        }
    }

    /// How many chains were reached that give another destination themselves.
    pub fn endpoints(&self) -> usize {
        let gives = |chain: Chain<'_>| chain.rules().iter().any(|rule| matches!(rule.action, Action::Dnat(_)));
        let reached = self.rules.chains().filter(|(id, _)| self.known(*id) == Known::Reached(true));
        reached.filter(|(_, chain)| gives(*chain)).count()
    }

    /// The chains below one that give another destination, with that.
    pub fn targets(&self, from: ChainId) -> Vec<(&'a str, Endpoint)> {
        let (mut seen, mut open, mut targets) = (BTreeSet::from([from]), vec![from], Vec::new());
        while let Some(id) = open.pop() {
            let Some(chain) = self.rules.get(id) else { continue };
            for rule in chain.rules() {
                targets.extend(self.rules.target(rule).map(|target| (chain.name(), target)));
                open.extend(self.ways(rule).filter(|to| seen.insert(*to)));
                if is_for_all(rule) && ends(rule.action).is_some() {
                    break;
                }
            }
        }
        targets.sort_unstable();
        targets
    }

    /// How a base chain leads to another chain. Nothing, where there is no such base chain.
    pub fn base_jump(&self, from: &'static str, to: &'static str) -> Jump {
        let hooks = [("routing", Hook::Prerouting), ("output", Hook::Output), ("postrouting", Hook::Postrouting)];
        let name = from.to_ascii_lowercase();
        let hook = hooks.into_iter().rev().find(|(end, _)| name.ends_with(end)).map(|(_, hook)| hook);
        // A chain of its name that nobody calls is none.
        let is_called = self.chain(from).is_some_and(|chain| chain.hook == hook);
        match is_called {
            true => self.jump(from, to),
            false => Jump { from, to, count: 0, is_for_some: false, ended_by: None },
        }
    }

    /// How a chain leads to another one.
    pub fn jump(&self, from: &'static str, to: &'static str) -> Jump {
        let mut jump = Jump { from, to, count: 0, is_for_some: false, ended_by: None };
        let mut end = None;
        for rule in self.chain(from).map(Chain::rules).unwrap_or_default() {
            let leads = self.ways(rule).any(|id| self.rules.get(id).is_some_and(|chain| chain.name() == to));
            if leads && is_for_all(rule) {
                if jump.count == 0 {
                    jump.ended_by = end.take();
                }
                jump.count = jump.count.saturating_add(1);
            } else if leads {
                jump.is_for_some = true;
            } else if end.is_none() {
                // Whoever gives every packet another source does what is to be done there.
                let is_source = |end: &String| end.starts_with("SNAT") || end.starts_with("MASQUERADE");
                end = self.end_of(rule).filter(|end| !is_source(end));
            }
        }
        jump
    }

    /// What ends every packet that gets to this rule, of all protocols or of one that Services have; `None` if they go on.
    pub fn end_of(&self, rule: &Rule) -> Option<String> {
        self.end_within(rule, DEEPEST)
    }

    fn end_within(&self, rule: &Rule, depth: usize) -> Option<String> {
        let depth = depth.checked_sub(1)?;
        let of = match rule.protocol {
            _ if !rule.is_unconditional => return None,
            0 => "",
            6 => " of TCP",
            17 => " of UDP",
            132 => " of SCTP",
            _ => return None,
        };
        let Action::Jump(to) = rule.action else { return ends(rule.action).map(|end| format!("{end}{of}")) };
        let chain = self.rules.get(to)?;
        for rule in chain.rules() {
            // Some packets go on, or all do.
            if matches!(rule.action, Action::Return | Action::Goto(_)) {
                return None;
            }
            if let Some(end) = self.end_within(rule, depth) {
                return Some(format!("{end} in {}", chain.name()));
            }
        }
        None
    }

    /// Whether packets in this chain that are not sent back before get to such a rule.
    pub fn does(&self, chain: &str, wanted: impl Fn(&Rule) -> bool) -> bool {
        for rule in self.chain(chain).map(Chain::rules).unwrap_or_default() {
            if wanted(rule) {
                return true;
            }
            if is_for_all(rule) && ends(rule.action).is_some() {
                return false;
            }
        }
        false
    }
}

/// Whether every packet matches.
pub fn is_for_all(rule: &Rule) -> bool {
    rule.is_unconditional && rule.protocol == 0
}

/// What it is called, if it ends the way through a chain.
fn ends(action: Action) -> Option<&'static str> {
    Some(match action {
        Action::Accept => "ACCEPT",
        Action::Drop => "DROP",
        Action::Reject => "REJECT",
        Action::Return => "RETURN",
        Action::Goto(_) => "goto",
        Action::Dnat(_) => "DNAT",
        Action::Snat => "SNAT",
        Action::Masquerade => "MASQUERADE",
        Action::Redirect => "REDIRECT",
        Action::None | Action::Jump(_) | Action::Mark | Action::Vmap(_) | Action::Other => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of these chains: `name: what, what`, where a word in capitals is a target, `?` before it makes it one for some
    /// packets only, `/6` one for a protocol, and any other word is a chain to jump to.
    fn table(text: &str) -> Ruleset {
        let mut rules = Ruleset::default();
        let to = Endpoint { address: std::net::Ipv4Addr::LOCALHOST.into(), port: 1, protocol: 6 };
        for line in text.lines() {
            let (name, actions) = line.split_once(':').unwrap();
            let chain = rules.define(name.trim(), None).unwrap();
            for word in actions.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                let is_unconditional = !word.starts_with('?');
                let (word, protocol) = match word.trim_start_matches('?').split_once('/') {
                    Some((word, protocol)) => (word, protocol.parse().unwrap()),
                    None => (word.trim_start_matches('?'), 0),
                };
                let action = match word {
                    "ACCEPT" => Action::Accept,
                    "RETURN" => Action::Return,
                    "MASQUERADE" => Action::Masquerade,
                    "DNAT" => Action::Dnat(rules.endpoint(to).unwrap()),
                    chain => Action::Jump(rules.chain(chain).unwrap()),
                };
                rules.push(chain, action, (is_unconditional, protocol), None);
            }
        }
        rules
    }

    #[test]
    fn ways_end() {
        let rules = table("a: ?b, ?c\nb: ?a, ?b\nc: ?a, ?d\nd: DNAT\ne: e\nf: RETURN, d\ng: ?RETURN, d\nh: missing");
        let mut walk = Walk::new(&rules);
        let mut reaches = |name: &str| {
            let chain = rules.find(name).unwrap();
            walk.reaches_dnat(chain)
        };
        let want = [("a", true), ("c", true), ("d", true), ("e", false), ("f", false), ("g", true), ("h", false)];
        for (name, want) in want {
            assert_eq!(reaches(name), want, "{name}");
        }
        assert_eq!(walk.endpoints(), 1);
        assert_eq!(walk.targets(rules.find("a").unwrap()).len(), 1);
        assert!(walk.targets(rules.find("f").unwrap()).is_empty());
        // One that is longer than any of kube-proxy's leads nowhere.
        let long: String = (0..100).map(|n| format!("c{n}: c{}\n", n + 1)).collect();
        let rules = table(&format!("{long}c100: DNAT"));
        assert!(!Walk::new(&rules).reaches_dnat(rules.find("c0").unwrap()));
        assert!(Walk::new(&rules).reaches_dnat(rules.find("c90").unwrap()));
    }

    #[test]
    fn jumps() {
        let jump = |text: &str| Walk::new(&table(&format!("{text}\nTO: DNAT"))).jump("FROM", "TO");
        for (text, count, works) in [
            ("FROM: TO", 1, true),
            ("FROM: ?ACCEPT, x, TO, TO\nx: ?ACCEPT", 2, true),
            ("FROM: ?TO", 0, false),
            ("FROM: ACCEPT, TO", 1, false),
            ("FROM: x, TO\nx: y\ny: ?RETURN, ACCEPT", 1, true),
            ("FROM: x, TO\nx: y\ny: ACCEPT", 1, false),
            ("FROM: x, TO\nx: x", 1, true),
            ("FROM: TO, ACCEPT", 1, true),
            ("FROM: MASQUERADE, TO", 1, true),
            ("OTHER: TO", 0, false),
            ("FROM: TO/1", 0, false),
            ("FROM: ACCEPT/50, x, TO\nx: ACCEPT/1", 1, true),
            ("FROM: ACCEPT/6, TO", 1, false),
        ] {
            let jump = jump(text);
            assert_eq!((jump.count, jump.works()), (count, works), "{text}: {jump:?}");
        }
        assert!(jump("FROM: ?TO").is_for_some);
        assert_eq!(jump("FROM: x, TO\nx: y\ny: ACCEPT").ended_by.as_deref(), Some("ACCEPT in y in x"));
        assert_eq!(jump("FROM: x, TO\nx: ACCEPT/6").ended_by.as_deref(), Some("ACCEPT of TCP in x"));
        let mut rules = table("PREROUTING: TO\nnat-output: TO\nTO:");
        assert_eq!(Walk::new(&rules).base_jump("PREROUTING", "TO").count, 0);
        rules.define("PREROUTING", Some(Hook::Prerouting));
        rules.define("nat-output", Some(Hook::Postrouting));
        let count = |from| Walk::new(&rules).base_jump(from, "TO").count;
        assert_eq!((count("PREROUTING"), count("nat-output")), (1, 0));
        let rules = table("a: ?RETURN, MASQUERADE\nb: RETURN, MASQUERADE\nc:");
        let does = |chain| Walk::new(&rules).does(chain, |rule| rule.action == Action::Masquerade);
        assert_eq!(["a", "b", "c", "d"].map(does), [true, false, false, false]);
    }
}
