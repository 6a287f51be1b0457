//! Where the databases are: what a running containerd was told, then its settings, then where each distribution has it.

use std::collections::BTreeSet;

use super::{Database, META_DB, config, locks, path_of, unread};
use crate::host::{Error, Host, optional, printable};
use crate::layout::DISTRIBUTIONS;
use crate::parse::process::{self, Flock};

/// containerd's own default.
const DEFAULT_ROOT: &str = "/var/lib/containerd";
/// So many holders of locks are asked who they are.
const MOST_HOLDERS: usize = 10_000;
const LONGEST_CMDLINE: u64 = 64 << 10;
const LONGEST_STATUS: u64 = 64 << 10;

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
    let locks = if given.is_empty() { locks(host).unwrap_or_default() } else { Vec::new() };
    let running = running(host, &locks);
    if given.is_empty() {
        roots.extend(running.iter().map(|(_, root)| root.clone()));
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
        let named = running.iter().find(|(_, of)| *of == root);
        let database = match (optional(Database::open(host, &root)).transpose(), named) {
            (Some(database), _) => database,
            (None, Some((process, _))) if sees_what_we_see(host, *process) => Err(unread(Error::Failed(format!(
                "{} is gone, and containerd (process {process}) runs; put it back before that is restarted, or it forgets its pods",
                printable(&path_of(&root))
            )))),
            (None, _) => continue,
        };
        // A root directory that nothing but a process names must hold the database that it has locked.
        let is_its_own = |database: &Database<'_>, process: u32| {
            let inode = database.identity().1;
            locks.iter().any(|lock| (lock.process, lock.inode) == (process, inode))
        };
        let is_usual = remembered.contains(&root) || DISTRIBUTIONS.iter().any(|usual| usual.containerd_root == root);
        if let (Ok(database), Some((process, _)), false) = (&database, named, is_usual)
            && !is_its_own(database, *process)
        {
            continue;
        }
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

/// The containerds that run, with their root directories: each holds a lock on its database. Anybody can call himself
/// containerd: only a process of root's counts, and none in a container. What it says of its root directory counts for no more
/// than to look there.
fn running(host: &Host, locks: &[Flock]) -> Vec<(u32, String)> {
    let holders: BTreeSet<u32> = locks.iter().map(|lock| lock.process).collect();
    let roots = holders.into_iter().filter(|process| *process > 0).take(MOST_HOLDERS).filter_map(|process| {
        let cmdline = host.read(&format!("/proc/{process}/cmdline"), LONGEST_CMDLINE).ok()?;
        let arguments = process::arguments(&cmdline);
        let is_containerd = arguments.first()?.rsplit('/').next()? == "containerd";
        (is_containerd && is_of_the_node(host, process))
            .then(|| (process, root_of(host, &arguments).trim_end_matches('/').to_owned()))
    });
    roots.collect()
}

fn is_of_the_node(host: &Host, process: u32) -> bool {
    let read = |file: &str| host.read(&format!("/proc/{process}/{file}"), LONGEST_STATUS).ok();
    let is_roots = read("status").is_some_and(|status| process::is_of_root(&status));
    let is_contained = |cgroup: Vec<u8>| {
        process::container_ids(&cgroup).next().is_some() || cgroup.windows(8).any(|part| part == b"kubepods")
    };
    is_roots && !read("cgroup").is_none_or(is_contained)
}

/// Whether a process has the node's file systems, and is not in a container of its own.
fn sees_what_we_see(host: &Host, process: u32) -> bool {
    let mounts = |process: &str| host.read_link(&format!("/proc/{process}/ns/mnt")).ok();
    mounts(&process.to_string()).is_some_and(|its| mounts("1") == Some(its))
}

/// The root directory that a containerd with these arguments uses.
fn root_of(host: &Host, arguments: &[String]) -> String {
    if let Some(root) = process::option(arguments, &["root"]) {
        return root.to_owned();
    }
    let settings = process::option(arguments, &["config", "c"]).unwrap_or(config::DEFAULT);
    config::read(host, settings).root.unwrap_or_else(|| DEFAULT_ROOT.to_owned())
}
