//! What `/proc` tells of processes and locks (`fs/proc/array.c`, `fs/locks.c`, `kernel/cgroup/cgroup.c`).

/// The beginning of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStat {
    /// At most 15 bytes, whatever the process likes.
    pub comm: String,
    /// `R`, `S`, `D`, `Z`...
    pub state: u8,
    /// The parent.
    pub parent: u32,
    /// When it began: clock ticks since the boot. With the pid, it is no other process.
    pub start: u64,
}

impl ProcessStat {
    /// Whether it has ended, and only its exit code is still to be fetched.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Reads `/proc/PID/stat`. The name is in brackets, and may hold some itself.
pub fn stat(bytes: &[u8]) -> Option<ProcessStat> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let comm = String::from_utf8_lossy(bytes.get(open.checked_add(1)?..close)?).into_owned();
    let rest = std::str::from_utf8(bytes.get(close.checked_add(1)?..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = match fields.next()?.as_bytes() {
        [state] => *state,
        _ => return None,
    };
    let parent = fields.next()?.parse().ok()?;
    // Field 22 of all; the state is the third.
    let start = fields.nth(17)?.parse().ok()?;
    Some(ProcessStat { comm, state, parent, start })
}

/// The container ids in a `/proc/PID/cgroup`: 64 hexadecimal digits that nothing of the kind follows or goes before. Both
/// cgroup drivers write them, with different words around.
pub fn container_ids(cgroup: &[u8]) -> impl Iterator<Item = &str> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    let words = cgroup.split(|byte| !byte.is_ascii_alphanumeric());
    let ids = words.filter(move |word| word.len() == 64 && word.iter().all(is_digit));
    ids.filter_map(|id| std::str::from_utf8(id).ok())
}

/// Who holds a `flock(2)` on what, of `/proc/locks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flock {
    /// In the pid namespace of the reader.
    pub process: u32,
    /// Major and minor number of the file system.
    pub device: (u64, u64),
    /// Of the file.
    pub inode: u64,
}

/// The locks of `flock(2)` that are held. Those that wait, and what is not as the kernel prints it, are left out.
pub fn flocks(locks: &[u8]) -> impl Iterator<Item = Flock> {
    locks.split(|byte| *byte == b'\n').filter_map(flock)
}

/// `1: FLOCK  ADVISORY  WRITE 812 fd:01:1234567 0 EOF`; numbers of devices are hexadecimal.
fn flock(line: &[u8]) -> Option<Flock> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let _number = fields.next()?;
    if fields.next()? != "FLOCK" {
        return None;
    }
    let process = fields.nth(2)?.parse().ok()?;
    let mut file = fields.next()?.split(':');
    let mut device = || u64::from_str_radix(file.next()?, 16).ok();
    let device = (device()?, device()?);
    Some(Flock { process, device, inode: file.next()?.parse().ok()? })
}

/// Whether a process is root's, by its `/proc/PID/status`: all four of its user ids are 0.
pub fn is_of_root(status: &[u8]) -> bool {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"));
    let ids = line.and_then(|line| std::str::from_utf8(line).ok());
    ids.is_some_and(|ids| ids.split_ascii_whitespace().count() == 4 && ids.split_ascii_whitespace().all(|id| id == "0"))
}

/// The arguments of a `/proc/PID/cmdline`.
pub fn arguments(cmdline: &[u8]) -> Vec<String> {
    let all = cmdline.strip_suffix(b"\0").unwrap_or(cmdline).split(|byte| *byte == 0);
    all.map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// The value of an option: `--root DIR`, `--root=DIR` and, as Go's own package takes it, `-root DIR`.
pub fn option<'a>(arguments: &'a [String], names: &[&str]) -> Option<&'a str> {
    let mut rest = arguments.iter();
    let mut found = None;
    while let Some(argument) = rest.next() {
        let Some(argument) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else { continue };
        match argument.split_once('=') {
            Some((name, value)) if names.contains(&name) => found = Some(value),
            None if names.contains(&argument) => found = rest.next().map(String::as_str).or(found),
            _ => {}
        }
    }
    found
}

/// What must hold for any bytes: no panic.
pub fn fuzz(data: &[u8]) {
    let _ = stat(data);
    assert!(container_ids(data).all(|id| id.len() == 64));
    let _ = (flocks(data).count(), is_of_root(data));
    let arguments = arguments(data);
    let _ = option(&arguments, &["root", "c"]);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]
mod tests {
    use super::*;

    const STAT: &[u8] =
        b"1234 (a) b (c) S 1 1234 1234 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 20 18446744073709551615\n";
    const ID: &str = "0bc50f8580500123456789abcdef0123456789abcdef0123456789abcdef0123";

    #[test]
    fn a_stat_line() {
        let want = ProcessStat { comm: "a) b (c".to_owned(), state: b'S', parent: 1, start: 987_654 };
        assert_eq!(stat(STAT), Some(want));
        // A prefix may still be whole up to the field that matters.
        for end in 0..STAT.len() {
            let whole = stat(&STAT[..end]);
            assert!(whole.is_none_or(|stat| stat.parent == 1), "{end}");
        }
        assert!(stat(b"1 (x) Z 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 7 0").unwrap().has_ended());
        for wrong in [&b""[..], b"1 x S 1", b"1 )( S 1", b"1 (x) SS 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 7"] {
            assert_eq!(stat(wrong), None);
        }
    }

    #[test]
    fn ids_in_cgroups() {
        for (path, count) in [
            (format!("0::/kubepods/burstable/pod1/{ID}\n"), 1),
            (format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope\n"), 1),
            (format!("4:memory:/system.slice/containerd.service/kubepods-pod1:cri-containerd:{ID}\n1:cpu:/x/{ID}"), 2),
            (format!("0::/docker/{ID}/kubepods/{ID}/init.scope"), 2),
            (format!("0::/{ID}a"), 0),
            (format!("0::/{}", ID.to_uppercase()), 0),
            (format!("0::/{}", &ID[1..]), 0),
            ("0::/\n".to_owned(), 0),
        ] {
            let ids: Vec<&str> = container_ids(path.as_bytes()).collect();
            assert_eq!((ids.len(), ids.iter().all(|id| *id == ID)), (count, true), "{path}");
        }
    }

    #[test]
    fn locks() {
        let text = b"1: POSIX  ADVISORY  WRITE 700 fd:01:99 0 EOF\n2: FLOCK  ADVISORY  WRITE 812 fd:1f:1234567 0 EOF\n\
            2: -> FLOCK  ADVISORY  WRITE 900 fd:1f:1234567 0 EOF\n3: FLOCK  ADVISORY  READ  0 00:2a:5 0 EOF\n4: FLOCK odd";
        let found: Vec<Flock> = flocks(text).collect();
        let of = |process, device, inode| Flock { process, device, inode };
        assert_eq!(found, [of(812, (0xfd, 0x1f), 1_234_567), of(0, (0, 0x2a), 5)]);
    }

    #[test]
    fn owners() {
        assert!(is_of_root(b"Name:\tx\nUid:\t0\t0\t0\t0\nGid:\t5\n"));
        for other in
            [&b"Uid:\t0\t1000\t0\t0\n"[..], b"Uid:\t1000\t1000\t1000\t1000\n", b"Uid:\t0\t0\t0\n", b"Uid:\n", b""]
        {
            assert!(!is_of_root(other));
        }
    }

    #[test]
    fn options() {
        let of = |cmdline: &[u8]| {
            let arguments = arguments(cmdline);
            option(&arguments, &["root"]).map(str::to_owned)
        };
        assert_eq!(of(b"containerd\0--root\0/a\0--state=/b\0").as_deref(), Some("/a"));
        assert_eq!(of(b"containerd\0--root=/a\0-root=/b\0").as_deref(), Some("/b"));
        assert_eq!(of(b"containerd\0--rootless\0/a\0").as_deref(), None);
        assert_eq!(of(b"containerd\0--root").as_deref(), None);
        assert_eq!(of(b""), None);
    }
}
