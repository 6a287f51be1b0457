//! Rules of kube-proxy in its iptables mode that are broken one by one.

use nodecheck::parse::ruleset::Family;

use crate::generate::{Cluster, Era};
use crate::node::At;
use crate::row::{ALL, CRITICAL, OK, Row, WARNING, calico, kube, row, script};

/// A fault that is not Calico's.
fn only(name: &'static str, broken: &'static str, look: crate::row::Look) -> Row {
    script(name, broken, [look, calico(OK, "")])
}

/// A node of so many services.
fn of(services: usize) -> impl Fn(&At) + Send + Sync + 'static {
    move |at| at.load(&Cluster::new(at.family, services, 3))
}

fn rich(at: &At) {
    at.load(&Cluster::rich(at.family));
}

fn old(at: &At) {
    at.load(&Cluster::rich(at.family).with(|cluster| cluster.era = Era::Old));
}

pub fn rows() -> Vec<Row> {
    [services(), jumps(), kubernetes(), broken_services(), order(), targets()].into_iter().flatten().collect()
}

/// K1: nothing is dispatched. That the kubernetes service is not, and that there are fewer services, follows.
fn services() -> Vec<Row> {
    vec![
        only("KUBE-SERVICES is empty", "ipt -t nat -F KUBE-SERVICES", kube(CRITICAL, "K1").may("K4 K13 B1")).on(ALL),
        // With the chain go the jumps to it.
        only("KUBE-SERVICES is missing", "gone nat KUBE-SERVICES", kube(CRITICAL, "K1").may("K2 K4 B1")),
    ]
}

/// K2, K3: what leads to the chains, and what marks and masquerades.
fn jumps() -> Vec<Row> {
    vec![
        only(
            "no jump from PREROUTING",
            "without nat '^-A PREROUTING .*-j KUBE-SERVICES'",
            kube(CRITICAL, "K2").says("PREROUTING"),
        )
        .on(ALL),
        only("no jump from OUTPUT", "without nat '^-A OUTPUT .*-j KUBE-SERVICES'", kube(CRITICAL, "K2").says("OUTPUT"))
            .on(ALL),
        only(
            "no jump from POSTROUTING",
            "without nat '^-A POSTROUTING .*-j KUBE-POSTROUTING'",
            kube(CRITICAL, "K2").says("POSTROUTING"),
        )
        .on(ALL),
        // A jump helps only in the backend of its chain. Who wrote half a set there may be told, too.
        only(
            "the jump is in the other backend",
            "without nat '^-A PREROUTING .*-j KUBE-SERVICES'
             other -t nat -N KUBE-SERVICES
             other -t nat -A PREROUTING -j KUBE-SERVICES",
            kube(CRITICAL, "K2").may("K1 K3 K4 S1 S4"),
        )
        // In which backend kube-proxy is then, Calico's check may see one way or the other.
        .kube_only(),
        only("no MASQUERADE", "without nat '^-A KUBE-POSTROUTING .*-j MASQUERADE'", kube(CRITICAL, "K3")).on(ALL),
        only("nothing marks", "ipt -t nat -F KUBE-MARK-MASQ", kube(CRITICAL, "K3")).on(ALL),
        only("KUBE-POSTROUTING is empty", "ipt -t nat -F KUBE-POSTROUTING", kube(CRITICAL, "K3")).on(ALL),
        only("KUBE-MARK-MASQ is missing", "gone nat KUBE-MARK-MASQ", kube(CRITICAL, "K3")),
        // With the chain goes the jump to it.
        only("KUBE-POSTROUTING is missing", "gone nat KUBE-POSTROUTING", kube(CRITICAL, "K2|K3").may("K2 K3")),
    ]
}

/// K4, K5, K7: the service that every cluster has. Where nothing lies below it, it is a broken service, too. Who is rejected is not
/// chosen either: K7 stands for both.
fn kubernetes() -> Vec<Row> {
    let without_endpoints = |at: &At| {
        at.load(&Cluster::new(at.family, 20, 3).with(|cluster| {
            cluster.service("default/kubernetes:https").endpoints.clear();
        }));
    };
    vec![
        only("kubernetes is not dispatched", "without nat '^-A KUBE-SERVICES .*-j '$NPX", kube(CRITICAL, "K4")).on(ALL),
        only("kubernetes has no chain", "gone nat $NPX", kube(CRITICAL, "K4")),
        row("kubernetes has no endpoints", without_endpoints, [kube(CRITICAL, "K7"), calico(OK, "")]).on(ALL),
        only("its chain is empty", "ipt -t nat -F $NPX", kube(CRITICAL, "K5").may("K6")).on(ALL),
        only("its endpoint's chain is empty", "ipt -t nat -F $NPX_SEP", kube(CRITICAL, "K5").may("K6")),
        only("its endpoint is not jumped to", "without nat '^-A '$NPX'.*-j KUBE-SEP-'", kube(CRITICAL, "K5").may("K6")),
        only("its endpoint is only marked", "without nat '^-A '$NPX_SEP'.*-j DNAT'", kube(CRITICAL, "K5").may("K6")),
    ]
}

/// K6: WARNING from one service on, CRITICAL at a tenth of them.
fn broken_services() -> Vec<Row> {
    let emptied = "ipt -t nat -F $ONE";
    vec![
        only("1 of 20 chains of services is empty", emptied, kube(WARNING, "K6")).on(ALL),
        only("2 of 20 chains of services are empty", "ipt -t nat -F $ONE; ipt -t nat -F $TWO", kube(CRITICAL, "K6")),
        only("1 of 10 chains of services is empty", emptied, kube(CRITICAL, "K6")).whole(of(10)),
        only("1 of 11 chains of services is empty", emptied, kube(WARNING, "K6")).whole(of(11)),
        // Three rules that each lead to a chain: counting chains or jumps finds nothing.
        only(
            "all endpoints of a service are empty",
            "for sep in $(ipt -t nat -S $ONE | grep -o 'KUBE-SEP-.*'); do ipt -t nat -F $sep; done",
            kube(WARNING, "K6"),
        ),
        // The others of the service still work: some connections are lost.
        only(
            "one of several endpoints leads nowhere",
            "svc=$(ipt -t nat -S KUBE-SERVICES | grep -o 'KUBE-SVC-.*' | tail -n 1)
             sep=$(ipt -t nat -S $svc | grep -o 'KUBE-SEP-.*' | head -n 1)
             ipt -t nat -F $sep",
            kube(WARNING, "K6"),
        )
        .on(ALL),
        // The service has its DNAT, but not for who comes from outside.
        only(
            "what is dispatched to a load balancer's address leads nowhere",
            "ext=$(ipt -t nat -S KUBE-SERVICES | grep -o 'KUBE-EXT-.*' | head -n 1)
             ipt -t nat -F $ext",
            kube(WARNING, "K6"),
        )
        .whole(rich),
        only(
            "what is dispatched to a node port leads nowhere",
            "ext=$(ipt -t nat -S KUBE-NODEPORTS | grep -o 'KUBE-EXT-.*' | head -n 1)
             ipt -t nat -F $ext",
            kube(WARNING, "K6"),
        )
        .whole(rich),
        // What kube-proxy wrote up to 1.23 instead.
        only(
            "the old chain of a node port leads nowhere",
            "xlb=$(ipt -t nat -S KUBE-NODEPORTS | grep -o 'KUBE-XLB-.*' | head -n 1)
             ipt -t nat -F $xlb",
            kube(WARNING, "K6"),
        )
        .whole(old),
        only(
            "the old chain of a load balancer leads nowhere",
            "fw=$(ipt -t nat -S KUBE-SERVICES | grep -o 'KUBE-FW-.*' | head -n 1)
             ipt -t nat -F $fw",
            kube(WARNING, "K6"),
        )
        .whole(old),
    ]
}

/// K11, K12, K13: where rules stand.
fn order() -> Vec<Row> {
    vec![
        // Calico's jump comes first on this node, so that one is reached still.
        only("all is accepted before the jump", "ipt -t nat -I PREROUTING 2 -j ACCEPT", kube(CRITICAL, "K11")).on(ALL),
        only("all returns before the Services", "ipt -t nat -I KUBE-SERVICES 1 -j RETURN", kube(CRITICAL, "K11 K4"))
            .on(ALL),
        only("TCP returns before the jump", "ipt -t nat -I OUTPUT 2 -p tcp -j RETURN", kube(CRITICAL, "K11")),
        only(
            "all TCP goes elsewhere before the jump",
            "to=192.0.2.77; [ $PROGRAM = iptables ] || to=fd00:1::77
             ipt -t nat -I PREROUTING 2 -p tcp -j DNAT --to-destination $to",
            kube(CRITICAL, "K11"),
        )
        .on(ALL),
        only(
            "all TCP is redirected before the jump",
            "ipt -t nat -I OUTPUT 2 -p tcp -j REDIRECT --to-ports 15001",
            kube(CRITICAL, "K11"),
        ),
        // A jump that nothing gets to is as good as missing.
        script(
            "all is accepted before both jumps",
            "ipt -t nat -I PREROUTING -j ACCEPT",
            [kube(CRITICAL, "K11"), calico(CRITICAL, "C2")],
        ),
        only("a jump twice", "ipt -t nat -A PREROUTING -j KUBE-SERVICES", kube(WARNING, "K12").says("PREROUTING"))
            .on(ALL),
        only("a jump 50 times", "repeat 49 ipt -t nat -I OUTPUT -j KUBE-SERVICES", kube(WARNING, "K12")),
        only("a jump 52 times", "repeat 51 ipt -t nat -I POSTROUTING -j KUBE-POSTROUTING", kube(CRITICAL, "K12")),
        only(
            "a service behind the node ports",
            "ipt -t nat -A KUBE-SERVICES -p tcp -m tcp --dport 4321 -j $ONE",
            kube(WARNING, "K13"),
        )
        .on(ALL),
    ]
}

/// K14: where an endpoint's chain leads is in its name.
fn targets() -> Vec<Row> {
    vec![
        only(
            "kubernetes leads elsewhere",
            "to=192.0.2.11:6443; [ $PROGRAM = iptables ] || to='[fd00:1::11]:6443'
             swap nat '/^-A '$NPX_SEP' .*-j DNAT/s/[^ ]*$/'$to'/'",
            kube(WARNING, "K14"),
        )
        .on(ALL),
        only(
            "the DNS leads elsewhere",
            "swap nat '/^-A '$DNS_SEP' .*-j DNAT/s/[^ ]*$/10.128.7.7:53/'",
            kube(WARNING, "K14"),
        ),
        // A single-stack cluster of IPv6: without a service kube-proxy writes the rest for IPv4, too.
        only(
            "no jump from PREROUTING, where IPv4 has no services",
            "without nat '^-A PREROUTING .*-j KUBE-SERVICES'",
            kube(CRITICAL, "K2"),
        )
        .whole(|at| {
            at.load(&Cluster::new(at.family, 20, 3));
            at.load(&Cluster::skeleton(Family::Ip));
        })
        .on(&ALL[2..]),
    ]
}
