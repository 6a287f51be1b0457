//! The release binary as it is shipped: static, small, and with an answer on every way out.
//!
//! Where a fault has to come from the kernel, strace injects it. What needs root works in a user namespace, too.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nodecheck::parse::nrpe::{Version, decode_response, encode_query};
use support::{change_kernels, here, outcome, pending_node};

/// The binary may weigh this much, in bytes.
const LARGEST: usize = 9_000_000;
/// Nothing here takes longer, even on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The release binary, built if it is not up to date.
fn release() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // TARGET_DIR/TRIPLE/debug/nodecheck
        let built = Path::new(env!("CARGO_BIN_EXE_nodecheck"));
        let triple = built.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--release", "--locked", "--quiet", "--target-dir"]).arg(triple.parent().unwrap());
        // Flags in the environment would replace those of .cargo/config.toml.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"] {
            cargo.env_remove(variable);
        }
        let status = cargo.current_dir(here()).status().expect("cargo");
        assert!(status.success(), "cargo build --release --locked failed");
        triple.join("release/nodecheck")
    })
}

fn nodecheck() -> Command {
    let mut command = Command::new(release());
    command.stdin(Stdio::null());
    command
}

/// A program that the tests need; `package` is where Debian has it.
fn tool(name: &str, package: &str) -> Command {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}")))
}

/// `nodecheck` under strace with these options, its calls logged to `log`. The child is nodecheck itself (`-D`).
fn traced(log: &Path, options: &[&str], arguments: &[&str]) -> Command {
    let mut command = tool("strace", "strace");
    command.args(["-D", "-f", "-qq", "-o"]).arg(log).args(options).arg("--").arg(release()).args(arguments);
    command.stdin(Stdio::null());
    command
}

/// `script` for /bin/sh with mounts of its own; `$0` is the binary, `$1` and so on are `arguments`.
fn with_own_mounts(script: &str, arguments: &[&Path]) -> (i32, String, String) {
    let mut command = tool("unshare", "util-linux");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "/bin/sh", "-ec", script]).arg(release()).args(arguments);
    outcome(command.stdin(Stdio::null()).output().unwrap())
}

/// What a verdict says, without its perfdata, in which ages grow while a test runs.
fn words((code, out, _): &(i32, String, String)) -> (i32, String) {
    let (first, rest) = out.split_once('\n').unwrap_or((out, ""));
    (*code, format!("{}\n{rest}", first.split(" | ").next().unwrap()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Ends with the test, however that ends.
struct Running(Child, BufReader<ChildStdout>);

impl Running {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }

    /// The next line of stdout, as soon as it is there.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line
    }

    fn end(mut self) -> (i32, String, String) {
        let code = wait_for("the end of the process", || self.0.try_wait().unwrap());
        let code = code.code().unwrap_or_else(|| panic!("ended by a signal: {code:?}"));
        let mut texts = [String::new(), String::new()];
        self.1.read_to_string(&mut texts[0]).unwrap();
        if let Some(mut err) = self.0.stderr.take() {
            err.read_to_string(&mut texts[1]).unwrap();
        }
        let [out, err] = texts;
        (code, out, err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(mut command: Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    Running(child, out)
}

// --- what it is -----------------------------------------------------------------------------------------------------

/// The types of an ELF file's program headers.
fn segments(file: &[u8]) -> Vec<u32> {
    assert_eq!(&file[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
    let word = |at: usize| usize::from(u16::from_le_bytes(file[at..at + 2].try_into().unwrap()));
    let table = usize::try_from(u64::from_le_bytes(file[0x20..0x28].try_into().unwrap())).unwrap();
    let (size, count) = (word(0x36), word(0x38));
    (0..count).map(|n| table + n * size).map(|at| u32::from_le_bytes(file[at..at + 4].try_into().unwrap())).collect()
}

#[test]
fn it_is_one_static_file_of_a_bearable_size() {
    const PT_LOAD: u32 = 1;
    const PT_INTERP: u32 = 3;
    let dynamic = segments(&fs::read("/bin/sh").unwrap());
    assert!(dynamic.contains(&PT_INTERP), "/bin/sh is dynamic, this test does not see it");
    let file = fs::read(release()).unwrap();
    let segments = segments(&file);
    assert!(segments.contains(&PT_LOAD) && !segments.contains(&PT_INTERP), "dynamic: were there RUSTFLAGS?");
    assert!(file.len() <= LARGEST, "{} bytes, at most {LARGEST}", file.len());
}

#[test]
fn it_runs_where_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(release(), dir.path().join("nodecheck")).unwrap();
    let inside =
        |arguments: &str| with_own_mounts(&format!("exec chroot \"$1\" /nodecheck {arguments}"), &[dir.path()]);
    let (code, out, err) = inside("list");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("reboot-required"), "{out}");
    let (code, out, err) = inside("run reboot-required");
    assert_eq!((code, err.as_str()), (3, ""), "{out}");
    assert!(out.starts_with("UNKNOWN - reboot-required: not on this node: "), "{out}");
    assert_eq!(inside("run --all").0, 3);
}

/// No host library, no name service, no other program: what a static glibc would load if names were resolved.
fn assert_alone(log: &Path) {
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("execve(") && log.contains("openat"), "strace saw nothing: {log}");
    for line in log.lines() {
        for foreign in [
            "libnss_",
            "libc.so",
            "nsswitch.conf",
            "/etc/passwd",
            "/etc/hosts",
            "resolv.conf",
            "gai.conf",
            "host.conf",
            "ld.so.",
            "nscd",
            "gconv",
            "locale",
        ] {
            assert!(!line.contains(foreign), "{line}");
        }
    }
    assert_eq!(log.matches("execve(").count(), 1, "it started a program:\n{log}");
}

const CALLS: &str = "trace=execve,execveat,open,openat,openat2,connect";

#[test]
fn it_loads_nothing_of_the_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let (log, state) = (dir.path().join("log"), dir.path().join("state"));
    for arguments in [&["list"][..], &["run", "--all"], &["run", "reboot-required"], &["explain", "reboot-required"]] {
        let arguments = [arguments, &["--state-dir", text(&state)]].concat();
        let (code, out, _) = outcome(traced(&log, &["-e", CALLS], &arguments).output().unwrap());
        assert!(code <= 3 && !out.is_empty(), "{arguments:?}: {out}");
        assert_alone(&log);
    }
    let daemon = Daemon::start_traced(&log, &["-e", CALLS], dir.path());
    assert_eq!(daemon.query("reboot-required").0, 1);
    assert_eq!(daemon.query("nothing").0, 3);
    daemon.child.signal(Signal::SIGTERM);
    assert_eq!(daemon.child.end().0, 0);
    assert_alone(&log);
}

// --- old kernels and seccomp filters --------------------------------------------------------------------------------

#[test]
fn newer_system_calls_may_be_refused() {
    let node = pending_node(48);
    // Links of both kinds on the way: they must be followed inside the tree without openat2, too.
    fs::rename(node.path().join("run"), node.path().join("real-run")).unwrap();
    symlink("/real-run", node.path().join("run")).unwrap();
    let arguments = ["run", "reboot-required", "--root", text(node.path())];
    let plain = outcome(nodecheck().args(arguments).output().unwrap());
    assert!(plain.0 == 1 && plain.1.contains("pending for 2 d"), "{}", plain.1);
    let log = node.path().join("log");
    for call in ["openat2", "statx"] {
        for error in ["ENOSYS", "EPERM"] {
            let options = [format!("trace={call}"), format!("inject={call}:error={error}")];
            let run = traced(&log, &["-e", &options[0], "-e", &options[1]], &arguments).output().unwrap();
            assert_eq!(words(&outcome(run)), words(&plain), "{call} answers {error}");
            let log = wait_for("strace's log", || fs::read_to_string(&log).ok().filter(|log| !log.is_empty()));
            assert!(log.contains(&format!("-1 {error}")) && log.contains("(INJECTED)"), "{call} {error}: {log}");
        }
    }
}

// --- every way out is an answer -------------------------------------------------------------------------------------

/// How long a call hangs. strace ends only after that, whatever became of the process; hence the answers are read as
/// they come.
const HANG: Duration = Duration::from_secs(8);

/// A look whose first call on `path` of the node hangs.
fn hanging(node: &Path, path: &str, arguments: &[&str]) -> Running {
    let delay = format!("inject=openat2:delay_enter={}", HANG.as_micros());
    let options = ["-P", path, "-e", "trace=openat2", "-e", &delay];
    start(traced(&node.join("log"), &options, &[arguments, &["--root", text(node)]].concat()))
}

#[test]
fn a_look_that_hangs_ends_at_the_deadline() {
    let node = pending_node(48);
    let one = &["run", "reboot-required", "-t", "1"][..];
    let settings = "/etc/nodecheck/nodecheck.toml";
    for (path, arguments, first, place) in [
        ("/run", one, "UNKNOWN - reboot-required: the look did not end within 1s", "(at: /run)"),
        ("/run", &["run", "--all", "-t", "1"], "UNKNOWN - 1 check: 1 UNKNOWN", "(at: /run)"),
        (settings, one, "UNKNOWN - nodecheck: the settings could not be read within 1s", "within 1s"),
    ] {
        let begun = Instant::now();
        let mut look = hanging(node.path(), path, arguments);
        let line = look.line();
        assert!(begun.elapsed() < HANG, "it hung for {:?}", begun.elapsed());
        assert!(line.starts_with(first), "{line}");
        let (code, rest, _) = look.end();
        assert!(code == 3 && format!("{line}{rest}").contains(place), "{code}: {line}{rest}");
    }
}

#[test]
fn a_look_that_hangs_can_be_told_to_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let node = pending_node(48);
        let mut look = hanging(node.path(), "/run", &["run", "reboot-required", "-t", "50"]);
        let log = node.path().join("log");
        wait_for("the look to hang", || fs::read_to_string(&log).ok().filter(|log| log.contains("\"/run\"")));
        let begun = Instant::now();
        look.signal(signal);
        assert_eq!(look.line(), format!("UNKNOWN - nodecheck: stopped by {signal} before there was an answer\n"));
        assert!(begun.elapsed() < HANG, "it hung for {:?}", begun.elapsed());
        let (code, rest, _) = look.end();
        assert_eq!((code, rest.as_str()), (3, ""));
    }
}

#[test]
fn an_answer_that_nobody_can_read_is_unknown() {
    let node = pending_node(48);
    let root = text(node.path());
    for arguments in [
        &["run", "reboot-required", "--root", root][..],
        &["run", "--all", "--root", root],
        &["run", "--all", "--format", "json", "--root", root],
        &["list", "--root", root],
        &["explain", "reboot-required", "--root", root],
        &["check-config", "--root", root],
        &["--help"],
        &["--version"],
        &["no-such-command"],
    ] {
        let mut closed = tool("sh", "dash");
        closed.args(["-c", "exec \"$0\" \"$@\" >&-"]).arg(release()).args(arguments).stderr(Stdio::null());
        assert_eq!(closed.status().unwrap().code(), Some(3), "{arguments:?} with stdout closed");
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(
            nodecheck().args(arguments).stdout(full).status().unwrap().code(),
            Some(3),
            "{arguments:?}, full disk"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(
            nodecheck().args(arguments).stdout(writer).status().unwrap().code(),
            Some(3),
            "{arguments:?}, no reader"
        );
        // Stderr is for remarks; the answer does not need it.
        let mut shell = tool("sh", "dash");
        let silent = shell.args(["-c", "exec \"$0\" \"$@\" 2>&- </dev/null"]).arg(release()).args(arguments).output();
        let usual = nodecheck().args(arguments).output().unwrap();
        assert_eq!(silent.unwrap().status.code(), usual.status.code(), "{arguments:?} with stderr closed");
    }
}

// --- the daemon -----------------------------------------------------------------------------------------------------

struct Daemon {
    child: Running,
    address: SocketAddr,
    _node: tempfile::TempDir,
}

impl Daemon {
    fn start(dir: &Path) -> Daemon {
        Daemon::begin(nodecheck(), dir)
    }

    fn start_traced(log: &Path, options: &[&str], dir: &Path) -> Daemon {
        Daemon::begin(traced(log, options, &[]), dir)
    }

    fn begin(mut command: Command, dir: &Path) -> Daemon {
        let node = pending_node(48);
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = dir.join("ask.sock");
        command.args(["serve", "--plain", "--listen", &address.to_string(), "--socket", text(&socket)]);
        command.args(["--root", text(node.path())]);
        let child = start(command);
        wait_for("the daemon", || TcpStream::connect(address).ok());
        Daemon { child, address, _node: node }
    }

    fn query(&self, command: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&encode_query(Version::V4, command.as_bytes())).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let answer = decode_response(&bytes).unwrap();
        (answer.code, String::from_utf8(answer.text.to_vec()).unwrap())
    }
}

#[test]
fn a_daemon_that_is_told_to_end_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let daemon = Daemon::start(dir.path());
        let (code, answer) = daemon.query("reboot-required");
        assert!(code == 1 && answer.starts_with("WARNING - reboot-required: reboot pending for 2 d"), "{answer}");
        // One that says nothing does not hold up the end.
        let _silent = TcpStream::connect(daemon.address).unwrap();
        let (address, begun) = (daemon.address, Instant::now());
        daemon.child.signal(signal);
        let (code, out, err) = daemon.child.end();
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        drop(TcpListener::bind(address).unwrap());
        assert!(!dir.path().join("ask.sock").exists(), "the socket stays");
    }
}

#[test]
fn a_daemon_whose_port_is_taken_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ask.sock");
    let run = nodecheck().args(["serve", "--plain", "--listen", &address, "--socket", text(&socket)]).output();
    let (code, out, _) = outcome(run.unwrap());
    assert!(code == 3 && out.starts_with("UNKNOWN - nodecheck: ") && out.contains(&address), "{out}");
    assert!(!socket.exists());
}

// --- the past -------------------------------------------------------------------------------------------------------

#[test]
fn a_run_may_be_killed_at_any_moment() {
    let rounds = std::env::var("NODECHECK_KILLS").map_or(200, |rounds| rounds.parse().unwrap());
    let (node, dir) = (pending_node(48), tempfile::tempdir().unwrap());
    let state = dir.path().join("state");
    let arguments = ["run", "reboot-required", "--root", text(node.path()), "--state-dir", text(&state)];
    let file = state.join("reboot-required.json");
    let begun = Instant::now();
    assert_eq!(nodecheck().args(arguments).stdout(Stdio::null()).status().unwrap().code(), Some(1));
    let whole = begun.elapsed();
    let (mut killed, mut seen, mut dice) = (0, std::collections::BTreeSet::new(), 12345_u32);
    for round in 0..rounds {
        change_kernels(node.path(), round);
        let mut run = nodecheck().args(arguments).stdout(Stdio::null()).spawn().unwrap();
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        sleep(whole * (dice >> 16) / (1 << 16));
        run.kill().unwrap();
        killed += u32::from(run.wait().unwrap().code().is_none());
        let text = fs::read_to_string(&file).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        seen.insert(parsed["notes"].to_string());
    }
    assert!(killed > rounds / 20, "only {killed} of {rounds} were killed in time");
    assert!(seen.len() > 3, "the file never changed: this test tests nothing");
    let (code, out, _) = outcome(nodecheck().args(arguments).output().unwrap());
    assert!(code == 1 && out.contains("pending for 2 d"), "{out}");
    assert!(!out.contains("history") && !out.contains("recorded"), "{out}");
    let left: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.len() <= 3, "{left:?}");
}

/// Ways to make a state directory that can't be written: what `$2` is then, and what is said.
const UNWRITABLE: [(&str, &str); 5] = [
    ("mount -t tmpfs -o size=4k none \"$2\"; head -c 4096 /dev/zero >\"$2/filler\";", "No space left"),
    ("mount -t tmpfs -o nr_inodes=1 none \"$2\";", "No space left"),
    ("mount -t tmpfs -o ro none \"$2\";", "Read-only file system"),
    ("mount -t tmpfs none \"$2\"; : >\"$2/file\"; set -- \"$1\" \"$2/file\";", "Not a directory"),
    ("set -- \"$1\" \"$2/a/b/c\";", "No such file or directory"),
];
const ASK: &str = "\"$0\" run reboot-required --root \"$1\" --state-dir \"$2\"";

/// Under `--root` a file's birth is not known: its age needs an earlier look, or one that can be kept. The shown age is
/// a lower bound, so a CRITICAL stays one.
#[test]
fn a_first_look_that_can_not_be_kept_says_so() {
    for (hours, code, start) in [(48, 3, "UNKNOWN - reboot-required: "), (200, 2, "CRITICAL - reboot-required: ")] {
        let (node, dir) = (pending_node(hours), tempfile::tempdir().unwrap());
        for (prepare, reason) in UNWRITABLE {
            let told = with_own_mounts(&format!("{prepare} exec {ASK}"), &[node.path(), dir.path()]);
            assert_eq!((told.0, told.2.as_str()), (code, ""), "{prepare}: {}", told.1);
            assert!(told.1.starts_with(start), "{prepare}: {}", told.1);
            let line =
                told.1.lines().find(|line| line.starts_with("this look could not be recorded: ")).unwrap_or_default();
            assert!(line.contains(reason) && line.contains(text(dir.path())), "{prepare}: {}", told.1);
            assert!(told.1.contains("libc6"), "{prepare}: {}", told.1);
        }
    }
}

#[test]
fn a_disk_that_fills_up_costs_no_verdict() {
    let (node, dir) = (pending_node(48), tempfile::tempdir().unwrap());
    // One look is recorded; ten minutes later it is time to record another; then there is room again.
    let script = format!(
        "mount -t tmpfs -o size=8k none \"$2\"; {ASK} >/dev/null || true
         head -c 8192 /dev/zero >\"$2/filler\" 2>/dev/null || true
         echo \"2592600.00 1.00\" >\"$1/proc/uptime\"
         {ASK} || echo \"code $?\"; ls -A \"$2\"
         rm \"$2/filler\"; {ASK} || echo \"code $?\"; ls -A \"$2\""
    );
    let (_, out, err) = with_own_mounts(&script, &[node.path(), dir.path()]);
    assert_eq!(err, "");
    let (full, free) = out.split_once("filler\nlock\nreboot-required.json\n").expect(&out);
    for part in [full, free] {
        assert!(part.starts_with("WARNING - reboot-required: reboot pending for 2 d"), "{out}");
        assert!(part.contains("\ncode 1\n"), "{out}");
    }
    assert!(full.contains("\nthis look could not be recorded: ") && full.contains("No space left"), "{out}");
    assert!(!free.contains("recorded") && free.ends_with("code 1\nlock\nreboot-required.json\n"), "{out}");
}

#[test]
fn runs_at_the_same_time_agree() {
    let (node, dir) = (pending_node(48), tempfile::tempdir().unwrap());
    let state = dir.path().join("state");
    let arguments = ["run", "reboot-required", "--root", text(node.path()), "--state-dir", text(&state)];
    let command = || {
        let mut command = nodecheck();
        command.args(arguments);
        command
    };
    let runs: Vec<Running> = (0..16).map(|_| start(command())).collect();
    let said: Vec<_> = runs.into_iter().map(|run| words(&run.end())).collect();
    for one in &said {
        assert_eq!(one, &said[0]);
        assert!(one.0 == 1 && !one.1.contains("recorded"), "{one:?}");
    }
    assert_eq!(words(&outcome(command().output().unwrap())), said[0]);
}
