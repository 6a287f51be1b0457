//! Where containerd has its database, and nodes on which all is well.

use super::node::{Driver, Ended, KUBEADM, MINUTE, Node};
use super::support::bolt::{MetaDb, Pod};
use super::{Case, case};

const MICROK8S: &str = "/var/snap/microk8s/common/var/lib/containerd";
const K3S: &str = "/var/lib/rancher/k3s/agent/containerd";
const RKE2: &str = "/var/lib/rancher/rke2/agent/containerd";
const K0S: &str = "/var/lib/k0s/containerd";
const DOCKER: &str = "/var/lib/docker/containerd/daemon";

pub fn web() -> Pod {
    Pod::new("default/web-0")
}

fn etcd() -> Pod {
    Pod::new("kube-system/etcd-n1").host_network()
}

fn dns() -> Pod {
    Pod::new("kube-system/coredns-5d78c9869d-x7k2p")
}

/// With three pods, one of them with the node's network.
fn with_pods(node: Node) -> Node {
    let (web, dns) = (web(), dns());
    let node = node.live(&web).container(&web.container("nginx"), Ended::No).live(&etcd());
    node.live(&dns).container(&dns.container("coredns"), Ended::No)
}

/// The same before a reboot 40 minutes ago.
fn rebooted(node: Node) -> Node {
    let node = node.boot('2', 40 * MINUTE);
    let before = [web(), etcd(), dns()].into_iter().fold(node, |node, pod| node.taken(&pod, "app", Ended::Unknown));
    let when = "2026-11-21T02:43:30Z";
    [web(), etcd(), dns()].into_iter().fold(before, |node, pod| node.live(&pod.attempt(1).created(when)))
}

fn stale_on(root: &str, schema: u64) -> Node {
    let db = if schema == 4 { MetaDb::v2() } else { MetaDb::new() };
    Node::of(root, db).live(&dns()).taken(&web(), "nginx", Ended::Unknown)
}

/// Two that have one name.
pub fn doubled(node: Node) -> Node {
    node.dead(&web()).dead(&web().id("d00b1e"))
}

/// A container that is in no database.
const STRAY: &str = "/kubepods.slice/kubepods-burstable.slice/\
    kubepods-burstable-pod0dd4e3a1_5f0e_4a5c_9a61_2f0e2a3b4c5d.slice/\
    cri-containerd-c0ffee0000000000000000000000000000000000000000000000000000000001.scope";

pub fn cases() -> Vec<Case> {
    let all_well = "duplicates=0 broken=0 inverted=0 stuck=0 stuck_age=0s inverted_live=0 stale=0 orphaned=0 netless=0";
    let v17 = || Node::of(KUBEADM, MetaDb::v2().schema(3).remove(&["v1", "k8s.io", "sandboxes"]));
    let api = |pod: &Pod| Node::of(KUBEADM, MetaDb::new().sandbox_of_1_7(pod)).live(pod);
    let here = "database: /var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db, schema 3, open in process 700";
    let moved = |node: Node| with_pods(node);
    let given = "/etc/containerd/conf.d";
    vec![
        case("healthy-1.6", with_pods(Node::new()), 0, all_well, "3 sandboxes on record, all live", &[here]),
        case(
            "healthy-1.7-cgroup-v1",
            with_pods(v17().driver(Driver::CgroupfsV1)),
            0,
            "sandboxes=3 live=3 superseded=0 reserved_names=3",
            "3 sandboxes on record, all live",
            &[],
        )
        .only_here(),
        case("healthy-1.7-sandbox-server", api(&web()), 0, "sandboxes=1 live=1", "1 sandbox on record", &["schema 3"]),
        case(
            "healthy-2-mixed-cgroup-drivers",
            with_pods(Node::v2().driver(Driver::Mixed)),
            0,
            "sandboxes=3 live=3",
            "3 sandboxes on record, all live",
            &["schema 4"],
        )
        .only_here(),
        case("no-pods", Node::new(), 0, "sandboxes=0 live=0 stale=0", "0 sandboxes on record", &[]),
        // Normal after every reboot; so are the dead containers, which the kubelet keeps to tell how they ended.
        case("rebooted-1.6", rebooted(Node::new()), 0, "sandboxes=6 live=3 superseded=3 stale=0", "3 superseded", &[]),
        case("rebooted-2", rebooted(Node::v2()), 0, "sandboxes=6 live=3 superseded=3 stale=0", "3 live", &[])
            .only_here(),
        // --- each distribution's own place, and how its tools are called
        case(
            "microk8s-duplicate",
            doubled(Node::of(MICROK8S, MetaDb::new())),
            2,
            "duplicates=1",
            "the next start of containerd will fail: two records with one name: default/web-0 attempt 0 (",
            &["microk8s ctr -n k8s.io containers rm ", "meta.db (microk8s), schema 3"],
        ),
        case("k3s", stale_on(K3S, 4), 1, "stale=1", "default/web-0 attempt 0", &["meta.db (k3s), schema 4"]),
        case("rke2", stale_on(RKE2, 4), 1, "stale=1", "default/web-0 attempt 0", &["meta.db (RKE2), schema 4"]),
        case("k0s", stale_on(K0S, 3), 1, "stale=1", "default/web-0 attempt 0", &["meta.db (k0s), schema 3"])
            .only_here(),
        case("docker-s-own", stale_on(DOCKER, 3), 1, "stale=1", "default/web-0 attempt 0", &["meta.db (Docker)"])
            .only_here(),
        // --- moved
        case(
            "moved-by-argument",
            moved(Node::of("/data/containerd", MetaDb::new()).told(&["--root", "/data/containerd/"])),
            0,
            "sandboxes=3 live=3",
            "all live",
            &["database: /data/containerd/io.containerd.metadata.v1.bolt/meta.db, schema 3, open in process 700"],
        )
        .only_here(),
        case(
            "moved-by-a-setting-that-is-imported",
            moved(
                Node::of("/mnt/c", MetaDb::v2())
                    .told(&["--config=/opt/containerd/config.toml", "--log-level=info"])
                    .file("/opt/containerd/config.toml", "version = 2\nroot = \"/no\"\nimports = [\"conf.d/*.toml\"]\n")
                    .file("/opt/containerd/conf.d/10-gpu.toml", "version = 2\n[plugins]\n")
                    .file("/opt/containerd/conf.d/20-root.toml", "version = 2\nroot = \"/mnt/c\"\n"),
            ),
            0,
            "sandboxes=3 live=3",
            "all live",
            &["database: /mnt/c/io.containerd.metadata.v1.bolt/meta.db"],
        )
        .only_here(),
        case(
            "moved-by-a-setting-and-down",
            Node::of("/mnt/c", MetaDb::new())
                .file("/etc/containerd/config.toml", format!("version = 2\nimports = [\"{given}/*.toml\"]\n"))
                .file(&format!("{given}/root.toml"), "root = \"/mnt/c\"\n")
                .live(&web())
                .down(),
            0,
            "sandboxes=1 live=1",
            "1 sandbox on record, all live; containerd does not run",
            &["open in no process: containerd does not run"],
        ),
        // Only the look while it ran saw where it is.
        case(
            "moved-by-argument-and-down",
            doubled(Node::of("/data/c", MetaDb::new()).told(&["--root=/data/c"]))
                .down()
                .after(with_pods(Node::of("/data/c", MetaDb::new()).told(&["--root=/data/c"])).ago(1)),
            2,
            "duplicates=1",
            "the next start of containerd will fail",
            &["database: /data/c/io.containerd"],
        ),
        // --- others' databases
        case(
            "docker-without-kubernetes",
            Node::of(KUBEADM, MetaDb::new().remove(&["v1", "k8s.io"]).bucket(&["v1", "moby", "containers"])),
            3,
            "",
            "not on this node: no namespace k8s.io in /var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db (it has moby)",
            &[],
        ),
        case(
            "container-without-a-record",
            Node::new()
                .live(&web())
                .process(3000, "nginx", 'S', 1, &format!("0::{STRAY}\n"))
                .file("/var/log/pods/shop_cart-0_0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d/app/0.log", ""),
            1,
            "unrecorded=1 live=1",
            "1 container runs without a record: containerd does not know it: shop/cart-0 (c0ffee",
            &["to mend it: drain the node and reboot it"],
        ),
        case(
            "crio-beside-a-containerd-of-before",
            Node::new().taken(&web(), "nginx", Ended::Unknown).down().process(
                660,
                "crio",
                'S',
                1,
                "0::/system.slice/crio.service\n",
            ),
            3,
            "",
            "not on this node: CRI-O runs, and nobody has the database of containerd open (/var/lib/containerd/",
            &[],
        ),
        // Nothing lives after a boot: the database that nobody has open may be the one that matters.
        case(
            "crashed-k3s-beside-an-idle-containerd",
            doubled(Node::of(KUBEADM, MetaDb::new()).database(K3S, MetaDb::v2()))
                .file("/proc/locks", "1: FLOCK  ADVISORY  WRITE 700 fd:01:1311420 0 EOF\n"),
            2,
            "duplicates=1",
            "the next start of containerd will fail",
            &["k3s ctr -n k8s.io containers rm"],
        ),
        // It was stopped for a moment: what lives in it tells that it is the one.
        case(
            "k3s-that-restarts-beside-a-containerd-of-before",
            Node::new().taken(&dns(), "coredns", Ended::Unknown).database(K3S, MetaDb::v2()).live(&web()).down(),
            0,
            "sandboxes=1 live=1 stale=0",
            "1 sandbox on record, all live; containerd does not run",
            &["not judged: /var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"],
        ),
        case(
            "docker-beside-k3s",
            Node::of(KUBEADM, MetaDb::new().remove(&["v1", "k8s.io"]).bucket(&["v1", "moby", "containers"]))
                .database(K3S, MetaDb::v2())
                .live(&web()),
            0,
            "sandboxes=1 live=1",
            "1 sandbox on record, all live",
            &["(k3s), schema 4, open in process 701"],
        ),
        case(
            "two-databases",
            with_pods(Node::new()).database(K3S, MetaDb::v2()).taken(&Pod::new("ci/runner-4"), "sh", Ended::Unknown),
            1,
            "sandboxes=4 live=3 stale=1",
            "1 sandbox died uncleanly and has no successor: ci/runner-4 attempt 0",
            &["[/var/lib/rancher/k3s/agent/containerd]", "(k3s), schema 4, open in process 701", here],
        ),
        case(
            "not-containerd-s",
            Node::of(KUBEADM, MetaDb::nothing().bucket(&["key"])),
            3,
            "",
            "no database of containerd, since it has no bucket v1: /var/lib",
            &[],
        ),
    ]
}
