//! `capture`: what the probes read on this node, as a scenario that gives the same verdicts.

use std::path::Path;
use std::sync::Arc;

use super::Output;
use crate::catalog::CONFIG;
use crate::cli::Global;
use crate::history::History;
use crate::host::{Host, machine};
use crate::node::Node;
use crate::render;
use crate::scenario::expectation;

pub(super) fn capture(global: &Global, dir: &Path) -> Output {
    let host = match (&global.root, &global.scenario) {
        (_, Some(_)) => return Output::unknown("a scenario is a capture already"),
        (Some(root), _) => Host::at_root(root),
        (None, None) => Host::live(),
    };
    match host.map(|host| Arc::new(host.recording())).and_then(|host| Node::with(host, global)) {
        Err(error) => Output::unknown(error),
        Ok(node) => {
            write(&node, global, dir).unwrap_or_else(|error| Output::unknown(format!("{}: {error}", dir.display())))
        }
    }
}

fn write(node: &Node, global: &Global, dir: &Path) -> std::io::Result<Output> {
    // Judged with the node's past, recorded in none: a capture changes nothing.
    let past = Arc::new(History::in_memory());
    let mut files = Vec::new();
    let mut lines = Vec::new();
    for name in node.catalog.names() {
        let Some(Ok(check)) = node.check(name) else {
            lines.push(format!("left out: {name}, whose definition is wrong"));
            continue;
        };
        if let Some(text) = node.history.export(name) {
            past.seed(name, &text).map_err(std::io::Error::other)?;
            files.push((format!("past/{name}.json"), text));
        }
        let verdict = check.run_here(&node.host, &past);
        let text = render::plugin(&verdict, false);
        lines.push(text.lines().next().unwrap_or_default().to_owned());
        files.push((format!("expect/{name}.txt"), expectation(verdict.status.code(), &text)));
    }
    if let Some(recording) = node.host.recorded() {
        recording.write(dir, node.host.now().wall)?;
    }
    if let Some(config) = &global.config {
        // The replay finds it where a node has it.
        let text = machine::read_given(config).map_err(std::io::Error::other)?;
        files.push((format!("root{CONFIG}"), text));
    }
    for (name, text) in files {
        machine::write_private(&dir.join(name), text.as_bytes())?;
    }
    lines.push(format!("Written to {} (only you can read it). Before you pass it on, look through:", dir.display()));
    lines.push(
        "  root/      package names, kernel versions, host paths, names of pods, what the kernel's log tells of OOM"
            .to_owned(),
    );
    lines.push(
        "             kills, command lines without their arguments' values, and /etc/nodecheck as it is".to_owned(),
    );
    lines.push(
        "  netfilter/ the rules of this node, with addresses; without their comments (iptables-nft keeps them)"
            .to_owned(),
    );
    lines.push("  root/var/log/    lines of services and of containers, as they are".to_owned());
    lines.push("  expect/, past/    the same names, and some of those lines".to_owned());
    lines.push(format!("Replay: nodecheck run NAME --scenario {}", dir.display()));
    Ok(Output::ok(lines.join("\n") + "\n"))
}
