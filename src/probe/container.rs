//! Whether the node is itself a container: an LXC guest, a kind node.
//!
//! Its kernel, and what counts for the whole kernel, belong to the host around it.

use procfs_core::process::MountInfo;

use super::words::shown;
use crate::host::{Error, Host, SMALL, optional};

/// The inode of the initial pid namespace is part of the kernel's ABI (PROC_PID_INIT_INO).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Whether this process is in the kernel's first pid namespace. An error is a no.
pub fn is_in_first_namespace(host: &Host) -> bool {
    namespace(host, "self").is_ok_and(|own| own.as_deref() == Some(INITIAL_PID_NAMESPACE))
}

/// Whether `/proc` shows every process: it is that of the kernel's first pid namespace, or a tree that tells of none.
pub fn shows_all_processes(host: &Host) -> bool {
    let of = ["1", "self"].map(|process| namespace(host, process));
    let is_first = |found: &Result<Option<String>, Error>| matches!(found, Ok(Some(ns)) if ns == INITIAL_PID_NAMESPACE);
    of.iter().any(is_first) || of.iter().all(|found| matches!(found, Ok(None)))
}

fn namespace(host: &Host, process: &str) -> Result<Option<String>, Error> {
    let target = optional(host.read_link(&format!("/proc/{process}/ns/pid")))?;
    Ok(target.map(|target| target.to_string_lossy().into_owned()))
}

/// Whether `/` is the same mount for this process and for process 1.
pub fn shares_root_with_init(host: &Host) -> Result<bool, Error> {
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
pub fn sign(host: &Host, real: bool, unsure: &mut Option<Error>) -> Option<String> {
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
        return Some(format!("/run/systemd/container: {}", shown(String::from_utf8_lossy(&manager).trim())));
    }
    if host.exists("/run/.containerenv").map_err(&mut sure).unwrap_or(false) {
        return Some("/run/.containerenv".to_owned());
    }
    let environment = optional(host.read("/proc/1/environ", SMALL)).map_err(&mut sure).ok().flatten();
    let environment = environment.unwrap_or_default();
    if let Some(name) = environment.split(|byte| *byte == 0).find(|entry| entry.starts_with(b"container=")) {
        return Some(format!("process 1 has {}", shown(&String::from_utf8_lossy(name))));
    }
    if host.exists("/.dockerenv").map_err(&mut sure).unwrap_or(false) {
        return Some("/.dockerenv".to_owned());
    }
    // Only where "self" is one of the node's processes: through a mounted /proc it is an agent in a pod.
    (real && own.is_some() && shares_root_with_init(host).map_err(&mut sure).unwrap_or(false))
        .then(|| "process 1 is not in the first pid namespace".to_owned())
}
