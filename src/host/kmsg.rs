//! The kernel's log: all that its ring still holds.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{fstat, major, minor};
use nix::unistd::read;

use super::record::Seen;
use super::{Error, FileKind, Host, Source};
use crate::parse::kmsg::{LONGEST_RECORD, Line, Record, records};

pub(super) const PATH: &str = "/dev/kmsg";
/// `Documentation/admin-guide/devices.txt`.
const DEVICE: (u64, u64) = (1, 11);
/// Rings are some hundred KiB; a distribution's kernel for large machines has a few MiB.
const MOST_BYTES: usize = 16 << 20;
/// A writer that never stops must not hold the look for ever.
const MOST_RECORDS: usize = 200_000;
/// As many records after the beginning of a line may hold its pieces (`parse/kmsg/log.rs`).
const MOST_PIECES: usize = 16;

/// What the ring holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kmsg {
    /// Every record as `read(2)` gave it, joined: what [`Log::read`](crate::parse::kmsg::Log::read) takes.
    pub records: Vec<u8>,
    /// Whether records are missing after the first one: the kernel wrote faster than they could be read, or there were
    /// more than are read at all (16 MiB, 200,000 records).
    pub overrun: bool,
}

impl Host {
    /// Reads the kernel's log from the oldest record on. Consumes nothing: every reader has a place of its own.
    pub fn kmsg(&self) -> Result<Kmsg, Error> {
        let read = match &*self.source {
            Source::Live => self.ring().and_then(|ring| {
                let drained = drain(|buffer| read(&ring, buffer));
                self.note(PATH, || match &drained {
                    Ok(kmsg) => Seen::Content(kmsg.records.clone()),
                    Err(errno) => Seen::Unreadable(*errno),
                });
                self.os(PATH, drained)
            }),
            // A ring belongs to a machine, and this one's is of another node.
            Source::Root => Err(Error::Absent("no kernel log in a tree".to_owned())),
            Source::Scenario(recorded) => match (self.read(PATH, MOST_BYTES as u64), recorded.kind(PATH)) {
                (Ok(records), _) => Ok(Kmsg { overrun: has_gap(&records), records }),
                (Err(Error::Failed(_)), Some(kind)) => Err(is_no_log(kind)),
                (Err(error), _) => Err(error),
            },
        };
        read.map_err(|error| match error {
            Error::Denied { what, .. } => {
                Error::Denied { what, need: "CAP_SYSLOG (kernel.dmesg_restrict=1) or root".to_owned() }
            }
            error => error,
        })
    }

    /// Opens the ring, and nothing else that has its name: opening another device could change something.
    fn ring(&self) -> Result<OwnedFd, Error> {
        let check = |fd: OwnedFd| {
            let stat = self.os(PATH, fstat(&fd))?;
            let kind = FileKind::of_mode(stat.st_mode);
            if kind == FileKind::Device && (major(stat.st_rdev), minor(stat.st_rdev)) == DEVICE {
                return Ok(fd);
            }
            self.note(PATH, || Seen::Kind(kind));
            Err(is_no_log(kind))
        };
        check(self.os(PATH, self.open_fd(PATH, OFlag::O_PATH))?)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        check(self.os(PATH, self.open_fd(PATH, flags))?)
    }
}

fn is_no_log(kind: FileKind) -> Error {
    Error::Failed(format!("{PATH} is {kind}, not the kernel's log"))
}

/// Reads record by record until there is none left, or there were too many.
fn drain(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Kmsg, Errno> {
    let mut kmsg = Kmsg::default();
    let mut buffer = [0; LONGEST_RECORD];
    // The answers that give no record are counted too: a ring that is overtaken for ever.
    for _ in 0..MOST_RECORDS {
        if kmsg.records.len() + buffer.len() > MOST_BYTES {
            break;
        }
        match read(&mut buffer) {
            Ok(0) | Err(Errno::EAGAIN) => return Ok(kmsg),
            Ok(length) => kmsg.records.extend_from_slice(buffer.get(..length).ok_or(Errno::EIO)?),
            // The next record was overwritten; the one after the gap is read next. Before the first one nothing is missing.
            Err(Errno::EPIPE) => kmsg.overrun |= !kmsg.records.is_empty(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    kmsg.overrun = true;
    Ok(kmsg)
}

/// Whether a number is left out: all that a recording keeps of an overrun.
fn has_gap(bytes: &[u8]) -> bool {
    let numbers: Vec<u64> = records(bytes).flatten().map(|record| record.sequence).collect();
    numbers.windows(2).any(|pair| matches!(pair, [one, next] if *next > one.saturating_add(1)))
}

/// The records with no text but that of OOM reports: a log is full of what is nobody else's business. Their numbers and
/// times stay, so that none seems lost.
pub(super) fn oom_reports(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    // Who prints a line in pieces, and how many records may still hold one.
    let mut begun: Option<(Option<&str>, usize)> = None;
    let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    for line in whole.filter(|line| !line.starts_with(b" ")) {
        match Record::parse(line) {
            Ok(record) if is_of_report(&record, &mut begun) => kept.extend_from_slice(line),
            Ok(record) => kept.extend_from_slice(&line[..line.len() - record.raw.len()]),
            // As unreadable as it was.
            Err(_) => {}
        }
        kept.push(b'\n');
    }
    kept
}

fn is_of_report<'a>(record: &Record<'a>, begun: &mut Option<(Option<&'a str>, usize)>) -> bool {
    if !record.is_kernel {
        return false;
    }
    let is_piece = matches!(begun, Some((caller, _)) if record.is_fragment && *caller == record.caller);
    *begun = begun.and_then(|(caller, left)| Some((caller, left.checked_sub(1)?)));
    let text = record.text();
    if Line::parse(&text).is_some() {
        return true;
    }
    if ["oom-kill:constraint=", "Tasks in "].iter().any(|start| text.starts_with(start)) {
        *begun = Some((record.caller, MOST_PIECES));
        return true;
    }
    is_piece
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::parse::kmsg::Log;

    /// The answers of a ring, in turn; then it has no more.
    fn drained(answers: &[Result<&str, Errno>]) -> Result<(String, bool), Errno> {
        let mut answers = answers.iter();
        let kmsg = drain(|buffer| {
            let record = answers.next().copied().unwrap_or(Err(Errno::EAGAIN))?.as_bytes();
            buffer[..record.len()].copy_from_slice(record);
            Ok(record.len())
        })?;
        Ok((String::from_utf8(kmsg.records).unwrap(), kmsg.overrun))
    }

    #[test]
    fn a_ring_is_read_to_its_end() {
        let (one, two) = (Ok("6,1,1,-;a\n"), Ok("6,2,1,-;b\n A=b\n"));
        let both = "6,1,1,-;a\n6,2,1,-;b\n A=b\n".to_owned();
        assert_eq!(drained(&[one, two]), Ok((both.clone(), false)));
        assert_eq!(drained(&[one, Err(Errno::EINTR), two, Ok(""), one]), Ok((both.clone(), false)));
        assert_eq!(drained(&[one, Err(Errno::EPIPE), two]), Ok((both.clone(), true)));
        assert_eq!(drained(&[Err(Errno::EPIPE), one, two]), Ok((both, false)));
        assert_eq!(drained(&[one, Err(Errno::EINVAL), two]), Err(Errno::EINVAL));
        assert_eq!(drained(&[]), Ok((String::new(), false)));
    }

    #[test]
    fn a_writer_that_never_stops_is_left() {
        let endless = |length: usize| {
            let kmsg = drain(|buffer| {
                buffer[..length].fill(b'x');
                Ok(length)
            });
            let kmsg = kmsg.unwrap();
            assert!(kmsg.overrun);
            kmsg.records.len()
        };
        assert_eq!(endless(10), 10 * MOST_RECORDS);
        let longest = endless(LONGEST_RECORD);
        assert!(longest <= MOST_BYTES && longest + LONGEST_RECORD >= MOST_BYTES, "{longest}");
        assert_eq!(drain(|_| Err(Errno::EPIPE)), Ok(Kmsg { records: Vec::new(), overrun: true }));
    }

    #[test]
    fn the_log_of_this_machine() {
        let host = Host::live().unwrap();
        match (File::open(PATH), host.kmsg()) {
            (Ok(_), Ok(kmsg)) => {
                let log = Log::read(&kmsg.records);
                assert!(log.first.is_some() && log.unreadable == 0 && kmsg.records.ends_with(b"\n"), "{log:?}");
                assert_eq!(log.lost > 0, kmsg.overrun);
            }
            (Ok(_), Err(Error::Failed(text))) => eprintln!("not tested: {text}"),
            (Err(why), Err(error)) => {
                eprintln!("not tested, since this process may not read the kernel's log: {why}");
                let denied = "/dev/kmsg: permission denied; needs CAP_SYSLOG (kernel.dmesg_restrict=1) or root";
                assert!(error.to_string() == denied || error.is_absent(), "{error}");
                // A file that is barred bars no system call.
                let other = Host::live().unwrap();
                other.exists("/proc").unwrap();
                assert_eq!(host.tree.walks(), other.tree.walks());
            }
            (opened, read) => panic!("{opened:?}, but {read:?}"),
        }
    }

    #[test]
    fn no_ring_but_that_of_the_node() {
        let dir = tempfile::tempdir().unwrap();
        create_dir_all(dir.path().join("root/dev")).unwrap();
        write(dir.path().join("clock"), "2026-11-21T03:22:00Z").unwrap();
        let told = |stats: &str| {
            write(dir.path().join("stat.toml"), stats).unwrap();
            Host::scenario(dir.path()).unwrap().kmsg().map_err(|error| error.to_string())
        };
        symlink("/dev/null", dir.path().join("root/dev/kmsg")).unwrap();
        let tree = Host::at_root(&dir.path().join("root")).unwrap();
        assert_eq!(tree.kmsg(), Err(Error::Absent("no kernel log in a tree".to_owned())));
        std::fs::remove_file(dir.path().join("root/dev/kmsg")).unwrap();
        assert_eq!(told(""), Err("no /dev/kmsg".to_owned()));
        let denied = "/dev/kmsg: permission denied; needs CAP_SYSLOG (kernel.dmesg_restrict=1) or root".to_owned();
        assert_eq!(told("['/dev/kmsg']\nerrno = 'EPERM'"), Err(denied));
        for (records, overrun) in [("6,1,1,-;a\n6,2,1,-;b\n", false), ("6,1,1,-;a\n6,3,1,-;b\n", true), ("", false)] {
            write(dir.path().join("root/dev/kmsg"), records).unwrap();
            assert_eq!(told(""), Ok(Kmsg { records: records.into(), overrun }));
        }
        assert_eq!(
            told("['/dev/kmsg']\nkind = 'device'"),
            Err("/dev/kmsg is a device, not the kernel's log".to_owned())
        );
    }

    #[test]
    fn a_recording_has_the_reports_and_nothing_else() {
        let captures: [&[u8]; 4] = [
            include_bytes!("../../tests/captures/kmsg/names"),
            include_bytes!("../../tests/captures/kmsg/burst"),
            include_bytes!("../../tests/captures/kmsg/group-kill"),
            include_bytes!("../../tests/captures/kmsg/global"),
        ];
        let pieces = b"6,1,1,-,caller=T1;Killed process 7 (a) total-vm:1kB\n6,2,1,-,caller=T1;Tasks in \n\
            6,3,1,c,caller=T2;hunter2\n6,4,1,-,caller=T2;hunter2\n6,5,1,c,caller=T1;/g1\nhunter2\n\
            6,6,1,c,caller=T1; are going to be killed due to memory.oom.group set\n A=hunter2\n\
            12,8,1,-;Out of memory: Killed process 7 (hunter2) total-vm:1kB\n6,9,1,c,caller=T3;hunter2\n6,10,1,-;hunt";
        for log in captures.into_iter().chain([&pieces[..]]) {
            let kept = oom_reports(log);
            assert_eq!(Log::read(&kept), Log::read(log));
            assert!(!kept.windows(4).any(|bytes| bytes == b"hunt"), "{}", kept.escape_ascii());
            assert_eq!(oom_reports(&kept), kept);
        }
        assert_eq!(Log::read(pieces).kills[0].cgroup.as_deref(), Some("/g1"));
        assert_eq!(
            oom_reports(b"6,1,2,-,caller=T1;usb 1-1: SerialNumber: 42\n SUBSYSTEM=usb\n"),
            b"6,1,2,-,caller=T1;\n"
        );
    }

    #[test]
    fn a_recording_of_this_machine_tells_the_same() {
        let out = tempfile::tempdir().unwrap();
        let host = Host::live().unwrap().recording();
        let live = host.kmsg();
        host.recorded().unwrap().write(out.path(), host.now().wall).unwrap();
        let replayed = Host::scenario(out.path()).unwrap().kmsg();
        let told = |kmsg: Result<Kmsg, Error>| kmsg.map(|kmsg| (Log::read(&kmsg.records), kmsg.overrun));
        assert_eq!(told(replayed), told(live));
    }
}
