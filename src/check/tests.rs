//! One look of a probe that sees what it is told.

use super::*;
use crate::history::Trace;
use crate::host::state_dir::StateDir;
use crate::probe::Looked;
use crate::threshold::Rule;

pub(super) const AGE: MetricSpec = MetricSpec::new("age", Unit::Seconds, "An age.");
pub(super) const COUNT: MetricSpec = MetricSpec::new("count", Unit::None, "A count.");

/// A probe that sees what it is told.
struct Told(Result<Assessment, Error>);

impl Look for Told {
    fn metrics(&self) -> Vec<MetricSpec> {
        vec![AGE, COUNT]
    }
    fn look(&self, _: &Host, _: &Past) -> Result<Box<dyn Looked + '_>, Error> {
        let assessment = self.0.clone()?;
        if assessment.summary == "panic" {
            panic!("told to");
        }
        if assessment.summary == "hang" {
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(Box::new(assessment))
    }
}

impl Looked for Assessment {
    fn trace(&self) -> Trace {
        Trace::default()
    }
    fn assess(&self, _: &Past, _: &Moment) -> Assessment {
        self.clone()
    }
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "told".into(),
        summary: "s".into(),
        why: "w".into(),
        advice: "Do something.".into(),
        probe: "told",
        main: Some("age".into()),
        interval: Duration::from_secs(60),
        deadline: Duration::from_secs(5),
        window: Duration::from_secs(3600),
        grace: Duration::ZERO,
        confirm: 1,
        absent: Absent::Unknown,
        params: toml::Table::new(),
        thresholds: [("age", "10", "100"), ("count", "5", "50")]
            .map(|(name, warning, critical)| {
                (name.to_owned(), Threshold { warning: warning.parse().ok(), critical: critical.parse().ok() })
            })
            .into(),
        rules: vec![],
        origins: Default::default(),
    }
}

pub(super) fn saw(age: f64, count: f64, findings: &[(Status, &str)]) -> Result<Assessment, Error> {
    Ok(Assessment {
        summary: "it is old".into(),
        detail: "name".into(),
        findings: findings.iter().map(|(status, text)| Finding::new(*status, *text)).collect(),
        metrics: vec![AGE.value(age), COUNT.value(count)],
        ..Assessment::default()
    })
}

/// A node of which only the clocks matter.
pub(super) fn node(uptime: &str) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("proc/sys/kernel/random")).unwrap();
    std::fs::write(dir.path().join("proc/uptime"), format!("{uptime} 0.0\n")).unwrap();
    std::fs::write(dir.path().join("proc/sys/kernel/random/boot_id"), "a\n").unwrap();
    let host = Host::at_root(dir.path()).unwrap();
    (dir, host)
}

fn ask(definition: Definition, saw: Result<Assessment, Error>) -> Verdict {
    let (_dir, host) = node("100000.0");
    Check::new(definition, Box::new(Told(saw)), vec![AGE, COUNT]).run_here(&host, &History::in_memory())
}

#[test]
fn line_1_has_the_limit_that_matters_next() {
    for (age, status, summary) in [
        (0.0, Status::Ok, "it is old: name"),
        (5.0, Status::Ok, "it is old (WARNING above 10 s): name"),
        (50.0, Status::Warning, "it is old (CRITICAL above 1 min): name"),
        (500.0, Status::Critical, "it is old (threshold 1 min): name"),
    ] {
        let verdict = ask(definition(), saw(age, 0.0, &[]));
        assert_eq!((verdict.status, verdict.summary.as_str()), (status, summary));
        assert_eq!(verdict.advice.is_empty(), status == Status::Ok);
    }
}

#[test]
fn line_1_has_the_reason_for_the_state() {
    let verdict = ask(definition(), saw(5.0, 7.0, &[]));
    assert_eq!(verdict.status, Status::Warning);
    assert_eq!(verdict.findings[0].text, "count is 7 (threshold 5)");
    assert!(verdict.summary.starts_with("count is 7 (threshold 5); it is old"), "{}", verdict.summary);
    let verdict = ask(definition(), saw(50.0, 0.0, &[(Status::Unknown, "no access"), (Status::Ok, "fact")]));
    assert_eq!(verdict.status, Status::Unknown);
    assert!(verdict.summary.starts_with("no access; it is old"), "{}", verdict.summary);
    // A failed measurement never hides a critical.
    let verdict = ask(definition(), saw(500.0, 0.0, &[(Status::Unknown, "no access")]));
    assert_eq!(verdict.status, Status::Critical);
    assert!(verdict.summary.starts_with("it is old"), "{}", verdict.summary);
}

#[test]
fn a_threshold_on_what_was_not_measured_is_not_kept() {
    let measured = Assessment { metrics: vec![AGE.value(1.0)], ..saw(1.0, 0.0, &[]).unwrap() };
    let verdict = ask(definition(), Ok(measured));
    assert_eq!(verdict.status, Status::Unknown);
    assert!(verdict.summary.starts_with("count has a threshold and could not be measured; it is old"), "{verdict:?}");
}

#[test]
fn rules_join_metrics() {
    let range = |text: &str| text.parse().unwrap();
    let mut with = definition();
    with.rules =
        vec![Rule { state: Status::Critical, all: vec![("age".into(), range("1")), ("count".into(), range("1"))] }];
    assert_eq!(ask(with.clone(), saw(2.0, 0.0, &[])).status, Status::Ok);
    assert_eq!(ask(with, saw(2.0, 2.0, &[])).status, Status::Critical);
}

#[test]
fn nothing_found_and_nothing_measured_is_unknown() {
    assert_eq!(ask(definition(), Ok(Assessment::default())).status, Status::Unknown);
}

#[test]
fn absent_denied_and_failed() {
    let absent = || Err(Error::Absent("no /x".into()));
    let verdict = ask(definition(), absent());
    assert_eq!((verdict.status, verdict.not_here.as_deref()), (Status::Unknown, Some("no /x")));
    let verdict = ask(Definition { absent: Absent::Ok, ..definition() }, absent());
    assert_eq!((verdict.status, verdict.not_here.as_deref()), (Status::Ok, Some("no /x")));
    let verdict = ask(definition(), Err(Error::Denied { what: "/x".into(), need: "CAP_NET_ADMIN".into() }));
    assert_eq!(verdict.status, Status::Unknown);
    assert!(verdict.summary.contains("needs CAP_NET_ADMIN"));
    assert_eq!(verdict.not_here, None);
    assert_eq!(ask(definition(), Err(Error::Failed("damaged".into()))).status, Status::Unknown);
}

#[test]
fn what_was_here_once_is_never_not_applicable() {
    let (_dir, host) = node("100.0");
    let history = History::in_memory();
    let check = |saw| {
        let definition = Definition { absent: Absent::Ok, ..definition() };
        Check::new(definition, Box::new(Told(saw)), vec![]).run_here(&host, &history)
    };
    assert_eq!(check(saw(0.0, 0.0, &[])).status, Status::Ok);
    let verdict = check(Err(Error::Absent("no kube chains".into())));
    assert_eq!((verdict.status, verdict.not_here), (Status::Unknown, None));
    assert!(verdict.summary.contains("it was on this node until"), "{}", verdict.summary);
}

#[test]
fn grace_after_boot() {
    let at = |uptime: &str, saw| {
        let (_dir, host) = node(uptime);
        let definition = Definition { grace: Duration::from_secs(300), ..definition() };
        Check::new(definition, Box::new(Told(saw)), vec![]).run_here(&host, &History::in_memory())
    };
    let verdict = at("60.0", saw(500.0, 0.0, &[]));
    assert_eq!(verdict.status, Status::Ok);
    assert!(verdict.summary.starts_with("CRITICAL after 4 min of boot grace: it is old"), "{}", verdict.summary);
    assert_eq!(at("301.0", saw(500.0, 0.0, &[])).status, Status::Critical);
    assert_eq!(at("60.0", Err(Error::Failed("x".into()))).status, Status::Unknown);
}

#[test]
fn confirm_counts_looks_an_interval_apart_and_recovers_at_once() {
    let history = History::in_memory();
    let look = |uptime: &str, age: f64| {
        let (_dir, host) = node(uptime);
        let definition = Definition { confirm: 3, ..definition() };
        let check = Check::new(definition, Box::new(Told(saw(age, 0.0, &[]))), vec![]);
        check.conclude(&check.examine(&host, &history, Pace::Interval))
    };
    assert_eq!(look("1000", 0.0).status, Status::Ok);
    let verdict = look("1060", 50.0);
    assert_eq!(verdict.status, Status::Ok);
    assert!(verdict.summary.starts_with("WARNING not confirmed yet (seen in 1 of 3 looks)"), "{}", verdict.summary);
    assert_eq!(look("1065", 50.0).status, Status::Ok, "a re-check does not count");
    assert_eq!(look("1120", 50.0).status, Status::Ok);
    assert_eq!(look("1180", 50.0).status, Status::Warning);
    assert_eq!(look("1181", 50.0).status, Status::Warning, "asked twice, the same answer");
    assert_eq!(look("1240", 0.0).status, Status::Ok);
    assert_eq!(look("1300", 50.0).status, Status::Ok);
    // What can't be counted is told at once.
    let (_dir, host) = node("5");
    let definition = Definition { confirm: 3, ..definition() };
    let nowhere = History::in_directory(StateDir::new(std::path::Path::new("/proc/nodecheck")));
    let check = Check::new(definition, Box::new(Told(saw(50.0, 0.0, &[]))), vec![]);
    assert_eq!(check.conclude(&check.examine(&host, &nowhere, Pace::Interval)).status, Status::Warning);
    // So is what is looked at once.
    let history = History::in_memory();
    assert_eq!(check.run_here(&host, &history).status, Status::Warning);
    assert_eq!(history.load("told", &host.now()).streak(), None);
}

#[test]
fn a_panic_and_a_hang_are_unknown_and_cost_one_thread() {
    let (_dir, host) = node("100.0");
    let (host, history) = (Arc::new(host), Arc::new(History::in_memory()));
    let check = |summary: &str| {
        let saw = Ok(Assessment { summary: summary.into(), ..Assessment::default() });
        Arc::new(Check::new(definition(), Box::new(Told(saw)), vec![]))
    };
    let verdict = check("panic").run(&host, &history, Duration::from_secs(5));
    assert_eq!(verdict.status, Status::Unknown);
    assert!(verdict.summary.contains("told to"), "{}", verdict.summary);
    let hanging = check("hang");
    let verdict = hanging.run(&host, &history, Duration::from_millis(20));
    assert!(verdict.summary.contains("did not end within 20ms"), "{}", verdict.summary);
    let verdict = hanging.run(&host, &history, Duration::from_millis(20));
    assert!(verdict.summary.contains("still running"), "{}", verdict.summary);
    // Whoever asks while it runs shares it, with thresholds of his own or not.
    let saw = Ok(Assessment { summary: "hang".into(), ..Assessment::default() });
    let other = Arc::new(Check::new(definition(), Box::new(Told(saw)), vec![]).sharing_looks_of(&hanging));
    assert!(other.run(&host, &history, Duration::from_millis(20)).summary.contains("still running"));
    assert!(other.run(&host, &history, Duration::from_secs(5)).summary.contains("nothing to judge by"));
    assert!(hanging.flight.looks().under_way.is_none());
    assert_eq!(hanging.flight.looks().count, 1);
}
