//! One look: the databases, the processes, the databases again. Only what is in them before and after counts, so that what
//! begins or ends meanwhile is in no class.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use super::live::{Processes, Wanted};
use super::sort::{self, Around, Ending};
use super::{Contents, Holder, Life, Observation, ROOT, Sandboxes, Seen};
use crate::containerd::{self, Database, Place, Snapshot, find, status_of};
use crate::history::Past;
use crate::host::{Error, Host, optional, printable};
use crate::layout::KUBELET_ROOTS;
use crate::parse::cgroup::Uid;
use crate::parse::containerd::{Id, Records, Sandbox as Recorded};
use crate::parse::process::Flock;
use crate::pods::Names;

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
    // Before the processes: a pod that stops ends first and loses its network namespace then.
    let netns = netns(host, &read);
    let processes = Processes::look(host, &Wanted(readable(&read).collect()));
    let endings = match processes.blind {
        Some(_) => BTreeMap::new(),
        None => endings(host, &read, &processes, &mut seen.troubles),
    };
    for one in &mut read {
        if let Err(error) = one.look_again() {
            seen.troubles.push(error);
        }
    }
    let pods = pods(host, &read, &processes, &mut seen);
    let around = Around { endings, netns, pods };
    seen.unrecorded = unrecorded(probe, host, &read, &processes, seen.troubles.is_empty());
    let locks = containerd::locks(host);
    for one in read {
        let holder = one.holder(locks.as_deref(), &processes);
        let Read { place, snapshot } = one;
        let path = place.database.as_ref().map(|database| database.path().to_owned()).unwrap_or_default();
        let contents = snapshot.read.map(|records| sort::contents(probe, records, &processes, &around));
        let Place { root, of, .. } = place;
        seen.databases.push(Seen { root, path, of, holder, tries: snapshot.tries, read: contents });
    }
    seen.blind = processes.blind;
    seen.set_apart_what_is_left(processes.crio);
    if seen.databases.is_empty() {
        let left: Vec<String> = seen.left.iter().map(|path| printable(path)).collect();
        return Err(Error::Absent(format!(
            "CRI-O runs, and nobody has the database of containerd open ({})",
            left.join(", ")
        )));
    }
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

/// What is on record in the databases that are not damaged.
fn readable<'r>(read: &'r [Read<'_>]) -> impl Iterator<Item = &'r Records> {
    read.iter().filter_map(|one| one.snapshot.read.as_ref().ok())
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

/// The containers that run in pods and have no record, neither before nor after: containerd knows nothing of them. Only where
/// every database was found and read, and none holds those of Docker, which may be the kubelet's runtime.
fn unrecorded(
    probe: &Sandboxes,
    host: &Host,
    read: &[Read<'_>],
    processes: &Processes,
    is_whole: bool,
) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    for one in read {
        all.push(
            one.snapshot.read.as_ref().ok().filter(|records| records.namespaces.iter().all(|name| name != "moby"))?,
        );
    }
    if !is_whole || !probe.roots.is_empty() || processes.blind.is_some() {
        return None;
    }
    let is_known =
        |id: &Id| all.iter().any(|records| records.sandboxes.contains_key(id) || records.containers.contains_key(id));
    let strays = processes.strays.iter().filter(|(id, _)| !is_known(&Id::from(id.as_str())));
    let strays: Vec<(&String, &Uid)> = strays.collect();
    let wanted: BTreeMap<Uid, Vec<String>> = strays.iter().map(|(_, uid)| (**uid, Vec::new())).collect();
    let names = if wanted.is_empty() { Names::default() } else { Names::look(host, &wanted) };
    let name = |uid: &Uid| names.pod(*uid).map_or_else(|| format!("pod {uid}"), ToString::to_string);
    Some(strays.into_iter().map(|(id, uid)| (id.clone(), name(uid))).collect())
}

/// The uids of the pods that the kubelet has directories of. `None` where they can't be told: a directory that does not know
/// the pods that live is not this kubelet's.
fn pods(host: &Host, read: &[Read<'_>], processes: &Processes, seen: &mut Observation) -> Option<HashSet<String>> {
    let mut pods: Option<HashSet<String>> = None;
    for root in KUBELET_ROOTS {
        let path = format!("{root}/pods");
        match optional(host.list(&path, MOST_PODS)) {
            Ok(Some(names)) => {
                let names = names.into_iter().filter_map(|name| name.into_string().ok());
                pods.get_or_insert_default().extend(names);
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
    let live = readable(read).flat_map(|records| &records.sandboxes).filter(|(id, _)| processes.live.contains(*id));
    let mut live = live.filter_map(|(_, sandbox)| uid(sandbox)).peekable();
    live.peek()?;
    pods.filter(|pods| live.all(|uid| pods.contains(uid)))
}

fn uid(sandbox: &Recorded) -> Option<&str> {
    Some(sandbox.metadata()?.pod()?.uid)
}

/// What is known of the network namespaces that sandboxes had at the first look: by their ids, whether it is mounted.
fn netns(host: &Host, read: &[Read<'_>]) -> BTreeMap<Id, bool> {
    let all = readable(read).flat_map(|records| &records.sandboxes);
    let mut all =
        all.filter_map(|(id, sandbox)| Some((id, sandbox.metadata()?.netns()?.rsplit('/').next()?))).peekable();
    if all.peek().is_none() {
        return BTreeMap::new();
    }
    // Links on the way make more than one path of each: their last parts are compared.
    let mounts = host.read("/proc/1/mountinfo", LARGEST_MOUNTINFO).unwrap_or_default();
    let text = String::from_utf8_lossy(&mounts);
    let points = text.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        kind.starts_with("nsfs ").then(|| point.rsplit('/').next().unwrap_or(point))
    });
    let points: HashSet<&str> = points.collect();
    all.map(|(id, name)| (id.clone(), points.contains(name))).collect()
}

impl Observation {
    /// A database that nobody has open and in which nothing lives is of before a move, where another one has what lives, or
    /// where CRI-O runs. Not if something is wrong with it: then it may be what keeps containerd from starting.
    fn set_apart_what_is_left(&mut self, crio: bool) {
        let lives = |seen: &Seen| {
            let live = |contents: &Contents| contents.sandboxes.iter().any(|one| matches!(one.life, Life::Live { .. }));
            seen.read.as_ref().is_ok_and(live)
        };
        if self.blind.is_some() || !(crio || self.databases.iter().any(lives)) {
            return;
        }
        let is_sound = |contents: &Contents| contents.duplicates.is_empty() && contents.broken.is_empty();
        let is_left =
            |seen: &Seen| seen.holder == Holder::Nobody && !lives(seen) && seen.read.as_ref().is_ok_and(is_sound);
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
fn endings(host: &Host, read: &[Read<'_>], processes: &Processes, troubles: &mut Vec<Error>) -> BTreeMap<Id, Ending> {
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
            let ending = match optional(host.read(&status_of(&one.place.root, &id.to_string()), LARGEST_STATUS)) {
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
