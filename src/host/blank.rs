//! Taking out of a recording what no check judges and nobody else should read: environments, arguments, log lines.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::kmsg;
use crate::layout::{CRIO_CONTAINERS, task_dirs};

/// What `pods::of_config` reads of a container's annotations.
const ANNOTATIONS: &[&str] = &[
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri.sandbox-name",
    "io.kubernetes.cri.sandbox-uid",
    "io.kubernetes.cri.container-name",
    CRIO_LABELS,
];
/// JSON in JSON.
const CRIO_LABELS: &str = "io.kubernetes.cri-o.Labels";
const LABELS: &[&str] =
    &["io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.pod.uid", "io.kubernetes.container.name"];

/// The content of a file as a recording keeps it.
pub(super) fn blanked(path: &str, bytes: &[u8]) -> Vec<u8> {
    if path.starts_with("/proc/") && path.ends_with("/environ") {
        environment(bytes)
    } else if path.starts_with("/proc/") && path.ends_with("/mountinfo") {
        mounts(bytes)
    } else if path == kmsg::PATH {
        kmsg::oom_reports(bytes)
    } else if is_config(path) {
        config(bytes)
    } else {
        bytes.to_owned()
    }
}

/// The mounts of cgroup file systems, and that of the root without where it comes from: sources of others hold names of
/// servers and worse.
fn mounts(bytes: &[u8]) -> Vec<u8> {
    let mut kept = String::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        if line.contains(" - cgroup") {
            kept.push_str(line);
        } else if line.split(' ').nth(4) == Some("/")
            && let Some((head, tail)) = line.split_once(" - ")
        {
            kept.push_str(&format!("{head} - {} none rw", tail.split(' ').next().unwrap_or_default()));
        } else {
            continue;
        }
        kept.push('\n');
    }
    kept.into_bytes()
}

/// Names without values, but for `container`, which an init system of a container has.
fn environment(bytes: &[u8]) -> Vec<u8> {
    let blank = |entry: &[u8]| match entry.iter().position(|byte| *byte == b'=') {
        Some(at) if !entry.starts_with(b"container=") => entry[..=at].to_owned(),
        _ => entry.to_owned(),
    };
    bytes.split(|byte| *byte == 0).map(blank).collect::<Vec<_>>().join(&0)
}

/// Whether it is what a container was started with.
fn is_config(path: &str) -> bool {
    let is_in = |dir: &str| path.strip_prefix(dir).is_some_and(|below| below.starts_with('/'));
    path.ends_with("/config.json") && (is_in(CRIO_CONTAINERS) || task_dirs().iter().any(|dir| is_in(dir)))
}

/// As `pods::of_config` sees it.
#[derive(Deserialize)]
struct Config {
    annotations: Option<Value>,
}

fn config(bytes: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Config>(bytes) {
        Ok(config) => {
            let mut annotations = only(config.annotations.unwrap_or_default(), ANNOTATIONS);
            if let Some(Value::String(labels)) = annotations.get_mut(CRIO_LABELS) {
                *labels = match serde_json::from_str(labels) {
                    Ok(value) => only(value, LABELS).to_string(),
                    Err(error) => String::from_utf8_lossy(&broken::<Value>(labels.as_bytes(), &error)).into_owned(),
                };
            }
            Value::from(Map::from_iter([("annotations".to_owned(), annotations)])).to_string().into_bytes()
        }
        Err(error) => broken::<Config>(bytes, &error),
    }
}

/// An object with the texts of these names. What is of another type than it should be stays of that type.
fn only(value: Value, names: &[&str]) -> Value {
    let Value::Object(mut all) = value else { return hollow(value) };
    let kept = names.iter().filter_map(|name| Some(((*name).to_owned(), all.remove(*name)?)));
    kept.map(|(name, value)| (name, if value.is_string() { value } else { hollow(value) })).collect()
}

fn hollow(value: Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => false.into(),
        Value::Number(_) => 0.into(),
        Value::String(_) => "".into(),
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(_) => Value::Object(Map::new()),
    }
}

/// Text as long that can be read as little, at best for the same reason: up to where it breaks, strings but the names
/// above are masked, and so are numbers; of the rest nothing is left.
fn broken<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len);
    let end = lines.take(error.line().saturating_sub(1)).sum::<usize>().saturating_add(error.column());
    let (head, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    let mut masked = masked(head);
    if let (false, Some(last), Some(breaks)) = (error.is_eof(), masked.last_mut(), head.last()) {
        *last = *breaks;
    }
    masked.resize(head.len() + rest.len(), b' ');
    match serde_json::from_slice::<T>(&masked) {
        Err(other) if other.to_string() == error.to_string() => masked,
        _ => vec![b'x'; bytes.len()],
    }
}

fn masked(json: &[u8]) -> Vec<u8> {
    let (mut in_string, mut is_escaped) = (false, false);
    let mask = |byte: &u8| match byte {
        b'"' if !is_escaped => {
            in_string = !in_string;
            b'"'
        }
        b'\\' if in_string && !is_escaped => {
            is_escaped = true;
            b'x'
        }
        _ if in_string => {
            is_escaped = false;
            b'x'
        }
        b'0'..=b'9' => b'1',
        other => *other,
    };
    let mut masked: Vec<u8> = json.iter().map(mask).collect();
    for name in ANNOTATIONS.iter().chain(&["annotations"]) {
        let places = json.windows(name.len()).enumerate().filter(|(_, text)| *text == name.as_bytes());
        for (at, _) in places {
            masked[at..at + name.len()].copy_from_slice(name.as_bytes());
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::of_config;

    const TASK: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/c0ffee/config.json";

    #[test]
    fn an_environment_keeps_its_names_and_loses_its_secrets() {
        let environ = b"PATH=/bin\0TOKEN=hunter2\0container=lxc\0odd\0";
        assert_eq!(blanked("/proc/1/environ", environ), b"PATH=\0TOKEN=\0container=lxc\0odd\0");
        assert_eq!(blanked("/etc/environ", environ), environ);
    }

    #[test]
    fn a_container_keeps_its_names() {
        let containerd = r#"{"ociVersion":"1.2.0","process":{"env":["TOKEN=hunter2"],"args":["--key=hunter2"]},
            "annotations":{"io.kubernetes.cri.sandbox-namespace":"web","io.kubernetes.cri.sandbox-name":"api-0",
            "io.kubernetes.cri.sandbox-uid":"0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d","hunter2":"hunter2",
            "io.kubernetes.cri.container-name":"app","io.kubernetes.cri.image-name":"hunter2"}}"#;
        let crio = r#"{"annotations":{"io.kubernetes.cri-o.Labels":"{\"io.kubernetes.pod.namespace\":\"web\",\"hunter2\":
            \"hunter2\",\"io.kubernetes.pod.name\":\"api-0\",\"io.kubernetes.container.name\":\"app\",
            \"io.kubernetes.pod.uid\":\"0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d\"}","x":"hunter2"},"root":"hunter2"}"#;
        let crio = crio.replace('\n', "");
        for path in [TASK, "/run/containers/storage/overlay-containers/c0ffee/userdata/config.json"] {
            for text in [containerd, &crio, "{}", r#"{"process":"hunter2"}"#, r#"{"annotations":null}"#] {
                let blank = String::from_utf8(blanked(path, text.as_bytes())).unwrap();
                assert!(!blank.contains("hunter2"), "{blank}");
                assert_eq!(of_config(blank.as_bytes()).unwrap(), of_config(text.as_bytes()).unwrap(), "{blank}");
            }
            assert!(of_config(&blanked(path, crio.as_bytes())).unwrap().is_some());
        }
        for path in [
            "/etc/config.json",
            "/run/containerd/config.json",
            "/run/containers/storage/overlay-containersx/config.json",
        ] {
            assert_eq!(blanked(path, containerd.as_bytes()), containerd.as_bytes(), "{path}");
        }
    }

    #[test]
    fn what_could_not_be_read_stays_so() {
        let whole = r#"{"process": {"env": ["TOKEN=hunter2", "é\"\u00e9\\"], "pid": -20.5e3},
            "annotations": {"io.kubernetes.cri.sandbox-name": "hunter2", "x": true}}"#;
        let cut = (0..whole.len()).map(|end| whole.as_bytes()[..end].to_vec());
        let others = [
            &b"TOKEN=hunter2"[..],
            b"{\"a\": hunter2}",
            b"{\"a\": 1 \"hunter2\"}",
            b"{\"a\": \"\n\", \"hunter2\": 1}",
            b"{\"annotations\": {\"io.kubernetes.cri.sandbox-name\": \"\xff\", \"hunter2\": 1}}",
            b"{} hunter2",
            b"[\"hunter2\"]",
            b"\"hunter2\"",
            b"{\"annotations\": \"hunter2\"}",
            b"{\"annotations\": {\"io.kubernetes.cri.sandbox-name\": [\"hunter2\"]}}",
            b"{\"annotations\": {\"io.kubernetes.cri-o.Labels\": \"hunter2\"}}",
            b"{\"annotations\": {\"io.kubernetes.cri-o.Labels\": \"{\\\"hunter2\"}}",
            b"{\"annotations\": {}, \"annotations\": \"hunter2\"}",
        ];
        for text in cut.chain(others.map(<[u8]>::to_vec)) {
            let shown = text.escape_ascii().to_string();
            let blank = blanked(TASK, &text);
            assert!(!blank.escape_ascii().to_string().contains("hunter2"), "{shown}");
            let (is, was) = (of_config(&blank).unwrap_err(), of_config(&text).unwrap_err());
            // One that is being written.
            if was.is_eof() {
                assert_eq!(is.to_string(), was.to_string(), "{shown}");
                assert!(blank.len() == text.len() || shown.contains("cri-o"), "{shown}");
            }
        }
    }
}
