//! nodecheck finds the faults on a Kubernetes node that Kubernetes hides.
pub mod catalog;
pub mod check;
pub mod config;
pub mod definition;
pub mod history;
pub mod host;
pub mod parse;
pub mod probe;
pub mod render;
pub mod serve;
pub mod status;
pub mod threshold;
pub mod verdict;
