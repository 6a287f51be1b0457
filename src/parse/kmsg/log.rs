//! A log read from its beginning: who was killed, where, and at which limit.

use super::{Header, Killed, Line, Record, records};

/// A line that the kernel prints in pieces has at most ten: a key and a path each.
const MOST_PIECES: usize = 16;
/// The lines of one kill are printed under one lock, at the pace of the console.
const SAME_KILL: u64 = 1_000_000;

/// How it is known which cgroup a victim was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The report's header names its process id.
    Header,
    /// The kernel said directly after the kill which group it kills next: the victim was in it.
    Group,
    /// It follows the announcement of a group kill. With headers left out (ten in five seconds), the first victim of the
    /// next kill would look the same.
    Order,
    /// It is not: the header was left out or is lost. Such a kill belongs to no cgroup.
    None,
}

/// One process that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// The record's number.
    pub sequence: u64,
    /// Microseconds since boot.
    pub microsecond: u64,
    /// Who.
    pub killed: Killed,
    /// The victim's cgroup, or one above it when a group was killed; a path in the kernel's own view, from the real root.
    pub cgroup: Option<String>,
    /// How the cgroup is known.
    pub evidence: Evidence,
    /// The cgroup that hit its limit.
    pub oom_cgroup: Option<String>,
    /// That limit in bytes.
    pub limit: Option<u64>,
    /// Whether it was killed as one of a group.
    pub in_group: bool,
}

/// What a stretch of the log tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// The kills in their order. In a group kill the kernel names its first victim twice; here it is once.
    pub kills: Vec<Kill>,
    /// Records between the first and the last that are not there: the ring overtook the reader.
    pub lost: u64,
    /// Reports that the kernel says it left out.
    pub suppressed: u64,
    /// Lines that are no records.
    pub unreadable: u64,
    /// Number and microsecond of the first record: what came before is forgotten, unless the number is 0.
    pub first: Option<(u64, u64)>,
    /// Number and microsecond of the last record.
    pub last: Option<(u64, u64)>,
}

/// What the lines before said.
#[derive(Default)]
struct State<'a> {
    limit: Option<u64>,
    header: Option<Header>,
    /// A group that is being killed: its path and its first victim.
    group: Option<(String, u32)>,
    /// When the newest line of a kill was printed.
    newest: u64,
    /// A line whose end did not come yet, who prints it, and in how many pieces.
    begun: Option<(String, Option<&'a str>, usize)>,
}

impl Log {
    /// Reads what several reads of /dev/kmsg gave.
    pub fn read(bytes: &[u8]) -> Log {
        let mut log = Log::default();
        let mut state = State::default();
        for record in records(bytes) {
            let Ok(record) = record else {
                log.unreadable = log.unreadable.saturating_add(1);
                continue;
            };
            if let Some((last, _)) = log.last
                && let Some(gap) = record.sequence.checked_sub(last.saturating_add(1)).filter(|gap| *gap > 0)
            {
                log.lost = log.lost.saturating_add(gap);
                state = State::default();
            }
            let here = (record.sequence, record.microsecond);
            log.first.get_or_insert(here);
            log.last = Some(here);
            if record.is_kernel
                && let Some(line) = state.line(&record)
            {
                log.take(&mut state, line, &record);
            }
        }
        log
    }

    fn take(&mut self, state: &mut State<'_>, line: Line, record: &Record<'_>) {
        match line {
            Line::Invoked => *state = State::default(),
            Line::Limit(limit) => state.limit = limit,
            Line::Suppressed(reports) => self.suppressed = self.suppressed.saturating_add(reports),
            Line::Header(header) => (state.header, state.group) = (Some(header), None),
            Line::Killed(killed) => {
                self.kills.extend(state.kill(killed, record));
                state.newest = record.microsecond;
            }
            Line::Group(path) => {
                // Only what is directly before it: the victim of this group.
                if let Some(victim) = self.kills.last_mut().filter(|kill| near(kill.microsecond, record.microsecond)) {
                    victim.in_group = true;
                    if victim.evidence != Evidence::Header {
                        (victim.cgroup, victim.evidence) = (Some(path.clone()), Evidence::Group);
                    }
                    state.group = Some((path, victim.killed.pid));
                }
                state.newest = record.microsecond;
            }
        }
    }
}

fn near(a: u64, b: u64) -> bool {
    a.abs_diff(b) <= SAME_KILL
}

impl<'a> State<'a> {
    /// The line in a record, or the one that this record completes.
    fn line(&mut self, record: &Record<'a>) -> Option<Line> {
        if let Some((mut text, caller, pieces)) = self.begun.take() {
            if !record.is_fragment || record.caller != caller {
                // Another wrote in between.
                self.begun = (pieces < MOST_PIECES).then_some((text, caller, pieces.saturating_add(1)));
            } else {
                text.push_str(&record.text());
                let line = Line::parse(&text);
                if line.is_none() && pieces < MOST_PIECES {
                    self.begun = Some((text, caller, pieces.saturating_add(1)));
                }
                return line;
            }
        }
        if !Line::may_be(record.raw) {
            return None;
        }
        let text = record.text();
        let line = Line::parse(&text);
        if line.is_none() && Line::is_begun(&text) {
            self.begun = Some((text, record.caller, 1));
        }
        line
    }

    fn kill(&mut self, killed: Killed, record: &Record<'_>) -> Option<Kill> {
        let mut kill = Kill {
            sequence: record.sequence,
            microsecond: record.microsecond,
            killed,
            cgroup: None,
            evidence: Evidence::None,
            oom_cgroup: None,
            limit: None,
            in_group: false,
        };
        let pid = kill.killed.pid;
        if let Some(header) = self.header.take_if(|header| header.pid == pid) {
            kill.evidence = Evidence::Header;
            kill.killed.scope = header.scope.or(kill.killed.scope);
            kill.limit = self.limit.take().filter(|_| header.oom_cgroup.is_some());
            (kill.cgroup, kill.oom_cgroup) = (header.task_cgroup, header.oom_cgroup);
        } else if let Some((path, first)) = &self.group
            && near(self.newest, record.microsecond)
        {
            if *first == pid {
                return None;
            }
            (kill.cgroup, kill.evidence, kill.in_group) = (Some(path.clone()), Evidence::Order, true);
        } else {
            self.group = None;
        }
        Some(kill)
    }
}

/// For the fuzzer: a kill whose cgroup is told has evidence for it.
pub fn fuzz(data: &[u8]) {
    let log = Log::read(data);
    assert!(log.first.is_some() == log.last.is_some());
    for kill in &log.kills {
        assert!((kill.evidence == Evidence::None) == kill.cgroup.is_none() || kill.evidence == Evidence::Header);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::super::Scope;
    use super::*;

    /// One line a kill: process id, name, cgroup, evidence, limit in MiB.
    fn told(log: &Log) -> Vec<String> {
        let kill = |kill: &Kill| {
            let cgroup = kill.cgroup.as_deref().unwrap_or("-");
            let limit = kill.limit.map_or("-".to_owned(), |bytes| (bytes >> 20).to_string());
            let group = if kill.in_group { " group" } else { "" };
            format!("{} {:?} {cgroup} {:?} {limit}{group}", kill.killed.pid, kill.killed.name, kill.evidence)
        };
        log.kills.iter().map(kill).collect()
    }

    /// A file of kernel records, a millisecond apart. I is a line that begins a report, a number a kill of that process,
    /// `h7` its header in cgroup /c7, `g7` a group of that number, L a limit; `+5` skips 5 records, `~` five seconds;
    /// all else is text.
    fn file(lines: &[&str]) -> Vec<u8> {
        let (mut sequence, mut time, mut out) = (100, 5_000_000, String::new());
        for line in lines {
            let (code, number) = line.split_at_checked(1).unwrap_or((line, ""));
            let text = match code {
                "I" => "a invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0".to_owned(),
                "L" => "memory: usage 2048kB, limit 2048kB, failcnt 1".to_owned(),
                "h" => format!(
                    "oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/o,task_memcg=/c{number},task=a,pid={number},uid=0"
                ),
                "g" => format!("Tasks in /g{number} are going to be killed due to memory.oom.group set"),
                "k" => format!("Memory cgroup out of memory: Killed process {number} (a) total-vm:1kB, anon-rss:1kB"),
                "+" => {
                    sequence += number.parse::<u64>().unwrap();
                    continue;
                }
                "~" => {
                    time += 5_000_000;
                    continue;
                }
                _ => (*line).to_owned(),
            };
            let raw = text.strip_prefix("c;").map_or(format!("-;{text}"), |rest| format!("c;{rest}"));
            out.push_str(&format!("6,{sequence},{time},{raw}\n"));
            (sequence, time) = (sequence + 1, time + 1000);
        }
        out.into_bytes()
    }

    #[test]
    fn who_belongs_where() {
        for (lines, want) in [
            (&["I", "L", "h7", "k7"][..], &["7 \"a\" /c7 Header 2"][..]),
            // Headers are left out in a burst.
            (&["I", "L", "h7", "k7", "k8", "k9"], &["7 \"a\" /c7 Header 2", "8 \"a\" - None -", "9 \"a\" - None -"]),
            // A header whose victim was gone already says nothing of the next.
            (&["I", "h7", "k8"], &["8 \"a\" - None -"]),
            (&["I", "L", "h7", "I", "h8", "k8"], &["8 \"a\" /c8 Header -"]),
            (&["h7", "x", "oom_reaper: reaped process 6 (a), now anon-rss:0kB", "k7"], &["7 \"a\" /c7 Header -"]),
            // A group; its first victim comes twice.
            (
                &["I", "L", "h7", "k7", "g1", "k8", "k7", "k9"],
                &["7 \"a\" /c7 Header 2 group", "8 \"a\" /g1 Order - group", "9 \"a\" /g1 Order - group"],
            ),
            // Groups without headers: the announcement corrects what the order said of its victim.
            (
                &["k7", "g1", "k8", "k9", "g2", "k10", "k9"],
                &[
                    "7 \"a\" /g1 Group - group",
                    "8 \"a\" /g1 Order - group",
                    "9 \"a\" /g2 Group - group",
                    "10 \"a\" /g2 Order - group",
                ],
            ),
            (&["k7", "g1", "~", "k8"], &["7 \"a\" /g1 Group - group", "8 \"a\" - None -"]),
            (&["k7", "~", "g1", "k8"], &["7 \"a\" - None -", "8 \"a\" - None -"]),
            (&["g1", "k8"], &["8 \"a\" - None -"]),
            (&["h7", "+3", "k7"], &["7 \"a\" - None -"]),
            (&[], &[]),
        ] {
            assert_eq!(told(&Log::read(&file(lines))), want, "{lines:?}");
        }
    }

    #[test]
    fn lines_in_pieces() {
        let pieces = [
            "oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=",
            "c;/o",
            "x",
            "c;,task_memcg=/c7",
            "c;,task=a,pid=7,uid=0",
        ];
        assert_eq!(told(&Log::read(&file(&[&pieces[..], &["k7"]].concat()))), ["7 \"a\" /c7 Header -"]);
        assert_eq!(told(&Log::read(&file(&[&pieces[..4], &["k7"]].concat()))), ["7 \"a\" - None -"]);
        let endless = [&["oom-kill:constraint="][..], &["c;x"; 100], &["k7"]].concat();
        assert_eq!(told(&Log::read(&file(&endless))), ["7 \"a\" - None -"]);
        let others = "6,1,1,-,caller=T1;Tasks in \n6,2,1,c,caller=T2;/x\n6,3,1,c,caller=T1;/g1\n\
                      6,4,1,c,caller=T1; are going to be killed due to memory.oom.group set\n";
        let victim = "6,0,1,-,caller=T1;Killed process 7 (a) total-vm:1kB\n";
        assert_eq!(told(&Log::read(format!("{victim}{others}").as_bytes())), ["7 \"a\" /g1 Group - group"]);
    }

    #[test]
    fn what_is_lost_is_told() {
        let log = Log::read(&file(&["x", "+5", "k7", "+2", "oom_kill_process: 15 callbacks suppressed"]));
        assert_eq!((log.lost, log.suppressed, log.unreadable, log.kills.len()), (7, 15, 0, 1));
        assert_eq!((log.first, log.last), (Some((100, 5_000_000)), Some((109, 5_002_000))));
        let log = Log::read(b"rubbish\n12,1,1,-;Killed process 7 (a) total-vm:1kB\n6,1,1,-;x\n6,0,1,-;x\n");
        // A program wrote the second line; numbers that go back are no loss.
        assert_eq!((log.lost, log.unreadable, log.kills.len()), (0, 1, 0));
        assert_eq!(Log::read(b""), Log::default());
    }

    #[test]
    fn captures() {
        let names = Log::read(include_bytes!("../../../tests/captures/kmsg/names"));
        let id = format!("c0ffee{}", "0".repeat(58));
        let place = format!("/kubepods/burstable/pod0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d/{id}");
        assert!(names.kills.iter().all(|kill| kill.cgroup.as_ref() == Some(&place) && kill.oom_cgroup == kill.cgroup));
        assert!(names.kills.iter().all(|kill| kill.limit == Some(16 << 20) && kill.evidence == Evidence::Header));
        let told: Vec<&str> = names.kills.iter().map(|kill| kill.killed.name.as_str()).collect();
        let bytes = "\u{fffd}\u{fffd}ä";
        let want = [
            "a,task=b",
            "x) total-vm:1kB",
            "new\nline",
            "tab\t\\back",
            bytes,
            "(sd-pam)",
            ",uid=0,pid=1",
            "Killed process ",
        ];
        assert_eq!(told, want);

        let burst = Log::read(include_bytes!("../../../tests/captures/kmsg/burst"));
        let known = burst.kills.iter().filter(|kill| kill.evidence == Evidence::Header).count();
        assert_eq!((burst.kills.len(), known, burst.suppressed, burst.lost), (27, 12, 15, 0));

        let group = Log::read(include_bytes!("../../../tests/captures/kmsg/group-kill"));
        assert_eq!(group.kills.iter().map(|kill| kill.killed.pid).collect::<Vec<_>>(), [176, 173, 174, 175]);
        assert!(group.kills.iter().all(|kill| kill.in_group && kill.cgroup.is_some()));

        let global = Log::read(include_bytes!("../../../tests/captures/kmsg/global"));
        let kill = &global.kills[0];
        assert_eq!((kill.killed.scope, kill.killed.rss_kib()), (Some(Scope::Node), Some(447_280)));
        assert!(kill.cgroup.as_ref().unwrap().ends_with("/cri-containerd-bbbb.scope") && kill.oom_cgroup.is_none());
    }

    #[test]
    fn every_prefix() {
        let sample = include_bytes!("../../../tests/captures/kmsg/group-kill");
        for end in 0..sample.len() {
            fuzz(&sample[..end]);
        }
    }
}
