//! The OOM checks on this machine's own kernel: memory cgroups as a kubelet makes them, and programs killed in them.
//!
//! Needs root, a C compiler and the memory controller, of cgroup v1 or v2. All that is made here is removed again, also
//! after a failure; what an earlier run left behind when it was killed, too.

#[path = "kernel/node.rs"]
mod node;
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use node::{Answer, HOG, LIMIT, Node, PATIENCE, Pod, Shell, kernel_log, remove, remove_logs};
use support::nodecheck;

const PODS: &str = "pod-oom-kills";
const SYSTEM: &str = "node-oom-kills";

// --- what is found --------------------------------------------------------------------------------------------------

#[test]
fn a_child_that_is_killed_under_a_living_parent() {
    let node = Node::new();
    let pod = node.pod("gate-x7");
    let gate = node.container(&pod, "gate", Some(LIMIT));
    assert_eq!(node.look(PODS).kills(&pod), 0);
    let mut shell = node.start(&gate);
    shell.kill(1);
    let begins = "WARNING - pod-oom-kills: 1 OOM kill in ";
    let first = node.look(PODS);
    first.expect(&pod, 1, begins, "1 in container gate (it still runs: restarts do not show this); limit 12Mi");
    assert_eq!(first.kills(&pod), 1, "{}", first.text);
    let named = "nodecheck-test/gate-x7 1x container gate, limit 12Mi";
    assert!(first.text.lines().next().unwrap().contains(named) || !first.is_only_of(&pod), "{}", first.text);
    // Who, and how large, from the kernel's log; unless others took all the headers.
    let size = first.line(&pod).and_then(|line| line.split_once(&format!("; killed: {HOG} (")));
    let size = size.and_then(|(_, rest)| rest.split_once("Mi)")?.0.parse::<f64>().ok());
    let is_so = size.is_some_and(|size| (8.0..40.0).contains(&size));
    assert!(is_so || size.is_none() && !first.is_only_of(&pod), "{}", first.text);
    // Each event is of one check.
    let system = node.look(SYSTEM);
    assert!(!system.text.contains("gate-x7"), "{}", system.text);
    // Asked twice, the same; and still there when the container, the pod and its name are gone.
    node.look(PODS).is_like(&first, &pod);
    drop(shell);
    remove(&gate);
    let gone = node.look(PODS);
    gone.expect(&pod, 1, begins, "1 in container gate (it is gone); limit 12Mi");
    assert_eq!(gone.kills(&pod), 1);
    remove(&pod.path);
    remove_logs();
    node.look(PODS).is_like(&gone, &pod);
    node.look(PODS).is_like(&gone, &pod);
}

#[test]
fn two_readers_with_different_windows() {
    let node = Node::new();
    let settings = node.dir.path().join("short.toml");
    let begun = Instant::now();
    node.look(PODS);
    // A few looks must fit into it, however slow they are.
    let window = (begun.elapsed() * 10).as_secs() + 2;
    fs::write(&settings, format!("[check.pod-oom-kills]\ninterval = \"1s\"\nwindow = \"{window}s\"\n")).unwrap();
    let short = |state: &str| node.look_with(state, PODS, &["--config", settings.to_str().unwrap()]);
    let pod = node.pod("gate-x7");
    let mut shell = node.start(&node.container(&pod, "gate", Some(LIMIT)));
    let count = |answer: Answer| answer.kills(&pod);
    assert_eq!((count(node.look(PODS)), count(short("other"))), (0, 0));
    shell.kill(2);
    let begun = Instant::now();
    assert_eq!((count(short("other")), count(short("state")), count(node.look(PODS))), (2, 2, 2));
    let first = node.look(PODS);
    // A past of its own, and the same one read by both.
    while count(short("other")) + count(short("state")) > 0 {
        assert!(begun.elapsed() < PATIENCE, "the window of {window} s is over");
        node.look(PODS).is_like(&first, &pod);
        sleep(Duration::from_millis(300));
    }
    assert!(begun.elapsed() >= Duration::from_secs(window - 1), "{:?}", begun.elapsed());
    node.look(PODS).is_like(&first, &pod);
    shell.kill(1);
    assert_eq!((count(short("other")), count(short("state")), count(node.look(PODS))), (1, 1, 3));
}

#[test]
fn forty_kills_in_a_second_are_forty() {
    let node = Node::new();
    let pod = node.pod("gate-x7");
    let gate = node.container(&pod, "gate", Some(LIMIT));
    node.look(PODS);
    let mut shell = node.start(&gate);
    let begun = Instant::now();
    shell.kill(40);
    let took = begun.elapsed();
    assert_eq!(node.kills_in(&gate), 40);
    let answer = node.look(PODS);
    let begins = "CRITICAL - pod-oom-kills: nodecheck-test/gate-x7 alone has 40 OOM kills in ";
    answer.expect(&pod, 2, begins, "40 in container gate");
    assert_eq!((answer.code, answer.kills(&pod)), (2, 40), "{}", answer.text);
    assert!(answer.metric("worst_pod") >= 40, "{}", answer.text);
    // Whoever counts headers in the log has fewer: the kernel prints ten in 5 s.
    let id = gate.file_name().unwrap().to_str().unwrap();
    let log = kernel_log();
    let headers = log.lines().filter(|line| line.contains("oom-kill:constraint=") && line.contains(id)).count();
    let is_named = answer.line(&pod).unwrap().contains(&format!("killed: {HOG} ("));
    assert!(is_named || headers == 0 && !answer.is_only_of(&pod), "{}", answer.text);
    assert!(headers <= 20 || took > Duration::from_secs(5), "{headers} headers in {took:?}: this test tests nothing");
}

#[test]
fn whose_limit_it_was() {
    let node = Node::new();
    // What is judged of a pod when of the classes these are: the last one has a threshold in the definition.
    let kills = |pod: &Pod| {
        ["pod", "container", "node-allocatable"].map(|class| {
            let scopes = format!("scopes=[\"{class}\", \"node-allocatable\"]");
            node.look_with("state", PODS, &["--set", &scopes]).kills(pod)
        })
    };
    node.look(PODS);
    // A container without a limit, in a pod with one.
    let pod = node.pod("tight");
    node.limit(&pod.path, LIMIT);
    node.start(&node.container(&pod, "any", None)).kill(2);
    node.look(PODS).expect(&pod, 1, "WARNING - pod-oom-kills: 2 OOM kills in ", "2 in container any");
    node.look(PODS).expect(&pod, 1, "WARNING - ", "; limit 12Mi");
    assert_eq!(kills(&pod), [2, 0, 0]);
    // The container's own limit, which is not the pod's.
    let pod = node.pod("both");
    node.limit(&pod.path, 4 * LIMIT);
    node.start(&node.container(&pod, "any", Some(LIMIT))).kill(1);
    assert_eq!(kills(&pod), [0, 1, 0]);
    // The limit of all pods together.
    node.limit(&node.kubepods(), 2 * LIMIT);
    let pod = node.pod("victim");
    node.start(&node.container(&pod, "any", None)).kill(1);
    let answer = node.look(PODS);
    // Where others test, kubepods is there twice: how large the limit is may be told of the other.
    answer.expect(&pod, 2, "CRITICAL - pod-oom-kills: all pods together hit their limit (", " of all pods together");
    assert_eq!((answer.code, answer.kills(&pod)), (2, 1), "{}", answer.text);
    assert!(answer.metric("node_allocatable") >= 1, "{}", answer.text);
    assert_eq!(kills(&pod), [1, 1, 1]);
}

/// Containers that are gone before any look: v1 forgets their kills, and only the node's total has them.
#[test]
fn a_loop_of_containers_that_no_look_sees() {
    let node = Node::new();
    let pod = node.pod("multus-ds");
    let before = node.look(SYSTEM).metric("unattributed");
    node.look(PODS);
    for _ in 0..3 {
        node.live_and_die(&pod);
    }
    let (pods, system) = (node.look(PODS), node.look(SYSTEM));
    if !node.forgets {
        assert_eq!(pods.kills(&pod), 3, "{}", pods.text);
        // As the kubelet wants it there: all processes of a container at once, which is one event.
        let pod = node.pod("whole");
        let path = node.container(&pod, "gate", Some(LIMIT));
        fs::write(path.join("memory.oom.group"), "1").unwrap();
        node.start(&path).die();
        remove(&path);
        let whole = node.look(PODS);
        assert_eq!(whole.kills(&pod), 1, "{}", whole.text);
        assert!(whole.line(&pod).unwrap().contains("processes died"), "{}", whole.text);
        return;
    }
    assert_eq!(pods.kills(&pod), 0, "{}", pods.text);
    // Others on this machine may have been killed meanwhile.
    assert!(system.metric("unattributed") >= before + 3 && matches!(system.code, 1 | 2), "{}", system.text);
    let line = system.text.lines().find(|line| line.starts_with("the kernel's log names "));
    let line = line.unwrap_or_else(|| panic!("{}", system.text));
    // Not all are named where others on this machine were killed within the hour.
    let is_whole = !line.ends_with(" more");
    assert!(line.contains(HOG) || !is_whole, "{line}");
    // A header, which tells the place, is only printed ten times in 5 s.
    let uid = pod.path.file_name().unwrap().to_str().unwrap();
    let has_header = |line: &str| line.contains("oom-kill:constraint=") && line.contains(uid);
    if is_whole && kernel_log().lines().any(has_header) {
        assert!(line.contains(&format!("limit 12Mi) in {} gate", pod.name)), "{line}");
    }
    assert!(node.look(SYSTEM).metric("unattributed") >= system.metric("unattributed"), "asked twice");
}

// --- what does not disturb it ---------------------------------------------------------------------------------------

/// Set when it goes, also in a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn cgroups_that_come_and_go_while_it_looks() {
    let node = Node::new();
    let (pod, other) = (node.pod("gate-x7"), node.pod("busy"));
    let mut shell = node.start(&node.container(&pod, "gate", Some(LIMIT)));
    node.look(PODS);
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let containers: Vec<PathBuf> = (0..100).map(|n| other.path.join(format!("{n:064x}"))).collect();
                for container in &containers {
                    fs::create_dir(container).unwrap();
                    fs::create_dir(container.join("below")).unwrap();
                }
                for container in &containers {
                    fs::remove_dir(container.join("below")).unwrap();
                    fs::remove_dir(container).unwrap();
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _stop = Stop(&stop);
        let mut made = 0;
        for run in 0..100 {
            if run % 10 == 0 {
                shell.kill(1);
                made += 1;
            }
            let answer = node.look(if run % 10 == 9 { SYSTEM } else { PODS });
            assert!(answer.code != 3 && !answer.text.contains("UNKNOWN"), "run {run}: {}", answer.text);
            if run % 10 != 9 {
                assert_eq!(answer.kills(&pod), made, "run {run}: {}", answer.text);
            }
        }
        assert!(rounds.load(Ordering::Relaxed) > 5, "they did not come and go: this test tests nothing");
    });
}

/// The cgroups are for all to read, the kernel's log is not.
#[test]
fn a_user_without_privileges_counts_the_same() {
    let node = Node::new();
    // The target directory may be below root's home.
    let binary = node.dir.path().join("nodecheck");
    fs::copy(env!("CARGO_BIN_EXE_nodecheck"), &binary).unwrap();
    fs::create_dir(node.state("nobody")).unwrap();
    chown(node.state("nobody"), Some(65534), Some(65534)).unwrap();
    let look = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&binary);
        command.args(["run", PODS, "--local", "--state-dir"]).arg(node.state("nobody"));
        Answer::of(command)
    };
    let pod = node.pod("gate-x7");
    let mut shell = node.start(&node.container(&pod, "gate", Some(LIMIT)));
    assert_eq!((node.look(PODS).kills(&pod), look().kills(&pod)), (0, 0));
    shell.kill(3);
    let (root, user) = (node.look(PODS), look());
    user.expect(&pod, 1, "WARNING - pod-oom-kills: 3 OOM kills in ", "3 in container gate");
    assert_eq!((user.kills(&pod), root.kills(&pod)), (3, 3), "{}", user.text);
    let restricted = fs::read_to_string("/proc/sys/kernel/dmesg_restrict").unwrap().trim() == "1";
    let mode = fs::metadata("/dev/kmsg").unwrap().permissions().mode();
    let told = if restricted {
        "who was killed is not known: /dev/kmsg: permission denied; needs CAP_SYSLOG".to_owned()
    } else if mode & 0o004 == 0 {
        "who was killed is not known: /dev/kmsg: permission denied".to_owned()
    } else {
        format!("killed: {HOG} (")
    };
    assert!(user.text.contains(&told) || !user.is_only_of(&pod), "{told}: {}", user.text);
    assert!(!user.text.contains("could not be recorded"), "{}", user.text);
}

// --- the daemon -----------------------------------------------------------------------------------------------------

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGKILL
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was told once stays told: the daemon may die at any moment, and the cgroups may be gone by then.
#[test]
fn a_daemon_that_dies_again_and_again_forgets_no_kill() {
    let node = Node::new();
    let (socket, settings) = (node.dir.path().join("ask.sock"), node.dir.path().join("daemon.toml"));
    fs::write(&settings, "[check.pod-oom-kills]\ninterval = \"1s\"\n").unwrap();
    let begin = || {
        let mut command = nodecheck();
        command.args(["serve", "--nrpe=off", "--socket"]).arg(&socket).arg("--config").arg(&settings);
        command.arg("--state-dir").arg(node.state("state")).stderr(Stdio::null());
        Daemon(command.spawn().unwrap())
    };
    let pod = node.pod("gate-x7");
    let ask = || {
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the daemon does not answer");
            sleep(Duration::from_millis(5));
        }
        let mut command = nodecheck();
        command.args(["run", PODS, "--socket"]).arg(&socket);
        Answer::of(command).kills(&pod)
    };
    node.look(PODS);
    let (mut made, mut dice) = (0, 12345_u32);
    let mut roll = |most: u32| {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (dice >> 8) % most
    };
    let mut containers: Vec<(PathBuf, Shell)> = Vec::new();
    for round in 0..20 {
        let daemon = begin();
        sleep(Duration::from_millis(roll(200).into()));
        let gate = node.container(&pod, "gate", Some(LIMIT));
        let mut shell = node.start(&gate);
        let count = u64::from(roll(3) + 1);
        shell.kill(count);
        made += count;
        containers.push((gate, shell));
        let is_told = match round % 4 {
            // By the daemon, as soon as it has looked...
            1 => {
                let begun = Instant::now();
                while ask() != made {
                    assert!(begun.elapsed() < PATIENCE, "round {round}: {} of {made}", ask());
                    sleep(Duration::from_millis(20));
                }
                true
            }
            // ...or by a look beside it, with the same past.
            3 => {
                // One that began while the daemon's was under way is judged by what that saw.
                let mut answer = node.look(PODS);
                let begun = Instant::now();
                while answer.text.contains("a newer look is on record") && begun.elapsed() < PATIENCE {
                    answer = node.look(PODS);
                }
                assert_eq!(answer.kills(&pod), made, "round {round}: {}", answer.text);
                true
            }
            _ => {
                sleep(Duration::from_millis(roll(600).into()));
                false
            }
        };
        drop(daemon);
        if is_told {
            for (gate, shell) in containers.drain(..) {
                drop(shell);
                remove(&gate);
            }
        }
    }
    let answer = node.look(PODS);
    assert_eq!(answer.kills(&pod), made, "{}", answer.text);
    let _daemon = begin();
    assert_eq!(ask(), made);
}
