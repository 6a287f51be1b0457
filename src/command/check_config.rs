//! `check-config`: exit 0, or 1 with every fault at once, as Puppet's `validate_cmd` wants it.

use std::path::Path;

use super::Output;
use crate::catalog::Catalog;
use crate::cli::Global;
use crate::config::entries;
use crate::host::{Error, Host, machine};

pub(super) fn check_config(global: &Global, file: Option<&Path>) -> Output {
    match faults(global, file) {
        Ok(faults) if faults.is_empty() => Output::ok("ok\n"),
        Ok(faults) => Output { text: faults.join("\n") + "\n", code: 1 },
        Err(error) => Output { text: format!("{error}\n"), code: 1 },
    }
}

fn faults(global: &Global, file: Option<&Path>) -> Result<Vec<String>, Error> {
    let host = match &global.root {
        Some(dir) => Host::at_root(dir)?,
        None => Host::live()?,
    };
    let file = file.or(global.config.as_deref());
    let catalog = match file {
        None => Catalog::load(&host, None),
        Some(path) => {
            let text = machine::read_given(path)?;
            let name = path.display().to_string();
            if is_definition(&text) {
                // Puppet checks a copy under a name of its own, so the name says nothing.
                let mut catalog = Catalog::default();
                catalog.add_definition("definition", &name, &text, false);
                catalog
            } else {
                Catalog::load(&host, Some((&name, &text)))
            }
        }
    };
    let faults = catalog.all_faults();
    let own = |fault: &&crate::config::Fault| match (file, &fault.origin) {
        // Of a single file only its own faults are asked for.
        (Some(path), crate::config::Origin::File { file, .. }) => *file == path.display().to_string(),
        _ => true,
    };
    Ok(faults.iter().filter(own).map(|fault| crate::host::printable(&fault.to_string())).collect())
}

/// A definition has keys of its own at the top; nodecheck.toml has none of them.
fn is_definition(text: &str) -> bool {
    let (entries, _) = entries("", text, false);
    let own = ["probe", "summary", "why", "advice", "main", "params", "threshold", "rule", "interval", "deadline"];
    entries.iter().any(|entry| entry.path.first().is_some_and(|key| own.contains(&key.as_str())))
}
