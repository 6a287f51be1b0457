//! The OOM checks: what every recorded node must say, written down by hand and apart from the golden files; and nodes whose
//! files are not as they should be.

mod support;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nodecheck::cli::Global;
use nodecheck::node::Node;
use nodecheck::render::plugin;
use support::{here, nodecheck, sane};

const PODS: &str = "pod-oom-kills";
const NODE: &str = "node-oom-kills";

/// Scenario, exit code, numbers, what line 1 must say, and what must be said somewhere.
type Case = (&'static str, u8, &'static str, &'static str, &'static str);

const POD_CASES: &[Case] = &[
    // microk8s, v1: 149 kubectl died under a shell that lives.
    (
        "incident-children-of-a-living-container",
        2,
        "kills=149 processes=149 worst_pod=149 pods=1 oom_loops=0 node_allocatable=0 kills_own=0",
        "kured/kured-sentinel-gate-x7k2p alone has 149 OOM kills",
        "149 in container gate (it still runs: restarts do not show this); limit 64Mi; killed: kubectl (46.5Mi)",
    ),
    (
        "one-child",
        1,
        "kills=1 processes=1 worst_pod=1 pods=1",
        "web/api-7d9f5c6b8-q2x4z 1x container app, limit 256Mi",
        "convert",
    ),
    // Four died; the kernel counts the first of a group twice when it is slow to die.
    (
        "group-kill",
        1,
        "kills=1 processes=5 oom_loops=0",
        "shop/cart-0 1x container cart, limit 512Mi",
        "java (486Mi), jps",
    ),
    (
        "loop-of-a-network-daemon",
        2,
        "kills=4 processes=12 oom_loops=1 worst_pod=4",
        "OOM loop: kube-system/kube-multus-ds-8vq7c container kube-multus, limit 50Mi",
        "multus-daemon",
    ),
    (
        "limit-of-all-pods",
        2,
        "kills=1 node_allocatable=1",
        "all pods together hit their limit (6Gi): batch/report-28921440-mz8fd",
        "python3 (2.1Gi)",
    ),
    ("kind-node", 1, "kills=1 processes=2 kills_boot=2c", "default/leaky-5b7c9 1x container leaky, limit 128Mi", ""),
    // One kill in the cgroup that was there before, one in its successor.
    ("static-pod-made-again", 1, "kills=1 kills_boot=2c", "kube-system/kube-apiserver-n1 1x", "limit 1Gi"),
    ("crio-looks-far-apart", 1, "kills=2", "ci/runner-7xk 2x container runner, limit 1Gi", "may be older than 60 min"),
    (
        "containerd-without-systemd",
        1,
        "kills=1 kills_boot=1c",
        "web/front-66f8d-k2lpd 1x container nginx, limit 96Mi",
        "",
    ),
    // The container has no limit; it is the pod's.
    ("hybrid-v1-limit-of-the-pod", 1, "kills=2", "data/etl-0 2x container helper, limit 512Mi", "cgroup v1 forgets"),
    (
        "local-events",
        1,
        "kills=1",
        "web/thumbs-5d8f-9wz7k 1x container thumbs, limit 128Mi",
        "memory_localevents forgets",
    ),
    ("pod-gone-with-its-name-kept", 1, "kills=3", "batch/import-28921440-x2x9w 3x container import", "it is gone"),
    ("young-boot-and-no-name", 1, "kills=3 kills_boot=3c", "pod 1a2b3c0c-5f0e-4a5c-9a61-2f0e2a3b4c5d 3x", "20 min ago"),
    ("first-look", 0, "kills=0 kills_boot=7c", "no OOM kill in a pod in the first look", "since the boot (30 d ago)"),
    (
        "looks-cover-37-minutes",
        0,
        "kills=0 kills_boot=7c",
        "no OOM kill in a pod in 37 min",
        "looks cover 37 min of 60 min",
    ),
    // The counter is whole, the log is not.
    ("burst-that-the-log-lost", 2, "kills=40 processes=40 worst_pod=40", "ml/train-0 alone has 40", "log lost records"),
    (
        "kernel-5.4-and-no-log",
        1,
        "kills=2 processes=8",
        "shop/search-0 2x",
        "/dev/kmsg: permission denied; needs CAP_SYSLOG",
    ),
    ("no-local-events-file", 1, "kills=1", "shop/index-0 1x container index, limit 1Gi", ""),
    ("ignored-pod", 0, "kills=0 ignored=4 pods=0", "but 4 in ignored pods", "ignored: ci/build-4711: 4 OOM kills"),
    (
        "own-thresholds",
        1,
        "kills=0 kills_own=12 worst_pod=0",
        "batch/import-0: 12 OOM kills",
        "own threshold 5 of batch/*",
    ),
    ("three-pods", 2, "kills=3 pods=3 worst_pod=1", "3 pods have OOM kills: shop/cart-0, shop/pay-0, shop/ship-0", ""),
    ("no-kubepods", 3, "", "no kubepods cgroup in /sys/fs/cgroup", ""),
    ("no-memory-controller", 3, "", "no memory controller", "cgroup_enable=memory"),
    // What is seen is told; that it may not be all comes first.
    (
        "half-of-the-tree-denied",
        3,
        "kills=1",
        "kubepods-burstable.slice: permission denied; needs root",
        "web/seen-0 1x",
    ),
    ("a-number-that-is-none", 3, "kills=0", "oom_kill is '-1'", ""),
    ("quiet", 0, "kills=0 kills_boot=0c", "no OOM kill in a pod in 60 min", ""),
];

const NODE_CASES: &[Case] = &[
    ("quiet", 0, "kills=0 kills_boot=0c", "no OOM kill of the node or its services in 60 min", ""),
    // Five in a pod, and two that nothing has.
    ("first-look", 0, "kills=0 kills_boot=7c", "in the first look", "since the boot (30 d ago)"),
    (
        "node-out-of-memory-kills-in-a-pod",
        2,
        "kills=1 global=1 system=0 unattributed=0",
        "the node ran out of memory: 1 OOM kill in db/postgres-0",
        "killed: postgres (3.24Gi)",
    ),
    (
        "node-out-of-memory-kills-the-kubelet",
        2,
        "kills=1 global=0 system=1 system_limit=0",
        "the node ran out of memory: 1 OOM kill in kubelet.service",
        "/system.slice/kubelet.service: 1 OOM kill",
    ),
    (
        "service-at-its-limit",
        1,
        "kills=1 system=0 system_limit=1",
        "nginx.service 1x at its own limit",
        "killed: nginx (117Mi)",
    ),
    // Not the node's: a limit was hit, though the cgroup that had it is gone.
    ("docker-container-at-its-limit-gone", 1, "kills=2 system=0 system_limit=2", "system.slice 2x", ""),
    (
        "loop-of-containers-v1",
        2,
        "kills=12 unattributed=12 global=0",
        "12 OOM kills in cgroups that are gone: multus-daemon in kube-system/kube-multus-ds-4kxzn",
        "multus-daemon (44Mi, limit 50Mi) in kube-system/kube-multus-ds-4kxzn",
    ),
    (
        "pod-gone-between-looks",
        1,
        "kills=1 unattributed=1 processes=2",
        "stress in batch/short-28921440-zzxxy",
        "limit 32Mi",
    ),
    // 40 more in the total of the kernel, and a report of another guest: the host's.
    (
        "lxc-node-v1",
        1,
        "kills=1 system_limit=1",
        "kubelet.service 1x",
        "the host around this node (/run/systemd/container: lxc)",
    ),
    ("lxc-node-v2", 1, "kills=1 unattributed=1 kills_boot=1c", "1 in cgroups that are gone", ""),
    ("vmstat-denied", 3, "", "/proc/vmstat: permission denied", ""),
    ("vmstat-without-oom-kill", 3, "", "/proc/vmstat has no oom_kill: Linux 4.13", ""),
    ("no-memory-controller", 2, "kills=1 global=1", "the node ran out of memory: 1 OOM kill", "chromium (683Mi)"),
];

/// What the other check says of the same nodes, where that is not OK: no event counts in both.
const ELSEWHERE: &[(&str, u8)] = &[
    ("half-of-the-tree-denied", 3),
    ("a-number-that-is-none", 3),
    ("no-memory-controller", 3),
    // No pods at all.
    ("service-at-its-limit", 3),
    ("docker-container-at-its-limit-gone", 3),
];

fn ask(dir: &Path, check: &str) -> (u8, String) {
    let node = Node::open(&Global { scenario: Some(dir.to_owned()), ..Global::default() }).unwrap();
    let verdict = node.ask(&node.host, check, None, Duration::from_secs(30));
    (verdict.status.code(), plugin(&verdict, false))
}

#[test]
fn every_recorded_node_says_what_it_must() {
    let mut wrong = Vec::new();
    for (check, other, cases) in [(PODS, NODE, POD_CASES), (NODE, PODS, NODE_CASES)] {
        let all = here().join("tests/scenarios").join(check);
        for (name, code, numbers, line, text) in cases {
            let (got, said) = ask(&all.join(name), check);
            let (first, perfdata) = said.lines().next().unwrap().split_once(" | ").unwrap_or((&said, ""));
            let has = |number: &str| perfdata.split([' ', ';']).any(|item| item == number);
            let missing: Vec<&str> = numbers.split_whitespace().filter(|number| !has(number)).collect();
            if got != *code || !missing.is_empty() || !first.contains(line) || !said.contains(text) {
                wrong.push(format!("{check}/{name}: exit {code}, {line}, {text}; not there: {missing:?}\n{said}"));
            }
            let (got, said) = ask(&all.join(name), other);
            let expected = ELSEWHERE.iter().find(|(other, _)| other == name).map_or(0, |(_, code)| *code);
            if got != expected {
                wrong.push(format!("{check}/{name}, asked for {other}: exit {expected}\n{said}"));
            }
        }
        let dirs: BTreeSet<String> = support::scenarios()
            .into_iter()
            .filter(|(of, _)| of == check)
            .map(|(_, dir)| dir.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            dirs,
            cases.iter().map(|case| case.0.to_owned()).collect(),
            "{check}: the table and the directories"
        );
    }
    assert!(wrong.is_empty(), "{} are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

// --- bad input ------------------------------------------------------------------------------------------------------

const UID: &str = "0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d";
const ID: &str = "c0ffee0000000000000000000000000000000000000000000000000000000000";

/// In memory where that is possible: thousands of directories are made.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A node that is up for half an hour, so that one look tells all, with one kill at a container's limit.
struct Tree {
    dir: tempfile::TempDir,
    v1: bool,
}

impl Tree {
    fn new(v1: bool) -> Tree {
        let tree = Tree { dir: scratch(), v1 };
        // Others may look, as they may at a node's /.
        fs::set_permissions(tree.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mount = match v1 {
            true => "33 26 0:31 / /sys/fs/cgroup/memory rw shared:16 - cgroup cgroup rw,memory\n",
            false => "28 22 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
        };
        tree.file("proc/1/mountinfo", mount);
        tree.file("proc/sys/kernel/random/boot_id", "3f1c0b9e-7a52-4c1d-9d0e-5b8f2a6c7d31\n");
        tree.file("proc/uptime", "1800.00 3600.00\n");
        tree.file("proc/vmstat", "nr_free_pages 1\noom_kill 1\n");
        tree.file(format!("var/log/pods/web_api-0_{UID}/app/0.log"), "");
        for (depth, path) in tree.levels().iter().enumerate() {
            tree.cgroup(path, u64::from(!v1 || depth == 3), u64::from(!v1 || depth == 3), u64::from(depth == 3));
        }
        tree.cgroup("system.slice", 0, 0, 0);
        if v1 {
            tree.cgroup("", 0, 0, 0);
        } else {
            tree.file("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
        }
        tree
    }

    /// From all pods to the container.
    fn levels(&self) -> [String; 4] {
        let pod = format!("kubepods/burstable/pod{UID}");
        ["kubepods".to_owned(), "kubepods/burstable".to_owned(), pod.clone(), format!("{pod}/{ID}")]
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn point(&self) -> &'static str {
        if self.v1 { "sys/fs/cgroup/memory" } else { "sys/fs/cgroup" }
    }

    fn cgroup(&self, path: impl AsRef<Path>, kills: u64, ooms: u64, own: u64) {
        let dir = Path::new(self.point()).join(path);
        if self.v1 {
            self.file(dir.join("memory.oom_control"), format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"));
            self.file(dir.join("memory.failcnt"), format!("{}\n", own * 97));
            self.file(dir.join("memory.limit_in_bytes"), "67108864\n");
        } else {
            self.file(dir.join("memory.events"), format!("max 9\noom {ooms}\noom_kill {kills}\noom_group_kill 0\n"));
            self.file(dir.join("memory.events.local"), format!("max 9\noom {own}\noom_kill {own}\noom_group_kill 0\n"));
            self.file(dir.join("memory.max"), "67108864\n");
        }
    }

    fn ask(&self, check: &str) -> (i32, String) {
        sane(nodecheck().arg("--root").arg(self.dir.path()).args(["run", check]), check)
    }
}

/// A file of lines `key value`, or of one number, with one thing wrong.
fn broken(file: &str) -> Vec<(&'static str, Vec<u8>)> {
    let key = match file.rsplit('/').next().unwrap() {
        "memory.events.local" => Some("oom"),
        "memory.events" | "memory.oom_control" | "vmstat" => Some("oom_kill"),
        _ => None,
    };
    let with = |value: &str| key.map_or(value.to_owned(), |key| format!("low 0\n{key} {value}")).into_bytes();
    let mut all = vec![
        ("overflow", with("18446744073709551616\n")),
        ("negative", with("-1\n")),
        ("no digits", with("many\n")),
        ("cut", with("1")),
        ("binary", (0..=255).cycle().take(1000).collect()),
        ("huge", vec![b'1'; 2 << 20]),
    ];
    match key {
        Some("oom_kill") => all.push(("without the key", b"low 0\n".to_vec())),
        Some(_) => {}
        None => all.push(("empty", Vec::new())),
    }
    all
}

#[test]
fn every_file_with_something_wrong_in_it() {
    for v1 in [false, true] {
        let tree = Tree::new(v1);
        assert_eq!((tree.ask(PODS).0, tree.ask(NODE).0), (1, 0), "{}", tree.ask(PODS).1);
        let files = match v1 {
            true => ["memory.oom_control", "memory.failcnt", "memory.limit_in_bytes"],
            false => ["memory.events", "memory.events.local", "memory.max"],
        };
        let levels = tree.levels();
        let cgroups = levels.iter().flat_map(|level| files.map(|file| format!("{}/{level}/{file}", tree.point())));
        // Nobody asks a container for its own hits alone.
        let leaf = levels.iter().max_by_key(|level| level.len()).unwrap();
        let asked = cgroups.filter(|file| !file.ends_with(&format!("{leaf}/memory.events.local")));
        for file in asked.chain(["proc/vmstat".to_owned()]) {
            let path = tree.path(&file);
            let good = fs::read(&path).unwrap();
            // Both checks need the cgroups, and one of them the total: what can't be read is neither OK nor anybody's fault.
            let check = |what: &str| {
                let (pods, node) = (tree.ask(PODS), tree.ask(NODE));
                let of_pods = if file == "proc/vmstat" { 1 } else { 3 };
                assert_eq!((pods.0, node.0), (of_pods, 3), "{file}, {what}:\n{}\n{}", pods.1, node.1);
                for (code, out) in [pods, node] {
                    let line = out.lines().next().unwrap();
                    assert!(code == 1 || line.contains(&format!("/{file}")), "{file}, {what}: {out}");
                }
            };
            for (what, bytes) in broken(&file) {
                fs::write(&path, bytes).unwrap();
                check(what);
            }
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            check("a directory");
            fs::remove_dir(&path).unwrap();
            nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
            check("a FIFO");
            fs::remove_file(&path).unwrap();
            symlink("/nowhere", &path).unwrap();
            check("a link to nowhere");
            fs::remove_file(&path).unwrap();
            // As if the cgroup was gone: what it counted shows above it, or in the total.
            let codes = (tree.ask(PODS).0, tree.ask(NODE).0);
            assert!(codes.0 == 1 || codes.1 == 1 || codes == (3, 3), "{file} missing: {codes:?} {}", tree.ask(PODS).1);
            fs::write(&path, good).unwrap();
        }
    }
}

/// Files that tell where to look and how things are called: the kill is told all the same, or that nothing can be told.
#[test]
fn everything_else_with_something_wrong_in_it() {
    let config = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json");
    let lists = ["var/log/pods", "var/log/containers", "run/containerd/io.containerd.runtime.v2.task/k8s.io"];
    let files = ["proc/1/mountinfo", "proc/self/mountinfo", "proc/uptime", "proc/sys/kernel/random/boot_id", &config];
    let others = ["sys/fs/cgroup/cgroup.controllers", "run/systemd/container", "proc/1/environ", "proc/self/ns/pid"];
    let points = ["sys/fs/cgroup", "sys/fs/cgroup/memory", "sys/fs/cgroup/kubepods", "sys/fs/cgroup/memory/kubepods"];
    for v1 in [false, true] {
        for file in files.into_iter().chain(others).chain(lists).chain(points) {
            for what in ["binary", "huge", "FIFO", "link"] {
                let tree = Tree::new(v1);
                let path = tree.path(file);
                match fs::symlink_metadata(&path) {
                    Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path).unwrap(),
                    Ok(_) => fs::remove_file(&path).unwrap(),
                    Err(_) => fs::create_dir_all(path.parent().unwrap()).unwrap(),
                }
                match what {
                    "FIFO" => nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap(),
                    "link" => symlink(path.file_name().unwrap(), &path).unwrap(),
                    "huge" => fs::File::create(&path).unwrap().set_len(20 << 20).unwrap(),
                    _ => fs::write(&path, [0xfe; 999]).unwrap(),
                }
                let (code, out) = tree.ask(PODS);
                assert!(matches!(code, 1 | 3), "{file}, {what}: {out}");
                assert!(
                    code == 3 || out.lines().next().unwrap().contains(": 1 OOM kill in 60 min: "),
                    "{file}, {what}: {out}"
                );
                tree.ask(NODE);
            }
        }
    }
}

#[test]
fn names_that_are_no_names() {
    let long = "x".repeat(255);
    let names: [&[u8]; 9] = [
        b"a\nCRITICAL - fake: x | kills=9",
        b"a,b;c",
        b"(a) ) (",
        b"|",
        b"\xff\xfe.service",
        b"\xe2\x80\xae.scope",
        b"\x1b[31m.slice",
        b"%s $(reboot) `x` \\",
        long.as_bytes(),
    ];
    for v1 in [false, true] {
        for parent in ["system.slice", "kubepods", "kubepods/burstable", &format!("kubepods/burstable/pod{UID}")] {
            for name in names {
                let tree = Tree::new(v1);
                tree.cgroup(Path::new(parent).join(OsStr::from_bytes(name)), 1, 1, 1);
                // What the kernel counts above it, and in all.
                for above in Path::new(parent).ancestors().filter(|above| !v1 && *above != Path::new("")) {
                    let kills = if parent == "system.slice" { 1 } else { 2 };
                    tree.cgroup(above, kills, kills, 0);
                }
                tree.file("proc/vmstat", "oom_kill 2\n");
                let (pods, node) = (tree.ask(PODS), tree.ask(NODE));
                let kills = |out: &str| -> u64 {
                    let (_, rest) = out.split_once(" | kills=").unwrap();
                    rest.split(';').next().unwrap().parse().unwrap()
                };
                let text = format!("{parent}, {}: {}\n{}", name.escape_ascii(), pods.1, node.1);
                // Nothing above it counts for it on v1, and nobody can be told its name.
                let is_hidden = v1 && parent.contains("/pod") && std::str::from_utf8(name).is_err();
                let is_unknown = pods.0.max(node.0) == 3;
                assert!(kills(&pods.1) + kills(&node.1) == 2 && is_unknown == is_hidden, "{text}");
            }
        }
    }
}

#[test]
fn ten_thousand_side_by_side() {
    let trees = [Tree::new(true), Tree::new(false)];
    let pods = trees.each_ref().map(|tree| tree.path(tree.point()).join(&tree.levels()[2]));
    trees[0].file("none", "oom_kill_disable 0\noom_kill 0\n");
    for n in 0..10_000 {
        let dir = pods[0].join(format!("{n:064x}"));
        fs::create_dir(&dir).unwrap();
        for file in ["memory.oom_control", "memory.events"] {
            fs::hard_link(trees[0].path("none"), dir.join(file)).unwrap();
        }
    }
    for tree in &trees {
        let begun = Instant::now();
        let (code, out) = tree.ask(PODS);
        assert!(code == 1 && out.contains(" kills=1;"), "{out}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        if tree.v1 {
            // The same ones once more: making them takes longer than looking.
            fs::remove_dir_all(&pods[1]).unwrap();
            fs::rename(&pods[0], &pods[1]).unwrap();
            for path in &trees[1].levels()[2..] {
                trees[1].cgroup(path, 1, 1, 1);
            }
        }
    }
}

#[test]
fn forty_deep() {
    for v1 in [false, true] {
        let tree = Tree::new(v1);
        let mut deep = PathBuf::from(tree.levels()[3].clone());
        for _ in 0..40 {
            deep.push("d".repeat(50));
            tree.cgroup(&deep, u64::from(!v1), 1, 0);
        }
        // v1 adds nothing up, so that what is too deep to be read is not known.
        let (code, out) = tree.ask(PODS);
        assert!(out.contains(" kills=1;") && code == if v1 { 3 } else { 1 }, "{out}");
        assert_eq!(out.lines().next().unwrap().contains("more than 32 deep are not looked at"), v1, "{out}");
    }
}

/// Programs choose their own names: what the kernel's log has of them, recorded from a kernel.
#[test]
fn a_program_that_is_named_like_a_report() {
    let dir = scratch();
    for (place, uptime, kills) in [("before", 5900, 0), ("", 5950, 8)] {
        let tree = Tree::new(true);
        let pod = format!("kubepods/burstable/pod{UID}/{ID}");
        tree.cgroup(&pod, kills, kills, kills);
        tree.file("proc/uptime", format!("{uptime}.00 1.00\n"));
        fs::create_dir_all(tree.path("dev")).unwrap();
        fs::copy(here().join("tests/captures/kmsg/names"), tree.path("dev/kmsg")).unwrap();
        let scenario = dir.path().join(place);
        fs::create_dir_all(&scenario).unwrap();
        fs::write(scenario.join("clock"), "2026-11-21T03:22:00Z").unwrap();
        fs::rename(tree.dir.keep(), scenario.join("root")).unwrap();
    }
    let ask = || sane(nodecheck().arg("--scenario").arg(dir.path()).args(["run", PODS]), PODS);
    let (code, out) = ask();
    assert!(code == 1 && out.contains("kills=8;"), "{out}");
    assert!(
        out.contains("; killed: ") && out.contains("a,task=b (") && out.contains("\nweb/api-0: 8 OOM kills"),
        "{out}"
    );
    for garbage in
        [&b"\xff\xfe\x00"[..], b"6,1,1,-;Memory cgroup out of memory: Killed process 99999999999 (", &[b'x'; 1 << 20]]
    {
        fs::write(dir.path().join("root/dev/kmsg"), garbage).unwrap();
        let (code, out) = ask();
        assert!(code == 1 && out.contains("kills=8;"), "{out}");
    }
}

#[test]
fn half_of_the_tree_is_not_for_this_user() {
    assert!(nix::unistd::geteuid().is_root(), "this test changes its user: run it as root");
    // The target directory may be below root's home.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = dir.path().join("nodecheck");
    fs::copy(env!("CARGO_BIN_EXE_nodecheck"), &binary).unwrap();
    for v1 in [false, true] {
        let tree = Tree::new(v1);
        let other = format!("kubepods/pod{}/{}", UID.replace('0', "1"), "d".repeat(64));
        tree.cgroup(&other, 0, 0, 0);
        let ask = |check: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&binary);
            sane(command.arg("--root").arg(tree.dir.path()).args(["run", check]), check)
        };
        assert_eq!((ask(PODS).0, ask(NODE).0), (1, 0), "{}", ask(PODS).1);
        for denied in [tree.levels()[1].clone(), tree.levels()[3].clone(), "kubepods".to_owned(), String::new()] {
            let dir = tree.path(tree.point()).join(&denied);
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
            for check in [PODS, NODE] {
                let (code, out) = ask(check);
                let line = out.lines().next().unwrap();
                assert!(code == 3 && line.contains("permission denied; needs root"), "{denied}: {out}");
            }
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

/// Cgroups that come and go while they are read are no fault, and what is counted elsewhere stays.
#[test]
fn cgroups_that_vanish_while_they_are_read() {
    for v1 in [false, true] {
        let tree = Tree::new(v1);
        let pod = tree.path(tree.point()).join(&tree.levels()[2]);
        let aside = tree.path("aside");
        fs::create_dir(&aside).unwrap();
        let names: Vec<String> = (0..40).map(|n| format!("{n:064x}")).collect();
        for name in &names {
            tree.cgroup(PathBuf::from(&tree.levels()[2]).join(name).join("sub"), 1, 1, 1);
            tree.cgroup(PathBuf::from(&tree.levels()[2]).join(name), 1, 1, 1);
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // A kernel's cgroup is there with all its files, or not at all.
                while !stop.load(Ordering::Relaxed) {
                    names.iter().for_each(|name| fs::rename(pod.join(name), aside.join(name)).unwrap());
                    names.iter().for_each(|name| fs::rename(aside.join(name), pod.join(name)).unwrap());
                }
            });
            for _ in 0..25 {
                let (pods, node) = (tree.ask(PODS), tree.ask(NODE));
                let is_well = matches!(pods.0, 1 | 2) && node.0 != 3;
                stop.store(!is_well, Ordering::Relaxed);
                assert!(is_well, "{}\n{}", pods.1, node.1);
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
