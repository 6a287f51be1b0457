//! Nagios ranges, thresholds and rules: how numbers become a state.

use std::fmt;
use std::str::FromStr;

use crate::status::Status;

/// A Nagios range `[@]start:end`, as the Monitoring Plugins guidelines define it: a value *outside* it alerts, with
/// `@` a value *inside* it (bounds included) does. `10` is `0:10`, `10:` has no upper and `~:10` no lower bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    start: f64,
    end: f64,
    inside: bool,
}

/// Why a text is not a range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RangeError {
    /// There is nothing between the quotes.
    #[error("a range can't be empty; write 10, 10:, '~:10', 10:20 or @10:20")]
    Empty,
    /// A bound is not a decimal number.
    #[error("'{0}' is not a number; write a range as 10, 10:, '~:10' (in quotes), 10:20 or @10:20")]
    Number(String),
    /// The guidelines demand start <= end.
    #[error("the range starts at {0}, above its end {1}")]
    Reversed(f64, f64),
}

impl Range {
    /// Whether `value` lies where the range says that somebody must be told.
    pub fn alerts(&self, value: f64) -> bool {
        let within = self.start <= value && value <= self.end;
        within == self.inside
    }

    /// The bound that a growing value crosses, for ranges of the forms `10` and `~:10`.
    pub fn upper_limit(&self) -> Option<f64> {
        (!self.inside && self.start <= 0.0 && self.end.is_finite()).then_some(self.end)
    }
}

/// A bound in the guidelines' form: digits with a dot, no exponent. `f64::from_str` would also take `inf` and `1e3`.
fn bound(text: &str) -> Result<f64, RangeError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match text.parse::<f64>() {
        // "-0" reads back as "0", so that a printed range is always the one that was parsed.
        Ok(number) if plain && number.is_finite() => Ok(number + 0.0),
        _ => Err(RangeError::Number(text.to_owned())),
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let text = text.trim();
        let (inside, rest) = match text.strip_prefix('@') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.is_empty() || rest == ":" {
            return Err(RangeError::Empty);
        }
        let (start, end) = rest.split_once(':').unwrap_or(("", rest));
        let start = match start {
            "" => 0.0,
            "~" => f64::NEG_INFINITY,
            number => bound(number)?,
        };
        let end = match end {
            "" => f64::INFINITY,
            number => bound(number)?,
        };
        if start > end {
            return Err(RangeError::Reversed(start, end));
        }
        Ok(Range { start, end, inside })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inside {
            f.write_str("@")?;
        }
        if self.start == f64::NEG_INFINITY {
            f.write_str("~:")?;
        } else if self.start != 0.0 || self.end == f64::INFINITY {
            write!(f, "{}:", self.start)?;
        }
        if self.end.is_finite() { write!(f, "{}", self.end) } else { Ok(()) }
    }
}

/// A warning and a critical range for one metric; either may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Threshold {
    /// Alerts at WARNING.
    pub warning: Option<Range>,
    /// Alerts at CRITICAL; looked at first.
    pub critical: Option<Range>,
}

impl Threshold {
    /// The status of a value, with the range that gave it.
    pub fn judge(&self, value: f64) -> (Status, Option<Range>) {
        let hit = |range: Option<Range>| range.filter(|r| r.alerts(value));
        if let Some(range) = hit(self.critical) {
            (Status::Critical, Some(range))
        } else if let Some(range) = hit(self.warning) {
            (Status::Warning, Some(range))
        } else {
            (Status::Ok, None)
        }
    }
}

/// A conjunction: the state holds when *every* named metric alerts on its range.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The state that the rule gives.
    pub state: Status,
    /// Metric name and the range on which it must alert.
    pub all: Vec<(String, Range)>,
}

impl Rule {
    /// Whether the rule holds, given a way to look up a metric. A metric that is missing can't hold.
    pub fn holds(&self, value: impl Fn(&str) -> Option<f64>) -> bool {
        !self.all.is_empty() && self.all.iter().all(|(name, range)| value(name).is_some_and(|v| range.alerts(v)))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.all.iter().map(|(name, range)| format!("{name} alerts on {range}")).collect();
        write!(f, "{} when {}", self.state, parts.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn the_guidelines_table() {
        for (text, alerts, quiet) in [
            ("10", vec![-1.0, 10.1, 11.0], vec![0.0, 5.0, 10.0]),
            ("10:", vec![9.9, -1.0], vec![10.0, 1e12]),
            ("~:10", vec![10.5], vec![10.0, -1e9]),
            ("10:20", vec![9.0, 21.0], vec![10.0, 15.0, 20.0]),
            ("@10:20", vec![10.0, 15.0, 20.0], vec![9.0, 21.0]),
            ("0", vec![1.0, -1.0], vec![0.0]),
            ("-5:-1", vec![0.0, -6.0], vec![-5.0, -1.0]),
            ("-10:", vec![-11.0], vec![-10.0, 0.0]),
            ("@~:10", vec![-3.0, 10.0], vec![11.0]),
            (":7", vec![8.0, -1.0], vec![0.0, 7.0]),
            ("0.5:0.75", vec![0.4, 0.8], vec![0.5, 0.6]),
        ] {
            for value in alerts {
                assert!(range(text).alerts(value), "{text} must alert on {value}");
            }
            for value in quiet {
                assert!(!range(text).alerts(value), "{text} must be quiet on {value}");
            }
        }
    }

    #[test]
    fn what_is_not_a_range() {
        for text in
            ["", " ", ":", "@", "@:", "x", "10:x", "1e3", "inf", "nan", "1:2:3", "~", "10:~", "1,5", "--1", "@@1"]
        {
            assert!(text.parse::<Range>().is_err(), "'{text}' was taken");
        }
        assert_eq!("20:10".parse::<Range>(), Err(RangeError::Reversed(20.0, 10.0)));
        assert_eq!("-5".parse::<Range>(), Err(RangeError::Reversed(0.0, -5.0)));
        assert!("~:-5".parse::<Range>().is_ok());
    }

    #[test]
    fn a_printed_range_is_the_one_that_was_parsed() {
        for text in
            ["10", "10:", "~:10", "10:20", "@10:20", "0:", "0", "-5:-1", "@~:0", "0.0005", "604800", "@0:", "~:"]
        {
            let first = range(text);
            assert_eq!(range(&first.to_string()), first, "{text} printed as {first}");
        }
        assert_eq!(range("0:86400").to_string(), "86400");
    }

    #[test]
    fn critical_is_looked_at_first() {
        let t = Threshold { warning: Some(range("10")), critical: Some(range("20")) };
        assert_eq!(t.judge(5.0), (Status::Ok, None));
        assert_eq!(t.judge(15.0).0, Status::Warning);
        assert_eq!(t.judge(25.0).0, Status::Critical);
    }

    #[test]
    fn a_rule_needs_every_metric() {
        let rule = Rule { state: Status::Critical, all: vec![("a".into(), range("0")), ("b".into(), range("29"))] };
        let with = |a: Option<f64>, b: Option<f64>| rule.holds(|name| if name == "a" { a } else { b });
        assert!(with(Some(1.0), Some(30.0)));
        assert!(!with(Some(0.0), Some(30.0)));
        assert!(!with(Some(1.0), None));
        assert!(!Rule { state: Status::Warning, all: vec![] }.holds(|_| Some(1.0)));
    }
}
