use std::time::Duration;

use super::{POD, Pod};
use crate::history::{History, Past, Reading, Trace};
use crate::host::Moment;

const HOUR: Duration = Duration::from_secs(3600);

fn moment(boot: &str, minute: i64) -> Moment {
    let wall = jiff::Timestamp::from_second(1_800_000_000 + minute * 60).unwrap();
    Moment { wall, boot: Some(boot.to_owned()), uptime: Some(minute as f64 * 60.0) }
}

/// What looks make of a pod: each is a boot, a minute in it, and the highest attempt. What was counted in the last boot.
fn counted(looks: &[(&str, i64, Option<u32>)]) -> u64 {
    let history = History::in_memory();
    let mut past = Past::default();
    past.window = HOUR;
    let mut count = 0;
    for (boot, minute, attempt) in looks {
        let now = moment(boot, *minute);
        let pod = attempt.map(|attempt| Pod::new("uid", "default/web-0".to_owned(), attempt, &past, &now, false));
        let note = pod.as_ref().map(|pod| ("uid".to_owned(), format!("{} {} {}", pod.boot, pod.attempt, pod.name)));
        let reading =
            |pod: &Pod| Reading { key: "uid".to_owned(), identity: 0, value: pod.count, old: pod.is_first_look };
        let trace = Trace::default().group(POD, note).counters(pod.as_ref().map(reading)).within(HOUR);
        past = history.record("check", &now, &trace, None);
        past.window = HOUR;
        count = past.growth("uid", &now).by;
    }
    count
}

#[test]
fn what_counts() {
    for (looks, count, why) in [
        (&[("a", 1000, Some(41))][..], 0, "the first look of all"),
        (&[("a", 1000, Some(7)), ("a", 1001, Some(7))], 0, "nothing new"),
        (&[("a", 1000, Some(7)), ("a", 1001, Some(9)), ("a", 1002, Some(10))], 3, "two, and one more"),
        (&[("a", 1000, Some(7)), ("a", 1001, Some(6)), ("a", 1002, Some(7))], 1, "made again"),
        (&[("a", 1000, None), ("a", 1001, Some(0))], 0, "a new pod"),
        (&[("a", 1000, None), ("a", 1001, Some(4))], 4, "a new pod, which had five"),
        (&[("a", 1000, Some(7)), ("b", 5, Some(8))], 0, "a reboot"),
        (&[("a", 1000, Some(7)), ("b", 1, Some(7)), ("b", 5, Some(8))], 0, "a reboot, and the look came first"),
        (&[("a", 1000, Some(7)), ("b", 1, Some(7)), ("b", 5, Some(10))], 2, "a reboot, and more than its one"),
        (&[("a", 1000, Some(7)), ("b", 5, Some(8)), ("b", 6, Some(9))], 1, "a reboot, and one after it"),
        (&[("a", 5, Some(7)), ("a", 6, Some(8))], 0, "the first look, of a boot that is young"),
        (&[("a", 5, Some(7)), ("a", 6, Some(8)), ("a", 7, Some(9))], 1, "the same, and one more"),
        (
            &[("a", 1000, Some(7)), ("a", 1001, Some(u32::MAX)), ("a", 1002, Some(0))],
            u64::from(u32::MAX) - 7,
            "no overflow",
        ),
    ] {
        assert_eq!(counted(looks), count, "{why}");
    }
}
