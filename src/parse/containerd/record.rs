//! One record: `containers/<id>` or `sandboxes/<id>` (`core/metadata/{containers,sandbox}.go`).

use jiff::Timestamp;

use super::super::ReadAt;
use super::super::bolt::{Bucket, Db, Fault, Value};
use super::metadata::{ContainerMetadata, SandboxMetadata};

/// The label that says what a record is of.
const KIND: &[u8] = b"io.cri-containerd.kind";
const OF_SANDBOX: &[u8] = b"io.cri-containerd.sandbox.metadata";
const OF_CONTAINER: &[u8] = b"io.cri-containerd.container.metadata";
/// The same in a record of the sandbox API.
const OF_API: &[u8] = b"metadata";

/// A record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<T> {
    /// When it was made, by the clock of then. `None` where that is missing or no time.
    pub created: Option<Timestamp>,
    /// Whether one of its times can't be read: then containerd can't list any record.
    pub has_bad_time: bool,
    /// The pod that its labels name, `namespace/pod`; only where the metadata can't be read.
    pub labelled: Option<Box<str>>,
    /// `io.containerd.runc.v2`, for instance. Nobody asks for a container's.
    pub runtime: Option<Box<str>>,
    /// What the CRI plugin keeps in it, or why it can't be read: containerd can't either.
    pub metadata: Result<T, String>,
}

/// A record's parts.
#[derive(Default)]
pub(super) struct Raw {
    created: Option<Timestamp>,
    has_bad_time: bool,
    pod: Option<String>,
    namespace: Option<String>,
    kind: Option<String>,
    runtime: Option<String>,
    of_sandbox: Option<Result<SandboxMetadata, String>>,
    of_container: Option<Result<ContainerMetadata, String>>,
    of_api: Option<Result<SandboxMetadata, String>>,
}

impl Raw {
    pub(super) fn read<F: ReadAt + ?Sized>(db: &Db<'_, F>, id: &str, bucket: Bucket<'_>) -> Result<Raw, Fault> {
        let mut raw = Raw::default();
        db.each(bucket, &mut |key, value| match (key, value) {
            (b"createdat" | b"updatedat", Value::Bytes(bytes, _)) => {
                db.keep(value);
                raw.has_bad_time |= parts(bytes).is_none();
                if key == b"createdat" {
                    raw.created = time(bytes);
                }
                Ok(())
            }
            (b"labels", Value::Bucket(bucket)) => db.each(bucket, &mut |key, value| {
                let Value::Bytes(bytes, _) = value else { return Ok(()) };
                match key {
                    KIND => raw.kind = Some(text(bytes)),
                    b"io.kubernetes.pod.name" => raw.pod = Some(text(bytes)),
                    b"io.kubernetes.pod.namespace" => raw.namespace = Some(text(bytes)),
                    _ => return Ok(()),
                }
                db.keep(value);
                Ok(())
            }),
            (b"runtime", Value::Bucket(bucket)) => db.each(bucket, &mut |key, value| {
                if let (b"name", Value::Bytes(bytes, _)) = (key, value) {
                    db.keep(value);
                    raw.runtime = Some(text(bytes));
                }
                Ok(())
            }),
            (b"extensions", Value::Bucket(bucket)) => db.each(bucket, &mut |key, value| {
                let Value::Bytes(bytes, _) = value else { return Ok(()) };
                match key {
                    OF_SANDBOX => raw.of_sandbox = Some(SandboxMetadata::read(bytes, id)),
                    OF_CONTAINER => raw.of_container = Some(ContainerMetadata::read(bytes, id)),
                    OF_API => raw.of_api = Some(SandboxMetadata::read(bytes, id)),
                    _ => return Ok(()),
                }
                db.keep(value);
                Ok(())
            }),
            _ => Ok(()),
        })?;
        Ok(raw)
    }

    pub(super) fn is_sandbox(&self) -> bool {
        self.kind.as_deref() == Some("sandbox") || self.of_sandbox.is_some()
    }

    pub(super) fn is_container(&self) -> bool {
        self.kind.as_deref() == Some("container") || self.of_container.is_some()
    }

    pub(super) fn sandbox(mut self) -> Record<SandboxMetadata> {
        let metadata = self.of_sandbox.take();
        self.record(metadata, OF_SANDBOX)
    }

    pub(super) fn sandbox_of_api(mut self) -> Record<SandboxMetadata> {
        let metadata = self.of_api.take();
        self.record(metadata, OF_API)
    }

    pub(super) fn container(mut self) -> Record<ContainerMetadata> {
        let metadata = self.of_container.take();
        self.runtime = None;
        self.record(metadata, OF_CONTAINER)
    }

    fn record<T>(self, metadata: Option<Result<T, String>>, extension: &[u8]) -> Record<T> {
        let missing = || Err(format!("has no extension {}", String::from_utf8_lossy(extension)));
        let metadata = metadata.unwrap_or_else(missing);
        let pod = self.namespace.zip(self.pod).filter(|_| metadata.is_err());
        let labelled = pod.map(|(namespace, pod)| format!("{namespace}/{pod}").into());
        let Raw { created, has_bad_time, runtime, .. } = self;
        Record { created, has_bad_time, labelled, runtime: runtime.map(String::into), metadata }
    }
}

/// A name, as far as one goes: what is longer is none.
fn text(bytes: &[u8]) -> String {
    const LONGEST: usize = 1024;
    String::from_utf8_lossy(bytes.get(..LONGEST).unwrap_or(bytes)).into_owned()
}

/// A Go `time.Time` as `MarshalBinary` writes it: version, seconds since year 1, nanoseconds, zone; big endian. `None` for
/// what is no time, and for years beyond 9999.
pub fn time(bytes: &[u8]) -> Option<Timestamp> {
    /// From 0001-01-01 to 1970-01-01, in seconds.
    const UNIX: i64 = 62_135_596_800;
    let (seconds, nanoseconds) = parts(bytes)?;
    Timestamp::new(seconds.checked_sub(UNIX)?, nanoseconds).ok()
}

/// Seconds and nanoseconds; `None` for what Go does not take either.
fn parts(bytes: &[u8]) -> Option<(i64, i32)> {
    let (version, rest) = bytes.split_first()?;
    let (seconds, rest) = rest.split_first_chunk()?;
    let (nanoseconds, zone) = rest.split_first_chunk()?;
    // The second version adds the seconds of an odd zone.
    let is_whole = matches!((version, zone.len()), (1, 2) | (2, 3));
    is_whole.then_some((i64::from_be_bytes(*seconds), i32::from_be_bytes(*nanoseconds)))
}
