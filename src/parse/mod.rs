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
pub mod bootloader;
pub mod cgroup;
pub mod kernel;
pub mod kmsg;
pub mod nrpe;
pub mod reboot_flag;
pub mod release;
