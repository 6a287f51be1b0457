//! The checks that count lines: what every recorded node must say, written down by hand and apart from the golden files. The
//! nodes are made here: `NODECHECK_BLESS=1` writes them, then the same with `--test scenarios` what they say.

#[path = "support/journal.rs"]
mod journal;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nodecheck::cli::Global;
use nodecheck::node::Node;
use nodecheck::render::plugin;

use journal::{NEWEST, OLDEST, Writer};

const CLOCK: &str = "2026-11-21T03:22:00Z";
const MACHINE: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
const DQLITE: &str = "snap.microk8s.daemon-k8s-dqlite.service";
const KUBELITE: &str = "snap.microk8s.daemon-kubelite.service";
const RANGE: &str = r#"time="2026-11-21T03:20:00Z" level=error msg="error while range on /registry/leases/kube-node-lease/node-7 : query (try: 0): context canceled""#;
const TXN: &str = r#"time="2026-11-21T03:20:00Z" level=error msg="error in txn: exec (try: 0): context canceled""#;
const HEALTH: &str = r#"time="2026-11-21T03:20:00Z" level=error msg="error while range on /registry/health : query (try: 0): context canceled""#;
const WATCH: &str = r#"time="2026-11-21T03:20:00Z" level=error msg="WATCH Failed to send cancel response for watchID 7: rpc error: code = Canceled desc = context canceled""#;
const FELIX: &str = "[INFO][103] felix/summary.go 100: Summarising 8 dataplane reconciliation loops over 1m0.8s: avg=5ms longest=13ms (resync-mangle-v4,resync-nat-v4,resync-raw-v4)";

/// A node: lines of units so many seconds before the look, and log files.
#[derive(Default)]
struct Made {
    lines: Vec<(i64, &'static str, String)>,
    files: BTreeMap<&'static str, String>,
    /// How long the journal reaches back, in seconds, and how long ago it ended.
    journal: Option<(i64, i64)>,
    is_old: bool,
}

impl Made {
    fn journal() -> Made {
        Made { journal: Some((7200, 5)), ..Made::default() }
    }

    fn says(mut self, unit: &'static str, text: &str, agos: impl IntoIterator<Item = i64>) -> Made {
        self.lines.extend(agos.into_iter().map(|ago| (ago, unit, text.to_owned())));
        self
    }

    fn file(mut self, path: &'static str, lines: impl IntoIterator<Item = (i64, String)>) -> Made {
        let at = |ago: i64| Timestamp::from_second(clock().as_second() - ago).unwrap();
        let lines = lines.into_iter().map(|(ago, line)| format!("{} stderr F {line}\n", at(ago)));
        self.files.insert(path, lines.collect());
        self
    }

    /// The files of a scenario.
    fn scenario(&self) -> BTreeMap<String, Vec<u8>> {
        let mut tree = BTreeMap::from([
            ("clock".to_owned(), format!("{CLOCK}\n").into_bytes()),
            ("root/etc/machine-id".to_owned(), format!("{MACHINE}\n").into_bytes()),
            ("root/proc/uptime".to_owned(), b"90000.00 0.00\n".to_vec()),
            ("root/proc/sys/kernel/random/boot_id".to_owned(), b"5ce8d6a1-2c64-4b0e-9d5b-0c6a1f0f7a11\n".to_vec()),
        ]);
        for (path, text) in &self.files {
            tree.insert(format!("root{path}"), text.clone().into_bytes());
        }
        let Some((begins, ends)) = self.journal else { return tree };
        let mut lines = self.lines.clone();
        // What every node says now and then.
        let others = (ends..=begins).step_by(600).chain([begins]);
        lines.extend(others.map(|ago| (ago, "cron.service", "(root) CMD (true)".to_owned())));
        lines.sort_by_key(|(ago, ..)| std::cmp::Reverse(*ago));
        let mut writer = Writer::new(if self.is_old { OLDEST } else { NEWEST });
        for (number, (ago, unit, text)) in lines.into_iter().enumerate() {
            let at = (clock().as_second() - ago) as u64 * 1_000_000 + number as u64;
            let (message, unit) = (format!("MESSAGE={text}"), format!("_SYSTEMD_UNIT={unit}"));
            writer.entry(at, &[message.as_bytes(), unit.as_bytes(), b"_TRANSPORT=stdout"]);
        }
        tree.insert(format!("root/var/log/journal/{MACHINE}/system.journal"), writer.bytes);
        tree
    }
}

fn clock() -> Timestamp {
    CLOCK.parse().unwrap()
}

/// Seconds before the look: so many in each of these minutes.
fn each(minutes: impl IntoIterator<Item = i64>, count: i64) -> Vec<i64> {
    minutes.into_iter().flat_map(|minute| (0..count).map(move |n| minute * 60 + 1 + n * 58 / count.max(1))).collect()
}

struct Case {
    check: &'static str,
    name: &'static str,
    made: Made,
    code: u8,
    /// In line 1, and anywhere.
    line: &'static str,
    texts: &'static [&'static str],
}

fn case(
    check: &'static str,
    name: &'static str,
    made: Made,
    code: u8,
    line: &'static str,
    texts: &'static [&'static str],
) -> Case {
    Case { check, name, made, code, line, texts }
}

fn dqlite() -> Vec<Case> {
    const CHECK: &str = "dqlite-context-canceled";
    let node = Made::journal;
    vec![
        case(
            CHECK,
            "quiet",
            node().says(DQLITE, "time=\"...\" level=info msg=\"compacted\"", [30, 4000]),
            0,
            "no cancelled",
            &[],
        ),
        case(CHECK, "some-are-normal", node().says(DQLITE, RANGE, each(0..5, 2)), 0, "10 cancelled", &["canceled=10;"]),
        // A restart of the API server, in one second.
        case(
            CHECK,
            "a-restart-burst",
            node().says(DQLITE, TXN, [61; 180]).says(DQLITE, WATCH, [61; 63]),
            0,
            "180 cancelled",
            &["watches=63;"],
        ),
        case(
            CHECK,
            "a-stall",
            node().says(DQLITE, TXN, each(0..4, 10)),
            1,
            "40 cancelled reads and transactions in 4 of 5 min",
            &["(a rule)"],
        ),
        case(
            CHECK,
            "a-storm",
            node().says(DQLITE, TXN, each(0..5, 60)),
            2,
            "300 cancelled",
            &["canceled_minutes=5;", "error in txn: exec (try: 0): context canceled"],
        ),
        case(
            CHECK,
            "the-health-probe-fails",
            node().says(DQLITE, HEALTH, each(0..3, 20)),
            2,
            "60 health probes that failed in 3 of 5 min",
            &[],
        ),
        case(
            CHECK,
            "a-slow-trickle",
            node().says(DQLITE, RANGE, each((0..15).step_by(2), 1)),
            1,
            "8 of 15 min",
            &["trickle_minutes=8;"],
        ),
        case(CHECK, "only-watches", node().says(DQLITE, WATCH, each(0..5, 60)), 0, "300 watches that ended", &[]),
        case(
            CHECK,
            "a-stall-nine-minutes-ago",
            node().says(DQLITE, TXN, each(9..13, 60)),
            2,
            "ago; now",
            &["canceled=0;"],
        ),
        case(CHECK, "a-stall-half-an-hour-ago", node().says(DQLITE, TXN, each(31..36, 60)), 0, "no cancelled", &[]),
        case(
            CHECK,
            "an-old-microk8s",
            Made { is_old: true, ..node().says("snap.microk8s.daemon-apiserver.service", RANGE, each(0..5, 60)) },
            2,
            "300 cancelled",
            &[],
        ),
        case(CHECK, "k3s", node().says("k3s.service", RANGE, each(0..4, 10)), 1, "40 cancelled", &[]),
        case(CHECK, "no-dqlite", node(), 0, "not on this node: the journal has no entry of", &[]),
        case(CHECK, "no-journal", Made::default(), 0, "not on this node: no journal", &[]),
        case(
            CHECK,
            "journald-has-ended",
            Made { journal: Some((7200, 1800)), ..node().says(DQLITE, RANGE, [1900]) },
            3,
            "the journal has ended",
            &["systemd-journald"],
        ),
        case(
            CHECK,
            "a-young-journal",
            Made { journal: Some((180, 5)), ..node().says(DQLITE, RANGE, [20]) },
            0,
            "1 cancelled",
            &["at least these: the journal begins 3 min ago"],
        ),
        case(
            CHECK,
            "deadlines",
            node().says(DQLITE, &RANGE.replace("context canceled", "context deadline exceeded"), each(0..5, 1)),
            1,
            "5 deadlines exceeded",
            &[],
        ),
    ]
}

fn others() -> Vec<Case> {
    let node = Made::journal;
    let reserved = |pod: &str| {
        format!(
            "E1121 03:20:00.123456    1234 remote_runtime.go:176] \"RunPodSandbox from runtime service failed\" err=\"rpc error: code = Unknown desc = failed to reserve sandbox name \\\"{pod}_default_5b2a_0\\\": name \\\"{pod}_default_5b2a_0\\\" is reserved for \\\"4f1f0a6a8b0f\\\"\""
        )
    };
    let pleg = "E1121 03:20:00.123456    1234 kubelet.go:2347] \"Skipping pod synchronization\" err=\"PLEG is not healthy: pleg was last seen active 3m4.5s ago; threshold is 3m0s\"";
    let log = "/var/log/pods/kube-system_calico-node-x7k2p_0d1e/calico-node/0.log";
    let sync = "[WARNING][103] felix/table.go 654: Detected out-of-sync inserts, marking for resync ipVersion=0x4 table=\"nat\"";
    let felix = |lines: Vec<(i64, &str)>| {
        let mut lines: Vec<_> = lines.into_iter().map(|(ago, line)| (ago, line.to_owned())).collect();
        lines.sort_by_key(|(ago, _)| -ago);
        Made::default().file(log, lines)
    };
    let every_minute = |of: std::ops::Range<i64>| of.map(|minute| (minute * 60 + 7, FELIX)).collect::<Vec<_>>();
    vec![
        case("dqlite-locked", "none", node().says(DQLITE, RANGE, [9]), 0, "no writes", &[]),
        case(
            "dqlite-locked",
            "one",
            node().says(DQLITE, "level=error msg=\"error in txn: exec (try: 500): database is locked\"", [9]),
            1,
            "1 writes that found the database locked",
            &[],
        ),
        case("dqlite-leader", "none", node().says(DQLITE, RANGE, [9]), 0, "no connections", &[]),
        case(
            "dqlite-leader",
            "an-election",
            node().says(DQLITE, "[WARN] dqlite: attempt 1: server 10.0.0.7:19001: no known leader", [9, 10]),
            0,
            "2 connections",
            &[],
        ),
        case(
            "dqlite-leader",
            "no-quorum",
            node().says(
                DQLITE,
                "failed to create dqlite connection: no available dqlite leader server found",
                each(0..5, 3),
            ),
            2,
            "15 connections without a leader in 5 of 5 min",
            &[],
        ),
        case(
            "sandbox-name-reserved",
            "none",
            node().says(KUBELITE, "I1121 03:20:00.1 1 kubelet.go:1] ok", [9]),
            0,
            "no refusals",
            &[],
        ),
        case(
            "sandbox-name-reserved",
            "one-pod-again-and-again",
            node().says(KUBELITE, &reserved("web-0"), each(0..8, 4)),
            1,
            "web-0_default_5b2a_0",
            &["reserved_keys=1;"],
        ),
        case(
            "sandbox-name-reserved",
            "three-pods",
            node()
                .says("kubelet.service", &reserved("web-0"), [20])
                .says("kubelet.service", &reserved("web-1"), [30])
                .says("kubelet.service", &reserved("web-2"), [40]),
            2,
            "3 refusals",
            &["reserved_keys=3;"],
        ),
        case(
            "pleg-unhealthy",
            "none",
            node().says(KUBELITE, "I1121 03:20:00.1 1 kubelet.go:1] ok", [9]),
            0,
            "no times",
            &[],
        ),
        case(
            "pleg-unhealthy",
            "for-six-minutes",
            node().says(KUBELITE, pleg, each(0..6, 10)),
            2,
            "60 times that the PLEG was not healthy in 6 of 10 min",
            &[],
        ),
        case(
            "felix-resync",
            "in-order",
            felix(every_minute(0..40)),
            0,
            "summaries of Felix' loops",
            &["loops_max=0.013;"],
        ),
        case(
            "felix-resync",
            "hangs-since-seven-minutes",
            felix(every_minute(7..40)),
            1,
            "no summaries of Felix' loops for 7 min",
            &[],
        ),
        case(
            "felix-resync",
            "somebody-else-writes",
            felix([every_minute(0..40), (0..4).map(|m| (m * 60 + 30, sync)).collect()].concat()),
            1,
            "4 rules of nat out of sync",
            &[],
        ),
        case(
            "felix-resync",
            "tells-no-summaries",
            felix(vec![(30, "[WARNING][103] felix/x.go 1: nothing of that kind")]),
            0,
            "no summaries",
            &[],
        ),
    ]
}

fn write(tree: &BTreeMap<String, Vec<u8>>, dir: &Path) {
    for (path, bytes) in tree {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn every_recorded_node_is_as_it_is_made_here() {
    let bless = std::env::var_os("NODECHECK_BLESS").is_some();
    for Case { check, name, made, .. } in dqlite().into_iter().chain(others()) {
        let dir = support::here().join("tests/scenarios").join(check).join(name);
        let tree = made.scenario();
        if bless {
            let _ = fs::remove_dir_all(&dir);
            write(&tree, &dir);
        }
        for (path, bytes) in &tree {
            let there = fs::read(dir.join(path)).unwrap_or_default();
            assert!(there == *bytes, "{}: {path} differs (NODECHECK_BLESS=1 writes it)", dir.display());
        }
    }
}

#[test]
fn every_recorded_node_says_what_it_must() {
    let (mut wrong, dir) = (Vec::new(), tempfile::tempdir().unwrap());
    for Case { check, name, made, code, line, texts } in dqlite().into_iter().chain(others()) {
        let dir = dir.path().join(check).join(name);
        write(&made.scenario(), &dir);
        let looked = Node::open(&Global { scenario: Some(dir), ..Global::default() }).unwrap();
        let verdict = looked.ask(&looked.host, check, None, Duration::from_secs(30));
        let said = plugin(&verdict, false);
        let first = said.lines().next().unwrap();
        let unsaid: Vec<&&str> = texts.iter().filter(|text| !said.contains(**text)).collect();
        if verdict.status.code() != code || !first.contains(line) || !unsaid.is_empty() {
            wrong.push(format!("{check}/{name}: wanted {code} and {line:?} on line 1; unsaid: {unsaid:?}\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}
