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
