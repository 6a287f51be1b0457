//! What a kubelet asks of a containerd.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::node::{IMAGE, PATIENCE, TOP};
use crate::support::here;

/// A pod as a kubelet knows it.
#[derive(Clone)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub attempt: u32,
    pub host_network: bool,
}

impl Pod {
    pub const NAMESPACE: &str = "shop";

    pub fn new(name: &str) -> Pod {
        let uid: String = name.bytes().cycle().take(6).map(|byte| format!("{byte:02x}")).collect();
        Pod { name: name.to_owned(), uid: format!("5afe0000-0000-4000-8000-{uid}"), attempt: 0, host_network: false }
    }

    /// Without CNI, which is what takes time.
    pub fn on_host(name: &str) -> Pod {
        Pod { host_network: true, ..Pod::new(name) }
    }

    pub fn attempt(&self, attempt: u32) -> Pod {
        Pod { attempt, ..self.clone() }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "namespace": Pod::NAMESPACE, "uid": self.uid, "attempt": self.attempt,
            "host_network": self.host_network, "cgroup": format!("/{TOP}/kubepods/burstable/pod{}", self.uid),
        })
    }
}

/// A sandbox as containerd lists it.
pub struct Listed {
    pub id: String,
    pub is_ready: bool,
    /// In nanoseconds since 1970, as in its record.
    pub created: i64,
}

/// A connection. It stays usable when containerd is started anew.
pub struct Client {
    child: Child,
    told: ChildStdin,
    tells: BufReader<ChildStdout>,
}

impl Client {
    pub fn new(dir: &Path) -> Client {
        // Not the python3 that is first in PATH: grpc is Debian's.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(here().join("tests/containerd/cri.py"));
        // Not as arguments: what names the directory there is killed at a power loss.
        command.env("SOCKET", dir.join("sock")).env("IMAGE", IMAGE).env("LOGS", dir.join("logs"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("/usr/bin/python3");
        let (told, tells) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Client { child, told, tells: BufReader::new(tells) }
    }

    fn call(&mut self, mut ask: Value, limit: Duration) -> Result<Value, String> {
        ask["seconds"] = limit.as_secs_f64().into();
        writeln!(self.told, "{ask}").unwrap();
        let mut answer = String::new();
        self.tells.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).expect("an answer of tests/containerd/cri.py: python3-grpcio is missing?")
    }

    fn text(&mut self, ask: Value, limit: Duration) -> Result<String, String> {
        self.call(ask, limit).map(|answer| answer.as_str().unwrap_or_default().to_owned())
    }

    pub fn version(&mut self, limit: Duration) -> Result<String, String> {
        self.text(json!({"do": "version"}), limit)
    }

    /// The sandbox's id.
    pub fn try_run_pod(&mut self, pod: &Pod, limit: Duration) -> Result<String, String> {
        self.text(json!({"do": "run_pod", "pod": pod.json()}), limit)
    }

    #[track_caller]
    pub fn run_pod(&mut self, pod: &Pod) -> String {
        self.try_run_pod(pod, PATIENCE).unwrap()
    }

    /// A pod with a container in it: the ids of both.
    #[track_caller]
    pub fn run_app(&mut self, pod: &Pod) -> (String, String) {
        let sandbox = self.run_pod(pod);
        let ask = json!({"do": "run_container", "pod": pod.json(), "sandbox": sandbox});
        let container = self.text(ask, PATIENCE).unwrap();
        (sandbox, container)
    }

    #[track_caller]
    pub fn stop_pod(&mut self, sandbox: &str) {
        self.call(json!({"do": "stop_pod", "sandbox": sandbox}), PATIENCE).unwrap();
    }

    #[track_caller]
    pub fn remove_pod(&mut self, sandbox: &str) {
        self.call(json!({"do": "remove_pod", "sandbox": sandbox}), PATIENCE).unwrap();
    }

    #[track_caller]
    pub fn pods(&mut self) -> Vec<Listed> {
        let pods = self.call(json!({"do": "pods"}), PATIENCE).unwrap();
        let listed = |pod: &Value| Listed {
            id: pod["id"].as_str().unwrap().to_owned(),
            is_ready: pod["ready"].as_bool().unwrap(),
            created: pod["created"].as_i64().unwrap(),
        };
        pods.as_array().unwrap().iter().map(listed).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
