//! `run` and the daemon: the question as it crosses the socket, on both sides.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Output, answer};
use crate::cli::{Format, Global, Run};
use crate::host::daemon::{Asked, ask};
use crate::node::Node;
use crate::render::Style;

/// Rises when an older side could misunderstand; then `run` looks by itself.
const PROTOCOL: u32 = 1;

/// A `run`, without `--set`: parameters would let the asker choose what the daemon reads.
#[derive(Serialize, Deserialize)]
struct Question {
    protocol: u32,
    name: Option<String>,
    warning: Vec<String>,
    critical: Vec<String>,
    timeout: f64,
    verbose: bool,
    format: Format,
    color: bool,
    width: Option<usize>,
}

#[derive(Serialize, Deserialize)]
struct Reply {
    protocol: u32,
    code: u8,
    text: String,
}

/// The daemon's answer; `Err` with a reason, or without one where there is no daemon, when `run` must look by itself.
pub(super) fn ask_daemon(global: &Global, options: &Run, style: Style) -> Result<Output, Option<String>> {
    // Each of these asks for something that the daemon was not started with.
    let own = [&global.root, &global.scenario, &global.config, &global.state_dir];
    if global.local || own.iter().any(|path| path.is_some()) || !options.set.is_empty() {
        return Err(None);
    }
    let question = Question {
        protocol: PROTOCOL,
        name: options.name.clone(),
        warning: options.warning.clone(),
        critical: options.critical.clone(),
        // The daemon gives up a little earlier, so that its own sentence arrives.
        timeout: options.timeout.saturating_sub((options.timeout / 10).min(Duration::from_millis(500))).as_secs_f64(),
        verbose: options.verbose,
        format: options.format,
        color: style.color,
        width: style.width,
    };
    let line = serde_json::to_string(&question).map_err(|error| Some(error.to_string()))?;
    match ask(&global.socket, &line, options.timeout) {
        Ok(Asked::NoDaemon) => Err(None),
        Ok(Asked::Refused(reason)) => Err(Some(reason)),
        Ok(Asked::Answer(reply)) => match serde_json::from_str::<Reply>(&reply) {
            Ok(reply) if reply.protocol == PROTOCOL && reply.code <= 3 && is_text(&reply.text, style.color) => {
                Ok(Output { text: reply.text, code: reply.code })
            }
            _ => Err(Some("the daemon is of another version".to_owned())),
        },
        Err(error) => Ok(Output::unknown(error)),
    }
}

/// Whether a text can be printed as it is: there is one, and no control character in it but those of colour.
fn is_text(text: &str, color: bool) -> bool {
    let fits = |c: char| !c.is_control() || c == '\n' || (color && c == '\x1b');
    !text.is_empty() && text.chars().all(fits)
}

/// The daemon's side: answers one question.
pub(super) fn reply(node: &Node, line: &str) -> String {
    let output = match serde_json::from_str::<Question>(line) {
        Ok(question) if question.protocol == PROTOCOL => {
            let style = Style { color: question.color, width: question.width };
            let options = Run {
                all: question.name.is_none(),
                name: question.name,
                warning: question.warning,
                critical: question.critical,
                set: Vec::new(),
                timeout: Duration::try_from_secs_f64(question.timeout).unwrap_or_default(),
                verbose: question.verbose,
                format: question.format,
            };
            answer(node, &Arc::new(node.host.again()), &options, style, None)
        }
        Ok(question) => Output::unknown(format!("the daemon does not speak version {}", question.protocol)),
        Err(error) => Output::unknown(format!("the daemon did not understand: {error}")),
    };
    let reply = Reply { protocol: PROTOCOL, code: output.code, text: output.text };
    serde_json::to_string(&reply).unwrap_or_default()
}
