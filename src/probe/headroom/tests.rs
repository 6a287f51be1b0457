use std::fs::{create_dir_all, remove_dir_all, remove_file, write};
use std::path::Path;

use super::*;
use crate::history::History;
use crate::status::Status;

const MI: u64 = 1 << 20;
const UID: &str = "0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d";

/// A node with cgroup v2 and the cgroupfs driver.
struct Node {
    dir: tempfile::TempDir,
    history: History,
    probe: CgroupHeadroom,
}

impl Node {
    fn new() -> Node {
        let node =
            Node { dir: tempfile::tempdir().unwrap(), history: History::in_memory(), probe: CgroupHeadroom::default() };
        node.put("/proc/sys/kernel/random/boot_id", "a\n");
        node.at(0);
        node.put("/sys/fs/cgroup/kubepods/memory.max", "max\n");
        node
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, text).unwrap();
    }

    /// Seconds later.
    fn at(&self, second: u64) {
        self.put("/proc/uptime", format!("{}.00 1.00\n", 900_000 + second));
    }

    /// A container, by its number: bytes of its limit, in use, and of page cache in that.
    fn container(&self, number: usize, limit: u64, usage: u64, cache: u64) -> String {
        let path = format!("/sys/fs/cgroup/kubepods/burstable/pod{UID}/{number:064}");
        self.put(&format!("{path}/memory.max"), format!("{limit}\n"));
        self.put(&format!("{path}/memory.current"), format!("{usage}\n"));
        let stat = format!("anon 1\ninactive_file {cache}\nactive_file 0\nslab_reclaimable 0\n");
        self.put(&format!("{path}/memory.stat"), stat);
        self.put(&format!("{path}/memory.events.local"), "max 0\n");
        path
    }

    fn hits(&self, path: &str, hits: u64) {
        self.put(&format!("{path}/memory.events.local"), format!("max {hits}\n"));
    }

    fn waits(&self, path: &str, full60: &str) {
        let line = format!("avg10=0.00 avg60={full60} avg300=0.00 total=1\n");
        self.put(&format!("{path}/memory.pressure"), format!("some {line}full {line}"));
    }

    fn look(&self) -> Assessment {
        let host = Host::at_root(self.dir.path()).unwrap();
        let now = host.now();
        let mut past = self.history.load("c", &now);
        let window = std::time::Duration::from_secs(3600);
        past.window = window;
        let seen = self.probe.observe(&host, &past).unwrap();
        let mut past = self.history.record("c", &now, &self.probe.trace(&seen).within(window), None);
        past.window = window;
        let assessment = self.probe.assess(&seen, &past, &now);
        assert_eq!(self.probe.assess(&seen, &past, &now), assessment, "judging is pure");
        assessment
    }

    /// What is remembered.
    fn past(&self) -> Past {
        let now = Host::at_root(self.dir.path()).unwrap().now();
        self.history.load("c", &now)
    }
}

fn value(assessment: &Assessment, name: &str) -> Option<f64> {
    assessment.metrics.iter().find(|metric| metric.spec.name == name).map(|metric| metric.value)
}

fn text(assessment: &Assessment) -> String {
    let lines = assessment.findings.iter().map(|finding| format!("{}: {}", finding.status, finding.text));
    let first = format!("{}: {}", assessment.summary, assessment.detail);
    [first].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

/// A generator of numbers that are always the same.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn the_worst_is_found_without_reading_all() {
    for seed in 0..20 {
        let (node, mut state) = (Node::new(), seed);
        let mut all = Vec::new();
        for number in 0..60 {
            let limit = MI * (1 + random(&mut state, 1000));
            let usage = limit * random(&mut state, 101) / 100;
            let cache = if usage == 0 { 0 } else { random(&mut state, usage) / (1 + random(&mut state, 4)) };
            let path = node.container(number, limit, usage, cache);
            all.push((limit, usage, cache, path));
        }
        let ratio = |part: u64, whole: u64| part as f64 / whole as f64;
        let worst = all.iter().map(|(limit, usage, cache, _)| ratio(usage - cache, *limit)).fold(0.0, f64::max);
        let by_hand = (worst * 1000.0).floor() / 10.0;
        assert_eq!(value(&node.look(), "worst_unreclaimable"), Some(by_hand), "seed {seed}");
        // Whatever uses less than the worst has for good is of no interest: it may as well be unreadable.
        let mut spared = 0;
        for (limit, usage, _, path) in &all {
            if ratio(*usage, *limit) < worst && *usage * 10 < *limit * 9 {
                node.put(&format!("{path}/memory.stat"), "garbage");
                spared += 1;
            }
        }
        let again = node.look();
        assert_eq!(value(&again, "worst_unreclaimable"), Some(by_hand), "seed {seed}: {}", text(&again));
        assert!(spared > 20, "seed {seed}: {spared}");
    }
}

#[test]
fn page_cache_is_not_written_to_the_past() {
    let node = Node::new();
    let full = node.container(1, 64 * MI, 64 * MI, 60 * MI);
    let used = node.container(2, 64 * MI, 50 * MI, 40 * MI);
    let idle = node.container(3, 64 * MI, 40 * MI, 0);
    for look in 0..3 {
        node.at(look * 60);
        for path in [&full, &used, &idle] {
            node.hits(path, 100 * look);
        }
        assert_eq!(value(&node.look(), "near_limit"), Some(0.0));
    }
    let (past, now) = (node.past(), Host::at_root(node.dir.path()).unwrap().now());
    let counted = |path: &str| past.counter(path.strip_prefix("/sys/fs/cgroup").unwrap(), &now);
    assert_eq!((counted(&full), counted(&used), counted(&idle)), (None, Some(200), None));
}

#[test]
fn a_quiet_node_needs_no_past() {
    let now = |node: &Node| Host::at_root(node.dir.path()).unwrap().now();
    for (usage, is_blind) in [(30, false), (63, true)] {
        let node = Node { history: History::passing(), ..Node::new() };
        node.container(1, 64 * MI, usage * MI, 0);
        node.look();
        let host = Host::at_root(node.dir.path()).unwrap();
        let seen = node.probe.observe(&host, &node.past()).unwrap();
        let past = History::passing().record("c", &now(&node), &node.probe.trace(&seen), None);
        assert_eq!(past.is_blind(&now(&node)), is_blind, "{usage}");
    }
}

#[test]
fn hits_of_another_cgroup_of_the_same_name_are_its_own() {
    let node = Node::new();
    let path = node.container(1, 64 * MI, 63 * MI, 0);
    node.hits(&path, 5);
    node.look();
    node.at(60);
    let before = node.look();
    assert!(text(&before).contains("limit not hit in 1 min"), "{}", text(&before));
    remove_dir_all(node.path(&path)).unwrap();
    // Holds the inode number that was freed.
    create_dir_all(node.path("/other")).unwrap();
    node.container(1, 64 * MI, 63 * MI, 0);
    node.hits(&path, 6);
    node.at(120);
    let after = node.look();
    assert_eq!(value(&after, "near_limit"), Some(1.0), "{}", text(&after));
}

#[test]
fn no_more_than_twenty_lines() {
    let node = Node::new();
    let paths: Vec<String> =
        (0..25).map(|number| node.container(number, 100 * MI, (75 + number as u64) * MI, 0)).collect();
    let probe = CgroupHeadroom { near: 75, ..CgroupHeadroom::default() };
    let node = Node { probe, ..node };
    node.look();
    paths.iter().for_each(|path| node.hits(path, 2));
    node.at(60);
    let assessment = node.look();
    assert_eq!(value(&assessment, "near_limit"), Some(25.0));
    assert_eq!(assessment.summary, "25 near their memory limit");
    let text = text(&assessment);
    assert!(assessment.detail.ends_with(" and 22 more"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("limit hit 2 times in 1 min")).count(), 20);
    assert!(text.contains("\nOK: and 5 more"), "{text}");
    // Worst first.
    assert!(text.lines().nth(1).is_some_and(|line| line.contains("has 99Mi of 100Mi")), "{text}");
}

#[test]
fn a_question_soon_after_is_no_second_look() {
    let node = Node::new();
    let path = node.container(1, 64 * MI, 50 * MI, 0);
    let mut told = Vec::new();
    for (second, full60) in
        [(0, "12.00"), (20, "12.00"), (40, "10.00"), (41, "50.00"), (100, "9.99"), (160, "10.00"), (220, "10.00")]
    {
        node.at(second);
        node.waits(&path, full60);
        told.push(value(&node.look(), "thrashing").unwrap());
    }
    assert_eq!(told, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
}

#[test]
fn psi_is_read_of_one_at_least() {
    let node = Node::new();
    let path = node.container(1, 64 * MI, MI, 0);
    let without = node.look();
    assert_eq!((value(&without, "thrashing"), value(&without, "psi_full60")), (None, None));
    assert!(
        text(&without).contains("PSI is not available: there is no memory.pressure; the kernel may need psi=1"),
        "{}",
        text(&without)
    );
    node.waits(&path, "3.25");
    let with = node.look();
    assert_eq!((value(&with, "thrashing"), value(&with, "psi_full60")), (Some(0.0), Some(3.25)));
    // Those that use little are not asked.
    let other = node.container(2, 64 * MI, MI / 2, 0);
    node.waits(&other, "garbage");
    assert_eq!(value(&node.look(), "psi_full60"), Some(3.25));
    node.container(2, 64 * MI, 32 * MI, 0);
    let broken = node.look();
    assert_eq!((value(&broken, "thrashing"), value(&broken, "psi_full60")), (None, None));
    assert!(text(&broken).contains("UNKNOWN: 1 cgroup can't be read: "), "{}", text(&broken));
}

#[test]
fn a_name_stays_when_its_source_is_gone() {
    let node = Node::new();
    let path = node.container(1, 64 * MI, 63 * MI, 0);
    let config = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{:064}/config.json", 1);
    let names = r#"{"annotations":{"io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.sandbox-name":"web-0",
        "io.kubernetes.cri.container-name":"web"}}"#;
    node.put(&config, names);
    assert_eq!(node.look().detail, "shop/web-0 web 98 % of 64Mi");
    remove_file(node.path(&config)).unwrap();
    node.at(60);
    assert_eq!(node.look().detail, "shop/web-0 web 98 % of 64Mi");
    // It goes with the container; the pod's own goes with the pod.
    remove_dir_all(node.path(&path)).unwrap();
    node.look();
    let past = node.past();
    assert_eq!(past.notes(NAMED).map(|(key, note)| (key, &*note.value)).collect::<Vec<_>>(), [(UID, "shop/web-0")]);
    remove_dir_all(node.path(Path::new(&path).parent().unwrap().to_str().unwrap())).unwrap();
    node.look();
    assert_eq!(node.past().notes(NAMED).count(), 0);
}

#[test]
fn a_limit_of_nothing() {
    let node = Node::new();
    node.container(1, 0, 4096, 0);
    let assessment = node.look();
    assert_eq!(value(&assessment, "worst_unreclaimable"), Some(100.0));
    assert!(text(&assessment).contains("has 4Ki of 0 that can't be reclaimed (100 %)"), "{}", text(&assessment));
    node.container(2, u64::MAX / 2 - (1 << 40), u64::MAX, 0);
    assert_eq!(value(&node.look(), "worst_unreclaimable"), Some(100.0));
}

#[test]
fn a_tree_without_an_end() {
    let node = Node::new();
    let deep = format!("/sys/fs/cgroup/kubepods{}", "/x".repeat(2));
    create_dir_all(node.path(&deep)).unwrap();
    assert_eq!(node.look().findings, []);
    create_dir_all(node.path(&format!("/sys/fs/cgroup{}", "/x".repeat(40)))).unwrap();
    let assessment = node.look();
    assert!(text(&assessment).contains("UNKNOWN: 1 cgroup can't be read: "), "{}", text(&assessment));
    assert!(assessment.findings.iter().any(|finding| finding.status == Status::Unknown));
}

#[test]
fn parameters() {
    let read = |text: &str| toml::from_str::<CgroupHeadroom>(text).map_err(|error| error.message().to_owned());
    for (text, message) in [
        ("near = 0", "0 is not a percentage from 1 to 100"),
        ("near = 101", "101 is not a percentage from 1 to 100"),
        ("near = 300", "300 is not a percentage from 1 to 100"),
        ("pressure = -1", "-1 is not a percentage from 1 to 100"),
        ("ignore = [\"kured\"]", "'kured' is not of the form namespace/pod"),
        ("ignore = [\"ci/*\", \"*/*\"]", "'*/*' fits every pod: nothing would be left to look at"),
    ] {
        assert_eq!(read(text), Err(message.to_owned()));
    }
    assert!(read("near = 9.5").is_err() && read("nearly = 1").unwrap_err().contains("unknown field"));
    let probe = read("near = 1\npressure = 100\nignore = [\"ci/*\"]").unwrap();
    assert_eq!(read(&toml::to_string(&probe).unwrap()), Ok(probe));
    let default = toml::to_string(&CgroupHeadroom::default()).unwrap();
    assert_eq!((read(&default), read("")), (Ok(CgroupHeadroom::default()), Ok(CgroupHeadroom::default())));
}
