//! nodecheck finds the faults on a Kubernetes node that Kubernetes hides.
//!
//! # The map
//!
//! ```text
//! kernel / file --Host--> bytes --parse--> value --Probe::observe--> Observation --trace--> Past
//!    (host)               (parse, pure)                                   |                   |
//!                                                                         +--Probe::assess----+
//!                                                                                  v
//! Verdict <-- Check: thresholds and rules on metrics by name <-- Assessment (metrics + findings)
//!    | render
//!    +--> stdout + exit code (main.rs); NRPE packet; JSON; Prometheus text
//! ```
//!
//! Begin with [`probe::Probe`], a kind of looking, and [`check::Check`], a named question that uses one. [`definition`]
//! turns TOML into checks, [`catalog`] gathers them, [`node::Node`] is all of a node that a command needs, and
//! [`command`] is what each command does. [`host`] is the only place that touches the node, [`history`] the only one
//! that knows what was seen before, [`serve`] the daemon: its own looks, and the only async code. Where a node keeps what
//! several probes need is in [`layout`], [`memcg`], [`containerd`], [`dataplane`], [`journal`] and [`pods`].
//!
//! Missing is not zero: absent, denied and failed are three things ([`host::Error`]), and what can't be measured is
//! UNKNOWN, never OK and never CRITICAL.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod catalog;
pub mod check;
pub mod cli;
pub mod command;
pub mod config;
pub mod containerd;
pub mod dataplane;
pub mod definition;
pub mod history;
pub mod host;
pub mod journal;
pub mod layout;
pub mod logs;
pub mod memcg;
pub mod node;
pub mod parse;
pub mod pods;
pub mod probe;
pub mod render;
pub mod scenario;
pub mod serve;
pub mod status;
pub mod threshold;
pub mod verdict;

/// Makes databases for tests.
#[cfg(test)]
#[path = "../tests/support/bolt.rs"]
mod bolt_writer;

/// Makes journal files for tests.
#[cfg(test)]
#[path = "../tests/support/journal.rs"]
mod journal_writer;
