//! kube-proxy and Calico in their nftables modes.

use crate::generate::Cluster;
use crate::node::At;
use crate::row::{CRITICAL, Look, NFT, NFT_BOTH, OK, Row, UNKNOWN, WARNING, calico, kube, plain, quiet, row, script};

/// Detailed codes of a set that is missing as a whole.
const KUBE_ALL: &str = "K1 K2 K3 K4 K5 K6 B1";
/// The two tables; and to take a rule out of a chain by what it says.
const NFT_WORDS: &str = "ip=ip; [ $PROGRAM = iptables ] || ip=ip6
KUBE=\"$ip kube-proxy\"; CALICO=\"$ip calico\"
delete() {
    handle=$(nft -a list chain $1 $2 | grep -- \"$3\" | grep -o 'handle [0-9]*$')
    nft delete rule $1 $2 $handle
}
";

fn both(at: &At) {
    at.nft(&(plain(at).nft() + &plain(at).nft_calico()));
}

fn nft(name: &'static str, broken: &str, looks: [Look; 2]) -> Row {
    let broken = format!("{NFT_WORDS}{broken}");
    row(name, move |at| at.sh(&broken), looks).whole(both).on(NFT)
}

fn of_kube(name: &'static str, broken: &str, look: Look) -> Row {
    nft(name, broken, [look, calico(OK, "")])
}

fn of_calico(name: &'static str, broken: &str, look: Look) -> Row {
    nft(name, broken, [kube(OK, ""), look])
}

pub fn rows() -> Vec<Row> {
    [kube_sets(), kube_rules(), calico_rules(), whole()].into_iter().flatten().collect()
}

fn kube_sets() -> Vec<Row> {
    let absent = [kube(UNKNOWN, "").says("not on this node"), calico(OK, "").says("not on this node")];
    let half = |at: &At| {
        at.clear();
        at.nft(&(plain(at).with(|cluster| cluster.services.truncate(10)).nft() + &plain(at).nft_calico()));
    };
    vec![
        nft(
            "the tables are deleted",
            "nft delete table $KUBE; nft delete table $CALICO",
            [kube(CRITICAL, "K0").may(KUBE_ALL), calico(CRITICAL, "C0").may("C1 C2 C3")],
        )
        .first(absent.clone())
        .on(NFT_BOTH),
        // Chains stay; the kernel takes the elements away that lead to a chain only with the chain.
        nft(
            "the tables are flushed",
            "nft flush table $KUBE; nft flush table $CALICO",
            [kube(CRITICAL, "K1 K2 K3").may("K4 K5 K6 B1"), calico(CRITICAL, "C2 C3")],
        ),
        row("half of the services are gone", half, [kube(WARNING, "B1"), calico(OK, "")])
            .whole(both)
            .on(NFT)
            .first([kube(OK, "")]),
        // Two DNATs compete as they do in two backends of iptables.
        row(
            "live rules of the iptables mode",
            |at| at.load_other(&plain(at).with(|cluster| cluster.has_calico = false)),
            [kube(WARNING, "S1").may("S4"), calico(OK, "")],
        )
        .whole(both)
        .on(NFT),
    ]
}

fn kube_rules() -> Vec<Row> {
    let api = "service-ips '{ '$NPX_IP' . tcp . 443 : goto service-'$NPX_NFT' }'";
    let refused = "no-endpoint-services '{ '$NPX_IP' . tcp . 443 : goto reject-chain }'";
    vec![
        of_kube("services is empty", "nft flush chain $KUBE services", kube(CRITICAL, "K1").may("K4 B1")).on(NFT_BOTH),
        of_kube(
            "the table is dormant",
            "nft add table $KUBE '{ flags dormant; }'",
            kube(CRITICAL, "K2").says("dormant").may("K4"),
        )
        .on(NFT_BOTH),
        // The definition says both of no element at all.
        of_kube("service-ips is empty", "nft flush map $KUBE service-ips", kube(CRITICAL, "K1|K4").may("K1 K4 B1")),
        of_kube(
            "no jump from prerouting",
            "nft flush chain $KUBE nat-prerouting",
            kube(CRITICAL, "K2").says("nat-prerouting"),
        )
        .on(NFT_BOTH),
        of_kube("no jump from output", "nft flush chain $KUBE nat-output", kube(CRITICAL, "K2").says("nat-output")),
        of_kube(
            "no jump from postrouting",
            "nft flush chain $KUBE nat-postrouting",
            kube(CRITICAL, "K2").says("nat-postrouting"),
        ),
        of_kube("no masquerade", "delete \"$KUBE\" masquerading 'masquerade '", kube(CRITICAL, "K3")),
        of_kube("nothing marks", "nft flush chain $KUBE mark-for-masquerade", kube(CRITICAL, "K3")).on(NFT_BOTH),
        of_kube("kubernetes is not dispatched", &format!("eval nft delete element $KUBE {api}"), kube(CRITICAL, "K4")),
        of_kube(
            "kubernetes has no endpoints",
            &format!("eval nft delete element $KUBE {api}; eval nft add element $KUBE {refused}"),
            kube(CRITICAL, "K7"),
        )
        .on(NFT_BOTH),
        of_kube("kubernetes' chain is empty", "nft flush chain $KUBE service-$NPX_NFT", kube(CRITICAL, "K5").may("K6")),
        of_kube("its endpoint's chain is empty", "nft flush chain $KUBE $NPX_NFT_EP", kube(CRITICAL, "K5").may("K6"))
            .on(NFT_BOTH),
        of_kube("1 of 20 chains of services is empty", "nft flush chain $KUBE service-$ONE_NFT", kube(WARNING, "K6"))
            .on(NFT_BOTH),
        of_kube(
            "2 of 20 chains of services are empty",
            "nft flush chain $KUBE service-$ONE_NFT; nft flush chain $KUBE service-$TWO_NFT",
            kube(CRITICAL, "K6"),
        ),
        of_kube("all is accepted before the jump", "nft insert rule $KUBE nat-output accept", kube(CRITICAL, "K11")),
        of_kube(
            "its endpoint leads elsewhere",
            "nft flush chain $KUBE $NPX_NFT_EP; nft add rule $KUBE $NPX_NFT_EP meta l4proto tcp dnat to 192.0.2.11:6443",
            kube(WARNING, "K14"),
        ),
        of_kube("a jump twice", "nft add rule $KUBE nat-prerouting jump services", kube(WARNING, "K12")),
    ]
}

fn calico_rules() -> Vec<Row> {
    vec![
        of_calico("Calico's table is deleted", "nft delete table $CALICO", calico(CRITICAL, "C0").may("C1 C2 C3"))
            .first([kube(OK, ""), calico(OK, "").says("not on this node")]),
        of_calico(
            "cali-OUTPUT is missing",
            "nft flush chain $CALICO nat-OUTPUT; nft delete chain $CALICO nat-cali-OUTPUT",
            calico(CRITICAL, "C1").may("C2"),
        ),
        of_calico(
            "no jump from PREROUTING",
            "nft flush chain $CALICO nat-PREROUTING",
            calico(CRITICAL, "C2").says("PREROUTING"),
        )
        .on(NFT_BOTH),
        of_calico("no jump from OUTPUT", "nft flush chain $CALICO nat-OUTPUT", calico(CRITICAL, "C2").says("OUTPUT")),
        of_calico(
            "no jump from POSTROUTING",
            "nft flush chain $CALICO nat-POSTROUTING",
            calico(CRITICAL, "C2").says("POSTROUTING"),
        ),
        of_calico(
            "no jump to nat-outgoing",
            "delete \"$CALICO\" nat-cali-POSTROUTING 'jump nat-cali-nat-outgoing'",
            calico(CRITICAL, "C2").may("C3"),
        ),
        of_calico("nothing is masqueraded", "nft flush chain $CALICO nat-cali-nat-outgoing", calico(CRITICAL, "C3"))
            .on(NFT_BOTH),
        of_calico(
            "a jump twice",
            "nft add rule $CALICO nat-OUTPUT counter jump nat-cali-OUTPUT",
            calico(WARNING, "C5"),
        ),
        // kube-proxy in iptables mode, on nf_tables: both are in one backend.
        script(
            "kube-proxy's iptables mode beside Calico's nftables mode",
            "nft flush chain ip calico nat-cali-nat-outgoing",
            [kube(OK, ""), calico(CRITICAL, "C3")],
        )
        .whole(|at| {
            at.load(&plain(at).with(|cluster| cluster.has_calico = false));
            at.nft(&plain(at).nft_calico());
        })
        .on(NFT),
    ]
}

/// Nothing is wrong on these.
fn whole() -> Vec<Row> {
    vec![
        quiet("all that a cluster can have", |at| {
            let rich = Cluster::rich(at.family);
            at.nft(&(rich.nft() + &rich.nft_calico()));
        })
        .on(NFT_BOTH),
        quiet("no pool leaves the cluster", |at| {
            let quiet = plain(at).with(|cluster| cluster.has_pools = false);
            at.nft(&(quiet.nft() + &quiet.nft_calico()));
        })
        .on(NFT),
        quiet("IPv6 without services", |at| {
            let skeleton = Cluster::skeleton(nodecheck::parse::ruleset::Family::Ip6);
            at.nft(&(plain(at).nft() + &plain(at).nft_calico() + &skeleton.nft()));
        })
        .on(NFT),
        // What an iptables mode of old left: chains without rules that nothing leads to.
        quiet("leftovers of the iptables mode", |at| {
            both(at);
            at.load_text(&crate::quiet::leftovers());
        })
        .on(NFT),
    ]
}
