//! The same on the kernel's own file system: cgroups of this machine, which are made and removed again.

use std::error::Error;
use std::fs::{create_dir, read_dir, remove_dir, write};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::contest::{Cost, Entry, run};
use crate::script;

const ROOT: &str = "/sys/fs/cgroup/memory";
const NAME: &str = "nodecheck-bench-";
const SIZES: [(usize, usize); 2] = [(999, 30), (9_999, 7)];

/// Cgroups of the v1 memory hierarchy.
struct Cgroups(PathBuf);

impl Drop for Cgroups {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(cgroup: &Path) {
    for below in read_dir(cgroup).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&below.path());
        }
    }
    if let Err(error) = remove_dir(cgroup) {
        eprintln!("{} could not be removed: {error}", cgroup.display());
    }
}

pub fn measure(binary: &Path) -> Result<(), Box<dyn Error>> {
    let root = Path::new(ROOT);
    if !root.join("memory.oom_control").exists() {
        return Err(format!("{ROOT} is no memory hierarchy of cgroup v1").into());
    }
    // What an earlier run left that was interrupted.
    for entry in read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(NAME));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&entry.path());
        }
    }
    println!(
        "| containers in real cgroups, v1 | `pod-oom-kills` | `memory-headroom` | `run --all` | `shell_oom_v1.sh` |"
    );
    println!("|---|---|---|---|---|");
    for (containers, runs) in SIZES {
        let top = root.join(format!("{NAME}{}", std::process::id()));
        let _cgroups = make(&top, containers)?;
        let dir = tempfile::tempdir()?;
        let check = |options: &[&str]| {
            let mut command = Command::new(binary);
            command.args(options).arg("--local").arg("--state-dir").arg(dir.path().join("state"));
            command
        };
        // What else is wrong with this machine does not matter.
        const ANY: &[i32] = &[0, 1, 2, 3];
        let mut contest = [
            Entry::new("pod-oom-kills", check(&["run", "pod-oom-kills"]), ANY),
            Entry::new("memory-headroom", check(&["run", "memory-headroom"]), ANY),
            Entry::new("run --all", check(&["run", "--all"]), ANY),
            Entry::new("the shell script", script("shell_oom_v1.sh", &top), &[0]),
        ];
        let costs = run(&mut contest, runs)?;
        let [one, headroom, all, shell]: [Cost; 4] = costs.try_into().map_err(|_| "four commands")?;
        let ratio = shell.milliseconds / one.milliseconds;
        println!("| {containers} | {one} | {headroom} | {all} | {}, {ratio:.1} times as much |", shell.time());
    }
    Ok(())
}

fn make(top: &Path, containers: usize) -> Result<Cgroups, Box<dyn Error>> {
    create_dir(top).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => format!("{}: {error}: run it as root", top.display()),
        _ => format!("{}: {error}", top.display()),
    })?;
    let cgroups = Cgroups(top.to_owned());
    let burstable = top.join("kubepods/burstable");
    create_dir(top.join("kubepods"))?;
    create_dir(&burstable)?;
    for pod in 0..containers / 3 {
        let pod = burstable.join(format!("pod{pod:08x}-1111-4222-8333-444444444444"));
        create_dir(&pod)?;
        for container in 0..3 {
            let path = pod.join(format!("{container:064x}"));
            create_dir(&path)?;
            if container > 0 {
                write(path.join("memory.limit_in_bytes"), (64_u64 << 20).to_string())?;
            }
        }
    }
    Ok(cgroups)
}
