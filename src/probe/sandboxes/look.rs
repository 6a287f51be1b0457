//! One look: the databases, the processes, the databases again. Only what is in them before and after counts, so that what
//! begins or ends meanwhile is in no class.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use super::live::{Kind, Processes};
use super::sort::{self, Around, Ending};
use super::{Contents, Holder, Life, Observation, ROOT, Sandboxes, Seen};
use crate::containerd::{self, Database, Place, Snapshot, find, status_of};
use crate::history::Past;
use crate::host::{Error, Host, optional, printable};
use crate::layout::KUBELET_ROOTS;
use crate::parse::containerd::{Records, Sandbox as Recorded};
use crate::parse::process::Flock;

/// More pods than a kubelet keeps directories of.
const MOST_PODS: usize = 100_000;
const LARGEST_STATUS: u64 = 1 << 20;
/// Of a node with thousands of pods, and as many mounts in each.
const LARGEST_MOUNTINFO: u64 = 64 << 20;

/// A database while it is looked at.
struct Read<'h> {
    place: Place<'h>,
    snapshot: Snapshot,
}

pub(super) fn observe(probe: &Sandboxes, host: &Host, past: &Past) -> Result<Observation, Error> {
    let begun = host.stopwatch();
    let remembered: Vec<String> = past.notes(ROOT).map(|(root, _)| root.to_owned()).collect();
    let mut seen = Observation::default();
    let mut read: Vec<Read<'_>> = Vec::new();
    let mut others = Vec::new();
    for mut place in find(host, &probe.roots, &remembered)? {
        match open(&mut place) {
            Ok(snapshot) => match foreign(&place, &snapshot) {
                None => read.push(Read { place, snapshot }),
                Some(Error::Absent(what)) => others.push(what),
                Some(error) => seen.troubles.push(error),
            },
            Err(error) => seen.troubles.push(error),
        }
    }
    match (read.is_empty(), seen.troubles.pop()) {
        (true, Some(error)) => return Err(error),
        (true, None) => return Err(Error::Absent(others.join("; "))),
        (false, error) => seen.troubles.extend(error),
    }
    let processes = Processes::look(host, &wanted(&read));
    let endings = match processes.blind {
        Some(_) => BTreeMap::new(),
        None => endings(host, &read, &processes, &mut seen.troubles),
    };
    for one in &mut read {
        if let Err(error) = one.look_again() {
            seen.troubles.push(error);
        }
    }
    let around = Around { endings, ..around(host, &read, &mut seen) };
    let locks = containerd::locks(host);
    for one in read {
        let holder = one.holder(locks.as_deref(), &processes);
        let Read { place, snapshot } = one;
        let path = place.database.as_ref().map(|database| database.path().to_owned()).unwrap_or_default();
        let contents = snapshot.read.map(|records| sort::contents(probe, &records, &processes, &around));
        let Place { root, of, .. } = place;
        seen.databases.push(Seen { root, path, of, holder, tries: snapshot.tries, read: contents });
    }
    seen.blind = processes.blind;
    seen.set_apart_what_is_left();
    // A recording must say the same when it is replayed.
    let watch = host.stopwatch().filter(|_| host.recorded().is_none());
    seen.took = watch.zip(begun).and_then(|(now, begun)| now.checked_sub(begun));
    Ok(seen)
}

fn open(place: &mut Place<'_>) -> Result<Snapshot, Error> {
    place.database.as_mut().map_err(|error| error.clone())?.snapshot()
}

/// Why a database is none of Kubernetes' pods.
fn foreign(place: &Place<'_>, snapshot: &Snapshot) -> Option<Error> {
    let records = snapshot.read.as_ref().ok()?;
    let path = printable(&containerd::path_of(&place.root));
    if records.schema.is_none() {
        return Some(Error::Failed(format!("no database of containerd, since it has no bucket v1: {path}")));
    }
    if records.is_kubernetes || !records.sandboxes.is_empty() {
        return None;
    }
    let has = match records.namespaces.is_empty() {
        true => "it is empty".to_owned(),
        false => format!("it has {}", printable(&records.namespaces.join(", "))),
    };
    Some(Error::Absent(format!("no namespace k8s.io in {path} ({has})")))
}

/// The ids whose processes are looked for.
fn wanted<'r>(read: &'r [Read<'_>]) -> BTreeMap<&'r str, Kind> {
    // io.containerd.runc.v1 and .v2, and the one before them.
    let is_runc = |name: &str| name.contains("runc") || name.ends_with("runtime.v1.linux");
    let kind = |sandbox: &Recorded| {
        let mut names = sandbox.records().filter_map(|record| record.runtime.as_deref());
        if names.all(is_runc) { Kind::Sandbox } else { Kind::Machine }
    };
    let mut wanted = BTreeMap::new();
    for records in read.iter().filter_map(|one| one.snapshot.read.as_ref().ok()) {
        wanted.extend(records.containers.keys().map(|id| (id.as_str(), Kind::Container)));
        wanted.extend(records.sandboxes.iter().map(|(id, sandbox)| (id.as_str(), kind(sandbox))));
    }
    wanted
}

impl Read<'_> {
    fn look_again(&mut self) -> Result<(), Error> {
        let database: &mut Database<'_> = self.place.database.as_mut().map_err(|error| error.clone())?;
        if database.is_unchanged_since(&self.snapshot)? {
            return Ok(());
        }
        let again = database.snapshot()?;
        let tries = self.snapshot.tries.max(again.tries);
        let read = match (&self.snapshot.read, again.read) {
            // What was removed meanwhile is gone, and what is new may have begun after the processes were looked at.
            (Ok(before), Ok(mut after)) => {
                after.sandboxes.retain(|id, _| before.sandboxes.contains_key(id));
                after.containers.retain(|id, _| before.containers.contains_key(id));
                Ok(after)
            }
            (_, after) => after,
        };
        self.snapshot = Snapshot { read, tries, ..again };
        Ok(())
    }

    fn holder(&self, locks: Option<&[Flock]>, processes: &Processes) -> Holder {
        let (Some(locks), Ok(database)) = (locks, &self.place.database) else { return Holder::Unknown };
        match database.holder(locks) {
            Some(lock) if lock.process > 0 => Holder::Process(lock.process),
            // Of a process that this pid namespace does not show.
            Some(_) => Holder::Unknown,
            // stat(2) and the kernel's list have two numbers for one device on btrfs.
            None if locks.iter().any(|lock| lock.inode == database.identity().1) => Holder::Unknown,
            None if processes.blind.is_some() || database.identity().1 == 0 => Holder::Unknown,
            None => Holder::Nobody,
        }
    }
}

/// What is beside the databases: the kubelet's directories of pods, and the network namespaces that are mounted.
fn around(host: &Host, read: &[Read<'_>], seen: &mut Observation) -> Around {
    let records = || read.iter().filter_map(|one| one.snapshot.read.as_ref().ok());
    let mut around = Around::default();
    for root in KUBELET_ROOTS {
        let path = format!("{root}/pods");
        match optional(host.list(&path, MOST_PODS)) {
            Ok(Some(names)) => {
                let names = names.into_iter().filter_map(|name| name.into_string().ok());
                around.pods.get_or_insert_default().extend(names);
                let changed = host.stat(&path).ok().and_then(|stat| stat.modified);
                let quiet = changed.map(|changed| host.now().since_wall(changed));
                // Two paths may be one directory.
                seen.quiet = match (seen.quiet, quiet) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
            Ok(None) => {}
            Err(error) => seen.troubles.push(error),
        }
    }
    // A directory that knows none of them is not this kubelet's.
    let uids: HashSet<&str> = records().flat_map(|records| records.sandboxes.values().filter_map(uid)).collect();
    around.pods = around.pods.filter(|pods| pods.iter().any(|uid| uids.contains(uid.as_str())));
    let is_mounted =
        |records: &Records| records.sandboxes.values().any(|one| one.metadata().is_some_and(|of| of.netns().is_some()));
    if records().any(is_mounted)
        && let Ok(mounts) = host.read("/proc/1/mountinfo", LARGEST_MOUNTINFO)
    {
        around.netns = netns(&mounts);
    }
    around
}

fn uid(sandbox: &Recorded) -> Option<&str> {
    Some(sandbox.metadata()?.pod()?.uid.as_str())
}

/// The last parts of the paths where network namespaces are mounted: links on the way make more than one path of each.
fn netns(mountinfo: &[u8]) -> HashSet<String> {
    let text = String::from_utf8_lossy(mountinfo);
    let points = text.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        kind.starts_with("nsfs ").then(|| point.rsplit('/').next().unwrap_or(point).to_owned())
    });
    points.collect()
}

impl Observation {
    /// Where containerd has another database open, one that nobody has open and in which nothing lives is of before a move.
    fn set_apart_what_is_left(&mut self) {
        let is_open = |seen: &Seen| matches!(seen.holder, Holder::Process(_));
        if self.blind.is_some() || !self.databases.iter().any(is_open) {
            return;
        }
        let is_left = |seen: &Seen| {
            let lives =
                |contents: &Contents| contents.sandboxes.iter().any(|one| matches!(one.life, Life::Live { .. }));
            seen.holder == Holder::Nobody && !seen.read.as_ref().is_ok_and(lives)
        };
        let (left, kept): (Vec<Seen>, Vec<Seen>) = self.databases.drain(..).partition(is_left);
        self.left = left.into_iter().map(|seen| seen.path).collect();
        self.databases = kept;
    }
}

/// A container's state as the CRI plugin keeps it (`internal/cri/store/container/status.go`). Times are nanoseconds since
/// 1970, 0 for what was not yet.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Status {
    started_at: i64,
    finished_at: i64,
    exit_code: i32,
    reason: String,
}

impl Status {
    /// Whether something took it away while it ran: nobody saw its end.
    fn is_unclean(&self) -> bool {
        (self.started_at != 0 && self.finished_at == 0) || (self.exit_code == 255 && self.reason == "Unknown")
    }
}

/// How the containers of sandboxes ended that have no process. Read before the records are read again: a container loses its
/// record first.
fn endings(
    host: &Host,
    read: &[Read<'_>],
    processes: &Processes,
    troubles: &mut Vec<Error>,
) -> BTreeMap<String, Ending> {
    let mut endings = BTreeMap::new();
    for one in read {
        let Ok(records) = &one.snapshot.read else { continue };
        for (id, record) in &records.containers {
            let Ok(metadata) = &record.metadata else { continue };
            if processes.live.contains(&metadata.sandbox) || !records.sandboxes.contains_key(&metadata.sandbox) {
                continue;
            }
            if processes.live.contains(id) {
                endings.insert(id.clone(), Ending::None);
                continue;
            }
            let ending = match optional(host.read(&status_of(&one.place.root, id), LARGEST_STATUS)) {
                Ok(Some(bytes)) => match serde_json::from_slice::<Status>(&bytes) {
                    Ok(status) if status.is_unclean() => Ending::Unclean,
                    Ok(_) => Ending::Clean,
                    Err(_) => Ending::Lost,
                },
                Ok(None) => Ending::Lost,
                // One sentence for all of them.
                Err(error) => {
                    troubles.push(error);
                    return endings;
                }
            };
            endings.insert(id.clone(), ending);
        }
    }
    endings
}
