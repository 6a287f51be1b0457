//! Bolt databases (etcd-io/bbolt, file format 2), read without a lock while somebody writes.
//!
//! Two meta pages name the roots of the two newest trees. A transaction writes the pages of its own tree to where neither
//! tree lies, then its meta page over the older one, and only the transaction after that writes over pages of the older
//! tree (`tx.go`, `freelist.go`). So whoever walks the tree of the newest [`Meta`], and finds the same meta the newest
//! *afterwards*, to the bit, has read that tree and nothing else. Whatever a walk comes to before that second look is
//! worth nothing, errors too: torn pages are normal then.
//!
//! All numbers are in the byte order of the machine that made the file. Pages carry no checksums; metas do.

mod meta;
mod page;
mod tree;

use std::io;

pub use meta::Meta;
pub use tree::{Bucket, Db, Span, Value};

/// Why a database can't be read. Until the newest meta was found unchanged, only [`Fault::Read`] means anything.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file could not be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It has no byte.
    #[error("it is empty (0 bytes)")]
    Empty,
    /// The magic number is there, with its bytes turned round: made on a machine of the other byte order.
    #[error("it is of the other byte order (foreign endianness)")]
    ForeignEndian,
    /// The newest format that bbolt has is 2.
    #[error("it is of bolt format {0}, and only 2 is known")]
    Version(u32),
    /// Neither meta page can be used. bbolt can't open such a file either.
    #[error("neither meta page is valid: {0}")]
    NoMeta(&'static str),
    /// A page is not as bbolt writes it.
    #[error("page {page}: {why}")]
    Damaged {
        /// Its number.
        page: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A node or a tree is larger than anything that is read here.
    #[error("page {page}: {why}")]
    TooLarge {
        /// Its number.
        page: u64,
        /// What is too large.
        why: String,
    },
}

impl Fault {
    fn damaged(page: u64, why: impl Into<String>) -> Fault {
        Fault::Damaged { page, why: why.into() }
    }

    /// Whether bbolt itself, and so whoever keeps the database, fails on it.
    pub fn is_damage(&self) -> bool {
        matches!(self, Fault::NoMeta(_) | Fault::Damaged { .. })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Fills as much of `into` as the file has from `offset` on.
fn read(file: &(impl super::ReadAt + ?Sized), offset: u64, into: &mut [u8]) -> Result<usize, Fault> {
    Ok(file.read_at(offset, into)?)
}

/// What must hold for any bytes: no panic, and an end.
pub fn fuzz(data: &[u8]) {
    let Ok(meta) = Meta::newest(data) else { return };
    let db = Db::new(data, meta);
    fn descend(db: &Db<'_, [u8]>, bucket: Bucket<'_>, depth: usize) -> Result<(), Fault> {
        db.each(bucket, &mut |_, value| match value {
            Value::Bucket(bucket) if depth < 8 => descend(db, bucket, depth.saturating_add(1)),
            _ => Ok(()),
        })
    }
    let _ = descend(&db, db.root(), 0);
}

#[cfg(test)]
mod tests;
