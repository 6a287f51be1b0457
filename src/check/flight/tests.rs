//! What a question gets before, during and after looks that end when the test says so.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use super::*;
use crate::check::tests::{AGE, COUNT, definition, node, saw};
use crate::definition::Definition;
use crate::history::Past;
use crate::host::Error;
use crate::probe::{Look, Looked};
use crate::serve::{Answer, Ask};
use crate::status::Status;
use crate::threshold::Threshold;
use crate::verdict::{Assessment, MetricSpec};

const SECOND: Duration = Duration::from_secs(1);
/// What "at once" may take on a machine that is busy.
const AT_ONCE: Duration = Duration::from_millis(50);

type Saw = Result<Assessment, Error>;

/// A probe whose looks take until they are told what they saw.
struct Slow {
    begun: Arc<AtomicU32>,
    sees: Mutex<Receiver<Saw>>,
}

impl Look for Slow {
    fn metrics(&self) -> Vec<MetricSpec> {
        vec![AGE, COUNT]
    }
    fn look(&self, host: &Host, _: &Past) -> Result<Box<dyn Looked + '_>, Error> {
        host.doing("/slow");
        self.begun.fetch_add(1, SeqCst);
        let assessment = self.sees.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap()?;
        assert_ne!(assessment.summary, "panic", "told to");
        Ok(Box::new(assessment))
    }
}

fn slow(begun: &Arc<AtomicU32>) -> (Sender<Saw>, Box<Slow>) {
    let (sees, see) = channel();
    (sees, Box::new(Slow { begun: begun.clone(), sees: Mutex::new(see) }))
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + 10 * SECOND;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A check of a daemon on a node of the test's own.
struct Sampled {
    check: Arc<Check>,
    host: Arc<Host>,
    history: Arc<History>,
    /// How many looks have begun.
    begun: Arc<AtomicU32>,
    sees: Sender<Saw>,
    dir: tempfile::TempDir,
}

impl Sampled {
    fn new(definition: Definition) -> Sampled {
        let begun = Arc::default();
        let (sees, look) = slow(&begun);
        let (dir, host) = node("100000.0");
        let check = Arc::new(Check::new(definition, look, vec![AGE, COUNT]));
        Sampled { check, host: Arc::new(host), history: Arc::new(History::in_memory()), begun, sees, dir }
    }

    /// The check with a caller's thresholds on its age.
    fn with(&self, warning: &str, critical: &str) -> Arc<Check> {
        let mut definition = self.check.definition.clone();
        let threshold = Threshold { warning: warning.parse().ok(), critical: critical.parse().ok() };
        definition.thresholds.insert("age".into(), threshold);
        let look = slow(&self.begun).1;
        Arc::new(Check::new(definition, look, vec![AGE, COUNT]).sharing_looks_of(&self.check))
    }

    /// Begins a look, as if an interval had gone since the one before.
    fn begin(&self) {
        self.age(self.check.definition.interval);
        let before = self.begun.load(SeqCst);
        self.check.sample(&self.host, &self.history).unwrap();
        wait_for("the look to begin", || self.begun.load(SeqCst) > before);
    }

    /// Makes the newest look that much older.
    fn age(&self, by: Duration) {
        if let Some(landed) = self.check.flight.looks().newest.as_mut() {
            let landed = Arc::get_mut(landed).unwrap();
            landed.clock = landed.clock.earlier(by);
        }
    }

    fn end(&self, saw: Saw) {
        let before = self.check.flight.looks().count;
        self.sees.send(saw).unwrap();
        wait_for("the look to end", || self.check.flight.looks().count > before);
    }

    fn look(&self, saw: Saw) {
        self.begin();
        self.end(saw);
    }

    fn ask(&self, check: &Arc<Check>) -> Verdict {
        check.newest(&self.host, &self.history, 10 * SECOND)
    }

    /// Asks until an answer comes at once: who has to wait for a look never gets one.
    fn at_once(&self, check: &Arc<Check>) -> Verdict {
        for _ in 0..10 {
            let begun = Instant::now();
            let verdict = self.ask(check);
            if begun.elapsed() < AT_ONCE {
                return verdict;
            }
        }
        panic!("no answer within {AT_ONCE:?}")
    }
}

impl Ask for Sampled {
    fn ask(&self, _: &str, _: &[&str]) -> Answer {
        let verdict = Sampled::ask(self, &self.check);
        Answer { code: verdict.status.code(), text: crate::render::plugin(&verdict, false) }
    }
}

fn age(age: f64) -> Saw {
    saw(age, 0.0, &[])
}

fn has_age(verdict: &Verdict) -> bool {
    verdict.findings.iter().any(|finding| finding.text.starts_with("looked ") && finding.text.ends_with(" ago"))
}

#[test]
fn with_nothing_yet_all_that_ask_share_a_look() {
    let node = Sampled::new(definition());
    std::thread::scope(|scope| {
        let asks: Vec<_> = (0..20).map(|_| scope.spawn(|| node.ask(&node.check))).collect();
        let lenient = scope.spawn(|| node.ask(&node.with("1000", "1000")));
        std::thread::sleep(AT_ONCE);
        assert!(asks.iter().all(|ask| !ask.is_finished()));
        node.end(age(50.0));
        for ask in asks {
            let verdict = ask.join().unwrap();
            assert!(verdict.status == Status::Warning && !has_age(&verdict), "{verdict:?}");
        }
        assert_eq!(lenient.join().unwrap().status, Status::Ok);
    });
    // The sampler's own first look would tell nothing new.
    node.check.sample(&node.host, &node.history).unwrap();
    assert!(node.begun.load(SeqCst) == 1 && node.check.flight.looks().under_way.is_none());
}

#[test]
fn the_newest_look_answers_while_another_one_is_under_way() {
    let node = Sampled::new(definition());
    node.look(age(50.0));
    let alone = node.check.tell(&node.check.flight.looks().newest.clone().unwrap());
    node.begin();
    let verdict = node.at_once(&node.check);
    assert_eq!((verdict.status, &verdict.summary), (alone.status, &alone.summary));
    assert!(has_age(&verdict), "{verdict:?}");
    assert_eq!(verdict.findings.len(), alone.findings.len() + 1);
    // A caller's thresholds need no look of their own.
    assert_eq!(node.at_once(&node.with("1", "2")).status, Status::Critical);
    assert_eq!(node.at_once(&node.with("51", "52")).status, Status::Ok);
    assert_eq!(node.begun.load(SeqCst), 2);
    node.end(age(0.0));
    assert_eq!(node.at_once(&node.check).status, Status::Ok);
}

#[test]
fn a_look_past_its_deadline_is_unknown_at_once_and_keeps_its_slot() {
    let node = Sampled::new(Definition { deadline: SECOND / 2, ..definition() });
    node.look(age(0.0));
    node.begin();
    assert_eq!(node.at_once(&node.check).status, Status::Ok, "it is in time");
    std::thread::sleep(SECOND / 2);
    for check in [&node.check, &node.with("1", "2")] {
        let verdict = node.at_once(check);
        assert_eq!(verdict.status, Status::Unknown);
        assert!(verdict.summary.contains("still running (at: /slow); no second one"), "{}", verdict.summary);
    }
    let reason = node.check.sample(&node.host, &node.history).unwrap_err();
    assert!(reason.contains("still running"), "{reason}");
    assert_eq!(node.begun.load(SeqCst), 2, "a second one was started");
    node.end(age(50.0));
    assert_eq!(node.at_once(&node.check).status, Status::Warning);
    // The very first one may hang, too: whoever waits for it is told at the deadline, and then at once.
    let node = Sampled::new(Definition { deadline: Duration::from_millis(100), ..definition() });
    let verdict = node.ask(&node.check);
    assert!(verdict.summary.contains("did not end within 100ms (at: /slow)"), "{}", verdict.summary);
    assert!(node.at_once(&node.check).summary.contains("still running"));
}

#[test]
fn a_look_that_failed_is_the_newest_one() {
    let node = Sampled::new(definition());
    let panic = Ok(Assessment { summary: "panic".into(), ..Assessment::default() });
    for (bad, said) in [(Err(Error::Failed("no way".into())), "no way"), (panic, "told to")] {
        node.look(age(0.0));
        assert_eq!(node.at_once(&node.check).status, Status::Ok);
        node.look(bad);
        let verdict = node.at_once(&node.check);
        assert!(verdict.status == Status::Unknown && verdict.summary.contains(said), "{verdict:?}");
        assert!(has_age(&verdict), "{verdict:?}");
    }
}

#[test]
fn what_is_old_is_stale() {
    for (interval, age_of_look, stale) in [(1, 179, None), (1, 181, Some("3 min")), (600, 1799, None)]
        .into_iter()
        .chain([(600, 1801, Some("30 min")), (600, 7300, Some("2 h 1 min"))])
    {
        let node = Sampled::new(Definition { interval: interval * SECOND, ..definition() });
        node.look(age(0.0));
        node.age(age_of_look * SECOND);
        let verdict = node.at_once(&node.check);
        match stale {
            None => assert_eq!(verdict.status, Status::Ok, "{interval} {age_of_look}"),
            Some(old) => {
                assert_eq!(verdict.status, Status::Unknown);
                assert!(verdict.summary.starts_with(&format!("stale: the newest look is {old} old")), "{verdict:?}");
            }
        }
        node.look(age(50.0));
        assert_eq!(node.at_once(&node.check).status, Status::Warning);
    }
}

#[test]
fn confirm_counts_looks_and_not_questions() {
    let mut node = Sampled::new(Definition { confirm: 3, ..definition() });
    let mut uptime = 100_000;
    let mut look = |node: &mut Sampled, saw| {
        uptime += 60;
        std::fs::write(node.dir.path().join("proc/uptime"), format!("{uptime}.0 0.0\n")).unwrap();
        node.host = Arc::new(node.host.again());
        node.look(saw);
        (0..50).map(|_| node.at_once(&node.check)).reduce(|a, b| {
            assert_eq!(a, b);
            a
        })
    };
    let streak = |node: &Sampled| {
        let streak = node.history.load("told", &node.host.now()).streak().cloned().unwrap();
        (streak.told, streak.worse)
    };
    assert_eq!(look(&mut node, age(0.0)).unwrap().status, Status::Ok);
    for seen in 1..3 {
        let verdict = look(&mut node, age(50.0)).unwrap();
        assert_eq!(verdict.status, Status::Ok);
        assert!(verdict.summary.contains(&format!("(seen in {seen} of 3 looks)")), "{}", verdict.summary);
        // By a caller's thresholds it is told at once, and it changes nothing for the others.
        let verdict = node.at_once(&node.with("1", "2"));
        assert_eq!(verdict.status, Status::Critical);
        assert!(verdict.findings.iter().any(|finding| finding.text.starts_with("told at once: ")), "{verdict:?}");
        assert_eq!(node.at_once(&node.with("1000", "1000")).status, Status::Ok);
        assert_eq!(streak(&node), (Status::Ok, seen));
    }
    assert_eq!(look(&mut node, age(50.0)).unwrap().status, Status::Warning);
    assert_eq!(streak(&node), (Status::Warning, 0));
    assert_eq!(look(&mut node, age(50.0)).unwrap().status, Status::Warning);
    assert_eq!(look(&mut node, age(0.0)).unwrap().status, Status::Ok);
    assert_eq!(streak(&node), (Status::Ok, 0));
}

/// check_nrpe gives up after 10 s; a node whose looks take long must not make it wait at all.
#[tokio::test]
async fn nrpe_is_answered_at_once_while_a_look_is_slow() {
    use crate::parse::nrpe::{Version, decode_response, encode_query};
    use crate::serve::{Limits, nrpe};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let node = Sampled::new(definition());
    node.look(age(50.0));
    node.begin();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(nrpe::serve(listener, Arc::new(node), Limits::default(), std::future::pending()));
    let mut times = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(&encode_query(Version::V4, b"told")).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        times.push(begun.elapsed());
        let answer = decode_response(&bytes).unwrap();
        let text = String::from_utf8(answer.text.to_vec()).unwrap();
        assert!(answer.code == 1 && text.contains("\nlooked "), "{text}");
    }
    times.sort_unstable();
    assert!(times[10] < AT_ONCE, "{times:?}");
    server.abort();
}
