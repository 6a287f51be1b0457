//! The command line as users and monitoring systems rely on it.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use support::{nodecheck, outcome, pending_node, run};

/// Runs with `--root` on a node whose reboot has been pending for two days.
fn on_pending_node(arguments: &[&str]) -> (i32, String, String) {
    let node = pending_node(48);
    let root = ["--root", node.path().to_str().unwrap()];
    run(&[arguments, &root].concat())
}

#[test]
fn exit_code_and_first_line_tell_the_state() {
    let (code, out, err) = on_pending_node(&["run", "reboot-required"]);
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(out.starts_with("WARNING - reboot-required: reboot pending for 2 d"), "{out}");
    assert!(out.contains("libc6"), "{out}");
    assert!(out.contains(" | ") && out.contains("pending_age=1728"), "{out}");
    assert!(out.contains("\nDo: "), "{out}");
}

#[test]
fn thresholds_of_the_caller() {
    for (arguments, code) in [
        (&["-w", "~:200000"][..], 0),
        (&["-w", "200000"], 0),
        (&["-w", "1", "-c", "2"], 2),
        (&["-w", "pending_age=1", "-c", "pending_age=2"], 2),
        (&["-w", "200000", "-c", "pending=@1:1"], 2),
        (&["-c", "-5:-1"], 2),
        (&["-w", "@0:10", "-c", "@0:10"], 0),
        (&["--warning", "172700:172900"], 0),
    ] {
        let (got, out, _) = on_pending_node(&[&["run", "reboot-required"], arguments].concat());
        assert_eq!(got, code, "{arguments:?}: {out}");
    }
}

#[test]
fn wrong_arguments_are_unknown_with_a_sentence() {
    for (arguments, part) in [
        (&["run"][..], "required"),
        (&["run", "nothing"], "no check is named 'nothing'"),
        (&["run", "reboot-requierd"], "did you mean reboot-required?"),
        (&["run", "reboot-required", "-w", "20:10"], "starts at 20"),
        (&["run", "reboot-required", "-w", "nothing=1"], "unknown metric 'nothing'"),
        (&["run", "reboot-required", "--set", "nothing=1"], "unknown parameter"),
        (&["run", "reboot-required", "--set", "kernels=3"], "kernels"),
        (&["run", "reboot-required", "--set", "kernels"], "KEY=VALUE"),
        (&["run", "reboot-required", "-t", "0"], "seconds"),
        (&["run", "reboot-required", "-t", "1e400"], "seconds"),
        (&["run", "--all", "-w", "1"], "cannot be used"),
        (&["run", "a\nb|c"], "no check is named"),
        (&["frobnicate"], "unrecognized"),
        (&[], "Usage"),
        (&["--root", "/dev/null/none", "run", "reboot-required"], "no /dev/null/none"),
        (&["--scenario", "/dev/null/none", "run", "reboot-required"], "no /dev/null/none"),
        (&["--root", "/", "--scenario", "/", "list"], "cannot be used"),
        (&["serve"], "TLS"),
        (&["serve", "--plain", "--listen", "0.0.0.0:5666"], "only a loopback address"),
        (&["serve", "--plain", "--listen", "localhost:5666"], "invalid"),
    ] {
        let (code, out, _) = run(arguments);
        assert_eq!(code, 3, "{arguments:?}: {out}");
        assert!(out.contains(part), "{arguments:?}: {out}");
        let line = out.lines().next().unwrap_or_default();
        assert!(!line.contains('|'), "{line}");
        assert!(!out.contains(|c: char| c.is_control() && c != '\n'), "{out:?}");
    }
    let (code, _, _) = outcome(nodecheck().arg(std::ffi::OsString::from("\u{fffd}")).output().unwrap());
    assert_eq!(code, 3);
    let bytes = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff\xfe");
    assert_eq!(outcome(nodecheck().arg("run").arg(bytes).output().unwrap()).0, 3);
}

#[test]
fn help_and_version_are_no_error() {
    for arguments in [&["--help"][..], &["-h"], &["--version"], &["-V"], &["run", "--help"], &["list"]] {
        let (code, out, _) = run(arguments);
        assert_eq!(code, 0, "{arguments:?}");
        assert!(!out.is_empty());
    }
}

#[test]
fn links_name_the_check() {
    let node = pending_node(48);
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("check_reboot_required");
    symlink(env!("CARGO_BIN_EXE_nodecheck"), &link).unwrap();
    let ask = |arguments: &[&str]| {
        outcome(std::process::Command::new(&link).args(arguments).arg("--root").arg(node.path()).output().unwrap())
    };
    let (code, out, _) = ask(&[]);
    assert!(code == 1 && out.starts_with("WARNING - reboot-required"), "{out}");
    let (code, out, _) = ask(&["-w", "60", "-c", "120"]);
    assert!(code == 2 && out.starts_with("CRITICAL - reboot-required"), "{out}");
}

#[test]
fn the_same_verdict_in_every_format() {
    let node = pending_node(48);
    let root = node.path().to_str().unwrap();
    let (text_code, text, _) = run(&["run", "reboot-required", "--root", root]);
    let (json_code, json, _) = run(&["run", "reboot-required", "--root", root, "--format", "json"]);
    let (prom_code, prom, _) = run(&["run", "reboot-required", "--root", root, "--format", "prometheus"]);
    assert_eq!((text_code, json_code, prom_code), (1, 1, 1));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let check = &json["checks"][0];
    assert_eq!((&json["schema"], &check["status"]), (&1.into(), &"warning".into()));
    assert!(text.contains(check["summary"].as_str().unwrap()), "{text}");
    assert!(prom.contains("nodecheck_check_status{check=\"reboot-required\"} 1\n"), "{prom}");
    assert!(prom.contains("nodecheck_reboot_required_pending_age_seconds{check=\"reboot-required\"} 1728"), "{prom}");
}

#[test]
fn all_checks_as_a_table() {
    let (code, out, _) = on_pending_node(&["run", "--all"]);
    assert_eq!(code, 1);
    assert!(out.starts_with("WARNING - 1 check: 1 WARNING"), "{out}");
    assert!(!out.contains('\x1b'), "no colour outside a terminal: {out:?}");
    let empty = tempfile::tempdir().unwrap();
    let (code, out, _) = run(&["run", "--all", "--root", empty.path().to_str().unwrap()]);
    assert_eq!(code, 3);
    assert!(out.starts_with("UNKNOWN - no check applies to this node"), "{out}");
    assert!(out.contains("not on this node: ") && out.contains("/boot"), "{out}");
    let (code, out, _) = run(&["run", "reboot-required", "--root", empty.path().to_str().unwrap()]);
    assert!(code == 3 && out.starts_with("UNKNOWN - reboot-required: not on this node: "), "{out}");
}

#[test]
fn colour_only_on_a_terminal_that_wants_it() {
    let node = pending_node(48);
    let command = format!("{} run --all --root {}", env!("CARGO_BIN_EXE_nodecheck"), node.path().display());
    let on_terminal = |variables: &[(&str, &str)]| {
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm");
        script.envs(variables.iter().copied());
        String::from_utf8(script.output().expect("script (package bsdutils)").stdout).unwrap()
    };
    assert!(on_terminal(&[]).contains("\x1b[33mWARNING\x1b[0m"));
    assert!(!on_terminal(&[("NO_COLOR", "1")]).contains('\x1b'));
    assert!(!on_terminal(&[("TERM", "dumb")]).contains('\x1b'));
}

#[test]
fn explain_says_where_each_setting_came_from() {
    let node = pending_node(48);
    let etc = node.path().join("etc/nodecheck");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("nodecheck.toml"), "\n[check.reboot-required.threshold.pending_age]\nwarning = \"7200\"\n")
        .unwrap();
    let (code, out, _) = run(&["explain", "reboot-required", "--root", node.path().to_str().unwrap()]);
    assert_eq!(code, 0);
    for part in ["Why:", "Do:", "pending_age warning 7200", "above 2 h", "nodecheck.toml:3]", "[built in]", "[default]"]
    {
        assert!(out.contains(part), "no {part} in {out}");
    }
    let (code, out, _) = run(&["explain", "nothing"]);
    assert!(code == 3 && out.contains("no check is named"), "{out}");
}

#[test]
fn list_as_text_and_json() {
    let (code, out, _) = on_pending_node(&["list"]);
    assert_eq!(code, 0);
    assert!(out.contains("reboot-required") && out.contains("yes") && out.contains("warning 86400"), "{out}");
    let (_, out, _) = on_pending_node(&["list", "--format", "json"]);
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    let find =
        |name: &str| list["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap().clone();
    assert_eq!(find("reboot-required")["applies"], true);
    assert_eq!(find("pod-oom-kills")["applies"], false);
}

/// Writes files below a node's /etc/nodecheck.
fn configured(files: &[(&str, &str)]) -> tempfile::TempDir {
    let node = pending_node(48);
    for (name, text) in files {
        let path = node.path().join("etc/nodecheck").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    node
}

const DEFINITION: &str = "summary = \"s\"\nwhy = \"w\"\nadvice = \"a\"\nprobe = \"reboot\"\nmain = \"pending_age\"\n";

#[test]
fn settings_of_the_site() {
    let overridden = format!("{DEFINITION}[threshold.pending_age]\ncritical = \"60\"\n");
    for (files, code) in [
        (&[("nodecheck.toml", "[check.reboot-required.threshold.pending_age]\nwarning = \"~:999999\"\n")][..], 0),
        (&[("nodecheck.toml", "[check.reboot-required.threshold.pending_age]\nwarning = \"\"\n")], 0),
        (&[("nodecheck.toml", "[check.reboot-required.threshold]\npending_age.critical = 3600\n")], 2),
        (&[("checks.d/reboot-required.toml", &overridden)], 2),
        (&[("checks.d/site-reboot.toml", &overridden)], 1),
        (&[("nodecheck.toml", "[check.reboot-required]\n")], 1),
    ] {
        let node = configured(files);
        let (got, out, _) = run(&["run", "reboot-required", "--root", node.path().to_str().unwrap()]);
        assert_eq!(got, code, "{files:?}: {out}");
    }
    let node = configured(&[("checks.d/site-reboot.toml", &overridden)]);
    assert_eq!(run(&["run", "site-reboot", "--root", node.path().to_str().unwrap()]).0, 2);
}

#[test]
fn a_wrong_definition_is_its_own_unknown_and_blinds_no_other() {
    for (text, part) in [
        ("summary = 3\n".to_owned(), "summary must be a text"),
        (String::new(), "'summary' is missing"),
        (format!("{DEFINITION}intervall = \"5s\"\n"), "did you mean 'interval'?"),
        (DEFINITION.replace("\"reboot\"", "\"rebot\""), "unknown probe 'rebot'; did you mean 'reboot'?"),
        (format!("{DEFINITION}interval = \"5\"\n"), "must be a duration"),
        (format!("{DEFINITION}confirm = 0\n"), "confirm must be"),
        (format!("{DEFINITION}absent = \"maybe\"\n"), "absent must be"),
        (DEFINITION.replace("\"pending_age\"", "\"age\""), "unknown metric 'age'"),
        (format!("{DEFINITION}[params]\nkernel = true\n"), "did you mean 'kernels'?"),
        (format!("{DEFINITION}[threshold.pendin_age]\nwarning = \"1\"\n"), "unknown metric 'pendin_age'"),
        (format!("{DEFINITION}[threshold.pending_age]\nwarn = \"1\"\n"), "did you mean 'warning'?"),
        (format!("{DEFINITION}[threshold.pending_age]\nwarning = \"2:1\"\n"), "starts at 2"),
        (format!("{DEFINITION}[[rule]]\nstate = \"bad\"\n"), "a rule needs"),
        (
            format!("{DEFINITION}[[rule]]\nstate = \"critical\"\nall = {{ nothing = \"0\" }}\n"),
            "unknown metric 'nothing'",
        ),
        (format!("{DEFINITION}x = \n"), "site.toml:6"),
        ("\0\u{1}".to_owned(), "site.toml:1"),
    ] {
        let node = configured(&[("checks.d/site.toml", &text)]);
        let root = node.path().to_str().unwrap();
        let (code, out, _) = run(&["run", "site", "--root", root]);
        assert_eq!(code, 3, "{text}: {out}");
        assert!(out.contains("checks.d/site.toml:"), "{text}: {out}");
        assert!(out.contains(part), "{text}: {out}");
        assert_eq!(run(&["run", "reboot-required", "--root", root]).0, 1, "{text}");
        let (code, out, _) = run(&["run", "--all", "--root", root]);
        assert!(code == 3 && out.contains("1 UNKNOWN, 1 WARNING"), "{out}");
        let (code, out, _) = run(&["check-config", "--root", root]);
        assert_eq!(code, 1);
        assert!(out.contains(part), "{out}");
    }
    let node = configured(&[("checks.d/bin.toml", "")]);
    fs::write(node.path().join("etc/nodecheck/checks.d/bin.toml"), b"\xff\xfe").unwrap();
    let (code, out, _) = run(&["run", "bin", "--root", node.path().to_str().unwrap()]);
    assert!(code == 3 && out.contains("not UTF-8"), "{out}");
}

#[test]
fn settings_that_can_not_be_read_are_unknown_and_hide_no_critical() {
    let node = configured(&[("nodecheck.toml", "[check.reboot-required\n")]);
    let root = node.path().to_str().unwrap();
    let (code, out, _) = run(&["run", "reboot-required", "--root", root]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("nodecheck.toml:1") && out.contains("reboot pending for 2 d"), "{out}");
    let (code, _, _) = run(&["run", "reboot-required", "-c", "60", "--root", root]);
    assert_eq!(code, 2);
    let node = configured(&[("nodecheck.toml", "[check.reboot-requird]\n[nrpp]\nx = 1\n")]);
    let root = node.path().to_str().unwrap();
    assert_eq!(run(&["run", "reboot-required", "--root", root]).0, 1);
    let (code, out, _) = run(&["run", "--all", "--root", root]);
    assert!(code == 3 && out.contains("nodecheck.toml"), "{out}");
}

#[test]
fn check_config_tells_everything_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nodecheck.toml20261121-1-x");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        run(&["check-config", file.to_str().unwrap()])
    };
    let (code, out, _) = check("");
    assert_eq!((code, out.as_str()), (0, "ok\n"));
    assert_eq!(check("[nrpe]\nlisten = \"127.0.0.1:5666\"\n").0, 0);
    let (code, out, _) = check(
        "state = 1\n[nrpe]\nlisten = \"x\"\n[check.reboot-required]\ninterval = 5\n\
         [check.reboot-required.params]\nkernelz = 1\n[check.none]\ngrace = \"1s\"\n",
    );
    assert_eq!(code, 1);
    assert_eq!(out.lines().count(), 5, "{out}");
    for line in ["x:1: ", "x:3: ", "x:5: ", "x:7: ", "x:8: "] {
        assert!(out.contains(line), "{line} in {out}");
    }
    assert_eq!(check(DEFINITION).0, 0, "a definition under a name of Puppet's");
    assert_eq!(check(&format!("{DEFINITION}x = 1\n")).0, 1);
    assert_eq!(run(&["check-config", "/dev/null/none"]).0, 1);
    assert_eq!(run(&["check-config", "/dev/zero"]).0, 1);
}

#[test]
fn a_capture_gives_the_same_verdict() {
    let node = pending_node(30);
    let root = node.path().to_str().unwrap();
    let state = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("captured");
    let to = to.to_str().unwrap();
    assert_eq!(run(&["run", "reboot-required", "--root", root, "--state-dir", state.path().to_str().unwrap()]).0, 1);
    let (code, out, _) = run(&["capture", to, "--root", root, "--state-dir", state.path().to_str().unwrap()]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("Before you pass it on"), "{out}");
    let replayed = run(&["run", "reboot-required", "--scenario", to]);
    let golden = fs::read_to_string(Path::new(to).join("expect/reboot-required.txt")).unwrap();
    assert_eq!(format!("exit {}\n{}", replayed.0, replayed.1), golden);
    let mode = fs::metadata(to).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    let (code, out, _) = run(&["capture", to]);
    assert!(code == 3 && out.contains("not empty"), "{out}");
}

#[test]
fn a_capture_of_this_machine_gives_the_same_verdict() {
    let state = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("captured");
    let state = state.path().to_str().unwrap();
    let (_, live, _) = run(&["run", "reboot-required", "--state-dir", state]);
    assert_eq!(run(&["capture", to.to_str().unwrap(), "--state-dir", state]).0, 0);
    let (_, replayed, _) = run(&["run", "reboot-required", "--scenario", to.to_str().unwrap()]);
    // The uptime and an age may have grown by a second between the two looks.
    let words = |text: &str| text.lines().next().unwrap().split(" | ").next().unwrap().to_owned();
    assert_eq!(words(&live), words(&replayed));
    let golden = fs::read_to_string(to.join("expect/reboot-required.txt")).unwrap();
    assert_eq!(golden.split_once('\n').unwrap().1, replayed);
}

#[test]
fn a_run_by_itself_confirms_a_worse_state_within_the_call() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    let config = dir.path().join("nodecheck.toml");
    let settings = "[check.reboot-required]\nconfirm = 2\n[check.reboot-required.threshold.pending]\nwarning = \"0\"\n";
    let flags = format!("[check.reboot-required.params]\nkernels = false\nflags = [\"{}\"]\n", flag.display());
    fs::write(&config, format!("{settings}{flags}")).unwrap();
    let ask = |state: &str, more: &[&str]| {
        let state = dir.path().join(state);
        let own = ["--config", config.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
        run(&[&["run", "reboot-required"], more, &own].concat())
    };
    // There for good.
    fs::write(&flag, "").unwrap();
    let begun = Instant::now();
    let (code, out, _) = ask("stays", &[]);
    assert!(code == 1 && out.starts_with("WARNING - reboot-required: ") && !out.contains("confirmed"), "{out}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let (code, out, _) = ask("hurries", &["-t", "0.9"]);
    assert!(code == 0 && out.contains("WARNING not confirmed yet (seen in 1 of 2 looks)"), "{out}");
    assert!(out.contains("\nno time was left for another look within "), "{out}");
    // Gone a moment later: after the first look, which tells that it has ended by what it remembers.
    let looked = dir.path().join("goes/reboot-required.json");
    let remover = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !looked.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        fs::remove_file(flag).unwrap();
    });
    let (code, out, _) = ask("goes", &[]);
    remover.join().unwrap();
    assert!(code == 0 && out.starts_with("OK - reboot-required: no reboot pending"), "{out}");
    assert!(out.contains("\nthe first look was WARNING ("), "{out}");
    assert!(out.contains("), a second one 1 s later was not\n"), "{out}");
    // A tree stays as it is.
    let node = configured(&[("nodecheck.toml", settings)]);
    let begun = Instant::now();
    let (code, out, _) = run(&["run", "reboot-required", "--root", node.path().to_str().unwrap()]);
    assert!(code == 1 && begun.elapsed() < Duration::from_secs(1), "{out}");
}
