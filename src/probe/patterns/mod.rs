//! What the services of a node say, counted: lines of the journal and of log files that fit a pattern.
//!
//! Each pattern has a window, and what is told is what happened in it: an alert ends by itself, whoever asks is told the same,
//! and a file that is put aside loses nothing. Minutes with a line tell a burst, as a restart makes it, from a stall. `hold`
//! tells the windows that ended a while ago, too, so that an alert lasts until somebody has asked a few times.

mod count;
mod mask;
mod pattern;
mod source;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Probe;
use super::params::{span_in, span_out};
use super::words::{minutes, shown};
use crate::history::{Past, Trace};
use crate::host::clock::spoken;
use crate::host::{Error, Host, Moment};
use crate::status::Status;
use crate::verdict::{Assessment, Earlier, Finding, Metric, MetricSpec, Unit, interned};

use count::{Sum, Tally};
pub use pattern::Pattern;

/// The note of a pattern whose absence matters: that it was seen.
const SEEN: &str = "seen ";

/// Counts lines that fit patterns.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogPatterns {
    /// Units of systemd whose entries are read.
    pub units: Vec<String>,
    /// Whether the kernel's messages are read.
    pub kernel: bool,
    /// Log files that are read.
    #[serde(deserialize_with = "globs")]
    pub files: Vec<String>,
    /// How long a window that has ended counts.
    #[serde(serialize_with = "span_out", deserialize_with = "span_in")]
    pub hold: Duration,
    /// A journal whose newest entry is older has ended.
    #[serde(serialize_with = "span_out", deserialize_with = "span_in")]
    pub silent: Duration,
    /// What is counted, by name.
    pub patterns: BTreeMap<String, Pattern>,
}

impl Default for LogPatterns {
    fn default() -> Self {
        let quarter = Duration::from_secs(900);
        let (units, files, patterns) = (Vec::new(), Vec::new(), BTreeMap::new());
        LogPatterns { units, kernel: false, files, hold: quarter, silent: quarter, patterns }
    }
}

/// What one look at the node saw.
#[derive(Debug, Default)]
pub struct Observation {
    counts: BTreeMap<String, Count>,
    told: source::Told,
    /// Patterns whose absence matters and which were seen now or before.
    seen: BTreeMap<String, Timestamp>,
}

/// What there is of a pattern.
#[derive(Debug, Default)]
struct Count {
    now: Sum,
    /// Windows that ended so many minutes ago.
    earlier: Vec<(usize, Sum)>,
    span: Option<(Timestamp, Timestamp)>,
    samples: Vec<(Timestamp, String)>,
}

fn globs<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let globs = Vec::<String>::deserialize(from)?;
    match globs.iter().find_map(|glob| Some((glob, crate::logs::fault(glob)?))) {
        None => Ok(globs),
        Some((glob, fault)) => Err(serde::de::Error::custom(format!("{}: {fault}", shown(glob)))),
    }
}

impl Probe for LogPatterns {
    const NAME: &'static str = "log-patterns";
    const PARAMS: &'static [(&'static str, &'static str)] = &[
        ("units", "units of systemd whose entries in the journal are read: [\"k3s.service\"]"),
        ("kernel", "whether the kernel's messages in the journal are read"),
        (
            "files",
            "log files that are read, with * and ?: [\"/var/log/pods/kube-system_calico-node-*/calico-node/*.log\"]",
        ),
        ("hold", "how long a window that has ended still counts"),
        ("silent", "a journal whose newest entry is older than this has ended: UNKNOWN"),
        (
            "patterns",
            "by name: what, include and exclude (regular expressions; (?P<key>) and (?P<value>) are told), window, absence",
        ),
    ];
    type Observation = Observation;

    fn metrics(&self) -> Vec<MetricSpec> {
        self.patterns.iter().flat_map(|(name, pattern)| Specs::of(name, pattern).all()).collect()
    }

    fn observe(&self, host: &Host, past: &Past) -> Result<Observation, Error> {
        let now = host.now();
        let mut patterns = Vec::new();
        for (name, pattern) in &self.patterns {
            let compiled = pattern.compiled().map_err(Error::Failed)?;
            patterns.push((name, pattern, compiled, Tally::of(pattern.window.saturating_add(self.hold))));
        }
        let span = self.patterns.values().map(|pattern| pattern.window).max().unwrap_or_default();
        let told = source::read(self, host, span.saturating_add(self.hold), &mut |at, line| {
            for (_, _, compiled, tally) in &mut patterns {
                if let Some(found) = compiled.find(line) {
                    tally.add(now.wall, at, found.key, found.value, line);
                }
            }
        })?;
        let mut seen = Observation { told, ..Observation::default() };
        for (name, pattern, _, tally) in patterns {
            let steps = usize::try_from(self.hold.as_secs() / 60).unwrap_or(0);
            let earlier = (1..=steps).map(|ago| (ago, tally.sum(ago, pattern.window)));
            let (count, span) = (tally.sum(0, pattern.window), tally.span());
            let earlier = earlier.collect();
            if pattern.absence {
                let before = past.note(&format!("{SEEN}{name}")).and_then(|note| note.value.parse().ok());
                seen.seen.extend(span.map(|(_, last)| last).or(before).map(|last| (name.clone(), last)));
            }
            let samples = tally.samples().into_iter().map(|(at, line)| (at, mask::masked(&line))).collect();
            seen.counts.insert(name.clone(), Count { now: count, earlier, span, samples });
        }
        Ok(seen)
    }

    fn trace(&self, seen: &Observation) -> Trace {
        // To ten minutes: what is new is written down.
        let round = |at: &Timestamp| Timestamp::from_second(at.as_second() / 600 * 600).unwrap_or(*at).to_string();
        Trace::default().group(SEEN, seen.seen.iter().map(|(name, at)| (name.clone(), round(at))))
    }

    fn assess(&self, seen: &Observation, _: &Past, now: &Moment) -> Assessment {
        let of = |name: &str, pattern: &Pattern, sum: &Sum| Specs::of(name, pattern).metrics(pattern, sum);
        let mut assessment = Assessment { summary: self.summary(seen), ..Assessment::default() };
        for (name, pattern) in &self.patterns {
            let Some(count) = seen.counts.get(name) else { continue };
            assessment.metrics.extend(of(name, pattern, &count.now));
            if let (true, Some(last)) = (pattern.absence, seen.seen.get(name)) {
                let age = now.since_wall(*last);
                let said = format!("no {} for {}", pattern.what, spoken(age));
                assessment.metrics.push(Specs::of(name, pattern).age.value(age.as_secs_f64().round()).said(said));
            }
        }
        let steps = usize::try_from(self.hold.as_secs() / 60).unwrap_or(0);
        for ago in 1..=steps {
            let sums = self.patterns.iter().filter_map(|(name, pattern)| {
                let (_, sum) = seen.counts.get(name)?.earlier.iter().find(|(of, _)| *of == ago)?;
                Some((name, pattern, sum))
            });
            let sums: Vec<_> = sums.collect();
            if sums.iter().all(|(_, _, sum)| sum.count == 0) {
                continue;
            }
            let metrics = sums.iter().flat_map(|(name, pattern, sum)| of(name, pattern, sum)).collect();
            let some = sums.iter().filter(|(_, _, sum)| sum.count > 0);
            let summary = some.map(|(_, pattern, sum)| said(pattern, sum)).collect::<Vec<_>>().join("; ");
            assessment.earlier.push(Earlier { ago: Duration::from_secs(60 * ago as u64), metrics, summary });
        }
        let troubles = seen.told.troubles.iter();
        assessment.findings.extend(troubles.map(|error| Finding::new(Status::Unknown, error.to_string())));
        for (name, pattern) in &self.patterns {
            let Some(count) = seen.counts.get(name) else { continue };
            assessment.findings.extend(texts(pattern, count).into_iter().map(Finding::fact));
        }
        let bounds = seen.told.lower_bounds.iter().map(|why| format!("the counts are at least these: {why}"));
        assessment.findings.extend(bounds.chain(seen.told.facts.iter().cloned()).map(Finding::fact));
        assessment
    }
}

impl LogPatterns {
    fn summary(&self, seen: &Observation) -> String {
        let sums = self.patterns.iter().filter_map(|(name, pattern)| Some((pattern, &seen.counts.get(name)?.now)));
        let (some, none): (Vec<_>, Vec<_>) = sums.partition(|(_, sum)| sum.count > 0);
        if some.is_empty() {
            let what: Vec<&str> = none.iter().map(|(pattern, _)| pattern.what.as_str()).collect();
            return format!("no {}", what.join(", no "));
        }
        some.into_iter().map(|(pattern, sum)| said(pattern, sum)).collect::<Vec<_>>().join("; ")
    }
}

/// `37 cancelled reads in 4 of 5 min`.
fn said(pattern: &Pattern, sum: &Sum) -> String {
    let mut text = format!("{} {} in {} of {}", sum.count, pattern.what, sum.minutes, minutes(pattern.window));
    if let Some((key, count)) = sum.busiest.as_ref().filter(|_| pattern.has("key")) {
        text.push_str(&format!(", {count} of {}", shown(key)));
    }
    text
}

/// What is told of a pattern below.
fn texts(pattern: &Pattern, count: &Count) -> Vec<String> {
    let Some((first, last)) = count.span else { return Vec::new() };
    let at = |at: &Timestamp| at.strftime("%H:%M:%S UTC").to_string();
    let mut texts = vec![format!("{}: first {}, last {}", pattern.what, at(&first), at(&last))];
    if count.now.keys > 1 {
        texts.push(format!("{}: of {} different ones", pattern.what, count.now.keys));
    }
    texts.extend(count.samples.iter().map(|(when, line)| format!("{} {}", at(when), line)));
    texts
}

/// The metrics of a pattern.
struct Specs {
    count: MetricSpec,
    minutes: MetricSpec,
    rate: MetricSpec,
    keys: Option<MetricSpec>,
    highest: Option<MetricSpec>,
    age: MetricSpec,
    has_age: bool,
}

impl Specs {
    fn of(name: &str, pattern: &Pattern) -> Specs {
        let spec =
            |end: &str, unit, help: String| MetricSpec::new(interned(format!("{name}{end}")), unit, interned(help));
        let (what, window) = (&pattern.what, minutes(pattern.window));
        Specs {
            count: spec("", Unit::None, format!("{what} in {window}")),
            minutes: spec("_minutes", Unit::None, format!("minutes of {window} with {what}")),
            rate: spec("_rate", Unit::None, format!("the most {what} in one minute")),
            keys: pattern.has("key").then(|| spec("_keys", Unit::None, format!("how many different ones have {what}"))),
            highest: pattern
                .has("value")
                .then(|| spec("_max", Unit::None, format!("the highest value of {what} in {window}")).optional()),
            age: spec("_age", Unit::Seconds, format!("how long there was no {what}")).optional(),
            has_age: pattern.absence,
        }
    }

    fn all(self) -> Vec<MetricSpec> {
        let age = self.has_age.then_some(self.age);
        [self.count, self.minutes, self.rate].into_iter().chain(self.keys).chain(self.highest).chain(age).collect()
    }

    fn metrics(self, pattern: &Pattern, sum: &Sum) -> Vec<Metric> {
        let text = said(pattern, sum);
        let mut metrics = vec![
            self.count.value(sum.count as f64).said(&text),
            self.minutes.value(sum.minutes as f64).said(&text),
            self.rate.value(sum.rate as f64).said(&text),
        ];
        metrics.extend(self.keys.map(|spec| spec.value(sum.keys as f64).said(&text)));
        let highest = self.highest.zip(sum.highest);
        metrics.extend(highest.map(|(spec, value)| spec.value(value).said(format!("{}: up to {value}", pattern.what))));
        metrics
    }
}
