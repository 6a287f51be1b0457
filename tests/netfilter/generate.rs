//! What kube-proxy and Calico write on a node, for any number of services: input of `iptables-restore` and of `nft -f`.
#![allow(dead_code)]

#[path = "generate/felix.rs"]
mod felix;
#[path = "generate/iptables.rs"]
mod iptables;
#[path = "generate/nftables.rs"]
mod nftables;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use data_encoding::BASE32;
use nodecheck::parse::ruleset::Family;
use sha2::{Digest, Sha256};

/// Whose habits kube-proxy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Up to 1.23: KUBE-XLB, and the kubelet's KUBE-MARK-DROP.
    Old,
    New,
}

/// Where Felix puts its jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Felix {
    /// First, as up to 3.28.
    Inserts,
    /// First, but last in nat POSTROUTING: since 3.29.
    InsertsNewer,
    /// Last, where it is told to.
    Appends,
}

/// One port of a service.
#[derive(Debug, Clone)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// May be empty.
    pub port_name: String,
    pub protocol: &'static str,
    pub port: u16,
    pub address: IpAddr,
    pub endpoints: Vec<SocketAddr>,
    pub node_port: Option<u16>,
    /// The address that a load balancer has for it.
    pub balancer: Option<IpAddr>,
    /// Who may come through the load balancer; empty is everybody.
    pub ranges: Vec<String>,
    /// Session affinity `ClientIP`.
    pub is_sticky: bool,
    /// External traffic policy `Local`, and how many of the endpoints are on this node.
    pub local: Option<usize>,
}

impl Service {
    fn new(names: [&str; 3], protocol: &'static str, port: u16, address: IpAddr) -> Service {
        let [namespace, name, port_name] = names.map(str::to_owned);
        let endpoints = Vec::new();
        let (node_port, balancer, ranges, is_sticky, local) = (None, None, Vec::new(), false, None);
        Service {
            namespace,
            name,
            port_name,
            protocol,
            port,
            address,
            endpoints,
            node_port,
            balancer,
            ranges,
            is_sticky,
            local,
        }
    }

    /// As kube-proxy writes it in comments: `namespace/name:port`.
    pub fn title(&self) -> String {
        let colon = if self.port_name.is_empty() { "" } else { ":" };
        format!("{}/{}{colon}{}", self.namespace, self.name, self.port_name)
    }

    /// Its chain of this kind: `SVC`, `SVL`, `EXT`, `FW` or `XLB`.
    pub fn chain(&self, kind: &str) -> String {
        format!("KUBE-{kind}-{}", hash(&format!("{}{}", self.title(), self.protocol), 16))
    }

    pub fn endpoint_chain(&self, endpoint: SocketAddr) -> String {
        format!("KUBE-SEP-{}", hash(&format!("{}{}{endpoint}", self.title(), self.protocol), 16))
    }

    /// What the names of its chains end with in the nftables mode.
    pub fn nft_name(&self) -> String {
        hashed(&format!("{}/{}/{}/{}", self.namespace, self.name, self.protocol, self.port_name))
    }

    pub fn nft_endpoint(&self, endpoint: SocketAddr) -> String {
        let Service { namespace, name, protocol, port_name, .. } = self;
        // No name of a chain has a colon.
        let address = endpoint.ip().to_string().replace(':', ".");
        let rest = format!("{namespace}/{name}/{protocol}/{port_name}__{address}/{}", endpoint.port());
        format!("endpoint-{}", hashed(&rest))
    }
}

fn hash(text: &str, length: usize) -> String {
    BASE32.encode(&Sha256::digest(text))[..length].to_owned()
}

fn hashed(rest: &str) -> String {
    format!("{}-{rest}", hash(rest, 8))
}

/// A cluster, as one family of addresses of a node shows it.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub family: Family,
    pub services: Vec<Service>,
    pub era: Era,
    pub has_kube: bool,
    pub has_calico: bool,
    /// Beyond a thousand endpoints kube-proxy leaves out most comments.
    pub has_comments: bool,
    pub felix: Felix,
    /// Whether Calico masquerades what leaves its pools.
    pub has_pools: bool,
    /// How many pods of the node have chains of Calico.
    pub pods: usize,
}

impl Cluster {
    /// The kubernetes service, three ports of the DNS, and services with as many endpoints each until there are `services`.
    pub fn new(family: Family, services: usize, endpoints: usize) -> Cluster {
        let mut cluster = Cluster { services: Vec::new(), ..Cluster::skeleton(family) };
        let address = |n| cluster.service_address(n);
        let mut all = vec![Service::new(["default", "kubernetes", "https"], "tcp", 443, address(1))];
        all[0].endpoints = vec![SocketAddr::new(cluster.node_address(), 6443)];
        for (port_name, protocol, port) in [("dns", "udp", 53), ("dns-tcp", "tcp", 53), ("metrics", "tcp", 9153)] {
            let mut dns = Service::new(["kube-system", "kube-dns", port_name], protocol, port, address(10));
            dns.endpoints = (0..2).map(|n| SocketAddr::new(cluster.pod_address(n), port)).collect();
            all.push(dns);
        }
        let mut next = 2;
        for n in 0..services.saturating_sub(all.len()) {
            let (namespace, name) = (format!("team-{:02}", n % 40), format!("app-{n:05}"));
            let port_name = ["http", "", "grpc"][n % 3];
            let number = u32::try_from(n).unwrap();
            let mut app = Service::new([&namespace, &name, port_name], "tcp", 80, address(256 + number));
            let pods = next..next + u32::try_from(endpoints).unwrap();
            next = pods.end;
            app.endpoints = pods.map(|pod| SocketAddr::new(cluster.pod_address(pod), 8080)).collect();
            all.push(app);
        }
        cluster.has_comments = all.iter().map(|service| service.endpoints.len()).sum::<usize>() <= 1000;
        cluster.services = all;
        cluster
    }

    /// What kube-proxy writes where no service has an address of this family.
    pub fn skeleton(family: Family) -> Cluster {
        Cluster {
            family,
            services: Vec::new(),
            era: Era::New,
            has_kube: true,
            has_calico: true,
            has_comments: true,
            felix: Felix::InsertsNewer,
            has_pools: true,
            pods: 3,
        }
    }

    /// All that a cluster can have besides: node ports, load balancers with and without a list of who may come, affinity,
    /// a policy `Local` with and without an endpoint here, and a service without endpoints.
    pub fn rich(family: Family) -> Cluster {
        let mut cluster = Cluster::new(family, 16, 3);
        let (guest, first) = match family {
            Family::Ip => ("203.0.113.0/24", "198.51.100.0"),
            Family::Ip6 => ("2001:db8:1::/48", "2001:db8::"),
        };
        let balancer = |n| numbered(first, n);
        let apps = &mut cluster.services[4..];
        apps[0].node_port = Some(30080);
        apps[1] = Service { node_port: Some(30081), local: Some(1), ..apps[1].clone() };
        apps[2] = Service { node_port: Some(30082), local: Some(0), ..apps[2].clone() };
        apps[3].is_sticky = true;
        apps[4] = Service { node_port: Some(30083), balancer: Some(balancer(1)), ..apps[4].clone() };
        let ranges = vec![guest.to_owned()];
        apps[5] = Service { node_port: Some(30084), balancer: Some(balancer(2)), ranges, ..apps[5].clone() };
        // Its list names nobody of this family.
        let ranges = vec!["nobody".to_owned()];
        apps[6] = Service { node_port: Some(30085), balancer: Some(balancer(3)), ranges, ..apps[6].clone() };
        apps[7].endpoints.clear();
        apps[8] = Service { node_port: Some(30086), endpoints: Vec::new(), ..apps[8].clone() };
        apps[9] = Service { balancer: Some(balancer(4)), local: Some(2), node_port: Some(30087), ..apps[9].clone() };
        cluster
    }

    pub fn with(mut self, change: impl FnOnce(&mut Cluster)) -> Cluster {
        change(&mut self);
        self
    }

    pub fn service(&mut self, title: &str) -> &mut Service {
        self.services.iter_mut().find(|service| service.title() == title).unwrap_or_else(|| panic!("no {title}"))
    }

    fn is_v4(&self) -> bool {
        self.family == Family::Ip
    }

    fn service_address(&self, n: u32) -> IpAddr {
        numbered(if self.is_v4() { "10.96.0.0" } else { "fd00:96::" }, n)
    }

    fn pod_address(&self, n: u32) -> IpAddr {
        numbered(if self.is_v4() { "10.128.0.2" } else { "fd00:244::1:2" }, n)
    }

    fn node_address(&self) -> IpAddr {
        numbered(if self.is_v4() { "192.0.2.10" } else { "fd00:1::10" }, 0)
    }

    pub fn pod_range(&self) -> &'static str {
        if self.is_v4() { "10.128.0.0/9" } else { "fd00:244::/48" }
    }

    /// What the names of Calico's ipsets begin with.
    pub fn set_prefix(&self) -> &'static str {
        if self.is_v4() { "cali40" } else { "cali60" }
    }

    /// Input of `ipset restore`: what Calico's rules refer to.
    pub fn ipsets(&self) -> String {
        let (prefix, kind) = (self.set_prefix(), if self.is_v4() { "inet" } else { "inet6" });
        let mut text = String::new();
        for name in ["all-ipam-pools", "masq-ipam-pools"] {
            text +=
                &format!("create -exist {prefix}{name} hash:net family {kind} maxelem 1048576\nflush {prefix}{name}\n");
            if self.has_pools || name == "all-ipam-pools" {
                text += &format!("add {prefix}{name} {}\n", self.pod_range());
            }
        }
        text
    }

    /// Input of `iptables-restore`.
    pub fn rules(&self) -> String {
        let mut tables = Tables::default();
        if self.has_calico {
            felix::jumps(self, &mut tables, true);
        }
        if self.has_kube {
            iptables::write(self, &mut tables);
        }
        if self.has_calico {
            felix::jumps(self, &mut tables, false);
            felix::write(self, &mut tables);
        }
        tables.text()
    }

    /// What kube-proxy gives `iptables-restore --noflush` when only an endpoint of these changed: these chains anew, none
    /// of the jumps to them and no chain of another service.
    pub fn partial_sync(&self) -> String {
        const ANEW: &[&str] = &["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"];
        let mut tables = Tables::default();
        iptables::write(self, &mut tables);
        let nat = tables.0.remove("nat").unwrap();
        let mut text = "*nat\n".to_owned();
        ANEW.iter().for_each(|chain| text += &format!(":{chain} - [0:0]\n"));
        for rule in nat.rules.iter().filter(|rule| ANEW.contains(&rule.split(' ').nth(1).unwrap())) {
            text += &format!("{rule}\n");
        }
        text + "COMMIT\n"
    }

    /// Input of `nft -f`: kube-proxy in its nftables mode.
    pub fn nft(&self) -> String {
        nftables::kube_proxy(self)
    }

    /// Input of `nft -f`: Calico in its nftables mode.
    pub fn nft_calico(&self) -> String {
        nftables::calico(self)
    }
}

fn numbered(base: &str, n: u32) -> IpAddr {
    match base.parse().unwrap() {
        IpAddr::V4(base) => IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() + n)),
        IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() + u128::from(n))),
    }
}

#[derive(Default)]
struct Table {
    chains: Vec<String>,
    rules: Vec<String>,
}

/// Tables by their name, each with its own chains and all rules in order.
#[derive(Default)]
pub struct Tables(BTreeMap<&'static str, Table>);

impl Tables {
    fn chain(&mut self, table: &'static str, name: impl Into<String>) {
        self.0.entry(table).or_default().chains.push(name.into());
    }

    /// Adds a rule at the end of a chain. Parts that are empty don't count.
    fn rule(&mut self, table: &'static str, chain: &str, parts: &[&str]) {
        let mut rule = format!("-A {chain}");
        for part in parts.iter().filter(|part| !part.is_empty()) {
            rule.push(' ');
            rule.push_str(part);
        }
        self.0.entry(table).or_default().rules.push(rule);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, table) in &self.0 {
            let built_in: &[&str] = match *name {
                "raw" => &["PREROUTING", "OUTPUT"],
                "mangle" => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
                "nat" => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
                _ => &["INPUT", "FORWARD", "OUTPUT"],
            };
            text += &format!("*{name}\n");
            built_in.iter().for_each(|chain| text += &format!(":{chain} ACCEPT [0:0]\n"));
            table.chains.iter().for_each(|chain| text += &format!(":{chain} - [0:0]\n"));
            for rule in &table.rules {
                text.push_str(rule);
                text.push('\n');
            }
            text += "COMMIT\n";
        }
        text
    }
}
