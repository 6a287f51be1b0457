//! The sentences.

use super::judge::{Case, Classes, Inversion, counts};
use super::{Broken, Duplicate, Holder, Life, Observation, Sandbox, Sandboxes, Seen};
use crate::history::Past;
use crate::host::clock::spoken;
use crate::host::{Moment, printable};
use crate::layout::tools;
use crate::probe::words::{short_id, shown, some_of};

/// So many names are told on line 1.
const FEW: usize = 3;
/// So many sandboxes of a class have a line.
const LINES: usize = 10;

/// A sandbox, and the database that it is in.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub database: &'a Seen,
    pub sandbox: &'a Sandbox,
}

impl Named<'_> {
    /// `default/web-0 attempt 1 (0bc50f8580500)`.
    fn full(&self) -> String {
        let sandbox = self.sandbox;
        format!("{} attempt {} ({})", sandbox.pod(), sandbox.attempt(), sandbox.short_id())
    }
}

fn names<'a>(all: impl Iterator<Item = Named<'a>>) -> String {
    some_of(&all.map(|named| named.full()).collect::<Vec<_>>(), FEW)
}

fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

pub(super) fn damaged(seen: &Seen, why: &str) -> String {
    format!(
        "containerd's database is damaged: {}: {}; containerd can't be relied on to start again",
        printable(&seen.path),
        printable(why)
    )
}

pub(super) fn duplicates(all: &[&Duplicate]) -> String {
    let text = |one: &&Duplicate| {
        let ids: Vec<String> = one.ids.iter().map(|(id, _)| shown(short_id(id))).collect();
        format!("{} ({})", one.what, some_of(&ids, 4))
    };
    let names: Vec<String> = all.iter().map(text).collect();
    format!("the next start of containerd will fail: two records with one name: {}", some_of(&names, FEW))
}

pub(super) fn broken(all: &[&Broken]) -> String {
    let text = |one: &&Broken| format!("{} ({}) {}", one.what, shown(short_id(&one.id)), one.why);
    let what = counted(all.len(), "record can't be loaded", "records can't be loaded");
    format!("{what}: {}", some_of(&all.iter().map(text).collect::<Vec<_>>(), FEW))
}

pub(super) fn inverted(all: &[Inversion<'_>]) -> String {
    let what = counted(all.len(), "pod may not get its next sandbox", "pods may not get their next sandboxes");
    format!("{what} (attempts in the wrong order): {}", names(all.iter().map(|one| one.newest)))
}

pub(super) fn stuck(all: &[Case<'_>]) -> String {
    let what = counted(all.len(), "sandbox creation is stuck", "sandbox creations are stuck");
    format!("{what}: {}", names(all.iter().map(|case| case.named)))
}

pub(super) fn oldest(case: &Case<'_>) -> String {
    format!("a sandbox creation has been stuck for {}: {}", spoken(case.age), case.named.full())
}

pub(super) fn stale(all: &[Case<'_>]) -> String {
    counted(all.len(), "sandbox died uncleanly and has no successor", "sandboxes died uncleanly and have no successors")
}

pub(super) fn stale_names(all: &[Case<'_>]) -> String {
    names(all.iter().map(|case| case.named))
}

pub(super) fn orphaned(all: &[Case<'_>]) -> String {
    let what = counted(all.len(), "dead sandbox is of a pod that is gone", "dead sandboxes are of pods that are gone");
    format!("{what}: {}", names(all.iter().map(|case| case.named)))
}

pub(super) fn netless(all: &[Named<'_>]) -> String {
    let what = counted(
        all.len(),
        "sandbox lives without its network namespace",
        "sandboxes live without their network namespaces",
    );
    format!("{what}: {}", names(all.iter().copied()))
}

pub(super) fn unrecorded(all: &[(String, String)]) -> String {
    let what = counted(
        all.len(),
        "container runs without a record: containerd does not know it",
        "containers run without records: containerd does not know them",
    );
    let names: Vec<String> = all.iter().map(|(id, pod)| format!("{pod} ({})", shown(short_id(id)))).collect();
    format!("{what}: {}", some_of(&names, FEW))
}

/// A line for each sandbox that is told of, and after those of a class what to do.
pub(super) fn lines(
    seen: &Observation,
    classes: &Classes<'_>,
    past: &Past,
    probe: &Sandboxes,
    now: &Moment,
) -> Vec<String> {
    let mut lines = Lines { all: Vec::new(), many: seen.databases.len() > 1 };
    for one in seen.databases.iter().filter(|one| one.read.is_err()) {
        let stop = match one.holder {
            Holder::Nobody => "keep containerd from starting (with a damaged file it may take all memory)",
            _ => "drain the node while containerd still runs, and stop it",
        };
        lines.all.push(format!(
            "to mend it: {stop}; move the file away (and keep it); reboot, so that no pod of before runs on unknown; containerd \
             makes pods and images anew"
        ));
    }
    for (database, contents) in seen.contents() {
        let duplicates =
            contents.duplicates.iter().map(|one| Line { database, text: duplicate(one), target: spare(one) });
        let is_down = database.holder == Holder::Nobody;
        lines.class(duplicates, |tools, id| match is_down {
            false => format!("to mend it before containerd is restarted: {} -n k8s.io containers rm {id}", tools.0),
            true => format!(
                "to mend it: put io.containerd.grpc.v1.cri into disabled_plugins of containerd's config.toml, start containerd, \
                 {} -n k8s.io containers rm {id}, take it out again and restart containerd",
                tools.0
            ),
        });
        let broken = contents.broken.iter().filter(|broken| counts(broken, probe, past, now)).map(|one| {
            let lives = match one.lives {
                Some(true) => ", and has a process",
                Some(false) => ", and has no process",
                None => "",
            };
            let text = format!("{} ({}) {}{lives}: {}", one.what, shown(short_id(&one.id)), one.why, one.then);
            (one, Line { database, text, target: id_of(&one.id) })
        });
        let (living, dead): (Vec<_>, Vec<_>) = broken.partition(|(one, _)| one.lives != Some(false));
        lines.class(living.into_iter().map(|(_, line)| line), |tools, id| {
            format!(
                "to mend it: delete the pod; what is left of it then ends by {} -n k8s.io tasks kill -s KILL {id}",
                tools.0
            )
        });
        let (of_api, dead): (Vec<_>, Vec<_>) = dead.into_iter().partition(|(one, _)| one.is_of_api);
        lines.class(of_api.into_iter().map(|(_, line)| line), |tools, id| {
            format!("to mend it: {} -n k8s.io sandboxes rm {id}", tools.0)
        });
        lines.class(dead.into_iter().map(|(_, line)| line), |tools, id| {
            format!("to mend it: {} -n k8s.io containers rm {id}", tools.0)
        });
    }
    let inversions = classes.inverted.iter().chain(&classes.inverted_live);
    let inversions =
        inversions.map(|one| Line { database: one.newest.database, text: inversion(one), target: one.spare() });
    lines.class(inversions, |tools, id| format!("to mend it: {} rmp -f {id}; and see to the node's clock", tools.1));
    let stuck = classes.stuck.iter().map(|case| {
        let ids: Option<Vec<String>> = case.former.iter().copied().chain([case.named.sandbox]).map(short).collect();
        let target = ids.map(|ids| ids.join(" "));
        Line { target, ..Line::of(case.named, in_the_making(case)) }
    });
    let is_down = seen.databases.iter().all(|one| one.holder == Holder::Nobody);
    lines.class(stuck, |tools, id| match (is_down, tools.1) {
        (true, crictl) => format!("to mend it: start containerd, then {crictl} rmp -f {id}"),
        (false, crictl) => format!(
            "to mend it: mend the network first (the CNI plugin: RunPodSandbox in containerd's log; or a disk, or the pause \
             image); then {crictl} rmp -f {id} for those that {crictl} pods shows; others are being made, and a restart of \
             containerd ends them"
        ),
    });
    lines.class(classes.stale.iter().map(|case| Line::of(case.named, died(case))), |_, _| {
        "to mend it: see whether the kubelet works and what it says of the pod; it makes the next sandbox, whose name is free, \
         so remove nothing; a pod that must not start again (a Job's) stays so until it is deleted"
            .to_owned()
    });
    lines.class(classes.orphaned.iter().map(|case| Line::of(case.named, orphan(case))), |tools, id| {
        let crictl = tools.1;
        format!(
            "to mend it: {crictl} stopp {id} and {crictl} rmp {id}; the error that they give, of the CNI plugin mostly, is what \
             keeps the kubelet from it"
        )
    });
    lines.class(classes.netless.iter().map(|named| Line::of(*named, without_network(named))), |_, _| {
        "to mend it: delete the pod; nothing gives this one a network again".to_owned()
    });
    if seen.unrecorded.as_ref().is_some_and(|all| !all.is_empty()) {
        lines.all.push(
            "to mend it: drain the node and reboot it; nothing ends such a container but its process, and the kubelet starts its \
             pod a second time"
                .to_owned(),
        );
    }
    if seen.contents().any(|(_, contents)| contents.sees_no_netns) {
        lines.all.push("whether network namespaces are there is not known: none of a live sandbox is seen".to_owned());
    }
    lines.all.extend(seen.databases.iter().map(database));
    let left = seen.left.iter().map(|path| printable(path));
    lines.all.extend(
        left.map(|path| format!("not judged: {path}; nobody has it open, and containerd runs with another one")),
    );
    lines.all
}

struct Line<'a> {
    database: &'a Seen,
    text: String,
    /// The id that the remedy is for.
    target: Option<String>,
}

fn short(sandbox: &Sandbox) -> Option<String> {
    id_of(&sandbox.id.to_string()).map(|id| short_id(&id).to_owned())
}

/// An id for a command: nothing but what containerd makes.
fn id_of(id: &str) -> Option<String> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    (id.len() == 64 && id.bytes().all(is_digit)).then(|| id.to_owned())
}

impl<'a> Line<'a> {
    fn of(named: Named<'a>, text: String) -> Line<'a> {
        Line { database: named.database, text, target: short(named.sandbox) }
    }
}

struct Lines {
    all: Vec<String>,
    /// Whether there is more than one database.
    many: bool,
}

impl Lines {
    fn class<'a>(&mut self, members: impl Iterator<Item = Line<'a>>, remedy: impl Fn((&str, &str), &str) -> String) {
        let (mut count, mut of, mut target) = (0, None, None);
        for line in members {
            count += 1;
            of = of.or(line.database.of);
            // Of several each has its own.
            target = if count == 1 { line.target } else { None };
            if count <= LINES {
                let text = line.text;
                let root = printable(&line.database.root);
                self.all.push(if self.many { format!("{text} [{root}]") } else { text });
            }
        }
        if count > LINES {
            self.all.push(format!("and {} more", count - LINES));
        }
        if count > 0 {
            self.all.push(remedy(tools(of.unwrap_or_default()), target.as_deref().unwrap_or("ID")));
        }
    }
}

/// The record to be removed: the one that lives stays.
fn spare(one: &Duplicate) -> Option<String> {
    let mut dead = one.ids.iter().filter(|(_, lives)| *lives == Some(false));
    match (one.ids.len(), dead.next_back()) {
        (2, Some((id, _))) => id_of(id),
        _ => None,
    }
}

impl Inversion<'_> {
    /// The sandbox to be removed: none that lives.
    fn spare(&self) -> Option<String> {
        let dead = [&self.newest, &self.highest].into_iter().find(|named| matches!(named.sandbox.life, Life::Dead(_)));
        short(dead?.sandbox)
    }
}

fn duplicate(one: &Duplicate) -> String {
    let kind = if one.is_of_sandboxes { "sandbox" } else { "container" };
    let ids: Vec<String> = one
        .ids
        .iter()
        .map(|(id, lives)| match lives {
            Some(true) => format!("{} lives", shown(id)),
            Some(false) => format!("{} is dead", shown(id)),
            None => shown(id),
        })
        .collect();
    format!("{kind} {}: {}", one.what, some_of(&ids, LINES))
}

fn inversion(one: &Inversion<'_>) -> String {
    let Inversion { newest, highest, is_next_taken } = one;
    let live = |named: &Named<'_>| if matches!(named.sandbox.life, Life::Live { .. }) { "live" } else { "dead" };
    let sandbox = highest.sandbox;
    format!(
        "{}, {}, was made after attempt {} ({}), {}, by the clock: a kubelet before 1.35 asks for attempt {} next, {}",
        newest.full(),
        live(newest),
        sandbox.attempt(),
        sandbox.short_id(),
        live(highest),
        newest.sandbox.attempt().saturating_add(1),
        if *is_next_taken {
            "whose name is taken".to_owned()
        } else {
            format!("and comes to {}, whose name is taken", sandbox.attempt())
        }
    )
}

fn in_the_making(case: &Case<'_>) -> String {
    let what = if case.named.sandbox.is_only_begun { "has not started" } else { "has no network" };
    let former: Vec<String> =
        case.former.iter().map(|one| format!("attempt {} ({})", one.attempt(), one.short_id())).collect();
    let former = if former.is_empty() { String::new() } else { format!("; so do {}", some_of(&former, LINES)) };
    format!(
        "{} {what} after {}: it {} the name {}{former}",
        case.named.full(),
        spoken(case.age),
        if case.named.sandbox.is_only_begun { "may hold" } else { "holds" },
        shown(case.named.sandbox.metadata.name())
    )
}

fn died(case: &Case<'_>) -> String {
    let Life::Dead(dead) = &case.named.sandbox.life else { return String::new() };
    let names: Vec<String> = dead.unclean.iter().map(|name| shown(name)).collect();
    let what = match names.is_empty() {
        true => "has no process".to_owned(),
        false => format!("has no process, and nobody saw the end of {}", some_of(&names, FEW)),
    };
    format!("{} {what}{}", case.named.full(), made(case.named.sandbox))
}

fn orphan(case: &Case<'_>) -> String {
    format!("{} is dead, and the kubelet has no directory of its pod{}", case.named.full(), made(case.named.sandbox))
}

fn without_network(named: &Named<'_>) -> String {
    format!("{} lives, and its network namespace is not mounted any more{}", named.full(), made(named.sandbox))
}

fn made(sandbox: &Sandbox) -> String {
    sandbox.created.map_or_else(String::new, |created| format!("; made {created:.0} by its clock"))
}

/// Which database, and who has it open.
fn database(seen: &Seen) -> String {
    let schema = seen.read.as_ref().map_or_else(|_| String::new(), |contents| format!(", schema {}", contents.schema));
    let holder = match &seen.holder {
        Holder::Process(process) => format!(", open in process {process}"),
        Holder::Nobody => ", open in no process: containerd does not run".to_owned(),
        Holder::Unknown => String::new(),
    };
    // Where containerd has it by itself it is nobody's in particular.
    let of = seen.of.filter(|of| *of != "kubeadm").map_or_else(String::new, |of| format!(" ({of})"));
    format!("database: {}{of}{schema}{holder}", printable(&seen.path))
}
