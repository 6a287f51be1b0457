//! A definition bound to its probe: one look, and the verdict that follows from it.

mod confirm;
mod flight;
mod held;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::definition::{Absent, Definition};
use crate::history::{History, Past, Streak};
use crate::host::clock::spoken;
use crate::host::{Error, Host, Moment};
use crate::probe::Look;
use crate::status::Status;
use crate::threshold::{Range, Threshold};
use crate::verdict::{Assessment, Finding, Judged, Metric, MetricSpec, Unit, Verdict};

use confirm::Pace;
use flight::Flight;

/// Why a look without a past tells nothing of what grew.
const BLIND: &str = "what grew is not known: no earlier look is on record, and this one is not kept for the next; needs the \
                     daemon, or a state directory that it may write (--state-dir)";
/// The note that says when a check's component was last on this node.
const COMPONENT: &str = "component";

/// A named question that can be asked.
pub struct Check {
    /// Its definition.
    pub definition: Definition,
    /// What its probe measures with these parameters.
    pub metrics: Vec<MetricSpec>,
    look: Box<dyn Look>,
    /// Its looks. They outlive the question, so that whoever asks next has them.
    flight: Flight,
    /// The check whose looks it judges, when its thresholds are those of one call.
    own: Option<Arc<Check>>,
}

/// What one look came to, before thresholds. The past itself, which may be large, is not kept.
struct Examined {
    result: Result<Assessment, Error>,
    now: Moment,
    /// When the component was on this node last.
    component: Option<Timestamp>,
    /// Why it can't tell what grew.
    unclear: Option<String>,
    remarks: Vec<String>,
    not_kept: Option<String>,
    /// As it was before this look.
    streak: Option<Streak>,
    pace: Pace,
}

impl Examined {
    fn new(result: Result<Assessment, Error>, past: Past, now: Moment, pace: Pace) -> Examined {
        let component = past.note(COMPONENT).map(|note| note.last.wall);
        let (blind, streak) = (past.is_blind(&now), past.streak().cloned());
        let Past { remarks, not_kept, unclear, .. } = past;
        let unclear = unclear.or_else(|| blind.then(|| BLIND.to_owned()));
        Examined { result, now, component, unclear, remarks, not_kept, streak, pace }
    }
}

impl Check {
    /// Binds a definition to its probe.
    pub fn new(definition: Definition, look: Box<dyn Look>, metrics: Vec<MetricSpec>) -> Check {
        Check { definition, metrics, look, flight: Flight::default(), own: None }
    }

    /// This check with a caller's thresholds, judging the looks of `own`: the parameters must be the same.
    pub fn sharing_looks_of(mut self, own: &Arc<Check>) -> Check {
        self.own = Some(own.clone());
        self
    }

    /// The check's name.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// Looks and judges on this thread, once: what it sees is told, whatever `confirm` says.
    pub fn run_here(&self, host: &Host, history: &History) -> Verdict {
        self.conclude(&self.examine(host, history, Pace::Once))
    }

    fn examine(&self, host: &Host, history: &History, pace: Pace) -> Examined {
        let now = host.now();
        let mut past = history.load(self.name(), &now);
        past.window = self.definition.window;
        let result = self.look.look(host, &past).map(|looked| {
            let trace = looked.trace().group(COMPONENT, [(String::new(), String::new())]).within(past.window);
            let trace = trace.read_until(host.again().now().uptime);
            host.doing("recording the look");
            past = history.record(self.name(), &now, &trace, None);
            past.window = self.definition.window;
            looked.assess(&past, &now)
        });
        let examined = Examined::new(result, past, now, pace);
        self.count_look(&examined, history);
        examined
    }

    /// Judges a look. Pure: a daemon does it once a question, whatever became of the node's file systems meanwhile.
    fn conclude(&self, seen: &Examined) -> Verdict {
        self.confirm(self.judge(seen), seen)
    }

    fn judge(&self, seen: &Examined) -> Verdict {
        let mut verdict = match &seen.result {
            Ok(assessment) => self.judge_assessment(assessment, &seen.now),
            Err(Error::Absent(what)) => self.judge_absent(what, seen),
            Err(error) => Verdict::unknown(self.name(), error.to_string(), seen.now.wall),
        };
        if let (true, Some(why)) = (seen.result.is_ok(), &seen.unclear) {
            let was_ok = verdict.status == Status::Ok;
            verdict.add(Finding::new(Status::Unknown, why));
            if was_ok {
                // Nothing found is no news of a look that can't find.
                verdict.summary.clone_from(why);
            }
        }
        let remarks = seen.remarks.iter().cloned();
        let not_kept = seen.not_kept.iter().map(|why| format!("this look could not be recorded: {why}"));
        verdict.findings.extend(remarks.chain(not_kept).map(Finding::fact));
        verdict
    }

    fn judge_absent(&self, what: &str, seen: &Examined) -> Verdict {
        let mut verdict = Verdict::unknown(self.name(), format!("not on this node: {what}"), seen.now.wall);
        match seen.component {
            // What was here once and is gone is never "not applicable".
            Some(last) => verdict.summary = format!("{what}, but it was on this node until {last:.0}"),
            None => {
                verdict.not_here = Some(what.to_owned());
                if self.definition.absent == Absent::Ok {
                    verdict.status = Status::Ok;
                }
            }
        }
        verdict
    }

    fn judge_assessment(&self, assessment: &Assessment, now: &Moment) -> Verdict {
        if assessment.findings.is_empty() && assessment.metrics.is_empty() {
            return Verdict::unknown(self.name(), "the look found nothing to judge by", now.wall);
        }
        self.hold(self.judge_moment(assessment, now), assessment, now)
    }

    fn judge_moment(&self, assessment: &Assessment, now: &Moment) -> Verdict {
        let mut findings = assessment.findings.clone();
        // The state that the probe's own sentence on line 1 stands for.
        let mut by_main = Status::Ok;
        let mut metrics = Vec::new();
        for metric in &assessment.metrics {
            let threshold = self.definition.thresholds.get(metric.spec.name).copied().unwrap_or_default();
            let (status, range) = threshold.judge(metric.value);
            if self.is_main(metric) {
                by_main = status;
            } else if let Some(range) = range {
                findings.push(Finding::new(status, passed_text(metric, range)));
            }
            metrics.push(Judged { metric: metric.clone(), threshold });
        }
        // A threshold on what could not be measured is not kept; the probe mostly says why.
        let optional = |name: &str| self.metrics.iter().any(|spec| spec.name == name && spec.optional);
        let missing =
            |name: &&String| assessment.metrics.iter().all(|metric| metric.spec.name != **name) && !optional(name);
        if let (Some(name), false) = (
            self.definition.thresholds.keys().find(missing),
            findings.iter().any(|finding| finding.status == Status::Unknown),
        ) {
            findings.push(Finding::new(Status::Unknown, format!("{name} has a threshold and could not be measured")));
        }
        let value = |name: &str| assessment.metrics.iter().find(|m| m.spec.name == name).map(|m| m.value);
        for rule in self.definition.rules.iter().filter(|rule| rule.holds(value)) {
            let parts = rule.all.iter().filter_map(|(name, _)| assessment.metrics.iter().find(|m| m.spec.name == name));
            let parts: Vec<String> = parts.map(said).collect();
            findings.push(Finding::new(rule.state, format!("{} (a rule)", parts.join(" and "))));
        }
        findings.sort_by_key(|finding| finding.status.rank());
        let worst = findings.first().map_or(Status::Ok, |finding| finding.status);
        let mut verdict = Verdict {
            check: self.name().to_owned(),
            status: by_main.worst(worst),
            summary: self.summary(assessment),
            metrics,
            advice: String::new(),
            at: now.wall,
            not_here: None,
            findings,
        };
        // Line 1 must hold the reason for the state.
        if verdict.status != by_main {
            verdict.lead_with_worst();
        }
        // What could not be measured is no reason to do what the fault would need.
        if matches!(verdict.status, Status::Warning | Status::Critical) {
            verdict.advice.clone_from(&self.definition.advice);
        }
        if assessment.is_settled { verdict } else { self.grace(verdict, now) }
    }

    /// The probe's sentence, with the next limit of the main metric in it.
    fn summary(&self, assessment: &Assessment) -> String {
        let mut text = assessment.summary.clone();
        let main = assessment.metrics.iter().find(|metric| self.is_main(metric) && metric.value != 0.0);
        if let Some(limit) = main.and_then(|metric| {
            let threshold = self.definition.thresholds.get(metric.spec.name)?;
            limit_text(threshold, metric)
        }) {
            text.push_str(&format!(" ({limit})"));
        }
        if !assessment.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&assessment.detail);
        }
        text
    }

    fn is_main(&self, metric: &Metric) -> bool {
        self.definition.main.as_deref() == Some(metric.spec.name)
    }

    /// Shortly after boot a node is allowed to be incomplete; what could not be measured is still said.
    fn grace(&self, mut verdict: Verdict, now: &Moment) -> Verdict {
        let left = now.uptime.and_then(|up| Duration::try_from_secs_f64(self.definition.grace.as_secs_f64() - up).ok());
        if let (Some(left), Status::Warning | Status::Critical) = (left.filter(|d| !d.is_zero()), verdict.status) {
            verdict.summary = format!("{} after {} of boot grace: {}", verdict.status, spoken(left), verdict.summary);
            verdict.status = Status::Ok;
        }
        verdict
    }
}

/// What to say of a panic that `catch_unwind` caught.
pub fn internal_error(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("internal error, please report it: {}", text.unwrap_or("a panic without a message"))
}

/// A value in the words of its unit.
pub fn spoken_value(value: f64, unit: Unit) -> String {
    match (unit, Duration::try_from_secs_f64(value)) {
        (Unit::Seconds, Ok(duration)) => spoken(duration),
        _ => format!("{value}{}", unit.suffix()),
    }
}

/// The metric's own sentence, or `newer_kernel is 1`.
fn said(metric: &Metric) -> String {
    if !metric.said.is_empty() {
        return metric.said.clone();
    }
    format!("{} is {}", metric.spec.name, spoken_value(metric.value, metric.spec.unit))
}

/// That a metric's range alerts. Beside a sentence with names a threshold of 0 says nothing.
fn passed_text(metric: &Metric, range: Range) -> String {
    match range.upper_limit() {
        _ if metric.said.is_empty() => format!("{} ({})", said(metric), bound_text(range, metric.spec.unit)),
        Some(0.0) => metric.said.clone(),
        Some(limit) => format!("{} (threshold {})", metric.said, spoken_value(limit, metric.spec.unit)),
        None => format!("{} (range {range})", metric.said),
    }
}

/// `threshold 7 d`, or the range where it is not that simple.
fn bound_text(range: Range, unit: Unit) -> String {
    range.upper_limit().map_or(format!("range {range}"), |limit| format!("threshold {}", spoken_value(limit, unit)))
}

/// The limit that matters next: the one that was passed at CRITICAL, else the one ahead.
fn limit_text(threshold: &Threshold, metric: &Metric) -> Option<String> {
    let say = |range: Range| match range.upper_limit() {
        Some(limit) => format!("above {}", spoken_value(limit, metric.spec.unit)),
        None => format!("at range {range}"),
    };
    let (warning, critical) = (threshold.warning, threshold.critical);
    match threshold.judge(metric.value).0 {
        Status::Critical => critical.map(|range| bound_text(range, metric.spec.unit)),
        Status::Ok if warning.is_some() => warning.map(|range| format!("WARNING {}", say(range))),
        _ => critical.map(|range| format!("CRITICAL {}", say(range))),
    }
}

#[cfg(test)]
mod tests;
