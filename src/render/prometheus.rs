//! Prometheus text exposition format 0.0.4, as the textfile collector reads it.

use std::collections::BTreeMap;

use crate::render::worst;
use crate::verdict::{Unit, Verdict};

/// The verdicts of the checks that apply, every metric with HELP and TYPE once, and the worst state of all.
pub fn prometheus(verdicts: &[Verdict]) -> String {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let help = "Worst state of the checks that apply: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.".to_owned();
    let lines = vec![format!(" {}", worst(verdicts).code())];
    families.insert("nodecheck_status".into(), Family { help, kind: "gauge", lines });
    for verdict in verdicts.iter().filter(|verdict| verdict.not_here.is_none()) {
        let check = verdict.check.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let label = format!("{{check=\"{check}\"}}");
        let mut add = |name: String, help: &str, kind: &'static str, value: f64| {
            let family = families.entry(name).or_insert_with(|| Family { help: help.to_owned(), kind, lines: vec![] });
            family.lines.push(format!("{label} {value}"));
        };
        let status = "State of the check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.";
        add("nodecheck_check_status".into(), status, "gauge", f64::from(verdict.status.code()));
        let looked = "When the node was looked at.";
        add("nodecheck_check_timestamp_seconds".into(), looked, "gauge", verdict.at.as_second() as f64);
        for judged in &verdict.metrics {
            let spec = &judged.metric.spec;
            let kind = if spec.unit == Unit::Counter { "counter" } else { "gauge" };
            let base = format!("nodecheck_{}_{}", verdict.check.replace('-', "_"), spec.name);
            let word = spec.unit.word();
            let name = if word.is_empty() || base.ends_with(word) { base } else { format!("{base}_{word}") };
            add(name, spec.help, kind, judged.metric.value);
        }
    }
    let mut out = String::new();
    for (name, family) in families {
        let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {}\n", family.kind));
        for line in family.lines {
            out.push_str(&format!("{name}{line}\n"));
        }
    }
    out
}

struct Family {
    help: String,
    kind: &'static str,
    lines: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn families_with_units_in_their_names() {
        let text = prometheus(&[sample()]);
        assert!(text.contains("nodecheck_check_status{check=\"reboot-required\"} 1\n"), "{text}");
        let age = "# TYPE nodecheck_reboot_required_pending_age_seconds gauge\n\
                   nodecheck_reboot_required_pending_age_seconds{check=\"reboot-required\"} 172800\n";
        assert!(text.contains(age), "{text}");
        assert!(text.contains("nodecheck_check_timestamp_seconds{check=\"reboot-required\"} 1795231320\n"), "{text}");
        let mut skipped = sample();
        skipped.not_here = Some("no /run".into());
        let text = prometheus(&[skipped]);
        assert!(text.ends_with("nodecheck_status 3\n") && !text.contains("check="), "{text}");
    }
}
