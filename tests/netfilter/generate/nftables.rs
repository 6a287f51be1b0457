//! kube-proxy and Calico in their nftables modes.

use std::collections::BTreeSet;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha224};

use super::Cluster;

/// No more elements go into one command.
const AT_ONCE: usize = 500;

struct Script {
    table: String,
    text: String,
}

impl Script {
    fn new(table: String) -> Script {
        Script { text: format!("add table {table}\n"), table }
    }

    /// Adds something, `chain` for example, to the table.
    fn add(&mut self, what: &str, name: &str, rest: &str) {
        self.text += &format!("add {what} {} {name} {rest}\n", self.table);
    }

    fn rule(&mut self, chain: &str, rule: &str) {
        self.add("rule", chain, rule);
    }

    fn elements(&mut self, of: &str, elements: &[String]) {
        for some in elements.chunks(AT_ONCE) {
            self.add("element", of, &format!("{{ {} }}", some.join(", ")));
        }
    }

    fn bases(&mut self, bases: &[(&str, &str, &str, i32)]) {
        for (name, kind, hook, priority) in bases {
            self.add("chain", name, &format!("{{ type {kind} hook {hook} priority {priority} ; }}"));
        }
    }
}

/// Base chains of kube-proxy.
const BASES: &[(&str, &str, &str, i32)] = &[
    ("filter-prerouting", "filter", "prerouting", -110),
    ("filter-input", "filter", "input", -110),
    ("filter-forward", "filter", "forward", -110),
    ("filter-output", "filter", "output", -110),
    ("filter-output-post-dnat", "filter", "output", -90),
    ("nat-prerouting", "nat", "prerouting", -100),
    ("nat-output", "nat", "output", -100),
    ("nat-postrouting", "nat", "postrouting", 100),
];
const CHAINS: &[&str] = &[
    "cluster-ips-check",
    "firewall-check",
    "mark-for-masquerade",
    "masquerading",
    "nodeport-endpoints-check",
    "reject-chain",
    "service-endpoints-check",
    "services",
];
const JUMPS: &[(&str, &str)] = &[
    ("filter-input", "ct state new jump nodeport-endpoints-check"),
    ("filter-input", "ct state new jump service-endpoints-check"),
    ("filter-forward", "ct state new jump service-endpoints-check"),
    ("filter-output", "ct state new jump service-endpoints-check"),
    ("filter-prerouting", "ct state new jump firewall-check"),
    ("filter-output", "ct state new jump firewall-check"),
    ("nat-output", "jump services"),
    ("nat-prerouting", "jump services"),
    ("nat-postrouting", "jump masquerading"),
    ("filter-forward", "ct state new jump cluster-ips-check"),
    ("filter-output-post-dnat", "ct state new jump cluster-ips-check"),
];

pub fn kube_proxy(cluster: &Cluster) -> String {
    let (ip, kind, local, range) = match cluster.is_v4() {
        true => ("ip", "ipv4_addr", "127.0.0.0/8", "10.96.0.0/12"),
        false => ("ip6", "ipv6_addr", "::1/128", "fd00:96::/108"),
    };
    let mut script = Script::new(format!("{ip} kube-proxy"));
    script.bases(BASES);
    CHAINS.iter().for_each(|chain| script.add("chain", chain, ""));
    JUMPS.iter().for_each(|(chain, rule)| script.rule(chain, rule));
    script.rule("mark-for-masquerade", "meta mark set meta mark or 0x4000");
    script.rule("masquerading", "meta mark and 0x4000 == 0 return");
    script.rule("masquerading", "meta mark set meta mark xor 0x4000");
    script.rule("masquerading", "masquerade fully-random");
    script.rule("reject-chain", "reject");
    script.add("set", "cluster-ips", &format!("{{ type {kind} ; comment \"Active ClusterIPs\" ; }}"));
    script.rule("cluster-ips-check", &format!("{ip} daddr @cluster-ips reject"));
    script.rule("cluster-ips-check", &format!("{ip} daddr {{ {range} }} drop"));
    let (service, port) = (format!("{kind} . inet_proto . inet_service"), "inet_proto . inet_service");
    for (map, key) in [
        ("firewall-ips", &*service),
        ("no-endpoint-nodeports", port),
        ("no-endpoint-services", &service),
        ("service-ips", &service),
        ("service-nodeports", port),
    ] {
        script.add("map", map, &format!("{{ type {key} : verdict ; }}"));
    }
    let (at, on) = (format!("{ip} daddr . meta l4proto . th dport"), "meta l4proto . th dport");
    script.rule("service-endpoints-check", &format!("{at} vmap @no-endpoint-services"));
    script.rule("nodeport-endpoints-check", &format!("{ip} daddr != {local} {on} vmap @no-endpoint-nodeports"));
    script.rule("firewall-check", &format!("{at} vmap @firewall-ips"));
    script.rule("services", &format!("{at} vmap @service-ips"));
    script.rule("services", &format!("fib daddr type local {ip} daddr != {local} {on} vmap @service-nodeports"));
    services(cluster, &mut script, ip);
    script.text
}

fn services(cluster: &Cluster, script: &mut Script, ip: &str) {
    let [mut maps, mut ports, mut nobody] = [const { Vec::new() }; 3];
    let mut addresses = BTreeSet::new();
    for service in &cluster.services {
        let (protocol, port, address) = (service.protocol, service.port, service.address);
        let at = format!("{address} . {protocol} . {port}");
        addresses.insert(address.to_string());
        if service.endpoints.is_empty() {
            nobody.push(format!("{at} comment \"{}\" : goto reject-chain", service.title()));
            continue;
        }
        let name = service.nft_name();
        let main = format!("service-{name}");
        maps.push(format!("{at} : goto {main}"));
        script.add("chain", &main, "");
        let from = format!("{ip} saddr != {}", cluster.pod_range());
        script.rule(&main, &format!("{ip} daddr {address} {protocol} dport {port} {from} jump mark-for-masquerade"));
        let mut chosen = Vec::new();
        for (n, endpoint) in service.endpoints.iter().enumerate() {
            let chain = service.nft_endpoint(*endpoint);
            script.add("chain", &chain, "");
            script.rule(&chain, &format!("{ip} saddr {} jump mark-for-masquerade", endpoint.ip()));
            script.rule(&chain, &format!("meta l4proto {protocol} dnat to {endpoint}"));
            chosen.push(format!("{n} : goto {chain}"));
        }
        script.rule(&main, &format!("numgen random mod {} vmap {{ {} }}", chosen.len(), chosen.join(", ")));
        if let Some(node_port) = service.node_port {
            let external = format!("external-{name}");
            script.add("chain", &external, "");
            script.rule(&external, "jump mark-for-masquerade");
            script.rule(&external, &format!("goto {main}"));
            ports.push(format!("{protocol} . {node_port} : goto {external}"));
        }
    }
    script.elements("cluster-ips", &addresses.into_iter().collect::<Vec<_>>());
    script.elements("service-ips", &maps);
    script.elements("service-nodeports", &ports);
    script.elements("no-endpoint-services", &nobody);
}

const CALICO_BASES: &[(&str, &str, &str, i32)] = &[
    ("raw-PREROUTING", "filter", "prerouting", -300),
    ("raw-OUTPUT", "filter", "output", -300),
    ("mangle-PREROUTING", "filter", "prerouting", -150),
    ("mangle-POSTROUTING", "filter", "postrouting", -150),
    ("nat-PREROUTING", "nat", "prerouting", -100),
    ("nat-OUTPUT", "nat", "output", -90),
    ("nat-POSTROUTING", "nat", "postrouting", 110),
    ("filter-INPUT", "filter", "input", 0),
    ("filter-FORWARD", "filter", "forward", 0),
    ("filter-OUTPUT", "filter", "output", 0),
];

pub fn calico(cluster: &Cluster) -> String {
    let (ip, kind) = if cluster.is_v4() { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
    let prefix = cluster.set_prefix();
    let mut script = Script::new(format!("{ip} calico"));
    script.bases(CALICO_BASES);
    for set in ["all-ipam-pools", "masq-ipam-pools"] {
        script.add("set", &format!("{prefix}{set}"), &format!("{{ type {kind} ; flags interval ; }}"));
        if cluster.has_pools || set == "all-ipam-pools" {
            script.elements(&format!("{prefix}{set}"), &[cluster.pod_range().to_owned()]);
        }
    }
    for chain in ["PREROUTING", "OUTPUT", "POSTROUTING", "fip-dnat", "fip-snat", "nat-outgoing"] {
        script.add("chain", &format!("nat-cali-{chain}"), "");
    }
    for chain in ["INPUT", "FORWARD", "OUTPUT"] {
        script.add("chain", &format!("filter-cali-{chain}"), "");
    }
    let mut signed = |chain: &str, rule: &str| {
        let id = BASE64URL_NOPAD.encode(&Sha224::digest(format!("{chain} {rule}")));
        script.rule(chain, &format!("counter {rule} comment \"cali:{};\"", &id[..16]));
    };
    for (chain, to) in [
        ("nat-PREROUTING", "nat-cali-PREROUTING"),
        ("nat-OUTPUT", "nat-cali-OUTPUT"),
        ("nat-POSTROUTING", "nat-cali-POSTROUTING"),
        ("nat-cali-PREROUTING", "nat-cali-fip-dnat"),
        ("nat-cali-OUTPUT", "nat-cali-fip-dnat"),
        ("nat-cali-POSTROUTING", "nat-cali-fip-snat"),
        ("nat-cali-POSTROUTING", "nat-cali-nat-outgoing"),
        ("filter-INPUT", "filter-cali-INPUT"),
        ("filter-FORWARD", "filter-cali-FORWARD"),
        ("filter-OUTPUT", "filter-cali-OUTPUT"),
    ] {
        signed(chain, &format!("jump {to}"));
    }
    if cluster.has_pools {
        let leaves = format!("{ip} saddr @{prefix}masq-ipam-pools {ip} daddr != @{prefix}all-ipam-pools");
        let chain = "nat-cali-nat-outgoing";
        let id = BASE64URL_NOPAD.encode(&Sha224::digest(&leaves));
        script.rule(chain, &format!("{leaves} counter masquerade fully-random comment \"cali:{};\"", &id[..16]));
    }
    script.text
}
