//! Which sandboxes have a process, asked of the kernel.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Deserialize;

use crate::host::{Dir, Error, Host, optional};
use crate::layout::RUNC_STATE;
use crate::parse::cgroup::{Place, Runtime, Uid};
use crate::parse::containerd::{Id, Records, Sandbox};
use crate::parse::process::{self, ProcessStat};
use crate::probe::container;

/// The kernel's own largest `pid_max`.
const MOST: usize = 4 << 20;
const SMALL: u64 = 64 << 10;
/// What only a node has: their being shown tells that a node's processes are.
const NODE_PROGRAMS: &[&str] = &[
    "kubelet",
    "kubelite",
    "containerd",
    "containerd-shim",
    "k3s",
    "k3s-server",
    "k3s-agent",
    "rke2",
    "k0s",
    "dockerd",
];

/// What an id is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A sandbox that runc runs.
    Sandbox,
    /// A sandbox of another runtime: its processes may be in a virtual machine.
    Machine,
    Container,
}

/// The ids whose processes are looked for: those of all records.
pub(super) struct Wanted<'r>(pub Vec<&'r Records>);

impl Wanted<'_> {
    fn kind(&self, id: &Id) -> Option<Kind> {
        self.0.iter().rev().find_map(|records| match records.sandboxes.get(id) {
            Some(sandbox) => Some(kind(sandbox)),
            None => records.containers.contains_key(id).then_some(Kind::Container),
        })
    }

    /// As far as there is a record of what has this id.
    fn id(&self, text: &str) -> Option<Id> {
        Some(Id::from(text)).filter(|id| self.kind(id).is_some())
    }

    fn sandboxes(&self) -> impl Iterator<Item = &Id> {
        self.0.iter().flat_map(|records| records.sandboxes.keys())
    }
}

fn kind(sandbox: &Sandbox) -> Kind {
    // io.containerd.runc.v1 and .v2, and the one before them.
    let is_runc = |name: &str| name.contains("runc") || name.ends_with("runtime.v1.linux");
    let mut names = sandbox.records().filter_map(|record| record.runtime.as_deref());
    if names.all(is_runc) { Kind::Sandbox } else { Kind::Machine }
}

/// What the processes tell.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// The ids that have one.
    pub live: BTreeSet<Id>,
    /// Why others may have one all the same.
    pub blind: Option<String>,
    /// Whether CRI-O runs.
    pub crio: bool,
    /// The ids of containers in pods that were not looked for, with the uid of the pod.
    pub strays: BTreeMap<String, Uid>,
}

/// The part of runc's `state.json` that names the first process (`libcontainer/container.go`, `State`).
#[derive(Deserialize)]
struct State {
    init_process_pid: u32,
    init_process_start: u64,
}

impl Processes {
    /// Looks for the processes of these ids.
    pub(super) fn look(host: &Host, wanted: &Wanted<'_>) -> Processes {
        let mut found = Processes::default();
        if let Err(error) = found.search(host, wanted) {
            found.blind = Some(error.to_string());
        }
        found
    }

    fn search(&mut self, host: &Host, wanted: &Wanted<'_>) -> Result<(), Error> {
        let proc = host.dir("/proc")?;
        if optional(proc.read("1/stat", SMALL))?.is_none() {
            return Err(Error::Failed("/proc hides processes: process 1 is not shown (hidepid)".to_owned()));
        }
        let processes = proc.dirs(MOST)?;
        let processes = processes.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let mut others: Vec<&str> = Vec::new();
        for process in processes {
            // One that has ended meanwhile is none.
            let Some(cgroup) = optional(proc.read(&format!("{process}/cgroup"), SMALL))? else { continue };
            let mut has_id = false;
            for id in process::container_ids(&cgroup).filter_map(|id| wanted.id(id)) {
                has_id = true;
                if !self.live.contains(&id) && stat_of(&proc, process)?.is_some_and(|stat| !stat.has_ended()) {
                    self.live.insert(id);
                }
            }
            if !has_id {
                others.push(process);
                if let Some((id, pod)) = stray(&cgroup)
                    && !self.strays.contains_key(&id)
                    && stat_of(&proc, process)?.is_some_and(|stat| !stat.has_ended())
                {
                    self.strays.insert(id, pod);
                }
            }
        }
        if wanted.sandboxes().all(|id| self.live.contains(id)) {
            return Ok(());
        }
        self.ask_runc(host, &proc, wanted)?;
        self.ask_the_others(host, &proc, wanted, &others)
    }

    /// runc wrote down the first process, and when it began: another process with its number is another one.
    fn ask_runc(&mut self, host: &Host, proc: &Dir<'_>, wanted: &Wanted<'_>) -> Result<(), Error> {
        let Some(ids) = optional(host.list(RUNC_STATE, MOST))? else { return Ok(()) };
        for (name, id) in ids.iter().filter_map(|name| name.to_str()).filter_map(|name| Some((name, wanted.id(name)?)))
        {
            if self.live.contains(&id) {
                continue;
            }
            let Some(bytes) = optional(host.read(&format!("{RUNC_STATE}/{name}/state.json"), 16 << 20))? else {
                continue;
            };
            // One that is being written has no process yet.
            let Ok(state) = serde_json::from_slice::<State>(&bytes) else { continue };
            let stat = stat_of(proc, &state.init_process_pid.to_string())?;
            if stat.is_some_and(|stat| stat.start == state.init_process_start && !stat.has_ended()) {
                self.live.insert(id);
            }
        }
        Ok(())
    }

    /// A shim that has a child is of a sandbox that lives, and so is every shim of a virtual machine. And whose processes
    /// are shown here at all?
    fn ask_the_others(
        &mut self,
        host: &Host,
        proc: &Dir<'_>,
        wanted: &Wanted<'_>,
        others: &[&str],
    ) -> Result<(), Error> {
        let mut stats: Vec<(&str, ProcessStat)> = Vec::new();
        for process in others {
            stats.extend(stat_of(proc, process)?.map(|stat| (*process, stat)));
        }
        let running = stats.iter().filter(|(_, stat)| !stat.has_ended());
        let parents: HashSet<u32> = running.clone().map(|(_, stat)| stat.parent).collect();
        for (process, _) in running.filter(|(_, stat)| stat.comm.starts_with("containerd-shim")) {
            // Anybody can call himself a shim.
            let is_roots =
                proc.read(&format!("{process}/status"), SMALL).is_ok_and(|status| process::is_of_root(&status));
            let Some(cmdline) = proc.read(&format!("{process}/cmdline"), SMALL).ok().filter(|_| is_roots) else {
                continue;
            };
            let arguments = process::arguments(&cmdline);
            let Some(id) = process::option(&arguments, &["id"]).map(Id::from) else { continue };
            let Some(kind) = wanted.kind(&id) else { continue };
            let has_child = process.parse().is_ok_and(|process: u32| parents.contains(&process));
            if kind == Kind::Machine || has_child {
                self.live.insert(id);
            }
        }
        self.crio = stats.iter().any(|(_, stat)| stat.comm == "crio");
        // A pod's first process is its own; a node in a container has an init.
        let is_init =
            |process: &str, stat: &ProcessStat| process == "1" && ["systemd", "init"].contains(&stat.comm.as_str());
        let is_of_node = |stat: &ProcessStat| NODE_PROGRAMS.contains(&stat.comm.as_str());
        let is_node = || stats.iter().any(|(process, stat)| is_of_node(stat) || is_init(process, stat));
        if !container::shows_all_processes(host) && !is_node() {
            self.blind = Some(
                "only the processes of another pid namespace are shown here, not the node's (a pod needs hostPID)"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// The container that a process is in, if that is one of this node's kubelet, and may be containerd's.
fn stray(cgroup: &[u8]) -> Option<(String, Uid)> {
    let text = std::str::from_utf8(cgroup).ok()?;
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    // Those of a node in a container lie deeper.
    let mut paths = paths.filter(|path| path.starts_with("/kubepods"));
    paths.find_map(|path| {
        let container = Place::of(path).container()?;
        let is_containerds = container.runtime.is_none_or(|runtime| runtime == Runtime::Containerd);
        let id = process::container_ids(container.id.as_bytes()).next()?;
        is_containerds.then(|| (id.to_owned(), container.pod))
    })
}

fn stat_of(proc: &Dir<'_>, process: &str) -> Result<Option<ProcessStat>, Error> {
    let bytes = optional(proc.read(&format!("{process}/stat"), SMALL))?;
    Ok(bytes.and_then(|bytes| process::stat(&bytes)))
}
