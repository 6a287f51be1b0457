//! The kernel's counters, as a model of it counts, and what the checks say of them.

mod model;

use crate::render::plugin;
use crate::status::Status;

use model::{Kernel, Node, OTHER, POD, THIRD, container, metric, pod};

const EVERY: [Kernel; 4] = [Kernel::V1, Kernel::V2, Kernel::V2Old, Kernel::V2Local];
const UP: u64 = 10_000;

#[test]
fn children_killed_under_a_living_parent() {
    for kernel in EVERY {
        let mut node = Node::new(kernel);
        let gate = container(POD, 'a');
        node.limit(&gate, 64);
        node.kill(&gate, 5, false, Some(&gate));
        let (pods, system) = node.both(UP);
        assert_eq!((pods.status, system.status), (Status::Ok, Status::Ok), "the first look counts from now on");
        node.kill(&gate, 2, false, Some(&gate));
        let (pods, system) = node.both(UP + 1);
        assert_eq!((pods.status, system.status), (Status::Warning, Status::Ok), "{}", plugin(&pods, false));
        assert_eq!(pods.summary, "2 OOM kills in 60 min: kured/gate-x7 2x container gate, limit 64Mi");
        node.kill(&gate, 147, false, Some(&gate));
        let (pods, system) = node.both(UP + 2);
        assert_eq!((pods.status, system.status), (Status::Critical, Status::Ok));
        let line = "kured/gate-x7 alone has 149 OOM kills in 60 min (threshold 9); 149 OOM kills in 60 min: kured/gate-x7 149x";
        assert!(pods.summary.starts_with(line), "{}", pods.summary);
        let text = plugin(&pods, false);
        assert!(text.contains("149 in container gate (it still runs: restarts do not show this)"), "{text}");
        // Asked again, and half an hour later, the same; after the window nothing is left.
        assert_eq!(node.look("pod-oom-kills", UP + 2).summary, pods.summary);
        assert_eq!(metric(&node.look("pod-oom-kills", UP + 32), "kills"), 149.0);
        assert_eq!(node.look("pod-oom-kills", UP + 70).status, Status::Ok);
    }
}

#[test]
fn whose_limit_it_was() {
    for kernel in EVERY {
        for (limit, class) in [
            (Some(container(POD, 'a')), "container"),
            (Some(pod(POD)), "pod"),
            (Some("kubepods/burstable".to_owned()), "allocatable"),
            (Some("kubepods".to_owned()), "allocatable"),
            (None, "global"),
        ] {
            let mut node = Node::new(kernel);
            node.both(UP);
            node.kill(&container(POD, 'a'), 1, false, limit.as_deref());
            let (pods, system) = node.both(UP + 1);
            let states = (pods.status, system.status);
            let text = format!("{class}: {}\n{}", plugin(&pods, false), plugin(&system, false));
            match class {
                "allocatable" => {
                    assert_eq!(states, (Status::Critical, Status::Ok), "{text}");
                    assert!(pods.summary.starts_with("all pods together hit their limit: kured/gate-x7"), "{text}");
                }
                "global" => {
                    assert_eq!(states, (Status::Ok, Status::Critical), "{text}");
                    let line = "the node ran out of memory: 1 OOM kill in kured/gate-x7";
                    assert!(system.summary.starts_with(line), "{text}");
                }
                _ => assert_eq!(states, (Status::Warning, Status::Ok), "{text}"),
            }
            // No event counts in both.
            assert_eq!(metric(&pods, "kills") + metric(&system, "kills"), 1.0, "{text}");
        }
    }
}

#[test]
fn a_group_kill_is_one_event() {
    for kernel in [Kernel::V2, Kernel::V2Old] {
        let mut node = Node::new(kernel);
        node.both(UP);
        let gate = container(POD, 'a');
        for _ in 0..2 {
            node.kill(&gate, 5, true, Some(&gate));
        }
        node.remove(&gate);
        let (pods, system) = node.both(UP + 1);
        assert_eq!((pods.status, system.status), (Status::Warning, Status::Ok), "{}", plugin(&pods, false));
        assert_eq!((metric(&pods, "kills"), metric(&pods, "processes")), (2.0, 10.0));
        assert_eq!(metric(&system, "kills"), 0.0);
    }
}

#[test]
fn a_group_kill_takes_no_single_kill_away() {
    let mut node = Node::new(Kernel::V2);
    node.both(UP);
    let gate = container(POD, 'a');
    node.kill(&gate, 40, false, Some(&gate));
    assert_eq!(metric(&node.look("pod-oom-kills", UP + 1), "kills"), 40.0);
    node.kill(&gate, 5, true, Some(&gate));
    for minute in [2, 12, 50] {
        let pods = node.look("pod-oom-kills", UP + minute);
        assert_eq!(metric(&pods, "kills"), 41.0, "{minute}: {}", plugin(&pods, false));
        assert_eq!(pods.status, Status::Critical);
    }
}

#[test]
fn a_loop_that_no_look_sees_a_container_of() {
    for (kernel, group) in [(Kernel::V2, true), (Kernel::V2, false), (Kernel::V2Old, true)] {
        let mut node = Node::new(kernel);
        let multus = container(POD, 'b');
        node.limit(&pod(POD), 50);
        node.both(UP);
        for round in 1..=3 {
            node.make(&multus);
            node.kill(&multus, if group { 3 } else { 1 }, group, Some(&pod(POD)));
            node.remove(&multus);
            node.file(&format!("var/log/pods/kured_gate-x7_{POD}/multus/{round}.log"), "");
        }
        let pods = node.look("pod-oom-kills", UP + 1);
        assert_eq!(pods.status, Status::Critical, "{}", plugin(&pods, false));
        let line = "OOM loop: kured/gate-x7 container multus, limit 50Mi, ended 3 times; 3 OOM kills in 60 min: ";
        assert!(pods.summary.starts_with(line), "{}", pods.summary);
    }
    // Three children that took one container with them are no loop: it was started once.
    let mut node = Node::new(Kernel::V2);
    node.both(UP);
    let gate = container(POD, 'a');
    node.kill(&gate, 3, false, Some(&gate));
    node.remove(&gate);
    let pods = node.look("pod-oom-kills", UP + 1);
    assert_eq!((pods.status, metric(&pods, "oom_loops")), (Status::Warning, 0.0), "{}", plugin(&pods, false));
}

#[test]
fn what_is_gone_before_a_look() {
    // A pod that came and went: v2 has it in kubepods, v1 only in the total.
    for kernel in EVERY {
        let mut node = Node::new(kernel);
        node.both(UP);
        let short = container(OTHER, 'c');
        node.make(&short);
        node.kill(&short, 1, false, Some(&short));
        node.remove(&pod(OTHER));
        let (pods, system) = node.both(UP + 1);
        assert_eq!((pods.status, system.status), (Status::Ok, Status::Warning), "{}", plugin(&system, false));
        assert_eq!(metric(&system, "unattributed"), 1.0);
        let line = "1 OOM kill in 60 min: 1 in cgroups that are gone";
        assert!(system.summary.contains(line), "{}", system.summary);
    }
    // v1: a loop of containers, ten times.
    let mut node = Node::new(Kernel::V1);
    node.both(UP);
    for _ in 0..10 {
        let short = container(POD, 'c');
        node.make(&short);
        node.kill(&short, 1, false, Some(&short));
        node.remove(&short);
    }
    let (pods, system) = node.both(UP + 1);
    assert_eq!((pods.status, system.status), (Status::Ok, Status::Critical), "{}", plugin(&system, false));
    // What a look saw before its cgroup went stays where it was.
    let mut node = Node::new(Kernel::V1);
    node.both(UP);
    node.kill(&container(POD, 'a'), 4, false, Some(&pod(POD)));
    node.both(UP + 1);
    node.remove(&pod(POD));
    let (pods, system) = node.both(UP + 2);
    assert_eq!((pods.status, system.status), (Status::Warning, Status::Ok), "{}", plugin(&system, false));
    assert!(plugin(&pods, false).contains("4 in container gate (it is gone)"), "{}", plugin(&pods, false));
}

#[test]
fn services() {
    for kernel in EVERY {
        let kubelet = "system.slice/kubelet.service";
        let mut node = Node::new(kernel);
        node.both(UP);
        node.kill(kubelet, 1, false, Some(kubelet));
        let (pods, system) = node.both(UP + 1);
        assert_eq!((pods.status, system.status), (Status::Ok, Status::Warning), "{}", plugin(&system, false));
        assert!(system.summary.contains(": kubelet.service 1x at its own limit"), "{}", system.summary);
        let mut node = Node::new(kernel);
        node.both(UP);
        node.kill(kubelet, 1, false, None);
        let (pods, system) = node.both(UP + 1);
        assert_eq!((pods.status, system.status), (Status::Ok, Status::Critical), "{}", plugin(&system, false));
        let line = "the node ran out of memory: 1 OOM kill in kubelet.service";
        assert!(system.summary.starts_with(line), "{}", system.summary);
    }
}

/// A slice keeps what was killed in a container that is gone: at the limit of that, and not since the node had no memory.
#[test]
fn containers_outside_all_pods_that_are_gone() {
    for kernel in [Kernel::V2, Kernel::V2Old] {
        let docker = "system.slice/docker-1.scope";
        let mut node = Node::new(kernel);
        node.make(docker);
        node.both(UP);
        node.kill(docker, 2, false, Some(docker));
        node.kill("system.slice/kubelet.service", 1, false, None);
        node.remove(docker);
        let system = node.look("node-oom-kills", UP + 1);
        assert_eq!((metric(&system, "system_limit"), metric(&system, "system")), (2.0, 1.0), "{}", system.summary);
        let line = "the node ran out of memory: 1 OOM kill in kubelet.service; 3 OOM kills in 60 min: system.slice 2x";
        assert!(system.summary.starts_with(line), "{}", system.summary);
    }
}

#[test]
fn three_pods_and_those_set_apart() {
    let mut node = Node::new(Kernel::V2);
    for (uid, name) in [(OTHER, "build-1"), (THIRD, "build-2")] {
        node.make(&container(uid, 'b'));
        node.name(uid, "ci", name);
    }
    let kill = |node: &mut Node| {
        for uid in [POD, OTHER, THIRD] {
            let (path, limit) = (container(uid, if uid == POD { 'a' } else { 'b' }), pod(uid));
            node.kill(&path, 4, false, Some(&limit));
        }
    };
    node.look("pod-oom-kills", UP);
    kill(&mut node);
    let pods = node.look("pod-oom-kills", UP + 1);
    assert_eq!(pods.status, Status::Critical);
    let line = "3 pods have OOM kills: ";
    assert!(pods.summary.starts_with(line), "{}", pods.summary);
    node.settings = "[check.pod-oom-kills.params]\nignore = [\"ci/build-1\"]\n\
                     thresholds = [{ pods = \"ci/*\", warning = \"5\", critical = \"50\" }]\n"
        .to_owned();
    let pods = node.look("pod-oom-kills", UP + 2);
    assert_eq!((pods.status, metric(&pods, "kills"), metric(&pods, "ignored")), (Status::Warning, 4.0, 4.0));
    assert_eq!(metric(&pods, "kills_own"), 4.0);
    assert_eq!((metric(&pods, "pods"), metric(&pods, "worst_pod")), (1.0, 4.0));
    kill(&mut node);
    let pods = node.look("pod-oom-kills", UP + 3);
    let text = plugin(&pods, false);
    assert!(text.contains("WARNING: ci/build-2: 8 OOM kills") && text.contains("(own threshold 5 of ci/*)"), "{text}");
    assert!(text.contains("ignored: ci/build-1: 8 OOM kills"), "{text}");
    // Thresholds of their own hold instead of the check's.
    let mut node = Node::new(Kernel::V2);
    node.settings = "[check.pod-oom-kills.params]\nthresholds = [{ pods = \"kured/*\", warning = \"5\" }]\n".to_owned();
    node.look("pod-oom-kills", UP);
    node.kill(&container(POD, 'a'), 5, false, None);
    node.kill(&container(POD, 'a'), 5, false, Some(&pod(POD)));
    let pods = node.look("pod-oom-kills", UP + 1);
    assert_eq!((pods.status, metric(&pods, "kills"), metric(&pods, "kills_own")), (Status::Ok, 0.0, 5.0));
    let line = "no OOM kill in a pod in 1 min but 5 in pods with thresholds of their own";
    assert_eq!(pods.summary, line);
}

#[test]
fn a_boot_that_is_younger_than_the_window() {
    for kernel in EVERY {
        let mut node = Node::new(kernel);
        node.kill(&container(POD, 'a'), 3, false, Some(&container(POD, 'a')));
        let (pods, system) = node.both(20);
        assert_eq!((pods.status, system.status), (Status::Warning, Status::Ok), "{}", plugin(&pods, false));
        assert_eq!(metric(&pods, "kills"), 3.0);
    }
}

#[test]
fn recreated_rebooted_and_set_back() {
    for kernel in EVERY {
        let mut node = Node::new(kernel);
        let gate = container(POD, 'a');
        node.kill(&gate, 100, false, Some(&gate));
        node.both(UP);
        // The same name, another cgroup, one kill.
        node.remove("kubepods");
        node.make(&gate);
        node.kill(&gate, 1, false, Some(&gate));
        let (pods, system) = node.both(UP + 1);
        assert_eq!((metric(&pods, "kills"), metric(&system, "kills")), (1.0, 0.0), "{}", plugin(&pods, false));
        // A reboot.
        node.file("proc/sys/kernel/random/boot_id", "boot-b\n");
        let pods = node.look("pod-oom-kills", UP + 2);
        assert_eq!((pods.status, metric(&pods, "kills")), (Status::Ok, 0.0), "{}", plugin(&pods, false));
    }
}

#[test]
fn a_loop_whose_every_container_was_seen() {
    for kernel in EVERY {
        let mut node = Node::new(kernel);
        node.both(UP);
        for (minute, letter) in [(1, 'b'), (2, 'c'), (3, 'd')] {
            let cni = container(POD, letter);
            node.make(&cni);
            node.limit(&cni, 32);
            node.kill(&cni, 1, false, Some(&cni));
            node.look("pod-oom-kills", UP + minute);
            node.remove(&cni);
        }
        let pods = node.look("pod-oom-kills", UP + 4);
        assert_eq!(pods.status, Status::Critical, "{}", plugin(&pods, false));
        let line = "OOM loop: kured/gate-x7 container gate, limit 32Mi, ended 3 times; 3 OOM kills in 60 min: ";
        assert!(pods.summary.starts_with(line), "{}", pods.summary);
        let text = plugin(&pods, false);
        assert!(text.contains("3 in container gate (3 of that name are gone)"), "{text}");
    }
}

#[test]
fn the_limit_is_that_which_was_hit() {
    for kernel in EVERY {
        let mut node = Node::new(kernel);
        node.both(UP);
        let gate = container(POD, 'a');
        node.limit(&gate, 64);
        node.kill(&gate, 1, false, Some(&gate));
        node.look("pod-oom-kills", UP + 1);
        node.limit(&gate, 512);
        let pods = node.look("pod-oom-kills", UP + 2);
        assert!(pods.summary.ends_with("container gate, limit 64Mi"), "{}", pods.summary);
        node.kill(&gate, 1, false, Some(&gate));
        let pods = node.look("pod-oom-kills", UP + 3);
        assert!(pods.summary.ends_with("container gate, limit 512Mi"), "{}", pods.summary);
        // A limit around it.
        let mut node = Node::new(kernel);
        node.limit("system.slice", 30);
        node.limit(&pod(POD), 50);
        node.both(UP);
        node.kill("system.slice/kubelet.service", 1, false, Some("system.slice"));
        node.kill(&container(POD, 'a'), 1, false, Some(&pod(POD)));
        let (pods, system) = node.both(UP + 1);
        assert!(system.summary.ends_with("kubelet.service 1x at the limit of system.slice"), "{}", system.summary);
        assert!(pods.summary.ends_with("container gate, limit 50Mi of the pod"), "{}", pods.summary);
    }
}
