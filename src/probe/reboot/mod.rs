//! Whether this node waits for a reboot, since when, and for what.
//!
//! Two kinds of evidence: a flag that package hooks leave in `/run` (Debian policy 9.12, libzypp), and a kernel that
//! is newer than the running one, which is all there is on stock Debian, Proxmox and RHEL. Reading neither tells for how
//! long: see `age`.

mod age;
mod builds;
mod entries;
mod flags;
mod judge;
mod kernels;
mod next_boot;
mod params;
mod place;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Probe;
use super::words::{shown, some_of};
use crate::history::{Past, Trace};
use crate::host::{Error, Host, Moment, SMALL, optional};
use crate::parse::kernel;
use crate::parse::release::Release;
use crate::verdict::{Assessment, MetricSpec, Unit};

use age::{LOOKED_FLAGS, LOOKED_KERNELS};
use flags::Flags;
use kernels::Kernels;
use place::{Place, Run};

/// The flag of a gate in front of kured (`kured-sentinel-gate`), for kured's `--reboot-sentinel`.
const GATE: &str = "/run/gated-reboot-required";
/// What a kernel keeps of a patch in memory: kpatch, kGraft and Canonical's service alike.
const LIVEPATCH: &str = "/sys/kernel/livepatch";

const PENDING: MetricSpec = MetricSpec::yes_no("pending", "1 while the node waits for a reboot");
const PENDING_AGE: MetricSpec =
    MetricSpec::new("pending_age", Unit::Seconds, "how long the reboot has been pending; 0 when none is");
const PKGS: MetricSpec = MetricSpec::new("pkgs", Unit::None, "distinct packages that ask for the reboot");
const NEWER_KERNEL: MetricSpec = MetricSpec::yes_no(
    "newer_kernel",
    "1 while an installed kernel of the running flavour is newer than the running one",
);
const UPTIME: MetricSpec = MetricSpec::new("uptime", Unit::Seconds, "time since the boot");

/// Looks for a pending reboot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct RebootRequired {
    /// Files whose existence means that a reboot is required; `PATH.pkgs` beside one lists the packages.
    #[serde(deserialize_with = "crate::probe::params::paths")]
    pub flags: Vec<String>,
    /// Whether the running kernel is compared with the installed ones.
    pub kernels: bool,
    /// Whether a kernel that an active livepatch stands in for is no reason to reboot.
    pub livepatch_suffices: bool,
    /// The file that kured waits for; empty when there is no kured.
    #[serde(deserialize_with = "crate::probe::params::path_or_empty")]
    pub kured_sentinel: String,
    /// How long a reboot may be pending before kured must see it.
    #[serde(serialize_with = "crate::probe::params::span_out", deserialize_with = "crate::probe::params::span_in")]
    pub kured_grace: Duration,
}

impl Default for RebootRequired {
    fn default() -> Self {
        RebootRequired {
            flags: ["/run/reboot-required", "/run/reboot-needed"].map(str::to_owned).to_vec(),
            kernels: true,
            livepatch_suffices: false,
            kured_sentinel: String::new(),
            kured_grace: Duration::from_secs(86400),
        }
    }
}

/// What one look at the node saw.
#[derive(Debug)]
pub struct Observation {
    boot_id: Option<String>,
    /// `btime` of `/proc/stat`, read where `/proc/uptime` gives no boot time.
    btime: Option<Timestamp>,
    place: Place,
    flags: Flags,
    running: Result<Release, Error>,
    kernels: Comparison,
    livepatches: Vec<String>,
    /// Whether kured's sentinel is there; `None` where none is configured.
    sentinel: Option<Result<bool, Error>>,
    gate: bool,
}

/// What came of comparing kernels.
#[derive(Debug)]
enum Comparison {
    /// Not wanted, or nothing to compare: no kernel is known of, running or installed.
    Off,
    /// The kernel is another machine's: what is installed here is never booted. Holds the sign of that.
    Foreign(String),
    /// The running kernel is not known, for the reason in [`Observation::running`].
    Impossible,
    Done(Box<Kernels>),
}

impl Probe for RebootRequired {
    const NAME: &'static str = "reboot";
    const PARAMS: &'static [(&'static str, &'static str)] = &[
        ("flags", "files that mean a reboot is required; PATH.pkgs beside one lists the packages"),
        ("kernels", "compare the running kernel with the newest installed one of its flavour"),
        ("livepatch_suffices", "an active livepatch stands in for a newer kernel: no reboot is pending for it alone"),
        ("kured_sentinel", "the file that kured waits for (--reboot-sentinel), as a path on the node; empty: no kured"),
        ("kured_grace", "how long a reboot may be pending before it is told that kured cannot see it"),
    ];
    type Observation = Observation;

    fn metrics(&self) -> Vec<MetricSpec> {
        vec![PENDING, PENDING_AGE, PKGS, NEWER_KERNEL, UPTIME]
    }

    fn observe(&self, host: &Host, _past: &Past) -> Result<Observation, Error> {
        let kernel_places =
            || ["/boot", "/lib/modules", "/usr/lib/modules"].iter().any(|path| host.exists(path) != Ok(false));
        if host.exists("/run") == Ok(false) && !kernel_places() {
            return Err(Error::Absent("no /run, no /boot and no /lib/modules".to_owned()));
        }
        let now = host.now();
        let place = Place::look(host);
        let flags = match place.run {
            // Nothing in it says anything of this node.
            Run::Foreign(_) => Flags::default(),
            _ => Flags::look(host, &self.flags),
        };
        let running = running(host);
        let kernels = match (&running, &place.container) {
            _ if !self.kernels => Comparison::Off,
            (_, Some(sign)) => Comparison::Foreign(sign.clone()),
            (Err(Error::Absent(_)), None) if !kernel_places() => Comparison::Off,
            (Err(_), None) => Comparison::Impossible,
            (Ok(release), None) => {
                let in_run = !place.run.hides_flags();
                Comparison::Done(Box::new(Kernels::look(host, release, place.real, in_run)))
            }
        };
        let sentinel = (!self.kured_sentinel.is_empty()).then(|| host.exists(&self.kured_sentinel));
        let btime = if now.uptime.is_none() { btime(host) } else { None };
        let livepatches = livepatches(host);
        let gate = host.exists(GATE) == Ok(true);
        Ok(Observation { boot_id: now.boot, btime, place, flags, running, kernels, livepatches, sentinel, gate })
    }

    fn trace(&self, seen: &Observation) -> Trace {
        // With the boot as its value a note begins anew in the next one: its first sight is one of this boot.
        let boot = seen.boot_id.clone().unwrap_or_default();
        let mut trace = Trace::default();
        let looked = || [(String::new(), boot.clone())];
        if seen.flags.unread.is_empty() && !seen.place.run.hides_flags() {
            let found = seen.flags.found.iter().map(|flag| (flag.path.clone(), boot.clone()));
            trace = trace.group("flag ", found).group(LOOKED_FLAGS, looked());
        }
        if let Comparison::Done(kernels) = &seen.kernels
            && kernels.unread.is_empty()
        {
            let installed = kernels.installed.iter().map(|image| (image.release.text().to_owned(), String::new()));
            let rebuilt = kernels.rebuilt.iter().map(|rebuilt| (rebuilt.path.clone(), rebuilt.build.clone()));
            let reasons = [("kernel", kernels.newer().next().is_some()), ("modules", kernels.modules_gone.is_some())];
            let reasons = reasons.into_iter().filter(|(_, holds)| *holds);
            trace = trace
                .group("kernel ", installed)
                .group("rebuilt ", rebuilt)
                .group("reason ", reasons.map(|(name, _)| (name.to_owned(), boot.clone())))
                .group(LOOKED_KERNELS, looked());
            if !seen.place.run.hides_flags() {
                let generation = kernels.generation.iter().map(|_| (String::new(), boot.clone()));
                trace = trace.group("generation", generation);
            }
        }
        trace
    }

    fn assess(&self, seen: &Observation, past: &Past, now: &Moment) -> Assessment {
        judge::assess(self, seen, past, now)
    }
}

/// The release of the running kernel; `/proc/version` says it too.
fn running(host: &Host) -> Result<Release, Error> {
    const FILE: &str = "/proc/sys/kernel/osrelease";
    let first = host.read(FILE, 4096).and_then(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        Release::parse(text.trim_end())
            .ok_or_else(|| Error::Failed(format!("{FILE} holds no kernel release but '{}'", shown(text.trim_end()))))
    });
    let second = || {
        let banner = kernel::proc_version(&host.read("/proc/version", SMALL).ok()?)?;
        Release::parse(&banner.release)
    };
    first.or_else(|error| second().ok_or(error))
}

fn btime(host: &Host) -> Option<Timestamp> {
    Timestamp::from_second(kernel::boot_second(&host.read("/proc/stat", SMALL).ok()?)?).ok()
}

/// The names of the patches that are in force: those that are seen to be, since a patch only ever takes from a verdict.
fn livepatches(host: &Host) -> Vec<String> {
    let names = optional(host.list(LIVEPATCH, 256)).ok().flatten().unwrap_or_default();
    let enabled = |name: &String| {
        host.read(&format!("{LIVEPATCH}/{name}/enabled"), 64).is_ok_and(|text| text.trim_ascii() == b"1")
    };
    names.iter().map(|name| name.to_string_lossy().into_owned()).filter(enabled).collect()
}
