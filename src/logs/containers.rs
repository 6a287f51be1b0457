//! How often containers were begun: the kubelet numbers their logs.

use std::collections::BTreeSet;

use jiff::Timestamp;
use wildmatch::WildMatch;

use super::MOST_TROUBLES;
use super::find::MOST_ENTRIES;
use crate::host::{Error, Host, optional};
use crate::layout::POD_LOGS;
use crate::parse::cgroup::Uid;
use crate::pods::{PodName, log_number, of_log_dir};

/// The logs of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLogs {
    /// Its pod.
    pub pod: PodName,
    /// The pod's uid.
    pub uid: Uid,
    /// Its name in the pod.
    pub container: String,
    /// One a life, the newest last: the kubelet throws older ones away. Never empty.
    pub files: Vec<LogFile>,
}

impl ContainerLogs {
    /// How often it was begun again.
    pub fn restarts(&self) -> u32 {
        self.files.last().map_or(0, |newest| newest.restart)
    }
}

/// The log of one life of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFile {
    /// Its number: 0 is the first.
    pub restart: u32,
    /// When it was written to.
    pub modified: Option<Timestamp>,
    /// When it was made: when the container began, or when the log was last put aside.
    pub born: Option<Timestamp>,
}

/// The containers that have logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Containers {
    /// By namespace, pod, uid and name.
    pub all: Vec<ContainerLogs>,
    /// What could not be read; the first few.
    pub unreadable: Vec<Error>,
}

/// Lists the containers in namespaces that one of the patterns (`*` and `?`) fits. Absent where no pod has logs.
pub fn containers(host: &Host, namespaces: &[String]) -> Result<Containers, Error> {
    let patterns: Vec<WildMatch> = namespaces.iter().map(|pattern| WildMatch::new(pattern)).collect();
    let mut found = Containers::default();
    for dir in host.list(POD_LOGS, MOST_ENTRIES)? {
        let Some((pod, uid)) = dir.to_str().and_then(of_log_dir) else { continue };
        if !patterns.iter().any(|pattern| pattern.matches(pod.namespace())) {
            continue;
        }
        let dir = format!("{POD_LOGS}/{}", dir.to_string_lossy());
        for container in found.list(host, &dir) {
            let files = found.files(host, &format!("{dir}/{container}"));
            if !files.is_empty() {
                found.all.push(ContainerLogs { pod: pod.clone(), uid, container, files });
            }
        }
    }
    found.all.sort_by(|one, other| (&one.pod, one.uid, &one.container).cmp(&(&other.pod, other.uid, &other.container)));
    Ok(found)
}

impl Containers {
    fn files(&mut self, host: &Host, dir: &str) -> Vec<LogFile> {
        let names: BTreeSet<String> = self.list(host, dir).into_iter().collect();
        let numbers: BTreeSet<u32> = names.iter().filter_map(|name| log_number(name)).collect();
        let file = |restart: u32| {
            let name = format!("{restart}.log");
            // For a moment there may be none but that which was put aside.
            let stat = names.contains(&name).then(|| self.keep(host.stat(&format!("{dir}/{name}")))).flatten();
            let (modified, born) = stat.map_or((None, None), |stat| (stat.modified, stat.born));
            LogFile { restart, modified, born }
        };
        numbers.into_iter().map(file).collect()
    }

    fn list(&mut self, host: &Host, dir: &str) -> Vec<String> {
        let names = self.keep(host.list(dir, MOST_ENTRIES)).unwrap_or_default();
        names.into_iter().filter_map(|name| name.into_string().ok()).collect()
    }

    fn keep<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        optional(result).unwrap_or_else(|error| {
            if self.unreadable.len() < MOST_TROUBLES {
                self.unreadable.push(error);
            }
            None
        })
    }
}
