//! Where the databases are: what a running containerd was told, then its settings, then where each distribution has it.

use std::collections::BTreeSet;

use super::{Database, META_DB, config, locks};
use crate::host::{Error, Host, optional, printable};
use crate::layout::DISTRIBUTIONS;
use crate::parse::process;

/// containerd's own default.
const DEFAULT_ROOT: &str = "/var/lib/containerd";
/// So many holders of locks are asked who they are.
const MOST_HOLDERS: usize = 512;
const LONGEST_CMDLINE: u64 = 64 << 10;

/// A root directory of containerd with a database in it.
#[derive(Debug)]
pub struct Place<'h> {
    /// The root directory.
    pub root: String,
    /// The distribution that has it there.
    pub of: Option<&'static str>,
    /// Its database, or why it can't be opened.
    pub database: Result<Database<'h>, Error>,
}

/// Finds every database, each once. With `given`, those are the only root directories that are looked at; else
/// `remembered` ones are, too, since a containerd that is down tells nothing. Absent if there is none.
pub fn find<'h>(host: &'h Host, given: &[String], remembered: &[String]) -> Result<Vec<Place<'h>>, Error> {
    let mut roots: Vec<String> = given.to_vec();
    if given.is_empty() {
        roots.extend(running(host));
        roots.extend(config::read(host, config::DEFAULT).root);
        roots.extend(DISTRIBUTIONS.iter().map(|distribution| distribution.containerd_root.to_owned()));
        roots.extend(remembered.iter().cloned());
    }
    let mut places: Vec<Place<'h>> = Vec::new();
    let mut looked = BTreeSet::new();
    for root in roots {
        let root = root.trim_end_matches('/').to_owned();
        if !root.starts_with('/') || !looked.insert(root.clone()) {
            continue;
        }
        let Some(database) = optional(Database::open(host, &root)).transpose() else { continue };
        let is_known = database.as_ref().is_ok_and(|new| {
            let known = places.iter().filter_map(|place| place.database.as_ref().ok());
            new.identity().0.is_some() && known.into_iter().any(|known| known.identity() == new.identity())
        });
        if !is_known {
            let of = DISTRIBUTIONS.iter().find(|distribution| distribution.containerd_root == root);
            places.push(Place { of: of.map(|of| of.name), root, database });
        }
    }
    if places.is_empty() {
        let looked: Vec<String> = looked.iter().map(|root| printable(root)).collect();
        return Err(Error::Absent(format!("no database of containerd ({META_DB} in {})", looked.join(", "))));
    }
    Ok(places)
}

/// The root directories of the containerds that run: each holds a lock on its database.
fn running(host: &Host) -> Vec<String> {
    let holders: BTreeSet<u32> = locks(host).unwrap_or_default().iter().map(|lock| lock.process).collect();
    let roots = holders.into_iter().filter(|process| *process > 0).take(MOST_HOLDERS).filter_map(|process| {
        let cmdline = host.read(&format!("/proc/{process}/cmdline"), LONGEST_CMDLINE).ok()?;
        let arguments = process::arguments(&cmdline);
        let is_containerd = arguments.first()?.rsplit('/').next()? == "containerd";
        is_containerd.then(|| root_of(host, &arguments))
    });
    roots.collect()
}

/// The root directory that a containerd with these arguments uses.
fn root_of(host: &Host, arguments: &[String]) -> String {
    if let Some(root) = process::option(arguments, &["root"]) {
        return root.to_owned();
    }
    let settings = process::option(arguments, &["config", "c"]).unwrap_or(config::DEFAULT);
    config::read(host, settings).root.unwrap_or_else(|| DEFAULT_ROOT.to_owned())
}
