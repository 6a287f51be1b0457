//! The processes and cgroups of this machine that are of our nodes.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::node::{MADE, PATIENCE, TOP};

/// What zombies of ours are called: the shim, the program of tests/containerd/pause.c, the CNI plugin and what that runs.
const ORPHANS: &[&str] = &["containerd-shim", "main", "hold", "sleep"];

pub struct Stat {
    name: String,
    /// Neither dead nor a zombie.
    runs: bool,
    pub parent: u32,
}

pub fn stat(process: Pid) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (name, rest) = text.split_once(" (")?.1.rsplit_once(") ")?;
    let parent = rest.split(' ').nth(1)?.parse().ok()?;
    Some(Stat { name: name.to_owned(), runs: !rest.starts_with(['Z', 'X']), parent })
}

fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw)
}

/// All of the machine that run.
pub fn processes() -> impl Iterator<Item = Pid> {
    all().filter(|process| stat(*process).is_some_and(|stat| stat.runs))
}

pub fn cgroups(process: Pid) -> String {
    fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default()
}

/// Kills what runs in pods, and what names a file in the directory.
pub fn end_all(dir: &Path) {
    let is_ours = |process: &Pid| {
        let arguments = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let dir = dir.to_str().unwrap().as_bytes();
        arguments.split(|byte| *byte == 0).any(|argument| argument.starts_with(dir))
            || cgroups(*process).contains(&format!("/{TOP}/"))
    };
    let begun = Instant::now();
    // What was just about to start something may have done so; and the first process of a pid namespace ends when all in it
    // have been taken leave of.
    while begun.elapsed() < PATIENCE {
        let ours: Vec<Pid> = processes().filter(is_ours).collect();
        reap();
        if ours.is_empty() {
            return;
        }
        for process in ours {
            let _ = kill(process, Signal::SIGKILL);
        }
        sleep(Duration::from_millis(5));
    }
    let left: Vec<_> = processes().filter(is_ours).filter_map(|process| Some((process, stat(process)?.name))).collect();
    eprintln!("processes of {} could not be killed: {left:?}", dir.display());
}

/// Takes leave of the zombies that came to this process.
pub fn reap() {
    let is_ours = |stat: Stat| !stat.runs && stat.parent == std::process::id() && ORPHANS.contains(&&*stat.name);
    for process in all().filter(|process| stat(*process).is_some_and(is_ours)) {
        let _ = waitpid(process, Some(WaitPidFlag::WNOHANG));
    }
}

/// Of every hierarchy.
pub fn remove_cgroups() {
    fn remove(cgroup: &Path) {
        for below in fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
            remove(&below.path());
        }
        for _ in 0..2000 {
            match fs::remove_dir(cgroup) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
    }
    for mount in fs::read_to_string("/proc/self/mounts").unwrap().lines() {
        let mut parts = mount.split(' ').skip(1);
        if let (Some(at), Some("cgroup" | "cgroup2")) = (parts.next(), parts.next()) {
            remove(&Path::new(at).join(TOP));
        }
    }
}

/// What a run left that was killed: no other one runs now.
pub fn remove_leftovers(temp: &Path) {
    for entry in fs::read_dir(temp).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{TOP}-")) {
            end_all(&entry.path());
            remove_made(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    remove_cgroups();
}

/// Removes the machine's directories that were made for a node.
pub fn remove_made(dir: &Path) {
    for path in fs::read_to_string(dir.join(MADE)).unwrap_or_default().lines() {
        // Not if somebody else uses it by now.
        let _ = fs::remove_dir(path);
    }
}
