//! What each command does; the result is text and an exit code.

mod capture;
mod check_config;
mod daemon;
mod explain;
mod list;
mod serve;

use std::env;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::{Cli, Command, Format, Global, Run};
use crate::host::clock::deadline_text;
use crate::host::{Host, machine};
use crate::node::Node;
use crate::render;
use crate::status::Status;
use crate::verdict::Finding;

/// What a command prints, and its exit code, 0 to 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// For stdout.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

impl Output {
    fn ok(text: impl Into<String>) -> Output {
        Output { text: text.into(), code: 0 }
    }

    /// Lines that hold texts from files: no control character leaves them.
    fn lines(text: &str) -> Output {
        Output::ok(text.lines().map(|line| crate::host::printable(line) + "\n").collect::<String>())
    }

    /// UNKNOWN, said by nodecheck itself.
    pub fn unknown(reason: impl std::fmt::Display) -> Output {
        let text = format!("UNKNOWN - nodecheck: {}\n", render::clean(&reason.to_string()));
        Output { text, code: Status::Unknown.code() }
    }
}

/// Does what the command line says.
pub fn execute(cli: &Cli) -> Output {
    let global = &cli.global;
    let with_node = |what: &dyn Fn(Node) -> Output| Node::open(global).map_or_else(Output::unknown, what);
    match &cli.command {
        Command::Run(options) => run(global, options),
        Command::List { format } => with_node(&|node| list::list(&node, *format)),
        Command::Explain { name } => with_node(&|node| explain::explain(&node, name)),
        Command::Serve(options) => with_node(&|node| serve::serve(node, global, options)),
        Command::CheckConfig { file } => check_config::check_config(global, file.as_deref()),
        Command::Capture { dir } => capture::capture(global, dir),
    }
}

/// Asks the daemon, or looks by itself where there is none that may be asked.
fn run(global: &Global, options: &Run) -> Output {
    let style = style();
    let patience = machine::Patience::of(options.timeout);
    match daemon::ask_daemon(global, options, style) {
        Ok(output) => output,
        // What asking took is gone.
        Err(why) => look(global.clone(), Run { timeout: patience.left(), ..options.clone() }, style, why),
    }
}

/// Looks here and now. The settings are read within the caller's patience too: their file system may hang as any other.
fn look(global: Global, options: Run, style: render::Style, why: Option<String>) -> Output {
    let patience = options.timeout;
    let work = move || match Node::open(&global) {
        Ok(node) => answer(&node, &node.host, &options, style, why),
        Err(error) => Output::unknown(error),
    };
    match machine::within("run", patience + Duration::from_millis(500), work) {
        Ok(Some(Ok(output))) => output,
        Ok(Some(Err(panic))) => Output::unknown(crate::check::internal_error(&*panic)),
        Ok(None) => Output::unknown(format!("the settings could not be read within {}", deadline_text(patience))),
        Err(error) => Output::unknown(error),
    }
}

/// Looks and prints. `alone` is why the daemon could not be asked, where there may be one.
fn answer(node: &Node, host: &Arc<Host>, options: &Run, style: render::Style, alone: Option<String>) -> Output {
    let mut verdicts = match &options.name {
        Some(name) => vec![node.ask(host, name, Some(options), options.timeout)],
        None => node.ask_all(host, options.timeout),
    };
    if let Some(why) = alone {
        let fact = Finding::fact(format!("looked without the daemon, which could not be asked: {why}"));
        verdicts.iter_mut().for_each(|verdict| verdict.add(fact.clone()));
    }
    // Asked by name, a component that is not here has a state of its own; in --all it does not count.
    let status = match (&options.name, verdicts.first()) {
        (Some(_), Some(verdict)) => verdict.status,
        _ => render::worst(&verdicts),
    };
    let text = match (options.format, &options.name) {
        (Format::Json, _) => render::json(&verdicts),
        (Format::Prometheus, _) => render::prometheus(&verdicts),
        (Format::Text, Some(_)) => verdicts.iter().map(|v| render::plugin(v, options.verbose) + "\n").collect(),
        (Format::Text, None) if options.verbose => {
            let texts: Vec<String> = verdicts.iter().map(|verdict| render::plugin(verdict, true)).collect();
            texts.join("\n\n") + "\n"
        }
        (Format::Text, None) => render::table(&verdicts, style),
    };
    Output { text, code: status.code() }
}

/// Colour and width for a terminal; neither elsewhere, nor colour where NO_COLOR is set (no-color.org).
fn style() -> render::Style {
    match machine::terminal_width() {
        None => render::Style::default(),
        width => {
            let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
            render::Style { color: !refused && !dumb, width }
        }
    }
}
