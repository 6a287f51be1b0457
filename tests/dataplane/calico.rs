//! Rules of Calico in its iptables mode that are broken one by one.

use crate::generate::{Cluster, Felix};
use crate::node::At;
use crate::row::{ALL, CRITICAL, Look, OK, Row, WARNING, calico, kube, script};

fn only(name: &'static str, broken: &'static str, look: Look) -> Row {
    script(name, broken, [kube(OK, ""), look])
}

fn appending(at: &At) {
    at.load(&Cluster::new(at.family, 20, 3).with(|cluster| cluster.felix = Felix::Appends));
}

pub fn rows() -> Vec<Row> {
    let chains = "C1 C2 C3";
    vec![
        only("no cali chain in nat", "without nat 'cali-'", calico(CRITICAL, "C1").may("C2 C3")).on(ALL),
        // With a chain goes the jump to it.
        only("cali-PREROUTING is missing", "gone nat cali-PREROUTING", calico(CRITICAL, "C1").may(chains)),
        only("cali-OUTPUT is missing", "gone nat cali-OUTPUT", calico(CRITICAL, "C1").may(chains)),
        only("cali-POSTROUTING is missing", "gone nat cali-POSTROUTING", calico(CRITICAL, "C1").may(chains)),
        only(
            "no jump from PREROUTING",
            "without nat '^-A PREROUTING .*-j cali-PREROUTING'",
            calico(CRITICAL, "C2").says("PREROUTING"),
        )
        .on(ALL),
        only("no jump from OUTPUT", "without nat '^-A OUTPUT .*-j cali-OUTPUT'", calico(CRITICAL, "C2").says("OUTPUT")),
        only(
            "no jump from POSTROUTING",
            "without nat '^-A POSTROUTING .*-j cali-POSTROUTING'",
            calico(CRITICAL, "C2").says("POSTROUTING"),
        )
        .on(ALL),
        only(
            "no jump from POSTROUTING, where Felix appends",
            "without nat '^-A POSTROUTING .*-j cali-POSTROUTING'",
            calico(CRITICAL, "C2"),
        )
        .whole(appending),
        // Nothing of the pools is masqueraded then, which may be told twice.
        only(
            "no jump to cali-nat-outgoing",
            "without nat '^-A cali-POSTROUTING .*-j cali-nat-outgoing'",
            calico(CRITICAL, "C2").may("C3"),
        )
        .on(ALL),
        only("cali-POSTROUTING is empty", "ipt -t nat -F cali-POSTROUTING", calico(CRITICAL, "C2").may("C3")),
        only("cali-nat-outgoing is missing", "gone nat cali-nat-outgoing", calico(CRITICAL, "C1|C2|C3").may(chains)),
        only("nothing is masqueraded", "ipt -t nat -F cali-nat-outgoing", calico(CRITICAL, "C3")).on(ALL),
        only(
            "cali-nat-outgoing returns",
            "ipt -t nat -F cali-nat-outgoing; ipt -t nat -A cali-nat-outgoing -j RETURN",
            calico(CRITICAL, "C3"),
        ),
        only(
            "a jump three times",
            "repeat 2 ipt -t nat -A OUTPUT -j cali-OUTPUT",
            calico(WARNING, "C5").says("OUTPUT"),
        )
        .on(ALL),
        only("a jump 52 times", "repeat 51 ipt -t nat -A POSTROUTING -j cali-POSTROUTING", calico(CRITICAL, "C5")),
    ]
}
