//! A verdict for its readers: plugin text, a table, JSON, Prometheus. Always the same verdict.

mod json;
mod prometheus;
mod table;
mod text;

pub use json::{SCHEMA, json};
pub use prometheus::prometheus;
pub use table::{Style, table, wrap};
pub use text::{clean, plugin};

use crate::status::Status;
use crate::verdict::Verdict;

/// The worst state of the verdicts that count; UNKNOWN when there is none, for then nothing was looked at.
pub fn worst(verdicts: &[Verdict]) -> Status {
    let counted = verdicts.iter().filter(|verdict| verdict.not_here.is_none()).map(|verdict| verdict.status);
    counted.reduce(Status::worst).unwrap_or(Status::Unknown)
}

#[cfg(test)]
pub(crate) fn sample() -> Verdict {
    use crate::threshold::Threshold;
    use crate::verdict::{Finding, Judged, MetricSpec, Unit};
    let range = |text: &str| text.parse().ok();
    let age = MetricSpec::new("pending_age", Unit::Seconds, "How long a reboot has been pending.");
    Verdict {
        check: "reboot-required".into(),
        status: Status::Warning,
        summary: "reboot pending for 2 d (CRITICAL above 7 d): libc6 | evil\nname".into(),
        findings: vec![Finding::new(Status::Warning, "kured can't see it"), Finding::fact("running 6.8.0-45-generic")],
        metrics: vec![
            Judged {
                metric: age.value(172_800.0),
                threshold: Threshold { warning: range("86400"), critical: range("604800") },
            },
            Judged { metric: MetricSpec::yes_no("pending", "Pending.").value(1.0), threshold: Threshold::default() },
        ],
        advice: "Drain and reboot.".into(),
        at: "2026-11-21T03:22:00Z".parse().unwrap(),
        not_here: None,
    }
}
