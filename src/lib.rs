//! nodecheck finds the faults on a Kubernetes node that Kubernetes hides.
pub mod history;
pub mod host;
pub mod status;
pub mod threshold;
pub mod verdict;
