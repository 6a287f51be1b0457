//! CPU time of whole processes: `nodecheck` beside the shell script that people run today, on the same recorded node.
//!
//! Each command runs many times, in turns with the others, so that whatever else the machine does meets all alike. What
//! is told is the median of user + system time, start and end of the process included.

use std::error::Error;
use std::fs::{File, create_dir_all, metadata, write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const SHELL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shell_reboot.sh");

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [binary, runs] = arguments.as_slice() else { return Err("usage: nodecheck-bench BINARY RUNS".into()) };
    let runs: usize = runs.parse()?;
    let dir = tempfile::tempdir()?;
    let (root, state) = (dir.path().join("root"), dir.path().join("state"));
    node(&root)?;
    let check = |options: &[&str]| {
        let mut command = Command::new(binary);
        command.args(options).arg("--root").arg(&root).arg("--state-dir").arg(&state);
        command
    };
    let shell = || {
        let mut command = Command::new("sh");
        command.arg(SHELL).arg(&root);
        command
    };
    let mut contest = [
        Entry::new("run reboot-required", check(&["run", "reboot-required"]), &[1]),
        Entry::new("the shell script", shell(), &[1]),
        Entry::new("run --all", check(&["run", "--all"]), &[1]),
        Entry::new("list", check(&["list"]), &[0]),
    ];
    for _ in 0..runs {
        for entry in &mut contest {
            entry.run()?;
        }
    }
    let [one, shell, all, list] = contest.map(Entry::median);
    let size = metadata(binary)?.len();
    println!("| figure | value |");
    println!("|---|---|");
    println!("| `nodecheck run reboot-required`, CPU time | {one:.1} ms |");
    println!("| `nodecheck run --all` | {all:.1} ms |");
    println!("| `nodecheck list` | {list:.1} ms |");
    println!(
        "| a shell script that tells less (`tests/bench/shell_reboot.sh`) | {shell:.1} ms, {:.1} times as much |",
        shell / one
    );
    println!("| size of the binary | {:.1} MB |", size as f64 / 1e6);
    Ok(())
}

/// One command and what it cost so far.
struct Entry {
    name: &'static str,
    command: Command,
    /// The exit codes it may have: the node below has a reboot pending.
    codes: &'static [i32],
    milliseconds: Vec<f64>,
}

impl Entry {
    fn new(name: &'static str, mut command: Command, codes: &'static [i32]) -> Entry {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Entry { name, command, codes, milliseconds: Vec::new() }
    }

    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        let before = children()?;
        let code = self.command.status()?.code();
        self.milliseconds.push(children()? - before);
        match code {
            Some(code) if self.codes.contains(&code) => Ok(()),
            code => Err(format!("{}: exit code {code:?}", self.name).into()),
        }
    }

    fn median(mut self) -> f64 {
        self.milliseconds.sort_by(f64::total_cmp);
        self.milliseconds.get(self.milliseconds.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// CPU time of all children that have ended, and of theirs, in milliseconds.
fn children() -> Result<f64, nix::Error> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e3)
}

/// An Ubuntu node with six kernels, whose reboot has been pending for two days.
fn node(root: &Path) -> std::io::Result<()> {
    let running = "6.8.0-45-generic";
    for dir in ["boot", "run", "var", "proc/sys/kernel/random", "proc/1", "lib/modules", "etc"] {
        create_dir_all(root.join(dir))?;
    }
    symlink("../run", root.join("var/run"))?;
    for number in [31, 39, 41, 45, 47, 100] {
        let release = format!("6.8.0-{number}-generic");
        for name in ["vmlinuz", "initrd.img", "config", "System.map"] {
            write(root.join(format!("boot/{name}-{release}")), vec![0; 2 << 20])?;
        }
        create_dir_all(root.join(format!("lib/modules/{release}/kernel")))?;
        write(root.join(format!("lib/modules/{release}/modules.dep")), "")?;
    }
    for (path, text) in [
        ("run/reboot-required", "*** System restart required ***\n".to_owned()),
        ("run/reboot-required.pkgs", "linux-image-6.8.0-100-generic\nlinux-base\nlibc6\nlinux-base\n".to_owned()),
        ("proc/sys/kernel/random/boot_id", "0d9b3c1e-6d1c-4f0e-9a55-0c9d4a1b7f10\n".to_owned()),
        ("proc/sys/kernel/osrelease", format!("{running}\n")),
        ("proc/version", format!("Linux version {running} (buildd@lcy02) (gcc) #45-Ubuntu SMP PREEMPT_DYNAMIC\n")),
        ("proc/uptime", "864000.00 1700000.00\n".to_owned()),
        ("proc/stat", "cpu 1 2 3 4\nbtime 1790000000\n".to_owned()),
        ("proc/cmdline", format!("BOOT_IMAGE=/boot/vmlinuz-{running} root=/dev/sda1 ro\n")),
        ("etc/os-release", "ID=ubuntu\nVERSION_ID=\"24.04\"\n".to_owned()),
    ] {
        write(root.join(path), text)?;
    }
    let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 86400);
    File::open(root.join("run/reboot-required"))?.set_modified(two_days_ago)
}
