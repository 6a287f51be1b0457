//! Cgroups as a kubelet makes them, and programs that are killed in them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{metric, nodecheck, outcome};

/// Nothing here takes longer, even on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The name of the program that is killed: the kernel prints all of it as it is.
pub const HOG: &str = "hog, of (gate)";
/// The limit of a container: 12Mi.
pub const LIMIT: u64 = 12 << 20;
const NAMESPACE: &str = "nodecheck-test";
const TOP: &str = "nodecheck-test-";
const POD_LOGS: &str = "/var/log/pods";
const CONTAINER_LOGS: &str = "/var/log/containers";

/// Locked memory, so that swap does not save it; the first to be killed, so that its parent never is.
const SOURCE: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int count, char **arguments) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY);
    if (count != 2 || file < 0 || write(file, "1000", 4) != 4 || mlockall(MCL_CURRENT | MCL_FUTURE)) return 3;
    for (int left = atoi(arguments[1]); left > 0; left--) {
        char *memory = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return 4;
        memset(memory, 1, 1 << 20);
    }
    return 0;
}
"#;

/// The first process of a container. It runs as many hogs as it is told to, and tells how many were killed.
const SHELL: &str = r#"
echo $$ >"$0/cgroup.procs" || exit
while read -r count; do
    killed=0
    while [ "$count" -gt 0 ]; do
        "$1" 64
        [ $? -eq 137 ] && killed=$((killed + 1))
        count=$((count - 1))
    done
    echo $killed
done
"#;

#[derive(Clone, Copy, PartialEq)]
enum Hierarchy {
    V1,
    V2,
}

/// Cgroups of pods on this machine, and a directory for pasts.
pub struct Node {
    hierarchy: Hierarchy,
    /// Whether a container's kills are forgotten with it.
    pub forgets: bool,
    /// The cgroup that all others are in.
    top: PathBuf,
    pub dir: tempfile::TempDir,
    /// The directories of logs that this machine did not have.
    log_dirs: Vec<&'static str>,
    /// Whoever counts pods with kills must be alone, the tests of another build included.
    _alone: Flock<File>,
}

/// A number that no other run has.
fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    // 48 bits fit the last part of a uid.
    (now ^ u64::from(std::process::id()) << 24).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) & 0xffff_ffff_ffff
}

impl Node {
    pub fn new() -> Node {
        assert!(nix::unistd::geteuid().is_root(), "this test makes cgroups: run it as root");
        let lock = File::create(std::env::temp_dir().join("nodecheck-test-kernel.lock")).unwrap();
        let alone = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
        let (hierarchy, root) = memory_root();
        // What a run left that was killed: no other one runs now.
        for path in entries(&root).filter(|path| has_in_name(path, TOP)) {
            remove_all(&path);
        }
        remove_logs();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("hog.c"), SOURCE).unwrap();
        let compiler = Command::new("cc").args(["-O1", "-o", HOG, "hog.c"]).current_dir(dir.path()).status();
        assert!(compiler.expect("cc is missing: apt-get install gcc libc6-dev").success());
        let top = root.join(format!("{TOP}{}", std::process::id()));
        let log_dirs = [POD_LOGS, CONTAINER_LOGS].into_iter().filter(|dir| fs::create_dir(dir).is_ok()).collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let forgets = hierarchy == Hierarchy::V1 || mounts.contains("memory_localevents");
        let node = Node { hierarchy, forgets, top, dir, log_dirs, _alone: alone };
        node.make(&node.top);
        node.make(&node.kubepods());
        node.make(&node.kubepods().join("burstable"));
        node
    }

    pub fn kubepods(&self) -> PathBuf {
        self.top.join("kubepods")
    }

    pub fn make(&self, cgroup: &Path) {
        if self.hierarchy == Hierarchy::V2 {
            let control = cgroup.parent().unwrap().join("cgroup.subtree_control");
            fs::write(&control, "+memory").unwrap_or_else(|error| panic!("{}: {error}", control.display()));
        }
        fs::create_dir(cgroup).unwrap_or_else(|error| panic!("{}: {error}", cgroup.display()));
    }

    pub fn limit(&self, cgroup: &Path, bytes: u64) {
        let file = if self.hierarchy == Hierarchy::V1 { "memory.limit_in_bytes" } else { "memory.max" };
        fs::write(cgroup.join(file), bytes.to_string()).unwrap();
    }

    /// What the kernel has counted in a cgroup.
    pub fn kills_in(&self, cgroup: &Path) -> u64 {
        let file = if self.hierarchy == Hierarchy::V1 { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(cgroup.join(file)).unwrap();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")).expect("oom_kill").parse().unwrap()
    }

    /// A pod of a name that is known from its logs.
    pub fn pod(&self, name: &str) -> Pod {
        let uid = format!("{:08x}-0000-4000-8000-{:012x}", std::process::id(), unique());
        let path = self.kubepods().join("burstable").join(format!("pod{uid}"));
        self.make(&path);
        let logs = Path::new(POD_LOGS).join(format!("{NAMESPACE}_{name}_{uid}"));
        fs::create_dir(&logs).unwrap();
        Pod { name: format!("{NAMESPACE}/{name}"), path, logs }
    }

    /// A container's cgroup, without anything in it, and its log.
    pub fn container(&self, pod: &Pod, name: &str, limit: Option<u64>) -> PathBuf {
        let id = format!("{:012x}{:052x}", unique(), 0);
        let path = pod.path.join(&id);
        self.make(&path);
        if let Some(limit) = limit {
            self.limit(&path, limit);
        }
        let log = pod.logs.join(name).join("0.log");
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::write(&log, "").unwrap();
        let pod = pod.name.rsplit('/').next().unwrap();
        symlink(&log, format!("{CONTAINER_LOGS}/{pod}_{NAMESPACE}_{name}-{id}.log")).unwrap();
        path
    }

    fn hog(&self) -> PathBuf {
        self.dir.path().join(HOG)
    }

    pub fn start(&self, cgroup: &Path) -> Shell {
        let mut command = Command::new("sh");
        command.args(["-c", SHELL]).arg(cgroup).arg(self.hog());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sh");
        let (told, tells) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Shell { child, told, tells: BufReader::new(tells) }
    }

    /// A container whose first process is the hog, gone with its cgroup as soon as that is killed.
    pub fn live_and_die(&self, pod: &Pod) {
        let path = self.container(pod, "gate", Some(LIMIT));
        let script = "echo $$ >\"$0/cgroup.procs\" && exec \"$1\" 64";
        let status = Command::new("sh").args(["-c", script]).arg(&path).arg(self.hog()).status().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
        remove(&path);
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Asks a check on this machine, with the past in `state`.
    pub fn look_with(&self, state: &str, check: &str, options: &[&str]) -> Answer {
        let mut command = nodecheck();
        command.args(["run", check, "--local", "--state-dir"]).arg(self.state(state)).args(options);
        Answer::of(command)
    }

    pub fn look(&self, check: &str) -> Answer {
        self.look_with("state", check, &[])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        remove_all(&self.top);
        remove_logs();
        for dir in &self.log_dirs {
            // Not if somebody else uses it by now.
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Where the memory cgroups of this machine are.
fn memory_root() -> (Hierarchy, PathBuf) {
    let v1 = Path::new("/sys/fs/cgroup/memory");
    if v1.join("memory.oom_control").exists() {
        return (Hierarchy::V1, v1.to_owned());
    }
    let v2 = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
    let has_memory = controllers.split_whitespace().any(|name| name == "memory");
    assert!(has_memory, "nothing can be tested here: neither {} nor {} has memory cgroups", v1.display(), v2.display());
    (Hierarchy::V2, v2.to_owned())
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn has_in_name(path: &Path, part: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(part))
}

/// Removes the names of all pods of ours.
pub fn remove_logs() {
    for path in entries(Path::new(POD_LOGS)).filter(|path| has_in_name(path, &format!("{NAMESPACE}_"))) {
        let _ = fs::remove_dir_all(path);
    }
    for path in entries(Path::new(CONTAINER_LOGS)).filter(|path| has_in_name(path, &format!("_{NAMESPACE}_"))) {
        let _ = fs::remove_file(path);
    }
}

/// Removes a cgroup of ours; its last process may still be on its way out.
pub fn remove(cgroup: &Path) {
    let begun = Instant::now();
    while let Err(error) = fs::remove_dir(cgroup) {
        let is_busy = error.kind() == ErrorKind::ResourceBusy && begun.elapsed() < PATIENCE;
        assert!(is_busy, "{}: {error}", cgroup.display());
        sleep(Duration::from_millis(1));
    }
}

/// Removes a tree of cgroups, and ends what is left in it. Never panics: it may run in a panic.
fn remove_all(cgroup: &Path) {
    for below in entries(cgroup).filter(|path| path.is_dir()) {
        remove_all(&below);
    }
    for _ in 0..2000 {
        let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines().filter_map(|process| process.parse().ok()).filter(|process| *process > 1) {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        match fs::remove_dir(cgroup) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => sleep(Duration::from_millis(1)),
            _ => return,
        }
    }
    eprintln!("{} could not be removed", cgroup.display());
}

pub struct Pod {
    /// With its namespace.
    pub name: String,
    pub path: PathBuf,
    logs: PathBuf,
}

/// A running container.
pub struct Shell {
    child: Child,
    told: ChildStdin,
    tells: BufReader<ChildStdout>,
}

impl Shell {
    /// Has so many hogs killed.
    pub fn kill(&mut self, count: u64) {
        writeln!(self.told, "{count}").unwrap();
        let mut killed = String::new();
        self.tells.read_line(&mut killed).unwrap();
        assert_eq!(killed.trim(), count.to_string(), "so many of the hogs were killed");
        assert_eq!(self.child.try_wait().unwrap(), None, "the container's first process still runs");
    }

    /// Has one hog killed where that takes the shell with it.
    pub fn die(mut self) {
        writeln!(self.told, "1").unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a check said.
pub struct Answer {
    pub code: i32,
    pub text: String,
}

impl Answer {
    pub fn of(mut command: Command) -> Answer {
        let (code, text, err) = outcome(command.output().unwrap());
        assert_eq!(err, "", "{text}");
        Answer { code, text }
    }

    /// Line 1 without the numbers.
    fn sentence(&self) -> &str {
        self.text.split(" | ").next().unwrap()
    }

    pub fn metric(&self, name: &str) -> u64 {
        metric(&self.text, name)
    }

    /// The line on a pod.
    pub fn line(&self, pod: &Pod) -> Option<&str> {
        let mut lines = self.text.lines().skip(1);
        lines.find(|line| line.strip_prefix(&pod.name).is_some_and(|rest| rest.starts_with(": ")))
    }

    pub fn kills(&self, pod: &Pod) -> u64 {
        assert!(self.code <= 2, "{}", self.text);
        let Some(line) = self.line(pod) else { return 0 };
        let count = line[pod.name.len() + 2..].split(' ').next().unwrap();
        count.parse().unwrap_or_else(|_| panic!("{line}"))
    }

    /// Whether no other pod has kills. On this machine others may test, too.
    pub fn is_only_of(&self, pod: &Pod) -> bool {
        self.metric("kills") == self.kills(pod)
    }

    /// That it tells of a pod, and begins so where it tells of no other.
    #[track_caller]
    pub fn expect(&self, pod: &Pod, code: i32, begins: &str, of_pod: &str) {
        let line = self.line(pod).unwrap_or_else(|| panic!("nothing of {}: {}", pod.name, self.text));
        assert!(line.contains(of_pod), "{of_pod}: {}", self.text);
        let is_so = self.code == code && self.text.starts_with(begins);
        assert!(is_so || !self.is_only_of(pod), "{code}, {begins}: {} {}", self.code, self.text);
        assert!((1..=2).contains(&self.code), "{} {}", self.code, self.text);
    }

    /// That it says the same of a pod as another answer, and in all where nobody else was killed meanwhile.
    #[track_caller]
    pub fn is_like(&self, other: &Answer, pod: &Pod) {
        assert_eq!(self.line(pod), other.line(pod));
        if self.is_only_of(pod) && other.is_only_of(pod) {
            assert_eq!((self.code, self.sentence()), (other.code, other.sentence()));
        }
    }
}

/// The kernel's log, as another program reads it.
pub fn kernel_log() -> String {
    let output = Command::new("dmesg").output().expect("dmesg is missing: apt-get install util-linux");
    assert!(output.status.success(), "dmesg: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
