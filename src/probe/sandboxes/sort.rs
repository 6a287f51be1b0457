//! Records, processes and what is beside them -> what each sandbox is.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::live::Processes;
use super::{Broken, Contents, Dead, Duplicate, Life, Sandbox, Sandboxes};
use crate::parse::containerd::{ContainerMetadata, Record, Records, Sandbox as Recorded, SandboxMetadata};
use crate::pods::PodName;
use crate::probe::words::{short_id, shown};

/// What is beside a database.
#[derive(Default)]
pub(super) struct Around {
    /// The uids of the pods that the kubelet has directories of; `None` where they can't be told.
    pub pods: Option<HashSet<String>>,
    /// Of sandboxes that have a network namespace of their own: whether it is mounted.
    pub netns: BTreeMap<String, bool>,
    /// How containers ended whose sandbox has no process.
    pub endings: BTreeMap<String, Ending>,
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

pub(super) fn contents(probe: &Sandboxes, records: &Records, processes: &Processes, around: &Around) -> Contents {
    let mut containers = containers(records, around);
    let is_live = |id: &str| processes.live.contains(id);
    let mut contents = Contents { schema: records.schema.unwrap_or_default(), ..Contents::default() };
    // Where no network namespace of a live sandbox is seen, they are mounted elsewhere.
    let live = || records.sandboxes.keys().filter(|id| is_live(id)).filter_map(|id| around.netns.get(id));
    let sees_netns = live().any(|is_mounted| *is_mounted);
    contents.sees_no_netns = !sees_netns && live().next().is_some();
    for (id, recorded) in &records.sandboxes {
        let Some(metadata) = recorded.metadata() else {
            contents.broken.extend(broken_sandbox(id, recorded));
            continue;
        };
        contents.broken.extend(broken_sandbox(id, recorded));
        let pod = metadata.pod().cloned().unwrap_or_default();
        let name = PodName::new(&pod.namespace, &pod.name);
        let life = match (is_live(id), &processes.blind) {
            (true, _) => {
                let netless = sees_netns && around.netns.get(id) == Some(&false);
                Life::Live { netless }
            }
            (false, Some(_)) => Life::Unknown,
            (false, None) => Life::Dead(Dead {
                is_unfinished: is_unfinished(recorded, metadata) && !containers.contains_key(id.as_str()),
                is_done: containers.get(id.as_str()).is_some_and(Vec::is_empty),
                unclean: containers.remove(id.as_str()).unwrap_or_default(),
                is_orphan: around.pods.as_ref().is_some_and(|pods| !pods.contains(&pod.uid)),
                ..Dead::default()
            }),
        };
        contents.sandboxes.push(Sandbox {
            id: id.clone(),
            pod: name.as_ref().map_or_else(|| shown(&metadata.name), ToString::to_string),
            uid: pod.uid,
            attempt: pod.attempt,
            name: metadata.name.clone(),
            created: recorded.records().find_map(|record| record.created),
            life,
            is_only_begun: recorded.in_containers.is_none(),
            ignored: name.is_some_and(|name| probe.ignore.iter().any(|glob| glob.matches(&name))),
        });
    }
    let names: HashSet<&str> =
        records.sandboxes.values().filter_map(|recorded| Some(recorded.metadata()?.name.as_str())).collect();
    contents.reserved = names.iter().filter(|name| !name.is_empty()).count();
    find_superseded(&mut contents.sandboxes);
    let lives = |id: &str| is_live(id).then_some(true).or(processes.blind.is_none().then_some(false));
    contents.duplicates = duplicates(records, &lives);
    let containers = records.containers.iter().filter_map(|(id, record)| {
        let named = |metadata: &ContainerMetadata| Named {
            id: metadata.id.clone(),
            has_name: !metadata.name.is_empty(),
            what: shown(&metadata.name),
        };
        broken(id, "container", record, named, SKIPS)
    });
    contents.broken.extend(containers);
    for broken in &mut contents.broken {
        broken.lives = lives(&broken.id);
    }
    contents
}

/// By the id of their sandbox: the names of the containers that something took away.
fn containers<'r>(records: &'r Records, around: &Around) -> HashMap<&'r str, Vec<String>> {
    let mut containers: HashMap<&str, Vec<String>> = HashMap::new();
    for (id, record) in &records.containers {
        let Ok(metadata) = &record.metadata else { continue };
        let unclean = containers.entry(metadata.sandbox.as_str()).or_default();
        let name = metadata.container().map_or_else(|| short_id(id).to_owned(), |(name, _)| name.to_owned());
        match around.endings.get(id) {
            Some(Ending::None) => unclean.push(format!("{name} (which still runs)")),
            Some(Ending::Unclean) => unclean.push(name),
            Some(Ending::Lost) => unclean.push(format!("{name} (whose state is lost)")),
            Some(Ending::Clean) | None => {}
        }
    }
    containers
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
    let highest = |of: &dyn Fn(&Sandbox) -> bool| {
        let mut highest: HashMap<String, u32> = HashMap::new();
        for sandbox in sandboxes.iter().filter(|sandbox| of(sandbox) && !sandbox.uid.is_empty()) {
            let attempt = highest.entry(sandbox.uid.clone()).or_default();
            *attempt = sandbox.attempt.max(*attempt);
        }
        highest
    };
    let (all, live) = (highest(&|_| true), highest(&|sandbox| matches!(sandbox.life, Life::Live { .. })));
    for Sandbox { uid, attempt, life, is_only_begun, .. } in sandboxes {
        if let Life::Dead(dead) = life {
            let is_below = |highest: &u32| *highest > *attempt || (*is_only_begun && highest == attempt);
            dead.is_superseded = live.get(uid).is_some_and(is_below);
            dead.is_former = all.get(uid).is_some_and(|highest| highest > attempt);
            if dead.is_former {
                dead.unclean.clear();
            }
        } else if let Life::Live { netless } = life {
            // Another one has a network.
            *netless &= live.get(uid).is_none_or(|highest| highest <= attempt);
        }
    }
}

/// Names that containerd would reserve twice as it starts: of sandboxes, and of containers.
fn duplicates(records: &Records, lives: &dyn Fn(&str) -> Option<bool>) -> Vec<Duplicate> {
    let mut of_sandboxes: BTreeMap<&str, Vec<(&String, &SandboxMetadata)>> = BTreeMap::new();
    for (id, recorded) in &records.sandboxes {
        if let Some(Ok(metadata)) = recorded.in_containers.as_ref().map(|record| &record.metadata) {
            of_sandboxes.entry(&metadata.name).or_default().push((id, metadata));
        }
    }
    let mut of_containers: BTreeMap<&str, Vec<(&String, &ContainerMetadata)>> = BTreeMap::new();
    for (id, record) in &records.containers {
        if let Ok(metadata) = &record.metadata {
            of_containers.entry(&metadata.name).or_default().push((id, metadata));
        }
    }
    let container = |metadata: &ContainerMetadata| {
        let pod = records.sandboxes.get(&metadata.sandbox)?.metadata()?.pod()?;
        let pod = PodName::new(&pod.namespace, &pod.name)?;
        Some(format!("{} of {pod}", shown(metadata.container()?.0)))
    };
    let sandboxes = of_sandboxes.into_iter().filter(|(_, ids)| ids.len() > 1).map(|(name, ids)| Duplicate {
        is_of_sandboxes: true,
        what: ids.first().map_or_else(|| shown(name), |(_, metadata)| who(metadata)),
        ids: ids.iter().map(|(id, _)| ((*id).clone(), lives(id))).collect(),
    });
    let containers = of_containers.into_iter().filter(|(_, ids)| ids.len() > 1).map(|(name, ids)| Duplicate {
        is_of_sandboxes: false,
        what: ids.iter().find_map(|(_, metadata)| container(metadata)).unwrap_or_else(|| shown(name)),
        ids: ids.iter().map(|(id, _)| ((*id).clone(), lives(id))).collect(),
    });
    sandboxes.chain(containers).collect()
}

/// `default/web-0 attempt 1`.
fn who(metadata: &SandboxMetadata) -> String {
    match metadata.pod().and_then(|pod| Some((PodName::new(&pod.namespace, &pod.name)?, pod.attempt))) {
        Some((name, attempt)) => format!("{name} attempt {attempt}"),
        None => shown(&metadata.name),
    }
}

fn broken_sandbox(id: &str, recorded: &Recorded) -> Option<Broken> {
    let named = |metadata: &SandboxMetadata| Named {
        id: metadata.id.clone(),
        has_name: !metadata.name.is_empty(),
        what: who(metadata),
    };
    if let Some(record) = &recorded.in_containers {
        return broken(id, "sandbox", record, named, SKIPS);
    }
    let record = recorded.in_sandboxes.as_ref()?;
    // It deletes one that has none at all, but for these versions.
    let then = match &record.metadata {
        Err(why) if why.starts_with("has no extension") => SOME,
        _ => FATAL,
    };
    let found = broken(id, "sandbox", record, named, then)?;
    Some(Broken { has_grace: record.metadata.is_err(), is_of_api: true, ..found })
}

/// What a record's metadata says of itself.
struct Named {
    id: String,
    has_name: bool,
    what: String,
}

/// What is wrong with a record, if something is.
fn broken<T>(
    id: &str,
    kind: &str,
    record: &Record<T>,
    named: impl Fn(&T) -> Named,
    then: &'static str,
) -> Option<Broken> {
    let named = record.metadata.as_ref().map(named);
    let (why, then) = match &named {
        _ if record.has_bad_time => ("has a time that can't be read".to_owned(), NO_LIST),
        Err(why) => ((*why).clone(), then),
        // It reserves names for ids, and neither may be empty (`pkg/registrar`).
        Ok(named) if named.id.is_empty() => ("bears no id".to_owned(), FATAL),
        Ok(named) if !named.has_name => ("bears no name".to_owned(), FATAL),
        Ok(named) if named.id != id => (format!("bears the id of {}", shown(short_id(&named.id))), MISTAKEN),
        Ok(_) => return None,
    };
    let what = named.map_or_else(|_| record.labelled.as_deref().map(shown).unwrap_or_default(), |named| named.what);
    Some(Broken {
        id: id.to_owned(),
        what: format!("{kind} {what}").trim_end().to_owned(),
        why,
        then,
        created: record.created,
        has_grace: false,
        lives: None,
        is_of_api: false,
    })
}
