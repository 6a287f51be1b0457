//! Plugin output: `STATE - check: sentence | perfdata`, one line a finding, worst first, then the advice.

use crate::host::printable;
use crate::status::Status;
use crate::verdict::{Judged, Verdict};

/// Text that fits on a line of plugin output: no control character, and no `|`, which would start perfdata.
pub fn clean(text: &str) -> String {
    printable(text).replace('|', "/")
}

/// The whole output of a check as a plugin, without a newline at the end. `verbose` adds when and how it was judged.
pub fn plugin(verdict: &Verdict, verbose: bool) -> String {
    let mut lines = vec![first_line(verdict)];
    for finding in &verdict.findings {
        // Line 1 may begin with the worst one already.
        if finding.status == verdict.status && verdict.summary.starts_with(&finding.text) {
            continue;
        }
        lines.push(match finding.status {
            Status::Ok => clean(&finding.text),
            status => format!("{status}: {}", clean(&finding.text)),
        });
    }
    if !verdict.advice.is_empty() {
        lines.push(format!("Do: {}", clean(&verdict.advice)));
    }
    if verbose {
        lines.push(format!("Looked at {:.0}", verdict.at));
        for judged in &verdict.metrics {
            let range = |range: Option<_>| range.map_or("-".to_owned(), |r: crate::threshold::Range| r.to_string());
            let (warning, critical) = (range(judged.threshold.warning), range(judged.threshold.critical));
            let name = judged.metric.spec.name;
            lines.push(format!("{name} = {}, warning {warning}, critical {critical}", judged.metric));
        }
    }
    lines.join("\n")
}

fn first_line(verdict: &Verdict) -> String {
    let mut line = format!("{} - {}: {}", verdict.status, clean(&verdict.check), clean(&verdict.summary));
    if !verdict.metrics.is_empty() {
        line.push_str(" | ");
        line.push_str(&verdict.metrics.iter().map(perfdata).collect::<Vec<_>>().join(" "));
    }
    line
}

/// `label=value[unit];[warn];[crit];[min];[max]`, without the trailing semicolons. Metric names need no quotes.
fn perfdata(judged: &Judged) -> String {
    let spec = &judged.metric.spec;
    let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
    let range = |range: Option<crate::threshold::Range>| range.map_or(String::new(), |r| r.to_string());
    let (warning, critical) = (range(judged.threshold.warning), range(judged.threshold.critical));
    let (least, most) = (number(spec.limits.0), number(spec.limits.1));
    let item = format!("{}={};{warning};{critical};{least};{most}", spec.name, judged.metric);
    item.trim_end_matches(';').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn the_whole_output() {
        let expected = "WARNING - reboot-required: reboot pending for 2 d (CRITICAL above 7 d): libc6 / evil\\nname \
                        | pending_age=172800s;86400;604800;0 pending=1;;;0;1\n\
                        WARNING: kured can't see it\nrunning 6.8.0-45-generic\nDo: Drain and reboot.";
        assert_eq!(plugin(&sample(), false), expected);
        let verbose = plugin(&sample(), true);
        assert!(verbose.starts_with(expected));
        assert!(verbose.contains("Looked at 2026-11-21T03:22:00Z"), "{verbose}");
        assert!(verbose.contains("pending_age = 172800s, warning 86400, critical 604800"), "{verbose}");
    }

    #[test]
    fn a_finding_on_line_1_is_not_told_twice() {
        let mut verdict = sample();
        verdict.lead_with_worst();
        assert_eq!(plugin(&verdict, false).matches("kured can't see it").count(), 1);
    }
}
