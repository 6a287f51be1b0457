//! The daemon as `run`, its links and the stock check_nrpe meet it.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{change_kernels, install_kernel, nodecheck, outcome, pending_node};

/// A daemon that looks at a node of the test's own.
struct Daemon {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    node: tempfile::TempDir,
}

/// Looks so often that a test need not wait for long, and so rarely that none comes while a test runs.
const OFTEN: &str = "interval = \"1s\"";
const RARELY: &str = "interval = \"1h\"";

impl Daemon {
    fn start(age_hours: u64) -> Daemon {
        Daemon::with(age_hours, "", |_| nodecheck())
    }

    /// A daemon with settings of its check. It may keep its past in `state` of its directory, which `program` is told.
    fn with(age_hours: u64, settings: &str, program: impl FnOnce(&Path) -> Command) -> Daemon {
        let (dir, node) = (tempfile::tempdir().unwrap(), pending_node(age_hours));
        for dir in [&dir, &node] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        }
        set(node.path(), settings);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = program(dir.path());
        command.arg("--socket").arg(dir.path().join("ask.sock")).arg("--root").arg(node.path());
        command.args(["serve", "--plain", "--listen", &format!("127.0.0.1:{port}")]).stderr(Stdio::null());
        let daemon = Daemon { child: command.spawn().unwrap(), port, dir, node };
        // Root may connect before the others may.
        let is_open = || fs::metadata(daemon.socket()).is_ok_and(|socket| socket.mode() & 0o777 == 0o660);
        wait_for("the daemon", || UnixStream::connect(daemon.socket()).is_ok() && is_open());
        daemon
    }

    /// One that keeps its past.
    fn keeping(age_hours: u64, settings: &str) -> Daemon {
        Daemon::with(age_hours, settings, |dir| {
            let mut command = nodecheck();
            command.arg("--state-dir").arg(dir.join("state"));
            command
        })
    }

    fn state_file(&self) -> PathBuf {
        self.dir.path().join("state/reboot-required.json")
    }

    /// Takes the reboot flag of its node away.
    fn remove_flag(&self) {
        for file in ["reboot-required", "reboot-required.pkgs"] {
            fs::remove_file(self.node.path().join("run").join(file)).unwrap();
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("ask.sock")
    }

    /// Asks as a user of this node does; the daemon's node is not this one.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = nodecheck();
        command.arg("--socket").arg(self.socket()).args(arguments);
        command
    }

    fn ask(&self, arguments: &[&str]) -> (i32, String, String) {
        outcome(self.command(arguments).output().unwrap())
    }

    fn check_nrpe(&self, arguments: &[&str]) -> (i32, String, String) {
        let program = "/usr/lib/nagios/plugins/check_nrpe";
        let mut command = Command::new(program);
        command.args(["-n", "-H", "127.0.0.1", "-p", &self.port.to_string()]).args(arguments);
        outcome(command.output().expect("check_nrpe (package nagios-nrpe-plugin) is needed"))
    }
}

fn set(node: &Path, settings: &str) {
    let etc = node.join("etc/nodecheck");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("nodecheck.toml"), format!("[check.reboot-required]\n{settings}\n")).unwrap();
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The seconds of the line that tells a look's age; `None` where there is no such line.
fn age_of_look(out: &str) -> Option<u64> {
    let line = out.lines().find(|line| line.starts_with("looked "))?;
    line.strip_prefix("looked ")?.strip_suffix(" s ago")?.parse().ok()
}

/// A state file, whole.
fn parsed(file: &Path) -> serde_json::Value {
    let text = fs::read_to_string(file).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A program that `uid`, who is not root, can execute: the target directory may be below root's home.
fn binary_for_all(dir: &Path) -> PathBuf {
    assert!(nix::unistd::geteuid().is_root(), "this test changes its user: run it as root");
    let binary = dir.join("nodecheck");
    fs::copy(env!("CARGO_BIN_EXE_nodecheck"), &binary).unwrap();
    binary
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn run_gets_the_daemons_verdict() {
    let daemon = Daemon::start(48);
    let mode = fs::metadata(daemon.socket()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o660);
    let (code, out, _) = daemon.ask(&["run", "reboot-required"]);
    assert!(code == 1 && out.starts_with("WARNING - reboot-required: reboot pending for 2 d"), "{out}");
    assert_eq!(daemon.ask(&["run", "reboot-required", "-w", "~:", "-c", "60"]).0, 2, "the caller's thresholds");
    assert_eq!(daemon.ask(&["run", "reboot-required", "-w", "999999"]).0, 0, "the caller's thresholds");
    let (_, out, _) = daemon.ask(&["run", "--all"]);
    assert!(out.contains(" 1 WARNING") && out.contains("reboot pending for 2 d"), "{out}");
    let (code, out, _) = daemon.ask(&["run", "reboot-required", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["status"]), (1, &"warning".into()));
    let (code, out, _) = daemon.ask(&["run", "reboot-requird"]);
    assert!(code == 3 && out.contains("did you mean reboot-required?"), "{out}");
    // What is asked of this node here and now is not the daemon's to answer.
    let dir = daemon.dir.path().to_str().unwrap();
    let config = daemon.dir.path().join("empty.toml");
    fs::write(&config, "").unwrap();
    let config = config.to_str().unwrap();
    for local in [&["--local"][..], &["--set", "kernels=false"], &["--state-dir", dir], &["--config", config]] {
        let (_, out, _) = daemon.ask(&[&["run", "reboot-required"], local].concat());
        assert!(!out.contains("reboot pending for 2 d"), "{local:?}: {out}");
    }
}

#[test]
fn without_a_daemon_run_looks_by_itself() {
    let mut daemon = Daemon::start(48);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let (code, out, _) = daemon.ask(&["run", "reboot-required"]);
    assert!(code <= 3 && out.contains(" - reboot-required: ") && !out.contains("for 2 d"), "{out}");
    assert!(!out.contains("without the daemon"), "{out}");
}

/// As the user `nagios` does behind another NRPE daemon: through the link, without privileges.
#[test]
fn a_plugin_link_needs_no_privileges() {
    let mut daemon = Daemon::with(48, RARELY, |_| nodecheck());
    let binary = binary_for_all(daemon.dir.path());
    let link = daemon.dir.path().join("check_reboot_required");
    std::os::unix::fs::symlink(&binary, &link).unwrap();
    let group = fs::metadata(daemon.socket()).unwrap().gid().to_string();
    let ask = |socket: &Path, groups: &[&str], arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534"]).args(groups).arg(&link);
        let output = command.arg("--socket").arg(socket).args(arguments).output();
        outcome(output.expect("setpriv (package util-linux) is needed"))
    };
    let socket = daemon.socket();
    let members = ["--groups", &group];
    let (code, out, _) = ask(&socket, &members, &[]);
    assert!(code == 1 && out.starts_with("WARNING - reboot-required: reboot pending for 2 d"), "{out}");
    let (code, out, _) = ask(&socket, &members, &["-w", "999999"]);
    assert!(code == 0 && out.contains("reboot pending for 2 d"), "{out}");
    assert!(age_of_look(&out).is_some(), "{out}");
    assert_eq!(ask(&socket, &members, &["-c", "60"]).0, 2);
    // Who may not ask is told so, and gets a look of his own at this machine.
    let local = |out: &str| out.contains(" - reboot-required: ") && !out.contains("for 2 d");
    let (code, out, _) = ask(&socket, &["--clear-groups"], &[]);
    assert!(code <= 3 && local(&out), "{out}");
    assert!(out.contains("permission denied; needs group nodecheck"), "{out}");
    assert!(out.contains("this look could not be recorded"), "{out}");
    // Without a daemon there is none to ask.
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    for socket in [&socket, Path::new("/nonexistent/ask.sock")] {
        let (code, out, _) = ask(socket, &members, &[]);
        assert!(code <= 3 && local(&out) && !out.contains("without the daemon"), "{out}");
    }
}

#[test]
fn it_looks_though_nobody_asks() {
    let daemon = Daemon::keeping(48, OFTEN);
    wait_for("the first look", || daemon.state_file().exists());
    for number in [101, 102] {
        assert!(!parsed(&daemon.state_file())["notes"].to_string().contains(&format!("-{number}-")));
        install_kernel(daemon.node.path(), number);
        let seen = || parsed(&daemon.state_file())["notes"].to_string().contains(&format!("-{number}-"));
        wait_for("the next look", seen);
    }
}

#[test]
fn a_question_gets_the_newest_look() {
    let daemon = Daemon::with(48, RARELY, |_| nodecheck());
    assert_eq!(daemon.ask(&["run", "reboot-required"]).0, 1);
    let age = |arguments: &[&str]| age_of_look(&daemon.ask(&[&["run", "reboot-required"], arguments].concat()).1);
    daemon.remove_flag();
    // The same look, which is older each time, by whatever thresholds, on every way out.
    wait_for("an older look", || age(&[]) >= Some(2));
    let (code, out, _) = daemon.ask(&["run", "reboot-required", "-w", "999999"]);
    assert!(code == 0 && out.starts_with("OK - reboot-required: reboot pending for 2 d"), "{out}");
    assert!(age(&["-c", "60"]) >= Some(2));
    let (_, out, _) = daemon.ask(&["run", "--all"]);
    assert!(out.contains("reboot pending for 2 d") && out.contains(" s ago"), "{out}");
    let (code, out, _) = daemon.check_nrpe(&["-c", "reboot-required"]);
    assert!(code == 1 && age_of_look(&out) >= Some(2), "{out}");
    // Line 1 tells no age, and is that of a local run.
    let line = |out: &str| out.split(" | ").next().unwrap().to_owned();
    assert_eq!(line(&out), line(&daemon.ask(&["run", "reboot-required"]).1));
    let (_, local, _) = daemon.ask(&["run", "reboot-required", "--root", daemon.node.path().to_str().unwrap()]);
    assert!(local.starts_with("OK") && age_of_look(&local).is_none(), "{local}");
}

#[test]
fn after_an_interval_a_question_gets_another_look() {
    let daemon = Daemon::with(48, OFTEN, |_| nodecheck());
    assert_eq!(daemon.ask(&["run", "reboot-required"]).0, 1);
    daemon.remove_flag();
    wait_for("a look without the flag", || daemon.ask(&["run", "reboot-required"]).0 == 0);
    assert!(age_of_look(&daemon.ask(&["run", "reboot-required"]).1) <= Some(2));
}

/// strace lets the first call on /run of every look hang for longer than this test takes.
#[test]
fn a_look_that_hangs_is_unknown_at_once_and_does_not_hold_up_the_end() {
    let settings = format!("{OFTEN}\ndeadline = \"300ms\"");
    let daemon = Daemon::with(48, &settings, |dir| {
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-qq", "-P", "/run", "-e", "trace=openat2"]);
        command.args(["-e", "inject=openat2:delay_enter=12000000", "-o"]).arg(dir.join("log"));
        command.arg("--").arg(env!("CARGO_BIN_EXE_nodecheck"));
        command
    });
    let hangs = |out: &str| out.contains(" is still running (at: /run); no second one is started");
    wait_for("the deadline", || hangs(&daemon.ask(&["run", "reboot-required"]).1));
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(400));
        let begun = Instant::now();
        let (code, out, _) = daemon.ask(&["run", "reboot-required"]);
        assert!(code == 3 && hangs(&out) && begun.elapsed() < Duration::from_secs(2), "{:?}: {out}", begun.elapsed());
        assert_eq!(daemon.check_nrpe(&["-c", "reboot-required"]).0, 3);
    }
    let looks = fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap();
    let names = looks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
    assert_eq!(names.filter(|name| name == "reboot-required\n").count(), 1, "one hung look is one thread");
    let begun = Instant::now();
    daemon.signal(Signal::SIGTERM);
    // The process itself is strace's for as long as the call hangs; that it has ended shows in its state.
    let stat = format!("/proc/{}/stat", daemon.child.id());
    wait_for("the end", || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
    assert!(begun.elapsed() < Duration::from_secs(5) && !daemon.socket().exists(), "{:?}", begun.elapsed());
}

/// What was first seen when must outlast any end.
#[test]
fn it_may_be_killed_at_any_moment() {
    let rounds = std::env::var("NODECHECK_KILLS").map_or(200, |rounds| rounds.parse().unwrap());
    let (node, dir) = (pending_node(48), tempfile::tempdir().unwrap());
    set(node.path(), OFTEN);
    let start = || {
        let mut command = nodecheck();
        command.arg("--socket").arg(dir.path().join("ask.sock")).arg("--root").arg(node.path());
        command.arg("--state-dir").arg(dir.path().join("state")).args(["serve", "--nrpe=off"]);
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    let file = dir.path().join("state/reboot-required.json");
    let begun = Instant::now();
    let mut daemon = start();
    wait_for("the first look", || file.exists());
    let whole = begun.elapsed() * 3 / 2;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let (mut writes, mut dice) = (0, 12345_u32);
    let mut before = parsed(&file);
    for round in 0..rounds {
        change_kernels(node.path(), round);
        let mut daemon = start();
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Some live for more than the first look.
        let whole = if round % 60 == 0 { Duration::from_millis(1500) } else { whole };
        std::thread::sleep(whole * (dice >> 16) / (1 << 16));
        daemon.kill().unwrap();
        assert_eq!(daemon.wait().unwrap().code(), None, "it ended by itself");
        let after = parsed(&file);
        let notes = |state: &serde_json::Value| state["notes"].as_object().unwrap().clone();
        for (key, note) in notes(&before) {
            // One that no look has missed is the same one.
            if let Some(now) = notes(&after).get(&key).filter(|now| now["value"] == note["value"]) {
                assert_eq!(now["first"], note["first"], "round {round}: {key} moved");
            }
        }
        writes += u32::from(after["notes"] != before["notes"]);
        before = after;
    }
    assert!(writes > rounds / 20, "{writes} of {rounds} had something to write: this test tests nothing");
    for entry in fs::read_dir(dir.path().join("state")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "lock" || name.ends_with(".json") || name.ends_with(".json.new"), "{name}");
    }
}

/// A daemon without privileges, and root, who looks beside it with the same past.
#[test]
fn a_run_by_root_beside_it_harms_nothing() {
    let group = nodecheck::host::machine::group_id("nodecheck").unwrap_or(65534);
    let daemon = Daemon::with(48, OFTEN, |dir| {
        std::os::unix::fs::chown(dir, Some(65534), Some(group)).unwrap();
        let mut command = Command::new(binary_for_all(dir));
        command.arg("--state-dir").arg(dir.join("state")).uid(65534).gid(group);
        command
    });
    wait_for("the first look", || daemon.state_file().exists());
    let of = |path: &Path| fs::metadata(path).map(|meta| (meta.uid(), meta.gid(), meta.mode() & 0o7777)).unwrap();
    let files = ["state", "state/lock", "state/reboot-required.json"].map(|file| daemon.dir.path().join(file));
    let before = files.each_ref().map(|file| of(file));
    assert_eq!(before[2], (65534, group, 0o640));
    let state = daemon.dir.path().join("state");
    let well = |(code, out, _): (i32, String, String)| {
        assert!(code == 1 && out.starts_with("WARNING - reboot-required: reboot pending for 2 d ("), "{out}");
        assert!(!out.contains("recorded") && !out.contains("can't be read"), "{out}");
    };
    for round in 0..100 {
        let mut command = nodecheck();
        command.args(["run", "reboot-required", "--local", "--root"]).arg(daemon.node.path());
        well(outcome(command.arg("--state-dir").arg(&state).output().unwrap()));
        if round % 10 == 0 {
            install_kernel(daemon.node.path(), 100 + round);
            well(daemon.ask(&["run", "reboot-required"]));
            parsed(&daemon.state_file());
        }
    }
    assert_eq!(files.each_ref().map(|file| of(file)), before);
    // Root's files do not lock the daemon out.
    install_kernel(daemon.node.path(), 201);
    wait_for("a look of the daemon", || parsed(&daemon.state_file())["notes"].to_string().contains("-201-"));
}

#[test]
fn a_second_daemon_does_not_take_the_socket_and_a_killed_one_is_replaced() {
    let mut daemon = Daemon::start(48);
    let (code, out, _) = daemon.ask(&["serve", "--nrpe=off"]);
    assert!(code == 3 && out.contains("another nodecheck answers on it"), "{out}");
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert!(daemon.socket().exists());
    let mut second = daemon.command(&["serve", "--nrpe=off"]).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the second daemon", || UnixStream::connect(daemon.socket()).is_ok());
    let pid = Pid::from_raw(second.id().try_into().unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert!(!daemon.socket().exists());
}

#[test]
fn garbage_on_the_socket_harms_nobody() {
    let daemon = Daemon::start(48);
    let silent: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    for garbage in [&b""[..], b"\n", b"{}", b"\xff\xfe", b"[[[[[[[[", &[b'x'; 100_000]] {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(daemon.ask(&["run", "reboot-required"]).0, 1);
    drop(silent);
}

#[test]
fn check_nrpe_gets_the_same_text() {
    let daemon = Daemon::start(200);
    let (code, asked, _) = daemon.ask(&["run", "reboot-required"]);
    assert_eq!(code, 2);
    let words = |text: &str| text.split(" | ").next().unwrap().to_owned();
    for version in [&[][..], &["-3"], &["-2"]] {
        let (code, out, err) = daemon.check_nrpe(&[version, &["-c", "reboot-required"]].concat());
        assert_eq!((code, err.as_str()), (2, ""), "{version:?}: {out}");
        assert_eq!(words(&out), words(&asked), "{version:?}");
        assert!(out.contains("Do: "), "{out}");
    }
    let (code, out, _) = daemon.check_nrpe(&[]);
    assert!(code == 0 && out.starts_with("NRPE v"), "{out}");
    let (code, out, _) = daemon.check_nrpe(&["-c", "reboot-requird"]);
    assert!(code == 3 && out.contains("did you mean reboot-required?"), "{out}");
    let (code, out, _) = daemon.check_nrpe(&["-c", "reboot-required", "-a", "-w", "1"]);
    assert!(code == 3 && out.contains("arguments are not allowed"), "{out}");
    // The C daemon's habit: commands are named like the links.
    assert_eq!(daemon.check_nrpe(&["-c", "check_reboot_required"]).0, 2);
}
