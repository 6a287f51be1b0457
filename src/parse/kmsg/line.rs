//! The lines of an OOM report (`mm/oom_kill.c`, `mm/memcontrol.c`), as Linux 4.19 to 6.18 print them.
//!
//! ```text
//! hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
//! memory: usage 16384kB, limit 16384kB, failcnt 409
//! oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=hog,pid=7,uid=0
//! Memory cgroup out of memory: Killed process 7 (hog) total-vm:33324kB, anon-rss:23304kB, file-rss:4132kB, shmem-rss:0kB, UID:0 pgtables:108kB oom_score_adj:0
//! Tasks in /a are going to be killed due to memory.oom.group set
//! ```
//!
//! A process chooses its own name (up to 15 bytes of anything), hence the names are found from both ends. `pgtables` is
//! left out: the first releases of 5.4 print bytes there and call them kB.

/// A process's name, without the zero at its end (`TASK_COMM_LEN`).
const LONGEST_NAME: usize = 15;

/// Whose memory ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A cgroup hit its limit.
    Cgroup,
    /// The node had none left.
    Node,
    /// The NUMA nodes that a cpuset or a policy allows had none left.
    Part,
}

/// One line that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A report begins.
    Invoked,
    /// The limit, in bytes, of the cgroup that hit it; `None` when it has none.
    Limit(Option<u64>),
    /// Who is to be killed, and where.
    Header(Header),
    /// Somebody was killed.
    Killed(Killed),
    /// All tasks of this cgroup are killed next.
    Group(String),
    /// So many reports were left out so far.
    Suppressed(u64),
}

/// The summary in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Whose memory ran out; `None` for a constraint of a kernel to come.
    pub scope: Option<Scope>,
    /// The cgroup that hit its limit; only of [`Scope::Cgroup`], and not when its path was too long to be printed.
    pub oom_cgroup: Option<String>,
    /// The cgroup of the victim.
    pub task_cgroup: Option<String>,
    /// The victim's name.
    pub name: String,
    /// The victim's process id as the node sees it.
    pub pid: u32,
}

/// The line of a kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    /// Whose memory ran out; `None` where the kernel does not say (before Linux 5.1).
    pub scope: Option<Scope>,
    /// The victim's process id as the node sees it.
    pub pid: u32,
    /// The victim's name; may hold anything, newlines too.
    pub name: String,
    /// Its user.
    pub uid: Option<u32>,
    /// KiB of anonymous memory that it held.
    pub anon_kib: Option<u64>,
    /// KiB of files that it had mapped.
    pub file_kib: Option<u64>,
    /// KiB of shared memory that it had mapped.
    pub shmem_kib: Option<u64>,
    /// Its `oom_score_adj`.
    pub score_adj: Option<i16>,
}

impl Killed {
    /// KiB of memory that it held in all, of what is known.
    pub fn rss_kib(&self) -> Option<u64> {
        let known = [self.anon_kib, self.file_kib, self.shmem_kib].into_iter().flatten();
        known.reduce(u64::saturating_add)
    }
}

impl Line {
    /// Reads an unescaped line; `None` for one that does not matter, and for one that was cut off.
    pub fn parse(text: &str) -> Option<Line> {
        if let Some(rest) = text.strip_prefix("oom-kill:constraint=") {
            header(rest).map(Line::Header)
        } else if let Some(rest) = text.strip_prefix("Tasks in ") {
            let path = rest.strip_suffix(" are going to be killed due to memory.oom.group set")?;
            Some(Line::Group(path.to_owned()))
        } else if let Some(rest) = text.strip_prefix("memory: usage ") {
            let (_, rest) = rest.split_once("kB, limit ")?;
            let (limit, _) = rest.split_once("kB, failcnt ")?;
            Some(Line::Limit(bytes_of(digits(limit)?)))
        } else if text.contains(" invoked oom-killer: gfp_mask=") {
            // Before the kills: a name may be "Killed process ".
            Some(Line::Invoked)
        } else if let Some(rest) = text.strip_prefix("oom_kill_process: ") {
            digits(rest.strip_suffix(" callbacks suppressed")?).map(Line::Suppressed)
        } else {
            killed(text).map(Line::Killed)
        }
    }

    /// Whether an escaped text may be such a line: what all others are spared by.
    pub(super) fn may_be(raw: &str) -> bool {
        Line::is_begun(raw)
            || raw.starts_with("memory: usage ")
            || raw.starts_with("oom_kill_process: ")
            || raw.contains("Killed process ")
            || raw.contains(" invoked oom-killer: ")
    }

    /// Whether it begins a line that the kernel prints in pieces.
    pub(super) fn is_begun(text: &str) -> bool {
        text.starts_with("oom-kill:constraint=") || text.starts_with("Tasks in ")
    }
}

/// What the kernel prints for no limit: its largest count of pages, where `long` has 64 bits and where it has 32.
fn bytes_of(kib: u64) -> Option<u64> {
    let bytes = kib.checked_mul(1024)?;
    (bytes < 1 << 62 && kib != 8_589_934_588).then_some(bytes)
}

fn header(text: &str) -> Option<Header> {
    let constraint = text.split(',').next()?;
    let (rest, uid) = text.rsplit_once(",uid=")?;
    let _: u64 = digits(uid)?;
    let (rest, pid) = rest.rsplit_once(",pid=")?;
    let (limits, task) = rest.split_once(",task_memcg=")?;
    // The name may hold ",task=" and so may a cgroup that a container made: the first that leaves a name.
    let (path, name) = task.match_indices(",task=").find_map(|(at, key)| {
        let (path, name) = task.split_at_checked(at)?;
        let name = name.strip_prefix(key)?;
        (name.chars().count() <= LONGEST_NAME).then_some((path, name))
    })?;
    let is_path = |path: &&str| path.starts_with('/');
    let oom_cgroup = limits.split_once(",oom_memcg=").map(|(_, path)| path);
    Some(Header {
        scope: match constraint {
            "CONSTRAINT_MEMCG" => Some(Scope::Cgroup),
            "CONSTRAINT_NONE" => Some(Scope::Node),
            "CONSTRAINT_CPUSET" | "CONSTRAINT_MEMORY_POLICY" => Some(Scope::Part),
            _ => None,
        },
        oom_cgroup: oom_cgroup.filter(is_path).map(str::to_owned),
        task_cgroup: Some(path).filter(is_path).map(str::to_owned),
        name: name.to_owned(),
        pid: u32::try_from(digits(pid)?).ok()?,
    })
}

fn killed(text: &str) -> Option<Killed> {
    let (message, rest) = text.split_once("Killed process ")?;
    let scope = match message {
        "Memory cgroup out of memory: " => Some(Scope::Cgroup),
        "Out of memory: " | "Out of memory (oom_kill_allocating_task): " => Some(Scope::Node),
        other if other.is_empty() || other.ends_with(": ") => None,
        _ => return None,
    };
    let (pid, rest) = rest.split_once(" (")?;
    let (before, sizes) = rest.rsplit_once(" total-vm:")?;
    // Linux 3.10 of RHEL 7 has the user there: "(java), UID 1000, total-vm:".
    let (name, uid) = match before.strip_suffix(')') {
        Some(name) => (name, number_after(sizes, "UID:")),
        None => before.strip_suffix(',')?.rsplit_once("), UID ").map(|(name, uid)| (name, digits(uid)))?,
    };
    let _total: u64 = digits(sizes.split_once("kB")?.0)?;
    Some(Killed {
        scope,
        pid: u32::try_from(digits(pid)?).ok()?,
        name: name.to_owned(),
        uid: uid.and_then(|uid| u32::try_from(uid).ok()),
        anon_kib: number_after(sizes, "anon-rss:"),
        file_kib: number_after(sizes, "file-rss:"),
        shmem_kib: number_after(sizes, "shmem-rss:"),
        score_adj: sizes.split_once("oom_score_adj:").and_then(|(_, adj)| adj.parse().ok()),
    })
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let (_, rest) = text.split_once(key)?;
    digits(rest.split(|c: char| !c.is_ascii_digit()).next()?)
}

/// A number in decimal digits; the first releases padded a process id with spaces.
fn digits(text: &str) -> Option<u64> {
    let text = text.trim_start_matches(' ');
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)?.parse().ok()
}

/// For the fuzzer: what is read was in the line, and no line is passed over unread.
pub fn fuzz(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    match Line::parse(text) {
        Some(Line::Header(header)) => {
            let cgroups = [&header.oom_cgroup, &header.task_cgroup].into_iter().flatten();
            assert!(cgroups.chain([&header.name]).all(|part| text.contains(part.as_str())));
            assert!(header.name.chars().count() <= LONGEST_NAME && Line::may_be(text));
        }
        Some(Line::Killed(killed)) => {
            assert!(text.contains(&killed.name) && text.contains(&killed.pid.to_string()) && Line::may_be(text));
            assert!(killed.rss_kib() >= killed.anon_kib);
        }
        Some(Line::Group(path)) => assert!(text.contains(&path) && Line::is_begun(text)),
        Some(Line::Invoked | Line::Limit(_) | Line::Suppressed(_)) => assert!(Line::may_be(text)),
        None => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]
mod tests {
    use super::*;

    const POD: &str = "/kubepods.slice/kubepods-pod36b6d6be73b1065af369b3985edafa09.slice";

    fn told(text: &str) -> String {
        match Line::parse(text) {
            Some(Line::Header(h)) => {
                let path = |path: Option<String>| path.unwrap_or("-".to_owned());
                format!("{:?} {} {} {:?} {}", h.scope, path(h.oom_cgroup), path(h.task_cgroup), h.name, h.pid)
            }
            Some(Line::Killed(k)) => {
                format!("{:?} {} {:?} {:?} {:?} {:?}", k.scope, k.pid, k.name, k.uid, k.rss_kib(), k.score_adj)
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn headers() {
        for (text, want) in [
            // Linux 5.0 to 6.18.
            (
                "CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=hog,pid=7,uid=0",
                r#"Some(Cgroup) /a /a/b "hog" 7"#,
            ),
            (
                "CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a/b,task=hog,pid=7,uid=0",
                r#"Some(Node) - /a/b "hog" 7"#,
            ),
            (
                "CONSTRAINT_CPUSET,nodemask=0,2-3,cpuset=x.scope,mems_allowed=0,2,global_oom,task_memcg=/,task=a,pid=7,uid=9",
                r#"Some(Part) - / "a" 7"#,
            ),
            ("CONSTRAINT_BPF,global_oom,task_memcg=/a,task=a,pid=7,uid=0", r#"None - /a "a" 7"#),
            (
                "CONSTRAINT_MEMCG,oom_memcg=(name too long),task_memcg=(error),task=a,pid=7,uid=0",
                r#"Some(Cgroup) - - "a" 7"#,
            ),
            ("CONSTRAINT_NONE,global_oom,task_memcg=/a,task=,pid=    7,uid=    0", r#"Some(Node) - /a "" 7"#),
            // Names that are made of the line.
            ("CONSTRAINT_NONE,global_oom,task_memcg=/a,task=a,task=b,pid=7,uid=0", r#"Some(Node) - /a "a,task=b" 7"#),
            (
                "CONSTRAINT_NONE,global_oom,task_memcg=/a,task=,uid=0,pid=1,pid=7,uid=0",
                r#"Some(Node) - /a ",uid=0,pid=1" 7"#,
            ),
            ("CONSTRAINT_NONE,global_oom,task_memcg=/a,task=\n) (,pid=7,uid=0", r#"Some(Node) - /a "\n) (" 7"#),
            (
                "CONSTRAINT_NONE,global_oom,task_memcg=/a,task=0123456789,task=hog,pid=7,uid=0",
                r#"Some(Node) - /a,task=0123456789 "hog" 7"#,
            ),
            // Cut off, or not by the kernel.
            ("CONSTRAINT_MEMCG,nodemask=(null)", "None"),
            ("CONSTRAINT_NONE,global_oom,task_memcg=/a,task=a,pid=7", "None"),
            ("CONSTRAINT_NONE,global_oom,task_memcg=/a,task=a,pid=7,uid=", "None"),
            ("CONSTRAINT_NONE,global_oom,task_memcg=/a,task=a,pid=-7,uid=0", "None"),
            ("CONSTRAINT_NONE,global_oom,task_memcg=/a,task=a,pid=4294967296,uid=0", "None"),
            ("CONSTRAINT_NONE,global_oom,task_memcg=/a,task=sixteen-bytes-xx,pid=7,uid=0", "None"),
            ("CONSTRAINT_NONE,global_oom,task=a,pid=7,uid=0", "None"),
            ("", "None"),
        ] {
            assert_eq!(told(&format!("oom-kill:constraint={text}")), want, "{text}");
        }
    }

    #[test]
    fn kills() {
        let sizes = "total-vm:33324kB, anon-rss:23304kB, file-rss:4132kB, shmem-rss:0kB";
        for (text, want) in [
            // Linux 5.4 to 6.18.
            (
                format!(
                    "Memory cgroup out of memory: Killed process 7 (hog) {sizes}, UID:1000 pgtables:108kB oom_score_adj:-998"
                ),
                r#"Some(Cgroup) 7 "hog" Some(1000) Some(27436) Some(-998)"#,
            ),
            (
                format!(
                    "Out of memory (oom_kill_allocating_task): Killed process 7 (hog) {sizes}, UID:0 pgtables:1kB oom_score_adj:0"
                ),
                r#"Some(Node) 7 "hog" Some(0) Some(27436) Some(0)"#,
            ),
            (format!("BPF OOM: Killed process 7 (hog) {sizes}, UID:0"), r#"None 7 "hog" Some(0) Some(27436) None"#),
            // Linux 5.1 to 5.3; 4.19 and 5.0; 4.4; RHEL 7.
            (format!("Out of memory: Killed process 7 (hog) {sizes}"), r#"Some(Node) 7 "hog" None Some(27436) None"#),
            (format!("Killed process 7 (hog) {sizes}"), r#"None 7 "hog" None Some(27436) None"#),
            (
                "Killed process 7 (hog) total-vm:9kB, anon-rss:2kB, file-rss:1kB".to_owned(),
                r#"None 7 "hog" None Some(3) None"#,
            ),
            (
                format!("Killed process 7 (tidb-server), UID 1000, {sizes}"),
                r#"None 7 "tidb-server" Some(1000) Some(27436) None"#,
            ),
            // Names that are made of the line.
            (
                format!(
                    "Memory cgroup out of memory: Killed process 7 (x) total-vm:1kB) {sizes}, UID:0 pgtables:1kB oom_score_adj:0"
                ),
                r#"Some(Cgroup) 7 "x) total-vm:1kB" Some(0) Some(27436) Some(0)"#,
            ),
            (
                format!("Out of memory: Killed process 7 ((sd-pam)) {sizes}"),
                r#"Some(Node) 7 "(sd-pam)" None Some(27436) None"#,
            ),
            (format!("Out of memory: Killed process 7 (a\nb) {sizes}"), r#"Some(Node) 7 "a\nb" None Some(27436) None"#),
            (
                format!("Out of memory: Killed process 7 (Killed process ) {sizes}"),
                r#"Some(Node) 7 "Killed process " None Some(27436) None"#,
            ),
            (format!("Out of memory: Killed process 7 () {sizes}"), r#"Some(Node) 7 "" None Some(27436) None"#),
            // A size that is too large is not known; the rest is.
            (
                "Killed process 7 (a) total-vm:1kB, anon-rss:99999999999999999999kB, file-rss:1kB".to_owned(),
                r#"None 7 "a" None Some(1) None"#,
            ),
            ("Killed process 7 (a) total-vm:1kB".to_owned(), r#"None 7 "a" None None None"#),
            // No kills, though they look like it.
            ("Killed process [123]: segfault at 0 ip 1 sp 2 error 4".to_owned(), "None"),
            ("Killed process  invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0".to_owned(), "Some(Invoked)"),
            ("Out of memory: Kill process 7 (hog) score 850 or sacrifice child".to_owned(), "None"),
            (format!("xKilled process 7 (hog) {sizes}"), "None"),
            (format!("Killed process -7 (hog) {sizes}"), "None"),
            (format!("Killed process 4294967296 (hog) {sizes}"), "None"),
            ("Killed process 7 (hog) total-vm:".to_owned(), "None"),
            ("Killed process 7 hog total-vm:1kB".to_owned(), "None"),
            (
                "Memory cgroup out of memory: OOM victim 7 (hog) is already exiting. Skip killing the task".to_owned(),
                "None",
            ),
        ] {
            assert_eq!(told(&text), want, "{text}");
        }
    }

    #[test]
    fn the_other_lines() {
        for (text, want) in [
            ("hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0", "Some(Invoked)"),
            ("memory: usage 16384kB, limit 16384kB, failcnt 0", "Some(Limit(Some(16777216)))"),
            ("memory: usage 300kB, limit 9007199254740988kB, failcnt 0", "Some(Limit(None))"),
            ("memory: usage 300kB, limit 8589934588kB, failcnt 0", "Some(Limit(None))"),
            ("memory: usage 300kB, limit 18446744073709551615kB, failcnt 0", "Some(Limit(None))"),
            ("memory: usage 300kB, limit xkB, failcnt 0", "None"),
            ("memory: usage 300kB", "None"),
            ("memory+swap: usage 20480kB, limit 1kB, failcnt 0", "None"),
            ("oom_kill_process: 1520 callbacks suppressed", "Some(Suppressed(1520))"),
            ("oom_kill_process: 1520 callbacks", "None"),
            ("Tasks state (memory values in pages):", "None"),
            ("oom_reaper: reaped process 7 (hog), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB", "None"),
            ("", "None"),
        ] {
            assert_eq!(told(text), want, "{text}");
        }
        let group = format!("Tasks in {POD} are going to be killed due to memory.oom.group set");
        assert_eq!(Line::parse(&group), Some(Line::Group(POD.to_owned())));
    }

    #[test]
    fn every_prefix() {
        for sample in [
            format!(
                "oom-kill:constraint=CONSTRAINT_MEMCG,cpuset=/,oom_memcg={POD},task_memcg={POD}/a,task=a,task=b,pid=77,uid=0"
            ),
            "Out of memory: Killed process 77 (a) (b) total-vm:12kB, anon-rss:34kB, file-rss:5kB, UID:0".to_owned(),
            format!("Tasks in {POD} are going to be killed due to memory.oom.group set"),
            "memory: usage 16384kB, limit 16384kB, failcnt 0".to_owned(),
        ] {
            for end in 0..sample.len() {
                fuzz(&sample.as_bytes()[..end]);
                let is_header = matches!(Line::parse(&sample[..end]), Some(Line::Header(_)));
                assert!(!is_header, "{}", &sample[..end]);
            }
        }
    }
}
