//! Arguments in, exit code out. The only file that knows the number.
#![warn(clippy::disallowed_methods)]

use std::io::{self, Write};
use std::process::exit;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use nodecheck::check::internal_error;
use nodecheck::cli::{Cli, Command, arguments};
use nodecheck::command::{Output, execute};
use nodecheck::host::machine::{self, Patience};
use nodecheck::render::clean;
use nodecheck::serve::log;

/// How long the other end of stdout may take: a person with a pager, and a process that is being stopped.
const AT_A_TERMINAL: Duration = Duration::from_secs(3600);
const LAST_WORDS: Duration = Duration::from_millis(200);

fn main() {
    machine::hold_signals();
    std::panic::set_hook(Box::new(|panic| {
        // Not by this thread: a stderr that nobody reads would keep it from ending.
        log::say(format_args!("{panic}"));
    }));
    let mut patience = Patience::of(AT_A_TERMINAL);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        match Cli::try_parse_from(arguments(std::env::args_os())) {
            Ok(cli) => {
                if !matches!(cli.command, Command::Serve(_)) {
                    end_on_signal();
                }
                if let Command::Run(options) = &cli.command {
                    patience = Patience::of(options.timeout);
                }
                execute(&cli)
            }
            Err(error) => refused(&error),
        }
    }));
    let output = result.unwrap_or_else(|panic| Output::unknown(internal_error(&*panic)));
    print(output, patience.left().max(LAST_WORDS))
}

/// Help and version as a person asks for them are no error; everything else is UNKNOWN. Clap's own 2 would read as
/// CRITICAL.
fn refused(error: &clap::Error) -> Output {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Output { text, code: 0 },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Output { text, code: 3 },
        _ => {
            let reason = text.trim_start_matches("error: ").trim();
            let (first, rest) = reason.split_once('\n').unwrap_or((reason, ""));
            let mut output = Output::unknown(first);
            output.text.extend(rest.trim_start().lines().map(|line| clean(line) + "\n"));
            output
        }
    }
}

/// Whoever stops us still gets an answer.
fn end_on_signal() {
    let wait = || {
        if let Some(signal) = machine::wait_for_signal() {
            print(Output::unknown(format!("stopped by {signal} before there was an answer")), LAST_WORDS);
        }
    };
    // Without the thread a signal waits until the look ends, which has a deadline.
    let _ = machine::start("signals", wait);
}

/// Writes and ends. An answer that nobody could read is UNKNOWN, be stdout broken or a pipe that nobody empties.
fn print(output: Output, patience: Duration) -> ! {
    let Output { text, code } = output;
    let text: Arc<str> = text.into();
    let write = |text: &str| {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
    };
    let copy = text.clone();
    let written = match machine::within("print", patience, move || write(&copy)) {
        Ok(ended) => matches!(ended, Some(Ok(true))),
        // No thread can be had: then without a deadline.
        Err(_) => write(&text),
    };
    log::flush();
    exit(if written { i32::from(code) } else { 3 })
}
