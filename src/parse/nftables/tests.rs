#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use std::net::IpAddr;

use super::super::ruleset::{Endpoint, Hook, Policy, Rule};
use super::*;

const IP: &[u8] = include_bytes!("../../../tests/captures/nftables/iptables-nft-ip");
const IP6: &[u8] = include_bytes!("../../../tests/captures/nftables/iptables-nft-ip6");
const KUBE_PROXY: &[u8] = include_bytes!("../../../tests/captures/nftables/kube-proxy");
const TABLES: &[u8] = include_bytes!("../../../tests/captures/nftables/tables");
const GENERATION: &[u8] = include_bytes!("../../../tests/captures/nftables/generation");
const IPSETS: &[u8] = include_bytes!("../../../tests/captures/nftables/ipsets");
const EVENT: &[u8] = include_bytes!("../../../tests/captures/nftables/event");
const ALL: [&[u8]; 7] = [IP, IP6, KUBE_PROXY, TABLES, GENERATION, IPSETS, EVENT];

fn contents(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    contents.add_all(bytes).unwrap();
    contents
}

fn all<T>(bytes: &[u8], read: impl Fn(&Message<'_>) -> Option<T>) -> Vec<T> {
    messages(bytes).filter_map(|message| read(&message.unwrap())).collect()
}

/// What a rule is, in words.
fn said(contents: &Contents, rule: &Rule) -> String {
    let rules = &contents.rules;
    let name = |id| rules.get(id).unwrap().name().to_owned();
    let told = |to: Endpoint| format!("{} {} {}", to.address, to.port, to.protocol);
    let action = match rule.action {
        Action::Jump(to) => format!("jump {}", name(to)),
        Action::Goto(to) => format!("goto {}", name(to)),
        Action::Dnat(_) => format!("dnat {}", told(rules.target(rule).unwrap())),
        Action::Vmap(map) => format!("vmap {}", contents.map(map).unwrap().name()),
        other => format!("{other:?}").to_lowercase(),
    };
    let destination = rules.destination(rule).map(|to| format!("for {} ", told(to))).unwrap_or_default();
    format!("{}{destination}{action}", if rule.is_unconditional { "always " } else { "" })
}

fn chain(contents: &Contents, name: &str) -> Vec<String> {
    let chain = contents.rules.get(contents.rules.find(name).unwrap()).unwrap();
    chain.rules().iter().map(|rule| said(contents, rule)).collect()
}

#[test]
fn what_iptables_nft_writes() {
    for (bytes, service, endpoint) in [(IP, "10.96.0.1", "192.0.2.10"), (IP6, "fd00:96::1", "fd00:1::10")] {
        let table = contents(bytes);
        let counts = [table.rules.chains().count(), table.rules.chains().map(|(_, chain)| chain.rules().len()).sum()];
        assert_eq!(counts, [27, 46]);
        let base = table.rules.get(table.rules.find("PREROUTING").unwrap()).unwrap();
        assert_eq!((base.hook, base.policy), (Some(Hook::Prerouting), Some(Policy::Accept)));
        assert_eq!((table.bases.len(), &*table.bases[0].kind, table.bases[0].priority), (4, "nat", -100));
        assert_eq!(chain(&table, "PREROUTING"), ["always jump cali-PREROUTING", "always jump KUBE-SERVICES"]);
        assert_eq!(chain(&table, "KUBE-POSTROUTING"), ["return", "always mark", "always masquerade"]);
        assert_eq!(chain(&table, "KUBE-MARK-MASQ"), ["always mark"]);
        let services = chain(&table, "KUBE-SERVICES");
        assert_eq!(services[0], format!("for {service} 443 6 jump KUBE-SVC-NPX46M4PTMTKRN6Y"));
        assert_eq!(services[4], "jump KUBE-NODEPORTS");
        let last = chain(&table, "KUBE-SVC-NPX46M4PTMTKRN6Y").pop().unwrap();
        let dnat = chain(&table, last.strip_prefix("always jump ").unwrap());
        assert_eq!(dnat, ["jump KUBE-MARK-MASQ".to_owned(), format!("always dnat {endpoint} 6443 6")]);
        assert_eq!(chain(&table, "cali-nat-outgoing"), ["masquerade"]);
    }
}

#[test]
fn what_kube_proxy_writes() {
    let table = contents(KUBE_PROXY);
    assert_eq!(chain(&table, "nat-prerouting"), ["always jump services"]);
    assert_eq!(chain(&table, "services"), ["always vmap service-ips", "vmap service-nodeports"]);
    assert_eq!(chain(&table, "masquerading"), ["return", "always mark", "always masquerade"]);
    assert_eq!(chain(&table, "cluster-ips-check"), ["reject", "drop"]);
    let map = table.find_map("service-ips").unwrap();
    assert_eq!((map.elements.len(), map.is_nameless()), (6, false));
    let key = Endpoint { address: IpAddr::from([10, 96, 0, 1]), port: 443, protocol: 6 };
    let element = map.elements.iter().find(|element| element.key == Some(key)).unwrap();
    let Action::Goto(service) = element.action else { panic!("{element:?}") };
    let service = table.rules.get(service).unwrap();
    assert_eq!(service.name(), "service-2QRHZV4L-default/kubernetes/tcp/https");
    let rules = chain(&table, service.name());
    assert_eq!(rules, ["for 10.96.0.1 443 6 jump mark-for-masquerade", "always vmap __map0"]);
    let map = table.find_map("__map0").unwrap();
    assert!(map.is_nameless());
    let Action::Goto(endpoint) = map.elements[0].action else { panic!("{map:?}") };
    let rules = chain(&table, table.rules.get(endpoint).unwrap().name());
    assert_eq!(rules, ["jump mark-for-masquerade", "always dnat 192.0.2.10 6443 6"]);
    assert_eq!(table.bases.iter().filter(|base| base.kind == "nat").count(), 3);
}

#[test]
fn tables_numbers_sets_and_writers() {
    let tables = all(TABLES, |message| Table::read(message).unwrap());
    let told: Vec<_> = tables.iter().map(|table| (table.family, &*table.name, table.uses)).collect();
    let ip = Some(Family::Ip);
    assert_eq!(told, [(ip, "raw", 7), (ip, "mangle", 12), (ip, "nat", 27), (ip, "filter", 102)]);
    assert_eq!(all(GENERATION, generation).len(), 1);
    let sets = all(IPSETS, |message| Ipset::read(message).unwrap());
    assert_eq!(sets.len(), 4);
    let pools = Ipset {
        name: "cali40masq-ipam-pools".to_owned(),
        kind: "hash:net".to_owned(),
        family: 2,
        members: Some(1),
        references: 1,
    };
    assert!(sets.contains(&pools), "{sets:?}");
    assert_eq!(all(EVENT, |message| writer(message).map(|(_, name)| name)), ["nft"]);
    assert!(all(IP, generation).is_empty() && all(IP, |message| Ipset::read(message).unwrap()).is_empty());
}

/// Messages and attributes by hand.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = [((value.len() + 4) as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = ((payload.len() + 16) as u32).to_ne_bytes().to_vec();
    out.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    out.extend([0; 8]);
    out.extend_from_slice(payload);
    out
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn expression(name: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    let name = attribute(1, format!("{name}\0").as_bytes());
    attribute(1, &[name, attribute(2, &parts.concat())].concat())
}

fn value(kind: u16, bytes: &[u8]) -> Vec<u8> {
    attribute(kind, &attribute(1, bytes))
}

/// A rule of the chain `c`, in words.
fn one(family: u8, expressions: &[Vec<u8>]) -> String {
    let attributes = [attribute(1, b"t\0"), attribute(2, b"c\0"), attribute(4, &expressions.concat())].concat();
    let bytes = message(0x0a06, 2, &[&[family, 0, 0, 0][..], &attributes].concat());
    let mut table = Contents::default();
    table.rules.define("c", None).unwrap();
    table.add_all(&bytes).unwrap();
    chain(&table, "c").pop().unwrap()
}

fn xt(kind: &str, name: &str, revision: u32, info: &[u8]) -> Vec<u8> {
    expression(kind, &[attribute(1, format!("{name}\0").as_bytes()), number(2, revision), attribute(3, info)])
}

/// What iptables of other versions writes, and nft.
#[test]
fn expressions_that_were_not_recorded() {
    let ports = |[a, b, c, d]: [u16; 4], rest: &[u8]| -> Vec<u8> {
        [&[a, b, c, d].map(u16::to_ne_bytes).concat(), rest].concat()
    };
    let accept = || expression("immediate", &[number(1, 0), attribute(2, &attribute(2, &number(1, 1)))]);
    // iptables before 1.8.8 leaves ports to its own match.
    let tcp = xt("match", "tcp", 0, &ports([0, 65535, 80, 80], &[0; 4]));
    assert_eq!(one(2, &[tcp, accept()]), "accept");
    let bare = xt("match", "tcp", 0, &ports([0, 65535, 0, 65535], &[0; 4]));
    assert_eq!(one(2, &[bare, accept()]), "always accept");
    for (ports, rest) in [([0, 65535, 80, 90], 0), ([53, 53, 80, 80], 0), ([0, 65535, 0, 65535], 1)] {
        let udp = xt("match", "udp", 0, &self::ports_of(ports, rest));
        assert_eq!(one(2, &[udp, accept()]), "accept");
    }
    // Revisions of DNAT: one range after their count, and ranges with 16 bytes to an address.
    let old =
        [1_u32.to_ne_bytes(), 3_u32.to_ne_bytes(), [10, 0, 0, 1], [10, 0, 0, 1], [0x1f, 0x90, 0x1f, 0x90]].concat();
    assert_eq!(one(2, &[xt("target", "DNAT", 0, &old)]), "always dnat 10.0.0.1 8080 0");
    let address = [[0x20, 1, 0xd, 0xb8], [0; 4], [0; 4], [0; 4]].concat();
    let range = [&3_u32.to_ne_bytes()[..], &address, &address, &[0x1f, 0x90, 0x1f, 0x90]].concat();
    assert_eq!(one(10, &[xt("target", "DNAT", 1, &range)]), "always dnat 2001:db8:: 8080 0");
    assert_eq!(one(2, &[xt("target", "CONNMARK", 1, &[])]), "always other");
    assert_eq!(one(2, &[xt("target", "LOG", 0, &[]), xt("match", "comment", 0, &[])]), "always none");
    // nft: a port alone, an address from a map, and a source.
    let port = expression("immediate", &[number(1, 1), value(2, &[0x1f, 0x90])]);
    let dnat = expression("nat", &[number(1, 1), number(2, 10), number(5, 1)]);
    assert_eq!(one(10, &[port.clone(), dnat]), "always dnat :: 8080 0");
    let mapped = expression("lookup", &[attribute(1, b"m\0"), number(2, 1), number(3, 1)]);
    let dnat = expression("nat", &[number(1, 1), number(2, 2), number(3, 1)]);
    assert_eq!(one(2, &[port.clone(), mapped, dnat]), "dnat 0.0.0.0 0 0");
    assert_eq!(one(2, &[port, expression("nat", &[number(1, 0), number(3, 1)])]), "always snat");
    // A destination: as a whole, through a mask of ones, a net, turned round, and what another register holds.
    let load = || expression("payload", &[number(1, 1), number(2, 1), number(3, 16), number(4, 4)]);
    let cmp =
        |register, operator| expression("cmp", &[number(1, register), number(2, operator), value(3, &[10, 0, 0, 1])]);
    let mask = |bits: [u8; 4]| {
        expression("bitwise", &[number(1, 1), number(2, 1), number(3, 4), value(4, &bits), value(5, &[0; 4])])
    };
    assert_eq!(one(2, &[load(), cmp(1, 0), accept()]), "for 10.0.0.1 0 0 accept");
    assert_eq!(one(2, &[load(), cmp(8, 0), accept()]), "for 10.0.0.1 0 0 accept");
    assert_eq!(one(2, &[load(), mask([255; 4]), cmp(1, 0), accept()]), "for 10.0.0.1 0 0 accept");
    for conditions in
        [vec![load(), mask([255, 255, 255, 0]), cmp(1, 0)], vec![load(), cmp(1, 1)], vec![load(), cmp(9, 0)]]
    {
        assert_eq!(one(2, &[conditions.concat(), accept()]), "accept");
    }
    let hashed = expression("hash", &[number(1, 2), number(2, 1)]);
    assert_eq!(one(2, &[load(), hashed, cmp(1, 0), accept()]), "accept");
    // It is another field in IPv6.
    assert_eq!(one(10, &[load(), cmp(1, 0), accept()]), "accept");
    for (name, said) in [("masq", "always masquerade"), ("redir", "always redirect"), ("queue", "always other")] {
        assert_eq!(one(2, &[expression(name, &[])]), said);
    }
    for name in ["limit", "quota", "connlimit", "dynset", "range", "news"] {
        assert_eq!(one(2, &[expression(name, &[]), accept()]), "accept", "{name}");
    }
    assert_eq!(one(2, &[expression("counter", &[]), expression("log", &[])]), "always none");
}

fn ports_of(ports: [u16; 4], last: u8) -> Vec<u8> {
    [&ports.map(u16::to_ne_bytes).concat()[..], &[0, 0, 0, last]].concat()
}

#[test]
fn ends_of_answers() {
    let part = |kind, flags, payload: &[u8]| {
        let bytes = message(kind, flags, payload);
        let message = messages(&bytes).next().unwrap().unwrap();
        (message.part(), message.is_interrupted())
    };
    assert_eq!(part(3, 2, &0_i32.to_ne_bytes()), (Ok(Part::End(0)), false));
    assert_eq!(part(3, 0x12, &[]), (Ok(Part::End(0)), true));
    assert_eq!(part(2, 0, &(-1_i32).to_ne_bytes()), (Ok(Part::End(1)), false));
    assert_eq!(part(2, 0, &i32::MIN.to_ne_bytes()).0, Err(Fault("an errno that can't be")));
    assert_eq!(part(2, 0, &[0; 3]).0, Err(Fault::CUT));
    assert_eq!(part(1, 0, &[]).0, Ok(Part::Nothing));
    assert_eq!(part(4, 0, &[]).0, Ok(Part::Overrun));
    assert_eq!(part(0x0a06, 2, &[]).0, Ok(Part::Object { is_one_of_many: true }));
    // Shorter than its header, longer than what is there.
    for length in [0_u32, 15, 17, u32::MAX] {
        let bytes = [&length.to_ne_bytes()[..], &[0; 12]].concat();
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all, [Err(Fault::CUT)]);
    }
}

#[test]
fn questions_and_the_places_of_their_answers() {
    let mut out = vec![1; 100];
    Question::Rules(Family::Ip6, "nat", "KUBE-SERVICES").write(7, &mut out);
    assert_eq!(out.len(), 16 + 4 + 8 + 20);
    assert_eq!(out[4..8], [0x0a07_u16.to_ne_bytes(), 0x301_u16.to_ne_bytes()].concat());
    assert_eq!((out[16], &out[24..28], &out[32..46]), (10, &b"nat\0"[..], &b"KUBE-SERVICES\0"[..]));
    let place = Question::Rules(Family::Ip, "../a b", "c").place();
    assert_eq!(place, ("nft-ip-%2e%2e%2fa%20b-rules".to_owned(), Some("../a b c".to_owned())));
    // A part of a file is found by what its messages are about.
    let keys = all(KUBE_PROXY, key);
    for question in [
        Question::Chain(Family::Ip, "kube-proxy", "services"),
        Question::Rules(Family::Ip, "kube-proxy", "services"),
        Question::Elements(Family::Ip, "kube-proxy", "service-ips"),
    ] {
        assert!(keys.contains(&question.place().1.unwrap()), "{question:?}");
    }
}

#[test]
fn every_prefix() {
    for bytes in ALL {
        for end in 0..=bytes.len() {
            // The rest of a message: nothing begins elsewhere.
            let from = end.saturating_sub(2000).next_multiple_of(4).min(end);
            fuzz(&bytes[from..end]);
        }
        for end in (0..=bytes.len()).step_by(509) {
            fuzz(&bytes[..end]);
        }
    }
    // Whole messages, cut inside: the length in the header tells so.
    for bytes in ALL {
        for message in messages(bytes).flatten() {
            for end in (16..message.bytes.len()).step_by(3) {
                let cut = [&(end as u32).to_ne_bytes()[..], &message.bytes[4..end]].concat();
                fuzz(&cut);
            }
        }
    }
}

#[test]
fn every_byte_bent() {
    for bytes in ALL {
        for message in messages(bytes).flatten() {
            let mut bent = message.bytes.to_vec();
            for at in 0..bent.len() {
                for bit in [0x01, 0x04, 0x80, 0xff] {
                    bent[at] ^= bit;
                    fuzz(&bent);
                    bent[at] ^= bit;
                }
            }
        }
    }
}
