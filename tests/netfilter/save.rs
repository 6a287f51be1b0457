//! Rules as `iptables-save` prints them and as we read them, in the same words; and network namespaces to have them in.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use nodecheck::parse::ruleset::{Action, Chain, Endpoint, Rule, Ruleset};

use crate::support::here;

/// A directory of our own, in a process that has its own network namespace.
pub const OWN: &str = "NODECHECK_OWN_NETNS";
/// What kube-proxy and Calico write on a node with ten services, made by a program of ours: tables nat and filter.
pub const NODE: &str = "tests/netfilter/node.rules";
pub const NODE6: &str = "tests/netfilter/node6.rules";
/// What they don't.
pub const ODD: &str = "*nat
:PREROUTING DROP [0:0]
:custom - [0:0]
:empty - [0:0]
-A PREROUTING
-A PREROUTING -p tcp -m tcp
-A PREROUTING ! -p udp
-A PREROUTING -p udp -g custom
-A PREROUTING -i eth0 -j custom
-A PREROUTING ! -i eth0 -j custom
-A PREROUTING -d 10.1.0.0/16 -p tcp -m tcp --dport 80 -j custom
-A PREROUTING ! -d 10.1.0.1/32 -p tcp -m tcp --dport 80 -j custom
-A PREROUTING -d 10.1.0.2/32 -p tcp -m tcp ! --dport 80 -j custom
-A PREROUTING -d 10.1.0.2/32 -p udp -m udp --dport 80:90 -j custom
-A PREROUTING -d 10.1.0.3/32 -p udp -m udp --sport 53 -j RETURN
-A PREROUTING -d 10.1.0.4/32 -j empty
-A PREROUTING -d 10.1.0.5/32 -p tcp -m tcp --tcp-flags SYN SYN -m comment --comment \"-j DNAT\" -j ACCEPT
-A PREROUTING -p tcp -m comment --comment \"unconditional all the same\" -j ACCEPT
-A PREROUTING -p tcp -m tcp --dport 1 -j DNAT --to-destination 10.2.0.1
-A PREROUTING -p tcp -m tcp --dport 2 -j DNAT --to-destination 10.2.0.1-10.2.0.9:8000-8009
-A PREROUTING -p tcp -m tcp --dport 3 -j DNAT --to-destination :8080
-A PREROUTING -p tcp -m tcp --dport 4 -j REDIRECT --to-ports 8080
-A PREROUTING -f -j LOG
-A POSTROUTING -s 10.2.0.0/16 -j SNAT --to-source 192.0.2.1
-A POSTROUTING -s 10.3.0.0/16 -j MASQUERADE
-A custom -j MARK --set-xmark 0x1/0x1
-A custom -j RETURN
-A custom -j RETURN
COMMIT
";

/// Runs `body` in a network namespace of its own: this test again, in another process.
pub fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(OWN).is_some() {
        return body();
    }
    assert!(nix::unistd::geteuid().is_root(), "network namespaces need root");
    let mut command = Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe().unwrap()).args([
        test,
        "--exact",
        "--include-ignored",
        "--nocapture",
    ]);
    let dir = tempfile::tempdir().unwrap();
    let output = command.env(OWN, dir.path()).output().expect("unshare (util-linux)");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
    print!("{out}");
}

/// A program of iptables. The machine's lock is not for us: a namespace needs none.
pub fn iptables(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("XTABLES_LOCKFILE", Path::new(&std::env::var_os(OWN).unwrap()).join("lock"));
    command
}

pub fn restore(program: &str, rules: &str) {
    let mut child = iptables(program).stdin(Stdio::piped()).spawn().unwrap_or_else(|why| panic!("{program}: {why}"));
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program}");
}

pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn rules_of(file: &str) -> String {
    std::fs::read_to_string(here().join(file)).unwrap()
}

/// What a rule of `iptables-save` says, without its chain, as [`chains`] tells it.
pub fn said(line: &str, any: &str) -> String {
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

pub fn told(to: Endpoint) -> String {
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
    let one = |(_, chain): (_, Chain<'_>)| {
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
