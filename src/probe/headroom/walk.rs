//! The walk over the cgroups: which of them have a limit, and how much each uses.

use std::collections::BTreeSet;

use crate::host::{Dir, Error, Host};
use crate::memcg::{Memcg, Version};
use crate::parse::cgroup::{self, Place, Qos, Uid};

/// No file that is read here is larger, memory.stat the largest.
pub(super) const LARGEST: u64 = 64 << 10;
/// More cgroups than a node has; more is a hostile tree.
const MOST: usize = 100_000;
/// A node in a container in a node is some ten deep.
const DEEPEST: usize = 32;

/// Whose limit it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// All pods together: node allocatable.
    Kubepods,
    Qos(Qos),
    Pod(Uid),
    Container(Uid, String),
}

impl Kind {
    /// `Err`: whether it may hold some all the same.
    fn of(path: &str) -> Result<Kind, bool> {
        match Place::of(path) {
            Place::Kubepods { .. } => Ok(Kind::Kubepods),
            Place::Qos(qos) => Ok(Kind::Qos(qos)),
            Place::Pod(uid) => Ok(Kind::Pod(uid)),
            Place::Container(container) => Ok(Kind::Container(container.pod, container.id.to_owned())),
            Place::Root | Place::Other => Err(true),
            Place::InPod(_) | Place::InContainer(_) => Err(false),
        }
    }

    pub(super) fn is_container(&self) -> bool {
        matches!(self, Kind::Container(..))
    }

    pub(super) fn container(&self) -> Option<(Uid, &str)> {
        match self {
            Kind::Container(uid, id) => Some((*uid, id)),
            _ => None,
        }
    }

    pub(super) fn pod(&self) -> Option<Uid> {
        match self {
            Kind::Pod(uid) | Kind::Container(uid, _) => Some(*uid),
            Kind::Kubepods | Kind::Qos(_) => None,
        }
    }
}

/// A cgroup with a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limited {
    /// Below the mount point, with a slash before it.
    pub path: String,
    pub kind: Kind,
    /// Bytes.
    pub limit: u64,
    /// Bytes, page cache included.
    pub usage: u64,
}

/// Cgroups that could not be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unread {
    pub count: usize,
    pub first: Option<Error>,
}

impl Unread {
    /// What is gone meanwhile is no fault. Returns whether it is one.
    pub(super) fn add(&mut self, error: Error) -> bool {
        let is_fault = !error.is_absent();
        if is_fault {
            self.count += 1;
            self.first.get_or_insert(error);
        }
        is_fault
    }
}

/// What the walk found.
#[derive(Debug)]
pub(super) struct Walk {
    version: Version,
    pub limited: Vec<Limited>,
    /// All pods, those without a limit too.
    pub pods: BTreeSet<Uid>,
    pub unread: Unread,
    has_kubepods: bool,
    entered: usize,
}

impl Walk {
    /// Walks. Absent where there are no pods' cgroups at all.
    pub(super) fn over(host: &Host, memcg: &Memcg) -> Result<Walk, Error> {
        let (limited, pods, unread) = (Vec::new(), BTreeSet::new(), Unread::default());
        let mut walk = Walk { version: memcg.version, limited, pods, unread, has_kubepods: false, entered: 0 };
        walk.enter(&host.dir(&memcg.point)?, "", false, 0)?;
        if !walk.has_kubepods && walk.pods.is_empty() {
            let absent = || Error::Absent(format!("no kubepods cgroup in {}", memcg.point));
            return Err(walk.unread.first.unwrap_or_else(absent));
        }
        Ok(walk)
    }

    fn enter(&mut self, dir: &Dir<'_>, path: &str, in_pods: bool, depth: usize) -> Result<(), Error> {
        self.entered += 1;
        if depth > DEEPEST || self.entered > MOST {
            return Err(Error::Failed(format!("{}: too many cgroups, or too deep", dir.path())));
        }
        for name in dir.dirs(MOST)? {
            let child = format!("{path}/{name}");
            let (in_pods, is_told) = match Kind::of(&child) {
                Ok(kind) => {
                    let is_container = kind.is_container();
                    self.has_kubepods |= kind == Kind::Kubepods;
                    self.pods.extend(kind.pod());
                    let is_told = self.weigh(dir, &name, &child, kind).is_err_and(|error| self.unread.add(error));
                    if is_container {
                        continue;
                    }
                    (true, is_told)
                }
                Err(may_hold) if may_hold && !in_pods => match dir.node(&name) {
                    Ok(node) if node.dirs == Some(0) => continue,
                    Ok(_) => (false, false),
                    Err(error) => {
                        self.unread.add(error);
                        continue;
                    }
                },
                Err(_) => continue,
            };
            let entered = dir.dir(&name).and_then(|below| self.enter(&below, &child, in_pods, depth + 1));
            // One cgroup is told once.
            if let (Err(error), false) = (entered, is_told) {
                self.unread.add(error);
            }
        }
        Ok(())
    }

    /// Takes a cgroup in when it has a limit.
    fn weigh(&mut self, dir: &Dir<'_>, name: &str, path: &str, kind: Kind) -> Result<(), Error> {
        let (limit, usage) = match self.version {
            Version::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            Version::V2 | Version::V2Local => ("memory.max", "memory.current"),
        };
        let file = format!("{name}/{limit}");
        let limit = match parsed(dir, &file, cgroup::limit) {
            // It is there as long as the node is up: what is missing is the controller.
            Err(Error::Absent(_)) if kind == Kind::Kubepods && dir.node(name).is_ok() => {
                return Err(Error::Failed(format!("no {}/{file}: the memory controller is off there", dir.path())));
            }
            limit => limit?,
        };
        if let Some(limit) = limit.bytes() {
            let usage = parsed(dir, &format!("{name}/{usage}"), cgroup::number)?;
            self.limited.push(Limited { path: path.to_owned(), kind, limit, usage });
        }
        Ok(())
    }
}

/// Reads a file and what is in it.
pub(super) fn parsed<T>(
    dir: &Dir<'_>,
    file: &str,
    parse: impl Fn(&[u8]) -> Result<T, cgroup::Error>,
) -> Result<T, Error> {
    let bytes = dir.read(file, LARGEST)?;
    parse(&bytes).map_err(|error| Error::Failed(format!("{}/{file}: {error}", dir.path())))
}
