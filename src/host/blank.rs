//! Taking out of a recording what no check judges and nobody else should read: environments, arguments, log lines.

mod database;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{kmsg, xtables};
use crate::layout::{CRIO_CONTAINERS, task_dirs};

pub(super) use database::{database, is_database};

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

/// nodecheck's own settings, which are kept as they are.
const OWN: &str = "/etc/nodecheck/";
/// Options of containerd and of its shims that say where things are. Their values are kept if they look like that.
const OPTIONS: &[&str] = &["root", "state", "config", "c", "id", "namespace", "address"];

/// The content of a file as a recording keeps it.
pub(super) fn blanked(path: &str, bytes: &[u8]) -> Vec<u8> {
    if path.starts_with("/proc/") && path.ends_with("/environ") {
        environment(bytes)
    } else if path.starts_with("/proc/") && path.ends_with("/mountinfo") {
        mounts(bytes)
    } else if path.starts_with("/proc/") && path.ends_with("/cmdline") {
        arguments(bytes)
    } else if path == kmsg::PATH {
        kmsg::oom_reports(bytes)
    } else if let Some(table) = xtables::blanked(path, bytes) {
        table
    } else if is_config(path) {
        config(bytes)
    } else if path.ends_with("/state.json") {
        state(bytes)
    } else if path.ends_with(".toml") && !path.starts_with(OWN) {
        settings(&String::from_utf8_lossy(bytes)).into_bytes()
    } else {
        bytes.to_owned()
    }
}

/// The mounts of cgroup file systems and of namespaces, and that of the root without where it comes from: sources of others hold names of
/// servers and worse.
fn mounts(bytes: &[u8]) -> Vec<u8> {
    let mut kept = String::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        if line.contains(" - cgroup") || line.contains(" - nsfs ") {
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

/// The program, and what [`OPTIONS`] say to containerd and its shims; as many arguments as there were.
fn arguments(bytes: &[u8]) -> Vec<u8> {
    let mut is_value = false;
    let program = String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    let program = program.rsplit('/').next().unwrap_or_default();
    let is_containerd = program == "containerd" || program.starts_with("containerd-shim");
    let blank = |(number, argument): (usize, &[u8])| {
        let was_asked_for = std::mem::take(&mut is_value);
        let text = String::from_utf8_lossy(argument);
        let (option, value) = match text.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (&*text, None),
        };
        let is_option = is_containerd && option.starts_with('-') && OPTIONS.contains(&option.trim_start_matches('-'));
        if number == 0 {
            // A process may write all of it over, as one text.
            let program = argument.split(u8::is_ascii_whitespace).next().unwrap_or_default();
            program.to_owned()
        } else if is_option {
            is_value = value.is_none();
            match value.is_none_or(is_place) {
                true => argument.to_owned(),
                false => format!("{option}=x").into_bytes(),
            }
        } else if argument.is_empty() || was_asked_for && is_place(&text) {
            argument.to_owned()
        } else {
            b"x".to_vec()
        }
    };
    bytes.split(|byte| *byte == 0).enumerate().map(blank).collect::<Vec<_>>().join(&0)
}

/// Whether it can be a path, an id or a namespace.
fn is_place(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "/._-:@%+".contains(c))
}

/// What runc writes of a running container, as far as it tells which process that is.
#[derive(Serialize, Deserialize)]
struct State {
    #[serde(skip_serializing_if = "Option::is_none")]
    init_process_pid: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init_process_start: Option<Value>,
}

fn state(bytes: &[u8]) -> Vec<u8> {
    const NAMES: &[&str] = &["init_process_pid", "init_process_start"];
    let number = |value: Option<Value>| value.map(|value| if value.is_number() { value } else { hollow(value) });
    match serde_json::from_slice::<State>(bytes) {
        Ok(State { init_process_pid, init_process_start }) => {
            let kept =
                State { init_process_pid: number(init_process_pid), init_process_start: number(init_process_start) };
            serde_json::to_vec(&kept).unwrap_or_default()
        }
        Err(error) => broken(bytes, &error, NAMES, error_of::<State>),
    }
}

/// Where containerd keeps its things, and what else is read for that. The rest holds credentials of registries.
fn settings(text: &str) -> String {
    const NAMES: &[&str] = &["root", "state", "imports"];
    let is_kept = |value: &toml::Value| match value {
        toml::Value::Array(all) => all.iter().all(toml::Value::is_str),
        other => other.is_str(),
    };
    match text.parse::<toml::Table>() {
        Ok(mut all) => {
            let kept = NAMES.iter().filter_map(|name| {
                let value = all.remove(*name)?;
                Some(((*name).to_owned(), if is_kept(&value) { value } else { toml::Value::Integer(0) }))
            });
            kept.collect::<toml::Table>().to_string()
        }
        // Nobody can read it, so all that counts is that it stays so, and where.
        Err(error) => {
            let line = |at: usize| text.get(..at).map_or(0, |before| before.matches('\n').count());
            "\n".repeat(error.span().map_or(0, |span| line(span.start))) + "x\n"
        }
    }
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
                    Err(error) => {
                        let blank = broken(labels.as_bytes(), &error, ANNOTATIONS, error_of::<Value>);
                        String::from_utf8_lossy(&blank).into_owned()
                    }
                };
            }
            Value::from(Map::from_iter([("annotations".to_owned(), annotations)])).to_string().into_bytes()
        }
        Err(error) => broken(bytes, &error, &[ANNOTATIONS, &["annotations"]].concat(), error_of::<Config>),
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

fn error_of<T: DeserializeOwned>(json: &[u8]) -> Option<serde_json::Error> {
    serde_json::from_slice::<T>(json).err()
}

/// JSON as long that can be read as little, at best for the same reason: up to where it breaks, strings but these names
/// are masked, and so are numbers; of the rest nothing is left.
fn broken(
    bytes: &[u8],
    error: &serde_json::Error,
    names: &[&str],
    read: impl Fn(&[u8]) -> Option<serde_json::Error>,
) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len);
    let end = lines.take(error.line().saturating_sub(1)).sum::<usize>().saturating_add(error.column());
    // An object or a list that should be something else begins right after; a text that is none ends somewhere.
    for (end, after) in [(end, b' '), (end.saturating_add(1), b' '), (end, b'"')] {
        let (head, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        let mut masked = masked(head, names);
        if let (false, Some(last), Some(breaks)) = (error.is_eof(), masked.last_mut(), head.last()) {
            *last = *breaks;
        }
        // What is no text stays none.
        if let Some(byte) = std::str::from_utf8(head).err().and_then(|wrong| masked.get_mut(wrong.valid_up_to())) {
            *byte = 0xff;
        }
        masked.extend(rest.first().map(|_| after));
        masked.resize(bytes.len(), b' ');
        if read(&masked).is_some_and(|other| other.to_string() == error.to_string()) {
            return masked;
        }
    }
    vec![b'x'; bytes.len()]
}

fn masked(json: &[u8], names: &[&str]) -> Vec<u8> {
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
    for name in names {
        let places = json.windows(name.len()).enumerate().filter(|(_, text)| *text == name.as_bytes());
        for (at, _) in places {
            masked[at..at + name.len()].copy_from_slice(name.as_bytes());
        }
    }
    masked
}

#[cfg(test)]
mod tests;
