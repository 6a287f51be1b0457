//! The reader of log files: on files as runtimes, the kubelet and k3s write them, on broken ones, and while they are put aside.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use nodecheck::host::{Error, Host};
use nodecheck::logs::{Format, Query, Told, containers, each};
use tempfile::TempDir;

const POD: &str = "/var/log/pods/kube-system_calico-node-8vq7c_0bc50f85-8050-0123-4567-89abcdef0123/calico-node";
const PODS: &str = "/var/log/pods/kube-system_calico-node-*/calico-node/*.log";
const CONTAINERD: &str = "/var/lib/rancher/k3s/agent/containerd/containerd.log";
const KUBELET: &str = "/var/lib/rancher/rke2/agent/logs/kubelet.log";

struct Node {
    dir: TempDir,
    /// The time of the look; the window has ten minutes.
    now: Timestamp,
}

impl Node {
    fn new() -> Node {
        // Files get the real time when they are written.
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        Node { dir: tempfile::tempdir().unwrap(), now }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(&path[1..])
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// So many seconds before the look, as Go prints it.
    fn ago(&self, seconds: i64) -> Timestamp {
        self.now - SignedDuration::from_secs(seconds)
    }

    fn cri(&self, ago: i64, text: &str) -> String {
        format!("{} stdout F {text}\n", self.ago(ago))
    }

    fn host(&self) -> Host {
        Host::at_root(self.dir.path()).unwrap()
    }

    fn query<'a>(&self, files: &'a [String], format: Format) -> Query<'a> {
        Query { files, format, zone: None, since: self.ago(600), until: self.ago(-5) }
    }

    fn read(&self, glob: &str, format: Format) -> (Vec<String>, Told) {
        read(&self.host(), &self.query(&[glob.to_owned()], format)).unwrap()
    }
}

/// The texts, and what else was told.
fn read(host: &Host, query: &Query<'_>) -> Result<(Vec<String>, Told), Error> {
    let mut texts = Vec::new();
    let told = each(host, query, &mut |line| {
        assert!(line.at >= query.since && line.at <= query.until && line.file.starts_with('/'));
        texts.push(String::from_utf8_lossy(line.text).into_owned());
    })?;
    Ok((texts, told))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn written(path: &Path, at: Timestamp) {
    File::options().write(true).open(path).unwrap().set_modified(at.into()).unwrap();
}

#[test]
fn lines_of_a_container() {
    let node = Node::new();
    let text = [
        node.cri(700, "before"),
        node.cri(599, "first"),
        format!("{} stderr P one \n", node.ago(500)),
        node.cri(499, "beside"),
        format!("{} stderr F text\r\n", node.ago(498)),
        "no line of a runtime's\n".to_owned(),
        node.cri(400, ""),
        node.cri(-60, "of the future"),
        format!("{} stdout F no newline", node.ago(1)),
    ];
    node.write(&format!("{POD}/3.log"), text.concat());
    node.write(&format!("{POD}/4.log"), format!("{} stdout P never ended", node.ago(2)));
    let (texts, told) = node.read(PODS, Format::Cri);
    assert_eq!(texts, ["first", "beside", "one text", "", "no newline", "never ended"]);
    let want = Told {
        begins: Some(node.ago(700)),
        newest: Some(node.ago(1)),
        files: 2,
        broken: 1,
        ahead: 1,
        ..Told::default()
    };
    assert_eq!(told, want);
    // Asked again, the same.
    assert_eq!(node.read(PODS, Format::Cri), (texts, told));
    // A line without a time is of the one before.
    let (texts, told) = node.read(PODS, Format::Auto);
    assert_eq!((texts.len(), texts[3].as_str(), told.broken), (7, "no line of a runtime's", 0));
}

#[test]
fn what_the_kubelet_put_aside_is_read_as_far_as_the_window_reaches() {
    let node = Node::new();
    let of =
        |range: std::ops::Range<i64>| -> String { range.rev().map(|ago| node.cri(ago, &format!("{ago}"))).collect() };
    let file = |name: &str, bytes: &[u8]| node.write(&format!("{POD}/{name}"), bytes);
    file("0.log.20261121-000000.gz", b"damaged, and not needed");
    file("0.log.20261121-010000.gz", &gzip(of(500..650).as_bytes()));
    file("0.log.20261121-010000.gz.tmp", b"still made");
    file("0.log.20261121-020000", of(300..500).as_bytes());
    // It is packed just now.
    file("0.log.20261121-020000.gz", b"half");
    file("0.log", of(1..300).as_bytes());
    let (texts, told) = node.read(PODS, Format::Cri);
    let want: Vec<String> = (1..601).rev().map(|ago: i64| ago.to_string()).collect();
    assert_eq!(texts, want);
    assert_eq!((told.files, told.skipped, told.broken, told.is_cut), (3, 1, 0, false));
    assert_eq!((told.begins, told.whole_since), (Some(node.ago(649)), None));
    // Not written to within the window: it is not even opened.
    let stale = file("1.log", b"\xff");
    written(&stale, node.ago(700));
    let (texts, told) = node.read(PODS, Format::Cri);
    assert_eq!((texts.len(), told.files, told.skipped, told.broken), (600, 3, 2, 0));
    // Emptied when it was put aside: the older one tells.
    file("0.log", b"");
    assert_eq!(node.read(PODS, Format::Cri).0.len(), 301);
    // What was thrown away is told.
    for name in ["0.log.20261121-000000.gz", "0.log.20261121-010000.gz", "1.log"] {
        fs::remove_file(node.at(&format!("{POD}/{name}"))).unwrap();
    }
    let (texts, told) = node.read(PODS, Format::Cri);
    assert_eq!((texts.len(), told.whole_since), (200, Some(node.ago(499))));
    // Of an earlier life, too.
    fs::remove_dir_all(node.at(POD)).unwrap();
    file("2.log", of(1..300).as_bytes());
    assert_eq!(node.read(PODS, Format::Cri).1.whole_since, Some(node.ago(299)));
    file("1.log", of(650..700).as_bytes());
    let told = node.read(PODS, Format::Cri).1;
    assert_eq!((told.whole_since, told.begins), (None, Some(node.ago(699))));
}

#[test]
fn logs_of_k3s_and_rke2() {
    let node = Node::new();
    let line = |ago: i64| format!("time=\"{}\" level=error msg=\"failed {ago}\"\n", node.ago(ago));
    let aside = CONTAINERD.replace(".log", "-2026-11-20T10-00-00.000.log.gz");
    node.write(&aside, gzip(format!("{}{}", line(800), line(550)).as_bytes()));
    let trace = "panic: x\n\ngoroutine 1 [running]:\n";
    node.write(CONTAINERD, format!("early, of the line in the other file\n{}{trace}{}", line(300), line(200)));
    let (texts, told) = node.read(CONTAINERD, Format::Logrus);
    let ends: Vec<&str> = texts.iter().map(|text| text.split(' ').next_back().unwrap().trim_end_matches('"')).collect();
    assert_eq!(ends, ["550", "file", "300", "x", "[running]:", "200"]);
    assert_eq!((told.files, told.broken, told.begins), (2, 0, Some(node.ago(800))));
    // A pattern that fits the file that was put aside does not read it twice.
    assert_eq!(node.read(&CONTAINERD.replace("containerd.log", "*.log"), Format::Auto).0.len(), 6);
    // The kubelet writes local time.
    let klog = |ago: i64, hours: i8| {
        let shown = Offset::from_hours(hours).unwrap().to_datetime(node.ago(ago));
        format!("E{}.123456   12345 remote_runtime.go:176] {ago}\n", shown.strftime("%m%d %H:%M:%S"))
    };
    node.write(KUBELET, format!("{}{}", klog(700, 3), klog(100, 3)));
    let files = [KUBELET.to_owned()];
    let zone = Offset::from_hours(3).ok();
    let (texts, _) = read(&node.host(), &Query { zone, ..node.query(&files, Format::Klog) }).unwrap();
    assert_eq!((texts.len(), texts[0].ends_with("] 100")), (1, true));
    // In UTC, they are of the future, so of last year.
    assert_eq!(node.read(KUBELET, Format::Klog).0.len(), 0);
    // A table of time zones as zic writes it: version 2, no transition, three hours.
    let header =
        |version: u8| [&b"TZif"[..], &[version], &[0; 15], &[0; 12], &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4]].concat();
    let body = [&10800_i32.to_be_bytes()[..], &[0, 0], b"XXX\0"].concat();
    let table = [header(b'2'), body.clone(), header(b'2'), body, b"\n<+03>-3\n".to_vec()].concat();
    node.write("/etc/localtime", table);
    assert_eq!(node.read(KUBELET, Format::Klog).0, texts);
    assert_eq!(node.read(KUBELET, Format::Auto).0, texts);
}

#[test]
fn damaged_files() {
    let node = Node::new();
    let one = format!("{POD}/0.log");
    let (old, new) = (node.cri(700, "old"), node.cri(100, "new"));
    let zeros = vec![0; 3 << 20];
    let long = format!("{} stdout F {}\n", node.ago(300), "x".repeat(3 << 20));
    let garbage: Vec<u8> =
        (0..1_u32 << 20).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let packed = gzip(format!("{old}{}", new.repeat(1000)).as_bytes());
    for (name, bytes, lines, broken) in [
        ("zeros before", [&zeros[..], new.as_bytes()].concat(), 1, 1),
        ("zeros behind", [new.as_bytes(), &zeros].concat(), 1, 1),
        ("zeros between", [old.as_bytes(), new.as_bytes(), &zeros, new.as_bytes()].concat(), 2, 1),
        ("zeros in a line", [new.trim_end().as_bytes(), &zeros, new.as_bytes()].concat(), 2, 1),
        ("nothing but zeros", zeros.clone(), 0, 1),
        ("a long line", [old.as_bytes(), long.as_bytes(), new.as_bytes()].concat(), 2, 1),
        ("an old line last", [new.as_bytes(), old.as_bytes()].concat(), 1, 0),
        ("an empty file", Vec::new(), 0, 0),
        ("newlines", vec![b'\n'; 1000], 0, 1000),
    ] {
        node.write(&one, &bytes);
        let (texts, told) = node.read(PODS, Format::Cri);
        assert_eq!((texts.len(), told.broken, told.files), (lines, broken, usize::from(!bytes.is_empty())), "{name}");
        assert!(texts.iter().all(|text| text.len() <= 1 << 20));
    }
    node.write(&one, [&garbage[..], b"\n", new.as_bytes()].concat());
    let (texts, told) = node.read(PODS, Format::Cri);
    assert!(texts == ["new"] && told.broken > 1000, "{told:?}");
    // Cut and damaged at any place: what comes before is read.
    fs::remove_file(node.at(&one)).unwrap();
    let gz = format!("{POD}/0.log.20261121-010000.gz");
    for end in (0..packed.len()).step_by(7) {
        node.write(&gz, &packed[..end]);
        let (texts, told) = node.read(PODS, Format::Cri);
        assert!(texts.len() <= 1000 && (end == 0 || told.broken > 0), "{end}: {told:?}");
        let mut damaged = packed.clone();
        damaged[end] ^= 0x55;
        node.write(&gz, damaged);
        assert!(node.read(PODS, Format::Cri).1.unreadable.is_empty());
    }
    node.write(&gz, &packed);
    let (texts, told) = node.read(PODS, Format::Cri);
    assert_eq!((texts.len(), told.broken), (1000, 0));
}

#[test]
fn a_bomb_costs_its_own_lines_only() {
    let node = Node::new();
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..400 {
        bomb.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    node.write(&format!("{POD}/0.log.20261121-010000.gz"), bomb.finish().unwrap());
    node.write(&format!("{POD}/0.log"), node.cri(100, "new"));
    let (texts, told) = node.read(PODS, Format::Cri);
    assert_eq!((texts, told.is_cut, told.whole_since), (vec!["new".to_owned()], true, Some(node.ago(100))));
}

#[test]
fn a_loud_log_is_cut_at_its_old_end_and_a_quiet_one_is_read() {
    let node = Node::new();
    let text = "x".repeat(400);
    let mut loud = Vec::new();
    for line in 0..250_000 {
        loud.extend(node.cri(500 - line / 1000, &format!("{line:06}{text}")).bytes());
    }
    assert!(loud.len() > 100 << 20);
    node.write(&format!("{POD}/0.log"), &loud);
    let (files, began) = ([PODS.to_owned()], Instant::now());
    let mut lines = 0;
    each(&node.host(), &node.query(&files, Format::Cri), &mut |_| lines += 1).unwrap();
    println!("a storm of {lines} lines read in {:?}", began.elapsed());
    let (texts, told) = node.read(PODS, Format::Cri);
    let numbers: Vec<u32> = texts.iter().map(|text| text[..6].parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]) && numbers.last() == Some(&249_999));
    assert!((120_000..200_000).contains(&numbers.len()) && told.is_cut && told.broken == 0, "{}", numbers.len());
    node.write(&format!("{POD}/1.log"), node.cri(100, "quiet"));
    let (texts, told) = node.read(PODS, Format::Cri);
    assert!(texts.last().unwrap() == "quiet" && told.is_cut && (60_000..100_000).contains(&texts.len()));
}

#[test]
fn who_may_not_look_is_told_so() {
    let node = Node::new();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let scenario = |stats: &str| {
        fs::write(dir.path().join("clock"), format!("{}\n", node.now)).unwrap();
        fs::write(dir.path().join("stat.toml"), stats).unwrap();
        let files = [PODS.to_owned()];
        read(&Host::scenario(dir.path()).unwrap(), &node.query(&files, Format::Cri))
    };
    fs::create_dir_all(root.join(&POD[1..])).unwrap();
    fs::write(root.join(&POD[1..]).join("0.log"), node.cri(100, "new")).unwrap();
    fs::write(root.join(&POD[1..]).join("1.log"), node.cri(90, "newer")).unwrap();
    assert_eq!(scenario("").unwrap().0, ["new", "newer"]);
    let (texts, told) = scenario(&format!("[\"{POD}/0.log\"]\nread_errno = \"EACCES\"\n")).unwrap();
    assert_eq!(texts, ["newer"]);
    assert!(matches!(&told.unreadable[..], [Error::Denied { .. }]), "{told:?}");
    let denied = scenario("[\"/var/log/pods\"]\nread_errno = \"EACCES\"\n");
    assert!(matches!(denied, Err(Error::Denied { .. })), "{denied:?}");
    // What is neither a file nor absent is told, too.
    let (texts, told) = scenario(&format!("[\"{POD}/0.log\"]\nkind = \"fifo\"\n")).unwrap();
    assert!(texts == ["newer"] && matches!(&told.unreadable[..], [Error::Failed(_)]), "{told:?}");
}

#[test]
fn a_recording_tells_the_same() {
    let node = Node::new();
    let text: String = (1..40_000).rev().map(|ago| node.cri(ago / 10, &format!("line {ago}"))).collect();
    node.write(&format!("{POD}/0.log"), &text);
    node.write(&format!("{POD}/0.log.20261121-010000.gz"), gzip(b"not needed"));
    node.write(&format!("{POD}/1.log.20261121-010000.gz"), gzip(node.cri(200, "packed").as_bytes()));
    node.write(&format!("{POD}/1.log"), node.cri(100, "new"));
    written(&node.write(&format!("{POD}/2.log"), node.cri(5000, "old")), node.ago(5000));
    node.write("/var/log/pods/default_x_0bc50f85-8050-0123-4567-89abcdef0123/x/0.log", node.cri(100, "of another"));
    let files = [PODS.to_owned()];
    let query = node.query(&files, Format::Cri);
    let host = node.host().recording();
    let want = read(&host, &query).unwrap();
    assert_eq!((want.0.len(), want.1.skipped), (6011, 2));
    let dir = tempfile::tempdir().unwrap();
    host.recorded().unwrap().write(dir.path(), node.now).unwrap();
    assert_eq!(read(&Host::scenario(dir.path()).unwrap(), &query).unwrap(), want);
    // It holds what was read, not the whole file.
    let kept = fs::read(dir.path().join("root").join(&POD[1..]).join("0.log")).unwrap();
    assert_eq!(kept.len(), text.len());
    assert!(kept.iter().filter(|byte| **byte == 0).count() > text.len() / 2);
}

/// 1 GiB, nearly all of it a hole, as a log has that was emptied under its writer.
#[test]
fn a_large_file_is_not_read_from_its_beginning() {
    let node = Node::new();
    let path = node.write(&format!("{POD}/0.log"), "");
    let file = File::options().write(true).open(path).unwrap();
    let tail: String = (1..20_000).rev().map(|ago| node.cri(ago / 10, &format!("line {ago}"))).collect();
    file.write_all_at(tail.as_bytes(), 1 << 30).unwrap();
    let began = Instant::now();
    let (texts, told) = node.read(PODS, Format::Cri);
    assert_eq!((texts.len(), told.is_cut), (6000 + 9, false));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // All of it is of the window.
    let short: String = (1..2000).rev().map(|ago| node.cri(ago / 10, &format!("line {ago}"))).collect();
    file.set_len(0).unwrap();
    file.write_all_at(short.as_bytes(), 1 << 30).unwrap();
    let began = Instant::now();
    let (texts, told) = node.read(PODS, Format::Cri);
    assert_eq!((texts.len(), told.broken, told.is_cut), (1999, 1, false));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
#[ignore = "deep: writes 1 GiB"]
fn a_day_in_one_file_costs_no_more_than_its_last_minutes() {
    let node = Node::new();
    let path = node.write(&format!("{POD}/0.log"), "");
    let mut file = std::io::BufWriter::new(File::options().append(true).open(&path).unwrap());
    let text = "x".repeat(300);
    let per_second = 40;
    for ago in (1..=86_400).rev() {
        let line = node.cri(ago, &format!("{text} context {}", if ago % 10 == 0 { "canceled" } else { "deadline" }));
        for _ in 0..per_second {
            file.write_all(line.as_bytes()).unwrap();
        }
    }
    file.flush().unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 1 << 30);
    let timed = |run: &mut dyn FnMut()| {
        (0..3)
            .map(|_| {
                let began = Instant::now();
                run();
                began.elapsed()
            })
            .min()
            .unwrap()
    };
    let grep = timed(&mut || {
        let grep = std::process::Command::new("grep").args(["-c", "context canceled"]).arg(&path).output().unwrap();
        assert_eq!(String::from_utf8(grep.stdout).unwrap().trim(), (8640 * per_second).to_string());
    });
    let files = [PODS.to_owned()];
    let ours = timed(&mut || {
        let mut count = 0;
        let is_it = |text: &[u8]| text.ends_with(b"context canceled");
        let told =
            each(&node.host(), &node.query(&files, Format::Cri), &mut |line| count += i64::from(is_it(line.text)));
        assert_eq!((count, told.unwrap().is_cut), (60 * per_second, false));
    });
    println!("grep -c {grep:?}, ours {ours:?}");
    assert!(ours * 2 < grep, "grep -c {grep:?}, ours {ours:?}");
}

#[test]
fn ten_thousand_files() {
    let node = Node::new();
    for pod in 0..1000 {
        for life in 0..10 {
            let dir = format!("/var/log/pods/ns_pod-{pod}_0bc50f85-8050-0123-4567-{pod:012}/c");
            let text = node.cri(700, "old") + &node.cri(100, "new");
            let path = node.write(&format!("{dir}/{life}.log"), text);
            if life < 9 {
                written(&path, node.ago(700));
            }
        }
    }
    let began = Instant::now();
    let (texts, told) = node.read("/var/log/pods/*/*/*.log", Format::Cri);
    assert_eq!((texts.len(), told.files, told.skipped, told.broken), (1000, 1000, 9000, 0));
    let read = began.elapsed();
    let of = |namespace: &str| containers(&node.host(), &[namespace.to_owned()]).unwrap();
    let began = Instant::now();
    let found = of("n?").all;
    let listed = began.elapsed();
    assert_eq!((found.len(), found[0].restarts(), of("kube-*").all.len()), (1000, 9, 0));
    println!("10,000 files read in {read:?}, their containers listed in {listed:?}");
    assert!(read < Duration::from_secs(10) && listed < Duration::from_secs(10), "{read:?} {listed:?}");
}

#[test]
fn restarts_of_containers() {
    let node = Node::new();
    assert!(containers(&node.host(), &["*".to_owned()]).unwrap_err().is_absent());
    for name in
        ["3.log", "4.log", "4.log.20261121-000000", "4.log.20261121-000000.gz", "5.log.20261121-010000", "x", "7"]
    {
        node.write(&format!("{POD}/{name}"), "");
    }
    written(&node.at(&format!("{POD}/3.log")), node.ago(300));
    node.write("/var/log/pods/kube-system_etcd-a_6c3ae0ed9a2bd6d1ae7b5ce1b8f4a1c2/etcd/0.log", "");
    node.write("/var/log/pods/default_a_0bc50f85-8050-0123-4567-89abcdef0123/a/0.log", "");
    node.write("/var/log/pods/kube-system_odd/a/0.log", "");
    node.write("/var/log/pods/file", "");
    let found = containers(&node.host(), &["kube-system".to_owned(), "calico-*".to_owned()]).unwrap();
    assert_eq!(found.unreadable, []);
    let told: Vec<String> = found
        .all
        .iter()
        .map(|logs| format!("{}/{} {} of {}", logs.pod, logs.container, logs.restarts(), logs.files.len()))
        .collect();
    assert_eq!(told, ["kube-system/calico-node-8vq7c/calico-node 5 of 3", "kube-system/etcd-a/etcd 0 of 1"]);
    let files = &found.all[0].files;
    assert_eq!((files[0].restart, files[0].modified), (3, Some(node.ago(300))));
    assert!(files[1].modified > files[0].modified && files[2].modified.is_none());
}

/// Writes a log, and puts it aside as the kubelet does, or as lumberjack, until it is told to stop.
fn write_and_rotate(node: &Node, path: &str, is_kubelet: bool, stop: &AtomicBool, count: &AtomicU64) {
    let base = node.at(path);
    let (mut aside, mut number) = (Vec::<PathBuf>::new(), 0_u64);
    let mut file = File::options().append(true).create(true).open(&base).unwrap();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..200 {
            number += 1;
            file.write_all(node.cri(100, &format!("{number}")).as_bytes()).unwrap();
            count.store(number, Ordering::Release);
        }
        std::thread::sleep(Duration::from_millis(20));
        let name = match is_kubelet {
            true => path.to_owned() + &format!(".20261121-{:06}", number / 200),
            false => {
                path.replace(".log", &format!("-2026-11-20T10-{:02}-{:02}.000.log", number / 12_000, number / 200 % 60))
            }
        };
        let name = node.at(&name);
        fs::rename(&base, &name).unwrap();
        file = File::options().append(true).create(true).open(&base).unwrap();
        if is_kubelet {
            aside.push(name);
        } else {
            fs::write(name.with_extension("log.gz"), gzip(&fs::read(&name).unwrap())).unwrap();
            fs::remove_file(&name).unwrap();
            aside.push(name.with_extension("log.gz"));
        }
        if let Some(packed) = aside.len().checked_sub(2).filter(|_| is_kubelet) {
            let (from, to) = (aside[packed].clone(), PathBuf::from(format!("{}.gz", aside[packed].display())));
            let made = PathBuf::from(format!("{}.tmp", from.display()));
            fs::write(&made, gzip(&fs::read(&from).unwrap())).unwrap();
            fs::rename(&made, &to).unwrap();
            fs::remove_file(&from).unwrap();
            aside[packed] = to;
        }
        if aside.len() > 4 {
            fs::remove_file(aside.remove(0)).unwrap();
        }
    }
}

#[test]
fn files_that_are_put_aside_meanwhile() {
    for (path, is_kubelet) in [(format!("{POD}/0.log"), true), (CONTAINERD.to_owned(), false)] {
        let node = Node::new();
        node.write(&path, "");
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let runs = std::thread::scope(|scope| {
            scope.spawn(|| write_and_rotate(&node, &path, is_kubelet, &stop, &count));
            let began = Instant::now();
            let mut runs = 0;
            while began.elapsed() < Duration::from_secs(3) {
                let before = count.load(Ordering::Acquire);
                let (texts, told) = node.read(&path, Format::Cri);
                let after = count.load(Ordering::Acquire);
                let numbers: Vec<u64> = texts.iter().filter_map(|text| text.parse().ok()).collect();
                let is_whole = numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]);
                stop.store(!is_whole, Ordering::Relaxed);
                let odd = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]);
                assert!(is_whole, "{odd:?} of {} after {runs} runs: {told:?}", numbers.len());
                let last = numbers.last().copied().unwrap_or(0);
                // One line may be half written.
                if !(before..=after + 1).contains(&last) || !told.unreadable.is_empty() || told.broken > 1 {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{before} {last} {after}: {told:?}");
                }
                runs += 1;
            }
            stop.store(true, Ordering::Relaxed);
            runs
        });
        assert!(runs > 20, "{runs}");
    }
}

#[test]
fn files_that_are_emptied_and_removed_meanwhile() {
    let node = Node::new();
    let text = node.cri(100, "x").repeat(20_000);
    let path = node.write(&format!("{POD}/0.log"), &text);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                match round % 3 {
                    0 => fs::write(&path, &text).unwrap(),
                    1 => fs::write(&path, "").unwrap(),
                    _ => fs::remove_file(&path).unwrap(),
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let files = [PODS.to_owned()];
        for _ in 0..100 {
            let read = std::panic::catch_unwind(|| read(&node.host(), &node.query(&files, Format::Cri)));
            if !matches!(&read, Ok(Ok((texts, told))) if texts.len() <= 20_000 && told.unreadable.is_empty()) {
                let absent = matches!(&read, Ok(Err(Error::Absent(_))));
                stop.store(!absent, Ordering::Relaxed);
                assert!(absent, "{read:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
