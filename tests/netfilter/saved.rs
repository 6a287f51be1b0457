//! Rules as lines of text: what we read, and what `iptables-save` prints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nodecheck::parse::ruleset::{Action, Chain, Endpoint, Rule, Ruleset};

/// What a rule of `iptables-save` says, without its chain, as [`chains`] tells it.
fn said(line: &str, any: &str) -> String {
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap(),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word);
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    let mut words = words.into_iter();
    let (mut is_unconditional, mut address, mut port, mut protocol) = (true, None, 0, 0);
    let (mut target, mut goes, mut to, mut inverted) = ("", false, "", false);
    while let Some(word) = words.next() {
        let is_inverted = std::mem::replace(&mut inverted, word == "!");
        match word {
            "!" => is_unconditional = false,
            "-p" => {
                let number = match words.next().unwrap() {
                    "tcp" => 6,
                    "udp" => 17,
                    "ipv6-icmp" => 58,
                    other => panic!("{other}"),
                };
                protocol = if is_inverted { 0 } else { number };
            }
            "-m" => is_unconditional &= matches!(words.next().unwrap(), "comment" | "tcp" | "udp"),
            "--comment" => drop(words.next()),
            "-d" => {
                let (told, length) = words.next().unwrap().split_once('/').unwrap();
                let told: IpAddr = told.parse().unwrap();
                address = (!is_inverted && length == if told.is_ipv4() { "32" } else { "128" }).then_some(told);
                is_unconditional = false;
            }
            "--dport" => {
                port = words.next().unwrap().parse().ok().filter(|_| !is_inverted).unwrap_or(0);
                is_unconditional = false;
            }
            "-j" | "-g" => {
                (target, goes) = (words.next().unwrap(), word == "-g");
                to = words.by_ref().skip_while(|word| *word != "--to-destination").nth(1).unwrap_or("");
                words.by_ref().for_each(drop);
            }
            _ => is_unconditional = false,
        }
    }
    let action = match target {
        "" | "LOG" => "nothing".to_owned(),
        "DNAT" => {
            let (address, port) =
                match to.rsplit_once(':').filter(|(head, _)| !head.contains(':') || head.ends_with(']')) {
                    Some((address, port)) => (address.trim_matches(['[', ']']), port),
                    None => (to, "0"),
                };
            let first = |text: &str| text.split('-').next().unwrap().to_owned();
            let address = if address.is_empty() { any.to_owned() } else { first(address) };
            format!("dnat {address} {} {protocol}", first(port))
        }
        "ACCEPT" | "DROP" | "RETURN" | "REJECT" | "MARK" | "MASQUERADE" | "SNAT" | "REDIRECT" => target.to_lowercase(),
        chain => format!("{} {chain}", if goes { "goto" } else { "jump" }),
    };
    let destination = address.map(|address| format!("for {address} {port} {protocol} ")).unwrap_or_default();
    format!("{}{destination}{action}", if is_unconditional { "always " } else { "" })
}

fn told(to: Endpoint) -> String {
    format!("{} {} {}", to.address, to.port, to.protocol)
}

/// Of each chain its policy, then its rules in order.
pub type Chains = BTreeMap<String, Vec<String>>;

pub fn chains(rules: &Ruleset) -> Chains {
    let name = |id| rules.get(id).unwrap().name();
    let line = |rule: &Rule| {
        let action = match rule.action {
            Action::None => "nothing".to_owned(),
            Action::Jump(to) => format!("jump {}", name(to)),
            Action::Goto(to) => format!("goto {}", name(to)),
            Action::Dnat(_) => format!("dnat {}", told(rules.target(rule).unwrap())),
            other => format!("{other:?}").to_lowercase(),
        };
        let always = if rule.is_unconditional { "always " } else { "" };
        let destination = rules.destination(rule).map(|to| format!("for {} ", told(to))).unwrap_or_default();
        format!("{always}{destination}{action}")
    };
    let one = |(_, chain): (_, &Chain)| {
        assert_eq!(chain.hook.is_some(), chain.policy.is_some());
        let policy = chain.policy.map_or("-".to_owned(), |policy| format!("{policy:?}").to_uppercase());
        (chain.name().to_owned(), [policy].into_iter().chain(chain.rules().iter().map(line)).collect())
    };
    rules.chains().map(one).collect()
}

/// The same of what `iptables-save` prints; `any` is the address where none is told.
pub fn saved(text: &str, any: &str) -> Chains {
    let mut chains = Chains::new();
    for line in text.lines() {
        if let Some((chain, policy)) = line.strip_prefix(':').and_then(|line| line.split_once(' ')) {
            chains.insert(chain.to_owned(), vec![policy.split(' ').next().unwrap().to_owned()]);
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|line| line.split_once(' ')) {
            chains.get_mut(chain).unwrap().push(said(rule, any));
        } else if let Some(chain) = line.strip_prefix("-A ") {
            chains.get_mut(chain).unwrap().push("always nothing".to_owned());
        }
    }
    chains
}
