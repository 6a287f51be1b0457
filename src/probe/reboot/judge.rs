//! What to think of what was seen: sentences and numbers for the operator.

use std::time::Duration;

use jiff::Timestamp;

use super::age::{self, FlagAge, ImageAge, LOOKED_KERNELS, Sight, Since};
use super::flags::Flag;
use super::kernels::Kernels;
use super::place::Run;
use super::{Comparison, GATE, NEWER_KERNEL, Observation, PENDING, PENDING_AGE, PKGS, RebootRequired, UPTIME, shown};
use crate::history::Past;
use crate::host::Moment;
use crate::host::clock::spoken;
use crate::status::Status;
use crate::verdict::{Assessment, Finding, Metric};

/// One reason for a reboot.
pub(super) struct Cause {
    pub since: Since,
    /// Its name on line 1; a flag is named by its packages.
    pub name: Option<String>,
    /// What it is, for the long text.
    pub what: String,
    /// A livepatch may stand in for it.
    pub kernel_only: bool,
}

/// One assessment in the making.
pub(super) struct Judge<'a> {
    pub probe: &'a RebootRequired,
    pub seen: &'a Observation,
    pub past: &'a Past,
    pub now: &'a Moment,
    pub boot: Option<Timestamp>,
    pub causes: Vec<Cause>,
    pub stale: Vec<&'a str>,
    pub findings: Vec<Finding>,
    /// Ages that may well be larger than they look.
    pub unproven: Vec<String>,
    /// Something that could not be read may hide a reason.
    pub blind: bool,
}

pub(super) fn assess(probe: &RebootRequired, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
    let boot = now.boot_time().or(seen.btime);
    let (causes, stale, findings, unproven) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut judge = Judge { probe, seen, past, now, boot, causes, stale, findings, unproven, blind: false };
    judge.judge_flags();
    judge.judge_kernels();
    judge.causes.sort_by_key(|cause| std::cmp::Reverse(cause.since.age));
    judge.conclude()
}

/// `2026-11-19 03:20 UTC`
pub(super) fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Whether a package is a part of the kernel: those that Debian, Ubuntu, Proxmox, SUSE and RHEL have.
fn of_kernel(package: &str) -> bool {
    ["linux-", "kernel", "proxmox-kernel", "pve-kernel"].iter().any(|prefix| package.starts_with(prefix))
}

impl<'a> Judge<'a> {
    fn say(&mut self, status: Status, text: impl Into<String>) {
        self.findings.push(Finding::new(status, text));
    }

    fn unread(&mut self, text: impl Into<String>) {
        self.blind = true;
        self.say(Status::Unknown, text);
    }

    fn cause(&mut self, since: Since, name: Option<String>, what: impl Into<String>, kernel_only: bool) {
        self.causes.push(Cause { since, name, what: what.into(), kernel_only });
    }

    /// Whether the kernels could have told of a reboot.
    fn compares(&self) -> bool {
        match &self.seen.kernels {
            Comparison::Off | Comparison::Foreign(_) => false,
            Comparison::Impossible => true,
            Comparison::Done(kernels) => kernels.compared || !kernels.unread.is_empty(),
        }
    }

    fn judge_flags(&mut self) {
        if let Some(error) = &self.seen.place.unread {
            self.unread(error.to_string());
        }
        let missing = matches!(self.seen.place.run, Run::Missing);
        let looked = self.probe.flags.iter().any(|path| !missing || !path.starts_with("/run/"));
        if !looked && !self.compares() {
            let no_flags = if missing { "there is no /run" } else { "no flag is configured" };
            self.unread(format!("nothing to judge by: {no_flags}, and no kernels were compared"));
        }
        let volatile = match &self.seen.place.run {
            Run::Own { volatile } => *volatile,
            Run::Missing => {
                if self.compares() {
                    self.say(Status::Ok, "there is no /run: only the kernels were compared");
                }
                false
            }
            Run::Foreign(fstype) => {
                return self
                    .unread(format!("/run is not the node's (it lies on {fstype}): give the node's root with --root"));
            }
            Run::Unread(error) => {
                let error = error.to_string();
                return self.unread(error);
            }
        };
        for error in &self.seen.flags.unread {
            self.unread(error.to_string());
        }
        for flag in &self.seen.flags.found {
            self.judge_flag(flag, volatile);
        }
        for remark in &self.seen.flags.remarks {
            self.say(Status::Ok, remark);
        }
    }

    fn judge_flag(&mut self, flag: &'a Flag, volatile: bool) {
        let path = shown(&flag.path);
        let mut since = match age::of_flag(flag, self.past, self.now, self.boot, volatile) {
            FlagAge::Stale(at) => {
                self.stale.push(&flag.path);
                let text = format!(
                    "stale flag {path}: of {}, older than this boot, which did not remove it; remove it, or kured reboots for it",
                    minute(at)
                );
                return self.say(Status::Ok, text);
            }
            FlagAge::Pending(since) => since,
        };
        if let (false, Some(reason)) = (since.proven, &self.past.not_kept) {
            self.unproven.push(format!(
                "the age of {path} is not known: a touch resets its mtime, it has no birth time, and no earlier look \
                 is on record ({reason}); give a state directory that can be written (--state-dir)"
            ));
        }
        let touched = flag.modified.filter(|modified| *modified > since.at);
        if let (true, Some(modified)) = (since.source.starts_with("first seen"), touched) {
            since.source.push_str(&format!("; touched again {}", minute(modified)));
        }
        let kernel_only = !flag.packages.is_empty() && flag.packages.iter().all(|package| of_kernel(package));
        self.cause(since, None, path, kernel_only);
    }

    fn judge_kernels(&mut self) {
        match &self.seen.kernels {
            Comparison::Off => {}
            Comparison::Foreign(sign) => self.say(
                Status::Ok,
                format!("the kernel is the host's, so none was compared: this node is a container ({sign})"),
            ),
            Comparison::Impossible => {
                if let Err(error) = &self.seen.running {
                    self.unread(format!("which kernel runs is not known: {error}"));
                }
            }
            Comparison::Done(kernels) => self.judge_comparison(kernels),
        }
    }

    fn judge_comparison(&mut self, kernels: &Kernels) {
        for error in &kernels.unread {
            self.unread(error.to_string());
        }
        for (path, size) in &kernels.broken {
            let what = if *size == 0 { "is empty".to_owned() } else { format!("has no more than {size} bytes") };
            let text = format!("{path} {what}: its installation did not end (is /boot full?), and booting it fails");
            self.say(Status::Warning, text);
        }
        self.judge_newer(kernels);
        self.judge_rebuilt(kernels);
        if let Some(changed) = kernels.modules_gone {
            let sight = Sight::of(self.past, "reason modules", LOOKED_KERNELS, self.now);
            let seen = sight.map(|sight| Since::first_seen(sight.first, self.now));
            let source = "last change of /lib/modules";
            let changed = changed.and_then(|at| age::dated(at, source, sight.as_ref(), self.now, self.boot));
            if let Some(since) = age::earliest(changed.into_iter().chain(seen)) {
                let what = "the running kernel's modules are gone";
                self.cause(since, Some(what.to_owned()), what, false);
            }
            let text = format!("modules of the running {} are gone: no driver can be loaded", kernels.running.text());
            self.say(Status::Warning, text);
        }
        if let Some(kernel) = &kernels.generation {
            let note = age::note_of_boot(self.past, "generation", self.now);
            let since = note.map(|note| Since::first_seen(&note.first, self.now));
            let since = since.unwrap_or_else(|| Since::time(self.now.wall, self.now, "now"));
            if let (false, Some(reason)) = (since.proven, &self.past.not_kept) {
                let text = format!("since when the system's generation is another one is not known: {reason}");
                self.unproven.push(text);
            }
            let what = format!("/run/current-system has {kernel}, which is not what was booted");
            self.cause(since, Some(kernel.clone()), what, true);
        }
        for remark in &kernels.remarks {
            self.say(Status::Ok, remark);
        }
    }

    /// Kernels that came in this boot are pending. One that was there before it is not: the boot loader passed it over,
    /// and a reboot would do so again.
    fn judge_newer(&mut self, kernels: &Kernels) {
        let (mut passed, mut came) = (Vec::new(), Vec::new());
        for image in kernels.newer() {
            let key = format!("kernel {}", image.release.text());
            match age::of_image(image, &key, self.past, self.now, self.boot) {
                ImageAge::PassedOver(since) => passed.push((image, since)),
                ImageAge::Pending(since) => came.push((image, since)),
            }
        }
        for (image, since) in &passed {
            let text = format!(
                "the newer {} was there before this boot ({}, {}) and was not booted: a reboot alone does not bring it",
                image.release.text(),
                minute(since.at),
                since.source
            );
            self.say(Status::Ok, text);
        }
        let Some((newest, _)) = came.last() else {
            return kernels.next.doubt.iter().for_each(|doubt| self.say(Status::Ok, doubt));
        };
        if let Some(doubt) = &kernels.next.doubt {
            return self.unread(format!("whether {} is booted next is not known: {doubt}", newest.release.text()));
        }
        let name = format!("kernel {}", newest.release.text());
        let proven = came.iter().any(|(_, since)| since.proven);
        if let (false, Some(reason)) = (proven, &self.past.not_kept) {
            self.unproven.push(format!("when the {name} was installed is not known: {reason}"));
        }
        // An update may have removed the first newer kernel again; the note tells of it.
        let note = age::note_of_boot(self.past, "reason kernel", self.now).filter(|_| passed.is_empty());
        let first = note.map(|note| Since::first_seen(&note.first, self.now));
        if let Some(since) = age::earliest(came.iter().map(|(_, since)| since.clone()).chain(first)) {
            self.cause(since, Some(name.clone()), name, true);
        }
    }

    fn judge_rebuilt(&mut self, kernels: &Kernels) {
        let Some(rebuilt) = &kernels.rebuilt else { return };
        let path = shown(&rebuilt.path);
        let Some(image) = kernels.find(&kernels.running) else { return };
        let what = format!("{path} is another build, {}", shown(&rebuilt.build));
        let key = format!("rebuilt {}", rebuilt.path);
        let since = match age::of_image(image, &key, self.past, self.now, self.boot) {
            ImageAge::Pending(since) => since,
            ImageAge::PassedOver(_) => {
                return self.say(Status::Ok, format!("{what}; it was there before this boot and was not booted"));
            }
        };
        self.cause(since, Some(format!("another build of {}", kernels.running.text())), what, true);
    }

    fn conclude(mut self) -> Assessment {
        let suffices = self.probe.livepatch_suffices
            && !self.seen.livepatches.is_empty()
            && self.causes.iter().all(|cause| cause.kernel_only);
        let pending = !self.causes.is_empty() && !suffices;
        // One reason whose age is proven is enough to judge by.
        let proven = self.causes.iter().any(|cause| cause.since.proven);
        for text in std::mem::take(&mut self.unproven) {
            self.say(if proven { Status::Ok } else { Status::Unknown }, text);
        }
        let age = self.causes.first().filter(|_| pending).map_or(Duration::ZERO, |cause| cause.since.age);
        let pkgs = self.seen.flags.packages_of(|flag| !self.stale.contains(&flag.path.as_str()));
        if pending {
            self.judge_kured(age);
        }
        let summary = match self.causes.first() {
            Some(cause) if pending => {
                let at_least = if cause.since.proven || self.past.not_kept.is_none() { "" } else { "at least " };
                format!("reboot pending for {at_least}{}", spoken(age))
            }
            _ if self.blind => "can't tell whether a reboot is pending".to_owned(),
            _ => "no reboot pending".to_owned(),
        };
        let detail = self.detail(pending, &pkgs);
        let mut findings = std::mem::take(&mut self.findings);
        findings.splice(0..0, self.facts(pending, suffices, &pkgs).into_iter().map(Finding::fact));
        Assessment {
            summary,
            detail,
            findings,
            metrics: self.metrics(pending, age, pkgs.len()),
            ..Assessment::default()
        }
    }

    fn judge_kured(&mut self, age: Duration) {
        let path = shown(&self.probe.kured_sentinel);
        match &self.seen.sentinel {
            Some(Ok(false)) if age > self.probe.kured_grace => {
                self.say(Status::Warning, format!("a reboot is pending and kured cannot see it: {path} is missing"));
            }
            Some(Ok(false)) => self.say(Status::Ok, format!("kured does not see it yet: {path} is missing")),
            Some(Ok(true)) => self.say(Status::Ok, format!("kured sees {path}")),
            Some(Err(error)) => self.say(Status::Unknown, format!("whether kured sees it is not known: {error}")),
            None => {}
        }
        if self.seen.gate {
            self.say(Status::Ok, format!("{GATE} is there: the gate is open, and nothing rebooted the node so far"));
        }
    }

    /// What could not be measured has no number.
    fn metrics(&self, pending: bool, age: Duration, pkgs: usize) -> Vec<Metric> {
        let mut metrics = Vec::new();
        let yes = |holds: bool| f64::from(u8::from(holds));
        if pending || !self.blind {
            metrics.push(PENDING.value(yes(pending)));
            metrics.push(PENDING_AGE.value(age.as_secs() as f64));
        }
        if self.seen.flags.packages_known && self.seen.flags.unread.is_empty() && !self.seen.place.run.hides_flags() {
            metrics.push(PKGS.value(pkgs as f64));
        }
        if let Comparison::Done(kernels) = &self.seen.kernels
            && kernels.unread.is_empty()
        {
            let newer = kernels.newest().is_some_and(|newest| newest.release.newer_than(&kernels.running));
            metrics.push(NEWER_KERNEL.value(yes(newer)));
        }
        if let Some(boot) = self.boot {
            let uptime = self.now.uptime.map_or_else(|| self.now.since_wall(boot).as_secs() as f64, f64::floor);
            metrics.push(UPTIME.value(uptime));
        }
        metrics
    }
}
