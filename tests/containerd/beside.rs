//! The check beside a containerd that works: it disturbs nothing, and nothing disturbs it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::cri::Pod;
use super::machine::reap;
use super::node::Node;
use super::{OK, UNKNOWN};

/// Set when it goes, also in a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn churn(time: Duration) {
    let node = Node::new();
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for number in 0..3 {
            let (node, stop, made) = (&node, &stop, &made);
            scope.spawn(move || {
                let mut client = node.client();
                for round in 0.. {
                    // Two pods that are made anew again and again, and many that are made once. Without CNI it is faster.
                    let pod = match number {
                        0 => Pod::new("web-0").attempt(round),
                        1 => Pod::on_host("db-0").attempt(round),
                        _ => Pod::on_host(&format!("job-{round}")),
                    };
                    let (sandbox, _) = client.run_app(&pod);
                    client.stop_pod(&sandbox);
                    client.remove_pod(&sandbox);
                    made.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        let (begun, mut looks, mut tries) = (Instant::now(), 0, 0);
        while begun.elapsed() < time {
            let answer = node.look();
            assert_eq!(answer.code, OK, "{}", answer.text);
            tries = tries.max(answer.metric("tries"));
            looks += 1;
            reap();
        }
        let made = made.load(Ordering::Relaxed);
        eprintln!("{looks} looks beside {made} pods that came and went, at most {tries} tries each");
        assert!(looks > 10 && made > 5, "this test tests nothing: {looks} looks, {made} pods");
    });
    reap();
    node.look().is(OK, &[]);
}

#[test]
fn pods_that_come_and_go() {
    churn(Duration::from_secs(6));
}

#[test]
#[ignore = "deep: pods come and go for NODECHECK_CHURN_SECONDS (300)"]
fn pods_that_come_and_go_for_long() {
    let seconds = std::env::var("NODECHECK_CHURN_SECONDS").map_or(300, |seconds| seconds.parse().unwrap());
    churn(Duration::from_secs(seconds));
}

/// This machine may have other databases.
#[test]
fn a_database_that_is_found() {
    let mut node = Node::new();
    node.client().run_pod(&Pod::on_host("proxy"));
    let path = node.database();
    let found = |answer: &Answer, holder: &str| {
        assert!(answer.text.contains(&format!("database: {}", path.display())), "{}", answer.text);
        assert!(answer.text.contains(holder), "{}", answer.text);
        assert!(answer.metric("live") >= 1, "{}", answer.text);
    };
    found(&node.look_around(), &format!("open in process {}", node.daemon()));
    // Down it tells nothing, but it was there.
    node.kill();
    found(&node.look_around(), "open in no process");
}

#[test]
fn no_lock_is_taken_and_no_start_delayed() {
    let mut node = Node::new();
    node.client().run_pod(&Pod::on_host("proxy"));
    let (trace, binary) = (node.path("trace"), Path::new(env!("CARGO_BIN_EXE_nodecheck")));
    let strace = ["strace", "-f", "-y", "-e", "trace=openat,openat2,flock,fcntl", "-o", trace.to_str().unwrap()];
    node.stop();
    let before = fs::read(node.database()).unwrap();
    for is_up in [false, true] {
        if is_up {
            assert!(before == fs::read(node.database()).unwrap());
            node.start();
        }
        Answer::of(node.nodecheck(&strace, binary, "10m")).is(OK, &[("sandboxes", 1), ("live", 1)]);
        let traced = fs::read_to_string(&trace).unwrap();
        let of_it = || traced.lines().filter(|line| line.contains("meta.db"));
        assert!(of_it().any(|line| line.contains("open")), "{traced}");
        let forbidden = ["flock(", "LK", "O_RDWR", "O_WRONLY", "O_CREAT"];
        assert_eq!(of_it().find(|line| forbidden.iter().any(|part| line.contains(part))), None);
    }
    node.stop();
    let (stop, mut looker) = (AtomicBool::new(false), node.nodecheck(&[], binary, "10m"));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(looker.output().unwrap().status.code(), Some(OK));
            }
        });
        for _ in 0..5 {
            node.start();
            node.stop();
        }
    });
    // What containerd says after 10 s without the lock, and bbolt's own wait for it is 50 ms.
    assert!(!node.log().contains("waiting for response from boltdb"));
}

/// Without root's rights the same is told, or what is missing.
#[test]
fn a_user_without_privileges() {
    let mut node = Node::new();
    let mut client = node.client();
    client.run_app(&Pod::on_host("web-0"));
    // The target directory may be below root's home.
    let binary = node.path("nodecheck");
    fs::copy(env!("CARGO_BIN_EXE_nodecheck"), &binary).unwrap();
    fs::create_dir(node.path("past")).unwrap();
    chown(node.path("past"), Some(65534), Some(65534)).unwrap();
    let by = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let look = |node: &Node, mode| {
        fs::set_permissions(node.path("root"), fs::Permissions::from_mode(mode)).unwrap();
        sleep(Duration::from_millis(350));
        Answer::of(node.nodecheck(&by, &binary, "300ms"))
    };
    // Both are made, depending on containerd's version.
    look(&node, 0o711).is(OK, &[("sandboxes", 1), ("live", 1)]);
    let denied = look(&node, 0o700);
    assert_eq!(denied.code, UNKNOWN, "{}", denied.text);
    assert!(denied.text.contains("CAP_DAC_READ_SEARCH"), "{}", denied.text);
    assert!(denied.text.contains("meta.db: permission denied"), "{}", denied.text);
    // How its container ended is for root alone.
    node.power_loss(false);
    for _ in 0..2 {
        let denied = look(&node, 0o711);
        assert_eq!(denied.code, UNKNOWN, "{}", denied.text);
        assert!(denied.text.contains("/status: permission denied"), "{}", denied.text);
        assert!(denied.text.contains("CAP_DAC_READ_SEARCH"), "{}", denied.text);
        if node.is_down() {
            node.start();
        }
    }
}
