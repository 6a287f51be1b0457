//! The kernel's log as `/dev/kmsg` has it, and what it tells of OOM kills.
//!
//! A record is `priority,sequence,microseconds,flags[,more];text` (`Documentation/ABI/testing/dev-kmsg`). One `read(2)`
//! gives one record; a file of records is what several reads gave.
//!
//! The log names the victim and the limit, and is never the count: the kernel prints a report's header at most ten times
//! in five seconds (`oom_kill_process` in `mm/oom_kill.c`), and the ring forgets.

mod line;
mod log;

pub use line::{Header, Killed, Line, Scope};
pub use log::{Evidence, Kill, Log};

/// The kernel's own facility; what a program writes to /dev/kmsg has another.
const KERNEL: u64 = 0;
/// No record is longer (`CONSOLE_EXT_LOG_MAX`; `PRINTK_MESSAGE_MAX`, 2048, in later kernels). A shorter buffer makes `read(2)`
/// fail with EINVAL.
pub const LONGEST_RECORD: usize = 8192;

/// Why a line is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a record of /dev/kmsg")]
pub struct Error(String);

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whether the kernel itself wrote it.
    pub is_kernel: bool,
    /// Its number since boot: the next one has the next, unless the ring overtook the reader.
    pub sequence: u64,
    /// Microseconds since boot by the kernel's own clock, which stands still in suspend.
    pub microsecond: u64,
    /// Whether it goes on with a line that another record began.
    pub is_fragment: bool,
    /// The thread or processor that wrote it (`CONFIG_PRINTK_CALLER`).
    pub caller: Option<&'a str>,
    /// The text, still escaped.
    pub raw: &'a str,
}

impl<'a> Record<'a> {
    /// Reads one record: a line without its end. Continuation lines (` KEY=VALUE`) are not part of it.
    pub fn parse(line: &'a [u8]) -> Result<Record<'a>, Error> {
        let wrong = || Error(line.get(..60).unwrap_or(line).escape_ascii().to_string());
        // The kernel escapes all that is not printable ASCII.
        let text = std::str::from_utf8(line).ok().filter(|text| text.bytes().all(|b| (b' '..=b'~').contains(&b)));
        Record::of(text.ok_or_else(wrong)?).ok_or_else(wrong)
    }

    fn of(line: &'a str) -> Option<Record<'a>> {
        let (head, raw) = line.split_once(';')?;
        let mut fields = head.split(',');
        let mut number = || {
            let field = fields.next()?;
            field.bytes().all(|byte| byte.is_ascii_digit()).then_some(field)?.parse::<u64>().ok()
        };
        let (priority, sequence, microsecond) = (number()?, number()?, number()?);
        let flags = fields.next()?;
        Some(Record {
            is_kernel: priority.checked_shr(3)? == KERNEL,
            sequence,
            microsecond,
            is_fragment: flags.contains('c'),
            caller: fields.find_map(|field| field.strip_prefix("caller=")),
            raw,
        })
    }

    /// The text with `\x0a` and its like replaced by what they stand for; what is not UTF-8 then is replaced by U+FFFD.
    pub fn text(&self) -> String {
        let mut pieces = self.raw.split("\\x");
        let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
        for piece in pieces {
            let (code, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
            match u8::from_str_radix(code, 16) {
                Ok(byte) if code.len() == 2 => bytes.push(byte),
                _ => bytes.extend([b"\\x", code.as_bytes()].concat()),
            }
            bytes.extend(rest.as_bytes());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The records of a file, each as [`Record::parse`] reads it. What is left of a record at the end is none.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Error>> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    lines.filter(|line| !line.starts_with(b" ")).map(Record::parse)
}

/// For the fuzzer: what is told was in the bytes.
pub fn fuzz(data: &[u8]) {
    for record in records(data).flatten() {
        let text = record.text();
        assert!(text.len() <= record.raw.len().saturating_mul(3));
        line::fuzz(text.as_bytes());
    }
    line::fuzz(data);
    log::fuzz(data);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        match Record::parse(line.as_bytes()) {
            Ok(r) => format!(
                "{}{} {} {}{} {}",
                if r.is_kernel { "kernel " } else { "" },
                r.sequence,
                r.microsecond,
                if r.is_fragment { "c" } else { "-" },
                r.caller.unwrap_or_default(),
                r.text().escape_debug()
            ),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn one_record() {
        for (line, want) in [
            ("4,346,957930610,-;hog invoked oom-killer", "kernel 346 957930610 - hog invoked oom-killer"),
            ("3,1,2,-,caller=T1217;x", "kernel 1 2 -T1217 x"),
            ("3,1,2,c,caller=C0,later=1;,task=x", "kernel 1 2 cC0 ,task=x"),
            ("30,340,5690716,-;udevd[80]: starting", "340 5690716 - udevd[80]: starting"),
            ("6,18446744073709551615,0,-;", "kernel 18446744073709551615 0 - "),
            ("6,1,2,-;a;b", "kernel 1 2 - a;b"),
            (
                "6,1,2,-;new\\x0aline tab\\x09\\x5cx41 \\xc3\\xa4 \\xff",
                "kernel 1 2 - new\\nline tab\\t\\\\x41 ä \u{fffd}",
            ),
            ("6,1,2,-;\\x \\xg1 \\x4", "kernel 1 2 - \\\\x \\\\xg1 \\\\x4"),
        ] {
            assert_eq!(told(line), want, "{line}");
        }
        for line in [
            "",
            "x",
            ";",
            "4,346;x",
            "4,346,957930610;x",
            "4,-1,957930610,-;x",
            "+4,1,1,-;x",
            "4,18446744073709551616,1,-;x",
            "4,1,,-;x",
            ",,,;x",
            "4,1,1,-;caf\u{e9}",
            "4,1,1,-;\u{7f}",
            "[  992.393069] hog invoked oom-killer",
        ] {
            assert!(told(line).ends_with("is not a record of /dev/kmsg"), "{line:?}: {}", told(line));
        }
    }

    #[test]
    fn a_file_of_records() {
        let file = "6,1,1,-;a\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n6,2,1,-;b\nrubbish\n6,3,1,-;c\n6,4,1,-;cut";
        let texts: Vec<String> = records(file.as_bytes()).map(|r| r.map_or("-".into(), |r| r.text())).collect();
        assert_eq!(texts, ["a", "b", "-", "c"]);
        assert_eq!(records(b"").count(), 0);
    }

    #[test]
    fn every_prefix() {
        let sample = b"3,425,5937835761,-,caller=T1;Killed process 1 (\\x0a) total-vm:1kB\n A=b\n6,426,1,c;x\n";
        for end in 0..=sample.len() {
            fuzz(&sample[..end]);
        }
    }
}
