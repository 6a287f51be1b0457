//! The daemon as `run`, its links and the stock check_nrpe meet it.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{nodecheck, outcome, pending_node};

/// A daemon that looks at a node of the test's own.
struct Daemon {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    _node: tempfile::TempDir,
}

impl Daemon {
    fn start(age_hours: u64) -> Daemon {
        let (dir, node) = (tempfile::tempdir().unwrap(), pending_node(age_hours));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = nodecheck();
        command.arg("--socket").arg(dir.path().join("ask.sock")).arg("--root").arg(node.path());
        command.args(["serve", "--plain", "--listen", &format!("127.0.0.1:{port}")]).stderr(Stdio::null());
        let daemon = Daemon { child: command.spawn().unwrap(), port, dir, _node: node };
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(daemon.socket()).is_err() {
            assert!(Instant::now() < deadline, "the daemon did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
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
    let (code, out, _) = daemon.ask(&["run", "--all"]);
    assert!(code == 1 && out.starts_with("WARNING - 1 check: 1 WARNING"), "{out}");
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

#[test]
fn who_may_not_ask_is_told_and_gets_a_look_of_his_own() {
    assert!(nix::unistd::geteuid().is_root(), "this test changes its user: run it as root");
    let daemon = Daemon::start(48);
    // Nobody can execute a binary below root's home: give it one that it can.
    let binary = daemon.dir.path().join("nodecheck");
    fs::copy(env!("CARGO_BIN_EXE_nodecheck"), &binary).unwrap();
    let mut command = Command::new(&binary);
    command.arg("--socket").arg(daemon.socket()).args(["run", "reboot-required"]);
    let (code, out, _) = outcome(command.uid(65534).gid(65534).output().unwrap());
    assert!(code <= 3 && out.contains(" - reboot-required: "), "{out}");
    assert!(out.contains("permission denied; needs group nodecheck"), "{out}");
    assert!(out.contains("this look could not be recorded"), "{out}");
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
    let deadline = Instant::now() + Duration::from_secs(10);
    while UnixStream::connect(daemon.socket()).is_err() {
        assert!(Instant::now() < deadline, "the second daemon did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = nix::unistd::Pid::from_raw(second.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGHUP).unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
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
