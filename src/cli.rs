//! The command line, and what the `check_*` links stand for.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::config::{Entry, Origin};

/// Finds the faults on a Kubernetes node that Kubernetes hides.
#[derive(Debug, Parser)]
#[command(name = "nodecheck", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Look at the tree below DIR instead of at this node
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Look at the recorded node in DIR, at its time
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "root")]
    pub scenario: Option<PathBuf>,
    /// Settings instead of /etc/nodecheck/nodecheck.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the past is kept instead of /var/lib/nodecheck
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where the daemon answers `run` on this node
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/nodecheck/ask.sock")]
    pub socket: PathBuf,
    /// Look here and now, do not ask the daemon (implied by --root, --scenario, --config and --state-dir)
    #[arg(long, global = true)]
    pub local: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask one check, or all that apply; the exit code is the state
    Run(Run),
    /// List the checks: name, probe, thresholds, whether each applies to this node and why not
    List {
        /// text or json
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// What a check looks at, why it matters, what to do, its parameters and thresholds
    Explain {
        /// The check's name
        name: String,
    },
    /// Look at every check once an interval, and answer NRPE and `run`
    Serve(Serve),
    /// Check nodecheck.toml or one definition: exit 0, or 1 with file:line messages
    CheckConfig {
        /// The file; without it all that is in /etc/nodecheck
        file: Option<PathBuf>,
    },
    /// Write what the probes read on this node as a scenario
    Capture {
        /// A directory that does not exist yet, or is empty
        dir: PathBuf,
    },
}

/// `run`
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// The check's name
    #[arg(required_unless_present = "all")]
    pub name: Option<String>,
    /// Every check that applies to this node
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
    /// Warning range of the main metric, or METRIC=RANGE; a Nagios range such as 10, 10:, '~:10', 10:20 or @10:20
    #[arg(short, long, value_name = "RANGE", allow_hyphen_values = true, conflicts_with = "all")]
    pub warning: Vec<String>,
    /// Critical range, likewise
    #[arg(short, long, value_name = "RANGE", allow_hyphen_values = true, conflicts_with = "all")]
    pub critical: Vec<String>,
    /// Set a parameter of the probe; the value is TOML, or else a text. Implies --local
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "all")]
    pub set: Vec<String>,
    /// Seconds until the answer is UNKNOWN
    #[arg(short, long, value_name = "SECONDS", default_value = "8", value_parser = seconds)]
    pub timeout: std::time::Duration,
    /// Also say when and by which thresholds it was judged
    #[arg(short, long)]
    pub verbose: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Where to answer NRPE, by default on `[::]:5666`, with --plain on `127.0.0.1:5666` and `[::1]:5666`
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Answer without TLS; on loopback addresses only
    #[arg(long)]
    pub plain: bool,
    /// Whether to answer NRPE at all, or only `nodecheck run` on this node [default: on]
    #[arg(long, value_name = "on|off", value_parser = on_or_off)]
    pub nrpe: Option<bool>,
    /// Whether to remember who changes nf_tables. While anybody listens, each change takes the kernel 8 KiB for a moment and some
    /// time for every rule in it; auto listens to small rulesets, of about 100 services
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub nft_writers: NftWriters,
}

/// When a daemon listens for who changes nf_tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NftWriters {
    /// While there are few rules.
    Auto,
    /// However many there are.
    Always,
    /// Not at all.
    Never,
}

/// How verdicts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Plugin output; a table for --all
    Text,
    /// One JSON document
    Json,
    /// Prometheus text exposition
    Prometheus,
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>();
    match seconds.ok().and_then(|s| std::time::Duration::try_from_secs_f64(s).ok()) {
        Some(timeout) if (0.001..=86400.0).contains(&timeout.as_secs_f64()) => Ok(timeout),
        _ => Err("a number of seconds from 0.001 to 86400 is needed".to_owned()),
    }
}

/// The arguments that clap is to see: called through a link named `check_pod_oom_kills`, the binary is
/// `nodecheck run pod-oom-kills`.
pub fn arguments(raw: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut raw = raw.into_iter();
    let program = raw.next().unwrap_or_default();
    let name = Path::new(&program).file_name().and_then(|name| name.to_str());
    let mut all = vec![OsString::from("nodecheck")];
    if let Some(check) = name.and_then(check_of_link) {
        all.extend(["run".into(), check.into()]);
    }
    all.extend(raw);
    all
}

/// The check that a link or a command of this name stands for: `check_pod_oom_kills` is `pod-oom-kills`.
pub fn check_of_link(name: &str) -> Option<String> {
    Some(name.strip_prefix("check_")?.replace('_', "-"))
}

impl Run {
    /// `-w`, `-c` and `--set` as settings on top of a check's definition. `main` is its main metric.
    pub fn options(&self, main: Option<&str>) -> Result<Vec<Entry>, String> {
        let mut entries = Vec::new();
        for (level, short, ranges) in [("warning", "-w", &self.warning), ("critical", "-c", &self.critical)] {
            for text in ranges {
                let (metric, range) = match (text.split_once('='), main) {
                    (Some((metric, range)), _) => (metric, range),
                    (None, Some(main)) => (main, text.as_str()),
                    (None, None) => {
                        return Err(format!("{short} {text}: this check has no main metric; write METRIC=RANGE"));
                    }
                };
                range.parse::<crate::threshold::Range>().map_err(|error| format!("{short} {text}: {error}"))?;
                entries.push(option(&["threshold", metric, level], toml::Value::String(range.to_owned())));
            }
        }
        for text in &self.set {
            let (key, value) = text.split_once('=').ok_or_else(|| format!("--set {text}: write KEY=VALUE"))?;
            let table = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().filter(|table| table.len() == 1);
            let parsed = table.and_then(|mut table| table.remove("v"));
            entries.push(option(&["params", key], parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()))));
        }
        Ok(entries)
    }
}

fn option(path: &[&str], value: toml::Value) -> Entry {
    Entry {
        path: path.iter().map(|key| (*key).to_owned()).collect(),
        value,
        origin: Origin::CommandLine,
        places: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<Run, clap::Error> {
        let all = ["nodecheck", "run", "x"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Command::Run(run) => Ok(run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ranges_that_look_like_options_are_taken() {
        for range in ["~:10", "-5:-1", "-10:", "@10:20", "10", "10:"] {
            let run = run(&["-w", range, "-c", range]).unwrap();
            let entries = run.options(Some("age")).unwrap();
            assert_eq!(entries[0].dotted(), "threshold.age.warning");
            assert_eq!(entries[1].value.as_str(), Some(range));
        }
    }

    #[test]
    fn other_metrics_and_parameters() {
        let run = run(&["-w", "pkgs=3", "--set", "flags=[\"/a\"]", "--set", "path=/x/y", "--set", "n=3"]).unwrap();
        let entries = run.options(None).unwrap();
        assert_eq!(entries[0].dotted(), "threshold.pkgs.warning");
        assert_eq!(entries[1].value.as_array().map(Vec::len), Some(1));
        assert_eq!(entries[2].value.as_str(), Some("/x/y"));
        assert_eq!(entries[3].value.as_integer(), Some(3));
    }

    #[test]
    fn wrong_options_are_told() {
        for (arguments, part) in
            [(["-w", "20:10"], "starts at 20"), (["-c", "x"], "not a number"), (["--set", "x"], "KEY=VALUE")]
        {
            let error = run(&arguments).unwrap().options(Some("m")).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(run(&["-w", "10"]).unwrap().options(None).unwrap_err().contains("METRIC=RANGE"));
        for timeout in ["0", "-1", "nan", "x", "1e9"] {
            assert!(run(&["-t", timeout]).is_err(), "{timeout}");
        }
        assert!(run(&["--all"]).is_err());
    }

    #[test]
    fn links() {
        let seen = |raw: &[&str]| arguments(raw.iter().map(OsString::from));
        assert_eq!(
            seen(&["/usr/lib/nagios/plugins/check_pod_oom_kills", "-v"]),
            ["nodecheck", "run", "pod-oom-kills", "-v"]
        );
        assert_eq!(seen(&["./nodecheck", "list"]), ["nodecheck", "list"]);
        assert_eq!(seen(&[]), ["nodecheck"]);
    }
}
