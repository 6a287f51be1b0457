//! The look: of the cgroups with a limit, those that may be near it are read more closely.
//!
//! Reading memory.stat makes the kernel add up what all processors have counted, so it is read of few: of those whose
//! usage is near the limit, and of as many more as it takes to know which one has the least that can be reclaimed.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::names::Labels;
use super::walk::{LARGEST, Limited, Unread, Walk, parsed};
use super::{CgroupHeadroom, Observation};
use crate::history::Past;
use crate::host::{Dir, Error, Host};
use crate::memcg::{Memcg, Version};
use crate::parse::cgroup::{self, MemoryStat};
use crate::pods::Names;

use nix::errno::Errno;

/// Hits are counted from this percentage of the limit on, so that there is a value to begin with when it gets near. Page
/// cache alone makes them grow at every look, and every one that is new has to be written to the past.
const COUNTED_FROM: u8 = 75;
/// PSI is read from this percentage on: who has half of the limit left waits for somebody else's.
const PSI_FROM: u8 = 50;

/// A cgroup with a limit, looked at closely.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cgroup {
    pub place: Limited,
    pub inode: u64,
    /// Bytes that remain in use when all that can be reclaimed is.
    pub unreclaimable: Option<u64>,
    /// How often the limit was hit since the cgroup was made.
    pub hits: Option<u64>,
    /// Whether an earlier look read its hits.
    pub was_counted: bool,
    /// Percent of the last minute that all its tasks waited for memory.
    pub full60: Option<f64>,
}

impl Cgroup {
    pub(super) fn is_near(&self, near: u8) -> bool {
        self.unreclaimable.is_some_and(|bytes| reaches(bytes, self.place.limit, near))
    }

    pub(super) fn is_pressed(&self, pressure: u8) -> bool {
        self.full60.is_some_and(|full60| full60 >= f64::from(pressure))
    }
}

/// What came of asking for PSI.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Psi {
    /// Of so many containers.
    pub read: usize,
    /// Of so many it is not there; and why, of the first.
    pub missing: usize,
    pub why: Option<&'static str>,
    /// Of one at least it is there and could not be read.
    pub failed: bool,
}

impl Psi {
    /// Whether what is not pressed is known not to be.
    pub(super) fn is_whole(&self) -> bool {
        self.read > 0 && !self.failed
    }

    fn is_missing(&mut self, why: &'static str) {
        self.missing += 1;
        self.why.get_or_insert(why);
    }
}

/// Whether a part reaches a percentage of a whole.
fn reaches(part: u64, whole: u64, percent: u8) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

/// Compares two parts of two wholes.
pub(super) fn by_ratio(a: (u64, u64), b: (u64, u64)) -> Ordering {
    // A limit of 0 has no parts.
    let cross = |part: u64, whole: u64| u128::from(part) * u128::from(whole.max(1));
    cross(a.0, b.1).cmp(&cross(b.0, a.1))
}

pub(super) fn observe(probe: &CgroupHeadroom, host: &Host, past: &Past) -> Result<Observation, Error> {
    let memcg = Memcg::find(host)?;
    let walk = Walk::over(host, &memcg)?;
    let mut labels = Labels::of(past);
    if walk.unread.count == 0 {
        labels.keep(&walk);
    }
    let mut limited = walk.limited;
    let ignored = leave_out(probe, host, &labels, &mut limited);
    limited.sort_by(|a, b| by_ratio((b.usage, b.limit), (a.usage, a.limit)).then_with(|| a.path.cmp(&b.path)));
    let (boot_id, unread) = (host.now().boot, walk.unread);
    let containers = limited.iter().filter(|cgroup| cgroup.kind.is_container()).count();
    let why = (memcg.version == Version::V1).then_some("cgroup v1 does not have it");
    let psi = Psi { why, ..Psi::default() };
    let mut look = Look { probe, host, past, memcg, psi, unread, gone: 0 };
    let cgroups = look.closely(limited);
    let Look { psi, unread, gone, .. } = look;
    let told = |cgroup: &&Cgroup| cgroup.is_near(probe.near) || cgroup.is_pressed(probe.pressure);
    let told: Vec<&Cgroup> = cgroups.iter().filter(told).chain(worst(&cgroups)).collect();
    labels.learn(host, &told);
    let containers = containers.saturating_sub(gone);
    let has_past = past.counter_keys("").next().is_some();
    Ok(Observation { boot_id, cgroups, containers, ignored, has_past, psi, labels, unread })
}

/// The cgroup that has the largest part of its limit in use for good.
pub(super) fn worst(cgroups: &[Cgroup]) -> Option<&Cgroup> {
    let part = |cgroup: &Cgroup| cgroup.unreclaimable.map(|bytes| (bytes, cgroup.place.limit));
    let known = cgroups.iter().filter_map(|cgroup| Some((part(cgroup)?, cgroup)));
    // Of equals the first.
    known.reduce(|best, next| if by_ratio(next.0, best.0).is_gt() { next } else { best }).map(|(_, cgroup)| cgroup)
}

/// Takes out the pods that nobody wants to be told of; returns their names.
fn leave_out(probe: &CgroupHeadroom, host: &Host, labels: &Labels, limited: &mut Vec<Limited>) -> Vec<String> {
    if probe.ignore.is_empty() {
        return Vec::new();
    }
    let uids = limited.iter().filter_map(|cgroup| cgroup.kind.pod()).filter(|uid| labels.pod(*uid).is_none());
    let unnamed: BTreeMap<_, _> = uids.map(|uid| (uid, Vec::new())).collect();
    let names = Names::look(host, &unnamed);
    let mut ignored = Vec::new();
    limited.retain(|cgroup| {
        let name = cgroup.kind.pod().and_then(|uid| labels.pod(uid).or_else(|| names.pod(uid)));
        let Some(name) = name.filter(|name| probe.ignore.iter().any(|glob| glob.matches(name))) else { return true };
        ignored.push(name.to_string());
        false
    });
    ignored.sort();
    ignored.dedup();
    ignored
}

struct Look<'a> {
    probe: &'a CgroupHeadroom,
    host: &'a Host,
    past: &'a Past,
    memcg: Memcg,
    psi: Psi,
    unread: Unread,
    /// Containers that vanished meanwhile.
    gone: usize,
}

/// What to read of a cgroup.
#[derive(Clone, Copy)]
struct Wanted {
    stat: bool,
    hits: bool,
    psi: bool,
}

impl Look<'_> {
    /// Takes them by usage to limit, largest first: none can have more that is not reclaimable than it has in use.
    fn closely(&mut self, limited: Vec<Limited>) -> Vec<Cgroup> {
        let (near, counted) = (self.probe.near, self.probe.near.min(COUNTED_FROM));
        let mut best: Option<(u64, u64)> = None;
        let mut found = Vec::new();
        for place in limited {
            let (usage, limit) = (place.usage, place.limit);
            let over = |percent| reaches(usage, limit, percent);
            let could_be_worst = best.is_none_or(|best| by_ratio((usage, limit), best).is_gt());
            let asks_psi = self.memcg.version != Version::V1 && place.kind.is_container();
            let wanted = Wanted {
                stat: over(near) || could_be_worst,
                hits: over(counted),
                // Of one at least, to know whether there is such a thing.
                psi: asks_psi && (over(PSI_FROM) || self.psi.read + self.psi.missing == 0),
            };
            if !(wanted.stat || wanted.hits || wanted.psi) {
                continue;
            }
            let is_container = place.kind.is_container();
            let mut cgroup =
                Cgroup { place, inode: 0, unreclaimable: None, hits: None, was_counted: false, full60: None };
            if let Err(error) = self.measure(&mut cgroup, wanted) {
                if !self.unread.add(error) {
                    self.gone += usize::from(is_container);
                    continue;
                }
                self.psi.failed |= wanted.psi && cgroup.full60.is_none();
            }
            let part = cgroup.unreclaimable.map(|bytes| (bytes, limit));
            best = part.into_iter().chain(best).reduce(|a, b| if by_ratio(b, a).is_gt() { b } else { a });
            found.push(cgroup);
        }
        found
    }

    /// What was read before an error stays.
    fn measure(&mut self, cgroup: &mut Cgroup, wanted: Wanted) -> Result<(), Error> {
        let dir = self.host.dir(&format!("{}{}", self.memcg.point, cgroup.place.path))?;
        let usage = cgroup.place.usage;
        if wanted.stat {
            let read = if self.memcg.version == Version::V1 { MemoryStat::v1 } else { MemoryStat::v2 };
            let rest = parsed(&dir, "memory.stat", read)?.unreclaimable(usage);
            let lacks = || Error::Failed(format!("{}/memory.stat does not tell what can be reclaimed", dir.path()));
            cgroup.unreclaimable = Some(rest.ok_or_else(lacks)?);
        }
        // Where usage alone is near, page cache often is all there is to it.
        let is_cache =
            reaches(usage, cgroup.place.limit, self.probe.near) && !cgroup.is_near(self.probe.near.min(COUNTED_FROM));
        if wanted.hits && !is_cache {
            cgroup.inode = dir.node("")?.inode;
            cgroup.hits = Some(self.hits(&dir)?);
            cgroup.was_counted = self.past.counter(&cgroup.place.path, &self.host.now()).is_some();
        }
        if wanted.psi {
            cgroup.inode = dir.node("")?.inode;
            cgroup.full60 = self.full60(&dir)?;
        }
        Ok(())
    }

    /// How often its own limit was hit, not those of cgroups below it.
    fn hits(&self, dir: &Dir<'_>) -> Result<u64, Error> {
        if self.memcg.version == Version::V1 {
            return parsed(dir, "memory.failcnt", cgroup::number);
        }
        let events = match parsed(dir, "memory.events.local", cgroup::events) {
            // Before Linux 5.2; then hits below count too.
            Err(Error::Absent(_)) => parsed(dir, "memory.events", cgroup::events)?,
            events => events?,
        };
        events.max.ok_or_else(|| Error::Failed(format!("{}: its memory.events have no max", dir.path())))
    }

    /// `None` where the kernel does not tell.
    fn full60(&mut self, dir: &Dir<'_>) -> Result<Option<f64>, Error> {
        const FILE: &str = "memory.pressure";
        let path = format!("{}/{FILE}", dir.path());
        let bytes = match dir.read(FILE, LARGEST) {
            Ok(bytes) => bytes,
            Err(Error::Absent(_)) => {
                self.psi.is_missing("there is no memory.pressure");
                return Ok(None);
            }
            Err(error) if error == Error::from_errno(&path, Errno::EOPNOTSUPP) => {
                self.psi.is_missing("memory.pressure is switched off");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let pressure = cgroup::pressure(&bytes).map_err(|error| Error::Failed(format!("{path}: {error}")))?;
        match pressure.full {
            Some(_) => self.psi.read += 1,
            None => self.psi.is_missing("memory.pressure has no line 'full'"),
        }
        Ok(pressure.full.map(|full| full.avg60))
    }
}
