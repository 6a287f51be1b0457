//! The reader of bolt databases beside bbolt itself: what it reads while bbolt writes, without a lock, and whether both
//! read the same.
//!
//! `src/parse/bolt` tells why a walk counts if the newest meta is the same one before and after it. Here it is tried:
//! `sealed` leaves in every transaction a sum over all keys and values, so that a walk which mixed two transactions is
//! found out, and two rules that are less strict show that such walks are common.

#[path = "bolt/seal.rs"]
mod seal;
#[path = "bolt/tools.rs"]
mod tools;

use std::path::Path;
use std::sync::atomic::{Ordering, fence};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nodecheck::containerd::{self, Database};
use nodecheck::host::Host;
use nodecheck::parse::bolt::{Bucket, Db, Fault, Meta, Value};
use nodecheck::parse::containerd::{Container, Id, records};
use seal::{Reader, Seen, Wait, fnv1a};
use tools::{Writer, output, tool};

/// When a walk counts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    /// The newest meta is the same one before and after it, to the bit: what nodecheck does.
    Strict,
    /// At most one transaction was committed meanwhile.
    Loose,
    /// Always.
    None,
}

/// Walks that were made.
#[derive(Default, Debug)]
struct Tally {
    accepted: usize,
    /// Of those, the ones that no transaction left like that.
    broken: Vec<String>,
    rejected: usize,
    /// Of those, the ones that a transaction left just like that.
    rejected_whole: usize,
    generations: std::collections::BTreeSet<u64>,
}

impl Tally {
    fn walk(&mut self, reader: &Reader, rule: Rule, is_all: bool) {
        let before = reader.newest().unwrap();
        let seen = Seen::walk(reader, &before);
        fence(Ordering::SeqCst);
        let after = reader.newest().unwrap();
        let counts = match rule {
            Rule::Strict => after == before,
            Rule::Loose => after.txid <= before.txid + 1,
            Rule::None => true,
        };
        let generation = seen.map_err(|fault| fault.to_string()).and_then(|seen| seen.generation(is_all));
        match (counts, generation) {
            (true, Ok(generation)) => {
                self.accepted += 1;
                self.generations.insert(generation);
            }
            (true, Err(why)) => {
                self.accepted += 1;
                self.broken.push(format!("transaction {}: {why}", before.txid));
            }
            (false, generation) => {
                self.rejected += 1;
                self.rejected_whole += usize::from(generation.is_ok());
            }
        }
    }
}

/// A way to write: its name, the options of `sealed`, and whether the writer is killed and started again all the time.
type Way = (&'static str, &'static [&'static str], bool);

const WAYS: &[Way] = &[
    ("as containerd 1.6", &[], false),
    ("as containerd 1.7 and later", &["-nofreelist"], false),
    ("no_sync", &["-nosync"], false),
    ("no_sync, no free list", &["-nosync", "-nofreelist"], false),
    ("the free list as a hash map", &["-nosync", "-hashmap"], false),
    ("large values", &["-nosync", "-big"], false),
    ("few keys, quick transactions", &["-nosync", "-keys", "20"], false),
    ("a part of the pages at a time", &["-nosync", "-nofreelist", "-touch", "2", "-keys", "800"], false),
    ("readers in the process", &["-nosync", "-readers", "4", "-rollback", "5"], false),
    ("rollbacks", &["-nosync", "-hashmap", "-rollback", "40", "-big"], false),
    ("a growing file", &["-nosync", "-grow", "-nofreelist"], false),
    ("opened anew all the time", &["-nosync", "-nofreelist", "-reopen", "5", "-rollback", "5"], false),
    ("killed all the time", &["-nosync", "-rollback", "5"], true),
    ("killed all the time, no free list", &["-nosync", "-nofreelist", "-hashmap"], true),
];

/// Numbers that differ: where a walk waits need not be random.
fn dice(round: u32) -> u32 {
    round.wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b) >> 8
}

/// Walks beside a writer until so many were accepted by the strict rule.
fn strict((name, options, is_killed): Way, accepted: usize) -> Tally {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    let mut writer = Some(Writer::start("sealed", options, &path));
    let mut reader = Reader::open(&path);
    let is_all = !options.contains(&"-touch");
    let mut tally = Tally::default();
    let (begun, mut started) = (Instant::now(), Instant::now());
    for round in 0.. {
        // Where the disk is slow, few transactions are made in the time of many walks.
        if tally.accepted >= accepted && tally.generations.len() >= 20 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(600), "{name}: no more than that was accepted: {tally:?}");
        // A quarter of the walks wait somewhere: else few are still under way when a transaction comes.
        let wait = Wait::For(Duration::from_micros((dice(round) % 3000).into()));
        reader.wait = (round % 4 == 0).then_some((1 + dice(round + 1) % 60, wait));
        tally.walk(&reader, Rule::Strict, is_all);
        if is_killed && started.elapsed() > Duration::from_millis(100) {
            drop(writer.take());
            writer = Some(Writer::start("sealed", options, &path));
            started = Instant::now();
        }
    }
    println!(
        "{name}: {} accepted of {} generations, {} inconsistent; {} rejected, of which {} were consistent",
        tally.accepted,
        tally.generations.len(),
        tally.broken.len(),
        tally.rejected,
        tally.rejected_whole
    );
    writer.unwrap().end();
    // And now that nobody writes: the same as bbolt reads.
    assert_eq!(every_key(&path), output(tool("dump").arg("-all").arg(&path)), "{name}");
    tally
}

fn strict_in_all_ways(accepted: usize) {
    let tallies: Vec<(Way, Tally)> = WAYS.iter().map(|way| (*way, strict(*way, accepted))).collect();
    for ((name, ..), tally) in &tallies {
        assert_eq!(tally.broken, Vec::<String>::new(), "{name}");
    }
    // Without these, the rule would not have been needed, and nothing was tried.
    let rejected: usize = tallies.iter().map(|(_, tally)| tally.rejected - tally.rejected_whole).sum();
    assert!(rejected >= tallies.len(), "only {rejected} inconsistent walks were there to be rejected");
}

#[test]
fn what_the_strict_rule_accepts_is_what_a_transaction_left() {
    strict_in_all_ways(500);
}

#[test]
#[ignore = "deep: a hundred thousand accepted walks take minutes"]
fn a_hundred_thousand_walks() {
    strict_in_all_ways(100_000_usize.div_ceil(WAYS.len()));
}

/// Walks through which transactions are let: until one that the rule accepts is inconsistent.
fn first_broken(rule: Rule, transactions: u64) -> Tally {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    // What takes long between the first page that a transaction writes and its meta: many pages.
    let writer = Writer::start("sealed", &["-keys", "2000"], &path);
    let mut reader = Reader::open(&path);
    let mut tally = Tally::default();
    let begun = Instant::now();
    for round in 0.. {
        if !tally.broken.is_empty() || begun.elapsed() > Duration::from_secs(120) {
            break;
        }
        let txid = reader.newest().unwrap().txid + transactions;
        let time = Duration::from_micros((dice(round) % 20_000).into());
        reader.wait = Some((10, Wait::Until(txid, time)));
        tally.walk(&reader, rule, true);
    }
    println!("{rule:?}: {} accepted, {} inconsistent, {:?}", tally.accepted, tally.broken.len(), begun.elapsed());
    writer.end();
    tally
}

#[test]
fn without_a_second_look_inconsistent_walks_are_accepted() {
    assert!(!first_broken(Rule::None, 3).broken.is_empty());
}

#[test]
fn a_transaction_more_is_too_many() {
    assert!(!first_broken(Rule::Loose, 1).broken.is_empty());
}

// --- the reader that checks use --------------------------------------------------------------------------------------

#[test]
fn a_snapshot_is_what_one_transaction_left() {
    const ROOT: &str = "/var/lib/containerd";
    let (mut accepted, mut tries) = (0, 0);
    // A walk that is quicker than a transaction, and one that is slower.
    for pods in [10, 40] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(containerd::path_of(ROOT).trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let writer = Writer::start("node", &["-pods", &pods.to_string(), "-churn", "300"], &path);
        let host = Host::at_root(dir.path()).unwrap();
        let mut database = Database::open(&host, ROOT).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(4) {
            let snapshot = match database.snapshot() {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    assert!(error.to_string().contains("too busy"), "{error}");
                    continue;
                }
            };
            let records = snapshot.read.unwrap();
            assert_eq!((records.sandboxes.len(), records.containers.len()), (pods, 2 * pods + 4));
            let of = |record: &Container| record.metadata.as_ref().unwrap().sandbox.clone();
            // The pod of this transaction has no sandbox.
            let new =
                records.containers.values().map(|record| of(record)).filter(|id| !records.sandboxes.contains_key(id));
            let new: Vec<Id> = new.collect();
            assert!(new.len() == 4 && new.iter().all(|id| *id == new[0]), "{new:?}");
            accepted += 1;
            tries += snapshot.tries;
        }
        writer.end();
    }
    println!("{accepted} snapshots with {tries} tries");
    assert!(accepted >= 50 && tries > accepted, "{accepted} snapshots with {tries} tries: nothing was tried");
}

// --- the same as bbolt ----------------------------------------------------------------------------------------------

/// As `dump -all` prints it.
fn every_key(path: &Path) -> String {
    fn below(db: &Db<'_, Reader>, path: &str, bucket: Bucket<'_>, text: &mut String) -> Result<(), Fault> {
        db.each(bucket, &mut |key, value| {
            let path = key.iter().fold(format!("{path}/"), |path, byte| path + &format!("{byte:02x}"));
            match value {
                Value::Bytes(bytes, _) => {
                    text.push_str(&format!("{path} = {} bytes, {:016x}\n", bytes.len(), fnv1a(bytes)));
                    Ok(())
                }
                Value::Bucket(bucket) => {
                    text.push_str(&format!("{path}\n"));
                    below(db, &path, bucket, text)
                }
            }
        })
    }
    let reader = Reader::open(path);
    let db = Db::new(&reader, reader.newest().unwrap());
    let mut text = String::new();
    below(&db, "", db.root(), &mut text).unwrap();
    text
}

#[test]
fn bbolt_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for (number, options) in [
        &["-pagesize=4096"][..],
        &["-pagesize=4096", "-nofreelist"],
        &["-pagesize=4096", "-nofreelist", "-v2"],
        &["-pagesize=16384"],
        &["-pagesize=16384", "-nofreelist", "-v2"],
        &["-pagesize=65536", "-v2"],
        &["-pagesize=65536", "-nofreelist"],
    ]
    .iter()
    .enumerate()
    {
        let path = dir.path().join(format!("{number}.db"));
        output(tool("node").args(*options).args(["-pods", "60"]).arg(&path));
        let records = same_records(&path);
        assert_eq!(records.lines().count(), if options.contains(&"-v2") { 240 } else { 180 });
        // And after containers came and went.
        let writer = Writer::start("node", &[*options, &["-churn", "300"]].concat(), &path);
        let reader = Reader::open(&path);
        let first: Meta = reader.newest().unwrap();
        while reader.newest().unwrap().txid < first.txid + 100 {
            sleep(Duration::from_millis(10));
        }
        writer.end();
        assert_ne!(same_records(&path), records);
    }
}

/// Reads a database in both ways; what it says.
fn same_records(path: &Path) -> String {
    assert_eq!(every_key(path), output(tool("dump").arg("-all").arg(path)));
    let reader = Reader::open(path);
    let records = records(&Db::new(&reader, reader.newest().unwrap())).unwrap();
    let time = |created: Option<jiff::Timestamp>| {
        let created = created.unwrap();
        format!("{}.{:09}", created.as_second(), created.subsec_nanosecond())
    };
    let (mut containers, mut sandboxes) = (Vec::new(), Vec::new());
    for (id, sandbox) in &records.sandboxes {
        for (lines, bucket, record) in [
            (&mut containers, "containers", sandbox.in_containers.as_ref()),
            (&mut sandboxes, "sandboxes", sandbox.in_sandboxes.as_deref()),
        ] {
            let Some(record) = record else { continue };
            let metadata = record.metadata.as_ref().unwrap();
            let attempt = metadata.pod().unwrap().attempt;
            lines.push(format!("{bucket} {id} {} sandbox {} {attempt}\n", time(record.created), metadata.name()));
        }
    }
    for (id, record) in &records.containers {
        let metadata = record.metadata.as_ref().unwrap();
        let attempt = metadata.container().unwrap().1;
        containers.push(format!("containers {id} {} container {} {attempt}\n", time(record.created), metadata.name()));
    }
    // By their ids, as they are in the file.
    containers.sort();
    let text = [containers, sandboxes].concat().concat();
    assert_eq!(text, output(tool("dump").arg(path)));
    text
}
