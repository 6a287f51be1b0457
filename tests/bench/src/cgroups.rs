//! Trees of cgroups as a node has them: plain files, with what a kernel prints in them.
//!
//! A cgroup has as many files as a kernel makes there, since a script that searches for one meets them all; those that
//! nobody reads are empty. A third of the containers are sandboxes. Of the others 8 % have kills and 3 % use more than 90 % of their limit. Files
//! of one content are one file with many names: a tree of ten thousand containers is made in seconds.

use std::collections::HashMap;
use std::fs::{create_dir, create_dir_all, hard_link, write};
use std::io::Result;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The version, and who makes the cgroups.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// cgroup v2, and systemd makes the cgroups.
    V2,
    /// cgroup v1, and the kubelet makes them.
    V1,
}

impl Layout {
    fn files(self, state: State) -> Vec<(&'static str, String)> {
        match self {
            Layout::V2 => v2(state),
            Layout::V1 => v1(state),
        }
    }
}

/// What a cgroup counts and uses; cgroups of one state share their files.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct State {
    limit: Option<u64>,
    usage: u64,
    count: Count,
    /// Of the count, what is the cgroup's own.
    own: Count,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Count {
    max: u64,
    oom: u64,
    kills: u64,
    groups: u64,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.max += other.max;
        self.oom += other.oom;
        self.kills += other.kills;
        self.groups += other.groups;
    }
}

/// Makes a tree.
pub struct Maker {
    layout: Layout,
    /// The memory hierarchy.
    base: PathBuf,
    root: PathBuf,
    /// Where the files are that have many names.
    shared: PathBuf,
    shared_dirs: usize,
    known: HashMap<State, (PathBuf, u32)>,
    /// The names of the files of one cgroup.
    names: Vec<&'static str>,
    dice: u64,
    kills: Kills,
}

/// Whether there were any.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kills {
    Some,
    /// And of the files only those that matter then.
    None,
}

/// ext4 allows 65,000 names of one file; one has many in each cgroup.
const MOST_NAMES: u32 = 2_000;
const EMPTY: &str = "empty";
/// What else is there with the controllers cpu, memory and pids, on Linux 6.1.
const V2_UNREAD: &str = "cgroup.freeze cgroup.kill cgroup.max.depth cgroup.max.descendants cgroup.pressure cgroup.stat \
    cgroup.subtree_control cgroup.threads cpu.idle cpu.max cpu.max.burst cpu.pressure cpu.stat cpu.weight \
    cpu.weight.nice memory.low memory.min memory.numa_stat memory.reclaim memory.swap.events memory.swap.high \
    memory.swap.max memory.zswap.current memory.zswap.max pids.current pids.events pids.max pids.peak";
/// What else is there on Linux 6.1 in the memory hierarchy.
const V1_UNREAD: &str = "cgroup.event_control memory.force_empty memory.kmem.failcnt memory.kmem.limit_in_bytes \
    memory.kmem.max_usage_in_bytes memory.kmem.slabinfo memory.kmem.tcp.failcnt memory.kmem.tcp.limit_in_bytes \
    memory.kmem.tcp.max_usage_in_bytes memory.kmem.tcp.usage_in_bytes memory.kmem.usage_in_bytes memory.memsw.failcnt \
    memory.memsw.limit_in_bytes memory.memsw.max_usage_in_bytes memory.memsw.usage_in_bytes memory.numa_stat \
    memory.pressure_level memory.use_hierarchy";
const MIB: u64 = 1 << 20;
const LIMITS: [u64; 7] = [50 * MIB, 64 * MIB, 128 * MIB, 256 * MIB, 512 * MIB, 1024 * MIB, 4096 * MIB];

/// Makes a node of so many containers below `root`, which must be on the file system of its parent.
pub fn make(root: &Path, layout: Layout, containers: usize, kills: Kills) -> Result<()> {
    let base = root.join(if layout == Layout::V2 { "sys/fs/cgroup" } else { "sys/fs/cgroup/memory" });
    let shared = root.with_extension("shared");
    for dir in [&base, &shared, &root.join("var/log/pods"), &root.join("var/log/containers"), &root.join("proc/1")] {
        create_dir_all(dir)?;
    }
    let (known, root) = (HashMap::new(), root.to_owned());
    let names = layout.files(State::default()).into_iter().map(|(name, _)| name);
    let names = names.filter(|name| kills == Kills::Some || name.starts_with("memory.events")).collect();
    let mut maker =
        Maker { layout, base, root, shared, shared_dirs: 0, known, names, dice: 0x9e37_79b9_7f4a_7c15, kills };
    maker.node(containers)
}

impl Maker {
    fn node(&mut self, containers: usize) -> Result<()> {
        let mut classes = [Count::default(); 3];
        let mut all = Count::default();
        for class in 0..3 {
            create_dir_all(self.base.join(self.class(class)))?;
        }
        for number in 0..containers / 3 {
            let class = [0, 0, 0, 0, 0, 0, 0, 1, 1, 2][self.roll(10)];
            let count = self.pod(number, class)?;
            classes[class].add(count);
            all.add(count);
        }
        let sum = |count: Count, limit: Option<u64>| State { limit, usage: 8 << 30, count, own: Count::default() };
        for (class, count) in classes.into_iter().enumerate().take(2) {
            self.fill(&self.base.join(self.class(class)), sum(count, None))?;
        }
        self.fill(&self.base.join(self.class(2)), sum(all, Some(60 << 30)))?;
        let quiet = State { usage: 50 * MIB, ..State::default() };
        for name in ["kubelet", "containerd", "ssh", "cron", "dbus", "systemd-journald", "systemd-networkd", "chrony"] {
            self.cgroup(&self.base.join(format!("system.slice/{name}.service")), quiet)?;
        }
        for name in ["system.slice", "user.slice", "init.scope"] {
            self.cgroup(&self.base.join(name), quiet)?;
        }
        let mounts = match self.layout {
            Layout::V2 => {
                "28 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
            }
            Layout::V1 => "30 26 0:28 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n",
        };
        if self.layout == Layout::V2 {
            write(self.base.join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids rdma misc\n")?;
        } else {
            self.fill(&self.base.clone(), quiet)?;
        }
        for (file, text) in [
            ("proc/1/mountinfo", mounts.to_owned()),
            ("proc/vmstat", format!("nr_free_pages 1\npgfault 2\noom_kill {}\nnuma_hit 3\n", all.kills)),
        ] {
            write(self.root.join(file), text)?;
        }
        Ok(())
    }

    /// kubepods (2), and the classes of pods below it.
    fn class(&self, class: usize) -> &'static str {
        match (self.layout, class) {
            (Layout::V2, 0) => "kubepods.slice/kubepods-burstable.slice",
            (Layout::V2, 1) => "kubepods.slice/kubepods-besteffort.slice",
            (Layout::V2, _) => "kubepods.slice",
            (Layout::V1, 0) => "kubepods/burstable",
            (Layout::V1, 1) => "kubepods/besteffort",
            (Layout::V1, _) => "kubepods",
        }
    }

    fn pod(&mut self, number: usize, class: usize) -> Result<Count> {
        const NAMES: [&str; 8] =
            ["coredns", "multus", "traefik", "prometheus", "loki", "argocd-repo-server", "calico-node", "redis"];
        let uid =
            format!("{:08x}-{:04x}-4{:03x}-8000-{number:012x}", self.random(32), self.random(16), self.random(12));
        let name = format!("{}-{:05x}", NAMES[self.roll(NAMES.len())], self.random(20));
        let namespace = ["kube-system", "monitoring", "argocd", "default"][self.roll(4)];
        let within = self.class(class);
        let path = match self.layout {
            Layout::V2 => {
                let slice = within.rsplit('/').next().and_then(|slice| slice.strip_suffix(".slice")).unwrap_or(within);
                format!("{within}/{slice}-pod{}.slice", uid.replace('-', "_"))
            }
            Layout::V1 => format!("{within}/pod{uid}"),
        };
        let path = self.base.join(path);
        create_dir(&path)?;
        let logs = format!("/var/log/pods/{namespace}_{name}_{uid}");
        let (mut sum, mut limit) = (Count::default(), Some(0));
        for container in 0..3 {
            let id = format!("{:064x}", (u128::from(self.random(64)) << 64) | u128::from(self.random(64)));
            let state = if container == 0 { State { usage: 600 << 10, ..State::default() } } else { self.app(class) };
            let below = if self.layout == Layout::V2 { format!("cri-containerd-{id}.scope") } else { id.clone() };
            self.cgroup(&path.join(below), state)?;
            sum.add(state.count);
            if container > 0 {
                limit = limit.zip(state.limit).map(|(sum, limit)| sum + limit);
                let log = format!("{logs}/app{container}/0.log");
                let file = self.root.join(&log[1..]);
                create_dir_all(self.root.join(&logs[1..]).join(format!("app{container}")))?;
                write(file, "")?;
                let link = format!("var/log/containers/{name}_{namespace}_app{container}-{id}.log");
                symlink(&log, self.root.join(link))?;
            }
        }
        let usage = limit.unwrap_or(256 * MIB) / 3;
        // v1 counts in the cgroup of the victim alone.
        let count = if self.layout == Layout::V2 { sum } else { Count::default() };
        self.fill(&path, State { limit, usage, count, own: Count::default() })?;
        Ok(if self.layout == Layout::V2 { sum } else { Count { kills: sum.kills, ..Count::default() } })
    }

    /// A container that does something.
    fn app(&mut self, class: usize) -> State {
        if class == 1 || self.roll(100) < 15 {
            return State { usage: 200 * MIB, ..State::default() };
        }
        let limit = LIMITS[self.roll(LIMITS.len())];
        let percent = if self.roll(100) < 3 { 96 } else { [8, 20, 35, 50, 65, 80][self.roll(6)] };
        let mut count = Count::default();
        if self.roll(100) < 8 && self.kills == Kills::Some {
            count.kills = [1, 2, 3, 9, 149][self.roll(5)];
            let is_group = self.roll(10) < 3;
            (count.oom, count.groups) = if is_group { (1, 1) } else { (count.kills, 0) };
            count.max = count.kills * 37;
        }
        State { limit: Some(limit), usage: limit / 100 * percent, count, own: count }
    }

    fn cgroup(&mut self, path: &Path, state: State) -> Result<()> {
        create_dir_all(path)?;
        self.fill(path, state)
    }

    /// Gives a cgroup its files.
    fn fill(&mut self, path: &Path, state: State) -> Result<()> {
        let known = self.known.entry(state).or_default();
        if known.1.is_multiple_of(MOST_NAMES) {
            self.shared_dirs += 1;
            known.0 = self.shared.join(self.shared_dirs.to_string());
            create_dir(&known.0)?;
            for (name, text) in self.layout.files(state) {
                write(known.0.join(name), text)?;
            }
            write(known.0.join(EMPTY), "")?;
        }
        known.1 += 1;
        self.names.iter().try_for_each(|name| hard_link(known.0.join(name), path.join(name)))?;
        if self.kills == Kills::None {
            return Ok(());
        }
        let unread = if self.layout == Layout::V2 { V2_UNREAD } else { V1_UNREAD };
        let empty = known.0.join(EMPTY);
        unread.split_whitespace().try_for_each(|name| hard_link(&empty, path.join(name)))
    }

    /// Any number of so many bits; the same ones in each run.
    fn random(&mut self, bits: u32) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice >> (64 - bits)
    }

    fn roll(&mut self, sides: usize) -> usize {
        (self.random(32) as usize) % sides
    }
}

fn limit_text(limit: Option<u64>, none: &str) -> String {
    limit.map_or(format!("{none}\n"), |limit| format!("{limit}\n"))
}

fn v2(state: State) -> Vec<(&'static str, String)> {
    let State { limit, usage, count, own } = state;
    let events = |count: Count| {
        let Count { max, oom, kills, groups } = count;
        format!("low 0\nhigh 0\nmax {max}\noom {oom}\noom_kill {kills}\noom_group_kill {groups}\n")
    };
    let of_usage = |percent: u64| usage / 100 * percent;
    let mut stat = format!(
        "anon {}\nfile {}\nkernel {}\nshmem 0\ninactive_anon 0\nactive_anon {}\ninactive_file {}\nactive_file {}\n\
         unevictable 0\nslab_reclaimable {}\nslab_unreclaimable {}\nslab {}\n",
        of_usage(60),
        of_usage(30),
        of_usage(10),
        of_usage(60),
        of_usage(20),
        of_usage(10),
        of_usage(3),
        of_usage(2),
        of_usage(5)
    );
    for name in ["workingset_refault_anon", "workingset_refault_file", "workingset_activate_file", "pgscan", "pgsteal"]
    {
        stat.push_str(&format!("{name} {}\n", usage % 9973));
    }
    for number in 0..30 {
        stat.push_str(&format!("other_counter_of_the_kernel_{number} {}\n", usage % 7919));
    }
    let psi = "some avg10=0.00 avg60=0.00 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1234\n";
    vec![
        ("cgroup.controllers", "memory pids\n".to_owned()),
        ("cgroup.events", "populated 1\nfrozen 0\n".to_owned()),
        ("cgroup.procs", "4711\n".to_owned()),
        ("cgroup.type", "domain\n".to_owned()),
        ("memory.current", format!("{usage}\n")),
        ("memory.events", events(count)),
        ("memory.events.local", events(own)),
        ("memory.high", "max\n".to_owned()),
        ("memory.max", limit_text(limit, "max")),
        ("memory.oom.group", "0\n".to_owned()),
        ("memory.peak", format!("{usage}\n")),
        ("memory.pressure", psi.to_owned()),
        ("memory.stat", stat),
        ("memory.swap.current", "0\n".to_owned()),
    ]
}

fn v1(state: State) -> Vec<(&'static str, String)> {
    let State { limit, usage, count, .. } = state;
    let of_usage = |percent: u64| usage / 100 * percent;
    let mut stat = String::new();
    for prefix in ["", "total_"] {
        for (name, value) in [
            ("cache", of_usage(30)),
            ("rss", of_usage(60)),
            ("rss_huge", 0),
            ("shmem", 0),
            ("mapped_file", of_usage(5)),
            ("dirty", 0),
            ("writeback", 0),
            ("pgpgin", 12345),
            ("pgpgout", 1234),
            ("pgfault", 123_456),
            ("pgmajfault", 12),
            ("inactive_anon", 0),
            ("active_anon", of_usage(60)),
            ("inactive_file", of_usage(20)),
            ("active_file", of_usage(10)),
            ("unevictable", 0),
        ] {
            stat.push_str(&format!("{prefix}{name} {value}\n"));
        }
    }
    let none = "9223372036854771712";
    stat.push_str(&format!("hierarchical_memory_limit {}", limit_text(limit, none)));
    vec![
        ("cgroup.clone_children", "0\n".to_owned()),
        ("cgroup.procs", "4711\n".to_owned()),
        ("memory.failcnt", format!("{}\n", count.max)),
        ("memory.limit_in_bytes", limit_text(limit, none)),
        ("memory.max_usage_in_bytes", format!("{usage}\n")),
        ("memory.move_charge_at_immigrate", "0\n".to_owned()),
        ("memory.oom_control", format!("oom_kill_disable 0\nunder_oom 0\noom_kill {}\n", count.kills)),
        ("memory.soft_limit_in_bytes", format!("{none}\n")),
        ("memory.stat", stat),
        ("memory.swappiness", "60\n".to_owned()),
        ("memory.usage_in_bytes", format!("{usage}\n")),
        ("notify_on_release", "0\n".to_owned()),
        ("tasks", "4711\n".to_owned()),
    ]
}
