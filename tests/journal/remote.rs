//! Files that Debian's systemd-journal-remote wrote just now, beside Debian's journalctl.

use super::tools::{Line, START, UNITS, export, journalctl, number, remote, same};

/// How one is written: the variables that choose the format (`docs/ENVIRONMENT.md`), and options.
type Way = (&'static [(&'static str, &'static str)], &'static [&'static str]);
const WAYS: &[Way] = &[
    (&[], &[]),
    (&[("SYSTEMD_JOURNAL_COMPACT", "0")], &[]),
    (&[("SYSTEMD_JOURNAL_KEYED_HASH", "0")], &["--compress=no"]),
    (&[("SYSTEMD_JOURNAL_KEYED_HASH", "0"), ("SYSTEMD_JOURNAL_COMPACT", "0")], &[]),
];
const COUNT: u64 = 3000;

#[test]
fn the_same_as_journalctl() {
    let dir = tempfile::tempdir().unwrap();
    for (number, (environment, options)) in WAYS.iter().enumerate() {
        let path = dir.path().join(format!("{number}.journal"));
        remote(&path, environment, options, &export(0, COUNT));
        compare(path.to_str().unwrap());
    }
}

/// Written in two goes, the later entries first: their times go backwards in the middle.
#[test]
fn the_same_where_times_go_backwards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.journal");
    remote(&path, &[], &[], &export(500, 300));
    remote(&path, &[], &[], &export(0, 500));
    let path = path.to_str().unwrap();
    let journal = std::fs::read(path).unwrap();
    let all = journalctl(&["--file", path]);
    let all: Vec<&Line> = all.iter().collect();
    let time = |number: usize| super::tools::number(all[number], "__REALTIME_TIMESTAMP");
    assert_eq!((all.len(), time(299) > time(300)), (800, true));
    same(&journal, &[], (0, u64::MAX), &all);
    for unit in UNITS {
        let of_unit: Vec<&Line> = all.iter().copied().filter(|line| line["_SYSTEMD_UNIT"] == unit).collect();
        same(&journal, &[format!("_SYSTEMD_UNIT={unit}").as_bytes()], (0, u64::MAX), &of_unit);
    }
}

/// All entries, each unit, two units, and windows.
fn compare(path: &str) {
    let journal = std::fs::read(path).unwrap();
    let want = |arguments: &[String]| {
        let arguments: Vec<&str> = ["--file", path].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        journalctl(&arguments)
    };
    let compare = |matches: &[String], window: Option<(u64, u64)>| {
        let mut arguments = Vec::new();
        if let Some((since, until)) = window {
            let at = |time: u64| format!("@{}.{:06}", time / 1_000_000, time % 1_000_000);
            arguments.extend(["--since".to_owned(), at(since), "--until".to_owned(), at(until)]);
        }
        arguments.extend_from_slice(&matches.join("\n+\n").split('\n').map(str::to_owned).collect::<Vec<_>>());
        arguments.retain(|argument| !argument.is_empty());
        let lines = want(&arguments);
        let fields: Vec<&[u8]> = matches.iter().map(String::as_bytes).collect();
        assert_eq!(same(&journal, &fields, window.unwrap_or((0, u64::MAX)), &lines.iter().collect::<Vec<_>>()), 0);
        lines
    };
    let unit = |number: usize| format!("_SYSTEMD_UNIT={}", UNITS[number]);
    let all = compare(&[], None);
    assert_eq!(all.len() as u64, COUNT);
    let units = (0..UNITS.len()).map(|number| compare(&[unit(number)], None).len());
    assert_eq!(units.sum::<usize>() as u64, COUNT);
    compare(&[unit(2), unit(0)], None);
    compare(&["PRIORITY=3".to_owned(), unit(1), "PRIORITY=7".to_owned()], None);
    assert!(compare(&["_SYSTEMD_UNIT=none.service".to_owned()], None).is_empty());
    let time = |index: usize| number(&all[index], "__REALTIME_TIMESTAMP");
    for (since, until) in [
        (time(0), time(0)),
        (time(2999), time(2999) + 1),
        (time(2400), time(2999)),
        (time(100) + 1, time(101)),
        (time(1500) - 1, time(1700) + 1),
        (START - 1_000_000, time(3)),
    ] {
        compare(&[], Some((since, until)));
        compare(&[unit(0)], Some((since, until)));
        compare(&[unit(3), unit(1)], Some((since, until)));
    }
}
