//! What an attack found once, each as it was found.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{nodecheck, outcome, pending_node, run};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The name of a recorded file must not lead out of the recording.
#[test]
fn a_capture_writes_nothing_outside_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let node = pending_node(48);
    let entries = node.path().join("boot/loader/entries");
    fs::create_dir_all(&entries).unwrap();
    let linux = format!("/../../../../../../../..{}", text(&victim));
    fs::write(entries.join("x.conf"), format!("version 99.1.0-1-generic\nlinux {linux}\n")).unwrap();
    let inside = node.path().join(text(&victim).trim_start_matches('/'));
    fs::create_dir_all(inside.parent().unwrap()).unwrap();
    fs::write(&inside, vec![b'x'; 1_200_000]).unwrap();
    let to = dir.path().join("captured");
    assert_eq!(run(&["capture", text(&to), "--root", text(node.path())]).0, 0);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_capture_tells_files_from_what_is_none() {
    let node = pending_node(48);
    let pkgs = node.path().join("run/reboot-required.pkgs");
    fs::remove_file(&pkgs).unwrap();
    nix::unistd::mkfifo(&pkgs, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("captured");
    assert_eq!(run(&["capture", text(&to), "--root", text(node.path())]).0, 0);
    let (code, replayed, _) = run(&["run", "reboot-required", "--scenario", text(&to)]);
    let golden = fs::read_to_string(to.join("expect/reboot-required.txt")).unwrap();
    assert_eq!(format!("exit {code}\n{replayed}"), golden);
    assert!(replayed.contains("FIFO"), "{replayed}");
}

#[test]
fn a_capture_keeps_the_settings_it_was_made_with() {
    let node = pending_node(48);
    let dir = tempfile::tempdir().unwrap();
    let (config, to) = (dir.path().join("c.toml"), dir.path().join("captured"));
    fs::write(&config, "[check.reboot-required.threshold.pending_age]\ncritical = \"60\"\n").unwrap();
    assert_eq!(run(&["capture", text(&to), "--root", text(node.path()), "--config", text(&config)]).0, 0);
    assert_eq!(run(&["run", "reboot-required", "--scenario", text(&to)]).0, 2);
}

/// A daemon on `root`, its stderr wherever the test wants it.
fn daemon(root: &Path, socket: &Path, stderr: Stdio) -> (Child, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = nodecheck();
    command.args(["serve", "--plain", "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--socket", text(socket), "--root", text(root)]).stderr(stderr);
    let child = command.spawn().unwrap();
    wait_for("the daemon", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    wait_for("the socket", || socket.exists());
    (child, port)
}

/// A pipe without room, and its reading end.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (reader, writer) = std::io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    fcntl(&filler, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while filler.write(&[b'x'; 4096]).is_ok() {}
    while filler.write(b"x").is_ok() {}
    fcntl(&filler, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

fn end(mut child: Child) -> Option<i32> {
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    None
}

fn heckle(port: u16, times: usize) {
    for _ in 0..times {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

#[test]
fn a_daemon_outlives_its_log() {
    let (node, dir) = (pending_node(48), tempfile::tempdir().unwrap());
    let socket = dir.path().join("ask.sock");
    let asks = || run(&["run", "reboot-required", "--socket", text(&socket)]);
    // Nobody reads the pipe, and it is full.
    let (reader, writer) = full_pipe();
    let (child, port) = daemon(node.path(), &socket, writer.into());
    heckle(port, 8);
    assert_eq!(asks().0, 1);
    assert_eq!(end(child), Some(0));
    drop(reader);
    // Its reader has gone, or there is no room.
    for stderr in [None, Some(fs::File::options().write(true).open("/dev/full").unwrap())] {
        let stderr = stderr.map_or_else(|| std::io::pipe().unwrap().1.into(), Stdio::from);
        let (child, port) = daemon(node.path(), &socket, stderr);
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGHUP).unwrap();
        heckle(port, 2);
        assert_eq!(asks().0, 1);
        assert_eq!(end(child), Some(0));
        assert!(!socket.exists());
    }
}

#[test]
fn a_daemon_removes_nothing_but_its_own_socket() {
    let (node, dir) = (pending_node(48), tempfile::tempdir().unwrap());
    let file = dir.path().join("precious");
    fs::write(&file, "precious").unwrap();
    let (code, out, _) = run(&["serve", "--nrpe=off", "--socket", text(&file)]);
    assert!(code == 3 && out.contains("is no socket"), "{out}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let socket = dir.path().join("ask.sock");
    let (first, _) = daemon(node.path(), &socket, Stdio::null());
    fs::remove_file(&socket).unwrap();
    let (second, _) = daemon(node.path(), &socket, Stdio::null());
    assert_eq!(end(first), Some(0));
    assert!(socket.exists(), "it is the second daemon's");
    assert_eq!(end(second), Some(0));
}

#[test]
fn death_by_signal_is_no_way_out() {
    let node = pending_node(48);
    let dir = tempfile::tempdir().unwrap();
    let shell = |limit: &str, arguments: &str| {
        let script = format!("{limit}; exec \"$0\" {arguments}");
        let output = Command::new("bash").args(["-c", &script, env!("CARGO_BIN_EXE_nodecheck")]).output().unwrap();
        assert_eq!(output.status.signal(), None, "{script}");
        outcome(output)
    };
    let look = format!("run reboot-required --root {} --state-dir {}", text(node.path()), text(dir.path()));
    let (code, out, _) = shell("ulimit -f 0", &look);
    assert!(code == 3 && out.contains("pending for at least 2 d") && out.contains("could not be recorded"), "{out}");
    for closed in ["<&-", "2>&-", "<&- 2>&-"] {
        assert_eq!(shell("true", &format!("{look} {closed}")).0, 1, "{closed}");
    }
    assert_eq!(shell("true", &format!("{look} <&- >&- 2>&-")).0, 3);
}

#[test]
fn a_pipe_that_nobody_empties_does_not_hold_it() {
    let node = pending_node(48);
    for signal in [false, true] {
        let (reader, writer) = full_pipe();
        let mut command = nodecheck();
        command.args(["run", "reboot-required", "-t", if signal { "60" } else { "1" }, "--root", text(node.path())]);
        let mut child = command.stdout(writer).spawn().unwrap();
        if signal {
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(end(child), Some(3));
        } else {
            wait_for("the end", || child.try_wait().unwrap().is_some());
            assert_eq!(child.wait().unwrap().code(), Some(3));
        }
        drop(reader);
    }
}

#[test]
fn no_control_character_leaves_by_any_door() {
    let node = pending_node(48);
    let checks = node.path().join("etc/nodecheck/checks.d");
    fs::create_dir_all(&checks).unwrap();
    let definition = "summary = \"\\u001b[31ms\"\nwhy = \"w\\u0007\"\nadvice = \"a\"\nprobe = \"reboot\"\n";
    fs::write(checks.join("odd.toml"), definition).unwrap();
    fs::write(checks.join("a\u{1b}[31m|\nOK.toml"), definition).unwrap();
    fs::write(checks.join("we\"ird.toml"), definition).unwrap();
    let root = ["--root", text(node.path())];
    for arguments in [
        &["run", "x", "-t", "1\n\u{1b}[31mOK - fine | a=1"][..],
        &["run", "x", "--format", "a|b\n\u{7}c"],
        &["list"],
        &["explain", "odd"],
        &["run", "--all"],
        &["run", "--all", "--format", "prometheus"],
        &["check-config"],
    ] {
        let (code, out, _) = run(&[arguments, &root].concat());
        assert!(code <= 3 && !out.contains(|c: char| c.is_control() && c != '\n'), "{arguments:?}: {out:?}");
        assert!(!out.contains("we\"ird\"}"), "{out}");
    }
    let (code, out, _) = run(&["check-config", root[0], root[1]]);
    assert!(code == 1 && out.contains("is no name for a check"), "{out}");
}

#[test]
fn a_setting_that_is_ignored_is_said() {
    let node = pending_node(48);
    let etc = node.path().join("etc/nodecheck");
    fs::create_dir_all(&etc).unwrap();
    let root = text(node.path());
    fs::write(etc.join("nodecheck.toml"), "[check.reboot-requried]\n").unwrap();
    let (code, out, _) = run(&["run", "reboot-required", "--root", root]);
    assert!(code == 1 && out.contains("a setting is ignored") && out.contains("did you mean"), "{out}");
    // Meant to be there, and leading nowhere.
    fs::remove_file(etc.join("nodecheck.toml")).unwrap();
    symlink("/nowhere", etc.join("nodecheck.toml")).unwrap();
    assert_eq!(run(&["run", "reboot-required", "--root", root]).0, 3);
    assert_eq!(run(&["check-config", "--root", root]).0, 1);
    fs::remove_file(etc.join("nodecheck.toml")).unwrap();
    fs::write(etc.join("checks.d"), "").unwrap();
    assert_eq!(run(&["run", "reboot-required", "--root", root]).0, 3);
    for config in ["state_dir = \"\"", "state_dir = \"rel\"", "[check.reboot-required]\ngrace = \"30y\""] {
        let file = etc.join("c.toml");
        fs::write(&file, config).unwrap();
        assert_eq!(run(&["check-config", text(&file)]).0, 1, "{config}");
    }
}

#[test]
fn a_directory_of_settings_that_is_none_is_said() {
    let node = pending_node(1);
    fs::create_dir_all(node.path().join("etc")).unwrap();
    let etc = node.path().join("etc/nodecheck");
    let root = text(node.path());
    assert_eq!(run(&["run", "reboot-required", "--root", root]).0, 0);
    fs::write(&etc, "").unwrap();
    assert_eq!(run(&["run", "reboot-required", "--root", root]).0, 3);
    fs::remove_file(&etc).unwrap();
    symlink("/nowhere", &etc).unwrap();
    assert_eq!(run(&["run", "reboot-required", "--root", root]).0, 3);
    fs::remove_file(&etc).unwrap();
    fs::create_dir(&etc).unwrap();
    assert_eq!(run(&["run", "reboot-required", "--root", root]).0, 0);
}

#[test]
fn without_a_thread_there_is_still_a_sentence() {
    use std::os::unix::fs::PermissionsExt;
    assert!(nix::unistd::geteuid().is_root(), "this test changes its user: run it as root");
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = dir.path().join("nodecheck");
    fs::copy(env!("CARGO_BIN_EXE_nodecheck"), &binary).unwrap();
    // A user whom nobody else on the machine is.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "prlimit", "--nproc=1"]);
    command.arg(&binary).args(["run", "reboot-required", "--local"]);
    let (code, out, _) = outcome(command.output().expect("setpriv and prlimit (package util-linux) are needed"));
    assert!(code == 3 && out.contains("no thread could be started"), "{code}: {out}");
}

#[test]
fn a_fake_daemon_is_not_believed() {
    let node = pending_node(48);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ask.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let replies = [
        "{\"protocol\":1,\"code\":0,\"text\":\"\"}",
        "{\"protocol\":1,\"code\":0,\"text\":\"\\u001b[31m\"}",
        "{\"protocol\":1,\"code\":7,\"text\":\"x\"}",
        "garbage",
        "",
    ];
    let answers = replies.map(str::to_owned);
    let thread = std::thread::spawn(move || {
        for answer in answers {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read_to_end(&mut Vec::new());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let _ = &node;
    for reply in replies {
        let (code, out, _) = run(&["run", "reboot-required", "--socket", text(&socket)]);
        assert!(code <= 3 && out.contains(" - reboot-required: "), "{reply}: {out}");
        assert!(out.contains("looked without the daemon"), "{reply}: {out}");
    }
    thread.join().unwrap();
}
