//! The generator: its names are kube-proxy's, and the kernel takes all that it writes.

use std::process::Command;

use nodecheck::parse::ruleset::Family;

use crate::generate::{Cluster, Era, Felix};
use crate::node::{At, Backend};

#[test]
fn names_are_those_of_every_cluster() {
    let mut cluster = Cluster::new(Family::Ip, 4, 0);
    for (title, hash) in [
        ("default/kubernetes:https", "NPX46M4PTMTKRN6Y"),
        ("kube-system/kube-dns:dns", "TCOU7JCQXEZGVUNU"),
        ("kube-system/kube-dns:dns-tcp", "ERIFXISQEP7F7OF4"),
        ("kube-system/kube-dns:metrics", "JD5MR3NA4I4DYORP"),
    ] {
        assert_eq!(cluster.service(title).chain("SVC"), format!("KUBE-SVC-{hash}"));
    }
    let seen = "192.168.20.100:6443".parse().unwrap();
    let kubernetes = cluster.service("default/kubernetes:https");
    assert_eq!(kubernetes.endpoint_chain(seen), "KUBE-SEP-U7HH75UFG3U5VGYY");
    assert!(kubernetes.nft_name().ends_with("-default/kubernetes/tcp/https"));
}

#[test]
fn what_is_generated_is_what_is_loaded() {
    let changes: [fn(&mut Cluster); 6] = [
        |_| (),
        |cluster| cluster.era = Era::Old,
        |cluster| cluster.has_kube = false,
        |cluster| cluster.has_calico = false,
        |cluster| (cluster.has_comments, cluster.felix) = (false, Felix::Inserts),
        |cluster| (cluster.has_pools, cluster.felix) = (false, Felix::Appends),
    ];
    for (backend, family) in crate::row::ALL.iter().copied() {
        let at = At::new(backend, family);
        for change in changes {
            let cluster = Cluster::rich(family).with(change);
            at.load(&cluster);
            let saved = at.script("\"$PROGRAM-$HERE-save\"").output().unwrap().stdout;
            let rules = |text: &str| text.lines().filter(|line| line.starts_with("-A ")).count();
            let chains = |text: &str| text.lines().filter(|line| line.ends_with(" - [0:0]")).count();
            let (saved, wanted) = (String::from_utf8(saved).unwrap(), cluster.rules());
            assert_eq!((rules(&saved), chains(&saved)), (rules(&wanted), chains(&wanted)), "{saved}");
            assert!(rules(&saved) > 50);
            at.clear();
        }
    }
}

#[test]
fn the_nftables_modes_are_loaded() {
    for family in [Family::Ip, Family::Ip6] {
        let at = At::new(Backend::Nft, family);
        let cluster = Cluster::rich(family);
        at.nft(&(cluster.nft() + &cluster.nft_calico()));
        let listed = Command::new("nft").args(["list", "ruleset"]).output().unwrap().stdout;
        let listed = String::from_utf8(listed).unwrap();
        let endpoints: usize = cluster.services.iter().map(|service| service.endpoints.len()).sum();
        assert_eq!(listed.matches(" dnat to ").count(), endpoints, "{listed}");
        assert_eq!(listed.matches("masquerade fully-random").count(), 2);
    }
}
