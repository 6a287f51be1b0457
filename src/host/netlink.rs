//! Conversations with netfilter over netlink (`net/netfilter/nfnetlink.c`, `net/netlink/af_netlink.c`).
//!
//! The kernel answers while it is asked: what comes is there when `send` returns, and a dump goes on as it is received.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recvmsg, send, socket,
};

use super::machine::Patience;
use super::scenario::Recorded;
use super::{Error, Host, Source, printable};
use crate::parse::nftables::{Fault, Message, Part, Question, key, messages};

/// Where recordings keep answers.
const DIR: &str = "netfilter";
/// The kernel makes datagrams as large as the buffer that it sees, up to 32 KiB; notifications may be larger.
const BUFFER: usize = 64 << 10;
/// For one conversation. A node with 10,000 services takes a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// All rules of a node with 10,000 services are 60 MB.
const MOST_RECORDED: u64 = 512 << 20;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of it came.
    Whole,
    /// Something was changed meanwhile, or lost.
    Torn,
}

/// A conversation.
pub(super) struct Netlink<'a> {
    host: &'a Host,
    way: Way<'a>,
}

enum Way<'a> {
    Live { socket: Socket, request: Vec<u8>, patience: Patience },
    Recorded { recorded: &'a Recorded, files: HashMap<String, File> },
}

/// A recorded file: its messages in order, and those of each chain or set.
struct File {
    bytes: Vec<u8>,
    by_key: HashMap<String, Vec<Range<usize>>>,
}

impl Host {
    /// Begins a conversation. Its sockets need no right; questions do.
    pub(super) fn netlink(&self) -> Result<Netlink<'_>, Error> {
        let way = match &*self.source {
            // Rules belong to a running kernel.
            Source::Root => return Err(Error::Absent("no netfilter in a tree".to_owned())),
            Source::Scenario(recorded) => Way::Recorded { recorded, files: HashMap::new() },
            Source::Live => {
                self.doing("netlink");
                let socket = Socket::open().map_err(|errno| refused("netfilter", errno))?;
                Way::Live { socket, request: Vec::new(), patience: Patience::of(PATIENCE) }
            }
        };
        Ok(Netlink { host: self, way })
    }
}

impl Netlink<'_> {
    /// Waits for a transaction of nf_tables that is under way. When a socket is closed, the kernel takes the lock of those who
    /// write, to see whether a table was the socket's (`nft_rcv_nl_event`, Linux 5.12); before that the moment which is
    /// waited for here is one of a few instructions.
    pub(super) fn settle(&self) -> Result<(), Error> {
        match self.way {
            Way::Live { .. } => Socket::open().map(drop).map_err(|errno| refused("netfilter", errno)),
            Way::Recorded { .. } => Ok(()),
        }
    }

    /// Asks, and hands on every message of the answer. `Absent` is what is not there.
    pub(super) fn ask(
        &mut self,
        question: &Question<'_>,
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), Fault>,
    ) -> Result<Answer, Error> {
        let fault = |fault: Fault| Error::Failed(format!("{}: {fault}", what(question)));
        match &mut self.way {
            Way::Live { socket, request, patience } => {
                // What is asked for part by part, for a recording.
                let mut heard = Vec::new();
                let is_recording = self.host.recording.is_some();
                let mut each = |message: &Message<'_>| {
                    if is_recording {
                        heard.extend_from_slice(message.bytes);
                        heard.resize(heard.len().next_multiple_of(4), 0);
                    }
                    each(message)
                };
                let answer = socket.ask(question, request, patience, &mut each);
                if let Some(recording) = &self.host.recording {
                    let (file, part) = question.place();
                    recording.messages(
                        &format!("{DIR}/{file}"),
                        part,
                        answer.as_ref().map(|_| heard).map_err(Stop::errno),
                    );
                }
                answer.map_err(|stop| match stop {
                    Stop::Os(errno) => refused(&what(question), errno),
                    Stop::Fault(found) => fault(found),
                    Stop::Cut => Error::Failed(format!("{}: a message of netlink is too long", what(question))),
                    Stop::Late => Error::Failed(format!("{}: no answer within {PATIENCE:?}", what(question))),
                })
            }
            Way::Recorded { recorded, files } => {
                let (name, part) = question.place();
                if !files.contains_key(&name) {
                    let bytes = recorded.beside(&format!("{DIR}/{name}"), MOST_RECORDED);
                    let bytes = bytes.map_err(|errno| refused(&what(question), errno))?;
                    files.insert(name.clone(), File::new(bytes));
                }
                let Some(file) = files.get(&name) else { return Ok(Answer::Whole) };
                let whole = 0..file.bytes.len();
                let ranges = match part {
                    Some(part) => file.by_key.get(&part).map(Vec::as_slice).unwrap_or_default(),
                    None => std::slice::from_ref(&whole),
                };
                if ranges.is_empty() && !question.is_list() {
                    return Err(refused(&what(question), Errno::ENOENT));
                }
                for range in ranges {
                    for message in messages(file.bytes.get(range.clone()).unwrap_or_default()) {
                        message.and_then(|message| each(&message)).map_err(fault)?;
                    }
                }
                Ok(Answer::Whole)
            }
        }
    }
}

impl File {
    fn new(bytes: Vec<u8>) -> File {
        let mut by_key: HashMap<String, Vec<Range<usize>>> = HashMap::new();
        let mut at = 0;
        for message in messages(&bytes).map_while(Result::ok) {
            let end = at + message.bytes.len();
            if let Some(key) = key(&message) {
                by_key.entry(key).or_default().push(at..end);
            }
            // `NLMSG_ALIGN`.
            at = end.next_multiple_of(4);
        }
        File { bytes, by_key }
    }
}

/// Why an answer is none.
enum Stop {
    Os(Errno),
    Fault(Fault),
    /// `MSG_TRUNC`.
    Cut,
    Late,
}

impl Stop {
    fn errno(&self) -> Errno {
        match self {
            Stop::Os(errno) => *errno,
            Stop::Fault(_) => Errno::EBADMSG,
            Stop::Cut => Errno::EMSGSIZE,
            Stop::Late => Errno::ETIMEDOUT,
        }
    }
}

/// What a question is about, in words.
fn what(question: &Question<'_>) -> String {
    match question {
        Question::Ipsets => "ipset".to_owned(),
        Question::Generation | Question::Tables(_) | Question::Chains(_) => "nf_tables".to_owned(),
        Question::Chain(_, table, name) | Question::Rules(_, table, name) | Question::Elements(_, table, name) => {
            format!("nf_tables: {} {}", printable(table), printable(name))
        }
    }
}

pub(super) fn refused(what: &str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM | Errno::EACCES => Error::Denied { what: what.to_owned(), need: "CAP_NET_ADMIN".to_owned() },
        // A kernel without netlink or netfilter; `nfnetlink_rcv_msg` says EINVAL of a subsystem that is not there.
        Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP => {
            Error::Absent(format!("no {what}"))
        }
        other => Error::Failed(format!("{what}: {}", other.desc())),
    }
}

/// A socket of `NETLINK_NETFILTER`.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// What the kernel calls it.
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    fn open() -> Result<Socket, Errno> {
        Socket::hearing(0, |_| Ok(()))
    }

    /// `groups`: a bit for each group whose notifications it gets, once it is prepared.
    pub(super) fn hearing(groups: u32, prepare: impl FnOnce(&OwnedFd) -> Result<(), Errno>) -> Result<Socket, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        prepare(&fd)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid();
        Ok(Socket { fd, port, sequence: 0, buffer: vec![0; BUFFER] })
    }

    fn ask(
        &mut self,
        question: &Question<'_>,
        request: &mut Vec<u8>,
        patience: &Patience,
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), Fault>,
    ) -> Result<Answer, Stop> {
        self.sequence = self.sequence.wrapping_add(1);
        question.write(self.sequence, request);
        send(self.fd.as_raw_fd(), request, MsgFlags::empty()).map_err(Stop::Os)?;
        let (sequence, port) = (self.sequence, self.port);
        let mut answer = Answer::Whole;
        loop {
            if patience.left().is_zero() {
                return Err(Stop::Late);
            }
            let datagram = match self.receive() {
                Ok(datagram) => datagram,
                Err(Stop::Os(Errno::EAGAIN)) => {
                    self.wait(patience.left()).map_err(Stop::Os)?;
                    continue;
                }
                // More came than there was room for: of notifications, but nobody knows.
                Err(Stop::Os(Errno::ENOBUFS)) => return Ok(Answer::Torn),
                Err(stop) => return Err(stop),
            };
            for message in messages(datagram) {
                let message = message.map_err(Stop::Fault)?;
                // What is left of an answer that nobody waited for.
                if message.sequence != sequence || message.port != port {
                    continue;
                }
                if message.is_interrupted() {
                    answer = Answer::Torn;
                }
                match message.part().map_err(Stop::Fault)? {
                    Part::Object { is_one_of_many } => {
                        each(&message).map_err(Stop::Fault)?;
                        if !is_one_of_many {
                            return Ok(answer);
                        }
                    }
                    Part::End(0) => return Ok(answer),
                    Part::End(errno) => match Errno::from_raw(errno) {
                        // `EINTR`: the list was begun anew too often. `EBUSY`: what is asked is being replaced.
                        Errno::EINTR | Errno::EAGAIN | Errno::EBUSY => return Ok(Answer::Torn),
                        errno => return Err(Stop::Os(errno)),
                    },
                    Part::Overrun => answer = Answer::Torn,
                    Part::Nothing => {}
                }
            }
        }
    }

    /// A datagram of the kernel's; EAGAIN where none is there.
    fn receive(&mut self) -> Result<&[u8], Stop> {
        loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let got = recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut parts, None, MsgFlags::MSG_DONTWAIT);
            let (length, flags, sender) = match got {
                Ok(got) => (got.bytes, got.flags, got.address.map(|address| address.pid())),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Stop::Os(errno)),
            };
            // Another process may write to us, too.
            if sender != Some(0) {
                continue;
            }
            if flags.contains(MsgFlags::MSG_TRUNC) {
                return Err(Stop::Cut);
            }
            return Ok(self.buffer.get(..length).unwrap_or_default());
        }
    }

    /// Notifications that have come; EAGAIN where there are none, ENOBUFS where some were lost.
    pub(super) fn heard(&mut self) -> Result<&[u8], Errno> {
        self.receive().map_err(|stop| stop.errno())
    }

    pub(super) fn wait(&self, most: Duration) -> Result<(), Errno> {
        let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
