//! Where the memory cgroups of this node are.

use procfs_core::process::MountInfo;

use crate::host::{Error, Host, SMALL, optional};
use crate::parse::cgroup::{Hierarchy, Mount, hierarchy, lists_memory};

/// Where a cgroup file system is when nothing tells: in a tree of a few files.
const USUAL: &str = "/sys/fs/cgroup";
/// The cgroup file systems are mounted at boot, before the thousands of mounts that pods bring.
const HEAD: u64 = 32 << 10;
/// A node with a thousand pods has some megabytes of mounts.
const LARGEST: u64 = 16 << 20;

/// How the kernel accounts for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy of its own: what a cgroup counts is its own alone.
    V1,
    /// The unified hierarchy: what a cgroup counts includes all below it.
    V2,
    /// The unified hierarchy, mounted with `memory_localevents`: events are a cgroup's own alone.
    V2Local,
}

/// The memory hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memcg {
    /// How it counts.
    pub version: Version,
    /// The directory that it is mounted on.
    pub point: String,
}

impl Memcg {
    /// Finds the hierarchy that has the memory controller. Absent where none has it.
    pub fn find(host: &Host) -> Result<Memcg, Error> {
        let found = match of_mounts(host)? {
            Some(found) => found,
            None => by_look(host)?.ok_or_else(|| Error::Absent(format!("no cgroup file system in {USUAL}")))?,
        };
        if found.version == Version::V1 {
            return Ok(found);
        }
        let file = format!("{}/cgroup.controllers", found.point);
        match optional(host.read(&file, SMALL))? {
            // Only a list of names says that one is not on it.
            Some(controllers) if !controllers.iter().all(|byte| b"abcdefghijklmnopqrstuvwxyz_ \n".contains(byte)) => {
                Err(Error::Failed(format!("{file} is not a list of controllers")))
            }
            Some(controllers) if !lists_memory(&controllers) => Err(Error::Absent(format!(
                "no memory controller: {file} does not list it (boot with cgroup_enable=memory)"
            ))),
            _ => Ok(found),
        }
    }

    /// Whether a cgroup's events include those of all below it.
    pub fn is_hierarchical(&self) -> bool {
        self.version == Version::V2
    }
}

/// By the mounts of process 1, or our own where those are not to be seen. `None` where there is no list of mounts.
fn of_mounts(host: &Host) -> Result<Option<Memcg>, Error> {
    for process in ["1", "self"] {
        let file = format!("/proc/{process}/mountinfo");
        let Ok(head) = host.read_head(&file, HEAD) else { continue };
        let is_whole = u64::try_from(head.len()).is_ok_and(|length| length < HEAD);
        let found = choose(&head);
        // In the hybrid mode the one with the memory may come later.
        if !is_whole && found.as_ref().is_none_or(|found| found.point != USUAL && found.version != Version::V1) {
            return choose(&host.read(&file, LARGEST)?).map(Some).ok_or_else(|| no_mount(&file));
        }
        match found {
            Some(found) => return Ok(Some(found)),
            // An empty list is that of a process that ends.
            None if !head.is_empty() => return Err(no_mount(&file)),
            None => {}
        }
    }
    Ok(None)
}

fn no_mount(file: &str) -> Error {
    Error::Absent(format!("no memory controller: {file} lists no cgroup file system that could have it"))
}

fn choose(mountinfo: &[u8]) -> Option<Memcg> {
    let text = String::from_utf8_lossy(mountinfo);
    let lines = text.lines().filter(|line| line.contains(" - cgroup"));
    let mounts: Vec<MountInfo> = lines.filter_map(|line| MountInfo::from_line(line).ok()).collect();
    let mounts = mounts.iter().filter_map(|mount| {
        let options = mount.super_options.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str());
        Some(Mount::new(&mount.root, mount.mount_point.to_str()?, &mount.fs_type, options))
    });
    match hierarchy(mounts) {
        Hierarchy::V1(mount) => Some(Memcg { version: Version::V1, point: mount.point.to_owned() }),
        Hierarchy::V2(mount) => {
            let version = if mount.local_events { Version::V2Local } else { Version::V2 };
            Some(Memcg { version, point: mount.point.to_owned() })
        }
        Hierarchy::None => None,
    }
}

/// By the directories, where there is no list of mounts.
fn by_look(host: &Host) -> Result<Option<Memcg>, Error> {
    let v1 = format!("{USUAL}/memory");
    if host.exists(&v1)? {
        return Ok(Some(Memcg { version: Version::V1, point: v1 }));
    }
    Ok(host.exists(USUAL)?.then(|| Memcg { version: Version::V2, point: USUAL.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n";
    const TMPFS: &str = "26 22 0:24 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n";
    const UNIFIED: &str = "27 26 0:25 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n";
    const MEMORY: &str = "30 26 0:28 / /sys/fs/cgroup/memory rw shared:13 - cgroup cgroup rw,memory\n";
    const CPU: &str = "31 26 0:29 / /sys/fs/cgroup/cpu rw shared:14 - cgroup cgroup rw,cpu,cpuacct\n";
    const V2: &str = "28 22 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

    fn found(files: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        match Memcg::find(&Host::at_root(dir.path()).unwrap()) {
            Ok(found) => format!("{:?} {}", found.version, found.point),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn by_mounts_and_by_look() {
        let local = V2.replace("nsdelegate", "memory_localevents");
        let controllers = ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        let hybrid = [ROOT, TMPFS, UNIFIED, CPU, MEMORY].concat();
        let pods = "90 22 0:70 / /var/lib/kubelet/pods/x/volumes rw - tmpfs tmpfs rw,size=1k\n".repeat(1000);
        let late = [ROOT, TMPFS, UNIFIED, CPU, &pods, MEMORY].concat();
        for (files, want) in [
            (vec![("proc/1/mountinfo", &*[ROOT, V2].concat()), controllers], "V2 /sys/fs/cgroup"),
            (vec![("proc/1/mountinfo", &*local), controllers], "V2Local /sys/fs/cgroup"),
            (vec![("proc/1/mountinfo", &*hybrid)], "V1 /sys/fs/cgroup/memory"),
            (vec![("proc/1/mountinfo", &*late)], "V1 /sys/fs/cgroup/memory"),
            (vec![("proc/1/mountinfo", ""), ("proc/self/mountinfo", &*hybrid)], "V1 /sys/fs/cgroup/memory"),
            (
                vec![("proc/1/mountinfo", &*[ROOT, TMPFS, CPU].concat())],
                "no memory controller: /proc/1/mountinfo lists no cgroup file system that could have it",
            ),
            (
                vec![("proc/1/mountinfo", V2), ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")],
                "no memory controller: /sys/fs/cgroup/cgroup.controllers does not list it (boot with \
                 cgroup_enable=memory)",
            ),
            (
                vec![("proc/1/mountinfo", V2), ("sys/fs/cgroup/cgroup.controllers", "\u{1}\u{2}")],
                "/sys/fs/cgroup/cgroup.controllers is not a list of controllers",
            ),
            (vec![("sys/fs/cgroup/memory/memory.oom_control", "")], "V1 /sys/fs/cgroup/memory"),
            (vec![("sys/fs/cgroup/system.slice/memory.events", "")], "V2 /sys/fs/cgroup"),
            (
                vec![("proc/1/mountinfo", "\u{0}\u{1}garbage - cgroup\n")],
                "no memory controller: /proc/1/mountinfo lists no cgroup file system that could have it",
            ),
            (vec![], "no cgroup file system in /sys/fs/cgroup"),
        ] {
            assert_eq!(found(&files), want);
        }
    }
}
