//! Nodes with journals in their places.

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use nodecheck::host::{Error, Host};
use nodecheck::journal::{Journal, Query, Told};

use crate::writer::{NEWEST, OLDEST, Writer};

pub const ID: &str = "0123456789abcdef0123456789abcdef";
pub const A: &[u8] = b"_SYSTEMD_UNIT=a.service";
pub const B: &[u8] = b"_SYSTEMD_UNIT=b.service";
/// 2026-11-21T00:00:00Z, in seconds.
const T: u64 = 1_795_219_200;
/// All that there is.
const EVER: (u64, u64) = (0, T + 1_000_000);

/// A tree that stands for `/`.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.file("etc/machine-id", format!("{ID}\n").as_bytes());
        tree
    }

    fn file(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn journal(&self, name: &str, bytes: &[u8]) -> PathBuf {
        self.file(&format!("var/log/journal/{ID}/{name}"), bytes)
    }

    fn host(&self) -> Host {
        Host::at_root(self.0.path()).unwrap()
    }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(second as i64).unwrap()
}

/// A file with an entry of `unit` each second, archived.
fn file(id: u8, seconds: std::ops::Range<u64>, unit: &[u8]) -> Writer {
    let mut writer = Writer::with_file_id(if id.is_multiple_of(2) { NEWEST } else { OLDEST }, [id; 16]);
    for second in seconds {
        let message = format!("MESSAGE=second {second}");
        writer.entry((T + second) * 1_000_000, &[message.as_bytes(), unit, b"PRIORITY=6"]);
    }
    writer.state(2);
    writer
}

/// The messages' seconds, and what was told beside.
pub fn look(host: &Host, matches: &[&[u8]], (since, until): (u64, u64)) -> Result<(Vec<u64>, Told), Error> {
    let mut seconds = Vec::new();
    let query = Query { matches, since: at(since), until: at(until) };
    let told = Journal::open(host)?.each(&query, &mut |entry| {
        let message = std::str::from_utf8(entry.message).unwrap();
        seconds.push(message.strip_prefix("second ").unwrap().parse().unwrap());
        assert_eq!(entry.field("PRIORITY").as_deref(), Some(&b"6"[..]));
    })?;
    assert_eq!(told.matched as usize, seconds.len());
    Ok((seconds, told))
}

#[test]
fn files_in_order_and_those_outside_left_out() {
    let tree = Tree::new();
    let mut active = file(3, 200..300, A);
    active.state(1);
    tree.journal("system.journal", &active.bytes);
    tree.journal("system@b-02-02.journal", &file(2, 100..200, A).bytes);
    tree.journal("system@b-01-01.journal", &file(1, 0..100, A).bytes);
    tree.journal("system@00-aa.journal~", &file(4, 50..60, B).bytes);
    tree.journal("user-1000.journal", &file(5, 0..100, A).bytes);
    tree.file(&format!("var/log/journal/{ID}.apart/system.journal"), &file(6, 0..100, A).bytes);
    tree.file("var/log/journal/ffffffffffffffffffffffffffffffff/system.journal", &file(7, 0..100, A).bytes);
    let host = tree.host();
    let (seconds, told) = look(&host, &[A], EVER).unwrap();
    assert_eq!(seconds, (0..300).collect::<Vec<_>>());
    assert_eq!((told.begins, told.newest), (Some(at(T)), Some(at(T + 299))));
    assert_eq!((told.files.read, told.files.outside, told.later), (4, 0, 0));
    let (seconds, told) = look(&host, &[A], (T + 150, T + 210)).unwrap();
    assert_eq!(seconds, (150..=210).collect::<Vec<_>>());
    assert_eq!((told.files.read, told.files.outside, told.later), (2, 2, 89));
    assert_eq!((told.begins, told.newest), (Some(at(T)), Some(at(T + 210))));
    let (seconds, _) = look(&host, &[], (T + 55, T + 55)).unwrap();
    assert_eq!(seconds, [55, 55]);
    let (seconds, told) = look(&host, &[A], (T + 301, T + 302)).unwrap();
    assert_eq!((seconds.len(), told.newest), (0, Some(at(T + 299))));
    assert_eq!((told.broken, told.unread, told.is_cut, told.unreadable), (0, 0, false, vec![]));
}

#[test]
fn no_journal_and_another_ones() {
    let tree = Tree::new();
    let refused = |tree: &Tree| look(&tree.host(), &[A], EVER).unwrap_err();
    let none = "no journal: nothing in /var/log/journal nor in /run/log/journal";
    assert_eq!(refused(&tree), Error::Absent(none.to_owned()));
    std::fs::create_dir_all(tree.0.path().join("var/log/journal")).unwrap();
    assert_eq!(refused(&tree), Error::Absent(none.to_owned()));
    tree.file("run/log/journal/ffffffffffffffffffffffffffffffff/system.journal", &file(1, 0..1, A).bytes);
    assert_eq!(
        refused(&tree),
        Error::Failed(format!(
            "no journal of this machine: /etc/machine-id says {ID}, and there is \
             /run/log/journal/ffffffffffffffffffffffffffffffff"
        ))
    );
    tree.journal("user-1000.journal", b"");
    assert_eq!(
        refused(&tree),
        Error::Absent(format!("no system journal in /var/log/journal/{ID} nor in /run/log/journal/{ID}"))
    );
    tree.file("etc/machine-id", b"uninitialized\n");
    assert_eq!(refused(&tree), Error::Failed("/etc/machine-id holds no machine id".to_owned()));
    std::fs::remove_file(tree.0.path().join("etc/machine-id")).unwrap();
    let no_id = "no /etc/machine-id, which names the directory of this machine's journal";
    assert_eq!(refused(&tree), Error::Failed(no_id.to_owned()));
}

/// While journald moves its journal to /var, the same entries are in both, with other numbers.
#[test]
fn an_entry_in_two_files_counts_once() {
    let tree = Tree::new();
    let mut copy = file(2, 0..50, B);
    for second in 50..80 {
        let message = format!("MESSAGE=second {second}");
        copy.entry((T + second) * 1_000_000, &[message.as_bytes(), A, b"PRIORITY=6"]);
    }
    copy.state(1);
    tree.journal("system.journal", &copy.bytes);
    let mut volatile = file(1, 50..100, A);
    volatile.state(1);
    tree.file(&format!("run/log/journal/{ID}/system.journal"), &volatile.bytes);
    let (mut seconds, told) = look(&tree.host(), &[A], EVER).unwrap();
    seconds.sort_unstable();
    assert_eq!(seconds, (50..100).collect::<Vec<_>>());
    assert_eq!(told.files.read, 2);
    // And a whole file under two names.
    tree.journal("system@copy.journal", &copy.bytes);
    assert_eq!(look(&tree.host(), &[A], EVER).unwrap().0.len(), 50);
}

/// What was listed is gone, or has another name, when its turn comes.
#[test]
fn files_that_come_and_go_meanwhile() {
    let tree = Tree::new();
    tree.journal("system@b-01-01.journal", &file(1, 0..10, A).bytes);
    let gone = tree.journal("system@b-02-02.journal", &file(2, 10..20, A).bytes);
    let active = tree.journal("system.journal", &file(3, 20..30, A).bytes);
    let host = tree.host();
    let (query, mut seconds) = (Query { matches: &[A], since: at(0), until: at(EVER.1) }, Vec::new());
    let journal = Journal::open(&host).unwrap();
    let told = journal
        .each(&query, &mut |entry| {
            seconds.push(String::from_utf8_lossy(entry.message).into_owned());
            if seconds.len() == 5 {
                std::fs::remove_file(&gone).unwrap();
                std::fs::rename(&active, active.with_file_name("system@b-03-03.journal")).unwrap();
                std::fs::write(&active, &file(4, 30..35, A).bytes).unwrap();
            }
        })
        .unwrap();
    let want: Vec<String> = (0..10).chain(20..35).map(|second| format!("second {second}")).collect();
    assert_eq!(seconds, want);
    assert_eq!((told.files.read, told.unreadable.len()), (3, 0));
    // All of it is gone: there is a journal no more.
    std::fs::remove_dir_all(tree.0.path().join("var")).unwrap();
    assert!(journal.each(&query, &mut |_| panic!()).unwrap_err().is_absent());
}

/// journald makes a hole of what it removes: the rest is not broken, but gone.
#[test]
fn a_file_that_is_removed_while_it_is_read() {
    let tree = Tree::new();
    let path = tree.journal("system@b-01-01.journal", &file(1, 0..20_000, A).bytes);
    tree.journal("system.journal", &file(2, 20_000..20_010, A).bytes);
    let host = tree.host();
    let (query, mut count) = (Query { matches: &[A], since: at(0), until: at(EVER.1) }, 0);
    let told = Journal::open(&host).unwrap().each(&query, &mut |entry| {
        assert!(entry.message.starts_with(b"second "));
        count += 1;
        if count == 5 {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(0).unwrap();
            file.set_len(length).unwrap();
            std::fs::remove_file(&path).unwrap();
        }
    });
    let told = told.unwrap();
    assert!((15..20_000).contains(&count), "{count} entries");
    assert_eq!((told.broken, told.files.removed, told.files.read), (0, 1, 2));
}

#[test]
fn files_that_can_not_be_read() {
    let tree = Tree::new();
    tree.journal("system@b-01-01.journal", &file(1, 0..10, A).bytes);
    let mut newer = file(2, 10..20, A).bytes;
    newer[12] |= 32;
    let newer = tree.journal("system.journal", &newer);
    let empty = tree.journal("system@b.journal~", b"");
    let (seconds, told) = look(&tree.host(), &[A], EVER).unwrap();
    assert_eq!((seconds.len(), told.files.read, told.files.unreadable), (10, 1, 2));
    let why: Vec<String> = told.unreadable.iter().map(Error::to_string).collect();
    let dir = format!("/var/log/journal/{ID}");
    assert_eq!(
        why,
        [
            format!("{dir}/system.journal: it has the incompatible flag 0x20 (a newer journal format)"),
            format!("{dir}/system@b.journal~: it is no journal: it is empty (0 bytes)"),
        ]
    );
    // One that was not written to since the window began does not matter.
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(T - 1000);
    std::fs::File::options().write(true).open(&empty).unwrap().set_modified(old).unwrap();
    let (_, told) = look(&tree.host(), &[A], (T, T + 100)).unwrap();
    assert_eq!((told.files.unreadable, told.files.outside), (1, 1));
    // Nothing else is there.
    std::fs::remove_file(tree.0.path().join(&dir[1..]).join("system@b-01-01.journal")).unwrap();
    std::fs::remove_file(empty).unwrap();
    let error = look(&tree.host(), &[A], EVER).unwrap_err().to_string();
    assert!(error.ends_with("incompatible flag 0x20 (a newer journal format)"), "{error}");
    std::fs::remove_file(&newer).unwrap();
    std::fs::create_dir(&newer).unwrap();
    let error = look(&tree.host(), &[A], EVER).unwrap_err().to_string();
    assert!(error.ends_with("system.journal is a directory, not a regular file"), "{error}");
}

#[test]
fn what_was_lost_before() {
    let tree = Tree::new();
    let mut writer = file(1, 0..10, A);
    let mut lost = |second: u64, fields: &[&[u8]]| {
        writer.entry((T + second) * 1_000_000, fields);
    };
    let dropped: &[u8] = b"MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e";
    let missed: &[u8] = b"MESSAGE_ID=e9bf28e6e834481bb6f48f548ad13606";
    lost(
        20,
        &[
            dropped,
            b"OBJECT_SYSTEMD_UNIT=a.service",
            b"N_DROPPED=100",
            b"MESSAGE=Suppressed 100 messages from a.service",
        ],
    );
    lost(
        21,
        &[dropped, b"OBJECT_SYSTEMD_UNIT=b.service", b"N_DROPPED=20", b"MESSAGE=Suppressed 20 messages from b.service"],
    );
    lost(22, &[dropped, b"OBJECT_SYSTEMD_UNIT=a.service", b"MESSAGE=Suppressed 3 messages from a.service"]);
    lost(23, &[missed, b"MESSAGE=Missed 7 kernel messages"]);
    lost(24, &[missed, b"MESSAGE=Missed some"]);
    tree.journal("system.journal", &writer.bytes);
    let host = tree.host();
    let lost = |matches: &[&[u8]], window: (u64, u64)| {
        let query = Query { matches, since: at(window.0), until: at(window.1) };
        let told = Journal::open(&host).unwrap().each(&query, &mut |_| {}).unwrap();
        (told.dropped, told.missed_kernel)
    };
    assert_eq!(lost(&[A], EVER), (103, 0));
    assert_eq!(lost(&[B], EVER), (20, 0));
    assert_eq!(lost(&[A, B], EVER), (123, 0));
    assert_eq!(lost(&[b"_TRANSPORT=kernel"], EVER), (0, 8));
    assert_eq!(lost(&[B, b"_TRANSPORT=kernel"], EVER), (20, 8));
    assert_eq!(lost(&[b"SYSLOG_IDENTIFIER=a"], EVER), (123, 0));
    assert_eq!(lost(&[], EVER), (123, 8));
    assert_eq!(lost(&[A], (T + 21, T + 100)), (3, 0));
    assert_eq!(lost(&[], (T + 24, T + 24)), (0, 1));
}

#[test]
fn a_storm_is_cut() {
    let tree = Tree::new();
    let mut writer = Writer::new(OLDEST);
    for number in 0..200_010 {
        writer.entry(T * 1_000_000 + number, &[b"MESSAGE=the same", A]);
    }
    tree.journal("system.journal", &writer.bytes);
    let query = Query { matches: &[A], since: at(T), until: at(T + 10) };
    let host = tree.host();
    let told = Journal::open(&host).unwrap().each(&query, &mut |entry| assert_eq!(entry.message, b"the same"));
    let told = told.unwrap();
    assert_eq!((told.matched, told.is_cut), (200_000, true));
    let told = Journal::open(&host).unwrap().each(&Query { since: at(T + 1), ..query }, &mut |_| {}).unwrap();
    assert_eq!((told.matched, told.is_cut), (0, false));
}

#[test]
fn thousands_of_files() {
    let tree = Tree::new();
    for number in 0..3000_u64 {
        let id: [u8; 16] = std::array::from_fn(|at| number.to_le_bytes().get(at).copied().unwrap_or(7));
        let mut writer = Writer::with_file_id(NEWEST, id);
        writer.entry((T + number) * 1_000_000, &[format!("MESSAGE=second {number}").as_bytes(), A, b"PRIORITY=6"]);
        writer.state(2);
        tree.journal(&format!("system@a-{number:016x}-{number:016x}.journal"), &writer.bytes);
    }
    let (seconds, told) = look(&tree.host(), &[A], (T + 2990, EVER.1)).unwrap();
    assert_eq!(seconds, (2990..3000).collect::<Vec<_>>());
    assert_eq!((told.files.read, told.files.outside, told.begins), (10, 2990, Some(at(T))));
}

/// What a recording keeps is what was looked at, and no more: it tells the same.
#[test]
fn a_recording_tells_the_same() {
    let tree = Tree::new();
    let mut one = file(1, 0..100, A);
    for second in 100..200 {
        let unit = if second % 2 == 0 { A } else { B };
        let message = format!("MESSAGE=second {second}");
        one.entry((T + second) * 1_000_000, &[message.as_bytes(), unit, b"PRIORITY=6", b"_CMDLINE=--token secret"]);
    }
    tree.journal("system@a-01-01.journal", &one.bytes);
    tree.journal("system.journal", &file(2, 200..300, A).bytes);
    tree.journal("user-1000.journal", b"nobody asks");
    tree.file("var/log/journal/other/system.journal", b"");
    tree.file("proc/sys/kernel/random/boot_id", b"3f1c0b9e-0000-4000-8000-000000000001\n");
    let host = tree.host().recording();
    let window = (T + 120, EVER.1);
    let want = look(&host, &[A], window).unwrap();
    let dir = tempfile::tempdir().unwrap();
    host.recorded().unwrap().write(dir.path(), at(T + 300)).unwrap();
    let replay = Host::scenario(dir.path()).unwrap();
    assert_eq!(look(&replay, &[A], window).unwrap(), want);
    let kept = std::fs::read(dir.path().join(format!("root/var/log/journal/{ID}/system@a-01-01.journal"))).unwrap();
    let holds = |text: &str| kept.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("MESSAGE=second 150") && !holds("second 151") && !holds("second 50") && !holds("secret"));
}

#[test]
fn a_user_who_may_not() {
    let tree = Tree::new();
    let path = tree.journal("system.journal", &file(1, 0..10, A).bytes);
    open_to_all(tree.0.path());
    restrict(&path);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "node::as_nobody"]).env("NODECHECK_TREE", tree.0.path());
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[test]
#[ignore = "started by another test"]
fn as_nobody() {
    let Some(tree) = std::env::var_os("NODECHECK_TREE") else { return };
    let host = Host::at_root(Path::new(&tree)).unwrap();
    let error = look(&host, &[A], EVER).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "/var/log/journal/{ID}/system.journal: permission denied; \
             needs the group systemd-journal or CAP_DAC_READ_SEARCH"
        )
    );
    assert!(matches!(error, Error::Denied { .. }));
}

fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn restrict(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o640)).unwrap();
}
