//! Calico's Felix with its iptables dataplane.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha224};

use super::{Cluster, Felix, Tables};

const CLEAR: &str = "-j MARK --set-xmark 0x0/0xf0000";
const ALLOWED: &str = "-m mark --mark 0x10000/0x10000";
const MASQUERADE: &str = "-j MASQUERADE --random-fully";

/// Felix signs each rule with a hash of what it and all above it say.
#[derive(Default)]
struct Signed(BTreeMap<String, Vec<u8>>);

impl Signed {
    /// The 16 characters after `cali:`. What Felix adds at the end of a chain of the kernel is of a chain of its own here.
    fn next(&mut self, chain: &str, rule: &str) -> String {
        let before = self.0.remove(chain).unwrap_or_else(|| Sha224::digest(chain).to_vec());
        let text = format!("-A {chain} HASH {}", rule.replace("-j ", "--jump ").replace("-g ", "--goto "));
        let id = Sha224::new().chain_update(before).chain_update(text).finalize().to_vec();
        let shown = BASE64URL_NOPAD.encode(&id)[..16].to_owned();
        self.0.insert(chain.to_owned(), id);
        shown
    }
}

fn signed(tables: &mut Tables, table: &'static str, chain: &str, id: &str, rule: &str) {
    tables.rule(table, chain, &[&format!("-m comment --comment \"cali:{id}\""), rule]);
}

/// From the chains of the kernel to Calico's own: those that come before what others wrote, or those that come after.
pub fn jumps(cluster: &Cluster, tables: &mut Tables, first: bool) {
    for (table, chains) in [
        ("raw", &["PREROUTING", "OUTPUT"][..]),
        ("mangle", &["PREROUTING", "POSTROUTING"]),
        ("nat", &["PREROUTING", "OUTPUT", "POSTROUTING"]),
        ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
    ] {
        for chain in chains {
            let is_apart = cluster.felix == Felix::InsertsNewer && (table, *chain) == ("nat", "POSTROUTING");
            if first == (is_apart || cluster.felix == Felix::Appends) {
                continue;
            }
            let key = if is_apart { format!("{chain}*appends*") } else { (*chain).to_owned() };
            let rule = format!("-j cali-{chain}");
            let id = Signed::default().next(&key, &rule);
            signed(tables, table, chain, &id, &rule);
        }
    }
}

pub fn write(cluster: &Cluster, tables: &mut Tables) {
    for (table, rules) in [("raw", RAW), ("mangle", MANGLE), ("nat", NAT), ("filter", FILTER)] {
        let mut ids = Signed::default();
        let mut told = Vec::new();
        for (chain, rule) in rules {
            if !told.contains(chain) {
                told.push(chain);
                tables.chain(table, *chain);
            }
            if !rule.is_empty() {
                signed(tables, table, chain, &ids.next(chain, rule), rule);
            }
        }
        if table == "filter" {
            (0..cluster.pods).for_each(|pod| workload(tables, &mut ids, pod));
        }
        if table == "nat" && cluster.has_pools {
            let set = cluster.set_prefix();
            let leaves =
                format!("-m set --match-set {set}masq-ipam-pools src -m set ! --match-set {set}all-ipam-pools dst");
            let rule = format!("{leaves} {MASQUERADE}");
            signed(tables, table, "cali-nat-outgoing", &ids.next("cali-nat-outgoing", &rule), &rule);
        }
    }
}

/// The chains of one pod.
fn workload(tables: &mut Tables, ids: &mut Signed, pod: usize) {
    let device = format!("cali{:011x}", 0x00c0_ffee_0000_usize + pod * 7919);
    let mut rule = |tables: &mut Tables, chain: &str, rule: &str| {
        signed(tables, "filter", chain, &ids.next(chain, rule), rule);
    };
    for (dispatch, side, kind, policy) in
        [("cali-from-wl-dispatch", "-i", "fw", "pro"), ("cali-to-wl-dispatch", "-o", "tw", "pri")]
    {
        let (chain, profile) = (format!("cali-{kind}-{device}"), format!("cali-{policy}-kns.team-{pod:02}"));
        tables.chain("filter", &*chain);
        tables.chain("filter", &*profile);
        rule(tables, dispatch, &format!("{side} {device} -g {chain}"));
        rule(tables, &chain, "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        rule(tables, &chain, "-m conntrack --ctstate INVALID -j DROP");
        rule(tables, &chain, "-j MARK --set-xmark 0x0/0x10000");
        rule(tables, &chain, &format!("-j {profile}"));
        rule(tables, &chain, &format!("{ALLOWED} -j RETURN"));
        rule(tables, &chain, "-j DROP");
        rule(tables, &profile, "-j MARK --set-xmark 0x10000/0x10000");
    }
}

type Rules = &'static [(&'static str, &'static str)];

/// Chains with their rules; a chain without any has one empty line.
const NAT: Rules = &[
    ("cali-OUTPUT", "-j cali-fip-dnat"),
    ("cali-PREROUTING", "-j cali-fip-dnat"),
    ("cali-POSTROUTING", "-j cali-fip-snat"),
    ("cali-POSTROUTING", "-j cali-nat-outgoing"),
    (
        "cali-POSTROUTING",
        "-o vxlan.calico -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL \
         -j MASQUERADE --random-fully",
    ),
    ("cali-fip-dnat", ""),
    ("cali-fip-snat", ""),
    ("cali-nat-outgoing", ""),
];
const RAW: Rules = &[
    ("cali-PREROUTING", CLEAR),
    ("cali-PREROUTING", "-i cali+ -j MARK --set-xmark 0x40000/0x40000"),
    ("cali-PREROUTING", "-m mark --mark 0x40000/0x40000 -j cali-rpf-skip"),
    ("cali-PREROUTING", "-m mark --mark 0x0/0x40000 -j cali-from-host-endpoint"),
    ("cali-PREROUTING", "-m mark --mark 0x10000/0x10000 -j ACCEPT"),
    ("cali-OUTPUT", CLEAR),
    ("cali-OUTPUT", "-j cali-to-host-endpoint"),
    ("cali-OUTPUT", "-m mark --mark 0x10000/0x10000 -j ACCEPT"),
    ("cali-from-host-endpoint", ""),
    ("cali-to-host-endpoint", ""),
    ("cali-rpf-skip", ""),
];
const MANGLE: Rules = &[
    ("cali-PREROUTING", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
    ("cali-PREROUTING", "-m mark --mark 0x10000/0x10000 -j ACCEPT"),
    ("cali-PREROUTING", "-j cali-from-host-endpoint"),
    ("cali-POSTROUTING", "-m mark --mark 0x10000/0x10000 -j RETURN"),
    ("cali-POSTROUTING", CLEAR),
    ("cali-POSTROUTING", "-m conntrack --ctstate DNAT -j cali-to-host-endpoint"),
    ("cali-from-host-endpoint", ""),
    ("cali-to-host-endpoint", ""),
];
const FILTER: Rules = &[
    ("cali-FORWARD", "-j MARK --set-xmark 0x0/0xe0000"),
    ("cali-FORWARD", "-m mark --mark 0x0/0x10000 -j cali-from-hep-forward"),
    ("cali-FORWARD", "-i cali+ -j cali-from-wl-dispatch"),
    ("cali-FORWARD", "-o cali+ -j cali-to-wl-dispatch"),
    ("cali-FORWARD", "-j cali-to-hep-forward"),
    ("cali-FORWARD", "-j cali-cidr-block"),
    ("cali-INPUT", "-i cali+ -g cali-wl-to-host"),
    ("cali-INPUT", "-m mark --mark 0x10000/0x10000 -j ACCEPT"),
    ("cali-INPUT", CLEAR),
    ("cali-INPUT", "-j cali-from-host-endpoint"),
    ("cali-OUTPUT", "-m mark --mark 0x10000/0x10000 -j ACCEPT"),
    ("cali-OUTPUT", "-o cali+ -j RETURN"),
    ("cali-OUTPUT", "-j cali-to-host-endpoint"),
    ("cali-wl-to-host", "-j cali-from-wl-dispatch"),
    ("cali-wl-to-host", "-j ACCEPT"),
    ("cali-from-wl-dispatch", ""),
    ("cali-to-wl-dispatch", ""),
    ("cali-from-hep-forward", ""),
    ("cali-to-hep-forward", ""),
    ("cali-from-host-endpoint", ""),
    ("cali-to-host-endpoint", ""),
    ("cali-cidr-block", ""),
];

/// Those that are the same on every node.
#[test]
fn rules_are_signed_as_felix_does() {
    let id = |chain: &str, rule: &str| Signed::default().next(chain, rule);
    assert_eq!(id("PREROUTING", "-j cali-PREROUTING"), "6gwbT8clXdHdC1b1");
    assert_eq!(id("OUTPUT", "-j cali-OUTPUT"), "tVnHkvAo15HuiPy0");
    assert_eq!(id("POSTROUTING", "-j cali-POSTROUTING"), "O3lYWMrLQYEMJtB5");
    assert_eq!(id("POSTROUTING*appends*", "-j cali-POSTROUTING"), "0i8pjzKKPyA34aQD");
    assert_eq!(id("cali-PREROUTING", "-j cali-fip-dnat"), "r6XmIziWUJsdOK6Z");
    assert_eq!(id("cali-OUTPUT", "-j cali-fip-dnat"), "GBTAv2p5CwevEyJm");
    let mut ids = Signed::default();
    assert_eq!(ids.next("cali-POSTROUTING", "-j cali-fip-snat"), "Z-c7XtVd2Bq7s_hA");
    assert_eq!(ids.next("cali-POSTROUTING", "-j cali-nat-outgoing"), "nYKhEzDlr11Jccal");
}
