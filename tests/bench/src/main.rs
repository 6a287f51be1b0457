//! CPU time of whole processes: `nodecheck` beside the shell scripts that people run today, on the same recorded nodes.
//!
//! Each command runs many times, in turns with the others, so that whatever else the machine does meets all alike. What
//! is told is the median of user + system time, start and end of the process included, and the memory of the largest
//! process.

mod cgroups;
mod contest;
mod databases;
mod netfilter;
mod node;
mod real;

use std::error::Error;
use std::fs::metadata;
use std::path::{Path, PathBuf};
use std::process::Command;

use cgroups::{Kills, Layout};
use contest::{Cost, Entry, run};

/// How many containers, and which part of the runs.
const SIZES: [(usize, usize); 3] = [(99, 4), (999, 20), (9_999, 40)];
/// As many as tests/bench/run asks for.
const RUNS: usize = 200;
/// A kubelet's usual limit is 110 pods.
const USUAL: usize = 330;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [binary, "real"] => real::measure(Path::new(binary)),
        [binary, "databases"] => databases::measure(Path::new(binary), RUNS),
        [binary, "netfilter"] => netfilter::measure(Path::new(binary)),
        // What that starts.
        ["netfilter-load", backend, services] => netfilter::load(backend, services.parse()?),
        ["netfilter-inside", work] => netfilter::answer(work),
        [binary, runs] => {
            let (binary, runs) = (Path::new(binary), runs.parse()?);
            node_of_110_pods(binary, runs)?;
            databases::measure(binary, runs)?;
            of_any_size(binary, runs)
        }
        _ => Err("usage: nodecheck-bench BINARY RUNS|databases|netfilter|real".into()),
    }
}

fn script(name: &str, root: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).arg(root);
    command
}

fn node_of_110_pods(binary: &Path, runs: usize) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (root, state) = (dir.path().join("root"), dir.path().join("state"));
    node::make(&root)?;
    cgroups::make(&root, Layout::V2, USUAL, Kills::Some)?;
    let check = |options: &[&str]| {
        let mut command = Command::new(binary);
        command.args(options).arg("--root").arg(&root).arg("--state-dir").arg(&state);
        command
    };
    // The node has a reboot pending.
    let mut contest = [
        Entry::new("run reboot-required", check(&["run", "reboot-required"]), &[1]),
        Entry::new("the shell script", script("shell_reboot.sh", &root), &[1]),
        Entry::new("run --all", check(&["run", "--all"]), &[1]),
        Entry::new("list", check(&["list"]), &[0]),
    ];
    let [one, shell, all, list] = run(&mut contest, runs)?.try_into().map_err(|_| "four commands")?;
    let ratio = shell.milliseconds / one.milliseconds;
    println!("| figure | value |");
    println!("|---|---|");
    println!("| `nodecheck run reboot-required`, CPU time and memory | {one} |");
    println!(
        "| a shell script that tells less (`tests/bench/shell_reboot.sh`) | {}, {ratio:.1} times as much |",
        shell.time()
    );
    println!("| `nodecheck run --all` on a node with 110 pods | {all} |");
    println!("| `nodecheck list` | {list} |");
    println!("| size of the binary | {:.1} MB |", metadata(binary)?.len() as f64 / 1e6);
    println!();
    Ok(())
}

/// A tree of cgroups, and what is needed to look at it.
struct Tree<'a> {
    binary: &'a Path,
    dir: PathBuf,
    name: &'static str,
}

impl Tree<'_> {
    fn root(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    /// A check with a past of its own.
    fn check(&self, name: &str, state: &str) -> Command {
        let mut command = Command::new(self.binary);
        command.args(["run", name, "--root"]).arg(self.root());
        command.arg("--state-dir").arg(self.dir.join(format!("{}-{state}", self.name)));
        command
    }

    /// With a window that reaches back to the boot, all kills lie in it.
    fn check_all_kills(&self) -> Command {
        let mut command = self.check("pod-oom-kills", "window");
        command.arg("--config").arg(self.dir.join("window.toml"));
        command
    }

    fn script(&self, name: &str) -> Command {
        script(name, &self.root().join("sys/fs/cgroup"))
    }
}

/// What is measured on a tree.
struct Row {
    title: &'static str,
    tree: &'static str,
    codes: &'static [i32],
    command: fn(&Tree) -> Command,
}

const fn row(title: &'static str, tree: &'static str, codes: &'static [i32], command: fn(&Tree) -> Command) -> Row {
    Row { title, tree, codes, command }
}

/// The first row of a tree is what its scripts are compared with.
const ROWS: &[Row] = &[
    row("v2: `pod-oom-kills`, kills before the window", "v2", &[0], |tree| tree.check("pod-oom-kills", "pods")),
    row("v2: all kills in the window", "v2", &[2], |tree| tree.check_all_kills()),
    row("v2: no kills", "quiet", &[0], |tree| tree.check("pod-oom-kills", "pods")),
    row("v2: `node-oom-kills`", "v2", &[0], |tree| tree.check("node-oom-kills", "node")),
    row("v2: `memory-headroom`", "v2", &[0, 1], |tree| tree.check("memory-headroom", "headroom")),
    row("v2: a script that only adds up", "v2", &[0], |tree| tree.script("shell_oom_v2.sh")),
    row("v2: a script that looks at limits, too", "v2", &[0], |tree| tree.script("shell_oom_v2_full.sh")),
    row("v1: `pod-oom-kills`, kills before the window", "v1", &[0], |tree| tree.check("pod-oom-kills", "pods")),
    row("v1: all kills in the window", "v1", &[2], |tree| tree.check_all_kills()),
    row("v1: `memory-headroom`", "v1", &[0, 1], |tree| tree.check("memory-headroom", "headroom")),
    row("v1: a script that only adds up", "v1", &[0], |tree| tree.script("shell_oom_v1.sh")),
];

/// The trees that rows name.
fn trees(containers: usize) -> Result<tempfile::TempDir, Box<dyn Error>> {
    let make = |dir: tempfile::TempDir| -> std::io::Result<tempfile::TempDir> {
        for (name, layout, kills) in
            [("v2", Layout::V2, Kills::Some), ("v1", Layout::V1, Kills::Some), ("quiet", Layout::V2, Kills::None)]
        {
            let root = dir.path().join(name);
            node::make_proc(&root)?;
            cgroups::make(&root, layout, containers, kills)?;
        }
        Ok(dir)
    };
    // In memory a million names are made ten times as fast as on a disk; a small machine allows fewer.
    let in_memory = tempfile::tempdir_in("/dev/shm").and_then(make);
    Ok(in_memory.or_else(|_| tempfile::tempdir().and_then(make))?)
}

fn of_any_size(binary: &Path, runs: usize) -> Result<(), Box<dyn Error>> {
    let mut columns: Vec<Vec<Cost>> = Vec::new();
    for (containers, part) in SIZES {
        let dir = trees(containers)?;
        std::fs::write(dir.path().join("window.toml"), "[check.pod-oom-kills]\nwindow = \"300h\"\n")?;
        let entry = |row: &Row| {
            let tree = Tree { binary, dir: dir.path().to_owned(), name: row.tree };
            Entry::new(row.title, (row.command)(&tree), row.codes)
        };
        let mut contest: Vec<Entry> = ROWS.iter().map(entry).collect();
        columns.push(run(&mut contest, runs.div_ceil(part))?);
    }
    let sizes: Vec<String> = SIZES.iter().map(|(containers, _)| format!("{containers} containers")).collect();
    println!("| CPU time and memory | {} |", sizes.join(" | "));
    println!("|---|{}", "---|".repeat(sizes.len()));
    for (number, row) in ROWS.iter().enumerate() {
        let first = ROWS.iter().position(|other| other.tree == row.tree).unwrap_or(number);
        let cell = |column: &Vec<Cost>| match row.title.contains("script") {
            true => {
                let ratio = column[number].milliseconds / column[first].milliseconds;
                format!("{}, {ratio:.1} times as much", column[number].time())
            }
            false => column[number].to_string(),
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        println!("| {} | {} |", row.title, cells.join(" | "));
    }
    Ok(())
}
