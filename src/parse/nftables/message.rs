//! Messages and their attributes (`linux/netlink.h`, `nfnetlink.h`): numbers of a header are in the byte order of the
//! machine, those in attributes of netfilter big-endian.

use std::borrow::Cow;

use super::Fault;

/// `struct nlmsghdr`, `struct nfgenmsg`, `struct nlattr`.
pub(super) const NLMSG_HDRLEN: usize = 16;
const NFGENMSG: usize = 4;
pub(super) const NLA_HDRLEN: usize = 4;
/// Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const NLA_TYPE_MASK: u16 = 0x3fff;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLM_F_MULTI: u16 = 0x02;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A message with its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Subsystem and message, as `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE`.
    pub kind: u16,
    flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// The socket that it answers.
    pub port: u32,
    /// Header and all.
    pub bytes: &'a [u8],
    payload: &'a [u8],
}

/// What a message means for the answer it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It tells something; whether others follow.
    Object {
        /// `NLM_F_MULTI`.
        is_one_of_many: bool,
    },
    /// The answer ends here, with an errno that is not 0 where it failed.
    End(i32),
    /// The kernel had no room for the answer.
    Overrun,
    /// Nothing.
    Nothing,
}

impl<'a> Message<'a> {
    /// What it means for the answer.
    pub fn part(&self) -> Result<Part, Fault> {
        Ok(match self.kind {
            NLMSG_NOOP => Part::Nothing,
            NLMSG_OVERRUN => Part::Overrun,
            // Both begin with a negative errno, or with 0; old kernels leave it out at the end of a dump.
            NLMSG_DONE if self.payload.is_empty() => Part::End(0),
            NLMSG_DONE | NLMSG_ERROR => {
                let errno = self.payload.first_chunk().ok_or(Fault::CUT)?;
                Part::End(i32::from_ne_bytes(*errno).checked_neg().ok_or(Fault("an errno that can't be"))?.max(0))
            }
            _ => Part::Object { is_one_of_many: self.flags & NLM_F_MULTI != 0 },
        })
    }

    /// Whether what is listed was changed while it was listed (`NLM_F_DUMP_INTR`).
    pub fn is_interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    /// The family of an object (`nfgen_family`).
    pub(super) fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or(0)
    }

    /// The attributes of an object.
    pub(super) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(NFGENMSG..).unwrap_or_default())
    }
}

/// The messages of a datagram, or of several in a row. Ends at the first that is cut.
pub fn messages(bytes: &[u8]) -> Messages<'_> {
    Messages(bytes)
}

/// See [`messages`].
#[derive(Debug, Clone)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.take();
        if message.is_none() {
            self.0 = &[];
        }
        Some(message.ok_or(Fault::CUT))
    }
}

impl<'a> Messages<'a> {
    fn take(&mut self) -> Option<Message<'a>> {
        let half = |at: usize| Some(u16::from_ne_bytes(*self.0.get(at..)?.first_chunk()?));
        let whole = |at: usize| Some(u32::from_ne_bytes(*self.0.get(at..)?.first_chunk()?));
        let length = usize::try_from(whole(0)?).ok()?;
        let bytes = self.0.get(..length)?;
        let message = Message {
            kind: half(4)?,
            flags: half(6)?,
            sequence: whole(8)?,
            port: whole(12)?,
            bytes,
            payload: bytes.get(NLMSG_HDRLEN..)?,
        };
        self.0 = self.0.get(padded(length)?..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes in a payload or in an attribute. Ends at the first that is cut.
#[derive(Debug, Clone)]
pub(super) struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        // Fewer bytes than a header has are padding.
        if self.0.len() < NLA_HDRLEN {
            return None;
        }
        let taken = self.take();
        if taken.is_none() {
            self.0 = &[];
        }
        Some(taken.ok_or(Fault::CUT))
    }
}

impl<'a> Attributes<'a> {
    fn take(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & NLA_TYPE_MASK;
        let value = self.0.get(..length)?.get(NLA_HDRLEN..)?;
        self.0 = self.0.get(padded(length)?..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The first attribute of a kind. A loop that takes several at once is quicker.
pub(super) fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(bytes).map_while(Result::ok).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// `NLA_ALIGN`, `NLMSG_ALIGN`.
pub(super) fn padded(length: usize) -> Option<usize> {
    Some(length.checked_add(3)? & !3)
}

pub(super) fn be32(bytes: &[u8]) -> Result<u32, Fault> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or(Fault::CUT)
}

pub(super) fn be16(bytes: &[u8]) -> Result<u16, Fault> {
    bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)).ok_or(Fault::CUT)
}

/// A name ends with its NUL. The kernel asks for no encoding.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}
