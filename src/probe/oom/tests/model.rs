//! A node in a temporary directory whose cgroups count as the kernel's do.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::catalog::Catalog;
use crate::history::History;
use crate::host::Host;
use crate::render::plugin;
use crate::verdict::Verdict;

pub const POD: &str = "0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d";
pub const OTHER: &str = "11111111-2222-3333-4444-555555555555";
pub const THIRD: &str = "99999999-2222-3333-4444-555555555555";

#[derive(Clone, Copy, PartialEq)]
pub enum Kernel {
    V1,
    V2,
    /// Before 5.17: no oom_group_kill.
    V2Old,
    /// Mounted with memory_localevents.
    V2Local,
}

#[derive(Default, Clone)]
struct Counts {
    kills: u64,
    groups: u64,
    ooms: u64,
    own_kills: u64,
    own_ooms: u64,
    max: Option<u64>,
}

pub struct Node {
    dir: tempfile::TempDir,
    history: History,
    kernel: Kernel,
    cgroups: BTreeMap<String, Counts>,
    vmstat: u64,
    pub settings: String,
}

/// `kubepods/burstable/pod<uid>`, as the cgroupfs driver names it.
pub fn pod(uid: &str) -> String {
    format!("kubepods/burstable/pod{uid}")
}

pub fn container(uid: &str, letter: char) -> String {
    format!("{}/{}", pod(uid), letter.to_string().repeat(64))
}

impl Node {
    pub fn new(kernel: Kernel) -> Node {
        let mut node = Node {
            dir: tempfile::tempdir().unwrap(),
            history: History::in_memory(),
            kernel,
            cgroups: BTreeMap::new(),
            vmstat: 0,
            settings: String::new(),
        };
        let mount = match kernel {
            Kernel::V1 => "30 26 0:28 / /sys/fs/cgroup/memory rw shared:13 - cgroup cgroup rw,memory\n",
            Kernel::V2Local => "28 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,memory_localevents\n",
            _ => "28 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
        };
        node.file("proc/1/mountinfo", mount);
        node.file("proc/sys/kernel/random/boot_id", "boot-a\n");
        node.make("system.slice/kubelet.service");
        node.make(&container(POD, 'a'));
        node.name(POD, "kured", "gate-x7");
        node
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn cgroup(&self, path: &str) -> PathBuf {
        let point = if self.kernel == Kernel::V1 { "sys/fs/cgroup/memory" } else { "sys/fs/cgroup" };
        self.path(point).join(path)
    }

    pub fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Gives a pod its log directories.
    pub fn name(&self, uid: &str, namespace: &str, name: &str) {
        self.file(&format!("var/log/pods/{namespace}_{name}_{uid}/gate/0.log"), "");
    }

    pub fn make(&mut self, path: &str) {
        for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
            self.cgroups.entry(path[..at].to_owned()).or_default();
        }
        self.write();
    }

    /// Sets a limit in MiB.
    pub fn limit(&mut self, path: &str, mib: u64) {
        self.cgroups.get_mut(path).unwrap().max = Some(mib << 20);
        self.write();
    }

    pub fn remove(&mut self, path: &str) {
        self.cgroups.retain(|known, _| known != path && !known.starts_with(&format!("{path}/")));
        fs::remove_dir_all(self.cgroup(path)).unwrap();
    }

    /// The kernel kills `processes` in `path`, in one group or one after the other, since `limit` was hit.
    pub fn kill(&mut self, path: &str, processes: u64, group: bool, limit: Option<&str>) {
        let v1 = self.kernel == Kernel::V1;
        let times = if group { 1 } else { processes };
        let is_at_or_above = |above: &str, path: &str| path == above || path.starts_with(&format!("{above}/"));
        self.vmstat += processes;
        for (name, counts) in &mut self.cgroups {
            if is_at_or_above(name, path) {
                counts.kills += processes;
                counts.groups += u64::from(group);
            }
            if name == path {
                counts.own_kills += processes;
            }
            if let Some(limit) = limit {
                counts.ooms += if is_at_or_above(name, limit) { times } else { 0 };
                counts.own_ooms += if name == limit { times * if v1 { 100 } else { 1 } } else { 0 };
            }
        }
        self.write();
    }

    pub fn write(&self) {
        for (path, c) in &self.cgroups {
            let dir = self.cgroup(path);
            fs::create_dir_all(&dir).unwrap();
            let write = |file: &str, text: String| fs::write(dir.join(file), text).unwrap();
            let events = |oom: u64, kill: u64, group: u64| {
                let old = format!("low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {kill}\n");
                if self.kernel == Kernel::V2Old { old } else { format!("{old}oom_group_kill {group}\n") }
            };
            let max = c.max.map_or("max".to_owned(), |max| max.to_string());
            match self.kernel {
                Kernel::V1 => {
                    let kills = c.own_kills;
                    write("memory.oom_control", format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"));
                    write("memory.failcnt", format!("{}\n", c.own_ooms));
                    let max = c.max.unwrap_or(9_223_372_036_854_771_712);
                    write("memory.limit_in_bytes", format!("{max}\n"));
                }
                Kernel::V2Local => {
                    write("memory.events", events(c.own_ooms, c.own_kills, 0));
                    write("memory.max", format!("{max}\n"));
                }
                Kernel::V2 | Kernel::V2Old => {
                    write("memory.events", events(c.ooms, c.kills, c.groups));
                    write("memory.events.local", events(c.own_ooms, c.own_kills, 0));
                    write("memory.max", format!("{max}\n"));
                }
            }
        }
        if self.kernel == Kernel::V1 {
            let root = self.cgroup("");
            fs::write(root.join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n").unwrap();
        }
        self.file("proc/vmstat", &format!("nr_free_pages 1\noom_kill {}\n", self.vmstat));
    }

    /// Looks `minute` minutes after the boot.
    pub fn look(&self, check: &str, minute: u64) -> Verdict {
        self.file("proc/uptime", &format!("{}.00 1.00\n", minute * 60));
        let catalog = Catalog::load(&Host::at_root(self.dir.path()).unwrap(), Some(("nodecheck.toml", &self.settings)));
        let check = catalog.check(check, &[]).unwrap().unwrap_or_else(|faults| panic!("{faults:?}"));
        check.run_here(&Host::at_root(self.dir.path()).unwrap(), &self.history)
    }

    pub fn both(&self, minute: u64) -> (Verdict, Verdict) {
        (self.look("pod-oom-kills", minute), self.look("node-oom-kills", minute))
    }
}

pub fn metric(verdict: &Verdict, name: &str) -> f64 {
    let found = verdict.metrics.iter().find(|judged| judged.metric.spec.name == name);
    found.unwrap_or_else(|| panic!("{name}: {}", plugin(verdict, false))).metric.value
}
