//! The files of a memory cgroup, and `/proc/vmstat`.

use super::{Error, digits, excerpt, lines};

/// `memory.events` and `memory.events.local` of v2. In the first a cgroup's numbers include those of all below it, unless
/// the mount says `memory_localevents`; the second is always its own alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Tasks that were throttled at `memory.high`.
    pub high: Option<u64>,
    /// Charges that would have passed `memory.max`; page cache alone makes it grow.
    pub max: Option<u64>,
    /// Times this cgroup's limit was hit and reclaim failed. Counted where the limit is, whoever was killed.
    pub oom: Option<u64>,
    /// Processes killed by any OOM killer. Counted where the victim was, whosever limit it was. A group kill counts its
    /// first victim twice when that has not died yet as its turn in the group comes.
    pub oom_kill: Option<u64>,
    /// Group kills (`memory.oom.group`), however many processes died. Linux 5.17.
    pub oom_group_kill: Option<u64>,
}

/// Reads `memory.events` or `memory.events.local`.
pub fn events(bytes: &[u8]) -> Result<Events, Error> {
    let [high, max, oom, oom_kill, oom_group_kill] = flat(bytes, ["high", "max", "oom", "oom_kill", "oom_group_kill"])?;
    Ok(Events { high, max, oom, oom_kill, oom_group_kill })
}

/// v1's `memory.oom_control`. Nothing in it includes what lies below the cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OomControl {
    /// Whether tasks at the limit wait instead of being killed.
    pub oom_kill_disable: Option<bool>,
    /// Whether tasks wait there now.
    pub under_oom: Option<bool>,
    /// Processes killed by any OOM killer whose own cgroup this was.
    pub oom_kill: Option<u64>,
}

/// Reads `memory.oom_control`.
pub fn oom_control(bytes: &[u8]) -> Result<OomControl, Error> {
    let [disable, under, oom_kill] = flat(bytes, ["oom_kill_disable", "under_oom", "oom_kill"])?;
    let flag = |number: Option<u64>| number.map(|number| number != 0);
    Ok(OomControl { oom_kill_disable: flag(disable), under_oom: flag(under), oom_kill })
}

/// The `oom_kill` of `/proc/vmstat`: processes killed by any OOM killer on the node since boot.
pub fn vmstat_oom_kills(bytes: &[u8]) -> Result<Option<u64>, Error> {
    let [kills] = flat(bytes, ["oom_kill"])?;
    Ok(kills)
}

/// How much memory a cgroup may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// As much as there is.
    Unlimited,
    /// Bytes.
    Bytes(u64),
}

impl Limit {
    /// v1 prints the most that its counter takes: `LONG_MAX` less a page's remainder, of pages up to 64 KiB; or, where
    /// `long` has 32 bits, that many pages.
    fn of(bytes: u64) -> Limit {
        match bytes {
            0x7fff_ffff_ffff_0000.. | 0x7ff_ffff_f000 => Limit::Unlimited,
            bytes => Limit::Bytes(bytes),
        }
    }

    /// The bytes, where there is a limit.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Limit::Unlimited => None,
            Limit::Bytes(bytes) => Some(bytes),
        }
    }
}

/// Reads a file with one number: `memory.current`, `memory.oom.group`, `memory.usage_in_bytes`, `memory.failcnt`.
pub fn number(bytes: &[u8]) -> Result<u64, Error> {
    single(bytes, |line| digits("the value", line))
}

/// Reads a file with one limit: `memory.max`, `memory.high` (`max` for none), `memory.limit_in_bytes`.
pub fn limit(bytes: &[u8]) -> Result<Limit, Error> {
    single(bytes, |line| match line {
        b"max" => Ok(Limit::Unlimited),
        number => digits("the limit", number).map(Limit::of),
    })
}

fn single<T>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<T, Error>) -> Result<T, Error> {
    let mut lines = lines(bytes)?;
    match (lines.next(), lines.next()) {
        (Some(line), None) if !line.is_empty() => read(line),
        _ => Err(Error::Line(excerpt(bytes))),
    }
}

/// What `memory.stat` tells of a cgroup and all below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStat {
    /// Bytes that the kernel can take back without a swap: file pages on both lists, and in v2 reclaimable slab.
    pub reclaimable: Option<u64>,
    /// The lowest limit on the way up to the root; v1 only.
    pub hierarchical_limit: Option<Limit>,
}

impl MemoryStat {
    /// Reads v2's file.
    pub fn v2(bytes: &[u8]) -> Result<MemoryStat, Error> {
        let [inactive, active, slab] = flat(bytes, ["inactive_file", "active_file", "slab_reclaimable"])?;
        Ok(MemoryStat { reclaimable: sum([inactive, active, slab]), hierarchical_limit: None })
    }

    /// Reads v1's file.
    pub fn v1(bytes: &[u8]) -> Result<MemoryStat, Error> {
        let [inactive, active, limit] =
            flat(bytes, ["total_inactive_file", "total_active_file", "hierarchical_memory_limit"])?;
        Ok(MemoryStat { reclaimable: sum([inactive, active]), hierarchical_limit: limit.map(Limit::of) })
    }

    /// What would remain of `usage` bytes if all that can be taken back were. The two numbers are of two moments, hence
    /// never below 0.
    pub fn unreclaimable(&self, usage: u64) -> Option<u64> {
        Some(usage.saturating_sub(self.reclaimable?))
    }
}

/// The sum, where all are known.
fn sum<const N: usize>(numbers: [Option<u64>; N]) -> Option<u64> {
    numbers.into_iter().try_fold(0, |sum: u64, number| Some(sum.saturating_add(number?)))
}

/// The values of these keys in a file of `key value` lines. The other lines must have that shape too, and their values
/// may be anything.
fn flat<const N: usize>(bytes: &[u8], keys: [&'static str; N]) -> Result<[Option<u64>; N], Error> {
    let mut found = [None; N];
    for line in lines(bytes)? {
        let space = line.iter().position(|byte| *byte == b' ').unwrap_or_default();
        let (key, value) = line.split_at_checked(space).unwrap_or_default();
        if key.is_empty() || !key.iter().all(u8::is_ascii_graphic) {
            return Err(Error::Line(excerpt(line)));
        }
        for (slot, name) in found.iter_mut().zip(keys).filter(|(_, name)| name.as_bytes() == key) {
            if slot.replace(digits(name, value.strip_prefix(b" ").unwrap_or(value))?).is_some() {
                return Err(Error::Twice(name));
            }
        }
    }
    Ok(found)
}

/// For the fuzzer: what is read was there.
pub fn fuzz(data: &[u8]) {
    let is_there = |number: u64| data.windows(number.to_string().len()).any(|w| w == number.to_string().as_bytes());
    if let Ok(Events { oom_kill: Some(kills), .. }) = events(data) {
        // Leading zeros read as nothing.
        assert!(is_there(kills));
        assert!(vmstat_oom_kills(data) == Ok(Some(kills)));
    }
    if let Ok(value) = number(data) {
        assert!(is_there(value) && limit(data) == Ok(Limit::of(value)));
    }
    let _ = oom_control(data);
    for stat in [MemoryStat::v1(data), MemoryStat::v2(data)].into_iter().flatten() {
        assert!(stat.unreclaimable(u64::MAX).is_some() == stat.reclaimable.is_some());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]
mod tests {
    use super::*;

    /// The error's sentence, or what was read.
    fn told<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        result.map_or_else(|error| format!("error: {error}"), |value| format!("{value:?}"))
    }

    #[test]
    fn events_cases() {
        for (text, want) in [
            ("low 0\nhigh 1\nmax 126\noom 3\noom_kill 8\noom_group_kill 1\n", "1 126 3 8 1"),
            // Linux 5.4
            ("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n", "0 0 0 0 -"),
            ("oom_kill 18446744073709551615\nnew_key whatever 1\n", "- - - 18446744073709551615 -"),
            ("", "- - - - -"),
            ("oom_kill 18446744073709551616\n", "oom_kill is '18446744073709551616', not a whole number from"),
            ("oom_kill -1\n", "oom_kill is '-1', not a whole number from"),
            ("oom_kill +1\n", "oom_kill is '+1', not a whole number from"),
            ("oom_kill  1\n", "oom_kill is ' 1', not a whole number from"),
            ("oom_kill 1 \n", "oom_kill is '1 ', not a whole number from"),
            ("oom_kill \n", "oom_kill is '', not a whole number from"),
            ("oom_kill 0x1\n", "oom_kill is '0x1', not a whole number from"),
            ("oom_kill 1\u{661}\n", "oom_kill is '1\\xd9\\xa1', not a whole number from"),
            ("oom_kill\n", "'oom_kill' is not a line as the kernel prints it"),
            ("oom 1\n\noom_kill 1\n", "'' is not a line as the kernel prints it"),
            ("oom 1\noom 1\n", "oom is there twice"),
            ("oom 1\noom_kill 14", "ends within a line"),
            ("\u{7f}ELF\u{2}\u{1}\u{1}\0\0 x\n", "'\\x7fELF\\x02\\x01\\x01\\x00\\x00 x' is not a line"),
        ] {
            let got = match events(text.as_bytes()) {
                Ok(e) => [e.high, e.max, e.oom, e.oom_kill, e.oom_group_kill]
                    .map(|number| number.map_or("-".to_owned(), |number| number.to_string()))
                    .join(" "),
                Err(error) => error.to_string(),
            };
            assert!(got.starts_with(want), "{text:?}: {got}");
        }
    }

    #[test]
    fn oom_control_and_vmstat_cases() {
        let v1 = oom_control(b"oom_kill_disable 0\nunder_oom 1\noom_kill 5\n");
        let want = OomControl { oom_kill_disable: Some(false), under_oom: Some(true), oom_kill: Some(5) };
        assert_eq!(v1, Ok(want));
        // Linux 4.12 and before.
        assert_eq!(oom_control(b"oom_kill_disable 0\nunder_oom 0\n").unwrap().oom_kill, None);
        assert!(oom_control(b"oom_kill_disable 0\nunder_oom 0\noom_kill x\n").is_err());
        for (text, want) in [
            ("nr_free_pages 1\noom_kill 60\nzone_reclaim_failed 0\n", "Some(60)"),
            ("nr_free_pages 1\nxoom_kill 60\n", "None"),
            ("", "None"),
            ("oom_kill many\n", "error: oom_kill is 'many', not a whole number from 0 to 18446744073709551615"),
        ] {
            assert_eq!(told(vmstat_oom_kills(text.as_bytes())), want, "{text:?}");
        }
    }

    #[test]
    fn numbers_and_limits() {
        for (text, as_number, as_limit) in [
            ("0\n", "0", "Bytes(0)"),
            ("16777216\n", "16777216", "Bytes(16777216)"),
            ("max\n", "error: the value is 'max', not", "Unlimited"),
            ("9223372036854771712\n", "9223372036854771712", "Unlimited"),
            // Pages of 16 and 64 KiB, and 32 bits.
            ("9223372036854759424\n", "9223372036854759424", "Unlimited"),
            ("9223372036854710272\n", "9223372036854710272", "Unlimited"),
            ("8796093018112\n", "8796093018112", "Unlimited"),
            ("8796093018111\n", "8796093018111", "Bytes(8796093018111)"),
            ("18446744073709551616\n", "error: the value is '18446744073709551616', not", "error: the limit is '184"),
            ("-1\n", "error: the value is '-1', not", "error: the limit is '-1', not"),
            ("maximum\n", "error: the value is", "error: the limit is 'maximum', not"),
            ("1\n2\n", "error: '1\\n2\\n' is not a line", "error: '1\\n2\\n' is not a line"),
            ("12", "error: ends within a line", "error: ends within a line"),
            ("\n", "error: '\\n' is not a line", "error: '\\n' is not a line"),
            ("", "error: '' is not a line", "error: '' is not a line"),
            ("\0\u{1}\n", "error: the value is '\\x00\\x01', not", "error: the limit is '\\x00\\x01', not"),
        ] {
            let got = (told(number(text.as_bytes())), told(limit(text.as_bytes())));
            assert!(got.0.starts_with(as_number) && got.1.starts_with(as_limit), "{text:?}: {got:?}");
        }
        let long = [&[b'9'; 100][..], b"\n"].concat();
        assert!(told(number(&long)).contains(&format!("'{}...'", "9".repeat(40))));
    }

    #[test]
    fn what_can_be_taken_back() {
        let v2 = MemoryStat::v2(b"anon 60\nfile 30\nslab_reclaimable 5\ninactive_file 10\nactive_file 20\n").unwrap();
        assert_eq!((v2.reclaimable, v2.unreclaimable(100), v2.unreclaimable(1)), (Some(35), Some(65), Some(0)));
        let v1 = "inactive_file 1\nactive_file 2\nhierarchical_memory_limit 31457280\ntotal_inactive_file 10\n";
        let v1 = MemoryStat::v1(format!("{v1}total_active_file 20\n").as_bytes()).unwrap();
        assert_eq!((v1.reclaimable, v1.hierarchical_limit), (Some(30), Some(Limit::Bytes(31_457_280))));
        for text in ["", "inactive_file 1\nactive_file 2\n", "total_inactive_file 1\n"] {
            for stat in [MemoryStat::v1(text.as_bytes()), MemoryStat::v2(text.as_bytes())] {
                assert_eq!(stat.unwrap().unreclaimable(9), None, "{text:?}");
            }
        }
        let most = format!("inactive_file {0}\nactive_file {0}\nslab_reclaimable {0}\n", u64::MAX);
        assert_eq!(MemoryStat::v2(most.as_bytes()).unwrap().unreclaimable(9), Some(0));
        assert!(MemoryStat::v2(b"inactive_file -1\n").is_err());
    }

    /// tests/captures/cgroup/README.md says what is true of them.
    #[test]
    fn captures() {
        macro_rules! capture {
            ($name:literal) => {
                include_bytes!(concat!("../../../tests/captures/cgroup/", $name))
            };
        }
        let leaf = oom_control(capture!("v1-leaf-memory.oom_control")).unwrap();
        let pod = oom_control(capture!("v1-pod-memory.oom_control")).unwrap();
        assert_eq!((leaf.oom_kill, pod.oom_kill), (Some(8), Some(0)));
        let stat = MemoryStat::v1(capture!("v1-leaf-memory.stat")).unwrap();
        assert_eq!((stat.reclaimable, stat.hierarchical_limit), (Some(0), Some(Limit::Bytes(16 << 20))));
        assert_eq!(limit(capture!("v1-leaf-memory.limit_in_bytes")), Ok(Limit::Bytes(16 << 20)));
        assert_eq!(limit(capture!("v1-pod-memory.limit_in_bytes")), Ok(Limit::Unlimited));
        let pod = events(capture!("v2-pod-memory.events")).unwrap();
        let own = events(capture!("v2-pod-memory.events.local")).unwrap();
        assert_eq!((pod.oom, pod.oom_kill, pod.oom_group_kill), (Some(1), Some(149), Some(1)));
        assert_eq!((own.oom, own.oom_kill, own.oom_group_kill), (Some(0), Some(0), Some(0)));
        let stat = MemoryStat::v2(capture!("v2-leaf-memory.stat")).unwrap();
        let current = number(capture!("v2-leaf-memory.current")).unwrap();
        assert!(stat.unreclaimable(current).is_some_and(|rest| 0 < rest && rest < current), "{stat:?} of {current}");
        assert_eq!(vmstat_oom_kills(capture!("vmstat-6.18")), Ok(Some(60)));
    }

    #[test]
    fn every_prefix() {
        let sample = "low 0\nhigh 0\nmax 5517\noom 1\noom_kill 149\noom_group_kill 1\n";
        for end in 0..=sample.len() {
            fuzz(&sample.as_bytes()[..end]);
            let whole_lines = sample[..end].is_empty() || sample[..end].ends_with('\n');
            assert_eq!(events(&sample.as_bytes()[..end]).is_ok(), whole_lines, "{end}");
        }
        for sample in ["16777216\n", "hierarchical_memory_limit 1\ntotal_inactive_file 1\ntotal_active_file 2\n"] {
            for end in 0..=sample.len() {
                fuzz(&sample.as_bytes()[..end]);
            }
        }
    }
}
