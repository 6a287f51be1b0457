//! Bytes -> values. No I/O, no clock, no unsafe, no panic.
//!
//! Every length and pointer that is read from bytes is bounded before it is used. A parser uses nothing else of this
//! crate, so that each could become a crate of its own.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::string_slice
)]
pub mod bolt;
pub mod bootloader;
pub mod cgroup;
pub mod containerd;
pub mod ipvs;
pub mod journal;
pub mod kernel;
pub mod kmsg;
pub mod log;
pub mod nftables;
pub mod nrpe;
pub mod process;
pub mod reboot_flag;
pub mod release;
pub mod ruleset;
pub mod xtables;

use std::io;

/// Bytes at any place: of a file, or of memory.
pub trait ReadAt {
    /// Fills `into` with the bytes from `offset` on, and tells how many there were: fewer than asked for only where the
    /// file ends.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let length = rest.len().min(into.len());
        if let (Some(into), Some(from)) = (into.get_mut(..length), rest.get(..length)) {
            into.copy_from_slice(from);
        }
        Ok(length)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_at(offset, into)
    }
}
