//! Who changes the ruleset of nf_tables, as a daemon hears it, in network namespaces of their own. Needs root.

#[path = "netfilter/save.rs"]
mod save;
mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nodecheck::host::{Host, Writer};
use save::{alone, output, restore};
use support::nodecheck;

/// The name of the thread that listens.
const THREAD: &str = "nft writers";

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A host that listens, as a daemon's does.
fn listening() -> Host {
    let host = Host::live().unwrap();
    assert_eq!(host.nft_writers_since(None), None);
    host.hear_nft_writers(true).unwrap();
    wait_for("the listener", || host.nft_writers_since(None).is_some());
    host
}

/// What was heard, once so many transactions were.
fn heard(host: &Host, transactions: u32) -> Vec<Writer> {
    let mut writers = Vec::new();
    wait_for("the kernel's word", || {
        writers = host.nft_writers_since(None).unwrap();
        writers.iter().map(|writer| writer.count).sum::<u32>() >= transactions
    });
    writers
}

fn names(writers: &[Writer]) -> Vec<(&str, u32)> {
    writers.iter().map(|writer| (&*writer.comm, writer.count)).collect()
}

fn nft(arguments: &str) {
    output(Command::new("nft").args(arguments.split(' ')));
}

/// Twenty thousand rules in one transaction.
fn flood(program: &str) {
    let chains: String = (0..200).map(|n| format!(":KUBE-SVC-{n} - [0:0]\n")).collect();
    let rules: String = (0..20_000)
        .map(|n| {
            let address = format!("10.{}.{}.{}", 96 + n / 65536, n / 256 % 256, n % 256);
            format!("-A KUBE-SVC-{} -d {address}/32 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x1/0x1\n", n % 200)
        })
        .collect();
    restore(program, &format!("*nat\n{chains}{rules}COMMIT\n"));
}

/// Nanoseconds that a thread of ours has run.
fn cost(thread: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let mut named = tasks.filter(|task| std::fs::read_to_string(task.join("comm")).unwrap().trim() == thread);
    let stat = std::fs::read_to_string(named.next().unwrap().join("schedstat")).unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_kernel_names_who_writes() {
    alone("the_kernel_names_who_writes", || {
        let host = listening();
        host.hear_nft_writers(true).unwrap();
        let quiet = host.now().wall;
        nft("list ruleset");
        assert_eq!(host.nft_writers_since(None), Some(Vec::new()));
        nft("add table ip x");
        nft("add table ip y");
        let before = heard(&host, 2);
        let since = before[0].last;
        restore("iptables-nft-restore", "*nat\n:ours - [0:0]\nCOMMIT\n");
        nft("delete table ip x");
        // Looks share what is heard.
        let writers = heard(&host.again(), 4);
        assert_eq!(names(&writers), [("nft", 2), ("iptables-nft-re", 1), ("nft", 1)]);
        assert!(writers.iter().all(|writer| writer.pid > 0 && writer.first <= writer.last), "{writers:?}");
        assert_ne!(writers[0].pid, writers[2].pid);
        assert!(writers.windows(2).all(|pair| pair[0].last <= pair[1].first), "{writers:?}");
        assert_eq!(writers[2].generation, host.nft_generation().unwrap());
        // Those of before are left out, and before it listened nothing is known.
        let wanted = since.checked_add(Duration::from_nanos(1)).unwrap();
        assert_eq!(names(&host.nft_writers_since(Some(wanted)).unwrap()), [("iptables-nft-re", 1), ("nft", 1)]);
        assert_eq!(host.nft_writers_since(Some(host.again().now().wall)), Some(Vec::new()));
        assert_eq!(host.nft_writers_since(Some(quiet)).map(|writers| writers.len()), Some(3));
        assert_eq!(host.nft_writers_since(Some(quiet.checked_sub(Duration::from_secs(60)).unwrap())), None);
        assert_eq!(Host::live().unwrap().nft_writers_since(None), None, "another one does not listen");
    });
}

#[test]
fn a_flood_of_rules_is_one_message() {
    alone("a_flood_of_rules_is_one_message", || {
        let time = |what: &str| {
            let begun = Instant::now();
            flood("iptables-nft-restore");
            println!("{what}: {:?}", begun.elapsed());
        };
        time("20,000 rules, nobody listens");
        nft("flush ruleset");
        let host = listening();
        let before = cost(THREAD);
        time("20,000 rules, we listen");
        let writers = heard(&host, 1);
        assert_eq!(names(&writers), [("iptables-nft-re", 1)]);
        let took = Duration::from_nanos(cost(THREAD) - before);
        println!("the listener: {took:?}");
        assert!(took < Duration::from_millis(10), "{took:?}");
    });
}

#[test]
fn a_burst_of_changes_is_heard_whole() {
    alone("a_burst_of_changes_is_heard_whole", || {
        let host = listening();
        let before = cost(THREAD);
        // Each line that nft is told in this way is a transaction.
        let mut child = Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines: String = (0..1000).map(|n| format!("add table ip t{n}\n")).collect();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(names(&heard(&host, 1000)), [("nft", 1000)]);
        println!("the listener, a change: {:?}", Duration::from_nanos((cost(THREAD) - before) / 1000));
    });
}

#[test]
#[ignore = "started by another test"]
fn listens_without_the_right() {
    if std::env::var_os("NODECHECK_HEARS").is_none() {
        return;
    }
    let host = Host::live().unwrap();
    host.hear_nft_writers(true).unwrap();
    let is_there = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("comm"));
        // One may end meanwhile.
        tasks.filter_map(|comm| std::fs::read_to_string(comm).ok()).any(|comm| comm.trim() == THREAD)
    };
    // It has no name yet when it begins.
    std::thread::sleep(Duration::from_millis(100));
    wait_for("the thread to end", || !is_there());
    assert_eq!(host.nft_writers_since(None), None);
}

#[test]
fn without_cap_net_admin_nobody_listens() {
    alone("without_cap_net_admin_nobody_listens", || {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-net_admin", "--inh-caps=-all"]).arg(std::env::current_exe().unwrap());
        command.args(["listens_without_the_right", "--exact", "--ignored", "--nocapture"]).env("NODECHECK_HEARS", "1");
        assert!(output(&mut command).contains("1 passed"));
    });
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_daemon_of_a_live_node_listens_unless_told_not_to() {
    alone("the_daemon_of_a_live_node_listens_unless_told_not_to", || {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("ask.sock");
        for (root, told, listens) in [
            (None, &[][..], true),
            (None, &["--nft-writers=never"], false),
            (Some(dir.path()), &["--nft-writers=always"], false),
        ] {
            let mut command = nodecheck();
            command.arg("--socket").arg(&socket).arg("--state-dir").arg(dir.path().join("state"));
            command.args(root.map(|root| format!("--root={}", root.display())));
            let daemon =
                Daemon(command.args(["serve", "--nrpe=off"]).args(told).stderr(Stdio::null()).spawn().unwrap());
            let has = |name: &str| {
                let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.0.id())).unwrap();
                let mut names =
                    tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
                names.any(|comm| comm.trim() == name)
            };
            // Started after it; each gives itself its name.
            wait_for("the sampler", || has("sampler"));
            match listens {
                true => wait_for("the listener", || has(THREAD)),
                false => assert!(!has(THREAD)),
            }
        }
    });
}
