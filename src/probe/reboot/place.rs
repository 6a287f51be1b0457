//! Whose `/run` this is, and whose kernel.
//!
//! An agent in a container sees the container's `/run`, which never holds a flag: an everlasting OK. A node that is
//! itself a container (LXC, kind) runs a kernel that is none of those installed in it.

use procfs_core::process::MountInfo;

use crate::host::{Error, Host, SMALL, optional};

/// The inode of the initial pid namespace is part of the kernel's ABI (PROC_PID_INIT_INO).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Where a look takes place.
#[derive(Debug)]
pub(super) struct Place {
    /// `/proc` is a procfs: this is a node or the record of one, and no fixture of a few files.
    pub real: bool,
    pub run: Run,
    /// What shows that the kernel belongs to a host around this node.
    pub container: Option<String>,
    /// What may hide where this is.
    pub unread: Option<Error>,
}

/// What `/run` is.
#[derive(Debug)]
pub(super) enum Run {
    /// The node's; `volatile` when a boot is known to have emptied it.
    Own {
        volatile: bool,
    },
    /// There is none.
    Missing,
    /// Somebody else's; holds the file system that it lies on.
    Foreign(String),
    Unread(Error),
}

impl Run {
    /// Whether a flag may be there and was not seen.
    pub(super) fn hides_flags(&self) -> bool {
        matches!(self, Run::Foreign(_) | Run::Unread(_))
    }
}

impl Place {
    pub(super) fn look(host: &Host) -> Place {
        let (real, unread) = match optional(host.stat("/proc")) {
            Ok(stat) => (stat.is_some_and(|stat| stat.fstype.as_deref() == Some("proc")), None),
            // A fixture's would not fail.
            Err(error) => (true, Some(error)),
        };
        let mut unsure = None;
        let container = container(host, real, &mut unsure);
        let run = match host.stat("/run") {
            Err(Error::Absent(_)) => Run::Missing,
            Err(error) => Run::Unread(error),
            Ok(stat) => match stat.fstype.as_deref() {
                // An agent's container may have a tmpfs there too; one that is a node has an init system.
                Some(memory @ ("tmpfs" | "ramfs")) if real && container.is_some() && !has_init(host) => {
                    Run::Foreign(format!("a container's {memory}"))
                }
                Some("tmpfs" | "ramfs") => match unsure.filter(|_| real && !has_init(host)) {
                    Some(error) => {
                        Run::Unread(Error::Failed(format!("whether /run is the node's is not known: {error}")))
                    }
                    None => Run::Own { volatile: real },
                },
                Some(other) if real && !is_ours(host) => Run::Foreign(other.to_owned()),
                _ => Run::Own { volatile: false },
            },
        };
        Place { real, run, container, unread }
    }
}

/// Whether an init system keeps its state in `/run`. An error is a no, which makes `/run` nobody's.
fn has_init(host: &Host) -> bool {
    ["/run/systemd/system", "/run/openrc"].iter().any(|path| host.exists(path) == Ok(true))
}

/// Whether a `/run` on a disk is shown to be the node's all the same: an init system keeps its state there, or this process sees the
/// root file system of the machine's first process.
fn is_ours(host: &Host) -> bool {
    let initial = || namespace(host, "self").is_ok_and(|own| own.as_deref() == Some(INITIAL_PID_NAMESPACE));
    has_init(host) || (initial() && shares_root_with_init(host) == Ok(true))
}

fn namespace(host: &Host, process: &str) -> Result<Option<String>, Error> {
    let target = optional(host.read_link(&format!("/proc/{process}/ns/pid")))?;
    Ok(target.map(|target| target.to_string_lossy().into_owned()))
}

/// Whether `/` is the same mount for this process and for process 1.
fn shares_root_with_init(host: &Host) -> Result<bool, Error> {
    let roots = |process: &str| -> Result<Vec<i32>, Error> {
        // The root is among the first mounts; a node with hundreds of pods has thousands.
        let bytes = optional(host.read_head(&format!("/proc/{process}/mountinfo"), SMALL))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let mounts = text.lines().filter_map(|line| MountInfo::from_line(line).ok());
        Ok(mounts.filter(|mount| mount.mount_point.as_os_str() == "/").map(|mount| mount.mnt_id).collect())
    };
    let ours = roots("self")?;
    Ok(!ours.is_empty() && ours == roots("1")?)
}

/// The sign that a host's kernel runs this node. `unsure` takes why there may be one all the same: most of `/proc/1` is
/// for root alone. That hides no kernel, since without a sign those installed here are compared.
fn container(host: &Host, real: bool, unsure: &mut Option<Error>) -> Option<String> {
    let mut sure = |error| {
        unsure.get_or_insert(error);
    };
    let own = namespace(host, "self").map_err(&mut sure).ok().flatten();
    let first = namespace(host, "1").map_err(&mut sure).ok().flatten();
    // Nothing outweighs this: /.dockerenv is also in virtual machines that were made from a container's image.
    if [&own, &first].into_iter().any(|ns| ns.as_deref() == Some(INITIAL_PID_NAMESPACE)) {
        *unsure = None;
        return None;
    }
    let manager = optional(host.read("/run/systemd/container", 256)).map_err(&mut sure).ok().flatten();
    if let Some(manager) = manager {
        return Some(format!("/run/systemd/container: {}", super::shown(String::from_utf8_lossy(&manager).trim())));
    }
    if host.exists("/run/.containerenv").map_err(&mut sure).unwrap_or(false) {
        return Some("/run/.containerenv".to_owned());
    }
    let environment = optional(host.read("/proc/1/environ", SMALL)).map_err(&mut sure).ok().flatten();
    let environment = environment.unwrap_or_default();
    if let Some(name) = environment.split(|byte| *byte == 0).find(|entry| entry.starts_with(b"container=")) {
        return Some(format!("process 1 has {}", super::shown(&String::from_utf8_lossy(name))));
    }
    if host.exists("/.dockerenv").map_err(&mut sure).unwrap_or(false) {
        return Some("/.dockerenv".to_owned());
    }
    // Only where "self" is one of the node's processes: through a mounted /proc it is an agent in a pod.
    (real && own.is_some() && shares_root_with_init(host).map_err(&mut sure).unwrap_or(false))
        .then(|| "process 1 is not in the first pid namespace".to_owned())
}
