#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::super::ruleset::Policy;
use super::*;

const EMPTY: &[u8] = include_bytes!("../../../tests/captures/xtables/empty");
const NODE: &[u8] = include_bytes!("../../../tests/captures/xtables/node-nat");
const NODE6: &[u8] = include_bytes!("../../../tests/captures/xtables/node6-nat");
const FILTER: &[u8] = include_bytes!("../../../tests/captures/xtables/node-filter");
const ODD: &[u8] = include_bytes!("../../../tests/captures/xtables/odd");
const ODD6: &[u8] = include_bytes!("../../../tests/captures/xtables/odd6");
/// Where the entries begin.
const BEGIN: usize = INFO + HEADER;

fn read(family: Family, recording: &[u8]) -> Result<Ruleset, Fault> {
    fuzz(recording);
    let (info, bytes) = recorded(recording)?;
    table(family, &info, bytes)
}

/// What it says: `PREROUTING ACCEPT: jump KUBE-SERVICES; ...`, a line for each chain.
fn told(recording: &[u8]) -> String {
    let rules = match read(Family::Ip, recording) {
        Ok(rules) => rules,
        Err(fault) => return fault.to_string(),
    };
    let name = |id| rules.get(id).unwrap().name();
    let mut lines = Vec::new();
    for (_, chain) in rules.chains() {
        let policy = chain.policy.map(|policy| format!(" {policy:?}")).unwrap_or_default();
        let rules = chain.rules().iter().map(|rule| match rule.action {
            Action::Jump(to) => format!("jump {}", name(to)),
            Action::Goto(to) => format!("goto {}", name(to)),
            Action::Dnat(_) => {
                let to = rules.target(rule).unwrap();
                format!("dnat {}:{}", to.address, to.port)
            }
            other => format!("{other:?}").to_lowercase(),
        });
        lines.push(format!("{}{policy}: {}", chain.name(), rules.collect::<Vec<_>>().join(", ")));
    }
    lines.join("; ")
}

/// `struct xt_entry_target`, or a match.
fn extension(name: &str, revision: u8, data: &[u8]) -> Vec<u8> {
    let size = (32 + data.len()).next_multiple_of(8);
    let mut bytes = vec![0; size];
    bytes[..2].copy_from_slice(&(size as u16).to_ne_bytes());
    bytes[2..2 + name.len()].copy_from_slice(name.as_bytes());
    bytes[31] = revision;
    bytes[32..32 + data.len()].copy_from_slice(data);
    bytes
}

/// `struct ipt_entry`, which asks for protocol 6 and these matches.
fn entry(matches: &[Vec<u8>], target: &[u8]) -> Vec<u8> {
    let asks = matches.concat();
    let mut bytes = vec![0; 112];
    bytes[80] = 6;
    bytes[88..90].copy_from_slice(&(112 + asks.len() as u16).to_ne_bytes());
    bytes[90..92].copy_from_slice(&((112 + asks.len() + target.len()) as u16).to_ne_bytes());
    [&bytes, &asks[..], target].concat()
}

fn verdict(verdict: i32) -> Vec<u8> {
    entry(&[], &extension("", 0, &verdict.to_ne_bytes()))
}

fn head(name: &str) -> Vec<u8> {
    let mut data = [0; 30];
    data[..name.len()].copy_from_slice(name.as_bytes());
    entry(&[], &extension("ERROR", 0, &data))
}

/// A table with a chain PREROUTING that begins with these entries, the last one its policy, and what follows.
fn recording(base: &[Vec<u8>], others: &[Vec<u8>]) -> Vec<u8> {
    let policy: usize = base[..base.len() - 1].iter().map(Vec::len).sum();
    let entries = [base, others, &[head("ERROR")]].concat();
    let size = entries.concat().len() as u32;
    let mut name = [0; LONGEST_NAME];
    name[..3].copy_from_slice(b"nat");
    let mut numbers = [u32::MAX; 13];
    numbers[0] = 1;
    (numbers[1], numbers[6]) = (0, policy as u32);
    (numbers[11], numbers[12]) = (entries.len() as u32, size);
    let numbers = numbers.map(u32::to_ne_bytes).concat();
    [&name[..], &numbers, &header(&name, size), &entries.concat()].concat()
}

#[test]
fn real_tables() {
    assert_eq!(told(EMPTY), "PREROUTING Accept: ; INPUT Accept: ; OUTPUT Accept: ; POSTROUTING Accept: ");
    for (family, table, dnats) in [(Family::Ip, NODE, 25), (Family::Ip6, NODE6, 25), (Family::Ip, FILTER, 0)] {
        let rules = read(family, table).unwrap();
        let all = rules.chains().flat_map(|(_, chain)| chain.rules());
        assert_eq!(all.filter(|rule| matches!(rule.action, Action::Dnat(_))).count(), dnats);
        let other = if family == Family::Ip { Family::Ip6 } else { Family::Ip };
        assert!(read(other, table).is_err());
    }
    let rules = read(Family::Ip, ODD).unwrap();
    let chain = rules.get(rules.find("PREROUTING").unwrap()).unwrap();
    assert_eq!((chain.hook, chain.policy), (Some(Hook::Prerouting), Some(Policy::Drop)));
    assert_eq!(rules.find("empty").map(|id| rules.get(id).unwrap().rules().len()), Some(0));
}

#[test]
fn comments_are_left_out() {
    let comment = extension("comment", 0, &[b'x'; 256]);
    let target = extension("", 0, &ACCEPT.to_ne_bytes());
    let with = |comments: &[Vec<u8>]| recording(&[entry(comments, &target), verdict(ACCEPT)], &[]);
    let both = with(&[comment.clone(), extension("tcp", 0, &[b'x'; 12]), comment]);
    let without = without_comments(Family::Ip, &both);
    let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'x').count();
    assert_eq!((count(&both), count(&without), without.len()), (2 * 256 + 12, 12, both.len()));
    assert_eq!(without_comments(Family::Ip, NODE), NODE);
}

const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;

/// DNAT as programs of any age write it.
#[test]
fn dnat_of_every_revision() {
    let (from, to) = ([10, 0, 0, 1], [10, 0, 0, 9]);
    let ports = [0x1f, 0x90, 0x1f, 0x99];
    let pad = [0; 12];
    let flags = |flags: u32| flags.to_ne_bytes();
    let zero = |flags: [u8; 4]| [&1_u32.to_ne_bytes()[..], &flags, &from, &to, &ports].concat();
    let one = |flags: [u8; 4]| [&flags[..], &from, &pad, &to, &pad, &ports].concat();
    for (revision, data, want) in [
        (0, zero(flags(3)), "dnat 10.0.0.1:8080"),
        (0, zero(flags(1)), "dnat 10.0.0.1:0"),
        (1, one(flags(3)), "dnat 10.0.0.1:8080"),
        (2, [&one(flags(3))[..], &[0; 4]].concat(), "dnat 10.0.0.1:8080"),
        (2, [&one(flags(2))[..], &[0; 4]].concat(), "dnat 0.0.0.0:8080"),
        (3, one(flags(3)), "other"),
    ] {
        let rule = entry(&[], &extension("DNAT", revision, &data));
        assert_eq!(told(&recording(&[rule, verdict(ACCEPT)], &[])), format!("PREROUTING Accept: {want}"));
    }
    for (revision, data) in [(0, &zero(flags(3))[..16]), (1, &one(flags(3))[..32]), (2, &[])] {
        let rule = entry(&[], &extension("DNAT", revision, data));
        let why = "entry at 0: has a DNAT that is too short";
        assert_eq!(told(&recording(&[rule, verdict(ACCEPT)], &[])), why);
    }
}

#[test]
fn what_a_rule_asks_for() {
    let ports = |from: [u16; 2], to: [u16; 2]| [from, to].concat().iter().flat_map(|port| port.to_ne_bytes()).collect();
    let asks = |matches: &[Vec<u8>], change: &dyn Fn(&mut Vec<u8>)| {
        let mut rule = entry(matches, &extension("MARK", 2, &[0; 8]));
        rule[4..8].copy_from_slice(&[10, 0, 0, 1]);
        rule[12..16].fill(0xff);
        change(&mut rule);
        let rules = read(Family::Ip, &recording(&[rule, verdict(ACCEPT)], &[])).unwrap();
        let rule = rules.get(rules.find("PREROUTING").unwrap()).unwrap().rules()[0];
        assert_eq!(rule.action, Action::Mark);
        (rule.is_unconditional, rules.destination(&rule).map(|to| (to.port, to.protocol)))
    };
    let tcp = |from, to, rest: [u8; 4]| {
        let mut data: Vec<u8> = ports(from, to);
        data.extend(rest);
        extension("tcp", 0, &data)
    };
    let sctp = |flags: u32, inverted: u32| {
        let mut data: Vec<u8> = ports([443, 443], [0, 0]);
        data.resize(60, 0);
        data.extend([flags.to_ne_bytes(), inverted.to_ne_bytes()].concat());
        extension("sctp", 0, &data)
    };
    let (all, https) = ([0, u16::MAX], [443, 443]);
    let any = |rule: &mut Vec<u8>| rule[12..16].fill(0);
    let same = |_: &mut Vec<u8>| {};
    assert_eq!(asks(&[], &same), (false, Some((0, 6))));
    assert_eq!(asks(&[], &any), (true, None));
    assert_eq!(asks(&[], &|rule| rule[15] = 0xfe), (false, None));
    // Not to, not of the protocol, not from the interface.
    assert_eq!(asks(&[], &|rule| rule[83] = 0x10), (false, None));
    assert_eq!(asks(&[], &|rule| rule[83] = 0x40), (false, Some((0, 0))));
    for (at, byte) in [(83, 0x40), (83, 1), (82, 1), (48, 0xff), (79, 0xff), (8, 0x80)] {
        let change = |rule: &mut Vec<u8>| {
            any(rule);
            rule[at] = byte;
        };
        assert_eq!(asks(&[], &change), (false, None), "{at}");
    }
    assert_eq!(asks(&[tcp(all, https, [0; 4])], &same), (false, Some((443, 6))));
    assert_eq!(asks(&[tcp(all, https, [0, 0, 0, 2])], &same), (false, Some((0, 6))));
    assert_eq!(asks(&[tcp(all, [443, 444], [0; 4])], &same), (false, Some((0, 6))));
    for (one, is_unconditional) in [
        (tcp(all, all, [0; 4]), true),
        (tcp(all, https, [0; 4]), false),
        (tcp(https, all, [0; 4]), false),
        (tcp(all, all, [1, 0, 0, 0]), false),
        (tcp(all, all, [0, 2, 2, 0]), false),
        (tcp(all, all, [0, 0, 0, 1]), false),
        (extension("tcp", 1, &tcp(all, all, [0; 4])[32..]), false),
        (extension("tcp", 0, &[]), false),
        (extension("comment", 0, &[0; 256]), true),
        (extension("statistic", 0, &[0; 24]), false),
    ] {
        assert_eq!(asks(&[one], &any), (is_unconditional, None));
    }
    assert_eq!(asks(&[sctp(2, 0)], &same), (false, Some((443, 6))));
    assert_eq!(asks(&[sctp(2, 2)], &same), (false, Some((0, 6))));
    assert_eq!(asks(&[sctp(1, 0)], &same), (false, Some((0, 6))));
}

/// Where a jump leads to the chain that begins after these entries.
fn after(entries: &[Vec<u8>]) -> i32 {
    entries.iter().map(Vec::len).sum::<usize>() as i32
}

#[test]
fn verdicts_and_chains() {
    let plain = verdict(ACCEPT).len() as i32;
    let chain = after(&[verdict(0), verdict(0), head("")]);
    let goto = |mut entry: Vec<u8>| {
        entry[82] = 2;
        entry
    };
    let others = |rules: &[Vec<u8>]| [&[head("custom")], rules].concat();
    let end = || verdict(RETURN);
    let second = chain + plain + head("").len() as i32;
    for (base, others, want) in [
        (vec![verdict(DROP)], vec![], "PREROUTING Drop: "),
        (vec![verdict(plain), verdict(ACCEPT)], vec![], "PREROUTING Accept: none"),
        (vec![verdict(-4), verdict(ACCEPT)], vec![], "PREROUTING Accept: other"),
        (vec![verdict(chain), verdict(ACCEPT)], others(&[end()]), "PREROUTING Accept: jump custom; custom: "),
        (vec![goto(verdict(chain)), verdict(ACCEPT)], others(&[end()]), "PREROUTING Accept: goto custom; custom: "),
        (vec![verdict(ACCEPT)], others(&[end(), end()]), "PREROUTING Accept: ; custom: return"),
        // Without what iptables puts at the end.
        (vec![verdict(ACCEPT)], others(&[verdict(DROP)]), "PREROUTING Accept: ; custom: drop"),
        (vec![verdict(ACCEPT)], others(&[]), "PREROUTING Accept: ; custom: "),
        // In a circle, which the kernel refuses.
        (
            vec![verdict(chain), verdict(ACCEPT)],
            [others(&[verdict(second)]), vec![head("ERROR"), verdict(chain), end()]].concat(),
            "PREROUTING Accept: jump custom; custom: jump ERROR; ERROR: jump custom",
        ),
    ] {
        assert_eq!(told(&recording(&base, &others)), want);
    }
    let mut odd = head("custom");
    odd[112 + 32] = 0xff;
    assert_eq!(told(&recording(&[verdict(ACCEPT)], &[odd, end()])), "PREROUTING Accept: ; \\xffustom: ");
}

#[test]
fn lies() {
    let chain = after(&[verdict(0), verdict(0), head("")]);
    let good = || recording(&[verdict(chain), verdict(ACCEPT)], &[head("custom"), verdict(DROP), verdict(RETURN)]);
    assert_eq!(told(&good()), "PREROUTING Accept: jump custom; custom: drop");
    let poked = |at: usize, bytes: &[u8]| {
        let mut file = good();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        told(&file)
    };
    let half = |at: usize, number: u16| poked(at, &number.to_ne_bytes());
    let whole = |at: usize, number: u32| poked(at, &number.to_ne_bytes());
    let (length, second, custom) = (good().len() - BEGIN, 152, 2 * 152);
    let told_of = |at: usize, why: &str| format!("entry at {at}: {why}");
    for (have, want) in [
        // What is told beside the entries.
        (whole(80, 0), format!("{} bytes instead of {HEADER}", length + HEADER)),
        (whole(80, u32::MAX), format!("{} bytes instead of {}", length + HEADER, u32::MAX as usize + HEADER)),
        (poked(1, b"x"), "the entries are of another table".to_owned()),
        (poked(INFO + 1, b"x"), "the entries are of another table".to_owned()),
        (whole(INFO + 32, 1), "the entries are of another table".to_owned()),
        (whole(76, 5), "6 entries instead of 5".to_owned()),
        (whole(76, u32::MAX), format!("6 entries instead of {}", u32::MAX)),
        (whole(32, 0), told_of(0, "belongs to no chain")),
        (whole(32, 3), "INPUT: does not begin where an entry does".to_owned()),
        (whole(36, 8), told_of(0, "belongs to no chain")),
        (whole(36, 152), told_of(0, "belongs to no chain")),
        (whole(56, 0), told_of(0, "is no policy")),
        (whole(56, 8), told_of(custom, "is where a policy should have come")),
        (whole(56, u32::MAX), told_of(custom, "is where a policy should have come")),
        // Offsets of the next entry and of the target.
        (half(BEGIN + 90, 0), told_of(0, "has its target beyond its end")),
        (half(BEGIN + 90, 112), told_of(0, "has a target of a size that can't be")),
        (half(BEGIN + 90, 151), told_of(0, "is not aligned")),
        (half(BEGIN + 90, 144), told_of(0, "has a target of a size that can't be")),
        (half(BEGIN + 90, 0xfff8), told_of(0, "reaches beyond the table")),
        // The second one within the first.
        (half(BEGIN + 90, 304), told_of(custom, "is where a policy should have come")),
        (half(BEGIN + 88, 0), told_of(0, "has its target before its end")),
        (half(BEGIN + 88, 104), told_of(0, "has its target before its end")),
        (half(BEGIN + 88, 113), told_of(0, "is not aligned")),
        (half(BEGIN + 88, 160), told_of(0, "has its target beyond its end")),
        (half(BEGIN + 88, 0xfff8), told_of(0, "has its target beyond its end")),
        (half(BEGIN + second + 88, 152), told_of(second, "has a target of a size that can't be")),
        // The target, and the name of the chain.
        (half(BEGIN + 112, 0), told_of(0, "has a target of a size that can't be")),
        (half(BEGIN + 112, 31), told_of(0, "has a target of a size that can't be")),
        (half(BEGIN + 112, 32), told_of(0, "has no verdict")),
        (half(BEGIN + 112, 41), told_of(0, "has a target of a size that can't be")),
        (poked(BEGIN + 114, &[b'x'; 29]), told_of(0, "has a target without a name")),
        (poked(BEGIN + custom + 144, &[b'x'; 30]), told_of(custom, "has a name without an end")),
        (half(BEGIN + custom + 112, 40), told_of(custom, "has a name without an end")),
        (poked(BEGIN + custom + 144, b"PREROUTING"), told_of(custom, "begins a chain that is there")),
        // Jumps into the middle, to the name instead of what follows it, and beyond.
        (whole(BEGIN + 144, 8), told_of(0, "jumps to where no chain begins")),
        (whole(BEGIN + 144, custom as u32), told_of(0, "jumps to where no chain begins")),
        (whole(BEGIN + 144, chain as u32 + 152), told_of(0, "jumps to where no chain begins")),
        (whole(BEGIN + 144, i32::MAX as u32), told_of(0, "jumps to where no chain begins")),
        (whole(BEGIN + second + 144, 0), told_of(second, "is no policy")),
        (poked(BEGIN + second + 8, &[0xff]), told_of(second, "is no policy")),
        // Without the end.
        (poked(BEGIN + length - 62, b"X"), told_of(length, "is not the end of the table")),
    ] {
        assert_eq!(have, want);
    }
    let matches = |size: u16| {
        let mut one = extension("tcp", 0, &[0; 12]);
        one[..2].copy_from_slice(&size.to_ne_bytes());
        told(&recording(&[entry(&[one], &extension("MARK", 2, &[])), verdict(ACCEPT)], &[]))
    };
    assert_eq!(matches(48), "PREROUTING Accept: mark");
    for size in [0, 31, 33, 40, 49, u16::MAX] {
        assert_eq!(matches(size), told_of(0, "has a match that can't be"), "{size}");
    }
}

#[test]
fn every_prefix() {
    for (family, whole) in [(Family::Ip, ODD), (Family::Ip6, ODD6)] {
        read(family, whole).unwrap();
        for end in 0..whole.len() {
            assert!(read(family, &whole[..end]).is_err());
            // Of a table that claims to be no longer.
            let mut cut = whole[..end].to_vec();
            if let Some(size) = end.checked_sub(BEGIN) {
                let size = (size as u32).to_ne_bytes();
                cut[80..84].copy_from_slice(&size);
                cut[INFO + 32..INFO + 36].copy_from_slice(&size);
                assert!(read(family, &cut).is_err());
            }
        }
    }
}

#[test]
fn every_byte_bent() {
    for whole in [ODD, ODD6] {
        for at in 0..whole.len() {
            for bits in [8, 0xff] {
                let mut bent = whole.to_vec();
                bent[at] ^= bits;
                fuzz(&bent);
            }
        }
    }
}
