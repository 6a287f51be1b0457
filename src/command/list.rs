//! `list`: the checks, and whether each applies to this node.

use std::time::Duration;

use serde::Serialize;

use super::Output;
use crate::cli::Format;
use crate::history::History;
use crate::node::{Node, first_of};
use crate::render::SCHEMA;

#[derive(Serialize)]
struct Item {
    name: String,
    summary: String,
    probe: String,
    /// `None` when the look could not tell.
    applies: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    thresholds: Vec<Bounds>,
}

#[derive(Serialize)]
struct Bounds {
    metric: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    critical: Option<String>,
}

pub(super) fn list(node: &Node, format: Format) -> Output {
    let items: Vec<Item> = node.catalog.names().into_iter().map(|name| item(node, name)).collect();
    match format {
        Format::Json => {
            let document = serde_json::json!({ "schema": SCHEMA, "checks": items });
            Output::ok(serde_json::to_string_pretty(&document).unwrap_or_default() + "\n")
        }
        Format::Prometheus => Output::unknown("a list has no Prometheus form; use --format text or json"),
        Format::Text => Output::lines(&text(&items)),
    }
}

fn item(node: &Node, name: &str) -> Item {
    let check = match node.check(name) {
        Some(Ok(check)) => check,
        broken => {
            let reason = broken.and_then(Result::err).map(|faults| first_of(&faults));
            let (summary, probe) = Default::default();
            return Item { name: name.to_owned(), summary, probe, applies: None, reason, thresholds: Vec::new() };
        }
    };
    // Looking for the list must not count as a look.
    let verdict = check.run(&node.host, &History::in_memory().into(), Duration::from_secs(8));
    let bounds = check.definition.thresholds.iter().map(|(metric, threshold)| Bounds {
        metric: metric.clone(),
        warning: threshold.warning.map(|range| range.to_string()),
        critical: threshold.critical.map(|range| range.to_string()),
    });
    Item {
        name: name.to_owned(),
        summary: check.definition.summary.clone(),
        probe: check.definition.probe.to_owned(),
        applies: Some(verdict.not_here.is_none()),
        reason: verdict.not_here,
        thresholds: bounds.collect(),
    }
}

fn text(items: &[Item]) -> String {
    let width = |of: fn(&Item) -> usize, least: usize| items.iter().map(of).max().unwrap_or(0).max(least);
    let (name, probe) = (width(|i| i.name.len(), 5), width(|i| i.probe.len(), 5));
    let mut out = format!("{:name$}  {:probe$}  HERE  THRESHOLDS\n", "CHECK", "PROBE");
    for item in items {
        let here = match item.applies {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        let bounds: Vec<String> = item
            .thresholds
            .iter()
            .map(|b| {
                let say = |name: &str, range: &Option<String>| {
                    range.as_ref().map(|range| format!(" {name} {range}")).unwrap_or_default()
                };
                format!("{}{}{}", b.metric, say("warning", &b.warning), say("critical", &b.critical))
            })
            .collect();
        let line = format!("{:name$}  {:probe$}  {here:4}  {}", item.name, item.probe, bounds.join("; "));
        out.push_str(line.trim_end());
        out.push('\n');
        if let Some(reason) = &item.reason {
            out.push_str(&format!("{:name$}  {}\n", "", crate::render::clean(reason)));
        }
    }
    out
}
