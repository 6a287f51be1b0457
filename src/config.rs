//! TOML that people write: every value with the place it came from, every fault at once, unknown keys refused.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A definition that is part of the binary.
    BuiltIn,
    /// A line of a file.
    File {
        /// As the user would name it.
        file: String,
        /// Counted from 1.
        line: usize,
    },
    /// An option of this call.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::BuiltIn => f.write_str("built in"),
            Origin::File { file, line } => write!(f, "{file}:{line}"),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

/// Nobody mends more syntax errors of one file at a time.
const MOST_FAULTS: usize = 20;
const MISSING: &str = "is missing";

/// Something wrong in what a person wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct Fault {
    /// The place to mend.
    pub origin: Origin,
    /// What is wrong, and what is known instead.
    pub message: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(origin: &Origin, message: impl Into<String>) -> Fault {
        Fault { origin: origin.clone(), message: message.into() }
    }

    /// A key that had to be there.
    pub fn missing_key(origin: &Origin, key: &str) -> Fault {
        Fault::new(origin, format!("the key '{key}' {MISSING}"))
    }

    /// Whether it is of [`Fault::missing_key`].
    pub fn is_missing_key(&self) -> bool {
        self.message.ends_with(MISSING)
    }
}

/// One setting: the keys that lead to it, its value, and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// For example `["check", "reboot-required", "params", "kernels"]`.
    pub path: Vec<String>,
    /// The value; a table only below `params`, or when it is empty.
    pub value: Value,
    /// Where it was written.
    pub origin: Origin,
    /// Where each key of the path was written; empty when all were at `origin`.
    pub places: Vec<Origin>,
}

impl Entry {
    /// The path in TOML's dotted form.
    pub fn dotted(&self) -> String {
        self.path.join(".")
    }

    /// A fault of the key at this position of the path.
    pub fn fault_of_key(&self, position: usize, message: impl Into<String>) -> Fault {
        Fault::new(self.places.get(position).unwrap_or(&self.origin), message)
    }
}

/// All settings of a TOML text, in order, with the syntax errors that it has.
pub fn entries(file: &str, text: &str, built_in: bool) -> (Vec<Entry>, Vec<Fault>) {
    let newlines: Vec<usize> = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect();
    let place = |offset: usize| match built_in {
        true => Origin::BuiltIn,
        false => Origin::File { file: file.to_owned(), line: newlines.partition_point(|at| *at < offset) + 1 },
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    let fault = |error: &toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        Fault::new(&place(offset), error.message().trim())
    };
    let mut out = Vec::new();
    flatten(table.get_ref(), &mut Vec::new(), &mut Vec::new(), &place, &mut out);
    let mut faults: Vec<Fault> = errors.iter().take(MOST_FAULTS).map(fault).collect();
    if let (Some(last), true) = (faults.last_mut(), errors.len() > MOST_FAULTS) {
        last.message.push_str(&format!(" (and {} more syntax errors)", errors.len() - MOST_FAULTS));
    }
    (out, faults)
}

fn flatten(
    table: &DeTable<'_>,
    path: &mut Vec<String>,
    places: &mut Vec<Origin>,
    place: &impl Fn(usize) -> Origin,
    out: &mut Vec<Entry>,
) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        places.push(place(key.span().start));
        match value.get_ref() {
            // A parameter may itself be a table; it is the probe that knows.
            DeValue::Table(inner) if !inner.is_empty() && !path.iter().rev().skip(1).any(|k| k == "params") => {
                flatten(inner, path, places, place, out);
            }
            _ => {
                let origin = place(key.span().start);
                out.push(Entry { path: path.clone(), value: plain(value), origin, places: places.clone() });
            }
        }
        path.pop();
        places.pop();
    }
}

/// A parsed value without its spans.
fn plain(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::String(number.as_str().to_owned()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::String(number.as_str().to_owned()),
        },
        DeValue::Boolean(yes) => Value::Boolean(*yes),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(items) => Value::Array(items.iter().map(plain).collect()),
        DeValue::Table(table) => {
            Value::Table(table.iter().map(|(key, value)| (key.get_ref().to_string(), plain(value))).collect())
        }
    }
}

/// "x is not known; known: a, b; did you mean a?" for a wrong name.
pub fn unknown_name(what: &str, name: &str, known: &[&str]) -> String {
    let mut message = format!("unknown {what} '{}'", crate::host::printable(name));
    if let Some(near) = near(name, known).first() {
        message.push_str(&format!("; did you mean '{near}'?"));
    }
    message.push_str(&format!(" (known: {})", known.join(", ")));
    message
}

/// The known names that look like `name`, the likeliest first.
pub fn near<'a>(name: &str, known: &[&'a str]) -> Vec<&'a str> {
    let mut near: Vec<(f64, &str)> = known
        .iter()
        .map(|candidate| {
            let contains = !name.is_empty() && (candidate.contains(name) || name.contains(candidate));
            (if contains { 0.95 } else { strsim::jaro_winkler(name, candidate) }, *candidate)
        })
        .filter(|(likeness, _)| *likeness > 0.75)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().map(|(_, name)| name).take(3).collect()
}

/// The settings of `nodecheck.toml` that do not belong to one check.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// `state_dir`: where the past is kept.
    pub state_dir: Option<PathBuf>,
    /// `nrpe.enabled`: whether `serve` answers NRPE at all.
    pub nrpe: Option<bool>,
    /// `nrpe.listen`: where `serve` answers NRPE.
    pub listen: Option<SocketAddr>,
    /// What is wrong in `[nrpe]`.
    pub nrpe_fault: Option<Fault>,
}

impl Settings {
    /// Takes the settings out of a file's entries. What is left are the overrides of checks, `check.NAME....`.
    pub fn take(entries: Vec<Entry>) -> (Settings, Vec<Entry>, Vec<Fault>) {
        let mut settings = Settings::default();
        let (mut checks, mut faults) = (Vec::new(), Vec::new());
        for entry in entries {
            let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
            let text = || {
                entry
                    .value
                    .as_str()
                    .ok_or_else(|| Fault::new(&entry.origin, format!("{} must be a text", entry.dotted())))
            };
            let result = match path.as_slice() {
                ["check", _, ..] => {
                    checks.push(entry);
                    continue;
                }
                ["check"] if entry.value.as_table().is_some_and(toml::Table::is_empty) => Ok(()),
                ["nrpe"] if entry.value.as_table().is_some_and(toml::Table::is_empty) => Ok(()),
                ["state_dir"] => text().and_then(|dir| match dir.starts_with('/') {
                    true => {
                        settings.state_dir = Some(dir.into());
                        Ok(())
                    }
                    false => Err(Fault::new(&entry.origin, format!("state_dir: '{dir}' is not an absolute path"))),
                }),
                ["nrpe", "enabled"] => match entry.value.as_bool() {
                    Some(yes) => {
                        settings.nrpe = Some(yes);
                        Ok(())
                    }
                    None => Err(Fault::new(&entry.origin, "nrpe.enabled must be true or false")),
                },
                ["nrpe", "listen"] => text().and_then(|address| {
                    let parsed = address.parse().map_err(|_| {
                        let hint = "is not ADDRESS:PORT with a numeric address, for example 127.0.0.1:5666";
                        Fault::new(&entry.origin, format!("nrpe.listen: '{address}' {hint}"))
                    });
                    parsed.map(|address| settings.listen = Some(address))
                }),
                ["nrpe", key, ..] => {
                    Err(entry.fault_of_key(1, unknown_name("key in [nrpe]:", key, &["enabled", "listen"])))
                }
                [key, ..] => {
                    let known = ["state_dir", "nrpe", "check"];
                    Err(entry.fault_of_key(0, unknown_name("key", key, &known)))
                }
                [] => Ok(()),
            };
            // A wrong address must not become another one silently.
            if let (Err(fault), Some(&"nrpe")) = (&result, path.first()) {
                settings.nrpe_fault.get_or_insert_with(|| fault.clone());
            }
            faults.extend(result.err());
        }
        (settings, checks, faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let (entries, faults) = entries("f", text, false);
        let entries = entries.iter().map(|e| format!("{}={} @{}", e.dotted(), e.value, e.origin));
        entries.chain(faults.iter().map(|f| format!("fault {f}"))).collect()
    }

    #[test]
    fn every_value_has_its_place() {
        assert_eq!(lines("a = 1\n[b.c]\nd = \"x\"\n"), ["a=1 @f:1", "b.c.d=\"x\" @f:3"]);
        assert_eq!(lines("[check.x]\n"), ["check.x={} @f:1"]);
        assert_eq!(lines("[params]\nmap = { a = 1 }\n"), ["params.map={ a = 1 } @f:2"]);
    }

    #[test]
    fn syntax_errors_have_a_line_and_lose_nothing_else() {
        let seen = lines("a = 1\nb = \nc = 3\n");
        assert!(seen.iter().any(|l| l.starts_with("fault f:2")), "{seen:?}");
        assert!(seen.contains(&"a=1 @f:1".to_owned()), "{seen:?}");
    }

    #[test]
    fn every_wrong_setting_is_told_at_once() {
        let (entries, _) =
            entries("f", "state_dir = 3\nstate_dri = \"x\"\n[nrpe]\nlisten = \"myhost:5666\"\nport = 1\n", false);
        let (_, _, faults) = Settings::take(entries);
        let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 4, "{text:?}");
        assert!(text.iter().any(|t| t.contains("f:2") && t.contains("did you mean 'state_dir'?")), "{text:?}");
        assert!(text.iter().any(|t| t.contains("numeric address")), "{text:?}");
    }
}
