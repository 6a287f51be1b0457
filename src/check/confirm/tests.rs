//! Runs that look by themselves, at a node that changes meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::check::tests::{AGE, COUNT, definition, saw};
use crate::host::Error;
use crate::host::state_dir::StateDir;
use crate::probe::{Look, Looked};
use crate::verdict::{Assessment, MetricSpec};

const PATIENCE: Duration = Duration::from_secs(8);

/// A probe that sees one thing after the other, and the last one for ever.
struct InTurn {
    sees: Vec<Result<Assessment, Error>>,
    looks: Arc<AtomicUsize>,
}

impl Look for InTurn {
    fn metrics(&self) -> Vec<MetricSpec> {
        vec![AGE, COUNT]
    }
    fn look(&self, _: &Host, _: &crate::history::Past) -> Result<Box<dyn Looked + '_>, Error> {
        let look = self.looks.fetch_add(1, SeqCst).min(self.sees.len() - 1);
        let assessment = self.sees[look].clone()?;
        if assessment.summary == "hang" {
            sleep(PATIENCE);
        }
        Ok(Box::new(assessment))
    }
}

/// A check on the node that the test runs on, and a past.
struct Lone {
    check: Arc<Check>,
    history: Arc<History>,
    looks: Arc<AtomicUsize>,
}

impl Lone {
    fn new(confirm: u32, sees: Vec<Result<Assessment, Error>>) -> Lone {
        let looks: Arc<AtomicUsize> = Arc::default();
        let definition = Definition { confirm, ..definition() };
        let look = Box::new(InTurn { sees, looks: looks.clone() });
        let check = Arc::new(Check::new(definition, look, vec![AGE, COUNT]));
        Lone { check, history: Arc::new(History::in_memory()), looks }
    }

    /// The same, where nothing can be remembered.
    fn forgetting(self) -> Lone {
        let nowhere = StateDir::new(std::path::Path::new("/proc/nodecheck"));
        Lone { history: Arc::new(History::in_directory(nowhere)), ..self }
    }

    /// What is told, after how many looks.
    fn ask(&self, patience: Duration) -> (Verdict, usize) {
        let before = self.looks.load(SeqCst);
        let host = Arc::new(Host::live().unwrap());
        let verdict = self.check.run_until_sure(&host, &self.history, patience);
        (verdict, self.looks.load(SeqCst) - before)
    }

    /// The state that the next run takes for told, and the looks that were worse.
    fn streak(&self) -> (Status, u32) {
        let now = Host::live().unwrap().now();
        let streak = self.history.load("told", &now).streak().cloned().unwrap();
        (streak.told, streak.worse)
    }
}

fn age(age: f64) -> Result<Assessment, Error> {
    saw(age, 0.0, &[])
}

fn says(verdict: &Verdict, text: &str) -> bool {
    verdict.findings.iter().any(|finding| finding.text == text)
}

#[test]
fn a_lone_run_looks_again_and_tells_what_is_still_there() {
    let node = || Lone::new(2, vec![age(50.0)]);
    for (node, is_kept) in [(node(), true), (node().forgetting(), false)] {
        let begun = Patience::of(PATIENCE);
        let (verdict, looks) = node.ask(PATIENCE);
        assert_eq!((verdict.status, looks), (Status::Warning, 2));
        assert!(begun.gone() >= AGAIN && begun.gone() < AGAIN * 3, "{:?}", begun.gone());
        assert!(verdict.summary.starts_with("it is old"), "{}", verdict.summary);
        if is_kept {
            assert_eq!(node.streak(), (Status::Warning, 0));
            assert_eq!(node.ask(PATIENCE).1, 1, "it is told already");
        }
    }
    // A state that is no worse than the one told needs no second look; nor does what can't be measured.
    assert_eq!(Lone::new(2, vec![age(0.0)]).ask(PATIENCE).1, 1);
    let (verdict, looks) = Lone::new(2, vec![Err(Error::Failed("no way".into()))]).ask(PATIENCE);
    assert_eq!((verdict.status, looks), (Status::Unknown, 1));
}

#[test]
fn a_lone_run_tells_that_it_is_over() {
    let first = "the first look was WARNING (it is old (CRITICAL above 1 min): name), ";
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let node = Lone::new(2, vec![age(50.0), age(0.0)]);
            let (verdict, looks) = node.ask(PATIENCE);
            assert_eq!((verdict.status, looks), (Status::Ok, 2));
            assert!(says(&verdict, &format!("{first}a second one 1 s later was not")), "{verdict:?}");
            assert_eq!(node.streak(), (Status::Ok, 0));
        });
        scope.spawn(|| {
            let (verdict, looks) = Lone::new(9, vec![age(50.0), age(500.0), age(0.0)]).forgetting().ask(PATIENCE);
            assert_eq!((verdict.status, looks), (Status::Ok, 3));
            assert!(says(&verdict, &format!("{first}a later one 2 s later was not")), "{verdict:?}");
        });
        scope.spawn(|| {
            let (verdict, looks) = Lone::new(2, vec![age(50.0), Err(Error::Failed("no way".into()))]).ask(PATIENCE);
            assert_eq!((verdict.status, looks, verdict.summary.as_str()), (Status::Unknown, 2, "no way"));
            assert!(says(&verdict, &format!("{first}a second one 1 s later was not")), "{verdict:?}");
        });
        scope.spawn(|| {
            let hang = Assessment { summary: "hang".into(), ..age(50.0).unwrap() };
            let (verdict, looks) = Lone::new(2, vec![age(50.0), Ok(hang)]).ask(AGAIN * 2);
            assert_eq!((verdict.status, looks), (Status::Unknown, 2));
            assert!(verdict.summary.starts_with("the look did not end within "), "{}", verdict.summary);
        });
    });
}

#[test]
fn a_lone_run_without_the_time_for_a_second_look_says_so() {
    let node = Lone::new(2, vec![age(50.0)]);
    let (verdict, looks) = node.ask(AGAIN / 2);
    assert_eq!((verdict.status, looks), (Status::Ok, 1));
    assert!(verdict.summary.starts_with("WARNING not confirmed yet (seen in 1 of 2 looks)"), "{}", verdict.summary);
    assert!(says(&verdict, "no time was left for another look within 500ms"), "{verdict:?}");
    assert_eq!(node.streak(), (Status::Ok, 1));
    // The next one need not begin anew.
    sleep(AGAIN / 2);
    assert_eq!(node.ask(AGAIN / 2).0.status, Status::Warning);
    // Where nothing is remembered, nobody would ever be told.
    let (verdict, looks) = Lone::new(2, vec![age(50.0)]).forgetting().ask(AGAIN / 2);
    assert_eq!((verdict.status, looks), (Status::Warning, 1));
    assert!(says(&verdict, "no time was left for another look within 500ms"), "{verdict:?}");
    // The definition's deadline holds, too.
    let short = Lone::new(3, vec![age(50.0)]);
    let definition = Definition { deadline: AGAIN * 3 / 2, ..short.check.definition.clone() };
    let look = Box::new(InTurn { sees: vec![age(50.0)], looks: short.looks.clone() });
    let short = Lone { check: Arc::new(Check::new(definition, look, vec![AGE, COUNT])), ..short };
    let (verdict, looks) = short.ask(PATIENCE);
    assert_eq!((verdict.status, looks, short.streak()), (Status::Ok, 2, (Status::Ok, 2)));
    assert!(says(&verdict, "no time was left for another look within 1s 500ms"), "{verdict:?}");
}

#[test]
fn the_thresholds_of_one_call_are_told_at_once() {
    let node = Lone::new(2, vec![age(50.0)]);
    let look = Box::new(InTurn { sees: vec![age(50.0)], looks: node.looks.clone() });
    let own = Check::new(node.check.definition.clone(), look, vec![AGE, COUNT]).sharing_looks_of(&node.check);
    let host = Arc::new(Host::live().unwrap());
    let verdict = Arc::new(own).run_until_sure(&host, &node.history, PATIENCE);
    assert_eq!((verdict.status, node.looks.load(SeqCst)), (Status::Warning, 1));
    assert!(verdict.findings.iter().any(|finding| finding.text.starts_with("told at once: ")), "{verdict:?}");
}
