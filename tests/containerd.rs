//! The check of stale sandboxes on a real containerd, with real pods.
//!
//! Needs root, and Debian's containerd, runc and CNI plugins. All that is made here is removed again, also after a
//! failure; what an earlier run left behind when it was killed, too.

#[path = "containerd/answer.rs"]
mod answer;
#[path = "containerd/beside.rs"]
mod beside;
#[path = "containerd/cri.rs"]
mod cri;
#[path = "containerd/machine.rs"]
mod machine;
#[path = "containerd/node.rs"]
mod node;
mod support;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cri::Pod;
use machine::stat;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node::{CONFIG, CONFIG_WITHOUT_CRI, Node, PATIENCE};

const OK: i32 = 0;
const WARNING: i32 = 1;
const CRITICAL: i32 = 2;
const UNKNOWN: i32 = 3;

// --- what is harmless -----------------------------------------------------------------------------------------------

#[test]
fn pods_that_live_whatever_the_daemon_does() {
    let mut node = Node::new();
    node.look().is(OK, &[]);
    let mut client = node.client();
    let (web, _) = client.run_app(&Pod::new("web-0"));
    client.run_app(&Pod::on_host("etcd"));
    client.run_pod(&Pod::on_host("proxy"));
    let all = [("sandboxes", 3), ("live", 3)];
    node.look_later().is(OK, &all);
    node.stop();
    let down = node.look_later();
    down.is(OK, &all);
    assert!(down.text.contains("containerd does not run"), "{}", down.text);
    node.start();
    node.kill();
    node.look_later().is(OK, &all);
    // Ended in order: no more than a record.
    node.start();
    client.stop_pod(&web);
    node.look_later().is(OK, &[("sandboxes", 3), ("live", 2)]);
    client.remove_pod(&web);
    node.look_later().is(OK, &[("sandboxes", 2), ("live", 2)]);
}

// --- after a reset --------------------------------------------------------------------------------------------------

fn power_loss(keeps_state: bool) {
    let mut node = Node::new();
    let mut client = node.client();
    let pod = Pod::new("web-0");
    let (old, _) = client.run_app(&pod);
    // Without a container nothing of it is missed.
    client.run_pod(&Pod::on_host("proxy"));
    node.look().is(OK, &[("sandboxes", 2), ("live", 2)]);
    node.power_loss(keeps_state);
    // There may still be somebody who makes the next one.
    node.look().is(OK, &[("sandboxes", 2)]);
    let stale = [("sandboxes", 2), ("stale", 1)];
    let down = node.look_later();
    down.is(WARNING, &stale);
    down.names(&pod, &old);
    node.start();
    assert!(client.pods().iter().all(|listed| !listed.is_ready));
    let up = node.look_later();
    up.is(WARNING, &stale);
    up.names(&pod, &old);
    // Its name is taken, and the next one free.
    let refused = client.try_run_pod(&pod, PATIENCE).unwrap_err();
    assert!(refused.contains(&format!("is reserved for \"{old}\"")), "{refused}");
    let (new, _) = client.run_app(&pod.attempt(1));
    node.look_later().is(OK, &[("sandboxes", 3), ("live", 1), ("superseded", 1)]);
    client.remove_pod(&old);
    client.stop_pod(&new);
    node.look_later().is(OK, &[("sandboxes", 2)]);
}

#[test]
fn a_power_loss_leaves_a_stale_sandbox() {
    power_loss(false);
}

/// MicroK8s: there the number of a process that is gone is still in a file.
#[test]
fn a_power_loss_with_the_state_on_the_disk() {
    power_loss(true);
}

/// Nobody tells the daemon, which is down.
#[test]
fn a_pause_process_that_is_killed() {
    let mut node = Node::new();
    let mut client = node.client();
    let (alone, pod) = (Pod::on_host("alone"), Pod::on_host("web-0"));
    let (pause, (sandbox, app)) = (client.run_pod(&alone), client.run_app(&pod));
    node.stop();
    // A zombie is still in its cgroup.
    let process = node.processes(&pause)[0];
    let shim = Pid::from_raw(stat(process).unwrap().parent as i32);
    kill(shim, Signal::SIGSTOP).unwrap();
    kill(process, Signal::SIGKILL).unwrap();
    node.look_later().is(OK, &[("sandboxes", 2), ("live", 1)]);
    assert!(stat(process).is_some(), "this tests nothing");
    kill(shim, Signal::SIGCONT).unwrap();
    node.look_later().is(OK, &[("sandboxes", 2), ("live", 1)]);
    // Of this one the application lives on, for containerd as for us without a sandbox.
    kill(node.processes(&sandbox)[0], Signal::SIGKILL).unwrap();
    for _ in 0..2 {
        let told = node.look_later();
        told.is(WARNING, &[("sandboxes", 2), ("stale", 1)]);
        told.names(&pod, &sandbox);
        if node.is_down() {
            node.start();
        }
    }
    assert_eq!(node.processes(&app).len(), 1);
    assert!(client.pods().iter().all(|listed| !listed.is_ready));
    // What the kubelet does then: somebody sees the end of the application.
    client.stop_pod(&sandbox);
    node.look_later().is(OK, &[("sandboxes", 2)]);
}

/// What the kubelet should have removed.
#[test]
fn a_dead_sandbox_of_a_pod_that_is_gone() {
    let node = Node::new();
    let mut client = node.client();
    let (pod, other) = (Pod::on_host("web-0"), Pod::on_host("db-0"));
    let (dead, _) = (client.run_pod(&pod), client.run_pod(&other));
    client.stop_pod(&dead);
    let pods = "/var/lib/kubelet/pods";
    node.shell(&format!("mkdir -p {pods}/{} {pods}/{}", pod.uid, other.uid));
    node.look_later().is(OK, &[("sandboxes", 2), ("live", 1)]);
    node.shell(&format!("rmdir {pods}/{}", pod.uid));
    node.look().is(OK, &[("sandboxes", 2), ("live", 1)]);
    let orphaned = node.look_later();
    orphaned.is(WARNING, &[("sandboxes", 2), ("live", 1), ("orphaned", 1)]);
    orphaned.names(&pod, &dead);
    client.remove_pod(&dead);
    node.look_later().is(OK, &[("sandboxes", 1), ("live", 1)]);
}

#[test]
fn a_network_namespace_that_somebody_unmounts() {
    let node = Node::new();
    let mut client = node.client();
    let pods = ["web-0", "db-0"].map(Pod::new);
    let ids = pods.each_ref().map(|pod| client.run_pod(pod));
    node.look().is(OK, &[("sandboxes", 2), ("live", 2)]);
    node.shell("set -- /run/netns/*; umount -l $1; rm $1");
    let netless = node.look();
    netless.is(WARNING, &[("sandboxes", 2), ("live", 2), ("netless", 1)]);
    assert!(ids.iter().any(|id| netless.text.contains(&id[..13])), "{}", netless.text);
}

// --- names that are taken -------------------------------------------------------------------------------------------

#[test]
fn two_records_with_one_name_keep_containerd_from_starting() {
    let mut node = Node::new();
    let mut client = node.client();
    let (pod, other) = (Pod::on_host("web-0"), Pod::on_host("web-1"));
    let (live, dead) = (client.run_pod(&pod), client.run_pod(&other));
    client.stop_pod(&dead);
    node.stop();
    node.look().is(OK, &[("sandboxes", 2), ("live", 1)]);
    node.edit(other.name.as_bytes(), pod.name.as_bytes());
    node.edit(other.uid.as_bytes(), pod.uid.as_bytes());
    let told = node.look();
    told.is(CRITICAL, &[("sandboxes", 2), ("live", 1), ("duplicates", 1)]);
    for id in [&live, &dead] {
        assert!(told.text.contains(&id[..13]), "{}", told.text);
    }
    let log = node.try_start(CONFIG).unwrap_err();
    assert!(log.contains("failed to reserve sandbox name"), "{log}");
    node.look().is(CRITICAL, &[("sandboxes", 2), ("live", 1), ("duplicates", 1)]);
    // As the check tells.
    assert!(told.text.contains(&format!("-n k8s.io containers rm {dead}")), "{}", told.text);
    node.try_start(CONFIG_WITHOUT_CRI).unwrap();
    node.ctr(&["containers", "rm", &dead]);
    node.look().is(OK, &[("sandboxes", 1), ("live", 1)]);
    node.stop();
    node.start();
    assert_eq!(client.pods().iter().map(|listed| (&listed.id, listed.is_ready)).collect::<Vec<_>>(), [(&live, true)]);
}

#[test]
fn a_creation_that_hangs_holds_the_name() {
    let node = Node::new();
    let mut client = node.client();
    let pod = Pod::new("web-0");
    fs::write(node.hold(), "").unwrap();
    let gone = client.try_run_pod(&pod, Duration::from_millis(700)).unwrap_err();
    assert!(gone.starts_with("DEADLINE_EXCEEDED"), "{gone}");
    let refused = client.try_run_pod(&pod, PATIENCE).unwrap_err();
    let holder = refused.split_once("is reserved for \"").unwrap_or_else(|| panic!("{refused}")).1;
    assert!(client.pods().is_empty());
    node.look().is(OK, &[("sandboxes", 1)]);
    let stuck = node.look_later();
    assert!(stuck.metric("stuck_age") < 60, "{}", stuck.text);
    stuck.is(WARNING, &[("sandboxes", 1), ("stuck", 1)]);
    stuck.names(&pod, holder);
    fs::remove_file(node.hold()).unwrap();
    let begun = Instant::now();
    let sandbox = loop {
        match client.try_run_pod(&pod, PATIENCE) {
            Ok(sandbox) => break sandbox,
            Err(error) => assert!(error.contains("is reserved for") && begun.elapsed() < PATIENCE, "{error}"),
        }
        sleep(Duration::from_millis(50));
    };
    assert!(!holder.starts_with(&sandbox));
    node.look_later().is(OK, &[("sandboxes", 1), ("live", 1)]);
}

#[test]
fn a_power_loss_in_the_middle_of_a_creation() {
    let mut node = Node::new();
    let mut client = node.client();
    let pod = Pod::new("web-0");
    fs::write(node.hold(), "").unwrap();
    client.try_run_pod(&pod, Duration::from_millis(700)).unwrap_err();
    node.power_loss(false);
    fs::remove_file(node.hold()).unwrap();
    let told = node.look_later();
    node.start();
    let [left] = &client.pods()[..] else { panic!("what was begun is listed now") };
    assert!(!left.is_ready);
    for stuck in [told, node.look_later()] {
        stuck.is(WARNING, &[("sandboxes", 1), ("stuck", 1)]);
        stuck.names(&pod, &left.id);
    }
    let refused = client.try_run_pod(&pod, PATIENCE).unwrap_err();
    assert!(refused.contains(&format!("is reserved for \"{}\"", left.id)), "{refused}");
    client.run_pod(&pod.attempt(1));
    node.look_later().is(OK, &[("sandboxes", 2), ("live", 1), ("superseded", 1)]);
}

/// A clock that was behind as the later one was made.
#[test]
fn attempts_in_the_wrong_order() {
    let mut node = Node::new();
    let mut client = node.client();
    let (pod, other) = (Pod::on_host("web-0"), Pod::on_host("db-0"));
    let (old, new) = (client.run_pod(&pod), client.run_pod(&pod.attempt(1)));
    let (old_other, new_other) = (client.run_pod(&other), client.run_pod(&other.attempt(1)));
    client.stop_pod(&old);
    client.stop_pod(&new_other);
    let all = [("sandboxes", 4), ("live", 2), ("superseded", 1)];
    node.look_later().is(OK, &all);
    let pods = client.pods();
    let created = |id: &str| pods.iter().find(|listed| listed.id == id).unwrap().created;
    let hour = 3_600_000_000_000;
    node.stop();
    node.move_in_time(created(&new_other), created(&new_other) - hour);
    let live = node.look();
    live.is(WARNING, &[&all[..], &[("inverted_live", 1)]].concat());
    live.names(&other, &old_other);
    node.move_in_time(created(&new), created(&new) - hour);
    let dead = node.look();
    dead.is(CRITICAL, &[&all[..], &[("inverted", 1), ("inverted_live", 1)]].concat());
    dead.names(&pod, &old);
    // What the older kubelet asks for next, for ever.
    node.start();
    let refused = client.try_run_pod(&pod.attempt(1), PATIENCE).unwrap_err();
    assert!(refused.contains(&format!("is reserved for \"{new}\"")), "{refused}");
    for id in [&old, &new_other] {
        assert!(
            dead.text.contains(&format!("rmp -f {}", &id[..13])) || dead.text.contains("rmp -f ID"),
            "{}",
            dead.text
        );
        client.remove_pod(id);
    }
    node.look().is(OK, &[("sandboxes", 2), ("live", 2)]);
}
