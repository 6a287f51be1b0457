//! Nodes whose files are not as they should be, through the binary.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

use super::healthy::web;
use super::node::{Ended, KUBEADM, Node, write};
use super::support::bolt::{MetaDb, Pod};
use super::support::{nodecheck, outcome, sane};
use super::{CHURN, Looked, STALE, ask};

const META_DB: &str = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";
const LONG_AGO: &str = "2020-02-29T00:00:00Z";

/// Such a node in a directory that stands for its /.
struct Root(tempfile::TempDir);

impl Root {
    fn new(node: &Node) -> Root {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        // Others may look, as they may at a node's /.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        write(&node.tree(), dir.path(), "root/");
        Root(dir)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn ask(&self, check: &str) -> (i32, String) {
        sane(self.given(&mut nodecheck()).args(["run", check]), check)
    }

    /// With a past: one of the checks tells nothing without.
    fn given<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.arg("--root").arg(self.0.path()).arg("--state-dir").arg(self.path("var/lib/nodecheck"))
    }
}

fn db() -> Pod {
    Pod::new("db/postgres-0").created(LONG_AGO)
}

/// One pod lives, another one died; no file of them is missing.
fn node() -> Node {
    let web = web().created(LONG_AGO);
    let node = Node::new().live(&db()).taken(&web, "nginx", Ended::No).runc(&web, 99, 9).runc(&db(), 2001, 200_100);
    let (node, _) = node.shim("/usr/bin/containerd-shim-runc-v2", &web);
    node.file("/etc/containerd/config.toml", "version = 2\nimports = [\"/etc/containerd/more.toml\"]\n")
        .file("/etc/containerd/more.toml", "version = 2\n")
        .link("/proc/1/ns/pid", "pid:[4026531836]")
}

/// Puts something else there than what it should be.
fn spoil(path: &Path, what: &str) {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => fs::create_dir_all(path.parent().unwrap()).unwrap(),
    }
    match what {
        "binary" => fs::write(path, (0..=255).cycle().take(9999).collect::<Vec<u8>>()).unwrap(),
        "empty" => fs::write(path, "").unwrap(),
        "cut" => fs::write(path, "{\"Version\":\"v1\",\"StartedAt\":17").unwrap(),
        "other" => fs::write(path, "[[0, -1, 1e999, \"\u{202e}|\u{1b}[31m\\n\"]]\n").unwrap(),
        "huge" => fs::File::create(path).unwrap().set_len(100 << 20).unwrap(),
        "directory" => fs::create_dir(path).unwrap(),
        "FIFO" => nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap(),
        "loop" => symlink(path.file_name().unwrap(), path).unwrap(),
        "nowhere" => symlink("/nowhere", path).unwrap(),
        _ => panic!("{what}"),
    }
}

const WHATS: &[&str] = &["binary", "empty", "cut", "other", "huge", "directory", "FIFO", "loop", "nowhere"];

#[test]
fn a_file_beside_the_database_with_something_wrong_in_it() {
    let node = node();
    let status = node.status_of(&web().created(LONG_AGO).container("nginx"));
    let state = |pod: &Pod| format!("/run/containerd/runc/k8s.io/{}/state.json", pod.id);
    let files = [
        &*status,
        &state(&web()),
        &state(&db()),
        "/proc/locks",
        "/proc/1/mountinfo",
        "/proc/700/cmdline",
        "/proc/700/stat",
        "/proc/650/stat",
        "/proc/2001/stat",
        "/proc/2001/cgroup",
        "/proc/2002/cmdline",
        "/proc/uptime",
        "/proc/sys/kernel/random/boot_id",
        "/etc/containerd/config.toml",
        "/etc/containerd/more.toml",
        "/var/lib/kubelet/pods",
        "/run/containerd/runc/k8s.io",
    ];
    let root = Root::new(&node);
    let (code, out) = root.ask(STALE);
    assert!(code == 1 && out.contains(" stale=1;") && out.contains(" live=1;"), "{out}");
    for file in files {
        for what in WHATS {
            let root = Root::new(&node);
            spoil(&root.path(file), what);
            let (code, out) = root.ask(STALE);
            // It is still told, or what is missing for it.
            let is_told = match code {
                1 => out.contains(" stale=1;"),
                3 => out.lines().next().unwrap().contains(file) || out.contains("which sandboxes live is not known"),
                _ => false,
            };
            assert!(is_told, "{file}, {what}: {out}");
            // Of the container's end, nothing is known then.
            assert!(file != status || code == 3 || out.contains("nginx (whose state is lost)"), "{what}: {out}");
            // What it has to do with, and nothing else, is not known.
            assert!(!file.starts_with("/etc") || code == 1, "{file}, {what}: {out}");
            if *what == "binary" {
                let (code, out) = root.ask(CHURN);
                let is_clock = ["/proc/uptime", "/proc/sys/kernel/random/boot_id"].contains(&file);
                assert!(code == 0 || is_clock && code == 3, "{file}: {out}");
            }
        }
    }
}

#[test]
fn something_else_in_the_place_of_the_database() {
    let all = ["binary", "empty", "cut", "huge", "directory", "FIFO", "loop", "nowhere"];
    for (what, codes, line) in all.map(|what| match what {
        "binary" | "cut" | "huge" => (what, [2, 3], "is damaged"),
        "nowhere" => (what, [3, 3], "not on this node"),
        _ => (what, [3, 3], "containerd's database can't be read"),
    }) {
        let root = Root::new(&node());
        spoil(&root.path(META_DB), what);
        for (check, code) in [STALE, CHURN].into_iter().zip(codes) {
            let (got, out) = root.ask(check);
            assert!(got == code && out.lines().next().unwrap().contains(line), "{what}: {code}: {out}");
        }
    }
}

#[test]
fn a_node_without_containerd() {
    let root = Root::new(&Node::new().change(|db| db));
    fs::remove_dir_all(root.path(KUBEADM)).unwrap();
    for check in [STALE, CHURN] {
        let (code, out) = root.ask(check);
        assert!(code == 3 && out.contains("not on this node: no database of containerd ("), "{out}");
    }
    let (_, out, _) = outcome(nodecheck().arg("--root").arg(root.0.path()).args(["run", "--all"]).output().unwrap());
    for check in [STALE, CHURN] {
        let skipped = |line: &str| line.starts_with("- ") && line.contains(check) && line.contains("not on this node");
        assert!(out.lines().any(skipped), "{out}");
    }
}

/// containerd's root directory is for root alone since 1.7.29, 2.0.7 and 2.1.5.
#[test]
fn a_root_directory_that_is_not_for_this_user() {
    assert!(nix::unistd::geteuid().is_root(), "this test changes its user: run it as root");
    // The target directory may be below root's home.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = dir.path().join("nodecheck");
    fs::copy(env!("CARGO_BIN_EXE_nodecheck"), &binary).unwrap();
    let root = Root::new(&node());
    let ask = |check: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&binary);
        sane(root.given(&mut command).args(["run", check]), check)
    };
    fs::create_dir(root.path("var/lib/nodecheck")).unwrap();
    std::os::unix::fs::chown(root.path("var/lib/nodecheck"), Some(65534), Some(65534)).unwrap();
    assert_eq!((ask(STALE).0, ask(CHURN).0), (1, 0), "{}{}", ask(STALE).1, ask(CHURN).1);
    let parts = ["var/lib/containerd", "var/lib/containerd/io.containerd.grpc.v1.cri", "run/containerd/runc/k8s.io"];
    for (number, part) in parts.into_iter().enumerate() {
        fs::set_permissions(root.path(part), fs::Permissions::from_mode(0o700)).unwrap();
        let (code, out) = ask(STALE);
        let line = out.lines().next().unwrap();
        assert!(code == 3 && line.contains("permission denied; needs root or CAP_DAC_READ_SEARCH"), "{part}: {out}");
        // The other one needs the database only.
        assert_eq!(ask(CHURN).0, if number == 0 { 3 } else { 0 }, "{part}: {}", ask(CHURN).1);
        fs::set_permissions(root.path(part), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn one_database_under_two_paths() {
    let root = Root::new(&node().dead(&web().id("d00b1e")));
    let k3s = root.path("var/lib/rancher/k3s/agent");
    fs::create_dir_all(&k3s).unwrap();
    symlink(KUBEADM, k3s.join("containerd")).unwrap();
    let (code, out) = root.ask(STALE);
    assert!(code == 2 && out.contains(" sandboxes=3;") && out.contains(" duplicates=1;"), "{out}");
    assert_eq!(out.matches("\ndatabase: ").count(), 1, "{out}");
}

#[test]
fn names_that_are_no_names() {
    let long = "x".repeat(5000);
    // As JSON has them.
    let names = [r"a\nCRITICAL - fake: x | duplicates=9", "|", "a,b;c=", "(a) ) (", r"%s $(reboot) `x` \\", "", &long];
    for name in names.into_iter().chain([r"\u001b[31m\u202e\u0000", r"\ufeff\u2028"]) {
        let named = |pod: Pod| pod.json(|json| json.replace("web-0", name));
        let (web, begun) = (web().created(LONG_AGO), web().attempt(3).ip("").created(LONG_AGO));
        let twice = [web.clone(), web.clone().id("d00b1e"), begun].map(named);
        let container = web.container("nginx").json(|json| json.replace("nginx", name));
        let db = twice.iter().fold(MetaDb::new(), |db, pod| db.pod(pod)).container(&container);
        let root = Root::new(&Node::of(KUBEADM, db));
        let (code, out) = root.ask(STALE);
        assert!(code == 2 && out.contains(" duplicates=1;") && out.contains(" stuck=1;"), "{name:?}: {out}");
        assert!(out.len() < 5000, "{name:?}: {}", out.len());
        root.ask(CHURN);
    }
}

/// Whoever holds the lock; a number of a device that is not the same tells neither.
#[test]
fn who_has_it_open() {
    use std::os::unix::fs::MetadataExt;
    let root = Root::new(&node());
    let meta = fs::metadata(root.path(META_DB)).unwrap();
    let (major, minor) = (nix::sys::stat::major(meta.dev()), nix::sys::stat::minor(meta.dev()));
    let lock =
        |major: u64, inode: u64| format!("1: FLOCK  ADVISORY  WRITE 700 {major:02x}:{minor:02x}:{inode} 0 EOF\n");
    for (locks, text, is_down) in [
        (lock(major, meta.ino()), "schema 3, open in process 700\n", false),
        (lock(major + 7, meta.ino()), "schema 3\n", false),
        (lock(major, meta.ino() + 1), "schema 3, open in no process: containerd does not run\n", true),
    ] {
        fs::write(root.path("proc/locks"), locks).unwrap();
        let (_, out) = root.ask(STALE);
        assert!(out.contains(text) && out.contains("containerd does not run") == is_down, "{text}{out}");
    }
}

#[test]
fn ten_thousand_dead_sandboxes() {
    let pods: Vec<Pod> =
        (0..10_000).map(|number| Pod::new(&format!("batch/n-{number:05}")).created(LONG_AGO)).collect();
    let db = pods.iter().fold(MetaDb::new(), |db, pod| db.pod(pod).container(&pod.container("main")));
    let root = Root::new(&Node::of(KUBEADM, db));
    for check in [STALE, CHURN] {
        let begun = Instant::now();
        // Thread stacks and the program itself are in it.
        let mut command = Command::new("prlimit");
        command.arg("--data=400000000").arg(env!("CARGO_BIN_EXE_nodecheck"));
        let (code, out) = sane(root.given(&mut command).args(["run", check]), check);
        eprintln!("{check}: {:?}, {} bytes", begun.elapsed(), out.len());
        assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
        match check {
            STALE => assert!(code == 1 && out.contains(" stale=10000;") && out.contains("\nand 9990 more\n"), "{out}"),
            _ => assert_eq!(code, 0, "{out}"),
        }
        assert!(out.len() < 10_000, "{}", out.len());
    }
}

/// Asks in this process, which is faster than starting another one.
fn say(root: &Root) -> (u8, String) {
    let global = nodecheck::cli::Global { root: Some(root.0.path().to_owned()), ..Default::default() };
    let looked = Looked::open(&global).unwrap();
    ask(&looked, STALE)
}

/// Runs `change` again and again while it is looked at.
fn during(root: &Root, looks: usize, mut change: impl FnMut(usize) + Send, is_well: impl Fn(u8, &str) -> bool) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..).take_while(|_| !stop.load(Ordering::Relaxed)).for_each(&mut change));
        let wrong = (0..looks).map(|_| say(root)).find(|(code, out)| !is_well(*code, out));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None);
    });
}

/// Two good databases take turns, the way a backup is put back: nothing is made up of both.
#[test]
fn a_database_that_is_replaced_while_it_is_read() {
    let other = Node::new().change(|db| db.pod(&web().created(LONG_AGO).id("1")).pod(&db_of_others()));
    let root = Root::new(&node());
    let path = root.path(META_DB);
    let files = [node().built(), other.built()];
    let aside = path.with_extension("new");
    let replace = |turn: usize| {
        fs::write(&aside, &files[turn % 2]).unwrap();
        fs::rename(&aside, &path).unwrap();
        // Often enough for most looks, and not so often that none comes to its end.
        std::thread::sleep(Duration::from_millis(turn as u64 % 12));
    };
    let mut seen = [0; 4];
    let counts = std::sync::Mutex::new(&mut seen);
    during(&root, 100, replace, |code, out| {
        counts.lock().unwrap()[usize::from(code)] += 1;
        code < 2 || (code == 3 && out.contains("too busy"))
    });
    assert!(seen[0] + seen[1] > 0, "{seen:?}");
}

fn db_of_others() -> Pod {
    db().uid("0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d").host_network()
}

#[test]
fn a_database_that_comes_and_goes_while_it_is_read() {
    let root = Root::new(&node());
    let path = root.path(META_DB);
    let aside = path.with_extension("old");
    let turn = |turn: usize| {
        if turn.is_multiple_of(2) { fs::rename(&path, &aside) } else { fs::rename(&aside, &path) }.unwrap()
    };
    during(&root, 300, turn, |code, out| {
        code == 1
            || (code == 3
                && ["not on this node", "removed meanwhile", "too busy"].iter().any(|text| out.contains(text)))
    });
}

/// What no containerd survives either. Whatever is said, nothing breaks.
#[test]
fn a_database_that_is_written_over_while_it_is_read() {
    let root = Root::new(&node());
    let (path, good) = (root.path(META_DB), node().built());
    let turn = |turn: usize| {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        match turn % 3 {
            0 => file.set_len((turn * 997 % good.len()) as u64).unwrap(),
            1 => fs::write(&path, &good).unwrap(),
            _ => {
                use std::os::unix::fs::FileExt;
                file.write_all_at(&[0xff; 333], (turn * 331 % good.len()) as u64).unwrap();
            }
        }
    };
    during(&root, 300, turn, |_, out| !out.contains("internal error"));
    fs::write(&path, &good).unwrap();
    assert_eq!(say(&root).0, 1);
}
