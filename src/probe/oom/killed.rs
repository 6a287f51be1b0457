//! Who was killed: names and sizes from the kernel's log, as text and never as the count.
//!
//! The ring forgets and the kernel leaves out headers, hence what was read is kept in notes until the window is over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tally::Whose;
use crate::history::Past;
use crate::host::{Error, Host, Moment};
use crate::parse::cgroup::{Place, Uid};
use crate::parse::kmsg::{Evidence, Kill, Log};
use crate::probe::words::shown;

/// The notes of victims, and of how far the log was read.
pub(super) const VICTIMS: &str = "victim ";
pub(super) const READ: &str = "log";
/// So many names are kept, the newest.
const MOST: usize = 64;
/// Seconds that the clock of the log may differ from that of the boot: it stands still in suspend.
const SLACK: f64 = 60.0;

/// A program that the OOM killer killed in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Victim {
    /// Its pod's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    /// Its container's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Its cgroup, where that is of no pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its name, fit to be printed.
    pub name: String,
    /// KiB that it held, the most of all that bore the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_kib: Option<u64>,
    /// The limit in bytes that was hit, where the log tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Whose limit it was, where the log tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whose: Option<Whose>,
    /// Seconds since boot, of the newest.
    second: u64,
}

impl Victim {
    /// The pod that it was in.
    pub(super) fn pod(&self) -> Option<Uid> {
        Uid::parse(self.pod.as_deref()?)
    }

    fn key(&self) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let place = format!("{} {} {}", part(&self.pod), part(&self.container), part(&self.path));
        self.whose.map_or_else(|| format!("{place} {}", self.name), |whose| format!("{place} {whose:?} {}", self.name))
    }

    fn of(kill: &Kill, only: Option<Uid>) -> Victim {
        let place = kill.cgroup.as_deref().map(Place::of);
        let pod = match &place {
            Some(place) => place.pod(),
            // A line without a header is a certain pod's only if no other had a kill.
            None => only,
        };
        let container = place.and_then(|place| place.container()).map(|container| container.id.to_owned());
        let path = kill.cgroup.clone().filter(|_| pod.is_none());
        Victim {
            pod: pod.map(|uid| uid.to_string()),
            container,
            path: path.map(|path| shown(&path)),
            name: shown(&kill.killed.name),
            rss_kib: kill.killed.rss_kib(),
            limit: kill.limit,
            whose: (kill.evidence == Evidence::Header).then(|| Whose::of(kill.oom_cgroup.as_deref().map(Place::of))),
            second: kill.microsecond / 1_000_000,
        }
    }
}

/// What is known of victims, before and after a look at the log.
#[derive(Debug, Default)]
pub(super) struct Killed {
    pub victims: Vec<Victim>,
    /// The boot and the number of the newest record that was read.
    pub read: Option<String>,
    /// What the operator should know of the log.
    pub remarks: Vec<String>,
}

impl Killed {
    /// What was known before, as far as it lies in the window.
    pub(super) fn before(past: &Past, now: &Moment) -> Killed {
        let victims = past.notes(VICTIMS).filter(|(_, note)| note.last.same_boot(now) || now.boot.is_none());
        let victims = victims.filter_map(|(_, note)| serde_json::from_str(&note.value).ok());
        let mut killed = Killed {
            victims: victims.collect(),
            read: past.note(READ).map(|note| note.value.clone()),
            remarks: Vec::new(),
        };
        killed.forget(past, now);
        killed
    }

    /// Reads what the log has new. `only`: the one pod in which something was counted since the look before. `is_ours`
    /// tells whether a cgroup is one of this node: a container's kernel tells of its host's other containers too.
    pub(super) fn look(
        &mut self,
        host: &Host,
        past: &Past,
        now: &Moment,
        only: Option<Uid>,
        is_ours: &dyn Fn(&Kill) -> bool,
    ) {
        host.doing("/dev/kmsg");
        let ring = match host.kmsg() {
            Ok(ring) => ring,
            Err(Error::Absent(_)) => return,
            Err(error) => return self.remarks.push(format!("who was killed is not known: {error}")),
        };
        let log = Log::read(&ring.records);
        let boot = now.boot.clone().unwrap_or_default();
        let read = self.read.as_deref().and_then(|read| read.strip_prefix(&format!("{boot} "))?.parse::<u64>().ok());
        let before = past.last_look().filter(|look| look.same_boot(now));
        let since = before.and_then(|look| look.uptime).unwrap_or_default();
        let mut all: BTreeMap<String, Victim> = self.victims.drain(..).map(|victim| (victim.key(), victim)).collect();
        // What was killed before the first look is in no count.
        let counted_from = now.uptime.unwrap_or_default() - past.covered(now).as_secs_f64() - 1.0;
        let is_told = |kill: &&Kill| {
            let is_new = read.is_none_or(|read| kill.sequence > read);
            is_new && is_ours(kill) && (kill.microsecond / 1_000_000) as f64 >= counted_from
        };
        for kill in log.kills.iter().filter(is_told) {
            // Only the lines since the look before can belong to what moved since.
            let is_new = kill.microsecond as f64 / 1e6 >= since;
            let victim = Victim::of(kill, only.filter(|_| is_new));
            let known = all.entry(victim.key()).or_insert_with(|| victim.clone());
            known.second = known.second.max(victim.second);
            known.rss_kib = known.rss_kib.max(victim.rss_kib);
            known.limit = victim.limit.or(known.limit);
        }
        self.victims = all.into_values().collect();
        self.forget(past, now);
        let forgotten = match (read, log.first) {
            (Some(read), Some((first, _))) => first > read.saturating_add(1),
            _ => false,
        };
        if forgotten || log.lost > 0 || ring.overrun {
            let text =
                "the kernel's log lost records before they were read: names may be missing, the counts are whole";
            self.remarks.push(text.to_owned());
        }
        if let Some((last, _)) = log.last {
            self.read = Some(format!("{boot} {last}"));
        }
    }

    /// Keeps the newest, and those of the window.
    fn forget(&mut self, past: &Past, now: &Moment) {
        if let Some(uptime) = now.uptime {
            let oldest = uptime - past.window.as_secs_f64() - SLACK;
            self.victims.retain(|victim| victim.second as f64 >= oldest);
        }
        self.victims.sort_by_key(|victim| std::cmp::Reverse(victim.second));
        self.victims.truncate(MOST);
    }

    /// Whose limit it was in a container, where the log tells the same of all that it names there.
    pub(super) fn whose(&self, pod: Uid, container: &str) -> Option<Whose> {
        let here = |victim: &&Victim| victim.container.as_deref() == Some(container) && victim.pod() == Some(pod);
        let mut told = self.victims.iter().filter(here).filter_map(|victim| victim.whose);
        let first = told.next()?;
        told.all(|whose| whose == first).then_some(first)
    }

    /// The notes to keep.
    pub(super) fn notes(&self) -> impl Iterator<Item = (String, String)> {
        let note = |victim: &Victim| Some((victim.key(), serde_json::to_string(victim).ok()?));
        self.victims.iter().filter_map(note)
    }
}
