//! What looks odd on a node, and is no fault.

use nodecheck::parse::ruleset::Family;

use crate::generate::{Cluster, Era, Felix};
use crate::node::Backend;
use crate::row::{ALL, BOTH, Row, Sides, plain, quiet};

/// Chains as a mode switch leaves them: without rules, and nothing leads there.
pub fn leftovers() -> String {
    let chain = |kind: &str, n: usize| {
        let letters: String =
            (0..16).map(|at| char::from(b'A' + u8::try_from((n * 7 + at * 3) % 26).unwrap())).collect();
        format!(":KUBE-{kind}-{letters} - [0:0]\n")
    };
    let chains: String = (0..7).map(|n| chain("SVC", n)).chain((7..20).map(|n| chain("SEP", n))).collect();
    format!("*nat\n{chains}COMMIT\n")
}

/// What MicroK8s' start script writes, whichever backend the rest is in.
const MICROK8S: &str = "pods='generated for MicroK8s pods'
    for ip in ipt other; do
        $ip -t filter -A FORWARD -s 10.1.0.0/16 -m comment --comment \"$pods\" -j ACCEPT
        $ip -t filter -A FORWARD -d 10.1.0.0/16 -m comment --comment \"$pods\" -j ACCEPT
    done";

const LEGACY: Sides = &[(Backend::Legacy, Family::Ip)];
const NFT: Sides = &[(Backend::Nft, Family::Ip)];

fn changed(name: &'static str, change: impl Fn(&mut Cluster) + Send + Sync + 'static) -> Row {
    quiet(name, move |at| at.load(&plain(at).with(|cluster| change(cluster))))
}

/// Rules beside those of a whole node.
fn beside(name: &'static str, script: &'static str) -> Row {
    quiet(name, move |at| {
        at.load(&plain(at));
        at.sh(script);
    })
}

pub fn rows() -> Vec<Row> {
    [clusters(), settings(), strangers()].into_iter().flatten().collect()
}

fn clusters() -> Vec<Row> {
    vec![
        quiet("all that a cluster can have", |at| at.load(&Cluster::rich(at.family))).on(ALL),
        quiet("all that an old cluster can have", |at| {
            at.load(&Cluster::rich(at.family).with(|cluster| cluster.era = Era::Old));
        })
        .on(ALL),
        quiet("a large cluster's rules, without comments", |at| {
            at.load(&Cluster::rich(at.family).with(|cluster| cluster.has_comments = false));
        }),
        changed("Felix inserts", |cluster| cluster.felix = Felix::Inserts),
        changed("Felix appends", |cluster| cluster.felix = Felix::Appends).on(ALL),
        changed("no pool leaves the cluster", |cluster| cluster.has_pools = false).on(ALL),
        changed("no Calico", |cluster| cluster.has_calico = false),
        quiet("only the kubernetes service", |at| {
            at.load(&Cluster::new(at.family, 1, 0).with(|cluster| cluster.services.truncate(1)));
        }),
        quiet("IPv6 without services", |at| {
            at.load(&plain(at));
            at.load(&Cluster::skeleton(Family::Ip6).with(|cluster| cluster.has_calico = false));
        }),
        quiet("IPv4 without services", |at| {
            at.load(&plain(at));
            at.load(&Cluster::skeleton(Family::Ip));
        })
        .on(&ALL[2..]),
        quiet("two families", |at| {
            at.load(&plain(at));
            at.load(&Cluster::new(Family::Ip6, 20, 3).with(|cluster| drop(cluster.services.remove(0))));
        })
        .on(BOTH),
        quiet("leftovers of another mode", |at| {
            let left = leftovers();
            let chains = left.trim_start_matches("*nat\n").trim_end_matches("COMMIT\n");
            at.load(&plain(at));
            std::fs::write(at.dir().join("left"), format!("*nat\n{chains}COMMIT\n")).unwrap();
            at.sh("\"$PROGRAM-$HERE-restore\" --noflush <\"$DIR/left\"");
        }),
        quiet("leftovers in the other backend", |at| {
            at.load(&plain(at));
            std::fs::write(at.dir().join("left"), leftovers()).unwrap();
            at.sh("\"$PROGRAM-$THERE-restore\" <\"$DIR/left\"");
        }),
    ]
}

/// What people set up otherwise.
fn settings() -> Vec<Row> {
    let edited = |name, edit: fn(&str) -> String| {
        quiet(name, move |at| {
            at.load(&plain(at));
            at.load_text(&edit(&plain(at).rules()));
        })
    };
    vec![
        edited("another bit marks", |rules| {
            rules.replace("0x4000/0x4000", "0x8000/0x8000").replace("0x4000/0x0", "0x8000/0x0")
        }),
        edited("an old kernel or iptables: no random ports", |rules| rules.replace(" --random-fully", "")),
        edited("node ports on two addresses", |rules| {
            let last =
                rules.lines().find(|line| line.starts_with("-A KUBE-SERVICES") && line.ends_with("-j KUBE-NODEPORTS"));
            let on = |address: &str| {
                let all = last.unwrap().replace("-m addrtype --dst-type LOCAL", "");
                all.replace("-A KUBE-SERVICES", &format!("-A KUBE-SERVICES -d {address}"))
            };
            rules.replace(last.unwrap(), &[on("192.0.2.10/32"), on("127.0.0.1/32")].join("\n"))
        }),
        edited("pods leave with an address of the node's", |rules| {
            let rule = rules.lines().find(|line| line.starts_with("-A cali-nat-outgoing")).unwrap();
            rules.replace(rule, &rule.replace("-j MASQUERADE --random-fully", "-j SNAT --to-source 192.0.2.10"))
        }),
        // Five rules, of which the one for all else comes last.
        edited("pods leave with certain ports", |rules| {
            let rule = rules.lines().find(|line| line.starts_with("-A cali-nat-outgoing")).unwrap();
            let of = |protocol: &str| {
                let ports = "-j MASQUERADE --to-ports 32768-65535 --random-fully";
                let returns = rule.replace("-j MASQUERADE --random-fully", &format!("-p {protocol} -j RETURN"));
                format!(
                    "{}\n{returns}",
                    rule.replace("-j MASQUERADE --random-fully", &format!("-p {protocol} {ports}"))
                )
            };
            rules.replace(rule, &[of("tcp"), of("udp"), rule.to_owned()].join("\n"))
        }),
        // What a kube-proxy of before wrote with the other iptables, and took its jumps away.
        quiet("chains of the other backend that nothing leads to", |at| {
            at.load(&plain(at));
            let rules = plain(at).with(|cluster| cluster.has_calico = false).rules();
            let nat = rules.split_once("*nat").unwrap().1.split_once("COMMIT").unwrap().0;
            let is_jump =
                |line: &&str| ["PREROUTING", "OUTPUT", "POSTROUTING"].contains(&line.split(' ').nth(1).unwrap_or(""));
            let chains: Vec<&str> = nat.lines().filter(|line| !line.starts_with("-A ") || !is_jump(line)).collect();
            std::fs::write(at.dir().join("left"), format!("*nat{}\nCOMMIT\n", chains.join("\n"))).unwrap();
            at.sh("\"$PROGRAM-$THERE-restore\" <\"$DIR/left\"");
        }),
    ]
}

/// Rules of others.
fn strangers() -> Vec<Row> {
    vec![
        beside("MicroK8s", MICROK8S).on(LEGACY),
        beside("empty tables in the other backend", "other -t nat -S; other -t filter -S"),
        // Each is for some traffic only, or comes after the jump.
        beside(
            "terminal rules that let most pass",
            "ipt -t nat -I PREROUTING -d 192.0.2.99 -j ACCEPT
             ipt -t nat -I PREROUTING -i docker0 -j RETURN
             ipt -t nat -I OUTPUT -p tcp -m tcp --dport 10256 -j RETURN
             ipt -t nat -I OUTPUT -m owner --uid-owner 1337 -j RETURN
             ipt -t nat -A PREROUTING -j ACCEPT
             ipt -t nat -A OUTPUT -j ACCEPT",
        ),
        // What is masqueraded in any case needs no mark for it.
        beside("all that leaves is masqueraded", "ipt -t nat -I POSTROUTING -j MASQUERADE"),
        beside(
            "host ports of the CNI plugin",
            "ipt -t nat -N CNI-HOSTPORT-DNAT; ipt -t nat -N CNI-HOSTPORT-SETMARK; ipt -t nat -N CNI-DN-0123456789
             ipt -t nat -I PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
             ipt -t nat -I OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
             ipt -t nat -A CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000
             ipt -t nat -A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 8443 -j CNI-DN-0123456789
             ipt -t nat -A CNI-DN-0123456789 -p tcp -m tcp --dport 8443 -j DNAT --to-destination 10.128.0.9:443",
        ),
        beside(
            "Docker",
            "ipt -t nat -N DOCKER
             ipt -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
             ipt -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
             ipt -t nat -I POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
             ipt -t nat -A DOCKER -i docker0 -j RETURN",
        ),
        beside(
            "rules in the other backend that are not Kubernetes'",
            "other -t nat -N DOCKER; other -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
             other -t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE
             other -t filter -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
        ),
        // iptables-nft-save can't print these any more; the kernel runs them all the same.
        beside(
            "native rules in table nat",
            "nft add rule ip nat PREROUTING iifname docker0 counter accept
             nft insert rule ip nat POSTROUTING ip saddr 172.17.0.0/16 meta mark and 0xff == 0x1 masquerade
             nft 'add set ip nat some { type ipv4_addr . inet_service ; }'
             nft add rule ip nat OUTPUT ip daddr . tcp dport @some counter dnat to 192.0.2.1:80",
        )
        .on(NFT),
        beside(
            "firewalld in a table of its own",
            "nft 'add table inet firewalld
             add chain inet firewalld nat_PREROUTING { type nat hook prerouting priority -90 ; }
             add chain inet firewalld nat_POSTROUTING { type nat hook postrouting priority 110 ; }
             add rule inet firewalld nat_POSTROUTING oifname eth9 masquerade'",
        ),
    ]
}
