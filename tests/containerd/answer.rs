//! What the check said.

use std::process::Command;

use super::cri::Pod;
use super::node::CHECK;
use crate::support::{metric, outcome};

pub struct Answer {
    pub code: i32,
    pub text: String,
}

impl Answer {
    pub fn of(mut command: Command) -> Answer {
        let (code, text, err) = outcome(command.output().unwrap());
        assert_eq!(err, "", "{text}");
        Answer { code, text }
    }

    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        metric(&self.text, name)
    }

    /// Its state, and those of its metrics that are not zero.
    #[track_caller]
    pub fn is(&self, code: i32, metrics: &[(&str, u64)]) {
        let state = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][code as usize];
        assert!(self.text.starts_with(&format!("{state} - {CHECK}: ")) && self.code == code, "{code}: {}", self.text);
        assert!(metrics.iter().all(|(name, _)| KINDS.contains(name)), "{metrics:?}");
        for name in KINDS {
            let told = metrics.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value);
            assert_eq!(self.metric(name), told, "{name}: {}", self.text);
        }
    }

    /// That it names a sandbox by its pod and the beginning of its id.
    #[track_caller]
    pub fn names(&self, pod: &Pod, id: &str) {
        let names = format!("{}/{} attempt {} ({}", Pod::NAMESPACE, pod.name, pod.attempt, &id[..13]);
        assert!(self.text.contains(&names), "{names}: {}", self.text);
    }
}

/// The metrics that count sandboxes.
const KINDS: &[&str] = &[
    "sandboxes",
    "live",
    "stale",
    "stuck",
    "duplicates",
    "inverted",
    "inverted_live",
    "broken",
    "orphaned",
    "netless",
    "superseded",
];
