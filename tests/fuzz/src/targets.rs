//! What is fuzzed, one line each: every parser, and what else reads bytes that somebody else wrote.
//!
//! The fuzzer runs them (tests/fuzz/src/main.rs), and the ordinary tests replay their corpora (tests/corpus.rs).

use nodecheck::catalog::Catalog;
use nodecheck::config::{Settings, entries};
use nodecheck::history::{History, Trace};
use nodecheck::host::Moment;
use nodecheck::parse;
use nodecheck::parse::bolt::{Db, Meta};
use nodecheck::threshold::Range;

/// A name and what it does with any bytes: nothing, or panic.
pub type Target = (&'static str, fn(&[u8]));

/// The name of a parser's target is that of its file in src/parse/.
pub const TARGETS: &[Target] = &[
    ("bolt", a_bolt_database),
    ("bootloader", parse::bootloader::fuzz),
    ("cgroup", parse::cgroup::fuzz),
    ("containerd", a_database_of_containerd),
    ("ipvs", parse::ipvs::fuzz),
    ("journal", parse::journal::fuzz),
    ("kernel", parse::kernel::fuzz),
    ("kmsg", parse::kmsg::fuzz),
    ("log", parse::log::fuzz),
    ("nftables", parse::nftables::fuzz),
    ("nrpe", parse::nrpe::fuzz),
    ("process", parse::process::fuzz),
    ("reboot_flag", parse::reboot_flag::fuzz),
    ("release", parse::release::fuzz),
    ("ruleset", parse::ruleset::fuzz),
    ("xtables", a_table_of_x_tables),
    ("definition", a_definition),
    ("history", a_history),
    ("range", a_range),
    ("settings", the_settings),
];

fn a_bolt_database(data: &[u8]) {
    parse::bolt::fuzz(data);
    parse::bolt::fuzz(&sealed(data));
}

/// What a recording keeps of it says the same.
fn a_database_of_containerd(data: &[u8]) {
    parse::containerd::fuzz(data);
    let file = sealed(data);
    parse::containerd::fuzz(&file);
    let Ok(meta) = Meta::newest(&file) else { return };
    let told = |db: &Db<'_, Vec<u8>>| parse::containerd::records(db).map_err(|fault| fault.to_string());
    let db = Db::inked(&file, meta.clone());
    let want = told(&db);
    let mut rest = vec![0; file.len()];
    for span in db.into_spans() {
        let at = span.at as usize;
        rest[at..at + span.bytes.len()].copy_from_slice(&span.bytes);
    }
    assert_eq!(told(&Db::new(&rest, meta)), want);
}

/// A database whose two metas have the right checksums: no mutation comes upon one.
fn sealed(data: &[u8]) -> Vec<u8> {
    let mut file = data.to_vec();
    let page_size = file.get(24..28).map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().unwrap()));
    for meta in [0, page_size as usize] {
        if let Some(meta) = file.get_mut(meta + 16..meta + 80) {
            let (covered, checksum) = meta.split_at_mut(56);
            let fnv1a = covered
                .iter()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
            checksum.copy_from_slice(&fnv1a.to_ne_bytes());
        }
    }
    file
}

/// As it is, and with the sizes that it has: no mutation comes upon them.
fn a_table_of_x_tables(data: &[u8]) {
    parse::xtables::fuzz(data);
    let before = parse::xtables::INFO + parse::xtables::HEADER;
    if let Some(size) = data.len().checked_sub(before) {
        let mut table = data.to_vec();
        table[80..84].copy_from_slice(&(size as u32).to_ne_bytes());
        let header = parse::xtables::header(table[..32].try_into().unwrap(), size as u32);
        table[parse::xtables::INFO..before].copy_from_slice(&header);
        parse::xtables::fuzz(&table);
    }
}

/// A definition is refused with faults that have a place, or becomes a check.
fn a_definition(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut catalog = Catalog::default();
    catalog.add_definition("name", "file", text, false);
    for fault in catalog.all_faults() {
        assert!(fault.to_string().starts_with("file:"), "{fault}");
    }
}

/// nodecheck.toml: as a definition.
fn the_settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (entries, syntax) = entries("file", text, false);
    let (_, checks, faults) = Settings::take(entries);
    for fault in syntax.iter().chain(&faults) {
        assert!(fault.to_string().starts_with("file:"), "{fault}");
    }
    assert!(checks.iter().all(|entry| entry.path.len() > 1));
}

/// A state file that is taken is written back the same, and a look can be added to it whatever it holds.
fn a_history(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let history = History::in_memory();
    if history.seed("check", text).is_err() {
        return;
    }
    let again = History::in_memory();
    if let Some(written) = history.export("check") {
        again.seed("check", &written).unwrap();
        assert_eq!(again.export("check"), Some(written));
    }
    let wall = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let now = Moment { wall, boot: Some("boot".to_owned()), uptime: Some(1000.0) };
    let past = history.load("check", &now);
    let notes = past.notes("").map(|(key, note)| (key.to_owned(), note.value.clone()));
    for moment in past.notes("").flat_map(|(_, note)| [&note.first, &note.last]).chain(past.last_look()) {
        let _ = (now.since(moment), moment.since(&now), moment.boot_time());
    }
    history.record("check", &now, &Trace::default().group("", notes), past.streak().cloned());
    assert!(history.export("check").is_some());
}

/// A range that is taken is printed as one that means the same.
fn a_range(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(range) = text.parse::<Range>() {
        let printed = range.to_string();
        assert_eq!(printed.parse(), Ok(range), "'{text}' is printed as '{printed}'");
    }
}
