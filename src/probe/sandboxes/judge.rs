//! What will happen to each sandbox, hence what must be told of it.

use std::collections::HashSet;
use std::time::Duration;

use super::text::{self, Named};
use super::{
    BROKE, BROKEN, Broken, DEAD, DUPLICATES, Dead, GONE, Holder, INVERTED, INVERTED_LIVE, LIVE, Life, NETLESS,
    ORPHANED, Observation, RESERVED, SANDBOXES, SCAN_TIME, STALE, STUCK, STUCK_AGE, SUPERSEDED, Sandbox, Sandboxes,
    Seen, TRIES, UNRECORDED,
};
use jiff::Timestamp;

use crate::history::{Note, Past};
use crate::host::Moment;
use crate::status::Status;
use crate::verdict::{Assessment, Finding, Metric};

/// A sandbox with how long it has been as it is.
pub(super) struct Case<'a> {
    pub named: Named<'a>,
    pub age: Duration,
    /// Former attempts of a creation that is stuck: they hold their names, too.
    pub former: Vec<&'a Sandbox>,
}

/// A pod whose newest sandbox by the clock has not the highest attempt.
pub(super) struct Inversion<'a> {
    pub newest: Named<'a>,
    pub highest: Named<'a>,
    /// Whether there is a sandbox of the attempt after the newest.
    pub is_next_taken: bool,
}

/// The sandboxes, sorted by what will happen to them.
#[derive(Default)]
pub(super) struct Classes<'a> {
    pub stuck: Vec<Case<'a>>,
    pub stale: Vec<Case<'a>>,
    pub orphaned: Vec<Case<'a>>,
    pub inverted: Vec<Inversion<'a>>,
    pub inverted_live: Vec<Inversion<'a>>,
    pub netless: Vec<Named<'a>>,
    /// Creations that did not end, of pods that have a later one.
    former: Vec<&'a Sandbox>,
    live: usize,
    superseded: usize,
}

pub(super) fn assess(probe: &Sandboxes, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
    let classes = Classes::of(probe, seen, past, now);
    let mut findings: Vec<Finding> = Vec::new();
    for one in &seen.databases {
        if let Err(why) = &one.read {
            findings.push(Finding::new(Status::Critical, text::damaged(one, why)));
        }
    }
    let unknown = seen.troubles.iter().map(|error| error.to_string());
    let blind = seen.blind.iter().map(|why| format!("which sandboxes live is not known: {why}"));
    findings.extend(unknown.chain(blind).map(|why| Finding::new(Status::Unknown, why)));
    findings.extend(text::lines(seen, &classes, past, probe, now).into_iter().map(Finding::fact));
    let metrics = metrics(seen, &classes, past, probe, now);
    let on_record = summary(seen, &classes);
    // The main metric's sentence is line 1's own.
    let (summary, detail) = match classes.stale.is_empty() {
        true => (on_record, String::new()),
        false => (text::stale(&classes.stale), text::stale_names(&classes.stale) + down(seen)),
    };
    Assessment { summary, detail, findings, metrics, ..Assessment::default() }
}

fn summary(seen: &Observation, classes: &Classes<'_>) -> String {
    let count = seen.sandboxes().count();
    let mut text = match count {
        1 => "1 sandbox on record".to_owned(),
        count => format!("{count} sandboxes on record"),
    };
    if seen.contents().next().is_none() {
        text = "no sandbox can be read".to_owned();
    } else if seen.blind.is_none() && count > 0 {
        text.push_str(&match classes.live {
            live if live == count => ", all live".to_owned(),
            live => format!(", {live} live"),
        });
        if classes.superseded > 0 {
            text.push_str(&format!(", {} superseded", classes.superseded));
        }
        let told = [classes.stuck.len(), classes.former.len(), classes.stale.len(), classes.orphaned.len()];
        let others = count.saturating_sub(classes.live + classes.superseded + told.iter().sum::<usize>());
        if others > 0 && classes.live + classes.superseded > 0 {
            text.push_str(&format!(", {others} ended"));
        }
    }
    text + down(seen)
}

/// What matters most at night.
fn down(seen: &Observation) -> &'static str {
    let is_down = seen.databases.iter().all(|one| one.holder == Holder::Nobody) && !seen.databases.is_empty();
    if is_down { "; containerd does not run" } else { "" }
}

impl<'a> Classes<'a> {
    fn of(probe: &Sandboxes, seen: &'a Observation, past: &Past, now: &Moment) -> Classes<'a> {
        let mut classes = Classes::default();
        for (database, contents) in seen.contents() {
            let mut listed: Vec<&Sandbox> = Vec::new();
            for sandbox in &contents.sandboxes {
                let named = Named { database, sandbox };
                match &sandbox.life {
                    Life::Live { netless } => {
                        classes.live += 1;
                        classes.netless.extend((*netless && !sandbox.ignored).then_some(named));
                    }
                    Life::Dead(dead) if dead.is_superseded => classes.superseded += 1,
                    Life::Dead(dead) if !sandbox.ignored => classes.sort(named, dead, probe.grace, seen, past, now),
                    Life::Dead(_) | Life::Unknown => {}
                }
                // One that is only begun is in no list of containerd's after a restart.
                let is_listed = !sandbox.is_only_begun || matches!(sandbox.life, Life::Live { .. });
                if is_listed && !sandbox.uid().is_empty() && !sandbox.ignored {
                    listed.push(sandbox);
                }
            }
            listed.sort_by_key(|sandbox| sandbox.uid());
            for sandboxes in listed.chunk_by(|one, other| one.uid() == other.uid()) {
                classes.invert(database, sandboxes);
            }
        }
        for case in &mut classes.stuck {
            let uid = case.named.sandbox.uid();
            case.former =
                classes.former.iter().copied().filter(|former| !uid.is_empty() && former.uid() == uid).collect();
        }
        // The name of their successors is not free, and what frees it is told there.
        let inverted: HashSet<&str> = classes.inverted.iter().map(|one| one.newest.sandbox.uid()).collect();
        classes.stale.retain(|case| !inverted.contains(case.named.sandbox.uid()));
        classes
    }

    fn sort(&mut self, named: Named<'a>, dead: &Dead, grace: Duration, seen: &Observation, past: &Past, now: &Moment) {
        let age = dead_for(named.sandbox, past, now);
        if age <= grace {
            return;
        }
        let case = Case { named, age, former: Vec::new() };
        if dead.is_unfinished && dead.is_former {
            self.former.push(named.sandbox);
        } else if dead.is_unfinished {
            self.stuck.push(case);
        } else if dead.is_orphan {
            let gone = past.note(&format!("{GONE}{}", case.named.sandbox.id)).map(|note| now.since(&note.first));
            if gone.max(seen.quiet).is_some_and(|gone| gone > grace) {
                self.orphaned.push(case);
            }
        } else if !dead.unclean.is_empty() {
            self.stale.push(case);
        }
    }

    fn invert(&mut self, database: &'a Seen, sandboxes: &[&'a Sandbox]) {
        let newest =
            sandboxes.iter().filter(|one| one.created.is_some()).max_by_key(|one| (one.created, one.attempt()));
        let highest = sandboxes.iter().max_by_key(|one| one.attempt());
        let (Some(newest), Some(highest)) = (newest, highest) else { return };
        if highest.created.is_none() || newest.attempt() >= highest.attempt() {
            return;
        }
        let named = |sandbox: &&'a Sandbox| Named { database, sandbox };
        let is_next_taken = sandboxes.iter().any(|one| Some(one.attempt()) == newest.attempt().checked_add(1));
        let inversion = Inversion { newest: named(newest), highest: named(highest), is_next_taken };
        match newest.life {
            Life::Live { .. } => self.inverted_live.push(inversion),
            // A pod that has done its work needs no further sandbox, as a rule.
            Life::Dead(_) if matches!(&highest.life, Life::Dead(dead) if dead.is_done) => {
                self.inverted_live.push(inversion)
            }
            Life::Dead(_) => self.inverted.push(inversion),
            Life::Unknown => {}
        }
    }
}

/// How long a sandbox has been dead, or in the making, at least as far as that is known.
pub(super) fn dead_for(sandbox: &Sandbox, past: &Past, now: &Moment) -> Duration {
    so_for(past.note(&format!("{DEAD}{}", sandbox.id)), sandbox.created, now)
}

/// Its own time stamp is only an upper bound, which earlier looks and the boot make smaller: clocks move.
fn so_for(note: Option<&Note>, created: Option<Timestamp>, now: &Moment) -> Duration {
    let by_clock = created.map_or(Duration::MAX, |created| now.since_wall(created));
    let most = note.and_then(|note| note.missed.as_ref()).map_or(by_clock, |missed| by_clock.min(now.since(missed)));
    let least = note.map_or(Duration::ZERO, |note| now.since(&note.first));
    let uptime = now.uptime.and_then(|uptime| Duration::try_from_secs_f64(uptime).ok());
    most.max(least).min(uptime.unwrap_or(Duration::MAX))
}

/// Whether a broken record is so for longer than it takes to make one.
pub(super) fn counts(broken: &Broken, probe: &Sandboxes, past: &Past, now: &Moment) -> bool {
    let age = || so_for(past.note(&format!("{BROKE}{}", broken.id)), broken.created, now);
    !broken.has_grace || age() > probe.grace
}

/// What can't be told has no number.
fn metrics(seen: &Observation, classes: &Classes<'_>, past: &Past, probe: &Sandboxes, now: &Moment) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    let count = |count: usize| count as f64;
    let knows_life = seen.blind.is_none();
    if seen.contents().next().is_some() {
        let duplicates: Vec<_> = seen.contents().flat_map(|(_, contents)| &contents.duplicates).collect();
        metrics.push(DUPLICATES.value(count(duplicates.len())).said(text::duplicates(&duplicates)));
        let broken: Vec<_> = seen.contents().flat_map(|(_, contents)| &contents.broken).collect();
        let broken: Vec<_> = broken.into_iter().filter(|broken| counts(broken, probe, past, now)).collect();
        metrics.push(BROKEN.value(count(broken.len())).said(text::broken(&broken)));
        if knows_life {
            metrics.push(INVERTED.value(count(classes.inverted.len())).said(text::inverted(&classes.inverted)));
            metrics.push(STUCK.value(count(classes.stuck.len())).said(text::stuck(&classes.stuck)));
            let oldest = classes.stuck.iter().max_by_key(|case| case.age);
            let age = oldest.map_or(0.0, |case| case.age.as_secs() as f64);
            metrics.push(STUCK_AGE.value(age).said(oldest.map(text::oldest).unwrap_or_default()));
            let inverted = &classes.inverted_live;
            metrics.push(INVERTED_LIVE.value(count(inverted.len())).said(text::inverted(inverted)));
            metrics.push(STALE.value(count(classes.stale.len())));
            metrics.push(ORPHANED.value(count(classes.orphaned.len())).said(text::orphaned(&classes.orphaned)));
            if seen.contents().all(|(_, contents)| !contents.sees_no_netns) {
                metrics.push(NETLESS.value(count(classes.netless.len())).said(text::netless(&classes.netless)));
            }
            let unrecorded = seen.unrecorded.iter();
            metrics.extend(unrecorded.map(|all| UNRECORDED.value(count(all.len())).said(text::unrecorded(all))));
        }
        // Where something is missing there may be more.
        metrics.retain(|metric| metric.value > 0.0 || seen.is_whole());
        metrics.push(SANDBOXES.value(count(seen.sandboxes().count())));
        if knows_life {
            metrics.push(LIVE.value(count(classes.live)));
            metrics.push(SUPERSEDED.value(count(classes.superseded)));
        }
        metrics.push(RESERVED.value(count(seen.contents().map(|(_, contents)| contents.reserved).sum())));
    }
    // A replay needs one, and takes as long as it takes.
    let tries = seen.databases.iter().map(|one| one.tries).max().filter(|_| seen.took.is_some());
    metrics.extend(tries.map(|tries| TRIES.value(f64::from(tries))));
    metrics.extend(seen.took.map(|took| SCAN_TIME.value((took.as_secs_f64() * 1e4).round() / 1e4)));
    metrics
}
