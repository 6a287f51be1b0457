#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn clock(reference: &str, zone: TimeZone) -> Clock {
    Clock::new(reference.parse().unwrap(), zone)
}

fn told(clock: &Clock, format: Format, line: &str) -> String {
    clock.time(format, line.as_bytes()).map_or_else(|| "none".to_owned(), |at| at.to_string())
}

#[test]
fn go_s_rfc_3339() {
    for (text, want) in [
        ("2016-10-06T00:17:09.669794202Z", "2016-10-06T00:17:09.669794202Z"),
        ("2016-10-06T00:17:09.6Z x", "2016-10-06T00:17:09.6Z"),
        ("2016-10-06T00:17:09Z", "2016-10-06T00:17:09Z"),
        ("2016-10-06T00:17:09+05:30", "2016-10-05T18:47:09Z"),
        ("2016-10-06T00:17:09.000000001-11:00", "2016-10-06T11:17:09.000000001Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z"),
    ] {
        let (at, _) = rfc3339(text.as_bytes()).unwrap();
        assert_eq!(at.to_string(), want);
        for end in 0..20.min(text.len()) {
            assert_eq!(rfc3339(&text.as_bytes()[..end]), None, "{text} {end}");
        }
    }
    for wrong in [
        "",
        "2016-10-06",
        "2016-10-06 00:17:09Z",
        "2016-10-06T00:17:09",
        "2016-10-06T00:17:60Z",
        "2016-10-06T24:00:00Z",
        "2016-02-30T00:17:09Z",
        "2016-13-06T00:17:09Z",
        "2016-10-06T00:17:09.Z",
        "2016-10-06T00:17:09.1234567890Z",
        "2016-10-06T00:17:09+24:00",
        "2016-10-06T00:17:09+01:60",
        "2016-10-06T00:17:09+0100",
        "+016-10-06T00:17:09Z",
        "9999-12-31T23:59:59Z",
    ] {
        assert_eq!(rfc3339(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn logrus_as_text_and_as_json() {
    let clock = clock("2026-11-21T04:00:00Z", TimeZone::UTC);
    let long = "x".repeat(4000);
    for (line, want) in [
        ("time=\"2026-11-21T03:22:00.123456789Z\" level=error msg=\"x\"", "2026-11-21T03:22:00.123456789Z"),
        ("time=\"2026-11-21T03:22:00+01:00\" level=info msg=x", "2026-11-21T02:22:00Z"),
        ("{\"level\":\"info\",\"msg\":\"x\",\"time\":\"2026-11-21T03:22:00Z\"}", "2026-11-21T03:22:00Z"),
        (&format!("{{\"msg\":\"{long}\",\"time\":\"2026-11-21T03:22:00Z\"}}"), "2026-11-21T03:22:00Z"),
        (&format!("{{\"time\":\"2026-11-21T03:22:00Z\",\"msg\":\"{long}\"}}"), "2026-11-21T03:22:00Z"),
        ("goroutine 1 [running]:", "none"),
        ("x time=\"2026-11-21T03:22:00Z\"", "none"),
        ("time=\"\"", "none"),
        ("{", "none"),
    ] {
        assert_eq!(told(&clock, Format::Logrus, line), want, "{line}");
        assert_eq!(told(&clock, Format::Auto, line), want, "{line}");
    }
}

#[test]
fn klog_gets_its_year_and_zone_from_the_reference() {
    let line = |time: &str| format!("E{time}.123456   12345 remote_runtime.go:176] \"x\" err=\"y\"");
    let plus_two = TimeZone::fixed(Offset::from_hours(2).unwrap());
    for (reference, zone, shown, want) in [
        ("2026-11-21T04:00:00Z", TimeZone::UTC, "1121 03:22:00", "2026-11-21T03:22:00.123456Z"),
        ("2026-11-21T04:00:00Z", plus_two.clone(), "1121 03:22:00", "2026-11-21T01:22:00.123456Z"),
        // New Year: the lines of before, and those of a clock that is a little ahead.
        ("2027-01-01T00:00:30Z", TimeZone::UTC, "1231 23:59:59", "2026-12-31T23:59:59.123456Z"),
        ("2026-12-31T23:59:50Z", TimeZone::UTC, "0101 00:00:01", "2027-01-01T00:00:01.123456Z"),
        ("2027-01-01T00:00:30Z", plus_two.clone(), "0101 01:59:00", "2026-12-31T23:59:00.123456Z"),
        ("2026-12-31T22:30:00Z", plus_two, "0101 00:29:00", "2026-12-31T22:29:00.123456Z"),
        // Later than now, so of last year.
        ("2026-11-21T04:00:00Z", TimeZone::UTC, "1123 03:22:00", "2025-11-23T03:22:00.123456Z"),
        ("2027-03-01T04:00:00Z", TimeZone::UTC, "0229 03:22:00", "2024-02-29T03:22:00.123456Z"),
    ] {
        let clock = clock(reference, zone);
        assert_eq!(told(&clock, Format::Klog, &line(shown)), want, "{reference}");
        assert_eq!(told(&clock, Format::Auto, &line(shown)), want);
        assert_eq!(told(&clock, Format::Logrus, &line(shown)), "none");
    }
    let clock = clock("2026-11-21T04:00:00Z", TimeZone::UTC);
    for wrong in [
        "",
        "E1121",
        "X1121 03:22:00.123456 1 x.go:1] x",
        "E1321 03:22:00.123456 1 x.go:1] x",
        "E1131 03:22:00.123456 1 x.go:1] x",
        "E1121 03:22:00.123456",
        "E1121 03:22:00.123456x",
        "E11210 3:22:00.123456 1 x.go:1] x",
        "Error: x",
    ] {
        assert_eq!(told(&clock, Format::Klog, wrong), "none", "{wrong}");
    }
}

#[test]
fn the_hour_that_is_there_twice() {
    let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let line = "I1025 02:30:00.000000 1 x.go:1] x";
    // Clocks are put back at 01:00 UTC.
    for (reference, want) in [
        ("2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z"),
        ("2026-10-25T01:40:00Z", "2026-10-25T01:30:00Z"),
        ("2026-10-26T00:00:00Z", "2026-10-25T01:30:00Z"),
    ] {
        let clock = clock(reference, berlin.clone());
        assert_eq!(told(&clock, Format::Klog, line), want, "{reference}");
    }
    // No clock shows this one.
    let clock = clock("2026-03-29T04:00:00Z", berlin);
    assert_eq!(told(&clock, Format::Klog, "I0329 02:30:00.000000 1 x.go:1] x"), "2026-03-29T01:30:00Z");
}
