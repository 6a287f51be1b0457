//! How parameters are read that several probes have: paths and spans of time.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

use crate::host::printable;

/// Paths, none of which leads to nowhere.
pub fn paths<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let paths = list(from)?;
    match paths.iter().find_map(|path| fault(path)) {
        None => Ok(paths),
        Some(fault) => Err(D::Error::custom(fault)),
    }
}

/// Directories; a slash at the end of one says nothing.
pub fn dirs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let mut dirs = list(from)?;
    for dir in &mut dirs {
        dir.truncate(dir.trim_end_matches('/').len());
    }
    match dirs.iter().find_map(|dir| fault(dir)) {
        None => Ok(dirs),
        Some(fault) => Err(D::Error::custom(fault)),
    }
}

fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Many(Vec<String>),
        One(String),
    }
    match Given::deserialize(from) {
        Ok(Given::Many(paths)) => Ok(paths),
        Ok(Given::One(path)) => Err(D::Error::custom(format!("not a list: write [\"{}\"]", printable(&path)))),
        Err(_) => Err(D::Error::custom("not a list of paths")),
    }
}

/// One path, or none.
pub fn path_or_empty<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let path = String::deserialize(from)?;
    match fault(&path).filter(|_| !path.is_empty()) {
        None => Ok(path),
        Some(fault) => Err(D::Error::custom(fault)),
    }
}

/// Why a path can't be a file's, or is not written as plainly as it could be.
fn fault(path: &str) -> Option<String> {
    let has = |wanted: &str| path.split('/').skip(1).any(|part| part == wanted);
    let what = if !path.starts_with('/') {
        "is not an absolute path"
    } else if path.chars().any(char::is_control) {
        "has a control character in it"
    } else if path.ends_with('/') {
        "ends in a slash: it must be a file's path"
    } else if has("") {
        "has two slashes in a row"
    } else if has(".") || has("..") {
        "has a '.' or '..' between its slashes"
    } else {
        return None;
    };
    Some(format!("'{}' {what}", printable(path)))
}

/// A span of time: `"10m"`, or seconds.
pub fn span_in<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Span {
        Seconds(u64),
        Text(String),
    }
    let wrong = || D::Error::custom("not a duration such as \"24h\", nor a number of seconds");
    match Span::deserialize(from).map_err(|_| wrong())? {
        Span::Seconds(seconds) => Ok(Duration::from_secs(seconds)),
        Span::Text(text) => humantime::parse_duration(&text).map_err(|_| wrong()),
    }
}

/// The same, written.
pub fn span_out<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*span))
}
