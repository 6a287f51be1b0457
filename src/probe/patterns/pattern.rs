//! A pattern: which lines it is for, and what is counted of them.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::bytes::{Captures, Regex, RegexBuilder};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::host::printable;
use crate::probe::params::{span_in, span_out};

/// No window is longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// What a compiled expression may take.
const LARGEST: usize = 4 << 20;

/// What is looked for in the lines.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// What these lines are, in words: "cancelled reads".
    pub what: String,
    /// A line must match one of these.
    #[serde(deserialize_with = "expressions")]
    pub include: Vec<String>,
    /// And none of these.
    #[serde(default, deserialize_with = "expressions_or_none", skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// How far back it counts.
    #[serde(serialize_with = "span_out", deserialize_with = "window")]
    pub window: Duration,
    /// Whether it is of interest that no such line comes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absence: bool,
}

/// The expressions of a pattern, ready to be used.
#[derive(Debug)]
pub struct Compiled {
    include: Regex,
    exclude: Option<Regex>,
}

/// What a line has that a pattern names: `(?P<key>...)` and `(?P<value>...)`.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// Whom it is about.
    pub key: Option<String>,
    /// A number, or a duration in seconds.
    pub value: Option<f64>,
}

fn expressions<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let list = expressions_or_none(from)?;
    if list.is_empty() {
        return Err(D::Error::custom("needs at least one regular expression"));
    }
    Ok(list)
}

fn expressions_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let list = Vec::<String>::deserialize(from).map_err(|_| D::Error::custom("not a list of regular expressions"))?;
    compile(&list).map(|_| list).map_err(D::Error::custom)
}

fn window<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let window = span_in(from)?;
    match window.as_secs() {
        0..60 => Err(D::Error::custom("a window has 60 seconds at least")),
        _ if window > LONGEST => Err(D::Error::custom("a window has 24 hours at most")),
        _ => Ok(window),
    }
}

/// One expression that is any of these.
fn compile(expressions: &[String]) -> Result<Regex, String> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(LARGEST).build();
    // Each by itself: what is put together may hide a bracket that is missing.
    for one in expressions {
        build(one).map_err(|error| fault(one, &error.to_string()))?;
    }
    let any = expressions.iter().map(|one| format!("(?:{one})")).collect::<Vec<_>>().join("|");
    build(&any).map_err(|error| fault(&any, &error.to_string()))
}

/// What is wrong with an expression: the library draws it, indented by four, with marks below.
fn fault(expression: &str, drawn: &str) -> String {
    let what = drawn.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let marks = drawn.lines().find(|line| line.contains('^') && line.trim_matches([' ', '^']).is_empty());
    let place = marks.and_then(|line| line.find('^')).and_then(|at| at.checked_sub(3));
    let place = place.map(|at| format!(" (at character {at})")).unwrap_or_default();
    format!("\"{}\" is no regular expression: {what}{place}", printable(expression))
}

impl Pattern {
    /// With its expressions compiled.
    pub fn compiled(&self) -> Result<Compiled, String> {
        let exclude = if self.exclude.is_empty() { None } else { Some(compile(&self.exclude)?) };
        Ok(Compiled { include: compile(&self.include)?, exclude })
    }

    /// Whether lines are told apart by whom they are about.
    pub fn has(&self, name: &str) -> bool {
        let group = [format!("(?P<{name}>"), format!("(?<{name}>")];
        self.include.iter().any(|one| group.iter().any(|group| one.contains(group)))
    }
}

impl Compiled {
    /// What of it a line has; `None` if it is none of these.
    pub fn find(&self, line: &[u8]) -> Option<Found> {
        let is_excluded = || self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(line));
        if self.include.captures_len() == 1 {
            return (self.include.is_match(line) && !is_excluded()).then(Found::default);
        }
        let captures = self.include.captures(line).filter(|_| !is_excluded())?;
        let text = |name| text(&captures, name);
        Some(Found { key: text("key"), value: text("value").and_then(|value| number(&value)) })
    }
}

fn text(captures: &Captures<'_>, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(captures.name(name)?.as_bytes()).into_owned())
}

/// A number, or a duration as Go prints it (`1m3.2s`, `804ms`), in seconds.
pub fn number(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return Some(number).filter(|number| number.is_finite());
    }
    let units = BTreeMap::from([
        ("h", 3600.0),
        ("m", 60.0),
        ("s", 1.0),
        ("ms", 1e-3),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ns", 1e-9),
    ]);
    let (mut sum, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        sum += number.parse::<f64>().ok()? * units.get(unit)?;
        rest = after;
    }
    // Thousandths are no binary fractions.
    (!text.is_empty()).then_some((sum * 1e9_f64).round() / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<Pattern, String> {
        toml::from_str(&format!("what = \"x\"\nwindow = \"5m\"\n{text}")).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_place() {
        let of = |text: &str| pattern(&format!("include = ['{text}']")).map(drop).unwrap_err();
        assert_eq!(of("a(b"), "\"a(b\" is no regular expression: unclosed group (at character 2)");
        assert_eq!(of("a)|(b"), "\"a)|(b\" is no regular expression: unopened group (at character 2)");
        assert_eq!(of("x{2"), "\"x{2\" is no regular expression: unclosed counted repetition (at character 2)");
        assert!(of("(a{1000}){1000}").contains("size limit"), "{}", of("(a{1000}){1000}"));
        assert!(pattern("include = []").unwrap_err().contains("at least one"));
        assert!(pattern("include = 'a'").unwrap_err().contains("not a list"));
        assert!(pattern("include = ['a']\nwindow = '30s'").is_err());
        assert!(pattern("include = ['a']\nexcluded = ['b']").unwrap_err().contains("unknown field"));
    }

    #[test]
    fn lines() {
        let pattern = pattern("include = ['^a', 'b$']\nexclude = ['no', 'nay']").unwrap().compiled().unwrap();
        for (line, want) in
            [("abc", true), ("cab", true), ("xay", false), ("a nay", false), ("a no b", false), ("\u{fffd}b", true)]
        {
            assert_eq!(pattern.find(line.as_bytes()).is_some(), want, "{line}");
        }
        assert!(pattern.find(b"\xff\xfeb").is_some());
    }

    #[test]
    fn names() {
        let pattern = pattern("include = ['longest=(?P<value>\\S+)', 'pod (?P<key>\\w+)']").unwrap();
        assert!(pattern.has("value") && pattern.has("key") && !pattern.has("other"));
        let pattern = pattern.compiled().unwrap();
        assert_eq!(pattern.find(b"longest=1m3.5s x").unwrap().value, Some(63.5));
        assert_eq!(pattern.find(b"pod web").unwrap(), Found { key: Some("web".into()), value: None });
    }

    #[test]
    fn numbers() {
        for (text, want) in [
            ("804ms", Some(0.804)),
            ("1m3s", Some(63.0)),
            ("1h0m0.5s", Some(3600.5)),
            ("12", Some(12.0)),
            ("1.5", Some(1.5)),
            ("3x", None),
            ("s", None),
            ("", None),
            ("inf", None),
        ] {
            assert_eq!(number(text), want, "{text}");
        }
    }
}
