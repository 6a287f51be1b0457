//! Records, processes and what is beside them -> what each sandbox is.

use std::collections::{BTreeMap, HashSet};

use super::live::Processes;
use super::{Broken, Contents, Dead, Duplicate, Life, Sandbox, Sandboxes};
use crate::parse::containerd::{
    Container, ContainerMetadata, Id, Record, Records, Sandbox as Recorded, SandboxMetadata,
};
use crate::pods::PodName;
use crate::probe::words::{short_id, shown};

/// What is beside a database.
#[derive(Default)]
pub(super) struct Around {
    /// The uids of the pods that the kubelet has directories of; `None` where they can't be told.
    pub pods: Option<HashSet<String>>,
    /// Of sandboxes that have a network namespace of their own: whether it is mounted.
    pub netns: BTreeMap<Id, bool>,
    /// How containers ended whose sandbox has no process.
    pub endings: BTreeMap<Id, Ending>,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It runs, although its sandbox has no process.
    None,
    /// It did not run, or somebody saw its end.
    Clean,
    /// Something took it away while it ran.
    Unclean,
    /// Nothing tells: what the CRI plugin keeps of it is gone.
    Lost,
}

const SKIPS: &str = "containerd skips it at its next start, then its name is given away twice";
const FATAL: &str = "containerd does not start again with it";
const SOME: &str = "containerd 2.0.0 to 2.0.5 and 2.1.0 to 2.1.3 do not start again with it";
const MISTAKEN: &str = "containerd takes it for that one, and does not start again where that is on record, too";
const NO_LIST: &str = "containerd can't list its containers, and does not start again";

pub(super) fn contents(probe: &Sandboxes, records: Records, processes: &Processes, around: &Around) -> Contents {
    let is_live = |id: &Id| processes.live.contains(id);
    let lives = |id: &Id| is_live(id).then_some(true).or(processes.blind.is_none().then_some(false));
    let mut contents = Contents {
        schema: records.schema.unwrap_or_default(),
        duplicates: duplicates(&records, &lives),
        broken: broken_records(&records, &lives),
        ..Contents::default()
    };
    let Records { sandboxes, containers, .. } = records;
    let mut unclean = unclean(&containers, processes, around);
    // Most of the memory; what is of use from here on is moved, and not copied.
    drop(containers);
    // Where no network namespace of a live sandbox is seen, they are mounted elsewhere.
    let live = || sandboxes.keys().filter(|id| is_live(id)).filter_map(|id| around.netns.get(id));
    let sees_netns = live().any(|is_mounted| *is_mounted);
    contents.sees_no_netns = !sees_netns && live().next().is_some();
    for (id, recorded) in sandboxes {
        let Some(metadata) = recorded.metadata() else { continue };
        let life = match (is_live(&id), &processes.blind) {
            (true, _) => {
                let netless = sees_netns && around.netns.get(&id) == Some(&false);
                Life::Live { netless }
            }
            (false, Some(_)) => Life::Unknown,
            (false, None) => Life::Dead(Dead {
                is_unfinished: is_unfinished(&recorded, metadata) && !unclean.contains_key(&id),
                is_done: unclean.get(&id).is_some_and(Vec::is_empty),
                unclean: unclean.remove(&id).unwrap_or_default(),
                is_orphan: around.pods.as_ref().is_some_and(|pods| !pods.contains(metadata.uid())),
                ..Dead::default()
            }),
        };
        let created = recorded.records().find_map(|record| record.created);
        let is_only_begun = recorded.in_containers.is_none();
        let Some(metadata) = recorded.into_metadata() else { continue };
        let mut sandbox = Sandbox { id, metadata, created, life, is_only_begun, ignored: false };
        let is_ignored = |name: PodName| probe.ignore.iter().any(|glob| glob.matches(&name));
        sandbox.ignored = sandbox.pod_name().is_some_and(is_ignored);
        contents.sandboxes.push(sandbox);
    }
    let mut names: Vec<&str> = contents.sandboxes.iter().map(|sandbox| sandbox.metadata.name()).collect();
    names.sort_unstable();
    names.dedup();
    contents.reserved = names.iter().filter(|name| !name.is_empty()).count();
    find_superseded(&mut contents.sandboxes);
    contents
}

/// By the id of their sandbox, of those that have no process: the names of the containers that something took away.
fn unclean(
    containers: &BTreeMap<Id, Box<Container>>,
    processes: &Processes,
    around: &Around,
) -> BTreeMap<Id, Vec<String>> {
    let mut all: BTreeMap<Id, Vec<String>> = BTreeMap::new();
    for (id, record) in containers {
        let Ok(metadata) = &record.metadata else { continue };
        if processes.live.contains(&metadata.sandbox) {
            continue;
        }
        let unclean = all.entry(metadata.sandbox.clone()).or_default();
        let name = || match metadata.container() {
            Some((name, _)) => name.to_owned(),
            None => short_id(&id.to_string()).to_owned(),
        };
        match around.endings.get(id) {
            Some(Ending::None) => unclean.push(format!("{} (which still runs)", name())),
            Some(Ending::Unclean) => unclean.push(name()),
            Some(Ending::Lost) => unclean.push(format!("{} (whose state is lost)", name())),
            Some(Ending::Clean) | None => {}
        }
    }
    all
}

/// Whether it was never made to its end. It must have no containers, too: some versions (1.6.9 to 1.6.14, for one) did not
/// write down the address of a sandbox that was.
fn is_unfinished(recorded: &Recorded, metadata: &SandboxMetadata) -> bool {
    recorded.in_containers.is_none() || !(metadata.has_host_network() || metadata.has_address())
}

/// A pod's dead sandboxes below one that lives are its history. So is one that was only begun beside one of the same number:
/// it does not hold the name any more. And once there is a later sandbox, nobody waits for the end of a creation, and how an
/// earlier one ended does not matter.
fn find_superseded(sandboxes: &mut [Sandbox]) {
    let mut of_pods: Vec<&mut Sandbox> = sandboxes.iter_mut().filter(|sandbox| !sandbox.uid().is_empty()).collect();
    of_pods.sort_unstable_by(|one, other| one.uid().cmp(other.uid()));
    for pod in of_pods.chunk_by_mut(|one, other| one.uid() == other.uid()) {
        let highest = pod.iter().map(|sandbox| sandbox.attempt()).max();
        let live = pod.iter().filter(|sandbox| matches!(sandbox.life, Life::Live { .. }));
        let live = live.map(|sandbox| sandbox.attempt()).max();
        for sandbox in pod {
            let attempt = sandbox.attempt();
            match &mut sandbox.life {
                Life::Dead(dead) => {
                    let is_below = |highest: u32| highest > attempt || (sandbox.is_only_begun && highest == attempt);
                    dead.is_superseded = live.is_some_and(is_below);
                    dead.is_former = highest.is_some_and(|highest| highest > attempt);
                    if dead.is_former {
                        dead.unclean.clear();
                    }
                }
                // Another one has a network.
                Life::Live { netless } => *netless &= live.is_none_or(|highest| highest <= attempt),
                Life::Unknown => {}
            }
        }
    }
}

/// Names that containerd would reserve twice as it starts: of sandboxes, and of containers.
fn duplicates(records: &Records, lives: &dyn Fn(&Id) -> Option<bool>) -> Vec<Duplicate> {
    let of_sandboxes = records.sandboxes.iter();
    let of_sandboxes =
        of_sandboxes.filter_map(|(id, recorded)| Some((id, recorded.in_containers.as_ref()?.metadata.as_ref().ok()?)));
    let of_containers = records.containers.iter().filter_map(|(id, record)| Some((id, record.metadata.as_ref().ok()?)));
    let container = |metadata: &ContainerMetadata| {
        let pod = records.sandboxes.get(&metadata.sandbox)?.metadata()?.pod()?;
        let pod = PodName::new(pod.namespace, pod.name)?;
        Some(format!("{} of {pod}", shown(metadata.container()?.0)))
    };
    let mut all = namesakes(of_sandboxes, true, lives, |metadata| Some(who(metadata)));
    all.extend(namesakes(of_containers, false, lives, container));
    all
}

/// Names that several of them bear, in the order of the names. `what` tells what one is, as far as it can.
fn namesakes<'r, M: Named + 'r>(
    all: impl Iterator<Item = (&'r Id, &'r M)>,
    is_of_sandboxes: bool,
    lives: &dyn Fn(&Id) -> Option<bool>,
    what: impl Fn(&M) -> Option<String>,
) -> Vec<Duplicate> {
    let mut all: Vec<(&Id, &M)> = all.collect();
    // In the order of their ids they stay among each other.
    all.sort_by_key(|(_, metadata)| metadata.name());
    let same = all.chunk_by(|(_, one), (_, other)| one.name() == other.name()).filter(|same| same.len() > 1);
    let duplicate = |same: &[(&Id, &M)]| {
        let name = || same.first().map(|(_, metadata)| shown(metadata.name())).unwrap_or_default();
        let what = same.iter().find_map(|(_, metadata)| what(metadata)).unwrap_or_else(name);
        Duplicate { is_of_sandboxes, what, ids: same.iter().map(|(id, _)| (id.to_string(), lives(id))).collect() }
    };
    same.map(duplicate).collect()
}

/// `default/web-0 attempt 1`.
fn who(metadata: &SandboxMetadata) -> String {
    match metadata.pod().and_then(|pod| Some((PodName::new(pod.namespace, pod.name)?, pod.attempt))) {
        Some((name, attempt)) => format!("{name} attempt {attempt}"),
        None => shown(metadata.name()),
    }
}

/// Records that can't be loaded: those of sandboxes, then those of containers.
fn broken_records(records: &Records, lives: &dyn Fn(&Id) -> Option<bool>) -> Vec<Broken> {
    let sandboxes = records.sandboxes.iter().filter_map(|(id, recorded)| Some((id, broken_sandbox(id, recorded)?)));
    let containers = records.containers.iter().filter_map(|(id, record)| Some((id, broken(id, record, SKIPS)?)));
    sandboxes.chain(containers).map(|(id, broken)| Broken { lives: lives(id), ..broken }).collect()
}

fn broken_sandbox(id: &Id, recorded: &Recorded) -> Option<Broken> {
    if let Some(record) = &recorded.in_containers {
        return broken(id, record, SKIPS);
    }
    let record = recorded.in_sandboxes.as_ref()?;
    // It deletes one that has none at all, but for these versions.
    let then = match &record.metadata {
        Err(why) if why.starts_with("has no extension") => SOME,
        _ => FATAL,
    };
    let found = broken(id, record, then)?;
    Some(Broken { has_grace: record.metadata.is_err(), is_of_api: true, ..found })
}

/// What a record's metadata says of itself.
trait Named {
    const KIND: &str;
    fn name(&self) -> &str;
    /// The id that it bears, if that is another one.
    fn other_id(&self) -> Option<&str>;
    fn what(&self) -> String;
}

impl Named for SandboxMetadata {
    const KIND: &str = "sandbox";

    fn name(&self) -> &str {
        self.name()
    }

    fn other_id(&self) -> Option<&str> {
        self.other_id()
    }

    fn what(&self) -> String {
        who(self)
    }
}

impl Named for ContainerMetadata {
    const KIND: &str = "container";

    fn name(&self) -> &str {
        self.name()
    }

    fn other_id(&self) -> Option<&str> {
        self.other_id()
    }

    fn what(&self) -> String {
        shown(self.name())
    }
}

/// What is wrong with a record, if something is.
fn broken<M: Named>(id: &Id, record: &Record<M>, then: &'static str) -> Option<Broken> {
    let (why, then) = match &record.metadata {
        _ if record.has_bad_time => ("has a time that can't be read".to_owned(), NO_LIST),
        Err(why) => (why.clone(), then),
        // It reserves names for ids, and neither may be empty (`pkg/registrar`).
        Ok(metadata) => match (metadata.other_id(), metadata.name()) {
            (Some(""), _) => ("bears no id".to_owned(), FATAL),
            (_, "") => ("bears no name".to_owned(), FATAL),
            (Some(other), _) => (format!("bears the id of {}", shown(short_id(other))), MISTAKEN),
            (None, _) => return None,
        },
    };
    let labelled = || record.labelled.as_deref().map(shown).unwrap_or_default();
    let what = record.metadata.as_ref().map_or_else(|_| labelled(), Named::what);
    Some(Broken {
        id: id.to_string(),
        what: format!("{} {what}", M::KIND).trim_end().to_owned(),
        why,
        then,
        created: record.created,
        has_grace: false,
        lives: None,
        is_of_api: false,
    })
}
