//! A state of a while ago that still counts.
//!
//! What counts in windows ends by itself, and may do so before anybody has asked often enough to believe it. A probe that can
//! tell windows that ended a while ago gives them beside the newest: the worst is the state, by the same thresholds and rules.

use std::time::Duration;

use crate::check::Check;
use crate::host::Moment;
use crate::host::clock::spoken;
use crate::status::Status;
use crate::verdict::{Assessment, Finding, Verdict};

impl Check {
    /// This verdict, or the newest of those that are worse.
    pub(super) fn hold(&self, mut verdict: Verdict, assessment: &Assessment, now: &Moment) -> Verdict {
        let mut worst: Option<(Duration, Verdict)> = None;
        for earlier in &assessment.earlier {
            let (summary, metrics) = (earlier.summary.clone(), earlier.metrics.clone());
            let then = Assessment { summary, metrics, is_settled: assessment.is_settled, ..Assessment::default() };
            let then = self.judge_moment(&then, now);
            let status = worst.as_ref().map_or(verdict.status, |(_, worst)| worst.status);
            if then.status.rank() < status.rank() && then.status != Status::Unknown {
                worst = Some((earlier.ago, then));
            }
        }
        let Some((ago, then)) = worst else { return verdict };
        let ago = spoken(ago);
        let of_then = then.findings.into_iter().filter(|finding| finding.status != Status::Ok);
        let of_then: Vec<Finding> =
            of_then.map(|finding| Finding::new(finding.status, format!("{ago} ago: {}", finding.text))).collect();
        verdict.findings.extend(of_then);
        verdict.findings.sort_by_key(|finding| finding.status.rank());
        verdict.summary = format!("{} until {ago} ago; now {}", then.summary, verdict.summary);
        (verdict.status, verdict.advice) = (then.status, then.advice);
        verdict
    }
}
