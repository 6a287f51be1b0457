//! Whole sets of chains: missing, or in two places; fewer than there were; and what nobody but kube-proxy sees.

use nodecheck::parse::ruleset::Family;

use crate::generate::Cluster;
use crate::node::At;
use crate::row::{CRITICAL, OK, Row, UNKNOWN, WARNING, calico, fine, kube, plain, row, script};

/// Detailed codes of a set that is missing as a whole.
const KUBE_ALL: &str = "K1 K2 K3 K4 K5 K6 B1";

/// What the kubelet and a kube-proxy that never got further leave.
const CANARIES: &str = "*mangle\n:KUBE-PROXY-CANARY - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n:KUBE-IPTABLES-HINT - [0:0]\n\
                        COMMIT\n*nat\n:KUBE-PROXY-CANARY - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n*filter\n\
                        :KUBE-PROXY-CANARY - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n:KUBE-FIREWALL - [0:0]\nCOMMIT\n";
/// A node whose kube-proxy never ran.
const KUBELET: &str = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n*nat\n\
                       :KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n*filter\n:KUBE-KUBELET-CANARY - [0:0]\n\
                       :KUBE-FIREWALL - [0:0]\nCOMMIT\n";

fn without_kube(at: &At) -> Cluster {
    plain(at).with(|cluster| cluster.has_kube = false)
}

fn without_calico(at: &At) -> Cluster {
    plain(at).with(|cluster| cluster.has_calico = false)
}

/// Restores nothing but what is told, as after a boot.
fn only_this(at: &At, rules: &str) {
    at.clear();
    at.load_text(rules);
}

pub fn rows() -> Vec<Row> {
    [flushed(), missing(), twice(), switched(), fewer(), two_families()].into_iter().flatten().collect()
}

/// What people type, and the incident: mangle has the canary still, so kube-proxy sees nothing.
fn flushed() -> Vec<Row> {
    vec![
        script(
            "nat is flushed",
            "ipt -t nat -F",
            [kube(CRITICAL, "K1 K2 K3").may("K4 K5 K6 B1"), calico(CRITICAL, "C2 C3")],
        )
        // Who never saw it full has no drop to tell, but all else.
        .first([kube(CRITICAL, "K1 K2 K3").may("K4 K5 K6"), calico(CRITICAL, "C2 C3")]),
        script(
            "nat is flushed, its chains are deleted",
            "ipt -t nat -F; ipt -t nat -X",
            [kube(CRITICAL, "K0").may(KUBE_ALL).says("not repair"), calico(CRITICAL, "C1").may("C2 C3")],
        ),
        // Without any trace only memory knows that there was something.
        script(
            "all tables are flushed, their chains are deleted",
            "for t in raw mangle nat filter; do ipt -t $t -F; ipt -t $t -X; done",
            [kube(CRITICAL, "K0").may(KUBE_ALL), calico(CRITICAL, "C0").may("C1 C2 C3")],
        )
        .first([kube(UNKNOWN, "").says("not on this node"), calico(OK, "").says("not on this node")]),
        row(
            "the ruleset is flushed",
            At::clear,
            [kube(CRITICAL, "K0").may(KUBE_ALL), calico(CRITICAL, "C0").may("C1 C2 C3")],
        )
        .first([kube(UNKNOWN, "").says("not on this node"), calico(OK, "").says("not on this node")]),
        // The restore succeeds: KUBE-SERVICES is full, nothing leads there, and nothing comes out.
        row(
            "a partial sync after a flush",
            |at| {
                at.sh("ipt -t nat -F");
                partial_sync(at, true);
            },
            [kube(CRITICAL, "K2 K5 K6").may("B1"), calico(CRITICAL, "C2 C3")],
        ),
        // The restore fails, since chains that it jumps to are not there: a full sync follows, and heals.
        row(
            "a partial sync after chains were deleted",
            |at| {
                at.sh("ipt -t nat -F; ipt -t nat -X");
                partial_sync(at, false);
            },
            [kube(CRITICAL, "K0").may(KUBE_ALL), calico(CRITICAL, "C1").may("C2 C3")],
        ),
    ]
}

#[track_caller]
fn partial_sync(at: &At, does: bool) {
    std::fs::write(at.dir().join("partial"), plain(at).partial_sync()).unwrap();
    let status = at.script("\"$PROGRAM-$HERE-restore\" --noflush --counters <\"$DIR/partial\" 2>/dev/null").status();
    assert_eq!(status.unwrap().success(), does);
}

fn missing() -> Vec<Row> {
    vec![
        // Calico's rules alone are no sign that kube-proxy ought to be here: something may stand in for it.
        row(
            "no KUBE chain",
            |at| only_this(at, &without_kube(at).rules()),
            [kube(CRITICAL, "K0").may(KUBE_ALL), calico(OK, "")],
        )
        .remembered(),
        row(
            "no cali chain",
            |at| only_this(at, &without_calico(at).rules()),
            [kube(OK, ""), calico(CRITICAL, "C0").may("C1 C2 C3")],
        )
        .first([kube(OK, ""), calico(OK, "").says("not on this node")]),
        row(
            "canaries alone",
            |at| only_this(at, CANARIES),
            [kube(CRITICAL, "K0").may(KUBE_ALL), calico(CRITICAL, "C0").may("C1 C2 C3")],
        )
        .first([kube(CRITICAL, "K0").may(KUBE_ALL), calico(OK, "").says("not on this node")]),
        row(
            "a kubelet without kube-proxy",
            |at| only_this(at, KUBELET),
            [kube(CRITICAL, "K0").may(KUBE_ALL), calico(CRITICAL, "C0").may("C1 C2 C3")],
        )
        .first([kube(CRITICAL, "K0").may(KUBE_ALL), calico(OK, "").says("not on this node")]),
    ]
}

/// S1 to S4. The hint of the kubelet is in both backends then, which is a fact at most.
fn twice() -> Vec<Row> {
    vec![
        row(
            "KUBE chains live in both backends",
            |at| at.load_other(&without_calico(at)),
            [kube(WARNING, "S1").may("S4"), calico(OK, "")],
        ),
        row(
            "KUBE chains live in both backends, and the kubernetes service differs",
            |at| {
                at.load_other(&without_calico(at).with(|cluster| {
                    let endpoint = &mut cluster.service("default/kubernetes:https").endpoints[0];
                    endpoint.set_port(6444);
                }));
            },
            [kube(CRITICAL, "S1").may("S4"), calico(OK, "")],
        ),
        row(
            "cali chains live in both backends",
            |at| at.load_other(&without_kube(at)),
            [
                kube(OK, ""),
                // Some of them are in one backend, and KUBE in the other.
                calico(WARNING, "S2").may("S3"),
            ],
        ),
        row(
            "KUBE in one backend, cali in the other",
            |at| {
                at.clear();
                at.load(&without_calico(at));
                at.load_other(&without_kube(at));
            },
            [kube(OK, ""), calico(WARNING, "S3")],
        ),
        row(
            "the hint is in the other backend",
            |at| {
                at.sh("ipt -t mangle -F; ipt -t mangle -X");
                at.sh("other -t mangle -N KUBE-IPTABLES-HINT; other -t mangle -N KUBE-KUBELET-CANARY");
            },
            [kube(OK, "S4"), calico(OK, "")],
        ),
    ]
}

/// What an operator does on purpose, and may.
fn switched() -> Vec<Row> {
    let other_backend = |at: &At| {
        at.clear();
        at.load_other(&plain(at));
    };
    let other_mode = |at: &At| {
        at.clear();
        at.nft(&(plain(at).nft() + &plain(at).nft_calico()));
    };
    vec![row("both move to the other backend", other_backend, fine()), row("both move to nftables", other_mode, fine())]
}

/// B1, and no more than a warning: deleting a namespace is legal.
fn fewer() -> Vec<Row> {
    let keep = |services: usize, endpoints: usize| {
        move |at: &At| {
            at.load(&plain(at).with(|cluster| {
                cluster.services.truncate(services);
                cluster.services.iter_mut().for_each(|service| service.endpoints.truncate(endpoints));
            }));
        }
    };
    let only = |name, broken, look| row(name, broken, [look, calico(OK, "")]).first([kube(OK, "")]);
    vec![
        only("half of the services are gone", keep(10, 3), kube(WARNING, "B1")),
        only("nearly all services are gone", keep(4, 3), kube(WARNING, "B1")),
        only("two of three endpoints are gone", keep(20, 1), kube(WARNING, "B1")),
        only("a tenth of the services is gone", keep(18, 3), kube(OK, "")),
    ]
}

/// IPv6 beside IPv4. The kubernetes service is in one of them.
fn two_families() -> Vec<Row> {
    let both = |at: &At| {
        at.load(&plain(at));
        at.load(&Cluster::new(Family::Ip6, 20, 3).with(|cluster| drop(cluster.services.remove(0))));
    };
    let on_both = |row: Row| row.whole(both);
    vec![
        on_both(script(
            "the other family's jump",
            "without6() { PROGRAM=ip6tables; without \"$@\"; }
             without6 nat '^-A OUTPUT .*-j KUBE-SERVICES'",
            [kube(CRITICAL, "K2").says("OUTPUT"), calico(OK, "")],
        )),
        // Another node of the kind would have IPv4 alone.
        on_both(script(
            "the other family is flushed, its chains are deleted",
            "PROGRAM=ip6tables; for t in raw mangle nat filter; do ipt -t $t -F; ipt -t $t -X; done",
            [kube(CRITICAL, "K0|K1").may(KUBE_ALL), calico(CRITICAL, "C0|C1").may("C2 C3")],
        ))
        .remembered(),
        on_both(script(
            "the family of the kubernetes service is flushed, its chains are deleted",
            "ipt -t nat -F; ipt -t nat -X",
            [kube(CRITICAL, "K0").may(KUBE_ALL), calico(CRITICAL, "C1").may("C2 C3")],
        ))
        // Who never saw IPv4 whole may only miss the kubernetes service.
        .first([kube(CRITICAL, "K0|K4").may(KUBE_ALL), calico(CRITICAL, "C1").may("C2 C3")]),
        on_both(script(
            "a service of the other family",
            "PROGRAM=ip6tables; svc=$(ipt -t nat -S KUBE-SERVICES | grep -o 'KUBE-SVC-.*' | tail -n 1); ipt -t nat -F $svc",
            [kube(WARNING, "K6"), calico(OK, "")],
        )),
        // A tenth of the services of this family: each is judged by itself.
        on_both(script(
            "two services of the other family",
            "PROGRAM=ip6tables
             for svc in $(ipt -t nat -S KUBE-SERVICES | grep -o 'KUBE-SVC-.*' | tail -n 2); do ipt -t nat -F $svc; done",
            [kube(CRITICAL, "K6"), calico(OK, "")],
        )),
    ]
}
