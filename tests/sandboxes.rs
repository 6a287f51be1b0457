//! The checks of sandboxes: what every recorded node must say, written down by hand and apart from the golden files. The
//! nodes are made here: `NODECHECK_BLESS=1` writes them, then the same with `--test scenarios` what they say.

#[path = "sandboxes/churn.rs"]
mod churn;
#[path = "sandboxes/damage.rs"]
mod damage;
#[path = "sandboxes/dead.rs"]
mod dead;
#[path = "sandboxes/healthy.rs"]
mod healthy;
#[path = "sandboxes/input.rs"]
mod input;
#[path = "sandboxes/names.rs"]
mod names;
#[path = "sandboxes/node.rs"]
mod node;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nodecheck::cli::Global;
use nodecheck::node::Node as Looked;
use nodecheck::render::plugin;

use node::{Entry, Node, Tree};

const STALE: &str = "stale-sandboxes";
const CHURN: &str = "sandbox-churn";

/// A node, and what must be said of it.
struct Case {
    name: &'static str,
    node: Node,
    code: u8,
    /// Of the perfdata.
    numbers: &'static str,
    /// In line 1.
    line: &'static str,
    /// Anywhere.
    texts: Vec<&'static str>,
    /// Whether there is a scenario of it. Those without one say what others say, in the same words.
    is_recorded: bool,
}

impl Case {
    fn only_here(self) -> Case {
        Case { is_recorded: false, ..self }
    }
}

fn case(
    name: &'static str,
    node: Node,
    code: u8,
    numbers: &'static str,
    line: &'static str,
    texts: &[&'static str],
) -> Case {
    Case { name, node, code, numbers, line, texts: texts.to_vec(), is_recorded: true }
}

fn all() -> [(&'static str, Vec<Case>); 2] {
    let stale = [healthy::cases(), dead::cases(), names::cases(), damage::cases()];
    [(STALE, stale.into_iter().flatten().collect()), (CHURN, churn::cases())]
}

fn ask(looked: &Looked, check: &str) -> (u8, String) {
    let verdict = looked.ask(&looked.host, check, None, Duration::from_secs(30));
    (verdict.status.code(), plugin(&verdict, false))
}

/// The scenario in a directory, without what it says.
fn written(dir: &Path, below: &str, tree: &mut Tree) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            let target = fs::read_link(&path).unwrap().to_str().unwrap().to_owned();
            tree.insert(format!("{below}{name}"), Entry::Link(target));
        } else if kind.is_file() {
            tree.insert(format!("{below}{name}"), Entry::File(fs::read(&path).unwrap()));
        } else if !(below.is_empty() && name == "expect") {
            written(&path, &format!("{below}{name}/"), tree);
        }
    }
}

#[test]
fn every_recorded_node_is_as_it_is_made_here() {
    let bless = std::env::var_os("NODECHECK_BLESS").is_some();
    for (check, cases) in all() {
        let dir = support::here().join("tests/scenarios").join(check);
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases.len(), "{check}: a name is there twice");
        let recorded = || cases.iter().filter(|case| case.is_recorded);
        for case in recorded() {
            let (dir, tree) = (dir.join(case.name), case.node.scenario());
            let mut there = Tree::new();
            written(&dir, "", &mut there);
            if bless && there != tree {
                let _ = fs::remove_dir_all(&dir);
                node::write(&tree, &dir, "");
                there.clear();
                written(&dir, "", &mut there);
            }
            let differ: Vec<&String> = tree.iter().chain(&there).map(|(path, _)| path).collect();
            let differ: BTreeSet<_> = differ.into_iter().filter(|path| tree.get(*path) != there.get(*path)).collect();
            assert!(differ.is_empty(), "{}: {differ:?} (NODECHECK_BLESS=1 writes them)", dir.display());
        }
        let dirs = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let others: Vec<String> = dirs.filter(|name| !recorded().any(|case| case.name == *name)).collect();
        assert!(others.is_empty(), "{check}: {others:?} are no nodes of these tables");
    }
}

#[test]
fn every_recorded_node_says_what_it_must() {
    let (mut wrong, dir) = (Vec::new(), tempfile::tempdir().unwrap());
    for (check, cases) in all() {
        for Case { name, node, code, numbers, line, texts, .. } in cases {
            let dir = dir.path().join(check).join(name);
            node::write(&node.scenario(), &dir, "");
            let looked = Looked::open(&Global { scenario: Some(dir), ..Global::default() }).unwrap();
            let (got, said) = ask(&looked, check);
            let (first, perfdata) = said.lines().next().unwrap().split_once(" | ").unwrap_or((&said, ""));
            let has = |number: &str| perfdata.split([' ', ';']).any(|item| item == number);
            let missing: Vec<&str> = numbers.split_whitespace().filter(|number| !has(number)).collect();
            let unsaid: Vec<&str> = texts.into_iter().filter(|text| !said.contains(text)).collect();
            if got != code || !missing.is_empty() || !unsaid.is_empty() || !first.contains(line) {
                let wanted = format!("exit {code}, {line:?} on line 1");
                wrong.push(format!("{check}/{name}: {wanted}; not there: {missing:?} {unsaid:?}\n{said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}
