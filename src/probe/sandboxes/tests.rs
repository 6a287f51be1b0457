use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::judge::dead_for;
use super::{DEAD, Life, Sandbox};
use crate::history::{History, Past, Trace};
use crate::host::Moment;

const NOW: &str = "2026-11-21T03:22:00Z";

fn ago(minutes: i64) -> Timestamp {
    NOW.parse::<Timestamp>().unwrap() - SignedDuration::from_mins(minutes)
}

/// A moment so many minutes ago, in a boot that began so many minutes before now.
fn moment(minutes: i64, boot: &str, booted: i64) -> Moment {
    let uptime = (booted - minutes) as f64 * 60.0;
    Moment { wall: ago(minutes), boot: Some(boot.to_owned()), uptime: Some(uptime) }
}

/// What is remembered of looks, each with whether it saw the sandbox dead.
fn past(looks: &[(Moment, bool)]) -> Past {
    let history = History::in_memory();
    let of = |(moment, is_dead): &(Moment, bool)| {
        let notes = is_dead.then(|| ("id".to_owned(), String::new()));
        history.record("check", moment, &Trace::default().group(DEAD, notes), None)
    };
    looks.iter().map(of).last().unwrap_or_default()
}

#[test]
fn how_long_a_sandbox_has_been_dead() {
    const DAY: i64 = 1440;
    let a = |minutes: i64| moment(minutes, "a", 30 * DAY);
    let b = |minutes: i64| moment(minutes, "b", 20);
    // The clock was an hour ahead until 8 minutes ago.
    let ahead = |minutes: i64| Moment { wall: ago(minutes - 60), ..a(minutes) };
    type Case<'a> = (Option<i64>, &'a [(Moment, bool)], Moment, i64, &'a str);
    let cases: &[Case<'_>] = &[
        (Some(20 * DAY), &[(a(0), true)], a(0), 20 * DAY, "the first look of all"),
        (Some(40 * DAY), &[(a(0), true)], a(0), 30 * DAY, "not longer than the boot"),
        (None, &[(a(0), true)], a(0), 30 * DAY, "no time"),
        (Some(20 * DAY), &[(a(5), false), (a(0), true)], a(0), 5, "a look before saw it live"),
        (Some(20 * DAY), &[(a(15), false), (a(12), true), (a(0), true)], a(0), 15, "two looks"),
        (Some(3), &[(a(15), false), (a(0), true)], a(0), 3, "younger than the look before"),
        (Some(-600), &[(a(0), true)], a(0), 0, "tomorrow, and new"),
        (Some(-600), &[(a(12), true), (a(0), true)], a(0), 12, "tomorrow, and seen for long"),
        (Some(-600), &[(a(15), false), (a(12), true), (a(0), true)], a(0), 12, "tomorrow, and missed before"),
        (Some(56 * 365 * DAY), &[(a(2), false), (a(0), true)], a(0), 2, "1970, and missed before"),
        (Some(20 * DAY), &[(a(60), false), (b(0), true)], b(0), 20, "a reboot between"),
        (Some(20 * DAY), &[(a(60), true), (b(0), true)], b(0), 20, "dead before the reboot"),
        (Some(20 * DAY), &[(ahead(9), false), (ahead(8), true), (a(0), true)], a(0), 9, "the clock was set back"),
        (Some(20 * DAY), &[], Moment::at(ago(0)), 20 * DAY, "no boot clock"),
    ];
    for (created, looks, now, minutes, why) in cases {
        let sandbox = Sandbox {
            id: "id".into(),
            metadata: Default::default(),
            created: created.map(ago),
            life: Life::Dead(Default::default()),
            is_only_begun: false,
            ignored: false,
        };
        let age = dead_for(&sandbox, &past(looks), now);
        assert_eq!(age, Duration::from_secs(*minutes as u64 * 60), "{why}");
    }
}
