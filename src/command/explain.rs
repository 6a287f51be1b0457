//! `explain`: all there is to know of a check, and where each setting came from.

use super::Output;
use crate::check::{Check, spoken_value};
use crate::config::Origin;
use crate::definition::Absent;
use crate::node::{Node, first_of};
use crate::probe::Kind;
use crate::render::wrap;
use crate::threshold::Range;

/// As wide as a text is pleasant to read.
const COLUMNS: usize = 110;
const CONFIRM: &str =
    "looks in a row before a state gets worse: an interval apart in the daemon, 1 s in a run without it";

pub(super) fn explain(node: &Node, name: &str) -> Output {
    match node.check(name) {
        None => Output::unknown(node.catalog.no_such(name)),
        Some(Err(faults)) => Output::unknown(first_of(&faults)),
        Some(Ok(check)) => Output::lines(&text(&check)),
    }
}

fn text(check: &Check) -> String {
    let definition = &check.definition;
    let origin = |key: &str| definition.origins.get(key).map_or("default".to_owned(), Origin::to_string);
    let mut out = format!("{}: {}\n\n", definition.name, definition.summary);
    let paragraph = |text: &str| wrap(text, 6, Some(COLUMNS));
    out.push_str(&format!("Why:  {}\n\nDo:   {}\n\n", paragraph(&definition.why), paragraph(&definition.advice)));

    let absent = match definition.absent {
        Absent::Unknown => "unknown",
        Absent::Ok => "ok",
    };
    let duration = |d: std::time::Duration| humantime::format_duration(d).to_string();
    let settings = [
        ("probe", definition.probe.to_owned()),
        ("main", definition.main.clone().unwrap_or_else(|| "none".to_owned())),
        ("interval", duration(definition.interval)),
        ("deadline", duration(definition.deadline)),
        ("window", duration(definition.window)),
        ("grace", duration(definition.grace)),
        ("confirm", definition.confirm.to_string()),
        ("absent", absent.to_owned()),
    ];
    section(
        &mut out,
        "Settings",
        settings.iter().map(|(key, value)| {
            let meaning = if *key == "confirm" { CONFIRM } else { "" };
            (format!("{key} = {value}"), meaning.to_owned(), origin(key))
        }),
    );
    let meanings = Kind::named(definition.probe).map_or(&[][..], |kind| kind.params);
    section(
        &mut out,
        "Parameters (--set KEY=VALUE)",
        meanings.iter().map(|(key, meaning)| {
            let value = definition.params.get(*key).map_or("not set".to_owned(), toml::Value::to_string);
            (format!("{key} = {value}"), (*meaning).to_owned(), origin(&format!("params.{key}")))
        }),
    );
    section(
        &mut out,
        "Metrics",
        check.metrics.iter().map(|spec| (spec.name.to_owned(), spec.help.to_owned(), String::new())),
    );
    let mut thresholds = Vec::new();
    for (metric, threshold) in &definition.thresholds {
        let unit = check.metrics.iter().find(|spec| spec.name == metric).map(|spec| spec.unit);
        for (level, range) in [("warning", threshold.warning), ("critical", threshold.critical)] {
            let Some(range) = range else { continue };
            let spoken = |range: Range| Some(spoken_value(range.upper_limit()?, unit?));
            let meaning = spoken(range).map(|limit| format!("above {limit}")).unwrap_or_default();
            thresholds.push((
                format!("{metric} {level} {range}"),
                meaning,
                origin(&format!("threshold.{metric}.{level}")),
            ));
        }
    }
    section(&mut out, "Thresholds (-w, -c)", thresholds);
    section(&mut out, "Rules", definition.rules.iter().map(|rule| (rule.to_string(), String::new(), origin("rule"))));
    out.truncate(out.trim_end().len());
    out + "\n"
}

/// A heading and its lines: what, what it means, where it came from. Nothing where there is no line.
fn section(out: &mut String, title: &str, lines: impl IntoIterator<Item = (String, String, String)>) {
    let lines: Vec<_> = lines.into_iter().collect();
    if lines.is_empty() {
        return;
    }
    out.push_str(&format!("{title}\n"));
    let width = lines.iter().map(|(what, ..)| what.chars().count()).max().unwrap_or(0).min(32);
    for (what, meaning, origin) in lines {
        let origin = if origin.is_empty() { origin } else { format!("[{origin}]") };
        let notes: Vec<&str> = [meaning.as_str(), &origin].into_iter().filter(|note| !note.is_empty()).collect();
        let notes = wrap(&notes.join("  "), width + 4, Some(COLUMNS));
        match what.chars().count() > width {
            true => out.push_str(&format!("  {what}\n  {:width$}  {notes}", "")),
            false => out.push_str(format!("  {what:width$}  {notes}").trim_end()),
        }
        out.push('\n');
    }
    out.push('\n');
}
