//! What a look came to: metrics, findings, and the verdict that every output shows.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::status::Status;
use crate::threshold::Threshold;

/// The unit of a metric, as perfdata knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    None,
    /// Seconds, `s`.
    Seconds,
    /// Bytes, `B`.
    Bytes,
    /// Per cent, `%`.
    Percent,
    /// A counter that only grows, `c`.
    Counter,
}

impl Unit {
    /// The perfdata suffix.
    pub fn suffix(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Seconds => "s",
            Unit::Bytes => "B",
            Unit::Percent => "%",
            Unit::Counter => "c",
        }
    }

    /// The word that ends a Prometheus metric's name.
    pub fn word(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Seconds => "seconds",
            Unit::Bytes => "bytes",
            Unit::Percent => "percent",
            Unit::Counter => "total",
        }
    }
}

/// What a metric is, before it is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSpec {
    /// `[a-z0-9_]+`; the name in thresholds, perfdata and Prometheus.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// One sentence for `explain` and Prometheus' HELP.
    pub help: &'static str,
    /// The smallest and the largest value it can have, where there is one.
    pub limits: (Option<f64>, Option<f64>),
    /// Whether some kernels can't give it: then a threshold on it waits for one that can.
    pub optional: bool,
}

impl MetricSpec {
    /// A metric that can't be negative.
    pub const fn new(name: &'static str, unit: Unit, help: &'static str) -> MetricSpec {
        MetricSpec { name, unit, help, limits: (Some(0.0), None), optional: false }
    }

    /// A metric that is 0 or 1.
    pub const fn yes_no(name: &'static str, help: &'static str) -> MetricSpec {
        MetricSpec { name, unit: Unit::None, help, limits: (Some(0.0), Some(1.0)), optional: false }
    }

    /// A part of a whole, from 0 to 100.
    pub const fn percent(name: &'static str, help: &'static str) -> MetricSpec {
        MetricSpec { name, unit: Unit::Percent, help, limits: (Some(0.0), Some(100.0)), optional: false }
    }

    /// This metric, which some kernels can't give.
    pub const fn optional(mut self) -> MetricSpec {
        self.optional = true;
        self
    }

    /// This metric with a measured value.
    pub fn value(&self, value: f64) -> Metric {
        Metric { spec: self.clone(), value, said: String::new() }
    }
}

/// A measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// What it is.
    pub spec: MetricSpec,
    /// The value; always finite.
    pub value: f64,
    /// The sentence that tells of it, with names, when its threshold is passed; empty: its name and value.
    pub said: String,
}

impl Metric {
    /// This metric with its sentence.
    pub fn said(mut self, sentence: impl Into<String>) -> Metric {
        self.said = sentence.into();
        self
    }
}

/// One sentence with a status: a fact that is not a number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// OK for what is only worth knowing.
    pub status: Status,
    /// The sentence, with names.
    pub text: String,
}

impl Finding {
    /// A finding.
    pub fn new(status: Status, text: impl Into<String>) -> Finding {
        Finding { status, text: text.into() }
    }

    /// A fact worth knowing that changes no state.
    pub fn fact(text: impl Into<String>) -> Finding {
        Finding::new(Status::Ok, text)
    }
}

/// What a probe thinks of what it saw. Thresholds are not its business.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assessment {
    /// The short sentence of line 1.
    pub summary: String,
    /// What follows it on line 1 after a colon: the names. May be empty.
    pub detail: String,
    /// Facts with a state; any order.
    pub findings: Vec<Finding>,
    /// Numbers for thresholds and perfdata.
    pub metrics: Vec<Metric>,
    /// The same of a while ago, where that still counts: the worst state of all is told.
    pub earlier: Vec<Earlier>,
    /// Whether the node has been as it should be in this boot: then it needs no time after boot any more.
    pub is_settled: bool,
}

/// What was measured of a while ago.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Earlier {
    /// So long ago.
    pub ago: Duration,
    /// The sentence of then.
    pub summary: String,
    /// The numbers of then.
    pub metrics: Vec<Metric>,
}

/// A name that is only known at run time, for as long as the process lives; the same name twice is one.
pub fn interned(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = Box::leak(name.into_boxed_str());
    names.insert(name);
    name
}

/// A metric with the threshold that it was judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The value.
    pub metric: Metric,
    /// Its threshold; empty where it has none.
    pub threshold: Threshold,
}

/// The answer of a check, the same on every way out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The check's name.
    pub check: String,
    /// Worst of all that was found.
    pub status: Status,
    /// Line 1 without state, name and perfdata.
    pub summary: String,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// As perfdata shows them.
    pub metrics: Vec<Judged>,
    /// What to do; empty when there is nothing to do.
    pub advice: String,
    /// When the node was looked at.
    pub at: Timestamp,
    /// What the check looked for in vain, when its component is not on this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_here: Option<String>,
}

impl Verdict {
    /// UNKNOWN with a reason.
    pub fn unknown(check: &str, reason: impl Into<String>, at: Timestamp) -> Verdict {
        Verdict {
            check: check.to_owned(),
            status: Status::Unknown,
            summary: reason.into(),
            findings: Vec::new(),
            metrics: Vec::new(),
            advice: String::new(),
            at,
            not_here: None,
        }
    }

    /// Adds a finding and lets it count, on line 1 too when it is graver than what is there.
    pub fn add(&mut self, finding: Finding) {
        let graver = finding.status.rank() < self.status.rank();
        self.status = self.status.worst(finding.status);
        self.findings.push(finding);
        self.findings.sort_by_key(|finding| finding.status.rank());
        if graver {
            self.lead_with_worst();
        }
    }

    /// Begins line 1 with the worst finding: it must hold the reason for the state.
    pub fn lead_with_worst(&mut self) {
        if let Some(worst) = self.findings.first() {
            self.summary = format!("{}; {}", worst.text, self.summary);
        }
    }
}

impl fmt::Display for Metric {
    /// The value with its unit, as perfdata wants it: a decimal number, no exponent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.value, self.spec.unit.suffix())
    }
}

impl Serialize for Judged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.metric.spec.name)?;
        map.serialize_entry("value", &self.metric.value)?;
        map.serialize_entry("unit", self.metric.spec.unit.suffix())?;
        for (key, range) in [("warning", self.threshold.warning), ("critical", self.threshold.critical)] {
            if let Some(range) = range {
                map.serialize_entry(key, &range.to_string())?;
            }
        }
        map.end()
    }
}
