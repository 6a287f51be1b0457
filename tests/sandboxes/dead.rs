//! Sandboxes that died: which of them anybody needs to know of.

use super::healthy::web;
use super::node::{Driver, Ended, MINUTE, Node};
use super::support::bolt::Pod;
use super::{Case, case};

const FOREIGN: &str = "pid:[4026532876]";
const TAKEN: &str = "1 sandbox died uncleanly and has no successor: default/web-0 attempt 0 (";

fn db() -> Pod {
    Pod::new("db/postgres-0")
}

/// 40 minutes after a power loss, and nothing runs: one pod has the node's network, hence no address.
fn power_loss(node: Node, ended: Ended) -> Node {
    let etcd = Pod::new("kube-system/etcd-n1").host_network();
    node.boot('2', 40 * MINUTE).taken(&web(), "nginx", ended).taken(&etcd, "etcd", ended)
}

/// A pod that is dead unless the processes tell otherwise, beside one that lives.
fn doubtful() -> Node {
    Node::new().live(&db()).taken(&web(), "nginx", Ended::No)
}

fn kata() -> Pod {
    web().runtime(Some("io.containerd.kata.v2"))
}

/// A pid namespace that is not the node's, without a process of a pod.
fn foreign_processes() -> Node {
    let node = Node::new().taken(&web(), "nginx", Ended::No).without("/proc/700").without("/proc/650");
    let node = node.link("/proc/1/ns/pid", FOREIGN).link("/proc/self/ns/pid", FOREIGN);
    node.process(1, "nodecheck", 'S', 0, "0::/\n")
}

pub fn cases() -> Vec<Case> {
    let orphan = || Node::new().live(&db()).dead(&web()).forgotten(&web());
    let known = || Node::new().live(&db()).dead(&web());
    let looked = |minutes: u64, node: Node| orphan().after(node.ago(minutes));
    let shim = "/usr/local/bin/containerd-shim-runc-v2";
    let (with_shim, number) = doubtful().shim(shim, &web());
    let netless = Node::new().live(&db()).dead(&web()).paused(&web(), 'S');
    vec![
        case(
            "power-loss-and-containerd-down",
            power_loss(Node::new(), Ended::No).down(),
            1,
            "stale=2 stuck=0 live=0 superseded=0",
            "2 sandboxes died uncleanly and have no successors: ",
            &[
                "default/web-0 attempt 0",
                "nobody saw the end of nginx",
                "nobody saw the end of etcd",
                "containerd does not run",
            ],
        ),
        case("power-loss-1.6", power_loss(Node::new(), Ended::Unknown), 1, "stale=2", "died uncleanly", &["etcd"])
            .only_here(),
        case("power-loss-2", power_loss(Node::v2(), Ended::Unknown), 1, "stale=2 stuck=0", "died uncleanly", &["etcd"])
            .only_here(),
        // The kubelet has not got to all pods yet.
        case(
            "power-loss-8-minutes-ago",
            power_loss(Node::new(), Ended::Unknown).boot('2', 8 * MINUTE),
            0,
            "stale=0 sandboxes=2 live=0",
            "2 sandboxes on record, 0 live",
            &[],
        ),
        case(
            "power-loss-and-one-has-a-successor",
            power_loss(Node::new(), Ended::Unknown).live(&web().attempt(1).created("2026-11-21T02:44:00Z")),
            1,
            "stale=1 superseded=1 live=1",
            "1 sandbox died uncleanly and has no successor: kube-system/etcd-n1",
            &[],
        ),
        // A successor that is dead, too, takes nobody's place.
        case(
            "power-loss-twice",
            power_loss(Node::new(), Ended::Unknown).taken(
                &web().attempt(1).created("2026-11-21T02:44:00Z"),
                "nginx",
                Ended::No,
            ),
            1,
            "live=0 superseded=0",
            "died uncleanly",
            &["default/web-0 attempt 1"],
        ),
        case(
            "jobs-that-are-finished",
            Node::new()
                .live(&db())
                .taken(&Pod::new("batch/report-28921440-mz8fd"), "report", Ended::With(0))
                .taken(&Pod::new("batch/import-28921440-x2x9w"), "import", Ended::With(137))
                .taken(&Pod::new("batch/waits-28921440-aaaaa"), "main", Ended::NeverBegan),
            0,
            "sandboxes=4 live=1 stale=0 stuck=0",
            "4 sandboxes on record, 1 live",
            &[],
        ),
        case(
            "died-between-looks-5-minutes-apart",
            doubtful().after(Node::new().live(&db()).live(&web()).ago(5)),
            0,
            "stale=0 live=1",
            "2 sandboxes on record, 1 live",
            &[],
        ),
        case("died-12-minutes-ago", doubtful().after(doubtful().ago(12)), 1, "stale=1", TAKEN, &[]).only_here(),
        // --- what lives
        case("processes-hidden", doubtful().without("/proc/1/stat"), 3, "duplicates=0", "hidepid", &[]),
        case(
            "processes-of-another-pid-namespace",
            foreign_processes(),
            3,
            "duplicates=0 sandboxes=1",
            "a pod needs hostPID",
            &[],
        ),
        // What does not depend on processes is told all the same.
        case(
            "processes-of-another-pid-namespace-and-a-duplicate",
            foreign_processes().dead(&web().id("d00b1e")),
            2,
            "duplicates=1 sandboxes=2",
            "the next start of containerd will fail",
            &["hostPID", "sandbox default/web-0 attempt 0: 1b4365967b764", "ctr -n k8s.io containers rm ID"],
        ),
        // A node of kind is in a namespace of its own, and sees all that is its.
        case(
            "kind-node",
            foreign_processes()
                .process(1, "systemd", 'S', 0, "0::/init.scope\n")
                .process(231, "kubelet", 'S', 1, "0::/\n"),
            1,
            "stale=1 live=0",
            TAKEN,
            &[],
        ),
        case("pause-is-a-zombie", doubtful().paused(&web(), 'Z'), 1, "stale=1 live=1", TAKEN, &[]),
        case(
            "pause-is-known-by-runc-alone",
            doubtful().process(4711, "pause", 'S', 1, "0::/\n").runc(&web(), 4711, 471_100).netns(&web()),
            0,
            "stale=0 live=2",
            "all live",
            &[],
        ),
        case(
            "another-process-has-the-number",
            doubtful().process(4711, "sshd", 'S', 1, "0::/\n").runc(&web(), 4711, 471_099),
            1,
            "stale=1 live=1",
            TAKEN,
            &[],
        )
        .only_here(),
        case("runc-s-process-is-gone", doubtful().runc(&web(), 4711, 471_100), 1, "stale=1", TAKEN, &[]).only_here(),
        case("shim-without-a-child", with_shim.clone(), 1, "stale=1 live=1", TAKEN, &[]).only_here(),
        case(
            "shim-with-a-zombie",
            with_shim.clone().process(5000, "pause", 'Z', number, "0::/\n"),
            1,
            "stale=1 live=1",
            TAKEN,
            &[],
        )
        .only_here(),
        case(
            "shim-with-a-child",
            with_shim.process(5000, "pause", 'S', number, "0::/\n").netns(&web()),
            0,
            "stale=0 live=2",
            "all live",
            &[],
        )
        .only_here(),
        case(
            "virtual-machine-with-its-shim",
            Node::v2()
                .live(&db())
                .taken(&kata(), "nginx", Ended::No)
                .shim("/opt/kata/bin/containerd-shim-kata-v2", &kata())
                .0
                .netns(&kata()),
            0,
            "stale=0 live=2",
            "all live",
            &[],
        )
        .only_here(),
        case(
            "virtual-machine-without-its-shim",
            Node::v2().live(&db()).taken(&kata(), "nginx", Ended::No),
            1,
            "stale=1 live=1",
            TAKEN,
            &[],
        )
        .only_here(),
        case(
            "cgroup-v1-one-dead",
            Node::new().driver(Driver::CgroupfsV1).live(&db()).taken(&web(), "nginx", Ended::No),
            1,
            "stale=1 live=1",
            TAKEN,
            &[],
        )
        .only_here(),
        // --- what the kubelet forgot
        case(
            "orphan-in-a-quiet-directory",
            orphan().quiet_since("2026-11-21T03:00:00Z"),
            1,
            "orphaned=1 stale=0",
            "1 dead sandbox is of a pod that is gone: default/web-0 attempt 0",
            &["crictl stopp ", "crictl rmp "],
        ),
        case(
            "orphan-and-a-pod-just-came",
            orphan().quiet_since("2026-11-21T03:20:00Z"),
            0,
            "orphaned=0",
            "1 live",
            &[],
        )
        .only_here(),
        case("orphan-for-12-minutes", looked(12, orphan()), 1, "orphaned=1", "is gone", &[]),
        case("orphan-for-5-minutes", looked(5, known()), 0, "orphaned=0", "1 live", &[]).only_here(),
        case(
            "kubelet-of-another-node",
            Node::new()
                .live(&db())
                .forgotten(&db())
                .dead(&web())
                .forgotten(&web())
                .known(&Pod::new("other/pod-0"))
                .quiet_since("2026-11-20T00:00:00Z"),
            0,
            "orphaned=0",
            "2 sandboxes on record, 1 live",
            &[],
        ),
        case(
            "network-namespace-lost",
            netless,
            1,
            "netless=1 live=2 stale=0",
            "1 sandbox lives without its network namespace: default/web-0 attempt 0",
            &["delete the pod"],
        ),
        // --- clocks
        case(
            "clock-was-in-1970",
            Node::new().boot('2', 8 * MINUTE).taken(&web().created("1970-01-01T00:01:00Z"), "nginx", Ended::Unknown),
            0,
            "stale=0",
            "1 sandbox on record, 0 live",
            &[],
        ),
        case(
            "clock-was-ahead",
            doubtful_of("2026-11-22T09:00:00Z").after(doubtful_of("2026-11-22T09:00:00Z").ago(12)),
            1,
            "stale=1",
            TAKEN,
            &[],
        ),
        // --- settings
        case(
            "ignored",
            doubtful().settings("[check.stale-sandboxes.params]\nignore = [\"default/*\"]\n"),
            0,
            "stale=0 sandboxes=2 live=1",
            "2 sandboxes on record, 1 live",
            &[],
        ),
        case(
            "own-threshold",
            doubtful().settings("[check.stale-sandboxes.threshold.stale]\nwarning = \"3\"\ncritical = \"10\"\n"),
            0,
            "stale=1",
            "1 sandbox died uncleanly",
            &[],
        ),
        case(
            "own-grace",
            doubtful().boot('2', 40 * MINUTE).settings("[check.stale-sandboxes.params]\ngrace = \"1h\"\n"),
            0,
            "stale=0",
            "2 sandboxes on record, 1 live",
            &[],
        )
        .only_here(),
        case(
            "own-root",
            doubtful().settings("[check.stale-sandboxes.params]\nroots = [\"/elsewhere/\"]\n"),
            3,
            "",
            "not on this node: no database of containerd (io.containerd.metadata.v1.bolt/meta.db in /elsewhere)",
            &[],
        )
        .only_here(),
    ]
}

fn doubtful_of(created: &str) -> Node {
    Node::new().live(&db()).taken(&web().created(created), "nginx", Ended::No)
}
