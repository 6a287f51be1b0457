//! containerd's database, as far as Kubernetes' pods are in it (`core/metadata/buckets.go`, `internal/cri/store`).
//!
//! `v1/k8s.io/containers/<id>` holds a record for each sandbox and each container; containerd 2 has another one for a
//! sandbox in `v1/k8s.io/sandboxes/<id>`, and 1.7 with its sandbox server in `k8s.io/sandboxes/<id>`. Nothing says whether
//! they run: that is not in the database.

mod id;
mod json;
mod metadata;
mod record;

use std::collections::BTreeMap;

use super::ReadAt;
use super::bolt::{Bucket, Db, Fault, Value};

pub use id::Id;
pub use json::{any, json_error, reduced};
pub use metadata::{ContainerMetadata, PodMetadata, SandboxMetadata};
pub use record::{Record, time};

/// The namespace of the CRI plugin; Docker's is `moby`.
pub const KUBERNETES: &[u8] = b"k8s.io";

/// What the database holds of Kubernetes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Records {
    /// containerd's `dbVersion`: 3 until 1.7, 4 from 2.0 on. `None`: it is not containerd's database.
    pub schema: Option<u64>,
    /// The namespaces that are there.
    pub namespaces: Vec<String>,
    /// Whether that of Kubernetes is among them.
    pub is_kubernetes: bool,
    /// By id. Boxed, since a map that grows at its end is half empty.
    pub sandboxes: BTreeMap<Id, Box<Sandbox>>,
    /// By id.
    pub containers: BTreeMap<Id, Box<Container>>,
}

/// The records of a sandbox.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sandbox {
    /// That among the containers: it holds the sandbox's name after a restart of containerd.
    pub in_containers: Option<Record<SandboxMetadata>>,
    /// That among the sandboxes.
    pub in_sandboxes: Option<Box<Record<SandboxMetadata>>>,
}

/// The record of a container.
pub type Container = Record<ContainerMetadata>;

/// Values that are not read, for [`Db::skipping`]: a container's OCI settings are most of the database.
pub const SKIPPED: &[&[u8]] = &[b"spec"];

/// Reads all records. Whatever it says counts once the meta was found unchanged.
pub fn records<F: ReadAt + ?Sized>(db: &Db<'_, F>) -> Result<Records, Fault> {
    let mut all = Records::default();
    db.each(db.root(), &mut |key, value| match (key, value) {
        (b"v1", Value::Bucket(bucket)) => all.version(db, bucket),
        (KUBERNETES, Value::Bucket(bucket)) => db.each(bucket, &mut |key, value| match (key, value) {
            (b"sandboxes", Value::Bucket(bucket)) => all.sandboxes(db, bucket),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    Ok(all)
}

impl Records {
    fn version<F: ReadAt + ?Sized>(&mut self, db: &Db<'_, F>, bucket: Bucket<'_>) -> Result<(), Fault> {
        // Without a version it is one that containerd has just begun.
        self.schema = Some(0);
        db.each(bucket, &mut |key, value| match value {
            Value::Bytes(bytes, _) if key == b"version" => {
                db.keep(value);
                self.schema = Some(zigzag(bytes));
                Ok(())
            }
            Value::Bytes(..) => Ok(()),
            Value::Bucket(bucket) => {
                self.namespaces.push(String::from_utf8_lossy(key).into_owned());
                if key == KUBERNETES { self.namespace(db, bucket) } else { Ok(()) }
            }
        })
    }

    fn namespace<F: ReadAt + ?Sized>(&mut self, db: &Db<'_, F>, bucket: Bucket<'_>) -> Result<(), Fault> {
        self.is_kubernetes = true;
        db.each(bucket, &mut |key, value| match (key, value) {
            (b"containers", Value::Bucket(bucket)) => db.each(bucket, &mut |id, value| match value {
                Value::Bucket(bucket) => self.container(db, id, bucket),
                Value::Bytes(..) => Ok(()),
            }),
            (b"sandboxes", Value::Bucket(bucket)) => self.sandboxes(db, bucket),
            _ => Ok(()),
        })
    }

    fn container<F: ReadAt + ?Sized>(&mut self, db: &Db<'_, F>, id: &[u8], bucket: Bucket<'_>) -> Result<(), Fault> {
        let id = String::from_utf8_lossy(id);
        let raw = record::Raw::read(db, &id, bucket)?;
        if raw.is_sandbox() {
            self.sandboxes.entry(Id::from(&*id)).or_default().in_containers = Some(raw.sandbox());
        } else if raw.is_container() {
            self.containers.insert(Id::from(&*id), Box::new(raw.container()));
        }
        Ok(())
    }

    fn sandboxes<F: ReadAt + ?Sized>(&mut self, db: &Db<'_, F>, bucket: Bucket<'_>) -> Result<(), Fault> {
        db.each(bucket, &mut |id, value| {
            let Value::Bucket(bucket) = value else { return Ok(()) };
            let id = String::from_utf8_lossy(id);
            let raw = record::Raw::read(db, &id, bucket)?;
            self.sandboxes.entry(Id::from(&*id)).or_default().in_sandboxes = Some(Box::new(raw.sandbox_of_api()));
            Ok(())
        })
    }
}

impl Sandbox {
    /// What is known of it: of its record among the containers, if there is one that can be read.
    pub fn metadata(&self) -> Option<&SandboxMetadata> {
        self.records().find_map(|record| record.metadata.as_ref().ok())
    }

    /// The same, for good.
    pub fn into_metadata(self) -> Option<SandboxMetadata> {
        let others = self.in_sandboxes.map(|record| *record);
        self.in_containers.into_iter().chain(others).find_map(|record| record.metadata.ok())
    }

    /// Both records.
    pub fn records(&self) -> impl Iterator<Item = &Record<SandboxMetadata>> {
        self.in_containers.iter().chain(self.in_sandboxes.as_deref())
    }
}

/// A signed number as `encoding/binary` of Go writes it, if it is not negative.
fn zigzag(bytes: &[u8]) -> u64 {
    json::varint(bytes).map_or(0, |(value, _)| value >> 1)
}

/// What must hold for any bytes: no panic, and an end.
pub fn fuzz(data: &[u8]) {
    let Ok(meta) = super::bolt::Meta::newest(data) else { return };
    let db = Db::inked(data, meta);
    let read = records(&db);
    for span in db.into_spans() {
        // What a recording keeps of the file lies in it.
        let mut bytes = vec![0; span.bytes.len()];
        assert_eq!(data.read_at(span.at, &mut bytes).ok(), Some(span.bytes.len()));
        assert_eq!(bytes, span.bytes);
    }
    let _ = read;
}

#[cfg(test)]
mod tests;
