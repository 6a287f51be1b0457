//! Whose `/run` this is, and whose kernel.
//!
//! An agent in a container sees the container's `/run`, which never holds a flag: an everlasting OK. A node that is
//! itself a container (LXC, kind) runs a kernel that is none of those installed in it.

use crate::host::{Error, Host, optional};
use crate::probe::container;

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
        let container = container::sign(host, real, &mut unsure);
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
    has_init(host) || (container::is_in_first_namespace(host) && container::shares_root_with_init(host) == Ok(true))
}
