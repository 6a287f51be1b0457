//! Tables of legacy x_tables, by getsockopt (`net/ipv4/netfilter/ip_tables.c`, `net/ipv6/netfilter/ip6_tables.c`).
//!
//! Merely asking for a table makes it (`xt_request_find_table_lock`): only tables that the kernel lists are asked for.

mod call;

use std::fmt;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::record::Seen;
use super::{Error, Host, Source, optional, printable};
use crate::parse::ruleset::{Family, Ruleset};
use crate::parse::xtables::{self, HEADER, INFO, Info, LONGEST_NAME};

use call::{GET_ENTRIES, GET_INFO, Mapping, get};

/// The kernel knows five tables, and modules could bring more.
const LONGEST_LIST: u64 = 4096;
/// 10,000 services are 40 MiB.
const MOST_BYTES: u32 = 256 << 20;
/// Somebody who writes all the time must not hold the look for ever.
const MOST_TRIES: usize = 8;

/// A table as it was at one moment.
#[derive(Debug)]
pub struct LegacyTable {
    /// Whose packets.
    pub family: Family,
    /// What is told beside the entries.
    pub info: Info,
    what: String,
    bytes: Bytes,
}

/// `struct ipt_get_entries`.
enum Bytes {
    Live(Mapping),
    Recorded(Vec<u8>),
}

impl LegacyTable {
    /// Its chains and rules.
    pub fn ruleset(&self) -> Result<Ruleset, Error> {
        let bytes = match &self.bytes {
            Bytes::Live(mapping) => mapping,
            Bytes::Recorded(bytes) => bytes.get(INFO..).unwrap_or_default(),
        };
        xtables::table(self.family, &self.info, bytes).map_err(|fault| strange(&self.what, &fault))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = match self {
            Bytes::Live(mapping) => mapping.len(),
            Bytes::Recorded(bytes) => bytes.len(),
        };
        write!(f, "{length} bytes")
    }
}

impl Host {
    /// The legacy tables that there are in this network namespace. None where the kernel has no legacy x_tables, or nobody
    /// ever used them.
    pub fn legacy_tables(&self, family: Family) -> Result<Vec<String>, Error> {
        if matches!(*self.source, Source::Root) {
            return Err(Error::Absent("no netfilter in a tree".to_owned()));
        }
        let path = match family {
            Family::Ip => "/proc/net/ip_tables_names",
            Family::Ip6 => "/proc/net/ip6_tables_names",
        };
        let names = optional(self.read(path, LONGEST_LIST))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&names).lines().map(str::to_owned).collect())
    }

    /// Chains and rules of a table; absent unless [`legacy_tables`](Host::legacy_tables) lists it.
    ///
    /// The kernel holds a lock of its own while it copies a table, 0.1 s where there are 10,000 services: not to be asked
    /// for more often than needed.
    pub fn legacy_table(&self, family: Family, name: &str) -> Result<LegacyTable, Error> {
        let what = what(family, name);
        let (info, bytes) = match &*self.source {
            Source::Scenario(recorded) => {
                let bytes = recorded.beside(&place(family, name), u64::from(MOST_BYTES));
                let bytes = bytes.map_err(|errno| refused(&what, errno))?;
                (Info::parse(&bytes), Bytes::Recorded(bytes))
            }
            _ => {
                self.is_listed(family, name, &what)?;
                self.doing(&what);
                let read = Asked::of(family, name).and_then(|table| whole(|| table.info(), |size| table.entries(size)));
                self.note(&place(family, name), || match &read {
                    Ok((info, entries)) => Seen::Content([&info[..], entries].concat()),
                    Err(errno) => Seen::Unreadable(*errno),
                });
                let (info, entries) = read.map_err(|errno| refused(&what, errno))?;
                (Info::parse(&info), Bytes::Live(entries))
            }
        };
        let info = info.map_err(|fault| strange(&what, &fault))?;
        Ok(LegacyTable { family, info, what, bytes })
    }

    /// What costs nothing to ask: how large a table is, and which base chains are empty. Absent unless
    /// [`legacy_tables`](Host::legacy_tables) lists it.
    pub fn legacy_info(&self, family: Family, name: &str) -> Result<Info, Error> {
        if !matches!(*self.source, Source::Scenario(_)) {
            self.is_listed(family, name, &what(family, name))?;
        }
        self.info_of_listed(family, name)
    }

    /// The same of those of these tables that the kernel lists, which is asked for its list once.
    pub fn legacy_infos(&self, family: Family, names: &[&str]) -> Result<Vec<Info>, Error> {
        let mut infos = Vec::new();
        for name in self.legacy_tables(family)?.iter().filter(|name| names.contains(&name.as_str())) {
            // It can't go away; another namespace may have been entered.
            infos.extend(optional(self.info_of_listed(family, name))?);
        }
        Ok(infos)
    }

    fn info_of_listed(&self, family: Family, name: &str) -> Result<Info, Error> {
        let what = what(family, name);
        let info = match &*self.source {
            Source::Scenario(recorded) => recorded.beside(&place(family, name), u64::from(MOST_BYTES)),
            _ => {
                let info = Asked::of(family, name).and_then(|table| table.info());
                self.note(&place(family, name), || match &info {
                    Ok(info) => Seen::Content(info.to_vec()),
                    Err(errno) => Seen::Unreadable(*errno),
                });
                info.map(Vec::from)
            }
        };
        let info = info.map_err(|errno| refused(&what, errno))?;
        Info::parse(&info).map_err(|fault| strange(&what, &fault))
    }

    fn is_listed(&self, family: Family, name: &str, what: &str) -> Result<(), Error> {
        let names = self.legacy_tables(family)?;
        names.iter().any(|known| known == name).then_some(()).ok_or_else(|| refused(what, Errno::ENOENT))
    }

    /// Whether this process has the network namespace of process 1: what is asked of the kernel is that of ours.
    pub fn is_in_first_netns(&self) -> Result<bool, Error> {
        let ours = self.read_link("/proc/self/ns/net")?;
        let first = self.read_link("/proc/1/ns/net").map_err(|error| match error {
            Error::Denied { what, .. } => Error::Denied { what, need: "root or CAP_SYS_PTRACE".to_owned() },
            error => error,
        })?;
        Ok(ours == first)
    }
}

/// How people call it.
fn what(family: Family, name: &str) -> String {
    let program = match family {
        Family::Ip => "iptables-legacy",
        Family::Ip6 => "ip6tables-legacy",
    };
    format!("table {} of {program}", printable(name))
}

/// Where a recording has it.
fn place(family: Family, name: &str) -> String {
    let family = match family {
        Family::Ip => "ip",
        Family::Ip6 => "ip6",
    };
    format!("netfilter/legacy-{family}-{name}")
}

/// A recorded table as it is kept; `None` where the path is not that of one.
pub(super) fn blanked(path: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let is_of = |family: &Family| path.starts_with(&place(*family, ""));
    let family = [Family::Ip, Family::Ip6].into_iter().find(is_of)?;
    Some(xtables::without_comments(family, bytes))
}

fn strange(what: &str, fault: &xtables::Fault) -> Error {
    Error::Failed(format!("{what}: {fault}"))
}

fn refused(what: &str, errno: Errno) -> Error {
    let failed = |why: &str| Error::Failed(format!("{what} {why}"));
    match errno {
        Errno::EPERM | Errno::EACCES => Error::Denied { what: what.to_owned(), need: "CAP_NET_ADMIN".to_owned() },
        // No such table, no x_tables of that family, no such family.
        Errno::ENOENT | Errno::ENOPROTOOPT | Errno::EAFNOSUPPORT => Error::Absent(format!("no {what}")),
        Errno::EAGAIN => failed("changes faster than it can be read"),
        Errno::EFBIG => failed(&format!("has more than {} MiB of rules", MOST_BYTES >> 20)),
        other => Error::Failed(format!("{what}: {}", other.desc())),
    }
}

/// Reads until what is told of the table before and after is the same. The entries come from under a lock, all of them at one
/// moment; but another table of the same size may have come in between.
fn whole(
    info: impl Fn() -> Result<[u8; INFO], Errno>,
    entries: impl Fn(u32) -> Result<Mapping, Errno>,
) -> Result<([u8; INFO], Mapping), Errno> {
    for _ in 0..MOST_TRIES {
        let before = info()?;
        let size = Info::parse(&before).map_err(|_| Errno::EPROTO)?.size;
        if size > MOST_BYTES {
            return Err(Errno::EFBIG);
        }
        match entries(size) {
            Ok(entries) if info()? == before => return Ok((before, entries)),
            // EAGAIN: it has another size by now.
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EAGAIN)
}

/// A table, to be asked for.
struct Asked {
    socket: OwnedFd,
    /// `IPPROTO_IP` or `IPPROTO_IPV6`.
    level: i32,
    name: [u8; LONGEST_NAME],
}

impl Asked {
    fn of(family: Family, name: &str) -> Result<Asked, Errno> {
        // The layouts of a 32-bit program are others.
        if cfg!(not(target_pointer_width = "64")) {
            return Err(Errno::ENOSYS);
        }
        let (address_family, level) = match family {
            Family::Ip => (AddressFamily::Inet, libc::IPPROTO_IP),
            Family::Ip6 => (AddressFamily::Inet6, libc::IPPROTO_IPV6),
        };
        let mut padded = [0; LONGEST_NAME];
        // One byte of zero is left.
        padded[..LONGEST_NAME - 1].get_mut(..name.len()).ok_or(Errno::ENOENT)?.copy_from_slice(name.as_bytes());
        // A raw socket, as iptables has, needs CAP_NET_RAW too.
        let socket = socket(address_family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Asked { socket, level, name: padded })
    }

    fn info(&self) -> Result<[u8; INFO], Errno> {
        let mut info = [0; INFO];
        info[..LONGEST_NAME].copy_from_slice(&self.name);
        get(&self.socket, self.level, GET_INFO, &mut info)?;
        Ok(info)
    }

    fn entries(&self, size: u32) -> Result<Mapping, Errno> {
        let mut entries = Mapping::new(HEADER + size as usize)?;
        entries[..HEADER].copy_from_slice(&xtables::header(&self.name, size));
        get(&self.socket, self.level, GET_ENTRIES, &mut entries)?;
        Ok(entries)
    }
}

#[cfg(test)]
mod tests;
