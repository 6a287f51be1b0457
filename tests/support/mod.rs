//! What the tests share: running the binary, and nodes to run it on.
#![allow(dead_code)]

pub mod bolt;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The binary under test.
pub fn nodecheck() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodecheck"));
    command.env_remove("NO_COLOR");
    command
}

/// Exit code, stdout and stderr of a run of the binary.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    outcome(nodecheck().args(arguments).output().unwrap())
}

/// An output in three parts; a death by signal is no exit code and fails the test.
pub fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    let code = output.status.code().unwrap_or_else(|| panic!("ended by a signal: {:?}", output.status));
    (code, text(output.stdout), text(output.stderr))
}

/// Runs it: whatever the node is like, there is one clear first line and nothing of a program that broke.
pub fn sane(command: &mut Command, check: &str) -> (i32, String) {
    let (code, out, err) = outcome(command.output().expect("it runs (setpriv and prlimit are in util-linux)"));
    let state = ["OK", "WARNING", "CRITICAL", "UNKNOWN"].get(code as usize).unwrap_or_else(|| panic!("{code}: {out}"));
    let line = out.lines().next().unwrap_or_default();
    assert!(line.starts_with(&format!("{state} - {check}: ")), "{code}: {out}");
    assert!(line.matches('|').count() <= 1 && line.chars().count() < 1200, "{line}");
    assert!(err.is_empty() && !out.contains("internal error") && !out.contains("panicked"), "{out}{err}");
    assert!(!out.contains(|c: char| c.is_control() && c != '\n'), "{out:?}");
    (code, out)
}

/// A whole number of the perfdata in a plugin's text.
#[track_caller]
pub fn metric(text: &str, name: &str) -> u64 {
    let first = text.lines().next().unwrap_or_default();
    let perfdata = first.split_once(" | ").unwrap_or_else(|| panic!("no metrics: {text}")).1;
    let value = perfdata.split(' ').find_map(|metric| metric.strip_prefix(name)?.strip_prefix('='));
    let value = value.unwrap_or_else(|| panic!("no {name}: {text}"));
    let digits = value.find(|character: char| !character.is_ascii_digit()).unwrap_or(value.len());
    value[..digits].parse().unwrap_or_else(|_| panic!("{name}: {text}"))
}

/// The package's directory.
pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every scenario of ours, as (check, directory).
pub fn scenarios() -> Vec<(String, PathBuf)> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| path.is_dir());
        all.sort();
        all
    };
    let checks = list(&here().join("tests/scenarios"));
    let of = |check: &PathBuf| {
        let name = check.file_name().unwrap().to_str().unwrap().to_owned();
        list(check).into_iter().map(move |dir| (name.clone(), dir))
    };
    checks.iter().flat_map(of).collect()
}

/// A tree that stands for `/`: an Ubuntu node whose reboot has been pending since `age_hours` before now.
pub fn pending_node(age_hours: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    file("proc/sys/kernel/osrelease", "6.8.0-45-generic\n");
    file("proc/sys/kernel/random/boot_id", "3f1c0b9e-0000-4000-8000-000000000001\n");
    file("proc/uptime", "2592000.00 1.00\n");
    file("boot/vmlinuz-6.8.0-45-generic", "");
    file("lib/modules/6.8.0-45-generic/modules.dep", "");
    file("run/reboot-required", "*** System restart required ***\n");
    file("run/reboot-required.pkgs", "libc6\n");
    let flag = std::fs::File::open(dir.path().join("run/reboot-required")).unwrap();
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age_hours * 3600);
    flag.set_modified(then).unwrap();
    dir
}

/// Adds an installed kernel to a tree.
pub fn install_kernel(node: &Path, number: u32) {
    std::fs::create_dir_all(node.join(format!("lib/modules/6.8.0-{number}-generic"))).unwrap();
    std::fs::write(node.join(format!("boot/vmlinuz-6.8.0-{number}-generic")), "").unwrap();
}

/// Gives each round of looks something new: a kernel more, and after fifty of them none of those.
pub fn change_kernels(node: &Path, round: u32) {
    install_kernel(node, 100 + round % 50);
    if round % 50 == 49 {
        for number in 100..150 {
            std::fs::remove_file(node.join(format!("boot/vmlinuz-6.8.0-{number}-generic"))).unwrap();
            std::fs::remove_dir(node.join(format!("lib/modules/6.8.0-{number}-generic"))).unwrap();
        }
    }
}
