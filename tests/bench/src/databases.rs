//! containerd's database: `stale-sandboxes` against a Go program that reads the same facts with bbolt.

use std::error::Error;
use std::fs::{create_dir, create_dir_all, metadata, write};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::contest::{Entry, run};
use crate::node;

/// How many pods, and which part of the runs.
const SIZES: [(usize, usize); 3] = [(250, 4), (1_000, 10), (10_000, 40)];
/// Those whose database somebody writes to, transactions a second, and the looks meanwhile.
const BUSY: (usize, &str, usize) = (1_000, "20", 20);
const FILE: &str = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";
/// All is well there.
const WELL: &[i32] = &[0];
/// What a database is that can't be read because of its writer.
const UNKNOWN: i32 = 3;

pub fn measure(binary: &Path, runs: usize) -> Result<(), Box<dyn Error>> {
    let tools = build()?;
    println!("| containerd's database | `stale-sandboxes` | the same facts with bbolt (`tests/bolt/go/dump`) |");
    println!("|---|---|---|");
    for (pods, part) in SIZES {
        let tree = Tree::new(&tools, pods)?;
        let mut dump = Command::new(tools.join("dump"));
        dump.arg(tree.file());
        let mut contest =
            [Entry::new("stale-sandboxes", tree.check(binary), WELL), Entry::new("the Go program", dump, &[0])];
        let [one, go] = run(&mut contest, runs.div_ceil(part))?.try_into().map_err(|_| "two commands")?;
        let (time, memory) = (go.milliseconds / one.milliseconds, go.megabytes / one.megabytes);
        println!("| {} | {one} | {go}: {time:.1} and {memory:.0} times as much |", tree.title()?);
        if pods == BUSY.0 {
            println!("| {} |", busy(&tree, &tools, binary)?);
        }
    }
    println!();
    Ok(())
}

/// The programs of tests/bolt/go.
fn build() -> Result<PathBuf, Box<dyn Error>> {
    let to = std::env::current_exe()?.with_file_name("bolt");
    let built = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../bolt/build")).arg(&to).status()?;
    if built.success() { Ok(to) } else { Err("tests/bolt/build failed; `tests/run tools` installs Go".into()) }
}

/// A node with so many pods, whose sandboxes all live.
struct Tree {
    pods: usize,
    dir: tempfile::TempDir,
}

impl Tree {
    fn new(tools: &Path, pods: usize) -> Result<Tree, Box<dyn Error>> {
        let tree = Tree { pods, dir: tempfile::tempdir()? };
        node::make_proc(&tree.root())?;
        create_dir_all(tree.file().parent().ok_or("a file lies in a directory")?)?;
        let made = Command::new(tools.join("node")).args(["-pods", &pods.to_string()]).arg(tree.file()).status()?;
        if !made.success() {
            return Err("tests/bolt/go/node failed".into());
        }
        tree.make_processes(tools)?;
        Ok(tree)
    }

    fn make_processes(&self, tools: &Path) -> Result<(), Box<dyn Error>> {
        let make = |process: usize, name: &str, cgroup: &str| {
            let dir = self.root().join(format!("proc/{process}"));
            if process > 1 {
                create_dir(&dir)?;
            }
            let stat = format!("{process} ({name}) S 1 1 1 0 -1 4194560 100 0 0 0 1 1 0 0 20 0 1 0 5000 1024000 100\n");
            write(dir.join("stat"), stat)?;
            write(dir.join("cgroup"), cgroup)
        };
        make(1, "systemd", "0::/init.scope\n")?;
        make(2, "containerd", "0::/system.slice/containerd.service\n")?;
        let mut dump = Command::new(tools.join("dump"));
        let mut dump = Running(dump.arg(self.file()).stdout(Stdio::piped()).spawn()?);
        // Line by line: what is held here is the least that a measured process seems to hold.
        let lines = BufReader::new(dump.0.stdout.take().ok_or("no output")?).lines();
        // Files of a tree cost several times as much as the kernel's, and the other side looks at none: few processes, each
        // in the cgroups of many.
        let (mut number, mut cgroups) = (100, String::new());
        for line in lines {
            let line = line?;
            let fields: Vec<&str> = line.split(' ').collect();
            if let [_, id, _, "sandbox", ..] = fields[..] {
                cgroups.push_str(&format!("0::/kubepods.slice/kubepods-pod0.slice/cri-containerd-{id}.scope\n"));
            }
            if cgroups.len() > 60_000 {
                make(number, "pause", &std::mem::take(&mut cgroups))?;
                number += 1;
            }
        }
        Ok(make(number, "pause", &cgroups)?)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn file(&self) -> PathBuf {
        self.root().join(FILE)
    }

    fn check(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command.args(["run", "stale-sandboxes", "--root"]).arg(self.root());
        command.arg("--state-dir").arg(self.dir.path().join("state"));
        command
    }

    fn title(&self) -> Result<String, Box<dyn Error>> {
        let size = metadata(self.file())?.len() >> 20;
        Ok(format!("{} pods: {} records, {size} MiB", self.pods, self.pods * 3))
    }
}

/// A process that ends when it is no longer held.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long a look takes while somebody writes: from its start to its end, with all that had to be read again.
fn busy(tree: &Tree, tools: &Path, binary: &Path) -> Result<String, Box<dyn Error>> {
    let (_, rate, looks) = BUSY;
    let mut command = Command::new(tools.join("node"));
    command.args(["-churn", rate]).arg(tree.file()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut writer = Running(command.spawn()?);
    let mut line = String::new();
    BufReader::new(writer.0.stdout.as_mut().ok_or("no output")?).read_line(&mut line)?;
    let (mut times, mut refused) = (Vec::new(), 0);
    for _ in 0..looks {
        let begun = Instant::now();
        let status = tree.check(binary).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        match status.code() {
            Some(0) => {}
            Some(UNKNOWN) => refused += 1,
            code => return Err(format!("beside a writer: exit code {code:?}").into()),
        }
    }
    if let Some(status) = writer.0.try_wait()? {
        return Err(format!("the writer ended: {status}").into());
    }
    times.sort_by(f64::total_cmp);
    let (median, last) = (times[looks / 2], times[looks - 1]);
    let none = if refused == 0 { String::new() } else { format!(", {refused} of {looks} gave up") };
    Ok(format!(
        "{} pods, and somebody writes {rate} times a second | {median:.0} ms from start to end, at most {last:.0} ms{none} | \
         waits for the lock",
        tree.pods
    ))
}
