//! Files that systemd wrote, of each format there is, beside what the journalctl of that systemd prints of them.

use std::collections::BTreeMap;
use std::io::Read;

use nodecheck::parse::journal::{Entry, Fault, Header, Reader, fuzz};

use super::tools::{Line, lines, number, same};
use crate::support::here;

const UNIT: &str = "snap.microk8s.daemon-k8s-dqlite.service";

fn unpacked(name: &str) -> Vec<u8> {
    let packed = std::fs::read(here().join("tests/journal/samples").join(name)).unwrap();
    let mut bytes = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(&packed[..]).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn journals() -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(here().join("tests/journal/samples")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let journals = names.filter_map(|name| Some((name.strip_suffix(".journal.zst")?.to_owned(), unpacked(&name))));
    let journals: BTreeMap<_, _> = journals.collect();
    assert!(journals.len() >= 6);
    journals
}

fn sealed() -> Vec<u8> {
    unpacked("v255-sealed.journal.zst")
}

#[test]
fn each_is_read_as_its_own_journalctl_reads_it() {
    let mut unread = BTreeMap::new();
    for (name, journal) in journals() {
        let golden = lines(&unpacked(&format!("{name}.json.zst")));
        assert_eq!(golden.len(), 1500, "{name}");
        let all: Vec<&Line> = golden.iter().collect();
        unread.insert(name, same(&journal, &[], (0, u64::MAX), &all));
        let is_unit = |line: &Line| line.get("_SYSTEMD_UNIT").is_some_and(|unit| unit == UNIT);
        let field = format!("_SYSTEMD_UNIT={UNIT}");
        let of_unit: Vec<&Line> = all.iter().copied().filter(|line| is_unit(line)).collect();
        assert!(of_unit.len() > 100);
        same(&journal, &[field.as_bytes()], (0, u64::MAX), &of_unit);
        let kernel = |line: &&Line| is_unit(line) || line["_TRANSPORT"] == "kernel";
        let both: Vec<&Line> = all.iter().copied().filter(kernel).collect();
        same(&journal, &[b"_TRANSPORT=kernel", field.as_bytes()], (0, u64::MAX), &both);
        // The last ten minutes, and windows that begin or end at an entry.
        let time = |line: &Line| number(line, "__REALTIME_TIMESTAMP");
        let last = time(all[1499]);
        for (since, until) in
            [(last - 600_000_000, last), (time(all[700]), time(all[701])), (time(all[3]), time(all[3]))]
        {
            let inside = |line: &&&Line| (since..=until).contains(&time(line));
            let inside: Vec<&Line> = all.iter().filter(inside).copied().collect();
            same(&journal, &[], (since, until), &inside);
            let inside: Vec<&Line> = inside.into_iter().filter(|line| is_unit(line)).collect();
            same(&journal, &[field.as_bytes()], (since, until), &inside);
        }
    }
    // Only XZ is not read, and it is told.
    for (name, unread) in unread {
        assert_eq!(unread > 0, name.contains("XZ"), "{name}: {unread}");
    }
}

/// The formats are those that their names say.
#[test]
fn every_format_is_there() {
    let all: Vec<(u64, u32)> = journals()
        .values()
        .map(|journal| (Header::read(journal).unwrap().size, u32::from_le_bytes(journal[12..16].try_into().unwrap())))
        .collect();
    for wanted in [(240, 2), (256, 12), (272, 18), (272, 4), (272, 21), (272, 28)] {
        assert!(all.contains(&wanted), "{wanted:?} of {all:?}");
    }
}

/// How many entries are there, and what is broken.
fn told(journal: &[u8]) -> Result<(usize, u64), String> {
    let mut reader = Reader::open(journal).map_err(|fault| fault.to_string())?;
    let mut walk = reader.walk(&[], 0, u64::MAX).unwrap();
    let (mut entry, mut count) = (Entry::default(), 0);
    while walk.next(&mut reader, &mut entry).unwrap().is_some() {
        match reader.field(&entry, b"MESSAGE") {
            Ok(_) => count += 1,
            Err(Fault::Damaged { .. }) => {}
            Err(fault) => panic!("{fault}"),
        }
    }
    Ok((count, reader.broken()))
}

#[test]
fn damaged_ones() {
    let sound = sealed();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut journal = sound.clone();
        change(&mut journal);
        fuzz(&journal);
        told(&journal)
    };
    let number = |at: usize| u64::from_le_bytes(sound[at..at + 8].try_into().unwrap()) as usize;
    assert_eq!(with(&|_| {}), Ok((1500, 0)));
    assert_eq!(with(&|journal| journal.truncate(272)), Ok((0, 1)));
    assert_eq!(with(&|journal| journal.truncate(200)), Err("it is no journal: the file ends in its header".to_owned()));
    assert_eq!(with(&|journal| journal[..8].fill(b'X')), Err("it is no journal: no signature".to_owned()));
    let segmented = "it has the incompatible flag 0x20 (a newer journal format)";
    assert_eq!(with(&|journal| journal[12] |= 32), Err(segmented.to_owned()));
    assert_eq!(with(&|journal| journal[11] |= 128), Ok((1500, 0)), "a compatible flag");
    // A header that was not written before the power went.
    assert_eq!(with(&|journal| journal[192..200].fill(0)), Ok((1500, 0)));
    // The first array leads to itself.
    let array = number(176);
    let in_first = (number(array + 8) - 24) / 4;
    assert_eq!(with(&|journal| journal.copy_within(176..184, array + 16)), Ok((in_first, 1)));
    // Cut, as journald of systemd 250 to 254 cuts what it archives, but too short.
    for percent in [95, 99] {
        let used = number(136);
        let (count, broken) = with(&|journal| journal.truncate(used / 100 * percent)).unwrap();
        assert!((1000..1500).contains(&count) && broken > 0, "{percent} %: {count}, {broken}");
    }
    // Zeros from there on.
    let used = number(136);
    let (count, broken) = with(&|journal| journal[used / 100 * 97..].fill(0)).unwrap();
    assert!((1000..1500).contains(&count) && broken > 0, "{count}, {broken}");
}
