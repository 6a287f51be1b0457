//! containerd's settings, as far as they say where it keeps things (`cmd/containerd/server/config`).

use std::collections::{BTreeSet, VecDeque};

use serde::Deserialize;
use wildmatch::WildMatch;

use crate::host::{Host, SMALL};

/// What containerd reads if it is not told otherwise.
pub const DEFAULT: &str = "/etc/containerd/config.toml";
/// So many files are read.
const MOST: usize = 64;

/// Directories of containerd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirs {
    /// What outlives a reboot.
    pub root: Option<String>,
}

#[derive(Deserialize)]
struct Config {
    root: Option<String>,
    #[serde(default)]
    imports: Vec<String>,
}

/// Reads a configuration with what it imports, and what that imports; a later file counts more. What can't be read says
/// nothing.
pub fn read(host: &Host, path: &str) -> Dirs {
    let mut dirs = Dirs::default();
    let (mut pending, mut known) = (VecDeque::from([path.to_owned()]), BTreeSet::new());
    while let Some(path) = pending.pop_front().filter(|_| known.len() < MOST) {
        let Some(config) = known.insert(path.clone()).then(|| parse(host, &path)).flatten() else { continue };
        dirs.root = config.root.filter(|root| !root.is_empty()).or(dirs.root);
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        for import in config.imports.into_iter().take(MOST) {
            let import = if import.starts_with('/') { import } else { format!("{directory}/{import}") };
            pending.extend(expand(host, &import).into_iter().take(MOST));
        }
    }
    dirs
}

/// A recording takes secrets out of files with this ending alone.
fn parse(host: &Host, path: &str) -> Option<Config> {
    if !path.ends_with(".toml") {
        return None;
    }
    let text = String::from_utf8(host.read(path, SMALL).ok()?).ok()?;
    toml::from_str(&text).ok()
}

/// The files that a pattern stands for; wildcards are in the last part.
fn expand(host: &Host, pattern: &str) -> Vec<String> {
    let Some((directory, name)) = pattern.rsplit_once('/').filter(|(_, name)| name.contains(['*', '?'])) else {
        return vec![pattern.to_owned()];
    };
    let pattern = WildMatch::new(name);
    let names = host.list(directory, 1000).unwrap_or_default();
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    names.filter(|name| pattern.matches(name)).map(|name| format!("{directory}/{name}")).collect()
}
