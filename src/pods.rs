//! Names without the API: a pod's uid or a container's id -> namespace, pod and container.
//!
//! In this order:
//!
//! 1. the OCI `config.json` in the runtime's directory of a running container: its annotations tell everything at once;
//! 2. `/var/log/pods`, whose directories survive the containers (until the kubelet deletes the pod) and whose log files
//!    bear the number of the restart;
//! 3. the links in `/var/log/containers`, for a container that no longer runs;
//! 4. containerd's database, which has its containers and sandboxes until the kubelet removes them, wherever the logs go.
//!
//! Only what somebody asks for is read: a node has thousands of `config.json`, and few kills.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::containerd;
use crate::host::{Error, Host, optional, printable};
use crate::layout::{CONTAINER_LOGS, CRIO_CONTAINERS, POD_LOGS, task_dirs};
use crate::parse::cgroup::Uid;
use crate::parse::containerd::{Id, Records};

/// A `config.json` holds the environment and the mounts: 10 to 100 KiB.
const LARGEST_CONFIG: u64 = 1 << 20;
/// More pods than a node has, the deleted ones included.
const MOST_LOGS: usize = 50_000;
/// So many `config.json` are read at most; the rest must do with the logs.
const MOST_CONFIGS: usize = 256;
/// So many files that can't be used are told of.
const MOST_TROUBLES: usize = 8;

/// A pod's namespace and name. Its text, `namespace/pod`, can be read back: the past keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    namespace: String,
    pod: String,
}

impl PodName {
    /// `None` for what Kubernetes would not take as names, a hostile directory's for instance.
    pub fn new(namespace: &str, pod: &str) -> Option<PodName> {
        let pod_fits = (1..=253).contains(&pod.len()) && pod.split('.').all(is_label_of_any_length);
        (is_label(namespace) && pod_fits).then(|| PodName { namespace: namespace.to_owned(), pod: pod.to_owned() })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The pod's own name.
    pub fn pod(&self) -> &str {
        &self.pod
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.pod)
    }
}

/// A text that is no `namespace/pod`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no namespace/pod")]
pub struct NotAName(String);

impl FromStr for PodName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<PodName, NotAName> {
        let name = text.split_once('/').and_then(|(namespace, pod)| PodName::new(namespace, pod));
        name.ok_or_else(|| NotAName(printable(text)))
    }
}

/// A DNS label: what namespaces and containers are named by.
fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_label_of_any_length(name)
}

fn is_label_of_any_length(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(plain)
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerName {
    /// Its pod.
    pub pod: PodName,
    /// Its name in the pod; `None` for the pod's sandbox.
    pub container: Option<String>,
    /// How often the kubelet restarted it, where a log file tells.
    pub restart: Option<u32>,
}

/// The names of what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pods: BTreeMap<Uid, PodName>,
    containers: BTreeMap<String, ContainerName>,
    /// What could not be read: permission denied, or not as it should be. What is not there is no trouble.
    pub troubles: Vec<Error>,
}

impl Names {
    /// Looks up pods by uid, each with the ids of those of its containers that shall be named too.
    pub fn look(host: &Host, wanted: &BTreeMap<Uid, Vec<String>>) -> Names {
        let mut names = Names::default();
        names.ask_the_runtime(host, wanted);
        let has_pods = wanted.keys().all(|uid| names.pods.contains_key(uid));
        if !has_pods || wanted.values().any(|ids| !ids.is_empty()) {
            names.ask_the_logs(host, wanted);
        }
        let mut unnamed = wanted.values().flatten();
        if unnamed.any(|id| !names.containers.contains_key(id)) {
            names.ask_the_links(host, wanted);
        }
        let is_unnamed = |uid: &Uid, ids: &[String]| {
            !names.pods.contains_key(uid) || ids.iter().any(|id| !names.containers.contains_key(id))
        };
        if wanted.iter().any(|(uid, ids)| is_unnamed(uid, ids)) {
            names.ask_the_databases(host, wanted);
        }
        names
    }

    /// The pod with this uid.
    pub fn pod(&self, uid: Uid) -> Option<&PodName> {
        self.pods.get(&uid)
    }

    /// The container with this id.
    pub fn container(&self, id: &str) -> Option<&ContainerName> {
        self.containers.get(id)
    }

    /// `None` when absent, or when it is a trouble.
    fn keep<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        optional(result).unwrap_or_else(|error| {
            self.add(error);
            None
        })
    }

    fn trouble(&mut self, text: String) {
        self.add(Error::Failed(text));
    }

    fn add(&mut self, error: Error) {
        if self.troubles.len() < MOST_TROUBLES && !self.troubles.contains(&error) {
            self.troubles.push(error);
        }
    }

    fn ask_the_runtime(&mut self, host: &Host, wanted: &BTreeMap<Uid, Vec<String>>) {
        let ids = wanted.iter().flat_map(|(uid, ids)| ids.iter().map(|id| (*uid, id)));
        let ids: Vec<(Uid, &String)> = ids.filter(|(_, id)| is_file_name(id)).collect();
        if ids.is_empty() {
            return;
        }
        let places = task_dirs().into_iter().map(|dir| (dir, "")).chain([(CRIO_CONTAINERS.to_owned(), "/userdata")]);
        // Most nodes have one of them.
        let places: Vec<_> = places.filter(|(dir, _)| self.keep(host.exists(dir)).unwrap_or_default()).collect();
        if !places.is_empty() && ids.len() > MOST_CONFIGS {
            let text = format!("{} containers to be named: {MOST_CONFIGS} of them by their config.json", ids.len());
            self.trouble(text);
        }
        for (uid, id) in ids.into_iter().take(MOST_CONFIGS) {
            for (dir, below) in &places {
                let path = format!("{dir}/{id}{below}/config.json");
                let Some(bytes) = self.keep(host.read(&path, LARGEST_CONFIG)) else { continue };
                match of_config(&bytes) {
                    Ok(Some((name, its_uid))) if its_uid.is_none_or(|its| its == uid) => {
                        self.pods.insert(uid, name.pod.clone());
                        self.containers.insert(id.clone(), name);
                    }
                    Ok(Some(_)) => self.trouble(format!("{path} is of another pod")),
                    // Made by an older runtime, or not by Kubernetes.
                    Ok(None) => {}
                    Err(error) => self.trouble(format!("{path}: {error}")),
                }
                break;
            }
        }
    }

    fn ask_the_logs(&mut self, host: &Host, wanted: &BTreeMap<Uid, Vec<String>>) {
        let dirs = self.keep(host.list(POD_LOGS, MOST_LOGS)).unwrap_or_default();
        for dir in dirs.iter().filter_map(|dir| dir.to_str()) {
            let Some((name, uid)) = of_log_dir(dir) else { continue };
            let Some(ids) = wanted.get(&uid) else { continue };
            self.pods.entry(uid).or_insert(name);
            for id in ids {
                let Some(container) = self.containers.get(id).and_then(|known| known.container.clone()) else {
                    continue;
                };
                let logs =
                    self.keep(host.list(&format!("{POD_LOGS}/{dir}/{container}"), MOST_LOGS)).unwrap_or_default();
                let newest = logs.iter().filter_map(|log| log_number(log.to_str()?)).max();
                if let Some(known) = self.containers.get_mut(id) {
                    known.restart = newest;
                }
            }
        }
    }

    fn ask_the_links(&mut self, host: &Host, wanted: &BTreeMap<Uid, Vec<String>>) {
        let links = self.keep(host.list(CONTAINER_LOGS, MOST_LOGS)).unwrap_or_default();
        for link in links.iter().filter_map(|link| link.to_str()) {
            let Some((pod, container, id)) = of_log_link(link) else { continue };
            let Some((uid, _)) = wanted.iter().find(|(_, ids)| ids.iter().any(|wanted| wanted == id)) else { continue };
            if self.containers.contains_key(id) {
                continue;
            }
            let target = self.keep(host.read_link(&format!("{CONTAINER_LOGS}/{link}")));
            let file = target.as_deref().and_then(|target| target.file_name()?.to_str());
            self.pods.entry(*uid).or_insert_with(|| pod.clone());
            let name = ContainerName { pod, container: Some(container.to_owned()), restart: file.and_then(log_number) };
            self.containers.insert(id.to_owned(), name);
        }
    }
}

impl Names {
    fn ask_the_databases(&mut self, host: &Host, wanted: &BTreeMap<Uid, Vec<String>>) {
        for place in self.keep(containerd::find(host, &[], &[])).unwrap_or_default() {
            let snapshot = self.keep(place.database).and_then(|mut database| self.keep(database.snapshot()));
            // What is damaged is told by the check that looks for it.
            if let Some(Ok(records)) = snapshot.map(|snapshot| snapshot.read) {
                self.take_records(&records, wanted);
            }
        }
    }

    fn take_records(&mut self, records: &Records, wanted: &BTreeMap<Uid, Vec<String>>) {
        let name_of = |sandbox: &Id| {
            let pod = records.sandboxes.get(sandbox)?.metadata()?.pod()?;
            Some((Uid::parse(pod.uid)?, PodName::new(pod.namespace, pod.name)?))
        };
        let of_containers = records.containers.iter().filter_map(|(id, record)| {
            let metadata = record.metadata.as_ref().ok()?;
            let (name, attempt) = metadata.container()?;
            Some((id, &metadata.sandbox, Some((name, attempt))))
        });
        let of_sandboxes = records.sandboxes.keys().map(|id| (id, id, None));
        for (id, sandbox, container) in of_containers.chain(of_sandboxes) {
            let Some((uid, pod)) = name_of(sandbox) else { continue };
            let Some(ids) = wanted.get(&uid) else { continue };
            self.pods.entry(uid).or_insert_with(|| pod.clone());
            let id = id.to_string();
            if ids.contains(&id) && !self.containers.contains_key(&id) {
                let (container, restart) = container.filter(|(name, _)| is_label(name)).unzip();
                let container = container.map(str::to_owned);
                self.containers.insert(id, ContainerName { pod, container, restart });
            }
        }
    }
}

/// The containers of a pod that have logs, each with the number of its newest restart. Empty where there are none, or
/// they can't be read.
pub fn restarts(host: &Host, name: &PodName, uid: Uid) -> Vec<(String, u32)> {
    let dir = format!("{POD_LOGS}/{}_{}_{uid}", name.namespace(), name.pod());
    let list = |path: &str| {
        let names = host.list(path, MOST_LOGS).unwrap_or_default();
        names.into_iter().filter_map(|name| name.into_string().ok()).collect::<Vec<String>>()
    };
    let newest = |container: String| {
        let newest = list(&format!("{dir}/{container}")).iter().filter_map(|log| log_number(log)).max()?;
        Some((container, newest))
    };
    list(&dir).into_iter().filter(|container| is_label(container)).filter_map(newest).collect()
}

/// Whether an id can be a directory's name.
fn is_file_name(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(plain) && !id.starts_with('.')
}

/// The part of an OCI `config.json` that matters.
#[derive(Deserialize)]
struct Config {
    annotations: Option<Annotations>,
}

/// containerd's `internal/cri/annotations`, and CRI-O's.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    namespace: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-name")]
    pod: Option<String>,
    /// Not from older containerd.
    #[serde(rename = "io.kubernetes.cri.sandbox-uid")]
    uid: Option<String>,
    /// Not of a sandbox.
    #[serde(rename = "io.kubernetes.cri.container-name")]
    container: Option<String>,
    /// JSON in JSON.
    #[serde(rename = "io.kubernetes.cri-o.Labels")]
    crio: Option<String>,
}

/// The kubelet's labels of a container.
#[derive(Deserialize)]
struct Labels {
    #[serde(rename = "io.kubernetes.pod.namespace")]
    namespace: Option<String>,
    #[serde(rename = "io.kubernetes.pod.name")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.pod.uid")]
    uid: Option<String>,
    /// `POD` of a sandbox.
    #[serde(rename = "io.kubernetes.container.name")]
    container: Option<String>,
}

/// Reads an OCI `config.json`: the container's name and its pod's uid. `Ok(None)` when it bears no names.
pub fn of_config(bytes: &[u8]) -> Result<Option<(ContainerName, Option<Uid>)>, serde_json::Error> {
    let config: Config = serde_json::from_slice(bytes)?;
    let annotations = config.annotations.unwrap_or_default();
    let labels = match annotations.crio {
        Some(text) => {
            let mut labels: Labels = serde_json::from_str(&text)?;
            labels.container = labels.container.filter(|name| name != "POD");
            labels
        }
        None => Labels {
            namespace: annotations.namespace,
            pod: annotations.pod,
            uid: annotations.uid,
            container: annotations.container,
        },
    };
    let pod = labels.namespace.zip(labels.pod).and_then(|(namespace, pod)| PodName::new(&namespace, &pod));
    let container = labels.container.filter(|name| is_label(name));
    let uid = labels.uid.and_then(|uid| Uid::parse(&uid));
    Ok(pod.map(|pod| (ContainerName { pod, container, restart: None }, uid)))
}

/// The name of a directory in /var/log/pods: `<namespace>_<pod>_<uid>`.
pub fn of_log_dir(name: &str) -> Option<(PodName, Uid)> {
    let (namespace, rest) = name.split_once('_')?;
    let (pod, uid) = rest.rsplit_once('_')?;
    Some((PodName::new(namespace, pod)?, Uid::parse(uid)?))
}

/// The name of a link in /var/log/containers, `<pod>_<namespace>_<container>-<id>.log`: pod, container and id.
pub fn of_log_link(name: &str) -> Option<(PodName, &str, &str)> {
    let (pod, rest) = name.strip_suffix(".log")?.split_once('_')?;
    let (namespace, rest) = rest.split_once('_')?;
    let (container, id) = rest.rsplit_once('-')?;
    (is_label(container) && is_file_name(id)).then_some((PodName::new(namespace, pod)?, container, id))
}

/// The number in a log file's name: `3.log`, or rotated, `3.log.20261121-101500` and `3.log.20261121-101500.gz`.
pub fn log_number(name: &str) -> Option<u32> {
    let (number, rest) = name.split_once('.')?;
    let is_log = rest == "log" || rest.starts_with("log.");
    (is_log && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests;
