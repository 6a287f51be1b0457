//! A network namespace with the rules of a node in it.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nodecheck::parse::ruleset::Family;

#[path = "../../../netfilter/generate.rs"]
mod generate;

const ENDPOINTS: usize = 3;

/// Which half of the kernel has the rules.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Legacy,
    Nft,
}

impl Backend {
    pub fn name(self) -> &'static str {
        match self {
            Backend::Legacy => "legacy",
            Backend::Nft => "nft",
        }
    }
}

/// A network namespace that this process, and those it starts, are in. Nothing else holds it.
pub struct Namespace {
    before: File,
}

impl Namespace {
    pub fn enter() -> Result<Namespace, Box<dyn Error>> {
        let before = File::open("/proc/self/ns/net")?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("a network namespace: {errno}: run it as root"))?;
        Ok(Namespace { before })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(errno) = setns(&self.before, CloneFlags::CLONE_NEWNET) {
            eprintln!("back to the network namespace of before: {errno}");
        }
    }
}

/// Loads the rules of so many services, in another process: memory that is held here is the least that a measured process
/// seems to hold.
pub fn load_apart(backend: Backend, services: usize) -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    let loaded = command.args(["netfilter-load", backend.name(), &services.to_string()]).status()?;
    if loaded.success() { Ok(()) } else { Err("the rules could not be loaded".into()) }
}

/// What that process does.
pub fn load(backend: &str, services: usize) -> Result<(), Box<dyn Error>> {
    let cluster = generate::Cluster::new(Family::Ip, services, ENDPOINTS);
    feed(Command::new("ipset").arg("restore"), &cluster.ipsets())?;
    feed(&mut Command::new(format!("iptables-{backend}-restore")), &cluster.rules())
}

fn feed(command: &mut Command, input: &str) -> Result<(), Box<dyn Error>> {
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let written = child.stdin.take().ok_or("no input")?.write_all(input.as_bytes());
    let status = child.wait()?;
    if status.success() { Ok(written?) } else { Err(format!("{command:?}: {status}").into()) }
}
