//! The flags that package hooks leave, with what lies beside them.

use jiff::Timestamp;

use crate::host::{Error, FileKind, Host, optional};
use crate::parse::reboot_flag::{self, Level};

/// A list of packages is a few hundred bytes.
const LONGEST_LIST: u64 = 64 << 10;

/// The flags that were looked for.
#[derive(Debug)]
pub(super) struct Flags {
    pub found: Vec<Flag>,
    /// Places that could not be looked at and may hold a flag.
    pub unread: Vec<Error>,
    /// What hides no flag and is worth knowing.
    pub remarks: Vec<String>,
    /// Whether every list of packages could be read.
    pub packages_known: bool,
}

/// One flag.
#[derive(Debug)]
pub(super) struct Flag {
    pub path: String,
    pub born: Option<Timestamp>,
    pub modified: Option<Timestamp>,
    pub level: Option<Level>,
    /// Distinct, fit to be shown.
    pub packages: Vec<String>,
}

impl Default for Flags {
    fn default() -> Self {
        Flags { found: Vec::new(), unread: Vec::new(), remarks: Vec::new(), packages_known: true }
    }
}

impl Flags {
    pub(super) fn look(host: &Host, paths: &[String]) -> Flags {
        let mut flags = Flags::default();
        for path in paths {
            match optional(host.stat(path)) {
                Ok(None) => {}
                // `docker -v` makes a directory of a file that is not there.
                Ok(Some(stat)) if stat.kind == FileKind::Directory => {
                    flags.remarks.push(format!("{} is a directory, hence no flag", super::shown(path)));
                }
                Ok(Some(stat)) => {
                    let packages = flags.packages(host, &format!("{path}.pkgs"));
                    // Its text is prose in the node's language; only a lone level word means something, and without
                    // one nothing less than a reboot is enough.
                    let level = host.read_head(path, 64).ok().and_then(|bytes| reboot_flag::level(&bytes));
                    let (born, modified) = (stat.born, stat.modified);
                    flags.found.push(Flag { path: path.clone(), born, modified, level, packages });
                }
                Err(error) => flags.unread.push(error),
            }
        }
        flags
    }

    fn packages(&mut self, host: &Host, path: &str) -> Vec<String> {
        let mut bytes = match optional(host.read_head(path, LONGEST_LIST + 1)) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) => {
                self.packages_known = false;
                self.remarks.push(format!("the packages are not known: {error}"));
                return Vec::new();
            }
        };
        if bytes.len() as u64 > LONGEST_LIST {
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            bytes.truncate(whole);
            self.remarks.push(format!("{} is cut after {} KiB", super::shown(path), LONGEST_LIST >> 10));
        }
        let Some(names) = reboot_flag::packages(&bytes) else {
            self.packages_known = false;
            self.remarks.push(format!("{} is binary and no list of packages", super::shown(path)));
            return Vec::new();
        };
        names.iter().map(|name| super::shown(name)).collect()
    }

    /// The distinct packages of those flags that `counts` takes, in their order.
    pub(super) fn packages_of(&self, counts: impl Fn(&Flag) -> bool) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        let names = self.found.iter().filter(|flag| counts(flag)).flat_map(|flag| &flag.packages);
        names.filter(|name| seen.insert(*name)).cloned().collect()
    }
}
