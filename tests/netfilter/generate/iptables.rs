//! kube-proxy in its iptables mode.

use std::net::IpAddr;

use super::{Cluster, Era, Service, Tables};

const NEW_FLOWS: &str = "-m conntrack --ctstate NEW";
const FROM_HERE: &str = "-m addrtype --src-type LOCAL";

fn comment(text: &str) -> String {
    format!("-m comment --comment \"{text}\"")
}

fn jump(chain: &str) -> String {
    format!("-j {chain}")
}

/// One address, as a match.
fn whole(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

pub fn write(cluster: &Cluster, tables: &mut Tables) {
    skeleton(cluster, tables);
    let mut writer = Writer { cluster, tables, later: Vec::new() };
    for service in &cluster.services {
        writer.service(service);
    }
    let last = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain");
    let later = writer.later;
    tables.rule("nat", "KUBE-SERVICES", &[&last, "-m addrtype --dst-type LOCAL", "-j KUBE-NODEPORTS"]);
    later.into_iter().for_each(|(chain, rule)| tables.rule("nat", &chain, &[&rule]));
}

/// What is there without a service, too.
fn skeleton(cluster: &Cluster, tables: &mut Tables) {
    let is_new = cluster.era == Era::New;
    for table in ["mangle", "nat", "filter"] {
        tables.chain(table, "KUBE-KUBELET-CANARY");
        tables.chain(table, "KUBE-PROXY-CANARY");
    }
    if is_new {
        tables.chain("mangle", "KUBE-IPTABLES-HINT");
        tables.chain("filter", "KUBE-PROXY-FIREWALL");
    } else {
        tables.chain("nat", "KUBE-MARK-DROP");
        tables.rule("nat", "KUBE-MARK-DROP", &["-j MARK --set-xmark 0x8000/0x8000"]);
    }
    for chain in ["KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-SERVICES"] {
        tables.chain("nat", chain);
    }
    for chain in ["KUBE-EXTERNAL-SERVICES", "KUBE-FIREWALL", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-SERVICES"] {
        tables.chain("filter", chain);
    }
    let portals = "kubernetes service portals";
    for (chain, says, to) in [
        ("PREROUTING", portals, "KUBE-SERVICES"),
        ("OUTPUT", portals, "KUBE-SERVICES"),
        ("POSTROUTING", "kubernetes postrouting rules", "KUBE-POSTROUTING"),
    ] {
        tables.rule("nat", chain, &[&comment(says), &jump(to)]);
    }
    let external = "kubernetes externally-visible service portals";
    for (chain, state, says, to) in [
        ("INPUT", "", "kubernetes health check service ports", "KUBE-NODEPORTS"),
        ("INPUT", NEW_FLOWS, external, "KUBE-EXTERNAL-SERVICES"),
        ("FORWARD", "", "kubernetes forwarding rules", "KUBE-FORWARD"),
        ("FORWARD", NEW_FLOWS, portals, "KUBE-SERVICES"),
        ("FORWARD", NEW_FLOWS, external, "KUBE-EXTERNAL-SERVICES"),
        ("OUTPUT", NEW_FLOWS, portals, "KUBE-SERVICES"),
    ] {
        tables.rule("filter", chain, &[state, &comment(says), &jump(to)]);
    }
    if is_new {
        let firewall = comment("kubernetes load balancer firewall");
        for chain in ["INPUT", "FORWARD", "OUTPUT"] {
            tables.rule("filter", chain, &[NEW_FLOWS, &firewall, "-j KUBE-PROXY-FIREWALL"]);
        }
    }
    tables.rule("filter", "INPUT", &["-j KUBE-FIREWALL"]);
    tables.rule("filter", "OUTPUT", &["-j KUBE-FIREWALL"]);
    if cluster.is_v4() {
        let not_ours = comment("block incoming localnet connections");
        let state = "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT";
        tables.rule("filter", "KUBE-FIREWALL", &["! -s 127.0.0.0/8 -d 127.0.0.0/8", &not_ours, state, "-j DROP"]);
    }
    tables.rule("filter", "KUBE-FORWARD", &["-m conntrack --ctstate INVALID -j DROP"]);
    let marked = comment("kubernetes forwarding rules");
    tables.rule("filter", "KUBE-FORWARD", &[&marked, "-m mark --mark 0x4000/0x4000 -j ACCEPT"]);
    let known = comment("kubernetes forwarding conntrack rule");
    tables.rule("filter", "KUBE-FORWARD", &[&known, "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"]);
    tables.rule("nat", "KUBE-MARK-MASQ", &["-j MARK --set-xmark 0x4000/0x4000"]);
    tables.rule("nat", "KUBE-POSTROUTING", &["-m mark ! --mark 0x4000/0x4000 -j RETURN"]);
    tables.rule("nat", "KUBE-POSTROUTING", &["-j MARK --set-xmark 0x4000/0x0"]);
    let masquerade = comment("kubernetes service traffic requiring SNAT");
    tables.rule("nat", "KUBE-POSTROUTING", &[&masquerade, "-j MASQUERADE --random-fully"]);
}

struct Writer<'a> {
    cluster: &'a Cluster,
    tables: &'a mut Tables,
    /// Rules of nat that come after those of KUBE-SERVICES and KUBE-NODEPORTS.
    later: Vec<(String, String)>,
}

impl Writer<'_> {
    fn later(&mut self, chain: &str, parts: &[&str]) {
        let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
        self.later.push((chain.to_owned(), parts.join(" ")));
    }

    /// A comment that a large cluster goes without.
    fn remark(&self, text: &str) -> String {
        if self.cluster.has_comments { comment(text) } else { String::new() }
    }

    fn service(&mut self, service: &Service) {
        let title = service.title();
        let Service { protocol, port, .. } = *service;
        let at = |address: IpAddr, says: &str| {
            let says = comment(&format!("{title} {says}"));
            format!("-d {} -p {protocol} {says} -m {protocol} --dport {port}", whole(address))
        };
        if service.endpoints.is_empty() {
            return self.rejected(service, &at(service.address, "has no endpoints"));
        }
        let (main, external) = (service.chain("SVC"), self.external(service));
        self.tables.chain("nat", &*main);
        self.tables.rule("nat", "KUBE-SERVICES", &[&at(service.address, "cluster IP"), &jump(&main)]);
        if let Some(address) = service.balancer {
            let to = self.balancer(service, address, external.as_deref().unwrap_or(&main));
            self.tables.rule("nat", "KUBE-SERVICES", &[&at(address, "loadbalancer IP"), &jump(&to)]);
        }
        if let Some(port) = service.node_port {
            let to = external.as_deref().unwrap_or(&main);
            let on = format!("-p {protocol} {} -m {protocol} --dport {port}", comment(&title));
            if external.is_none() {
                self.tables.rule("nat", "KUBE-NODEPORTS", &[&on, "-j KUBE-MARK-MASQ"]);
            }
            self.tables.rule("nat", "KUBE-NODEPORTS", &[&on, &jump(to)]);
        }
        let outside = format!("! -s {}", self.cluster.pod_range());
        self.later(&main, &[&outside, &at(service.address, "cluster IP"), "-j KUBE-MARK-MASQ"]);
        self.balanced(service, &main, service.endpoints.len());
        for endpoint in &service.endpoints {
            let chain = service.endpoint_chain(*endpoint);
            let remark = self.remark(&title);
            self.tables.chain("nat", &*chain);
            self.later(&chain, &[&format!("-s {}", whole(endpoint.ip())), &remark, "-j KUBE-MARK-MASQ"]);
            let seen = if service.is_sticky { self.recent(&format!("--set --name {chain}")) } else { String::new() };
            let to = format!("-m {protocol} -j DNAT --to-destination {endpoint}");
            self.later(&chain, &[&format!("-p {protocol}"), &remark, &seen, &to]);
        }
    }

    fn recent(&self, what: &str) -> String {
        let mask = if self.cluster.is_v4() { "255.255.255.255" } else { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" };
        format!("-m recent {what} --mask {mask} --rsource")
    }

    /// Rules that lead to the first of a service's endpoints, by chance.
    fn balanced(&mut self, service: &Service, chain: &str, endpoints: usize) {
        let chosen = &service.endpoints[..endpoints];
        let remark = |of: &Writer<'_>, endpoint| of.remark(&format!("{} -> {endpoint}", service.title()));
        for endpoint in chosen.iter().filter(|_| service.is_sticky) {
            let to = service.endpoint_chain(*endpoint);
            let again = self.recent(&format!("--rcheck --seconds 10800 --reap --name {to}"));
            self.later(chain, &[&remark(self, endpoint), &again, &jump(&to)]);
        }
        for (n, endpoint) in chosen.iter().enumerate() {
            let chance = match chosen.len() - n {
                1 => String::new(),
                left => format!("-m statistic --mode random --probability {:.11}", 1.0 / left as f64),
            };
            self.later(chain, &[&remark(self, endpoint), &chance, &jump(&service.endpoint_chain(*endpoint))]);
        }
    }

    fn rejected(&mut self, service: &Service, at: &str) {
        self.tables.rule("filter", "KUBE-SERVICES", &[at, "-j REJECT"]);
        if let Some(port) = service.node_port {
            let Service { protocol, .. } = *service;
            let says = comment(&format!("{} has no endpoints", service.title()));
            let on = format!("-p {protocol} {says} -m addrtype --dst-type LOCAL -m {protocol} --dport {port}");
            self.tables.rule("filter", "KUBE-EXTERNAL-SERVICES", &[&on, "-j REJECT"]);
        }
    }

    /// The chain for what comes from outside the cluster, with its rules; none where the service's own chain serves.
    fn external(&mut self, service: &Service) -> Option<String> {
        let title = service.title();
        let main = service.chain("SVC");
        let is_new = self.cluster.era == Era::New;
        let is_from_outside = service.node_port.is_some() || service.balancer.is_some();
        if !is_from_outside || !is_new && service.local.is_none() {
            return None;
        }
        let chain = service.chain(if is_new { "EXT" } else { "XLB" });
        self.tables.chain("nat", &*chain);
        let Some(local) = service.local else {
            let says = comment(&format!("masquerade traffic for {title} external destinations"));
            self.later(&chain, &[&says, "-j KUBE-MARK-MASQ"]);
            self.later(&chain, &[&jump(&main)]);
            return Some(chain);
        };
        let pods = format!("-s {}", self.cluster.pod_range());
        let words = match is_new {
            true => {
                ["pod traffic for", "masquerade LOCAL traffic for", "route LOCAL traffic for", "external destinations"]
            }
            false => ["Redirect pods to", "masquerade LOCAL traffic for", "route LOCAL traffic for", "LB IP"],
        };
        let says = |n: usize| comment(&format!("{} {title} {}", words[n], words[3]));
        self.later(&chain, &[&pods, &says(0), &jump(&main)]);
        self.later(&chain, &[&says(1), FROM_HERE, "-j KUBE-MARK-MASQ"]);
        self.later(&chain, &[&says(2), FROM_HERE, &jump(&main)]);
        match (is_new, local) {
            (true, 0) => {
                let nobody = comment(&format!("{title} has no local endpoints"));
                let Service { protocol, .. } = *service;
                let on = service.node_port.map(|port| format!("-m {protocol} --dport {port}")).unwrap_or_default();
                let on = format!("-p {protocol} {nobody} -m addrtype --dst-type LOCAL {on}");
                self.tables.rule("filter", "KUBE-EXTERNAL-SERVICES", &[&on, "-j DROP"]);
            }
            (false, 0) => {
                self.later(&chain, &[&comment(&format!("{title} has no local endpoints")), "-j KUBE-MARK-DROP"]);
            }
            (true, _) => {
                let here = service.chain("SVL");
                self.tables.chain("nat", &*here);
                self.balanced(service, &here, local);
                self.later(&chain, &[&jump(&here)]);
            }
            (false, _) => self.balanced(service, &chain, local),
        }
        Some(chain)
    }

    /// Where traffic for a load balancer's address goes.
    fn balancer(&mut self, service: &Service, address: IpAddr, external: &str) -> String {
        let is_new = self.cluster.era == Era::New;
        let chain = service.chain("FW");
        if is_new && service.ranges.is_empty() {
            return external.to_owned();
        }
        self.tables.chain("nat", &*chain);
        let title = service.title();
        let says = comment(&format!("{title} loadbalancer IP"));
        let ranges = service.ranges.iter().filter(|range| *range != "nobody");
        let sources: Vec<String> = match service.ranges.is_empty() {
            true => vec![String::new()],
            false => ranges.map(|range| format!("-s {range}")).collect(),
        };
        if !is_new && service.local.is_none() {
            self.later(&chain, &[&says, "-j KUBE-MARK-MASQ"]);
        }
        for source in &sources {
            self.later(&chain, &[source, &says, &jump(external)]);
        }
        if is_new {
            // A rule without a target: filter drops what comes so far.
            let others = comment(&format!("other traffic to {title} will be dropped by KUBE-PROXY-FIREWALL"));
            self.later(&chain, &[&others]);
            let Service { protocol, port, .. } = *service;
            let says = comment(&format!("{title} traffic not accepted by {chain}"));
            let on = format!("-d {} -p {protocol} {says} -m {protocol} --dport {port}", whole(address));
            self.tables.rule("filter", "KUBE-PROXY-FIREWALL", &[&on, "-j DROP"]);
        } else {
            self.later(&chain, &[&says, "-j KUBE-MARK-DROP"]);
        }
        chain
    }
}
