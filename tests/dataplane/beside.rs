//! A look and what is around it: rights, a node without any of it, others who write meanwhile, and very many chains.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nodecheck::parse::ruleset::Family;

use crate::generate::Cluster;
use crate::node::{At, Backend};
use crate::row::{CRITICAL, OK, UNKNOWN, plain};
use crate::support::{metric, outcome};

const CHECKS: [&str; 2] = ["kube-nat", "calico-nat"];
const BACKENDS: [Backend; 2] = [Backend::Legacy, Backend::Nft];

/// Names of the tables of the legacy backend, by family.
fn names() -> [String; 2] {
    ["ip_tables_names", "ip6_tables_names"]
        .map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap())
}

#[test]
fn looking_makes_no_table() {
    for backend in BACKENDS {
        let at = At::new(backend, Family::Ip);
        assert_eq!(names(), ["", ""]);
        let look = |at: &At| CHECKS.map(|check| at.look(check, "past"));
        look(&at);
        assert_eq!(names(), ["", ""]);
        at.sh("ipt -t filter -N KUBE-FORWARD");
        let before = names();
        look(&at);
        assert_eq!(names(), before, "{backend:?}");
        at.load(&plain(&at));
        let before = names();
        let all = look(&at);
        assert!(all.iter().all(|(code, _)| *code == OK), "{all:?}");
        assert_eq!(names(), before, "{backend:?}");
    }
}

#[test]
fn without_the_right_to_look() {
    for backend in BACKENDS {
        let at = At::new(backend, Family::Ip);
        let ask = |options: &[&str]| {
            CHECKS.map(|check| {
                let mut command = Command::new("setpriv");
                command.args(options).args(["--inh-caps=-all", env!("CARGO_BIN_EXE_nodecheck"), "run", check]);
                outcome(command.arg("--state-dir").arg(at.dir()).output().unwrap())
            })
        };
        // Rules or none: what can't be read is not absent.
        for _ in 0..2 {
            for (code, out, _) in ask(&["--bounding-set=-net_admin"]) {
                assert!(
                    code == UNKNOWN && out.starts_with("UNKNOWN") && out.contains("CAP_NET_ADMIN"),
                    "{backend:?} {out}"
                );
            }
            at.load(&plain(&at));
        }
        for (code, out, _) in ask(&["--bounding-set=-all,+net_admin"]) {
            assert_eq!(code, OK, "{backend:?} {out}");
        }
    }
}

#[test]
fn nothing_of_it_on_this_node() {
    let at = At::new(Backend::Nft, Family::Ip);
    for (check, state) in [("kube-nat", UNKNOWN), ("calico-nat", OK)] {
        for _ in 0..2 {
            let (code, out) = at.first_look(check, "past");
            assert!(code == state && out.contains("not on this node"), "{out}");
        }
    }
}

/// Where Calico works with eBPF it has POSTROUTING only.
#[test]
fn what_is_expected_can_be_told() {
    for backend in BACKENDS {
        let at = At::new(backend, Family::Ip);
        at.load(&plain(&at));
        at.sh("gone nat cali-PREROUTING; gone nat cali-OUTPUT");
        let told = |check: &str, expect: &str, state: i32, code: &str| {
            let past = format!("{check}-{expect}-{state}");
            let (got, out) = at.look_with(check, &past, &["--set", &format!("expect={expect}")]);
            assert!(got == state && out.contains(code), "{backend:?} {expect}: {out}");
        };
        told("calico-nat", "bpf", OK, "");
        told("calico-nat", "iptables", CRITICAL, "(C1)");
        told("calico-nat", "none", OK, "");
        at.sh("without nat '^-A POSTROUTING .*-j cali-POSTROUTING'");
        told("calico-nat", "bpf", CRITICAL, "(C2)");
        told("kube-nat", "iptables", OK, "");
        told("kube-nat", "nftables", CRITICAL, "(K0)");
        at.sh("ipt -t nat -F");
        told("kube-nat", "none", OK, "");
        at.clear();
        told("kube-nat", "iptables", CRITICAL, "(K0)");
        told("calico-nat", "iptables", CRITICAL, "(C0)");
    }
}

#[test]
fn what_is_there_is_counted() {
    for backend in BACKENDS {
        let at = At::new(backend, Family::Ip);
        let cluster = Cluster::rich(Family::Ip);
        at.load(&cluster);
        let (_, out) = at.look("kube-nat", "past");
        let (with, without): (Vec<_>, Vec<_>) =
            cluster.services.iter().partition(|service| !service.endpoints.is_empty());
        assert_eq!(metric(&out, "services"), with.len() as u64, "{out}");
        assert_eq!(metric(&out, "rejects"), without.len() as u64, "{out}");
        let endpoints: u64 = with.iter().map(|service| service.endpoints.len() as u64).sum();
        assert_eq!(metric(&out, "endpoints"), endpoints, "{out}");
        assert_eq!(metric(&out, "broken"), 0, "{out}");
    }
}

#[test]
fn others_write_the_same_meanwhile() {
    for backend in BACKENDS {
        beside_a_writer(backend, Duration::from_millis(2500));
    }
}

#[test]
#[ignore = "deep: a writer and a reader that take turns for a minute with each backend"]
fn others_write_the_same_for_long() {
    for backend in BACKENDS {
        beside_a_writer(backend, Duration::from_secs(60));
    }
}

/// Rules come anew again and again, and are the same each time.
fn beside_a_writer(backend: Backend, long: Duration) {
    let at = At::new(backend, Family::Ip);
    let (fifty, hundred) = (Cluster::new(Family::Ip, 50, 3), Cluster::new(Family::Ip, 45, 3));
    at.load(&fifty);
    let stop = AtomicBool::new(false);
    let mut seen = [0; 4];
    // A thread that is begun here is in this namespace.
    let writes = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut writes = 0;
            while !stop.load(Ordering::Relaxed) {
                at.load(if writes % 2 == 0 { &hundred } else { &fifty });
                writes += 1;
            }
            writes
        });
        let begun = Instant::now();
        while begun.elapsed() < long {
            for check in CHECKS {
                let (code, out) = at.look(check, "past");
                if [1, CRITICAL].contains(&code) {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{backend:?}: {out}");
                }
                seen[usize::try_from(code).unwrap()] += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    println!("{backend:?}: {writes} writes; looks by state: {seen:?}");
    // Never to be able to tell would be no false alarm, but no help.
    assert!(writes > 5 && seen[0] > seen[3], "{backend:?}: {writes} writes, {seen:?}");
}

/// Another program changes tables of its own so often that no look at nf_tables is of one ruleset: what can't be read is
/// not missing.
#[test]
fn nobody_can_read_what_changes_all_the_time() {
    let at = At::new(Backend::Nft, Family::Ip);
    // Reading so many takes longer than the other program's next change.
    at.load(&Cluster::new(Family::Ip, 500, 3));
    // As both were seen whole, both know what they miss.
    for check in CHECKS {
        assert_eq!(at.look(check, "past").0, OK);
    }
    at.nft("add table ip busy\n");
    let mut busy = at.command("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = busy.stdin.take().unwrap();
    let answers = std::thread::scope(|scope| {
        // Ends as soon as that program does.
        scope.spawn(move || while input.write_all(b"add chain ip busy one\ndelete chain ip busy one\n").is_ok() {});
        let answers: Vec<_> = (0..6).map(|n| at.look(CHECKS[n % 2], "past")).collect();
        busy.kill().unwrap();
        answers
    });
    busy.wait().unwrap();
    for (code, out) in &answers {
        assert!([OK, UNKNOWN].contains(code), "{out}");
    }
    assert!(answers.iter().any(|(code, _)| *code == UNKNOWN), "it could be read all the time: {answers:?}");
    for check in CHECKS {
        let (code, out) = at.look(check, "past");
        assert_eq!(code, OK, "{out}");
    }
}

/// 25,000 services of 3 endpoints each: one chain a service, and one an endpoint. A build for debugging takes many times as
/// long as the one that ships, so it is given more time, and may say that it was not enough.
#[test]
#[ignore = "deep: writing a hundred thousand chains takes half a minute"]
fn a_hundred_thousand_chains() {
    let deadline = if cfg!(debug_assertions) { "90s" } else { "8s" };
    let config: String =
        CHECKS.map(|check| format!("[check.{check}]\ngrace = \"0s\"\ndeadline = \"{deadline}\"\n")).concat();
    for backend in BACKENDS {
        let at = At::new(backend, Family::Ip);
        let begun = Instant::now();
        at.load(&Cluster::new(Family::Ip, 25_000, 3));
        std::fs::write(at.dir().join("no-grace.toml"), &config).unwrap();
        println!("{backend:?}: loaded in {:.1?}", begun.elapsed());
        let look = |check: &str| {
            let begun = Instant::now();
            let answer = at.look_with(check, "past", &["-t", deadline.trim_end_matches('s')]);
            println!("{check} in {:.1?}: {}", begun.elapsed(), answer.1.lines().next().unwrap());
            answer
        };
        let is_told = |(code, out): (i32, String), state: i32, words: &str| {
            let is_late = cfg!(debug_assertions) && code == UNKNOWN && out.contains(" within ");
            assert!(is_late || code == state && out.contains(words), "{out}");
        };
        is_told(look("calico-nat"), OK, "");
        is_told(look("kube-nat"), OK, " services=25000;");
        at.sh("ipt -t nat -D OUTPUT -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES");
        is_told(look("kube-nat"), CRITICAL, "(K2)");
    }
}
