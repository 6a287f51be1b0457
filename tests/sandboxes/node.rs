//! A node as a look sees it: its files, made from what is on it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::support::bolt::{Ctr, MetaDb, Pod};

/// When the looks are that are judged.
pub const NOW: &str = "2026-11-21T03:22:00Z";
pub const KUBEADM: &str = "/var/lib/containerd";
const META_DB: &str = "io.containerd.metadata.v1.bolt/meta.db";
const CONTAINERD: u32 = 700;
const CONTAINERD_CGROUP: &str = "0::/system.slice/containerd.service\n";
pub const MINUTE: u64 = 60;
pub const DAY: u64 = 86400;

/// A file or a link, by its path from the directory of a scenario.
pub type Tree = BTreeMap<String, Entry>;

#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    File(Vec<u8>),
    Link(String),
}

/// How a container ended, as the CRI plugin wrote it down.
#[derive(Debug, Clone, Copy)]
pub enum Ended {
    /// Not at all: it still runs, or nobody was there to see its end.
    No,
    /// It did not run any more when containerd came up again.
    Unknown,
    With(i32),
    /// It was made, and never started.
    NeverBegan,
}

/// In which words a cgroup names a container.
#[derive(Debug, Clone, Copy)]
pub enum Driver {
    Systemd,
    CgroupfsV1,
    /// runc has another one than the kubelet.
    Mixed,
}

#[derive(Clone)]
pub struct Node {
    pub clock: String,
    tree: Tree,
    stat: BTreeMap<String, String>,
    mounts: Vec<String>,
    locks: Vec<String>,
    databases: BTreeMap<String, MetaDb>,
    /// That of which records are meant.
    root: String,
    is_down: bool,
    driver: Driver,
    before: Option<Box<Node>>,
    next_process: u32,
    /// When it booted, in seconds before [`NOW`].
    booted: u64,
}

impl Node {
    /// A node of containerd 1.6 that has been up for 30 days, without a pod.
    pub fn new() -> Node {
        Node::of(KUBEADM, MetaDb::new())
    }

    pub fn v2() -> Node {
        Node::of(KUBEADM, MetaDb::v2())
    }

    /// One whose containerd, or that of a distribution, has its root directory there. Pages of 1 KiB keep the files small.
    pub fn of(root: &str, db: MetaDb) -> Node {
        let node = Node {
            clock: NOW.to_owned(),
            tree: Tree::new(),
            stat: BTreeMap::new(),
            mounts: vec!["22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw".to_owned()],
            locks: vec!["1: POSIX  ADVISORY  WRITE 411 00:19:1188 0 EOF".to_owned()],
            databases: BTreeMap::new(),
            root: String::new(),
            is_down: false,
            driver: Driver::Systemd,
            before: None,
            next_process: 2000,
            booted: 0,
        };
        let node = node.process(1, "systemd", 'S', 0, "0::/init.scope\n").boot('1', 30 * DAY).database(root, db);
        node.process(650, "kubelet", 'S', 1, "0::/system.slice/kubelet.service\n")
    }

    /// The boot with this digit, so long before [`NOW`].
    pub fn boot(mut self, digit: char, seconds: u64) -> Node {
        self.booted = seconds;
        let id = format!("3f1c0b9e-7a52-4c1d-9d0e-{}\n", digit.to_string().repeat(12));
        self.file("/proc/sys/kernel/random/boot_id", id).up(seconds)
    }

    fn up(self, seconds: u64) -> Node {
        self.file("/proc/uptime", format!("{seconds}.00 {}.00\n", seconds * 2))
    }

    /// The same so many minutes before [`NOW`].
    pub fn ago(mut self, minutes: u64) -> Node {
        let now: jiff::Timestamp = NOW.parse().unwrap();
        self.clock = (now - Duration::from_secs(minutes * MINUTE)).to_string();
        let up = self.booted - minutes * MINUTE;
        self.up(up)
    }

    /// What was looked at earlier.
    pub fn after(mut self, before: Node) -> Node {
        self.before = Some(Box::new(before));
        self
    }

    pub fn driver(mut self, driver: Driver) -> Node {
        self.driver = driver;
        self
    }

    pub fn file(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Node {
        self.tree.insert(format!("root{path}"), Entry::File(bytes.as_ref().to_vec()));
        self
    }

    pub fn link(mut self, path: &str, to: &str) -> Node {
        self.tree.insert(format!("root{path}"), Entry::Link(to.to_owned()));
        self
    }

    pub fn without(mut self, path: &str) -> Node {
        let below = format!("root{path}/");
        self.tree.retain(|known, _| *known != format!("root{path}") && !known.starts_with(&below));
        self
    }

    /// Lines for stat.toml.
    pub fn stat(mut self, path: &str, lines: &str) -> Node {
        self.stat.entry(path.to_owned()).or_default().push_str(&format!("{lines}\n"));
        self
    }

    /// Settings of nodecheck.
    pub fn settings(self, toml: &str) -> Node {
        self.file("/etc/nodecheck/nodecheck.toml", toml)
    }

    // --- databases --------------------------------------------------------------------------------------------------

    /// One more database, open in a containerd of its own; records are in it from here on.
    pub fn database(mut self, root: &str, db: MetaDb) -> Node {
        self.root = root.to_owned();
        self.databases.insert(root.to_owned(), db.page_size(1024));
        let process = CONTAINERD + self.databases.len() as u32 - 1;
        let inode = 1_310_720 + u64::from(process);
        self.locks.push(format!("{}: FLOCK  ADVISORY  WRITE {process} fd:01:{inode} 0 EOF", self.locks.len() + 1));
        let node = self.stat(&format!("{root}/{META_DB}"), &format!("inode = {inode}\nfstype = \"ext4\""));
        node.process(process, "containerd", 'S', 1, CONTAINERD_CGROUP).arguments(process, &["/usr/bin/containerd"])
    }

    pub fn change(mut self, change: impl FnOnce(MetaDb) -> MetaDb) -> Node {
        let db = self.databases.remove(&self.root).unwrap();
        self.databases.insert(self.root.clone(), change(db));
        self
    }

    /// These bytes for the database.
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Node {
        self.databases.remove(&self.root);
        let path = format!("{}/{META_DB}", self.root);
        self.file(&path, bytes)
    }

    /// Puts the database onto another file system.
    pub fn on(mut self, fstype: &str) -> Node {
        let lines = self.stat.get_mut(&format!("{}/{META_DB}", self.root)).unwrap();
        *lines = lines.replace("ext4", fstype);
        self
    }

    /// The bytes of the database.
    pub fn built(&self) -> Vec<u8> {
        self.databases[&self.root].build()
    }

    /// No containerd runs.
    pub fn down(mut self) -> Node {
        self.is_down = true;
        self.without(&format!("/proc/{CONTAINERD}"))
    }

    /// What the containerd of the first database was told.
    pub fn told(self, arguments: &[&str]) -> Node {
        self.arguments(CONTAINERD, &[&["/usr/local/bin/containerd"], arguments].concat())
    }

    // --- processes --------------------------------------------------------------------------------------------------

    pub fn process(self, process: u32, comm: &str, state: char, parent: u32, cgroup: &str) -> Node {
        let text = format!(
            "{process} ({comm}) {state} {parent} {process} {process} 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {} 1000 20 \
             18446744073709551615\n",
            u64::from(process) * 100
        );
        self.file(&format!("/proc/{process}/stat"), text).file(&format!("/proc/{process}/cgroup"), cgroup)
    }

    pub fn arguments(self, process: u32, arguments: &[&str]) -> Node {
        self.file(&format!("/proc/{process}/status"), "Uid:\t0\t0\t0\t0\n")
            .file(&format!("/proc/{process}/cmdline"), format!("{}\0", arguments.join("\0")))
    }

    /// A shim of a sandbox; the number of its process.
    pub fn shim(mut self, program: &str, pod: &Pod) -> (Node, u32) {
        let process = self.process_number();
        let arguments =
            [program, "-namespace", "k8s.io", "-id", &pod.id, "-address", "/run/containerd/containerd.sock"];
        let node = self.process(process, "containerd-shim", 'S', 1, CONTAINERD_CGROUP).arguments(process, &arguments);
        (node, process)
    }

    /// What runc wrote down of a sandbox's first process; `start` is 100 times that process as [`Node::process`] makes it.
    pub fn runc(self, pod: &Pod, process: u32, start: u64) -> Node {
        let state = format!(
            r#"{{"id":"{}","init_process_pid":{process},"init_process_start":{start},"created":"{NOW}","config":{{}}}}"#,
            pod.id
        );
        self.file(&format!("/run/containerd/runc/k8s.io/{}/state.json", pod.id), state)
    }

    fn process_number(&mut self) -> u32 {
        self.next_process += 1;
        self.next_process
    }

    fn cgroup_of(&self, pod: &Pod, id: &str) -> String {
        let (uid, slice) = (&pod.uid, format!("kubepods-burstable-pod{}.slice", pod.uid.replace('-', "_")));
        match self.driver {
            Driver::Systemd => {
                format!("0::/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{id}.scope\n")
            }
            Driver::CgroupfsV1 => format!(
                "12:pids:/kubepods/burstable/pod{uid}/{id}\n11:memory:/kubepods/burstable/pod{uid}/{id}\n\
                 1:name=systemd:/kubepods/burstable/pod{uid}/{id}\n0::/system.slice/containerd.service\n"
            ),
            Driver::Mixed => format!(
                "11:memory:/system.slice/containerd.service/{slice}:cri-containerd:{id}\n\
                 0::/system.slice/containerd.service/{slice}:cri-containerd:{id}\n"
            ),
        }
    }

    // --- pods -------------------------------------------------------------------------------------------------------

    /// A sandbox with its records, its process, its network namespace, and the kubelet's directory.
    pub fn live(self, pod: &Pod) -> Node {
        self.dead(pod).paused(pod, 'S').netns(pod)
    }

    /// One with its records and the kubelet's directory.
    pub fn dead(self, pod: &Pod) -> Node {
        self.change(|db| db.pod(pod)).known(pod)
    }

    /// Its process.
    pub fn paused(mut self, pod: &Pod, state: char) -> Node {
        let (process, cgroup) = (self.process_number(), self.cgroup_of(pod, &pod.id));
        self.process(process, "pause", state, 1, &cgroup)
    }

    pub fn netns(mut self, pod: &Pod) -> Node {
        let path = pod.netns().replace("/var/run/", "/run/");
        if !path.is_empty() {
            let number = self.mounts.len() + 900;
            self.mounts.push(format!("{number} 23 0:4 net:[4026{number:06}] {path} rw shared:{number} - nsfs nsfs rw"));
        }
        self
    }

    /// The kubelet's directory of the pod.
    pub fn known(self, pod: &Pod) -> Node {
        self.file(&format!("/var/lib/kubelet/pods/{}/etc-hosts", pod.uid), "127.0.0.1\tlocalhost\n")
    }

    pub fn forgotten(self, pod: &Pod) -> Node {
        self.without(&format!("/var/lib/kubelet/pods/{}", pod.uid))
    }

    /// When a pod came or went last.
    pub fn quiet_since(self, when: &str) -> Node {
        self.stat("/var/lib/kubelet/pods", &format!("mtime = \"{when}\""))
    }

    /// A container, with what the CRI plugin keeps of it.
    pub fn container(self, container: &Ctr, ended: Ended) -> Node {
        let path = self.status_of(container);
        self.change(|db| db.container(container)).file(&path, status(ended))
    }

    pub fn status_of(&self, container: &Ctr) -> String {
        format!("{}/io.containerd.grpc.v1.cri/containers/{}/status", self.root, container.id)
    }

    /// A sandbox without a process whose container ran until something took it away.
    pub fn taken(self, pod: &Pod, container: &str, ended: Ended) -> Node {
        // Each time it is made it gets another number.
        self.dead(pod).container(&pod.container(container).attempt(pod.attempt), ended)
    }

    // --- as files ---------------------------------------------------------------------------------------------------

    /// All files of the scenario.
    pub fn scenario(&self) -> Tree {
        let mut tree = self.tree();
        let text = |text: String| Entry::File(text.into_bytes());
        tree.insert("clock".to_owned(), text(format!("{}\n", self.clock)));
        if !self.stat.is_empty() {
            let tables: Vec<String> = self.stat.iter().map(|(path, lines)| format!("[{path:?}]\n{lines}")).collect();
            tree.insert("stat.toml".to_owned(), text(tables.join("\n")));
        }
        let before = self.before.iter().flat_map(|before| before.scenario());
        tree.extend(before.map(|(path, entry)| (format!("before/{path}"), entry)));
        tree
    }

    /// Without what a scenario has beside its root.
    pub fn tree(&self) -> Tree {
        let mut tree = self.tree.clone();
        let mut put = |path: &str, text: Vec<u8>| {
            tree.entry(format!("root{path}")).or_insert(Entry::File(text));
        };
        put("/proc/1/mountinfo", (self.mounts.join("\n") + "\n").into_bytes());
        let locks = self.locks.iter().filter(|lock| !self.is_down || !lock.contains("FLOCK"));
        put("/proc/locks", locks.map(|lock| format!("{lock}\n")).collect::<String>().into_bytes());
        for (root, db) in &self.databases {
            put(&format!("{root}/{META_DB}"), db.build());
        }
        tree
    }
}

/// The file `status` of the CRI plugin.
fn status(ended: Ended) -> String {
    const BEGAN: u64 = 1_793_527_205_000_000_000;
    let (started, finished, code, reason) = match ended {
        Ended::No => (BEGAN, 0, 0, ""),
        Ended::Unknown => (BEGAN, BEGAN + 1, 255, "Unknown"),
        Ended::With(code) => (BEGAN, BEGAN + 1, code, if code == 0 { "Completed" } else { "Error" }),
        Ended::NeverBegan => (0, 0, 0, ""),
    };
    format!(
        r#"{{"Version":"v1","Pid":0,"CreatedAt":{},"StartedAt":{started},"FinishedAt":{finished},"ExitCode":{code},"#,
        BEGAN - 1
    ) + &format!(r#""Reason":"{reason}","Message":"","Resources":{{"linux":{{}}}}}}"#)
}

/// Writes files into a directory, and takes away `cut` from the beginnings of their paths.
pub fn write(tree: &Tree, dir: &Path, cut: &str) {
    for (path, entry) in tree {
        let path = dir.join(path.strip_prefix(cut).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match entry {
            Entry::File(bytes) => fs::write(path, bytes).unwrap(),
            Entry::Link(target) => symlink(target, path).unwrap(),
        }
    }
}
