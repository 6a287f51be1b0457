//! The rules of the past, in memory and on disk.

use super::*;

fn at(minute: i64, boot: &str) -> Moment {
    let wall = jiff::Timestamp::from_second(1_800_000_000 + minute * 60).unwrap();
    Moment { wall, boot: Some(boot.to_owned()), uptime: Some((minute * 60) as f64) }
}

fn flag(value: &str) -> Trace {
    Trace::default().group("flag ", [("/run/x".to_owned(), value.to_owned())])
}

fn directory() -> (tempfile::TempDir, History) {
    let dir = tempfile::tempdir().unwrap();
    let history = History::in_directory(StateDir::new(&dir.path().join("state")));
    (dir, history)
}

#[test]
fn first_seen_survives_looks_and_reboots_until_the_value_changes() {
    let (_dir, on_disk) = directory();
    for history in [History::in_memory(), on_disk] {
        history.record("c", &at(0, "a"), &flag("v"), None);
        let past = history.record("c", &at(10, "b"), &flag("v"), None);
        assert_eq!(past.note("flag /run/x").map(|n| n.first.wall), Some(at(0, "a").wall));
        let past = history.record("c", &at(20, "b"), &flag("w"), None);
        assert_eq!(past.note("flag /run/x").map(|n| n.first.wall), Some(at(20, "b").wall));
        assert_eq!(history.load("c", &at(21, "b")).notes("flag ").count(), 1);
    }
}

#[test]
fn a_complete_group_forgets_and_a_missing_group_keeps() {
    let (_dir, history) = directory();
    history.record("c", &at(0, "a"), &flag("v"), None);
    assert!(history.record("c", &at(1, "a"), &Trace::default(), None).note("flag /run/x").is_some());
    assert!(history.record("c", &at(2, "a"), &Trace::default().group("flag ", []), None).note("flag /run/x").is_none());
}

#[test]
fn an_older_look_is_not_recorded() {
    let (_dir, history) = directory();
    history.record("c", &at(10, "a"), &flag("v"), None);
    let past = history.record("c", &at(5, "a"), &flag("w"), None);
    assert_eq!(past.note("flag /run/x").map(|n| n.value.as_str()), Some("v"));
    assert_eq!(past.remarks.len(), 1);
    // Another boot is newer, whatever its clock says.
    let past = history.record("c", &at(5, "b"), &flag("w"), None);
    assert_eq!(past.note("flag /run/x").map(|n| n.value.as_str()), Some("w"));
    assert!(history.load("c", &at(-60, "c")).remarks[0].contains("from the future"));
}

#[test]
fn an_unreadable_file_is_set_aside_and_said() {
    for garbage in ["", "{", "\0\u{1}\u{2}", "[]", r#"{"format":99}"#, r#"{"format":1,"look":"x"}"#] {
        let (dir, history) = directory();
        history.record("c", &at(0, "a"), &flag("v"), None);
        let file = dir.path().join("state/c.json");
        std::fs::write(&file, garbage).unwrap();
        assert!(history.load("c", &at(1, "a")).remarks[0].contains("judged without it"));
        let past = history.record("c", &at(1, "a"), &flag("v"), None);
        assert!(past.remarks[0].contains("kept as"), "{:?}", past.remarks);
        assert_eq!(past.not_kept, None);
        assert_eq!(std::fs::read_to_string(dir.path().join("state/c.json.unreadable-1")).unwrap(), garbage);
        assert!(history.load("c", &at(2, "a")).remarks.is_empty());
    }
}

#[test]
fn a_file_that_can_not_be_opened_now_is_left_alone() {
    let (dir, history) = directory();
    history.record("c", &at(0, "a"), &flag("v"), None);
    let (file, away) = (dir.path().join("state/c.json"), dir.path().join("state/away"));
    let whole = std::fs::read(&file).unwrap();
    std::fs::rename(&file, &away).unwrap();
    // A link is not followed: ELOOP, as EMFILE or EACCES would be.
    std::os::unix::fs::symlink("away", &file).unwrap();
    let past = history.record("c", &at(1, "a"), &flag("v"), None);
    assert!(past.not_kept.is_some() && past.note("flag /run/x").is_some(), "{past:?}");
    assert_eq!(std::fs::read(&away).unwrap(), whole);
    assert!(file.symlink_metadata().unwrap().is_symlink());
}

#[test]
fn what_can_not_be_kept_is_said() {
    let history = History::in_directory(StateDir::new(std::path::Path::new("/proc/nodecheck")));
    let past = history.record("c", &at(0, "a"), &flag("v"), None);
    assert!(past.not_kept.is_some());
    assert!(past.note("flag /run/x").is_some());
}

#[test]
fn a_quiet_look_writes_only_every_five_minutes() {
    let (dir, history) = directory();
    let file = dir.path().join("state/c.json");
    let content = || std::fs::read(&file).unwrap();
    history.record("c", &at(0, "a"), &flag("v"), None);
    let first = content();
    history.record("c", &at(4, "a"), &flag("v"), None);
    assert_eq!(content(), first);
    history.record("c", &at(5, "a"), &flag("v"), None);
    assert_ne!(content(), first);
}

fn kills(value: u64, ended: f64) -> Trace {
    let reading = Reading { key: "k".to_owned(), identity: 1, value, old: false };
    Trace::default().counters([reading]).within(Duration::from_secs(3600)).read_until(Some(ended))
}

fn grown(past: &Past, minute: i64) -> u64 {
    // As the check sets it.
    Past { window: Duration::from_secs(3600), ..past.clone() }.growth("k", &at(minute, "a")).by
}

#[test]
fn a_look_that_began_before_another_had_read_all_is_not_recorded() {
    let (_dir, history) = directory();
    history.record("oom", &at(1000, "a"), &kills(568, 60_000.5), None);
    history.record("oom", &at(1001, "a"), &kills(569, 60_060.0 + 70.0), None);
    // It read 568 before the other read 569: not a counter that ran backwards.
    let past = history.record("oom", &at(1002, "a"), &kills(568, 60_120.9), None);
    assert_eq!((grown(&past, 1002), past.remarks.len()), (1, 1));
    let past = history.record("oom", &at(1003, "a"), &kills(569, 60_180.5), None);
    assert_eq!((grown(&past, 1003), past.remarks.len()), (1, 0));
}

#[test]
fn a_look_without_a_clock_forgets_nothing() {
    let (_dir, history) = directory();
    history.record("oom", &at(1000, "a"), &kills(1, 60_000.5), None);
    history.record("oom", &at(1001, "a"), &kills(6, 60_060.5), None);
    for broken in [Moment { boot: None, ..at(1002, "a") }, Moment { uptime: None, ..at(1002, "a") }] {
        let past = history.record("oom", &broken, &kills(6, 60_120.5), None);
        assert!(past.unclear.is_some_and(|why| why.contains("could not be read")));
    }
    let past = history.record("oom", &at(1003, "a"), &kills(6, 60_180.5), None);
    assert_eq!((grown(&past, 1003), past.unclear), (5, None));
}

#[test]
fn a_record_that_lies_ahead_keeps_nobody_out() {
    let (_dir, history) = directory();
    history.record("oom", &at(5000, "a"), &kills(1, 300_000.5), None);
    let past = history.record("oom", &at(1000, "a"), &kills(1, 60_000.5), None);
    assert!(past.remarks[0].contains("lies ahead"), "{:?}", past.remarks);
    let past = history.record("oom", &at(1001, "a"), &kills(4, 60_060.5), None);
    assert_eq!((grown(&past, 1001), past.remarks.len()), (3, 0));
}

#[test]
fn ten_thousand_containers_with_kills_are_remembered() {
    let (_dir, history) = directory();
    let keys: Vec<String> = (0..40_000).map(|n| format!("k /kubepods/burstable/pod{n:036}/{n:064}")).collect();
    for (minute, value) in [(10_000, 1), (10_001, 3)] {
        let readings = keys.iter().map(|key| Reading { key: key.clone(), identity: 1, value, old: false });
        let trace = Trace::default().counters(readings).within(Duration::from_secs(3600));
        let past = history.record("oom", &at(minute, "a"), &trace, None);
        assert_eq!((past.not_kept.as_deref(), past.remarks.as_slice()), (None, &[][..]));
        assert_eq!(past.growth(&keys[39_999], &at(minute, "a")).by, value - 1);
    }
}

#[test]
fn counts_that_are_lost_are_said_once() {
    let (dir, history) = directory();
    history.record("oom", &at(1000, "a"), &kills(1, 60_000.5), None);
    let file = dir.path().join("state/oom.json");
    std::fs::write(&file, &std::fs::read(&file).unwrap()[..20]).unwrap();
    let past = history.record("oom", &at(1001, "a"), &kills(5, 60_060.5), None);
    assert!(past.unclear.is_some() && past.remarks.len() == 1, "{:?}", past.remarks);
    let past = history.record("oom", &at(1002, "a"), &kills(6, 60_120.5), None);
    assert_eq!((past.unclear.clone(), grown(&past, 1002)), (None, 1));
}
