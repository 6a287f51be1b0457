//! The extensions of a record: a protobuf `Any` with JSON in it (`internal/cri/store/{sandbox,container}/metadata.go`).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

/// An extension holds a pod's labels and annotations: 256 KiB of those at most, or a container's environment.
const LARGEST: usize = 4 << 20;

/// The JSON around the metadata; containerd itself refuses another version.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versioned<T> {
    version: String,
    metadata: T,
}

/// Of a sandbox. Unknown fields are left out.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Sandbox {
    #[serde(default, rename = "ID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<SandboxConfig>,
    /// Empty with the host's network.
    #[serde(default, rename = "NetNSPath", skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    #[serde(default, rename = "IP", skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
}

/// Of a container.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    #[serde(default, rename = "ID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    pub name: String,
    #[serde(default, rename = "SandboxID", skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<ContainerConfig>,
}

#[derive(Serialize, Deserialize)]
struct SandboxConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<PodMetadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linux: Option<Linux>,
}

/// The kubelet's names. A number that is 0 is not written.
#[derive(Serialize, Deserialize)]
pub(super) struct PodMetadata {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
}

#[derive(Serialize, Deserialize)]
struct Linux {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    security_context: Option<SecurityContext>,
}

#[derive(Serialize, Deserialize)]
struct SecurityContext {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace_options: Option<NamespaceOptions>,
}

/// `NamespaceMode` of the CRI: 0 is a network of the pod's own, 2 the node's.
#[derive(Serialize, Deserialize)]
struct NamespaceOptions {
    #[serde(default, skip_serializing_if = "is_zero")]
    network: i32,
}

#[derive(Serialize, Deserialize)]
struct ContainerConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<NameOnly>,
}

#[derive(Serialize, Deserialize)]
struct NameOnly {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    attempt: u32,
}

impl Sandbox {
    pub(super) fn pod(&self) -> Option<&PodMetadata> {
        self.config.as_ref()?.metadata.as_ref()
    }

    pub(super) fn has_host_network(&self) -> bool {
        let options = || self.config.as_ref()?.linux.as_ref()?.security_context.as_ref()?.namespace_options.as_ref();
        options().is_some_and(|options| options.network == 2)
    }
}

impl Container {
    /// Its name in the pod, and how often it was made anew.
    pub(super) fn container(&self) -> Option<(&str, u32)> {
        let metadata = self.config.as_ref()?.metadata.as_ref()?;
        Some((&metadata.name, metadata.attempt))
    }
}

/// What is not written in the original is not in a reduced one either: so that is never longer.
fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

/// Reads an extension's value.
pub(super) fn of<T: DeserializeOwned>(extension: &[u8]) -> Result<T, String> {
    if extension.len() > LARGEST {
        return Err(format!("has an extension of {} bytes", extension.len()));
    }
    let json = any(extension).ok_or("has an extension that is not what containerd writes")?;
    let read: Versioned<T> = serde_json::from_slice(json).map_err(|error| {
        // serde's own text quotes what is there.
        let what = match error.classify() {
            Category::Eof => "is cut off",
            Category::Data => "lacks a field or has a wrong one",
            Category::Syntax | Category::Io => "is no JSON",
        };
        format!("{what} (line {}, column {})", error.line(), error.column())
    })?;
    match read.version.as_str() {
        "v1" => Ok(read.metadata),
        other => Err(format!(
            "has version '{}', and containerd knows v1",
            other.escape_default().take(20).collect::<String>()
        )),
    }
}

/// The extension of a sandbox (`true`) or a container with as much of its JSON as is read here and blanks for the rest.
/// `None` for what can't be read.
pub fn reduced(extension: &[u8], is_sandbox: bool) -> Option<Vec<u8>> {
    let json = any(extension)?;
    let short = match is_sandbox {
        true => serde_json::to_vec(&serde_json::from_slice::<Versioned<Sandbox>>(json).ok()?),
        false => serde_json::to_vec(&serde_json::from_slice::<Versioned<Container>>(json).ok()?),
    };
    let mut short = short.ok().filter(|short| short.len() <= json.len())?;
    short.resize(json.len(), b' ');
    // The value is the last field.
    let head = extension.strip_suffix(json)?;
    Some([head, &short].concat())
}

/// Why the JSON of an extension can't be read.
pub fn json_error(json: &[u8], is_sandbox: bool) -> Option<serde_json::Error> {
    match is_sandbox {
        true => serde_json::from_slice::<Versioned<Sandbox>>(json).err(),
        false => serde_json::from_slice::<Versioned<Container>>(json).err(),
    }
}

/// The value of a `google.protobuf.Any`: its field 2.
pub fn any(mut bytes: &[u8]) -> Option<&[u8]> {
    let mut value = None;
    while !bytes.is_empty() {
        let (tag, rest) = varint(bytes)?;
        bytes = match tag & 7 {
            0 => varint(rest)?.1,
            1 => rest.get(8..)?,
            2 => {
                let (length, rest) = varint(rest)?;
                let (field, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                if tag >> 3 == 2 {
                    value = Some(field);
                }
                rest
            }
            5 => rest.get(4..)?,
            _ => return None,
        };
    }
    value
}

/// A base-128 varint, and what follows it.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (number, byte) in bytes.iter().enumerate().take(10) {
        let shift = u32::try_from(number).ok()?.checked_mul(7)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(number.checked_add(1)?..)?));
        }
    }
    None
}
