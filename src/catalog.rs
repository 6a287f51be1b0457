//! Definitions: `checks/` built in, then `/etc/nodecheck/checks.d`, then single keys of `nodecheck.toml`, then the
//! command line. A wrong one makes its own check UNKNOWN and blinds no other.

use std::collections::BTreeMap;

use crate::check::Check;
use crate::config::{Entry, Fault, Origin, Settings, entries, near};
use crate::definition;
use crate::host::{Error, Host, optional, printable};

/// The definitions that are part of the binary: name and text.
pub static BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/checks.rs"));

/// Where the site's settings are.
const ETC: &str = "/etc/nodecheck";
/// Definitions of the site, one file a check; a file of a built-in's name replaces it whole.
pub const CHECKS_D: &str = "/etc/nodecheck/checks.d";
/// No definition is longer.
const LONGEST_DEFINITION: u64 = 64 << 10;
/// The site's settings.
pub const CONFIG: &str = "/etc/nodecheck/nodecheck.toml";
/// No settings are longer.
pub const LONGEST_CONFIG: u64 = 256 << 10;

/// All checks of a node, each usable or with what is wrong with it.
#[derive(Default)]
pub struct Catalog {
    layers: BTreeMap<String, Vec<Entry>>,
    /// Where each definition begins.
    places: BTreeMap<String, Origin>,
    faults: BTreeMap<String, Vec<Fault>>,
    /// The settings that do not belong to one check.
    pub settings: Settings,
    /// Faults that belong to no check.
    pub general: Vec<Fault>,
    /// Why no setting of the site can be trusted: its file can't be read or parsed. Every check says so.
    pub unreadable: Option<String>,
}

impl Catalog {
    /// The built-in definitions alone.
    pub fn built_in() -> Catalog {
        let mut catalog = Catalog::default();
        for (name, text) in BUILT_IN {
            catalog.add_definition(name, name, text, true);
        }
        catalog
    }

    /// Everything that holds for a node: built-in definitions, its checks.d and its nodecheck.toml (or `given`, the
    /// name and text of a file that the user named).
    pub fn load(host: &Host, given: Option<(&str, &str)>) -> Catalog {
        let mut catalog = Catalog::built_in();
        if given.is_none() && optional(host.list(ETC, 4096)) == Ok(None) {
            catalog.distrust_if_there(host, ETC);
        }
        match optional(host.list(CHECKS_D, 512)) {
            Ok(None) => catalog.distrust_if_there(host, CHECKS_D),
            Ok(Some(names)) => names.iter().for_each(|name| {
                let name = name.to_string_lossy();
                if let Some(check) = name.strip_suffix(".toml").filter(|stem| !stem.starts_with('.')) {
                    catalog.add_file(host, check, &format!("{CHECKS_D}/{name}"));
                }
            }),
            Err(error) => catalog.distrust(CHECKS_D, error.to_string()),
        }
        match given {
            Some((file, text)) => catalog.add_config(file, text),
            None => match optional(read_text(host, CONFIG, LONGEST_CONFIG)) {
                Ok(Some(text)) => catalog.add_config(CONFIG, &text),
                Ok(None) => catalog.distrust_if_there(host, CONFIG),
                Err(error) => catalog.distrust(CONFIG, error.to_string()),
            },
        }
        catalog
    }

    fn add_file(&mut self, host: &Host, check: &str, file: &str) {
        if !definition::is_name(check) {
            // No check can be asked by such a name, so none is made.
            let origin = Origin::File { file: printable(file), line: 1 };
            let message = format!("'{}' is no name for a check: use a-z, 0-9 and -, at most 64", printable(check));
            return self.general.push(Fault::new(&origin, message));
        }
        match read_text(host, file, LONGEST_DEFINITION) {
            Ok(text) => self.add_definition(check, file, &text, false),
            Err(error) => {
                let origin = Origin::File { file: printable(file), line: 1 };
                self.layers.insert(check.to_owned(), Vec::new());
                self.faults.insert(check.to_owned(), vec![Fault::new(&origin, error.to_string())]);
                self.places.insert(check.to_owned(), origin);
            }
        }
    }

    /// Adds a whole definition, replacing what there was of that name.
    pub fn add_definition(&mut self, name: &str, file: &str, text: &str, built_in: bool) {
        let (entries, faults) = entries(file, text, built_in);
        let origin = if built_in { Origin::BuiltIn } else { Origin::File { file: printable(file), line: 1 } };
        self.layers.insert(name.to_owned(), entries);
        self.faults.insert(name.to_owned(), faults);
        self.places.insert(name.to_owned(), origin);
    }

    fn add_config(&mut self, file: &str, text: &str) {
        let (entries, syntax) = entries(file, text, false);
        if let Some(first) = syntax.first() {
            self.unreadable = Some(first.to_string());
        }
        let (settings, overrides, faults) = Settings::take(entries);
        self.settings = settings;
        // Behind a syntax error keys seem to be where they are not.
        let faults = if syntax.is_empty() { faults } else { syntax };
        self.general.extend(faults);
        for mut entry in overrides {
            let named = entry.places.get(1).unwrap_or(&entry.origin).clone();
            let name = entry.path.remove(1);
            entry.path.remove(0);
            entry.places.drain(..entry.places.len().min(2));
            match self.layers.get_mut(&name) {
                Some(_) if entry.path.is_empty() && entry.value.as_table().is_some_and(toml::Table::is_empty) => {}
                Some(_) if entry.path.is_empty() => {
                    let message = format!("check.{name} must be a table");
                    self.faults.entry(name).or_default().push(Fault::new(&entry.origin, message));
                }
                Some(layers) => layers.push(entry),
                None => {
                    let known: Vec<&str> = self.layers.keys().map(String::as_str).collect();
                    self.general.push(Fault::new(&named, crate::config::unknown_name("check", &name, &known)));
                }
            }
        }
        self.general.dedup();
    }

    /// What leads nowhere, or is of the wrong kind, was meant to be there: a dangling link, a file for a directory.
    fn distrust_if_there(&mut self, host: &Host, file: &str) {
        if host.exists(file) != Ok(false) || !matches!(host.read_link(file), Err(Error::Absent(_))) {
            self.distrust(
                file,
                format!("{file} is not what it should be: a link that leads nowhere, or of another kind"),
            );
        }
    }

    fn distrust(&mut self, file: &str, reason: String) {
        let origin = Origin::File { file: file.to_owned(), line: 1 };
        let message = reason.strip_prefix(&format!("{file}: ")).unwrap_or(&reason);
        self.general.push(Fault::new(&origin, message));
        self.unreadable = Some(reason);
    }

    /// The names of all checks, the unusable ones included.
    pub fn names(&self) -> Vec<&str> {
        self.layers.keys().map(String::as_str).collect()
    }

    /// One check with `options` of the command line on top; `None` when there is no such name.
    pub fn check(&self, name: &str, options: &[Entry]) -> Option<Result<Check, Vec<Fault>>> {
        let layers = self.layers.get(name)?;
        let mut faults = self.faults.get(name).cloned().unwrap_or_default();
        let all = layers.iter().chain(options).cloned();
        match definition::build(name, self.places.get(name).unwrap_or(&Origin::BuiltIn), all) {
            Ok(check) if faults.is_empty() => Some(Ok(check)),
            Ok(_) => Some(Err(faults)),
            Err(more) => {
                // Of a file with wrong syntax, or that could not be read, missing keys say nothing new.
                let broken = !faults.is_empty();
                faults.extend(more.into_iter().filter(|fault| !broken || !fault.is_missing_key()));
                Some(Err(faults))
            }
        }
    }

    /// Every fault there is, for `check-config`.
    pub fn all_faults(&self) -> Vec<Fault> {
        let own = self.layers.keys().filter_map(|name| self.check(name, &[])?.err());
        self.general.iter().cloned().chain(own.flatten()).collect()
    }

    /// What to say to someone who asked for a check that there is none of.
    pub fn no_such(&self, name: &str) -> String {
        let known = self.names();
        let near = near(name, &known);
        let shown = printable(&name.chars().take(100).collect::<String>());
        match near.is_empty() {
            true => format!("no check is named '{shown}'; known: {}", known.join(", ")),
            false => format!("no check is named '{shown}'; did you mean {}?", near.join(" or ")),
        }
    }
}

fn read_text(host: &Host, path: &str, longest: u64) -> Result<String, Error> {
    let bytes = host.read(path, longest)?;
    String::from_utf8(bytes).map_err(|_| Error::Failed(format!("{} is not UTF-8 text", printable(path))))
}
