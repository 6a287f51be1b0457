//! A check's definition: from settings with places to a [`Check`], or to every fault they have.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Value;

use crate::check::Check;
use crate::config::{Entry, Fault, Origin, unknown_name};
use crate::probe::Kind;
use crate::status::Status;
use crate::threshold::{Range, Rule, Threshold};
use crate::verdict::MetricSpec;

/// What a node without the component gets when the check is asked by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// UNKNOWN, with what was looked for.
    Unknown,
    /// OK, unless the component was ever seen on this node.
    Ok,
}

/// A named question, complete.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The check's and the NRPE command's name.
    pub name: String,
    /// What it asks, in a few words.
    pub summary: String,
    /// Why somebody should care.
    pub why: String,
    /// What to do when it is not OK.
    pub advice: String,
    /// The kind of looking.
    pub probe: &'static str,
    /// The metric that a bare `-w` or `-c` is for.
    pub main: Option<String>,
    /// How often the daemon looks.
    pub interval: Duration,
    /// How long a look may take.
    pub deadline: Duration,
    /// How far back it counts.
    pub window: Duration,
    /// How long after boot nothing but UNKNOWN is told.
    pub grace: Duration,
    /// Looks in a row before a state gets worse: a daemon's are an interval apart, those of a run that looks by itself 1 s,
    /// and a recorded node or a tree needs only one.
    pub confirm: u32,
    /// What a node without the component gets.
    pub absent: Absent,
    /// The parameters in force, defaults included.
    pub params: toml::Table,
    /// Metric name to threshold.
    pub thresholds: BTreeMap<String, Threshold>,
    /// Conjunctions of metrics.
    pub rules: Vec<Rule>,
    /// Dotted key to the place of its value; a key that is not in it has its default.
    pub origins: BTreeMap<String, Origin>,
}

/// A longer duration is a mistake: looks are far apart in no check.
const LONGEST: Duration = Duration::from_secs(31 * 86400);
/// The keys of a definition, for messages.
const KEYS: [&str; 14] = [
    "summary",
    "why",
    "advice",
    "probe",
    "main",
    "interval",
    "deadline",
    "window",
    "grace",
    "confirm",
    "absent",
    "params",
    "threshold",
    "rule",
];

/// Whether a text can name a check: `[a-z0-9-]`, at most 64 characters, so that its link's name is unambiguous.
pub fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}

/// Builds a check from its settings; a later one replaces an earlier one of the same path. `whole` is the place to
/// name for what is missing.
pub fn build(name: &str, whole: &Origin, entries: impl IntoIterator<Item = Entry>) -> Result<Check, Vec<Fault>> {
    let mut newest: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in entries {
        newest.insert(entry.dotted(), entry);
    }
    let mut draft = Draft::default();
    for entry in newest.values() {
        let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["params" | "threshold"] if entry.value.as_table().is_some_and(toml::Table::is_empty) => {}
            ["params", _] | ["threshold", _, "warning" | "critical"] | ["rule"] => {}
            ["threshold", _, key] => {
                draft.fault(entry, unknown_name("key in a threshold:", key, &["warning", "critical"]));
            }
            ["threshold" | "params", ..] => draft.fault(entry, format!("{} must be a table", entry.dotted())),
            ["summary" | "why" | "advice" | "probe" | "main" | "absent"] => {}
            ["interval" | "deadline" | "window" | "grace" | "confirm"] => {}
            [key, ..] => draft.faults.push(entry.fault_of_key(0, unknown_name("key", key, &KEYS))),
            [] => {}
        }
    }
    let summary = draft.text(&newest, "summary", whole);
    let why = draft.text(&newest, "why", whole);
    let advice = draft.text(&newest, "advice", whole);
    let probe = draft.text(&newest, "probe", whole);
    let seconds = Duration::from_secs;
    let interval = draft.duration(&newest, "interval", seconds(60), seconds(1));
    let deadline = draft.duration(&newest, "deadline", seconds(5), Duration::from_millis(1));
    let window = draft.duration(&newest, "window", seconds(3600), seconds(1));
    if let (true, Some(entry)) = (window < interval, newest.get("window").or(newest.get("interval"))) {
        draft.fault(entry, "the window is shorter than the interval: looks would be too far apart for it".to_owned());
    }
    let grace = draft.duration(&newest, "grace", Duration::ZERO, Duration::ZERO);
    let confirm = draft.confirm(&newest);
    let absent = draft.absent(&newest);

    let kind = Kind::named(&probe);
    if let (None, Some(entry)) = (kind, newest.get("probe")) {
        let known: Vec<&str> = crate::probe::KINDS.iter().map(|kind| kind.name).collect();
        draft.fault(entry, unknown_name("probe", &probe, &known));
    }
    let Some(kind) = kind else { return Err(draft.faults) };
    let params = draft.params(&newest, kind);
    let bound = kind.bind(params.clone());
    let look = match bound {
        Ok(look) => look,
        Err(error) => {
            if draft.faults.is_empty() {
                draft.faults.push(Fault::new(whole, error.message().trim()));
            }
            return Err(draft.faults);
        }
    };
    let metrics = look.metrics();
    let thresholds = draft.thresholds(&newest, &metrics);
    let rules = draft.rules(&newest, &metrics);
    let main = newest.get("main").and_then(|entry| {
        let main = entry.value.as_str().unwrap_or_default();
        draft.metric(entry, main, &metrics).then(|| main.to_owned())
    });
    if !draft.faults.is_empty() {
        return Err(draft.faults);
    }
    let mut all_params = kind.defaults();
    all_params.extend(params);
    let definition = Definition {
        name: name.to_owned(),
        summary,
        why,
        advice,
        probe: kind.name,
        main,
        interval,
        deadline,
        window,
        grace,
        confirm,
        absent,
        params: all_params,
        thresholds,
        rules,
        origins: newest.into_iter().map(|(path, entry)| (path, entry.origin)).collect(),
    };
    Ok(Check::new(definition, look, metrics))
}

/// Collects faults while values are taken out.
#[derive(Default)]
struct Draft {
    faults: Vec<Fault>,
}

type Entries = BTreeMap<String, Entry>;

impl Draft {
    fn fault(&mut self, entry: &Entry, message: String) {
        self.faults.push(Fault::new(&entry.origin, message));
    }

    fn text(&mut self, all: &Entries, key: &str, whole: &Origin) -> String {
        match all.get(key) {
            None => self.faults.push(Fault::missing_key(whole, key)),
            Some(entry) => match entry.value.as_str().map(str::trim) {
                Some(text) if !text.is_empty() => return text.to_owned(),
                _ => self.fault(entry, format!("{key} must be a text that is not empty")),
            },
        }
        String::new()
    }

    fn duration(&mut self, all: &Entries, key: &str, default: Duration, least: Duration) -> Duration {
        let Some(entry) = all.get(key) else { return default };
        match entry.value.as_str().map(humantime::parse_duration) {
            Some(Ok(duration)) if duration > LONGEST => {
                self.fault(entry, format!("{key} must be at most {}", humantime::format_duration(LONGEST)));
            }
            Some(Ok(duration)) if duration >= least => return duration,
            Some(Ok(_)) => self.fault(entry, format!("{key} must be at least {}", humantime::format_duration(least))),
            _ => self.fault(entry, format!("{key} must be a duration such as \"30s\", \"60m\" or \"7d\"")),
        }
        default
    }

    fn confirm(&mut self, all: &Entries) -> u32 {
        let Some(entry) = all.get("confirm") else { return 1 };
        match entry.value.as_integer().and_then(|n| u32::try_from(n).ok()) {
            Some(looks @ 1..=1000) => return looks,
            _ => self.fault(entry, "confirm must be a number of looks from 1 to 1000".to_owned()),
        }
        1
    }

    fn absent(&mut self, all: &Entries) -> Absent {
        match all.get("absent").map(|entry| (entry, entry.value.as_str())) {
            None | Some((_, Some("unknown"))) => Absent::Unknown,
            Some((_, Some("ok"))) => Absent::Ok,
            Some((entry, _)) => {
                self.fault(entry, "absent must be \"unknown\" or \"ok\"".to_owned());
                Absent::Unknown
            }
        }
    }

    /// Each parameter is tried alone, so that every wrong one is told with its own line.
    fn params(&mut self, all: &Entries, kind: &Kind) -> toml::Table {
        let mut params = toml::Table::new();
        for entry in all.values() {
            let [group, name] = entry.path.as_slice() else { continue };
            if group != "params" {
                continue;
            }
            let mut alone = toml::Table::new();
            alone.insert(name.clone(), entry.value.clone());
            match kind.bind(alone) {
                Ok(_) => {
                    params.insert(name.clone(), entry.value.clone());
                }
                Err(_) if !kind.params.iter().any(|(known, _)| known == name) => {
                    let known: Vec<&str> = kind.params.iter().map(|(name, _)| *name).collect();
                    let message = unknown_name(&format!("parameter of probe {}:", kind.name), name, &known);
                    self.fault(entry, message);
                }
                Err(error) => self.fault(entry, format!("parameter {name}: {}", error.message().trim())),
            }
        }
        params
    }

    fn metric(&mut self, entry: &Entry, name: &str, metrics: &[MetricSpec]) -> bool {
        let known: Vec<&str> = metrics.iter().map(|metric| metric.name).collect();
        let found = known.contains(&name);
        if !found {
            let position = entry.path.iter().position(|key| key == name).unwrap_or(usize::MAX);
            self.faults.push(entry.fault_of_key(position, unknown_name("metric", name, &known)));
        }
        found
    }

    /// A range as a text or a bare number; an empty text is no range, to take a threshold away.
    fn range(&mut self, entry: &Entry, value: &Value) -> Option<Range> {
        let text = match value {
            Value::String(text) if text.is_empty() => return None,
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            _ => {
                self.fault(entry, format!("{} must be a Nagios range such as \"10:20\"", entry.dotted()));
                return None;
            }
        };
        match text.parse() {
            Ok(range) => Some(range),
            Err(error) => {
                self.fault(entry, format!("{}: {error}", entry.dotted()));
                None
            }
        }
    }

    fn thresholds(&mut self, all: &Entries, metrics: &[MetricSpec]) -> BTreeMap<String, Threshold> {
        let mut thresholds: BTreeMap<String, Threshold> = BTreeMap::new();
        for entry in all.values() {
            let [group, name, level] = entry.path.as_slice() else { continue };
            if group != "threshold" || !self.metric(entry, name, metrics) {
                continue;
            }
            let range = self.range(entry, &entry.value);
            let threshold = thresholds.entry(name.clone()).or_default();
            match level.as_str() {
                "warning" => threshold.warning = range,
                _ => threshold.critical = range,
            }
        }
        thresholds
    }

    fn rules(&mut self, all: &Entries, metrics: &[MetricSpec]) -> Vec<Rule> {
        let Some(entry) = all.get("rule") else { return Vec::new() };
        let form = "a rule needs state = \"warning\" or \"critical\", and all = { METRIC = \"RANGE\" }";
        let Some(list) = entry.value.as_array() else {
            self.fault(entry, format!("rule must be written [[rule]]; {form}"));
            return Vec::new();
        };
        let mut rules = Vec::new();
        for item in list {
            let state = match item.get("state").and_then(Value::as_str) {
                Some("warning") => Status::Warning,
                Some("critical") => Status::Critical,
                _ => {
                    self.fault(entry, form.to_owned());
                    continue;
                }
            };
            let known = |key: &String| key == "state" || key == "all";
            if let Some(key) = item.as_table().and_then(|table| table.keys().find(|key| !known(key))) {
                self.fault(entry, unknown_name("key in a rule:", key, &["state", "all"]));
            }
            let mut parts = Vec::new();
            for (name, value) in item.get("all").and_then(Value::as_table).into_iter().flatten() {
                if self.metric(entry, name, metrics)
                    && let Some(range) = self.range(entry, value)
                {
                    parts.push((name.clone(), range));
                }
            }
            if parts.is_empty() {
                self.fault(entry, form.to_owned());
            }
            rules.push(Rule { state, all: parts });
        }
        rules
    }
}
