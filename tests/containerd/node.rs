//! A containerd of its own, in namespaces that stand for a node: its /run, its mounts and its network are nobody else's.
//!
//! Its processes are the machine's: /proc has them among all others, as nodecheck must find them.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::answer::Answer;
use super::cri::Client;
use super::machine::{cgroups, end_all, processes, remove_cgroups, remove_leftovers, remove_made};
use crate::support::here;

/// Nothing here takes longer, even on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const IMAGE: &str = "nodecheck.test/pause:1";
/// The cgroup that those of all pods are in. In temp_dir, the names of what is ours begin with it.
pub const TOP: &str = "nodecheck-containerd";
pub const CHECK: &str = "stale-sandboxes";
/// The directories that the node has for itself.
const OWN: [&str; 3] = ["/run", "/var/lib/cni", "/var/lib/kubelet"];

/// The file that names those of them that the machine did not have.
pub const MADE: &str = "made";

pub struct Node {
    dir: tempfile::TempDir,
    /// The first process in the namespaces. It ends when its stdin does, so they don't outlive a test that is killed.
    holder: Child,
    daemon: Option<Child>,
    /// The tests of another build included: what this one finds of an earlier one it removes.
    _alone: Flock<File>,
}

impl Node {
    /// With containerd up, and no pods.
    pub fn new() -> Node {
        assert!(nix::unistd::geteuid().is_root(), "this test makes namespaces and containers: run it as root");
        // What outlives its parent comes to us: not every init reaps at once, and until then its cgroup can't be removed.
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let temp = std::env::temp_dir();
        let lock = File::create(temp.join("nodecheck-test-containerd.lock")).unwrap();
        let alone = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
        remove_leftovers(&temp);
        let image = image();
        let dir = tempfile::Builder::new().prefix(&format!("{TOP}-")).tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        configure(dir.path());
        let made: Vec<&str> = OWN[1..].iter().copied().filter(|dir| fs::create_dir(dir).is_ok()).collect();
        fs::write(dir.path().join(MADE), made.join("\n")).unwrap();
        // Where network namespaces are mounted nodecheck asks process 1, which is the machine's.
        let script = "for dir in $0; do mount -t tmpfs -o mode=755 none $dir || exit; done
            mkdir /run/netns /run/containerd && mount --bind /proc/$$/mountinfo /proc/1/mountinfo && echo && read -r _";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--propagation", "private", "sh", "-c", script, &OWN.join(" ")]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        holder.stdout.as_mut().unwrap().read_exact(&mut [0]).expect("the namespaces of a node");
        let mut node = Node { dir, holder, daemon: None, _alone: alone };
        node.start();
        node.ctr(&["image", "import", image.to_str().unwrap()]);
        node
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn database(&self) -> PathBuf {
        self.path("root/io.containerd.metadata.v1.bolt/meta.db")
    }

    /// A program that runs on the node.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "--mount", "--net", "--", program]);
        command
    }

    #[track_caller]
    pub fn ctr(&self, arguments: &[&str]) {
        let mut command = self.command("ctr");
        command.arg("--address").arg(self.path("sock")).args(["--namespace", "k8s.io"]).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn client(&self) -> Client {
        Client::new(self.dir.path())
    }

    // --- containerd -------------------------------------------------------------------------------------------------

    /// Until it answers, or ended: then what it logged.
    pub fn try_start(&mut self, config: &str) -> Result<(), String> {
        assert!(self.daemon.is_none());
        let log = OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let before = log.metadata().unwrap().len() as usize;
        let mut command = self.command("containerd");
        command.arg("--config").arg(self.path(config)).stdin(Stdio::null());
        let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let (mut client, begun) = (self.client(), Instant::now());
        let is_up = loop {
            if child.try_wait().unwrap().is_some() {
                break false;
            }
            let is_up = match client.version(Duration::from_millis(200)) {
                // Without CRI it answers, too.
                Err(error) => config != CONFIG && error.starts_with("UNIMPLEMENTED"),
                Ok(_) => true,
            };
            if is_up {
                break true;
            }
            assert!(begun.elapsed() < PATIENCE, "containerd does not answer: {}", self.log_from(before));
            sleep(Duration::from_millis(20));
        };
        if is_up {
            self.daemon = Some(child);
            return Ok(());
        }
        Err(self.log_from(before))
    }

    #[track_caller]
    pub fn start(&mut self) {
        if let Err(log) = self.try_start(CONFIG) {
            panic!("containerd does not start: {log}");
        }
    }

    pub fn log(&self) -> String {
        self.log_from(0)
    }

    fn log_from(&self, at: usize) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap()[at..]).into_owned()
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = kill(Pid::from_raw(daemon.id() as i32), signal);
            let _ = daemon.wait();
        }
    }

    /// Its process.
    pub fn daemon(&self) -> u32 {
        self.daemon.as_ref().expect("containerd runs").id()
    }

    pub fn is_down(&self) -> bool {
        self.daemon.is_none()
    }

    /// Its pods live on.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Its pods live on here, too.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// What a reset leaves: no process, no mount, nothing of /run. MicroK8s has containerd's state on the disk instead.
    pub fn power_loss(&mut self, keeps_state: bool) {
        self.kill();
        end_all(self.dir.path());
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", self.holder.id())).unwrap_or_default();
        let state = self.path("state");
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
        let points: Vec<_> = points.filter(|at| at.starts_with(&state) || at.starts_with("/run/netns")).collect();
        let mut command = self.command("sh");
        let script = "[ $# = 0 ] || umount -l \"$@\"; rm -rf /run/containerd/* /run/netns/*";
        let _ = command.args(["-c", script, "sh"]).args(points.iter().rev()).status();
        if !keeps_state {
            let _ = fs::remove_dir_all(&state);
        }
        let _ = fs::remove_file(self.path("sock"));
        remove_cgroups();
    }

    // --- what a test does to it -------------------------------------------------------------------------------------

    /// While this file is there, no network of a pod gets ready.
    pub fn hold(&self) -> PathBuf {
        self.path("hold")
    }

    /// Does something with a shell of the node.
    #[track_caller]
    pub fn shell(&self, script: &str) {
        assert!(self.command("sh").args(["-euc", script]).status().unwrap().success(), "{script}");
    }

    /// Puts as many other bytes in the place of some in the database of a containerd that is down: only its two metas
    /// have a checksum.
    #[track_caller]
    pub fn edit(&self, from: &[u8], to: &[u8]) {
        assert!(self.daemon.is_none() && from.len() == to.len());
        let mut bytes = fs::read(self.database()).unwrap();
        let places = (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect::<Vec<_>>();
        assert!(!places.is_empty(), "not in the database: {from:02x?}");
        for at in places {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
        fs::write(self.database(), bytes).unwrap();
    }

    /// Gives the record that was made at one moment another one.
    #[track_caller]
    pub fn move_in_time(&self, from: i64, to: i64) {
        self.edit(&go_time(from), &go_time(to));
    }

    /// The living processes in the cgroups of a sandbox or container.
    pub fn processes(&self, id: &str) -> Vec<Pid> {
        processes().filter(|process| cgroups(*process).lines().any(|line| line.ends_with(id))).collect()
    }

    // --- nodecheck --------------------------------------------------------------------------------------------------

    /// nodecheck as it runs on this node, by another program or not.
    pub fn nodecheck(&self, by: &[&str], binary: &Path, grace: &str) -> Command {
        let config = self.path("nodecheck.toml");
        let root = self.path("root");
        let settings = format!("[check.{CHECK}.params]\nroots = [{root:?}]\ngrace = \"{grace}\"\n");
        fs::write(&config, settings).unwrap();
        let mut command = self.command(by.first().unwrap_or(&binary.to_str().unwrap()));
        command.args(by.iter().skip(1)).args(by.first().map(|_| binary));
        command.args(["run", CHECK, "--local", "--state-dir"]).arg(self.path("past")).arg("--config").arg(config);
        command.env_remove("NO_COLOR");
        command
    }

    /// Without being told where the database is.
    pub fn look_around(&self) -> Answer {
        let command = self.nodecheck(&[], Path::new(env!("CARGO_BIN_EXE_nodecheck")), "10m");
        fs::write(self.path("nodecheck.toml"), "").unwrap();
        Answer::of(command)
    }

    pub fn look_with(&self, grace: &str) -> Answer {
        Answer::of(self.nodecheck(&[], Path::new(env!("CARGO_BIN_EXE_nodecheck")), grace))
    }

    /// As it is delivered.
    pub fn look(&self) -> Answer {
        self.look_with("10m")
    }

    /// Once all that is on the node now is older than the grace.
    pub fn look_later(&self) -> Answer {
        sleep(Duration::from_millis(350));
        self.look_with("300ms")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(15).collect();
            eprintln!("the end of containerd's log:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        self.power_loss(false);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        remove_made(self.dir.path());
    }
}

// --- what containerd is given ---------------------------------------------------------------------------------------

pub const CONFIG: &str = "config.toml";
pub const CONFIG_WITHOUT_CRI: &str = "without-cri.toml";

fn configure(dir: &Path) {
    for name in ["cni", "cni-bin"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    let dir = dir.to_str().unwrap();
    // A child of it has its output, like a delegate that hangs: containerd waits for that one when it has killed the plugin.
    let plugin = "#!/bin/sh\n[ \"$CNI_COMMAND\" != ADD ] || { while [ -e DIR/hold ]; do sleep 0.1; done & wait; }\n\
                  exec /usr/lib/cni/ptp\n";
    let plugin_path = format!("{dir}/cni-bin/hold");
    fs::write(&plugin_path, plugin.replace("DIR", dir)).unwrap();
    fs::set_permissions(&plugin_path, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/usr/lib/cni/loopback", format!("{dir}/cni-bin/loopback")).unwrap();
    symlink("/usr/lib/cni/host-local", format!("{dir}/cni-bin/host-local")).unwrap();
    let network = serde_json::json!({"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "hold", "ipam":
        {"type": "host-local", "subnet": "10.99.0.0/16", "dataDir": format!("{dir}/ipam")}}]});
    fs::write(format!("{dir}/cni/10-test.conflist"), network.to_string()).unwrap();
    for (name, also) in [(CONFIG, ""), (CONFIG_WITHOUT_CRI, ", \"io.containerd.grpc.v1.cri\"")] {
        let config = include_str!("config.toml").replace("DIR", dir).replace("IMAGE", IMAGE);
        fs::write(format!("{dir}/{name}"), config.replace("ALSO_DISABLED", also)).unwrap();
    }
}

/// An image with a program that waits, made once: nothing is fetched.
fn image() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (program, archive, from) = (dir.join("pause"), dir.join("pause.tar"), here().join("tests/containerd"));
        let mut compiler = Command::new("cc");
        compiler.args(["-Os", "-static", "-o"]).arg(&program).arg(from.join("pause.c"));
        assert!(compiler.status().expect("cc is missing: apt-get install gcc libc6-dev").success());
        let mut maker = Command::new("/usr/bin/python3");
        maker.arg(from.join("image.py")).arg(program).arg(IMAGE).arg(&archive);
        assert!(maker.status().expect("/usr/bin/python3").success());
        archive
    })
}

/// A moment as Go writes it, in UTC.
fn go_time(nanoseconds: i64) -> Vec<u8> {
    let seconds = nanoseconds.div_euclid(1_000_000_000) + 62_135_596_800;
    let rest = nanoseconds.rem_euclid(1_000_000_000) as i32;
    [&[1], &seconds.to_be_bytes()[..], &rest.to_be_bytes(), &(-1_i16).to_be_bytes()].concat()
}
