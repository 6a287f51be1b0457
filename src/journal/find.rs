//! The files of the system's journal. Those of users (`user-1000.journal`), of other machines and of namespaces
//! (`<machine-id>.<namespace>`) are not: services write to none of them.

use crate::host::{Error, Host, optional, printable};

/// Where journald keeps what survives a reboot, and what does not, or not yet.
const ROOTS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];
const MACHINE_ID: &str = "/etc/machine-id";
/// journald keeps a hundred by default.
const MOST_FILES: usize = 100_000;
/// So many directories of others are named.
const MOST_NAMED: usize = 3;

/// Turns what the host says of a file of the journal into what would allow to read it.
pub(super) fn denied(error: Error) -> Error {
    match error {
        Error::Denied { what, .. } => {
            Error::Denied { what, need: "the group systemd-journal or CAP_DAC_READ_SEARCH".to_owned() }
        }
        error => error,
    }
}

/// The directories of this machine's journal. Only one may be there, and the other come any moment.
pub(super) fn dirs(host: &Host) -> Result<Vec<String>, Error> {
    let mut roots = Vec::new();
    for root in ROOTS {
        if let Some(names) = optional(host.list(root, MOST_FILES)).map_err(denied)? {
            let names: Vec<String> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
            roots.push((root, names));
        }
    }
    if roots.iter().all(|(_, names)| names.is_empty()) {
        return Err(Error::Absent(format!("no journal: nothing in {} nor in {}", ROOTS[0], ROOTS[1])));
    }
    let id = machine_id(host)?;
    if roots.iter().any(|(_, names)| names.contains(&id)) {
        return Ok(ROOTS.iter().map(|root| format!("{root}/{id}")).collect());
    }
    let there = roots.iter().flat_map(|(root, names)| names.iter().map(move |name| format!("{root}/{name}")));
    let mut there: Vec<String> = there.collect();
    let more = there.len().saturating_sub(MOST_NAMED);
    there.truncate(MOST_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Error::Failed(format!(
        "no journal of this machine: {MACHINE_ID} says {id}, and there is {}{more}",
        printable(&there.join(", "))
    )))
}

fn machine_id(host: &Host) -> Result<String, Error> {
    let text = host.read(MACHINE_ID, 4096).map_err(|error| match error {
        // The journal is there.
        Error::Absent(why) => Error::Failed(format!("{why}, which names the directory of this machine's journal")),
        error => error,
    })?;
    let id = String::from_utf8_lossy(&text).trim().to_owned();
    match id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(id),
        false => Err(Error::Failed(format!("{MACHINE_ID} holds no machine id"))),
    }
}

/// The files in the directories. A directory may be gone: /run's is, once journald writes to /var.
pub(super) fn files(host: &Host, dirs: &[String]) -> Result<Vec<String>, Error> {
    let mut files = Vec::new();
    for dir in dirs {
        for name in optional(host.list(dir, MOST_FILES)).map_err(denied)?.unwrap_or_default() {
            if let Some(name) = name.to_str().filter(|name| is_of_the_system(name)) {
                files.push(format!("{dir}/{name}"));
            }
        }
    }
    Ok(files)
}

/// `system.journal` is being written, `system@<seqnum-id>-<seqnum>-<time>.journal` is archived, and what ends in `~` was found
/// after a crash.
fn is_of_the_system(name: &str) -> bool {
    let name = name.strip_suffix('~').unwrap_or(name);
    name.strip_suffix(".journal").is_some_and(|name| name == "system" || name.starts_with("system@"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, is_read) in [
            ("system.journal", true),
            ("system@2f8e-0000000000000001-000660beac0f4ac0.journal", true),
            ("system@000660beac0f4ac0-4b2c.journal~", true),
            ("user-1000.journal", false),
            ("user-1000@2f8e-01-02.journal", false),
            ("system.journal.zst", false),
            ("systemd.journal", false),
            ("remote-system@x.journal", false),
            ("fss", false),
        ] {
            assert_eq!(is_of_the_system(name), is_read, "{name}");
        }
    }
}
