//! A node to look at: a network namespace with rules in it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nodecheck::parse::ruleset::Family;
use tempfile::TempDir;

use crate::generate::Cluster;
use crate::support::{nodecheck, sane};

/// Where the rules are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Legacy,
    Nft,
}

impl Backend {
    fn word(self) -> &'static str {
        if self == Backend::Legacy { "legacy" } else { "nft" }
    }

    fn other(self) -> Backend {
        if self == Backend::Legacy { Backend::Nft } else { Backend::Legacy }
    }
}

/// What a script that breaks rules can use besides the programs of iptables. `ipt` has the backend and the family of the
/// row, `other` the other backend. `without` takes rules (and chains) that match out of a table, `swap` edits a table, and
/// both fail where nothing matches; `gone` takes out a chain and all that leads to it.
const WORDS: &str = r#"set -eu
ipt() { "$PROGRAM-$HERE" "$@"; }
other() { "$PROGRAM-$THERE" "$@"; }
swap() {
    "$PROGRAM-$HERE-save" -t "$1" >"$DIR/before"
    sed -E "$2" "$DIR/before" >"$DIR/after"
    ! cmp -s "$DIR/before" "$DIR/after"
    "$PROGRAM-$HERE-restore" <"$DIR/after"
}
without() { swap "$1" "/$2/d"; }
gone() { without "$1" "(^:|^-A |-j )$2( |\$)"; }
repeat() { n=$1; shift; while [ "$n" -gt 0 ]; do "$@"; n=$((n - 1)); done; }
"#;

/// A network namespace of this thread's own. It ends with the thread, or with the next one.
pub struct At {
    pub backend: Backend,
    pub family: Family,
    dir: TempDir,
}

impl At {
    pub fn new(backend: Backend, family: Family) -> At {
        unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces need root");
        let dir = tempfile::tempdir().unwrap();
        let no_grace = "[check.kube-nat]\ngrace = \"0s\"\n[check.calico-nat]\ngrace = \"0s\"\n";
        std::fs::write(dir.path().join("no-grace.toml"), no_grace).unwrap();
        At { backend, family, dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A program, with a lock of iptables that is not the machine's: a namespace needs none.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("XTABLES_LOCKFILE", self.dir().join("lock"));
        command
    }

    fn piped(&self, program: &str, arguments: &[&str], input: &str) {
        let mut command = self.command(program);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|why| panic!("{program}: {why}"));
        let written = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && written.is_ok(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a script with the words of [`WORDS`].
    #[track_caller]
    pub fn sh(&self, script: &str) {
        let output = self.script(script).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn script(&self, script: &str) -> Command {
        let program = if self.family == Family::Ip { "iptables" } else { "ip6tables" };
        let mut command = self.command("sh");
        command.args(["-c", &format!("{WORDS}{script}")]).env("DIR", self.dir()).env("PROGRAM", program);
        command.env("HERE", self.backend.word()).env("THERE", self.backend.other().word());
        // Chains of the kubernetes service, of the DNS over UDP and of two others, and the first endpoint of each.
        let mut cluster = Cluster::new(self.family, 20, 3);
        for (name, title) in [
            ("NPX", "default/kubernetes:https"),
            ("DNS", "kube-system/kube-dns:dns"),
            ("ONE", "team-00/app-00000:http"),
            ("TWO", "team-01/app-00001"),
        ] {
            let service = cluster.service(title);
            command.env(name, service.chain("SVC")).env(format!("{name}_EXT"), service.chain("EXT"));
            command.env(format!("{name}_SEP"), service.endpoint_chain(service.endpoints[0]));
            command
                .env(format!("{name}_NFT"), service.nft_name())
                .env(format!("{name}_IP"), service.address.to_string());
            command.env(format!("{name}_NFT_EP"), service.nft_endpoint(service.endpoints[0]));
        }
        command
    }

    fn restore(&self, backend: Backend, family: Family, rules: &str) {
        let program = if family == Family::Ip { "iptables" } else { "ip6tables" };
        self.piped(&format!("{program}-{}-restore", backend.word()), &[], rules);
    }

    /// Writes what a cluster has of its family, with its ipsets, over what was there.
    pub fn load(&self, cluster: &Cluster) {
        self.piped("ipset", &["restore"], &cluster.ipsets());
        self.restore(self.backend, cluster.family, &cluster.rules());
    }

    /// The same, in the other backend.
    pub fn load_other(&self, cluster: &Cluster) {
        self.piped("ipset", &["restore"], &cluster.ipsets());
        self.restore(self.backend.other(), cluster.family, &cluster.rules());
    }

    /// Any input of `iptables-restore`.
    pub fn load_text(&self, rules: &str) {
        self.restore(self.backend, self.family, rules);
    }

    pub fn nft(&self, script: &str) {
        self.piped("nft", &["-f", "-"], script);
    }

    /// Takes all rules away. A table of the legacy backend stays, and is empty.
    pub fn clear(&self) {
        self.nft("flush ruleset\n");
        for (family, names) in [(Family::Ip, "ip_tables_names"), (Family::Ip6, "ip6_tables_names")] {
            // Below `self` it would be the namespace of the first thread.
            let names = std::fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
            let empty: String = names.lines().map(|table| format!("*{table}\nCOMMIT\n")).collect();
            if !empty.is_empty() {
                self.restore(Backend::Legacy, family, &empty);
            }
        }
    }

    /// A look with this directory for its past.
    pub fn look(&self, check: &str, past: &str) -> (i32, String) {
        sane(self.looking(check, past).arg("-v"), check)
    }

    /// The first look ever. A machine that tests run on may have booted just now.
    pub fn first_look(&self, check: &str, past: &str) -> (i32, String) {
        self.look_with(check, past, &[])
    }

    /// The first look ever, with options.
    pub fn look_with(&self, check: &str, past: &str, options: &[&str]) -> (i32, String) {
        let mut command = self.looking(check, past);
        sane(command.arg("-v").arg("--config").arg(self.dir().join("no-grace.toml")).args(options), check)
    }

    fn looking(&self, check: &str, past: &str) -> Command {
        let mut command = nodecheck();
        command.args(["run", check, "--state-dir"]).arg(self.dir().join(past));
        std::fs::create_dir_all(self.dir().join(past)).unwrap();
        command
    }
}
