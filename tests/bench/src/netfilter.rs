//! The rules of kube-proxy and Calico in the kernel: `kube-nat` against `iptables-save | grep`, and against C programs that do
//! no more than to ask the kernel for the same (`tests/bench/netfilter`).

mod inside;
mod node;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::contest::{Cost, Entry, run};

pub use inside::answer;
pub use node::load;
use node::{Backend, Namespace};

/// How many services, and how many runs of each command.
const SIZES: [(usize, usize); 2] = [(1_000, 40), (10_000, 15)];
const OK: &[i32] = &[0];
const ANY: &[i32] = &[0, 1, 2, 3];

/// What is measured, and the row that it is compared with. The last two are of nf_tables only.
const ROWS: &[(&str, Option<usize>)] = &[
    ("`run kube-nat`, and memory beyond a node without rules", None),
    ("`iptables-save -t nat \\| grep -c KUBE`", Some(0)),
    ("a look of the daemon at everything", None),
    ("the same rules asked for in C", Some(2)),
    ("a look of the daemon when nothing has changed", None),
    ("of that, what tells it", None),
    ("one question in C: `GET_INFO` or `GETGEN`", None),
    ("the chains that decide", None),
    ("the same chains in C", Some(7)),
];

pub fn measure(binary: &Path) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let tools = build(dir.path())?;
    let check = |state: &str| {
        let mut command = Command::new(binary);
        command.args(["run", "kube-nat", "--local", "--state-dir"]).arg(dir.path().join(state));
        command
    };
    // Each namespace ends with this program, however it ends.
    let _empty = Namespace::enter()?;
    let idle = run(&mut [Entry::new("run kube-nat on an empty node", check("empty"), ANY)], 20)?;
    let idle = idle.first().ok_or("one command")?.megabytes;
    let (mut titles, mut columns) = (Vec::new(), Vec::new());
    for backend in [Backend::Legacy, Backend::Nft] {
        for (services, runs) in SIZES {
            let _namespace = Namespace::enter()?;
            node::load_apart(backend, services)?;
            let state = format!("{}-{services}", backend.name());
            is_whole(check(&state), services)?;
            titles.push(format!("{}, {services} services", backend.name()));
            columns.push(column(backend, &tools, || check(&state), runs)?);
        }
    }
    println!("| CPU time and memory | {} |", titles.join(" | "));
    println!("|---|{}", "---|".repeat(titles.len()));
    for (number, (title, first)) in ROWS.iter().enumerate() {
        let cells: Vec<String> = columns.iter().map(|column| cell(column, number, *first, idle)).collect();
        println!("| {title} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// The costs by row.
fn column(
    backend: Backend,
    tools: &Path,
    check: impl Fn() -> Command,
    runs: usize,
) -> Result<Vec<Option<Cost>>, Box<dyn Error>> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("iptables-{}-save -t nat | grep -c KUBE", backend.name())]);
    let inside = |work: &str| -> Result<Entry, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["netfilter-inside", work]);
        Entry::asked(work, command)
    };
    let in_c = |work: &str| {
        let mut command = Command::new(tools.join(format!("raw_{}", backend.name())));
        command.arg(work);
        Entry::asked(work, command)
    };
    let mut contest = vec![
        Entry::new("run kube-nat", check(), OK),
        Entry::new("iptables-save", shell, OK),
        inside("everything")?,
        in_c("everything")?,
        inside("unchanged")?,
        inside("stamp")?,
        in_c("nothing")?,
    ];
    if backend == Backend::Nft {
        contest.extend([inside("deciding")?, in_c("deciding")?]);
    }
    let mut costs: Vec<Option<Cost>> = run(&mut contest, runs)?.into_iter().map(Some).collect();
    costs.resize(ROWS.len(), None);
    Ok(costs)
}

fn cell(column: &[Option<Cost>], number: usize, first: Option<usize>, idle: f64) -> String {
    let Some(cost) = column[number] else { return String::new() };
    let compared = first.and_then(|first| column[first]);
    match compared.map(|compared| cost.milliseconds / compared.milliseconds) {
        _ if number == 0 => format!("{}, {:.1} MB", cost.time(), cost.megabytes - idle),
        Some(ratio) => format!("{}, {ratio:.1} times as much", cost.time()),
        None => cost.time(),
    }
}

/// The C programs.
fn build(to: &Path) -> Result<PathBuf, Box<dyn Error>> {
    for name in ["raw_legacy", "raw_nft"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("netfilter/{name}.c"));
        let built = Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(to.join(name)).arg(&source).status()?;
        if !built.success() {
            return Err(format!("{} could not be compiled", source.display()).into());
        }
    }
    Ok(to.to_owned())
}

/// What is measured must be what is meant.
fn is_whole(mut check: Command, services: usize) -> Result<(), Box<dyn Error>> {
    let output = check.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.contains(&format!(" {services} Services to "));
    if found && output.status.success() { Ok(()) } else { Err(format!("not {services} services: {text}").into()) }
}
