//! While a journald of our own writes, rotates and removes files, in a mount namespace of its own: every look tells what it
//! should.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nodecheck::host::Host;
use nodecheck::journal::{Journal, Query, Told};

use super::node::ID;
use super::tools::journalctl;

/// Without room to spare on the disk, journald would remove what it has written.
const SETTINGS: &str = "[Journal]\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\nForwardToWall=no\n\
                        SystemKeepFree=1M\nSystemMaxUse=500M\nSystemMaxFileSize=512K\n";
/// What it sees in place of the machine's own. It would not remove its journal from a /run that is no tmpfs.
const PLACES: &str = "set -e; cd \"$0\"; mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal /run/log/journal; \
                      [ ! -e flushed ] || touch /run/systemd/journal/flushed; mount --bind var/log /var/log; \
                      mount --bind etc/journald.conf /etc/systemd/journald.conf; \
                      mount --bind etc/machine-id /etc/machine-id; exec /lib/systemd/systemd-journald";

struct Journald {
    tree: tempfile::TempDir,
    /// What it takes for `/`.
    root: PathBuf,
    child: Child,
    socket: UnixDatagram,
    sent: u64,
}

impl Journald {
    /// Starts it. `is_flushed`: it writes to /var at once, not to /run.
    fn start(settings: &str, is_flushed: bool) -> Journald {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        for dir in ["etc", "var/log/journal"] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        std::fs::write(at("etc/machine-id"), format!("{ID}\n")).unwrap();
        std::fs::write(at("etc/journald.conf"), format!("{SETTINGS}{settings}")).unwrap();
        if is_flushed {
            std::fs::write(at("flushed"), "").unwrap();
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-c", PLACES]).arg(tree.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("util-linux is installed");
        let root = PathBuf::from(format!("/proc/{}/root", child.id()));
        let journald = Journald { tree, root, child, socket: UnixDatagram::unbound().unwrap(), sent: 0 };
        let begun = Instant::now();
        // Before that is in its place, the rest is the machine's own.
        let is_apart =
            || std::fs::read(journald.root.join("etc/machine-id")).is_ok_and(|id| id.starts_with(ID.as_bytes()));
        let socket = journald.root.join("run/systemd/journal/socket");
        while !is_apart() || journald.socket.connect(&socket).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "journald (package systemd) does not start");
            sleep(Duration::from_millis(20));
        }
        journald
    }

    /// Writes a message with its number. Each ninth is long enough to be compressed.
    fn send(&mut self) {
        let number = self.sent;
        let padding = if number.is_multiple_of(9) { "abcdefghij ".repeat(80) } else { String::new() };
        let group = if number.is_multiple_of(2) { "even" } else { "odd" };
        let message = format!("MESSAGE={number} {padding}\nGROUP={group}\nOF=test\nPRIORITY=6\n");
        self.socket.send(message.as_bytes()).unwrap();
        self.sent += 1;
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn host(&self) -> Host {
        Host::at_root(&self.root).unwrap()
    }

    fn files(&self) -> usize {
        let list = |dir: &str| std::fs::read_dir(self.root.join(dir).join(ID)).map_or(0, Iterator::count);
        list("var/log/journal") + list("run/log/journal")
    }

    /// Waits until it has written all that was sent.
    fn settle(&self) {
        let begun = Instant::now();
        // Its directory comes with the first file.
        let is_there = || Journal::open(&self.host()).is_ok();
        while !is_there() || numbers(&self.host(), &[b"OF=test"]).0.last().is_none_or(|last| last + 1 < self.sent) {
            assert!(begun.elapsed() < Duration::from_secs(30), "journald does not write");
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The numbers of the messages, sorted, and what was told beside.
fn numbers(host: &Host, matches: &[&[u8]]) -> (Vec<u64>, Told) {
    let (mut numbers, until) = (Vec::new(), Timestamp::now() + Duration::from_secs(300));
    let query = Query { matches, since: Timestamp::now() - Duration::from_secs(3600), until };
    let told = Journal::open(host).unwrap().each(&query, &mut |entry| {
        let text = std::str::from_utf8(entry.message).unwrap();
        numbers.push(text.split(' ').next().unwrap().parse().unwrap());
        assert!(entry.field("GROUP").is_some());
    });
    numbers.sort_unstable();
    let told = told.unwrap();
    assert_eq!((told.broken, told.unread, &told.unreadable, told.is_cut), (0, 0, &vec![], false));
    (numbers, told)
}

/// Sends for a while, and looks all the time from another thread; what each look told.
fn looks(journald: &mut Journald, length: Duration, look: impl Fn(&Host) -> Vec<u64> + Sync) -> Vec<Vec<u64>> {
    let host = journald.host();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = Vec::new();
            while begun.elapsed() < length {
                looks.push(look(&host.again()));
            }
            looks
        });
        while begun.elapsed() < length {
            for _ in 0..50 {
                journald.send();
            }
            sleep(Duration::from_millis(10));
        }
        looking.join().unwrap()
    })
}

#[test]
fn every_entry_is_told_while_files_are_rotated() {
    let mut journald = Journald::start("Storage=persistent\n", true);
    journald.send();
    journald.settle();
    let looks = looks(&mut journald, Duration::from_secs(8), |host| numbers(host, &[b"GROUP=odd", b"GROUP=even"]).0);
    let mut before = 0;
    for numbers in &looks {
        // All from the first on: neither a hole nor a double.
        let hole = (0..).zip(numbers).find(|(want, number)| want != *number);
        assert_eq!(hole, None, "among {} entries", numbers.len());
        assert!(numbers.len() >= before);
        before = numbers.len();
    }
    journald.settle();
    println!("{} looks at {} entries in {} files", looks.len(), journald.sent, journald.files());
    assert!(looks.len() >= 3 && journald.files() >= 5, "{} looks, {} files", looks.len(), journald.files());
    let of = |text: &str| numbers(&journald.host(), &[text.as_bytes()]).0.len();
    let dir = journald.tree.path().join("var/log/journal");
    let want = |text: &str| journalctl(&["--directory", dir.to_str().unwrap(), text]).len();
    for text in ["OF=test", "GROUP=odd", "GROUP=even"] {
        assert_eq!(of(text), want(text), "{text}");
    }
    assert_eq!(of("OF=test") as u64, journald.sent);
}

#[test]
fn no_look_fails_while_files_are_removed() {
    let mut journald = Journald::start("Storage=persistent\nSystemMaxFiles=4\n", true);
    journald.send();
    journald.settle();
    let looks = looks(&mut journald, Duration::from_secs(6), |host| numbers(host, &[b"OF=test"]).0);
    for numbers in &looks {
        assert!(numbers.is_sorted_by(|one, other| one < other), "an entry came twice: {numbers:?}");
    }
    let lost = looks.iter().filter(|numbers| numbers.first().is_some_and(|first| *first > 0)).count();
    println!("{} looks, {lost} of them after the first file was removed", looks.len());
    assert!(lost > 0);
}

/// As at boot: from /run to /var, with copies of all entries for a moment.
#[test]
fn no_entry_is_told_twice_while_the_journal_moves() {
    let mut journald = Journald::start("Storage=persistent\n", false);
    for _ in 0..6000 {
        journald.send();
    }
    journald.settle();
    let host = journald.host();
    let volatile = journald.root.join("run/log/journal").join(ID).join("system.journal");
    assert!(volatile.exists());
    let (mut looks, mut during, begun) = (0, 0, Instant::now());
    while volatile.exists() || looks < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "journald does not move its journal");
        if looks == 1 {
            journald.signal(Signal::SIGUSR1);
        }
        let (numbers, told) = numbers(&host.again(), &[b"OF=test"]);
        assert!(numbers.iter().copied().eq(0..6000), "{} entries", numbers.len());
        looks += 1;
        during += usize::from(told.files.read > 1);
    }
    println!("{looks} looks, {during} of them at both");
    assert_eq!(numbers(&host.again(), &[b"OF=test"]).0.len(), 6000);
    assert!(journald.tree.path().join("var/log/journal").join(ID).join("system.journal").exists());
}
