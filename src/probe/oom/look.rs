//! One look at the memory cgroups: what they count since the boot.

use std::collections::BTreeMap;

use crate::host::{Dir, Error, Host, SMALL, optional};
use crate::memcg::{Memcg, Version};
use crate::parse::cgroup::{self, Events, Limit, Place};

/// No kernel file that is read here is larger: memory.events has six lines.
const SMALL_FILE: u64 = 4096;
/// More cgroups side by side than a node has; more is a hostile tree.
const MOST: usize = 100_000;
/// Containers in containers in a pod are some ten deep.
const DEEPEST: usize = 32;
/// A kill while the cgroups are read would look like one of none of them: then they are read again, so often.
const TRIES: usize = 3;

/// A memory cgroup that somebody was killed in, or whose limit may have made it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroup {
    /// Below the mount point, with a slash before it; the root is `/`.
    pub path: String,
    /// Another directory of the same name is another cgroup, which began at 0.
    pub inode: u64,
    /// Processes killed since it was made; in it and all below, or in it alone ([`Memcg::is_hierarchical`]).
    pub kills: u64,
    /// Groups killed; `None` before Linux 5.17, and on v1.
    pub groups: Option<u64>,
    /// Times a limit was hit and nothing could be reclaimed: its own, and in a hierarchy those below. Not on v1.
    pub ooms: Option<u64>,
    /// Times its own limit was hit in that way; on v1, times it was hit at all.
    pub own_ooms: Option<u64>,
    /// Its own limit.
    pub limit: Option<Limit>,
}

/// What the cgroups say.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    /// Those that count something.
    pub all: Vec<Cgroup>,
    /// Whether there are pods' cgroups at all.
    pub kubepods: bool,
    /// Whether they lie in a cgroup namespace: the root is a cgroup of a host, and counts as others do.
    pub is_namespace: bool,
    /// How many could not be read, and why the first of them.
    pub unread: Option<(usize, Error)>,
    /// How many were read.
    read: usize,
}

impl Cgroups {
    /// Reads them, and after them the number for the whole node: the kernel counts that first, so that what it has more
    /// than they have is never less than what they lack.
    pub(super) fn look(host: &Host, memcg: &Memcg) -> Result<(Cgroups, Result<u64, Error>), Error> {
        let mut before = total(host, memcg);
        let mut tries = 1;
        loop {
            let mut found = Cgroups::default();
            let root = host.dir(&memcg.point)?;
            if memcg.is_hierarchical() {
                found.descend(&root, "", 0);
                if !found.kubepods {
                    found.kubepods = has_kubepods(&root, "", 0);
                }
            } else {
                found.read_own(&root, "", ".", memcg.version, None);
                found.read_all(&root, "", memcg.version, 0);
                found.read_hits(&root, memcg.version);
            }
            let after = total(host, memcg);
            if after == before || tries == TRIES {
                found.is_namespace = memcg.is_hierarchical() && host.exists(&root_events(memcg)) == Ok(true);
                return Ok((found, after));
            }
            (before, tries) = (after, tries + 1);
        }
    }

    /// v2: what a cgroup counts holds for all below it, hence only those with kills are entered.
    fn descend(&mut self, dir: &Dir<'_>, path: &str, depth: usize) {
        // What is below counts here: nothing is missed.
        if depth > DEEPEST {
            return;
        }
        let Some(names) = self.names(dir, depth) else { return };
        for name in names {
            let child = format!("{path}/{name}");
            let place = Place::of(&child);
            self.kubepods |= matches!(place, Place::Kubepods { .. });
            let first = self.events(dir, &format!("{name}/memory.events"));
            if first.is_some_and(|first| first.oom_kill == Some(0)) {
                continue;
            }
            let Some(node) = self.keep(dir.node(&name)) else { continue };
            if node.dirs != Some(0)
                && let Some(below) = self.keep(dir.dir(&name))
            {
                self.descend(&below, &child, depth + 1);
            }
            // After those below it: then it never has less than they have.
            let Some(events) = self.events(dir, &format!("{name}/memory.events")) else {
                self.check_controller(dir, &name, place);
                continue;
            };
            let Some(kills) = events.oom_kill else {
                self.miss(Error::Failed(format!("{}/{name}/memory.events has no oom_kill", dir.path())));
                continue;
            };
            // A container's own hits and those below it are one class.
            let is_container = place.container().is_some();
            let own = if is_container { None } else { self.events(dir, &format!("{name}/memory.events.local")) };
            let limit = self.limit(dir, &format!("{name}/memory.max"));
            self.all.push(Cgroup {
                path: child,
                inode: node.inode,
                kills,
                groups: events.oom_group_kill,
                ooms: events.oom,
                own_ooms: own.and_then(|own| own.oom),
                limit,
            });
        }
    }

    /// v1, and v2 with `memory_localevents`: each counts for itself alone, hence all are read.
    fn read_all(&mut self, dir: &Dir<'_>, path: &str, version: Version, depth: usize) {
        let Some(names) = self.names(dir, depth) else { return };
        // Outside the pods the total of the node has them.
        if dir.odd_names() > 0 && Place::of(path).pod().is_some() {
            self.miss(Error::Failed(format!("{}: a cgroup in it has a name that is not UTF-8", dir.path())));
        }
        for name in names {
            let child = format!("{path}/{name}");
            self.kubepods |= matches!(Place::of(&child), Place::Kubepods { .. });
            let Some(node) = self.keep(dir.node(&name)) else { continue };
            self.read_own(dir, &child, &name, version, Some(node.inode));
            if node.dirs != Some(0)
                && let Some(below) = self.keep(dir.dir(&name))
            {
                self.read_all(&below, &child, version, depth + 1);
            }
        }
    }

    fn read_own(&mut self, dir: &Dir<'_>, path: &str, name: &str, version: Version, inode: Option<u64>) {
        let file = |file: &str| if name == "." { file.to_owned() } else { format!("{name}/{file}") };
        let (kills, groups, ooms) = if version == Version::V1 {
            let file = file("memory.oom_control");
            let Some(control) = self.parsed(dir, &file, cgroup::oom_control) else { return };
            (control.oom_kill, None, None)
        } else {
            let Some(events) = self.events(dir, &file("memory.events")) else {
                return self.check_controller(dir, name, Place::of(path));
            };
            (events.oom_kill, events.oom_group_kill, events.oom)
        };
        let Some(kills) = kills else {
            let name = file(if version == Version::V1 { "memory.oom_control" } else { "memory.events" });
            return self.miss(Error::Failed(format!("{}/{name} has no oom_kill", dir.path())));
        };
        // The limit of all pods is of interest before it ever killed: else the hits of long ago would count as new.
        let is_shared = matches!(Place::of(path), Place::Kubepods { .. } | Place::Qos(_));
        if kills == 0 && !is_shared {
            return;
        }
        let limit = self.limit(dir, &file(limit_file(version)));
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        self.all.push(Cgroup { path, inode: inode.unwrap_or(1), kills, groups, ooms, own_ooms: None, limit });
    }

    /// How often the limits were hit of those that have kills, and of all above them.
    fn read_hits(&mut self, root: &Dir<'_>, version: Version) {
        let kills = self.all.iter().map(|cgroup| cgroup.kills).fold(0, u64::saturating_add);
        let mut wanted: BTreeMap<String, Option<usize>> = BTreeMap::new();
        for (at, cgroup) in self.all.iter().enumerate() {
            wanted.insert(cgroup.path.clone(), Some(at));
            for above in ancestors(&cgroup.path).filter(|_| cgroup.kills > 0) {
                wanted.entry(above.to_owned()).or_insert(None);
            }
        }
        for (path, at) in wanted.into_iter().filter(|(path, _)| path != "/") {
            let Some((parent, name)) = path.rsplit_once('/') else { continue };
            let dir = if parent.is_empty() { None } else { self.keep(open(root, parent)) };
            let dir = match &dir {
                Some(dir) => dir,
                None if parent.is_empty() => root,
                None => continue,
            };
            let faults = self.faults();
            let hits = if version == Version::V1 {
                self.parsed(dir, &format!("{name}/memory.failcnt"), cgroup::number)
            } else {
                self.events(dir, &format!("{name}/memory.events")).and_then(|events| events.oom)
            };
            // Not known is not "nobody's limit", which would blame the node.
            let hits = hits.or((self.faults() > faults).then_some(kills));
            match at {
                Some(at) => self.all[at].own_ooms = hits.or(Some(self.all[at].kills)),
                None => {
                    let Some(node) = self.keep(dir.node(name)) else { continue };
                    let (groups, ooms) = (None, None);
                    let inode = node.inode;
                    let limit = self.limit(dir, &format!("{name}/{}", limit_file(version)));
                    self.all.push(Cgroup { path, inode, kills: 0, groups, ooms, own_ooms: hits, limit });
                }
            }
        }
    }

    fn names(&mut self, dir: &Dir<'_>, depth: usize) -> Option<Vec<String>> {
        let fault = match (depth > DEEPEST, self.read > MOST) {
            (true, _) => format!("cgroups more than {DEEPEST} deep are not looked at"),
            (_, true) => format!("more than {MOST} files of cgroups"),
            _ => return self.keep(dir.dirs(MOST)),
        };
        self.miss(Error::Failed(format!("{}: {fault}", dir.path())));
        None
    }

    /// v2: pods without the controller have no files to count by, and would look as if nobody was ever killed.
    fn check_controller(&mut self, dir: &Dir<'_>, name: &str, place: Place<'_>) {
        let is_there = matches!(place, Place::Kubepods { .. }) && dir.node(name).is_ok();
        if is_there && self.unread.is_none() {
            self.miss(Error::Failed(format!("{}/{name} has no memory.events: no memory controller", dir.path())));
        }
    }

    fn events(&mut self, dir: &Dir<'_>, file: &str) -> Option<Events> {
        self.parsed(dir, file, cgroup::events)
    }

    fn limit(&mut self, dir: &Dir<'_>, file: &str) -> Option<Limit> {
        self.parsed(dir, file, cgroup::limit)
    }

    fn parsed<T>(&mut self, dir: &Dir<'_>, file: &str, parse: impl Fn(&[u8]) -> Result<T, cgroup::Error>) -> Option<T> {
        self.read += 1;
        let bytes = self.keep(dir.read(file, SMALL_FILE))?;
        let parsed = parse(&bytes).map_err(|error| Error::Failed(format!("{}/{file}: {error}", dir.path())));
        self.keep(parsed)
    }

    /// What is gone meanwhile is no fault: what it counted shows in what its parent has more.
    fn keep<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        optional(result).unwrap_or_else(|error| {
            self.miss(error);
            None
        })
    }

    fn faults(&self) -> usize {
        self.unread.as_ref().map_or(0, |(count, _)| *count)
    }

    fn miss(&mut self, error: Error) {
        let (count, _) = self.unread.get_or_insert((0, error));
        *count += 1;
    }
}

fn limit_file(version: Version) -> &'static str {
    if version == Version::V1 { "memory.limit_in_bytes" } else { "memory.max" }
}

/// The paths above a path, without the root.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
        .skip(1)
        .filter(|path| !path.is_empty())
}

fn open<'a>(root: &Dir<'a>, path: &str) -> Result<Dir<'a>, Error> {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let first = root.dir(names.next().unwrap_or_default())?;
    names.try_fold(first, |dir, name| dir.dir(name))
}

/// Whether pods' cgroups are anywhere near the root; the kubelet's `--cgroup-root` may put them somewhat below.
fn has_kubepods(dir: &Dir<'_>, path: &str, depth: usize) -> bool {
    const DEEP: usize = 3;
    let names = dir.dirs(MOST).unwrap_or_default();
    let is_kubepods = |name: &String| matches!(Place::of(&format!("{path}/{name}")), Place::Kubepods { .. });
    if names.iter().any(is_kubepods) {
        return true;
    }
    let elsewhere = |name: &&String| !matches!(name.as_str(), "system.slice" | "user.slice" | "init.scope");
    depth < DEEP
        && names.iter().filter(elsewhere).any(|name| {
            let below = format!("{path}/{name}");
            dir.dir(name).is_ok_and(|dir| has_kubepods(&dir, &below, depth + 1))
        })
}

fn root_events(memcg: &Memcg) -> String {
    format!("{}/memory.events", memcg.point)
}

/// How many processes the OOM killer has killed on this node. A container that is a node has the root of its own cgroup
/// namespace to count by; /proc/vmstat counts for the whole kernel.
fn total(host: &Host, memcg: &Memcg) -> Result<u64, Error> {
    if memcg.is_hierarchical() {
        let file = root_events(memcg);
        if let Some(bytes) = optional(host.read(&file, SMALL_FILE))? {
            let events = cgroup::events(&bytes).map_err(|error| Error::Failed(format!("{file}: {error}")))?;
            return events.oom_kill.ok_or_else(|| Error::Failed(format!("{file} has no oom_kill")));
        }
    }
    vmstat(host)
}

/// `oom_kill` of /proc/vmstat.
pub(super) fn vmstat(host: &Host) -> Result<u64, Error> {
    const FILE: &str = "/proc/vmstat";
    let bytes = host.read(FILE, SMALL)?;
    let kills = cgroup::vmstat_oom_kills(&bytes).map_err(|error| Error::Failed(format!("{FILE}: {error}")))?;
    kills.ok_or_else(|| Error::Failed(format!("{FILE} has no oom_kill: Linux 4.13 and later have it")))
}
