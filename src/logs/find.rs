//! Which files there are: patterns, and what was put aside of each file.

use std::collections::{BTreeMap, BTreeSet};

use wildmatch::WildMatch;

use super::Told;
use super::stream::Stream;
use crate::host::{Error, Host, printable};
use crate::parse::log::{Age, Name};
use crate::pods::log_number;

/// More entries than a directory of logs has.
pub(super) const MOST_ENTRIES: usize = 100_000;

/// One file of a stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    pub(super) age: Age,
    /// Where both are there, the packed one may still be made: it comes last.
    pub(super) is_packed: bool,
    pub(super) name: String,
}

/// Why a text is no path of log files.
pub fn fault(glob: &str) -> Option<&'static str> {
    let Some(path) = glob.strip_prefix('/') else { return Some("is not an absolute path") };
    let is_odd = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    path.split('/').any(is_odd).then_some("has a '.', a '..' or an empty part")
}

/// The patterns, for people.
pub(super) fn spoken(globs: &[String]) -> String {
    globs.iter().map(|glob| printable(glob)).collect::<Vec<String>>().join(", ")
}

/// Every file that a pattern fits, with those that were put aside of it.
pub(super) fn streams(host: &Host, globs: &[String], told: &mut Told) -> Result<Vec<Stream>, Error> {
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    let mut listed: BTreeMap<String, BTreeMap<String, Vec<File>>> = BTreeMap::new();
    for glob in globs {
        if let Some(fault) = fault(glob) {
            return Err(Error::Failed(format!("'{}' {fault}", printable(glob))));
        }
        let (dir, base) = glob.rsplit_once('/').unwrap_or_default();
        for dir in directories(host, dir, told) {
            if !listed.contains_key(&dir) {
                let files = told.keep(files(host, &dir)).unwrap_or_default();
                listed.insert(dir.clone(), files);
            }
            let bases = listed.get(&dir).into_iter().flat_map(BTreeMap::keys).filter(|name| fits(base, name));
            found.extend(bases.map(|base| (dir.clone(), base.clone())));
        }
    }
    let stream = |(dir, base): (String, String)| {
        let files = listed.get_mut(&dir)?;
        // The kubelet throws away the logs of a container's earlier lives.
        let first = files.keys().filter_map(|base| log_number(base)).min();
        let has_forgotten = first.is_some_and(|first| first > 0 && log_number(&base) == Some(first));
        let files = files.get(&base)?.clone();
        Some(Stream { dir, base, files, has_forgotten })
    };
    Ok(found.into_iter().filter_map(stream).collect())
}

/// The files in a directory by what they are called while they are written to, the oldest first.
pub(super) fn files(host: &Host, dir: &str) -> Result<BTreeMap<String, Vec<File>>, Error> {
    let mut all: BTreeMap<String, Vec<File>> = BTreeMap::new();
    let names = host.list(if dir.is_empty() { "/" } else { dir }, MOST_ENTRIES)?;
    for name in names.into_iter().filter_map(|name| name.into_string().ok()) {
        if let Some(Name { base, age, is_packed }) = Name::parse(&name) {
            all.entry(base).or_default().push(File { age, is_packed, name });
        }
    }
    for files in all.values_mut() {
        files.sort();
        files.dedup_by(|packed, plain| packed.age == plain.age);
    }
    Ok(all)
}

/// The directories that a pattern fits; those without `*` and `?` are not looked at.
fn directories(host: &Host, glob: &str, told: &mut Told) -> Vec<String> {
    let mut found = vec![String::new()];
    for part in glob.split('/').skip(1) {
        let is_plain = !part.contains(['*', '?']);
        let below = |above: String| -> Vec<String> {
            if is_plain {
                return vec![format!("{above}/{part}")];
            }
            let names = host.list(if above.is_empty() { "/" } else { &above }, MOST_ENTRIES);
            let names = told.keep(names).unwrap_or_default();
            let names = names.into_iter().filter_map(|name| name.into_string().ok());
            names.filter(|name| fits(part, name)).map(|name| format!("{above}/{name}")).collect()
        };
        found = found.into_iter().flat_map(below).collect();
    }
    found
}

/// As in a shell, no `*` is for a name that begins with a dot.
fn fits(pattern: &str, name: &str) -> bool {
    let is_hidden = name.starts_with('.') && !pattern.starts_with('.');
    !is_hidden && WildMatch::new(pattern).matches(name)
}
