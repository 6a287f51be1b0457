//! The node that a command is about: the host, its past, and the checks that hold for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::catalog::Catalog;
use crate::check::{Check, internal_error};
use crate::cli::{Global, Run};
use crate::config::Fault;
use crate::history::History;
use crate::host::state_dir::StateDir;
use crate::host::{Error, Host, machine};
use crate::status::Status;
use crate::verdict::{Finding, Verdict};

/// Where the past is kept when nobody says otherwise.
pub const STATE_DIR: &str = "/var/lib/nodecheck";

/// All that a look needs.
pub struct Node {
    /// What is looked at.
    pub host: Arc<Host>,
    /// What was seen before.
    pub history: Arc<History>,
    /// The definitions and settings.
    pub catalog: Catalog,
    /// What is usable of them, each built when it is first asked for, and once: a check knows of its look under way.
    checks: BTreeMap<String, OnceLock<Usable>>,
    /// Whether a sampler looks at the checks, so that a question needs no look of its own.
    sampled: bool,
}

/// A check, or what is wrong with its definition.
type Usable = Result<Arc<Check>, Vec<Fault>>;

impl Node {
    /// Opens the node that the options name. In a scenario, everything before it is looked at first.
    pub fn open(global: &Global) -> Result<Node, Error> {
        if let Some(dir) = &global.scenario {
            let (host, _) = crate::scenario::open(dir, |_, _| {})?;
            let catalog = catalog(global, &host)?;
            let kept = global.state_dir.as_deref().map(in_directory);
            let (host, replayed) = crate::scenario::open(dir, |host, history| {
                for check in usable(&catalog) {
                    check.run_here(host, kept.as_ref().unwrap_or(history));
                }
            })?;
            let history = kept.unwrap_or(replayed);
            return Ok(Node::new(host, history, catalog));
        }
        let host = Arc::new(match &global.root {
            Some(dir) => Host::at_root(dir)?,
            None => Host::live()?,
        });
        Self::with(host, global)
    }

    /// The node with this host, which is not a scenario.
    pub fn with(host: Arc<Host>, global: &Global) -> Result<Node, Error> {
        let catalog = catalog(global, &host)?;
        let history = match (&global.state_dir, host.is_live()) {
            (Some(dir), _) => in_directory(dir),
            (None, false) => Arc::new(History::passing()),
            (None, true) => {
                let dir = catalog.settings.state_dir.clone().unwrap_or_else(|| PathBuf::from(STATE_DIR));
                in_directory(&dir)
            }
        };
        Ok(Node::new(host, history, catalog))
    }

    fn new(host: Arc<Host>, history: Arc<History>, catalog: Catalog) -> Node {
        let checks = catalog.names().into_iter().map(|name| (name.to_owned(), OnceLock::new())).collect();
        Node { host, history, catalog, checks, sampled: false }
    }

    /// This node for a daemon: questions are answered from the newest looks of its sampler, and its looks know of each
    /// other even where no state directory keeps them.
    pub fn sampled(mut self, global: &Global) -> Node {
        self.sampled = true;
        if global.root.is_some() && global.state_dir.is_none() {
            self.history = Arc::new(History::in_memory());
        }
        self
    }

    /// Asks one check of the node as `host` sees it.
    pub fn ask(&self, host: &Arc<Host>, name: &str, options: Option<&Run>, patience: Duration) -> Verdict {
        let mut verdict = match self.check_with(name, options) {
            Ok(check) if self.sampled => check.newest(host, &self.history, patience),
            Ok(check) if host.is_live() => check.run_until_sure(host, &self.history, patience),
            Ok(check) => check.run(host, &self.history, patience),
            Err(reason) => return Verdict::unknown(&shown(name), reason, host.now().wall),
        };
        if let (Some(fault), None) = (self.catalog.general.first(), &self.catalog.unreadable) {
            verdict.add(Finding::fact(format!("a setting is ignored: {fault} (nodecheck check-config tells all)")));
        }
        if let Some(reason) = &self.catalog.unreadable {
            let text = format!("the settings of this node can't be read ({reason}); judged by the built-in ones");
            verdict.add(Finding::new(Status::Unknown, text));
        }
        verdict
    }

    /// A check with the options of a call, or why there is none.
    fn check_with(&self, name: &str, options: Option<&Run>) -> Result<Arc<Check>, String> {
        let found = self.check(name).ok_or_else(|| self.catalog.no_such(name))?.map_err(|faults| first_of(&faults))?;
        let Some(run) = options else { return Ok(found) };
        let wrong = |reason: String| format!("wrong arguments: {reason}");
        let entries = run.options(found.definition.main.as_deref()).map_err(wrong)?;
        if entries.is_empty() {
            return Ok(found);
        }
        match self.catalog.check(name, &entries) {
            None => Ok(found),
            Some(Err(faults)) => Err(wrong(first_of(&faults))),
            // With other parameters it looks at something else.
            Some(Ok(check)) if run.set.is_empty() => Ok(Arc::new(check.sharing_looks_of(&found))),
            Some(Ok(check)) => Ok(Arc::new(check)),
        }
    }

    /// The check of this name; `None` when there is none.
    pub fn check(&self, name: &str) -> Option<Result<Arc<Check>, Vec<Fault>>> {
        let build = || self.catalog.check(name, &[]).unwrap_or(Err(Vec::new())).map(Arc::new);
        Some(self.checks.get(name)?.get_or_init(build).clone())
    }

    /// Asks every check at once, in the order of their names.
    pub fn ask_all(&self, host: &Arc<Host>, patience: Duration) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = std::thread::scope(|scope| {
            let ask = |name| {
                let named = std::thread::Builder::new().name(format!("ask {name}"));
                // Each its own, which knows where that look hangs.
                named.spawn_scoped(scope, move || self.ask(&Arc::new(host.again()), name, None, patience))
            };
            let asked: Vec<_> = self.catalog.names().into_iter().map(|name| (name, ask(name))).collect();
            let broken = |name: &str, why: &str| Verdict::unknown(name, why, host.now().wall);
            let verdict =
                |(name, thread): (&str, std::io::Result<std::thread::ScopedJoinHandle<'_, Verdict>>)| match thread
                    .map(std::thread::ScopedJoinHandle::join)
                {
                    Ok(Ok(verdict)) => verdict,
                    Ok(Err(panic)) => broken(name, &internal_error(&*panic)),
                    Err(error) => broken(name, &format!("no thread could be started: {error}")),
                };
            asked.into_iter().map(verdict).collect()
        });
        if !self.catalog.general.is_empty() {
            let text = first_of(&self.catalog.general);
            verdicts.push(Verdict::unknown("nodecheck.toml", text, host.now().wall));
        }
        verdicts
    }
}

/// The first fault, and how many there are.
pub fn first_of(faults: &[Fault]) -> String {
    match faults {
        [] => "its definition is wrong".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more: nodecheck check-config)", rest.len()),
    }
}

/// A name as it may be printed: somebody typed or sent it.
fn shown(name: &str) -> String {
    crate::render::clean(&name.chars().take(64).collect::<String>())
}

fn usable(catalog: &Catalog) -> Vec<Check> {
    catalog.names().into_iter().filter_map(|name| catalog.check(name, &[])?.ok()).collect()
}

fn in_directory(dir: &Path) -> Arc<History> {
    Arc::new(History::in_directory(StateDir::new(dir)))
}

fn catalog(global: &Global, host: &Host) -> Result<Catalog, Error> {
    let given = match &global.config {
        Some(file) => Some((file.display().to_string(), machine::read_given(file)?)),
        None => None,
    };
    Ok(Catalog::load(host, given.as_ref().map(|(file, text)| (file.as_str(), text.as_str()))))
}
