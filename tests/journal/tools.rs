//! Debian's own writer and reader of journals, and what both say of one file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nodecheck::parse::ReadAt;
use nodecheck::parse::journal::{Entry, Fault, Reader};
use serde_json::Value;

/// An entry as journalctl prints it: `_SYSTEMD_UNIT`, and its own `__REALTIME_TIMESTAMP` and the like.
pub type Line = BTreeMap<String, Value>;

/// What `journalctl -o json --all` prints.
pub fn journalctl(arguments: &[&str]) -> Vec<Line> {
    let mut command = Command::new("journalctl");
    let output =
        command.args(["-o", "json", "--all", "--quiet"]).args(arguments).output().expect("systemd is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    lines(&output.stdout)
}

pub fn lines(json: &[u8]) -> Vec<Line> {
    json.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// Has systemd-journal-remote write an export to a file.
pub fn remote(path: &Path, environment: &[(&str, &str)], options: &[&str], export: &[u8]) {
    let mut command = Command::new("/lib/systemd/systemd-journal-remote");
    command.args(["--split-mode=none", "-o"]).arg(path).args(options).arg("-").envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("systemd-journal-remote is installed");
    child.stdin.take().unwrap().write_all(export).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Entries in the export format: several units, messages of all kinds.
pub fn export(first: u64, count: u64) -> Vec<u8> {
    let mut export = Vec::new();
    for number in first..first + count {
        let realtime = START + number * 10_000;
        let unit = UNITS[(number * number % 7) as usize % UNITS.len()];
        let message: Vec<u8> = match number % 11 {
            0 => format!("a long one {number} {}", "lorem ipsum ".repeat(60 + (number % 40) as usize)).into_bytes(),
            1 => format!("two lines\nof {number}").into_bytes(),
            2 => [&b"\x1b[31mcoloured\xff\x00"[..], &number.to_le_bytes()].concat(),
            3 => b"the same text each time".to_vec(),
            4 if number % 121 == 4 => vec![b'0' + (number % 10) as u8; 60_000],
            _ => format!("text {number}").into_bytes(),
        };
        let mut field = |name: &str, value: &[u8]| {
            export.extend(name.as_bytes());
            if value.iter().all(|byte| (b' '..=b'~').contains(byte)) {
                export.push(b'=');
            } else {
                export.push(b'\n');
                export.extend((value.len() as u64).to_le_bytes());
            }
            export.extend(value);
            export.push(b'\n');
        };
        field("__REALTIME_TIMESTAMP", realtime.to_string().as_bytes());
        field("__MONOTONIC_TIMESTAMP", (1_000_000 + number * 10_000).to_string().as_bytes());
        field("_BOOT_ID", b"4f0ba3642ec855807cbfedf50982f030");
        field("_SYSTEMD_UNIT", unit.as_bytes());
        field("PRIORITY", (number % 8).to_string().as_bytes());
        field("_CMDLINE", format!("/usr/bin/{unit} {}", "--option ".repeat(number as usize % 3 * 40)).as_bytes());
        field("MESSAGE", &message);
        export.push(b'\n');
    }
    export
}

/// 2026-11-21T00:00:00Z, in microseconds.
pub const START: u64 = 1_795_219_200_000_000;
pub const UNITS: [&str; 4] = ["kubelite.service", "containerd.service", "cron.service", "init.scope"];

pub fn number(line: &Line, name: &str) -> u64 {
    line[name].as_str().unwrap().parse().unwrap()
}

/// The values of a field: most have one. `None` where journalctl left it out for its length.
fn values(value: &Value) -> Option<Vec<Vec<u8>>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(vec![text.clone().into_bytes()]),
        Value::Array(items) if items.iter().all(Value::is_u64) => {
            Some(vec![items.iter().map(|byte| byte.as_u64().unwrap() as u8).collect()])
        }
        Value::Array(items) => items.iter().map(|item| Some(values(item)?.remove(0))).collect(),
        other => panic!("no value of a field: {other}"),
    }
}

/// Asserts that a walk gives these entries, with all their fields. How many fields it did not read.
pub fn same<F: ReadAt + ?Sized>(file: &F, matches: &[&[u8]], (since, until): (u64, u64), want: &[&Line]) -> u64 {
    let mut reader = Reader::open(file).unwrap();
    let mut walk = reader.walk(matches, since, until).unwrap();
    let (mut entry, mut count, mut unread) = (Entry::default(), 0, 0);
    while walk.next(&mut reader, &mut entry).unwrap().is_some() {
        let line = want.get(count).unwrap_or_else(|| panic!("more than {count} entries"));
        count += 1;
        assert_eq!(entry.realtime, number(line, "__REALTIME_TIMESTAMP"), "entry {count}");
        assert_eq!(entry.monotonic, number(line, "__MONOTONIC_TIMESTAMP"));
        let boot: String = entry.boot_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(boot, line["_BOOT_ID"].as_str().unwrap());
        if let Some(seqnum) = line.get("__SEQNUM") {
            assert_eq!(entry.seqnum, seqnum.as_str().unwrap().parse::<u64>().unwrap());
        }
        for (name, value) in line.iter().filter(|(name, _)| !name.starts_with("__")) {
            let Some(values) = values(value) else { continue };
            match reader.field(&entry, name.as_bytes()) {
                Ok(Some(value)) => {
                    assert!(values.iter().any(|known| known == value), "entry {count}: {name}: {value:?}")
                }
                Err(Fault::Unread { .. }) => unread += 1,
                other => panic!("entry {count}: {name}: {other:?}"),
            }
        }
    }
    assert_eq!((count, reader.broken()), (want.len(), 0), "{matches:?} {since} {until}");
    unread
}
