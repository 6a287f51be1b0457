//! Who changes the ruleset of nf_tables. After each transaction the kernel tells whoever listens the number of the new ruleset,
//! and which process made it (`nf_tables_gen_notify`, net/netfilter/nf_tables_api.c). Nothing else remembers that.
//!
//! It tells each new rule as well, which on a node with thousands of services is a flood at each change: a filter on the socket
//! leaves us one message a transaction. The kernel makes the others all the same, in the name of the writer: while anybody listens,
//! `nf_tables_commit` takes 2 to 3 µs more for each rule that comes or goes, and holds a buffer of 8 KiB for each until all are
//! made (`nft_notify_enqueue`): 20,000 rules replaced by as many took 100 ms and 320 MiB more on Linux 6.18. Hence nobody
//! listens to a large ruleset unless told to.

use std::collections::VecDeque;
use std::mem::replace;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use super::netlink::{Socket, refused};
use super::{Error, Host, machine};
use crate::parse::nftables::{NFT_MSG_NEWGEN, generation, messages, writer};
use crate::parse::ruleset::Family;

/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h), as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// Entries that are kept.
const MOST: usize = 64;
/// So many chains and sets, some 120 services, are 20 MiB for a moment when all rules are replaced.
const LARGEST: u32 = 500;
/// What may wait to be heard while the processors are busy: 2,500 changes, each 0.8 KiB, which the kernel only takes when they
/// come. Its default is a tenth of that.
const ROOM: usize = 1 << 20;
/// Until it is tried again to listen.
const REST: Duration = Duration::from_secs(60);

/// A process that changed the ruleset, several times if no other one did in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The name of its thread, as it gave it, at most 15 bytes of any kind; empty where it is not known who wrote, since the
    /// kernel had no room to tell.
    pub comm: String,
    /// The number of that thread outside of all namespaces, of the newest change; 0 where it is not known.
    pub pid: u32,
    /// When it first changed it.
    pub first: Timestamp,
    /// When it last did.
    pub last: Timestamp,
    /// How often.
    pub count: u32,
    /// The number of the ruleset that its newest change made; 0 where it is not known.
    pub generation: u32,
}

/// What was heard; shared by all looks of a daemon.
#[derive(Debug, Default)]
pub(super) struct NftWriters(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    is_begun: bool,
    /// Since when nothing was missed unnoticed; `None` while nobody listens.
    since: Option<Timestamp>,
    /// Oldest first.
    writers: VecDeque<Writer>,
}

impl NftWriters {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    /// Begins to listen for who changes the ruleset, on a thread of its own; for a daemon. Once begun it goes on, and tries
    /// again where the kernel has no nf_tables yet: that is not loaded by listening. Without CAP_NET_ADMIN it is given up. Of a
    /// tree or a recording there is nothing to hear. While the ruleset is large it rests, unless told not to (`even_if_large`).
    pub fn hear_nft_writers(&self, even_if_large: bool) -> Result<(), Error> {
        if !self.is_live() || replace(&mut self.nft_writers.heard().is_begun, true) {
            return Ok(());
        }
        let host = self.again();
        machine::start("nft writers", move || {
            loop {
                let ended = host.listen(even_if_large);
                host.nft_writers.heard().since = None;
                if matches!(ended, Err(Error::Denied { .. })) {
                    return;
                }
                sleep(REST);
            }
        })
    }

    /// Who changed the ruleset since then (`None`: since listening began), oldest first. `None` where nobody listens, or not
    /// for so long. A name may come several times, with others in between; `first` and `count` of an entry may reach further
    /// back.
    pub fn nft_writers_since(&self, since: Option<Timestamp>) -> Option<Vec<Writer>> {
        let heard = self.nft_writers.heard();
        let begun = heard.since?;
        let since = since.unwrap_or(begun);
        let wanted = |writer: &&Writer| writer.last >= since;
        (since >= begun).then(|| heard.writers.iter().filter(wanted).cloned().collect())
    }

    /// Chains and sets in all tables.
    fn nft_uses(&self) -> Result<u32, Error> {
        let of = |family| Ok(self.nft_tables(family)?.iter().fold(0_u32, |sum, table| sum.saturating_add(table.uses)));
        Ok(of(Family::Ip)?.saturating_add(of(Family::Ip6)?))
    }

    /// Listens for as long as that can be done.
    fn listen(&self, even_if_large: bool) -> Result<(), Error> {
        // Already to join the group loads the module (`nfnetlink_bind`).
        if !self.has_module("nf_tables")? {
            return Ok(());
        }
        let is_too_large = || Ok(!even_if_large && self.nft_uses()? > LARGEST);
        if is_too_large()? {
            return Ok(());
        }
        let os = |errno| refused("nf_tables", errno);
        let mut socket = Socket::hearing(GROUP, prepare).map_err(os)?;
        self.nft_writers.heard().since = Some(machine::wall_clock());
        loop {
            match socket.heard() {
                Ok(datagram) => {
                    let now = machine::wall_clock();
                    for message in messages(datagram).map_while(Result::ok) {
                        if let Some(generation) = generation(&message) {
                            self.nft_writers.heard().add(writer(&message), generation, now);
                        }
                    }
                }
                Err(Errno::EAGAIN) if is_too_large()? => return Ok(()),
                Err(Errno::EAGAIN) => socket.wait(REST).map_err(os)?,
                Err(Errno::ENOBUFS) => self.nft_writers.heard().add(None, 0, machine::wall_clock()),
                Err(errno) => return Err(os(errno)),
            }
        }
    }
}

impl Heard {
    fn add(&mut self, writer: Option<(u32, String)>, generation: u32, now: Timestamp) {
        let (pid, comm) = writer.unwrap_or_default();
        match self.writers.back_mut().filter(|newest| newest.comm == comm) {
            Some(newest) => {
                let count = newest.count.saturating_add(1);
                *newest = Writer { comm, pid, first: newest.first, last: now, count, generation };
            }
            None => self.writers.push_back(Writer { comm, pid, first: now, last: now, count: 1, generation }),
        }
        if self.writers.len() > MOST {
            self.make_room();
        }
    }

    /// Puts the oldest entry that has a later one of its name into that. Two that take turns for days must not push out a third,
    /// who came once.
    fn make_room(&mut self) {
        let later = |at: usize| {
            let comm = &self.writers.get(at)?.comm;
            let (other, _) = self.writers.iter().enumerate().skip(at + 1).find(|(_, other)| other.comm == *comm)?;
            Some((at, other))
        };
        let (oldest, into) = (0..self.writers.len()).find_map(later).unzip();
        let Some(oldest) = self.writers.remove(oldest.unwrap_or(0)) else { return };
        // One place further to the front by now.
        if let Some(entry) = into.and_then(|into| self.writers.get_mut(into - 1)) {
            entry.first = oldest.first;
            entry.count = entry.count.saturating_add(oldest.count);
        }
    }
}

fn prepare(socket: &OwnedFd) -> Result<(), Errno> {
    // With less room more is lost, and said to be.
    let _ = setsockopt(socket, RcvBufForce, &ROOM);
    attach_filter(socket)
}

/// Lets only `NFT_MSG_NEWGEN` through (classic BPF, linux/filter.h): what does not pass costs the socket no room, either.
#[allow(unsafe_code)]
fn attach_filter(socket: &OwnedFd) -> Result<(), Errno> {
    let instruction = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut program = [
        // `nlmsg_type`, in the byte order of the machine; the filter takes it for one of the network.
        instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 4),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, u32::from(NFT_MSG_NEWGEN.to_be())),
        instruction(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the socket is open as long as it is borrowed; the kernel reads `length` bytes of `filter` and as many instructions as
    // it tells of, which outlive the call, and copies them.
    let code = unsafe {
        let filter = (&raw const filter).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, filter, length)
    };
    Errno::result(code).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn names(heard: &Heard) -> Vec<(&str, u32)> {
        heard.writers.iter().map(|writer| (&*writer.comm, writer.count)).collect()
    }

    #[test]
    fn one_that_writes_again_and_again_is_one_entry() {
        let mut heard = Heard::default();
        for (second, comm) in (1..).zip(["nft", "nft", "felix", "nft"]) {
            heard.add(Some((second * 10, comm.to_owned())), second, at(second.into()));
        }
        heard.add(None, 0, at(5));
        assert_eq!(names(&heard), [("nft", 2), ("felix", 1), ("nft", 1), ("", 1)]);
        let comm = "nft".to_owned();
        let first = Writer { comm, pid: 20, first: at(1), last: at(2), count: 2, generation: 2 };
        assert_eq!(heard.writers[0], first);
    }

    #[test]
    fn two_that_take_turns_push_nobody_out() {
        let mut heard = Heard::default();
        for second in 0..10_000_u32 {
            let comm = if second == 500 { "culprit" } else { ["kube-proxy", "felix"][second as usize % 2] };
            heard.add(Some((second, comm.to_owned())), second, at(second.into()));
        }
        assert_eq!(heard.writers.len(), MOST);
        let culprit = heard.writers.iter().find(|writer| writer.comm == "culprit").unwrap();
        assert_eq!((culprit.pid, culprit.first, culprit.count), (500, at(500), 1));
        assert_eq!(heard.writers.iter().map(|writer| writer.count).sum::<u32>(), 10_000);
        assert!(heard.writers.iter().is_sorted_by_key(|writer| writer.last));
        // Where all are different, the oldest goes.
        for second in 10_000..10_100_u32 {
            heard.add(Some((1, second.to_string())), second, at(second.into()));
        }
        assert_eq!((heard.writers.len(), &*heard.writers[0].comm), (MOST, "10036"));
    }
}
