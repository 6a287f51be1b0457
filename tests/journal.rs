//! The reader of the journal beside systemd itself: files of every format beside what journalctl prints of them, a journald
//! that writes and rotates meanwhile, and nodes whose journal is missing, damaged or somebody else's.

#[path = "journal/beside.rs"]
mod beside;
#[path = "journal/node.rs"]
mod node;
#[path = "journal/remote.rs"]
mod remote;
#[path = "journal/samples.rs"]
mod samples;
mod support;
#[path = "journal/tools.rs"]
mod tools;
#[path = "support/journal.rs"]
mod writer;
