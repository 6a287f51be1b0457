//! What was found, in the operator's words: the names on line 1, and the lines of facts.

use super::judge::{Judge, minute};
use super::kernels::Kernels;
use super::{Comparison, shown, some_of};
use crate::host::clock::spoken;
use crate::parse::reboot_flag::Level;

/// Names on line 1.
const FEW: usize = 3;
/// Names on a line of the long text.
const MANY: usize = 10;

impl Judge<'_> {
    /// What follows on line 1: the names.
    pub(super) fn detail(&self, pending: bool, pkgs: &[String]) -> String {
        let mut parts = Vec::new();
        if pending {
            let told = |name: &str| {
                let release = name.strip_prefix("kernel ");
                release.is_some_and(|release| pkgs.iter().any(|package| package.ends_with(release)))
            };
            let mut names: Vec<String> = if pkgs.is_empty() { Vec::new() } else { vec![some_of(pkgs, FEW)] };
            names.extend(self.causes.iter().filter_map(|cause| cause.name.clone()).filter(|name| !told(name)));
            if names.is_empty() {
                names.push("no package is named".to_owned());
            }
            parts.push(names.join(", "));
            match self.level() {
                Some(Level::Kexec) => parts.push("a kexec is enough".to_owned()),
                // It leaves the running kernel in place.
                Some(Level::SoftReboot) if self.causes.iter().all(|cause| cause.name.is_none()) => {
                    parts.push("a soft-reboot is enough".to_owned());
                }
                _ => {}
            }
        }
        parts.extend(self.stale.iter().map(|path| format!("stale flag {}", shown(path))));
        parts.extend(self.running(pending));
        parts.join("; ")
    }

    /// The strongest level of the flags; none where one of them does not say.
    fn level(&self) -> Option<Level> {
        let live = self.seen.flags.found.iter().filter(|flag| !self.stale.contains(&flag.path.as_str()));
        let levels: Vec<Option<Level>> = live.map(|flag| flag.level).collect();
        let strongest = [Level::Reboot, Level::Kexec, Level::SoftReboot];
        strongest.into_iter().find(|level| levels.contains(&Some(*level))).filter(|_| !levels.contains(&None))
    }

    fn running(&self, pending: bool) -> Option<String> {
        let running = self.seen.running.as_ref().ok()?.text();
        let Comparison::Done(kernels) = &self.seen.kernels else {
            let whose = matches!(self.seen.kernels, Comparison::Foreign(_));
            return Some(format!("running {running}{}", if whose { ", the host's kernel" } else { "" }));
        };
        Some(match (kernels.newest(), &kernels.next.choice) {
            _ if pending => format!("running {running}"),
            (None, _) if kernels.unread.is_empty() => {
                format!("running {running}; no installed kernel to compare it with")
            }
            (Some(newest), Some(choice)) => {
                let (place, newest) = (shown(&choice.place), newest.release.text());
                let next =
                    if choice.release == running { ", kept".to_owned() } else { format!("; next {}", choice.release) };
                format!("running {running}{next} by {place}; newest installed {newest}")
            }
            (Some(newest), _) if kernels.next.doubt.is_some() && self.blind => {
                format!("running {running}; newest installed {}", newest.release.text())
            }
            (Some(newest), _) if newest.release.newer_than(&kernels.running) && !self.causes.is_empty() => {
                format!("running {running}, livepatched; newest installed {}", newest.release.text())
            }
            (Some(newest), _) if newest.release.newer_than(&kernels.running) => {
                format!("running {running}; {}, there before this boot, was not booted", newest.release.text())
            }
            (Some(newest), _) if newest.release == kernels.running && kernels.unread.is_empty() => {
                format!("running {running}, the newest installed")
            }
            _ => format!("running {running}"),
        })
    }

    /// The lines of the long text that are no more than facts.
    pub(super) fn facts(&self, pending: bool, suffices: bool, pkgs: &[String]) -> Vec<String> {
        let mut facts = Vec::new();
        let mut word = if pending { "pending" } else { "waiting" };
        for cause in &self.causes {
            let since = minute(cause.since.at);
            facts.push(format!("{word} since {since} ({}): {}", cause.since.source, cause.what));
            word = "and";
        }
        if !pkgs.is_empty() {
            facts.push(format!("packages: {}", some_of(pkgs, MANY)));
        }
        if let Comparison::Done(kernels) = &self.seen.kernels {
            facts.extend(kernel_facts(kernels));
        }
        if let Some(level) = self.level().filter(|_| pending) {
            facts.push(format!("level: {}", level.word()));
        }
        if !self.seen.livepatches.is_empty() {
            let names: Vec<String> = self.seen.livepatches.iter().map(|name| shown(name)).collect();
            let effect = match (pending, suffices) {
                (true, _) => ": the running kernel is patched in memory, and still waits for the reboot",
                (false, true) => ": it stands in for the newer kernel (livepatch_suffices)",
                (false, false) => "",
            };
            facts.push(format!("livepatch {} active{effect}", some_of(&names, MANY)));
        }
        if let Some(boot) = self.boot {
            facts.push(format!("up {}, since {}", spoken(self.now.since_wall(boot)), minute(boot)));
        }
        facts
    }
}

fn kernel_facts(kernels: &Kernels) -> Vec<String> {
    let with = |build: &str| if build.is_empty() { String::new() } else { format!(" ({})", shown(build)) };
    let mut facts = Vec::new();
    let running = format!("kernel: running {}{}", kernels.running.text(), with(&kernels.build));
    facts.push(match kernels.newest() {
        Some(newest) => format!("{running}, newest installed {}{}", newest.release.text(), with(&kernels.newest_build)),
        None if !kernels.others.is_empty() => {
            format!("{running}; {} installed, all of other flavours", kernels.others.len())
        }
        None if !kernels.unread.is_empty() => running,
        None => format!("{running}; none installed in /boot or /lib/modules"),
    });
    if let Some(choice) = &kernels.next.choice {
        facts.push(format!("the next boot takes {} ({})", choice.release, shown(&choice.place)));
    }
    facts
}
