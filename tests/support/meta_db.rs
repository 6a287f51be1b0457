//! Makes databases as containerd writes them, with the records of Kubernetes' pods (`core/metadata/buckets.go`,
//! `internal/cri/store`).

use jiff::Timestamp;

use super::{Bolt, Tree};

/// A database of containerd.
///
/// ```ignore
/// let web = Pod::new("default/web-0").attempt(1);
/// let file = MetaDb::new().sandbox(&web).container(&web.container("nginx")).build();
/// ```
#[derive(Debug, Clone)]
pub struct MetaDb {
    bolt: Bolt,
    schema: u64,
}

impl MetaDb {
    /// containerd 1.6, without a pod: schema 3, the free list in the file.
    pub fn new() -> MetaDb {
        let mut bolt = Bolt::default();
        bolt.tree.bucket(&["v1", "k8s.io", "containers"]);
        MetaDb { bolt, schema: 3 }.schema(3)
    }

    /// containerd 2.x, without a pod: schema 4, no free list, a bucket `sandboxes`.
    pub fn v2() -> MetaDb {
        let mut db = MetaDb::new().schema(4);
        db.bolt.has_freelist = false;
        db.bolt.tree.bucket(&["v1", "k8s.io", "sandboxes"]);
        db
    }

    /// Another one without containerd's buckets.
    pub fn nothing() -> MetaDb {
        MetaDb { bolt: Bolt::default(), schema: 3 }
    }

    pub fn schema(mut self, schema: u64) -> MetaDb {
        self.schema = schema;
        self.put(&["v1", "version"], varint(schema << 1))
    }

    pub fn page_size(mut self, bytes: usize) -> MetaDb {
        self.bolt.page_size = bytes;
        self
    }

    /// The newest transaction: another meta page for an odd one, 65, than for an even one.
    pub fn txid(mut self, txid: u64) -> MetaDb {
        self.bolt.txid = txid;
        self
    }

    /// As of a machine of the other byte order.
    pub fn foreign(mut self) -> MetaDb {
        self.bolt.is_foreign = true;
        self
    }

    /// Sets any value, beginning with `v1`; buckets that are missing are made, a value that is in the way replaced.
    pub fn put(mut self, path: &[&str], value: impl AsRef<[u8]>) -> MetaDb {
        self.bolt.tree.put(path, value);
        self
    }

    /// An empty bucket, or one that is there.
    pub fn bucket(mut self, path: &[&str]) -> MetaDb {
        self.bolt.tree.bucket(path);
        self
    }

    /// Takes a bucket or a value out.
    pub fn remove(mut self, path: &[&str]) -> MetaDb {
        self.bolt.tree.remove(path);
        self
    }

    /// All records of a sandbox that this version of containerd has: with schema 4 also that of the sandbox API.
    pub fn pod(self, pod: &Pod) -> MetaDb {
        if self.schema >= 4 { self.sandbox(pod).sandbox_of_api(pod) } else { self.sandbox(pod) }
    }

    /// `v1/k8s.io/containers/<id>` of a sandbox.
    pub fn sandbox(mut self, pod: &Pod) -> MetaDb {
        let record = self.bolt.tree.bucket(&["v1", "k8s.io", "containers", &pod.id]);
        pod.base.write(record, "io.cri-containerd.sandbox.metadata", &pod.any());
        self
    }

    /// `v1/k8s.io/sandboxes/<id>`, as containerd 2 has it.
    pub fn sandbox_of_api(mut self, pod: &Pod) -> MetaDb {
        pod.write_of_api(self.bolt.tree.bucket(&["v1", "k8s.io", "sandboxes", &pod.id]));
        self
    }

    /// `k8s.io/sandboxes/<id>`, as containerd 1.7 has it with ENABLE_CRI_SANDBOXES.
    pub fn sandbox_of_1_7(mut self, pod: &Pod) -> MetaDb {
        pod.write_of_api(self.bolt.tree.bucket(&["k8s.io", "sandboxes", &pod.id]));
        self
    }

    /// `v1/k8s.io/containers/<id>` of a container.
    pub fn container(mut self, container: &Ctr) -> MetaDb {
        let record = self.bolt.tree.bucket(&["v1", "k8s.io", "containers", &container.id]);
        container.base.write(record, "io.cri-containerd.container.metadata", &container.any());
        self
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        self.bolt.build()
    }
}

/// What the records of sandboxes and containers have in common.
#[derive(Debug, Clone)]
struct Base {
    created: Option<Vec<u8>>,
    runtime: Option<String>,
    labels: Vec<(String, String)>,
    /// `None`: there is none. The bytes: instead of what it would be.
    extension: Option<Option<Vec<u8>>>,
}

impl Base {
    fn new(kind: &str, labels: &[(&str, &str)]) -> Base {
        let kind = [("io.cri-containerd.kind", kind)];
        let labels = labels.iter().chain(&kind).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Base {
            created: Some(go_time(1_793_527_200, 0)),
            runtime: Some("io.containerd.runc.v2".to_owned()),
            labels: labels.collect(),
            extension: Some(None),
        }
    }

    fn write(&self, record: &mut Tree, key: &str, any: &[u8]) {
        self.write_some(record, key, any);
        record.put(&["image"], "registry.k8s.io/pause:3.10").put(&["snapshotter"], "overlayfs");
        for (key, value) in &self.labels {
            record.put(&["labels", key], value);
        }
    }

    fn write_some(&self, record: &mut Tree, key: &str, any: &[u8]) {
        if let Some(created) = &self.created {
            record.put(&["createdat"], created).put(&["updatedat"], created);
        }
        if let Some(runtime) = &self.runtime {
            record.put(&["runtime", "name"], runtime).put(&["runtime", "options"], b"\x0a\x01x\x12\x00");
        }
        if let Some(other) = &self.extension {
            record.put(&["extensions", key], other.as_deref().unwrap_or(any));
        }
    }
}

/// The setters that sandboxes and containers share.
macro_rules! common {
    ($type:ident) => {
        impl $type {
            /// Up to 64 hexadecimal digits; zeros fill it up.
            pub fn id(mut self, id: &str) -> Self {
                self.id = format!("{id:0<64}");
                self
            }

            /// RFC 3339. 2026-11-01T10:00:00Z, if nothing else is said.
            pub fn created(mut self, when: &str) -> Self {
                let when: Timestamp = when.parse().unwrap();
                self.base.created = Some(go_time(when.as_second(), when.subsec_nanosecond()));
                self
            }

            /// `createdat` as these bytes; [`go_time`] makes odd times.
            pub fn created_as(mut self, bytes: Option<Vec<u8>>) -> Self {
                self.base.created = bytes;
                self
            }

            /// `runtime/name`, or no bucket `runtime`.
            pub fn runtime(mut self, name: Option<&str>) -> Self {
                self.base.runtime = name.map(str::to_owned);
                self
            }

            /// Sets a label.
            pub fn label(mut self, key: &str, value: &str) -> Self {
                self.base.labels.push((key.to_owned(), value.to_owned()));
                self
            }

            pub fn without_label(mut self, key: &str) -> Self {
                self.base.labels.retain(|(known, _)| known != key);
                self
            }

            pub fn without_extension(mut self) -> Self {
                self.base.extension = None;
                self
            }

            /// These bytes instead of the `Any`.
            pub fn extension(mut self, bytes: impl AsRef<[u8]>) -> Self {
                self.base.extension = Some(Some(bytes.as_ref().to_vec()));
                self
            }

            /// Changes the JSON: `pod.json(|json| json.replace("v1", "v2"))`. Last: it stays what it is then.
            pub fn json(self, change: impl FnOnce(String) -> String) -> Self {
                let json = change(self.to_json());
                self.extension(any(Self::TYPE, json.as_bytes()))
            }

            fn any(&self) -> Vec<u8> {
                any(Self::TYPE, self.to_json().as_bytes())
            }
        }
    };
}

/// A sandbox. Its uid and its id follow from its names and its attempt.
#[derive(Debug, Clone)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub attempt: u32,
    pub id: String,
    ip: String,
    has_host_network: bool,
    base: Base,
}

common!(Pod);

impl Pod {
    const TYPE: &str = "github.com/containerd/cri/pkg/store/sandbox/Metadata";

    /// `namespace/name`, or only a name in `default`.
    pub fn new(name: &str) -> Pod {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        let uid = digits(&["pod", namespace, name]);
        let uid = [&uid[..8], &uid[8..12], &uid[12..16], &uid[16..20], &uid[20..32]].join("-");
        let labels = [("io.kubernetes.pod.name", name), ("io.kubernetes.pod.namespace", namespace)];
        let pod = Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: String::new(),
            attempt: 0,
            id: String::new(),
            ip: "10.99.0.2".to_owned(),
            has_host_network: false,
            base: Base::new("sandbox", &labels),
        };
        pod.uid(&uid)
    }

    /// The id follows, so it is set after this.
    pub fn uid(mut self, uid: &str) -> Pod {
        self.uid = uid.to_owned();
        let attempt = self.attempt;
        self.attempt(attempt).label("io.kubernetes.pod.uid", uid)
    }

    /// The id follows, so it is set after this.
    pub fn attempt(mut self, attempt: u32) -> Pod {
        self.attempt = attempt;
        self.id = digits(&[&self.full_name()]);
        self
    }

    /// An address, or an empty one: the network was not set up.
    pub fn ip(mut self, ip: &str) -> Pod {
        self.ip = ip.to_owned();
        self
    }

    /// The node's network: neither an address nor a network namespace.
    pub fn host_network(mut self) -> Pod {
        self.has_host_network = true;
        self
    }

    /// `<pod>_<namespace>_<uid>_<attempt>`.
    pub fn full_name(&self) -> String {
        format!("{}_{}_{}_{}", self.name, self.namespace, self.uid, self.attempt)
    }

    /// Where its network namespace is mounted; empty with the node's network.
    pub fn netns(&self) -> String {
        let netns = format!("/var/run/netns/cni-{}", &self.id[..8]);
        if self.has_host_network { String::new() } else { netns }
    }

    /// A container in it.
    pub fn container(&self, name: &str) -> Ctr {
        let labels = [("io.kubernetes.container.name", name), ("io.kubernetes.pod.name", &self.name)];
        let base = Base::new("container", &labels);
        let container = Ctr { pod: self.clone(), name: name.to_owned(), attempt: 0, id: String::new(), base };
        container.attempt(0)
    }

    /// The JSON of the extension.
    pub fn to_json(&self) -> String {
        let Pod { id, name, namespace, uid, .. } = self;
        let (full_name, netns) = (self.full_name(), self.netns());
        let (ip, network) = if self.has_host_network { ("", r#""network":2,"#) } else { (&*self.ip, "") };
        let cni = if ip.is_empty() { "null" } else { r#"{"Interfaces":{"eth0":{"Mac":"c6:df:31:28:cd:72"}}}"# };
        format!(
            r#"{{"Version":"v1","Metadata":{{"ID":"{id}","Name":{full_name:?},"Config":{{"metadata":{{"name":{name:?},"#
        ) + &format!(r#""uid":"{uid}","namespace":"{namespace}"{}}},"#, omitted(self.attempt))
            + &format!(r#""log_directory":"/var/log/pods/{namespace}_{name}_{uid}","labels":{{"app":{name:?}}},"#)
            + &format!(r#""linux":{{"cgroup_parent":"/kubepods/burstable/pod{uid}","#)
            + &format!(r#""security_context":{{"namespace_options":{{{network}"pid":1}}}}}}}},"NetNSPath":"{netns}","#)
            + &format!(r#""IP":"{ip}","AdditionalIPs":null,"RuntimeHandler":"","CNIResult":{cni},"#)
            + r#""ProcessLabel":""}}"#
    }

    fn write_of_api(&self, record: &mut Tree) {
        self.base.write_some(record, "metadata", &self.any());
        record.put(&["sandboxer"], "podsandbox").put(&["labels", "name"], self.full_name());
    }
}

/// A container; [`Pod::container`] makes one.
#[derive(Debug, Clone)]
pub struct Ctr {
    pub pod: Pod,
    pub name: String,
    pub attempt: u32,
    pub id: String,
    base: Base,
}

common!(Ctr);

impl Ctr {
    const TYPE: &str = "github.com/containerd/cri/pkg/store/container/Metadata";

    /// How often it was made anew. The id follows, so it is set after this.
    pub fn attempt(mut self, attempt: u32) -> Ctr {
        self.attempt = attempt;
        self.id = digits(&[&self.full_name(), &self.pod.id]);
        self
    }

    /// `<container>_<pod>_<namespace>_<uid>_<attempt>`.
    pub fn full_name(&self) -> String {
        format!("{}_{}_{}_{}_{}", self.name, self.pod.name, self.pod.namespace, self.pod.uid, self.attempt)
    }

    /// The JSON of the extension.
    pub fn to_json(&self) -> String {
        let (id, name, full_name, pod) = (&self.id, &self.name, self.full_name(), &self.pod);
        let directory = format!("/var/log/pods/{}_{}_{}", pod.namespace, pod.name, pod.uid);
        format!(r#"{{"Version":"v1","Metadata":{{"ID":"{id}","Name":{full_name:?},"SandboxID":"{}","#, pod.id)
            + &format!(r#""Config":{{"metadata":{{"name":{name:?}{}}},"#, omitted(self.attempt))
            + &format!(r#""image":{{"image":"sha256:c1833bfc"}},"log_path":"{name}/{}.log"}},"#, self.attempt)
            + &format!(r#""ImageRef":"sha256:c1833bfc","LogPath":"{directory}/{name}/{}.log","#, self.attempt)
            + r#""StopSignal":"","ProcessLabel":""}}"#
    }
}

/// The field of an attempt; containerd leaves out what is 0.
fn omitted(attempt: u32) -> String {
    if attempt == 0 { String::new() } else { format!(r#","attempt":{attempt}"#) }
}

/// 64 hexadecimal digits that follow from the texts.
fn digits(of: &[&str]) -> String {
    let sum = |salt: u64| {
        let bytes = of.iter().flat_map(|text| text.bytes().chain([0]));
        let hash =
            bytes.fold(salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
        format!("{:016x}", hash.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ hash >> 31)
    };
    [1, 2, 3, 4].map(sum).concat()
}

/// Go's `time.Time`, version 1, in UTC.
pub fn go_time(unix_seconds: i64, nanoseconds: i32) -> Vec<u8> {
    let seconds = unix_seconds.checked_add(62_135_596_800).unwrap();
    [&[1][..], &seconds.to_be_bytes(), &nanoseconds.to_be_bytes(), &(-1_i16).to_be_bytes()].concat()
}

/// A `google.protobuf.Any`.
pub fn any(type_url: &str, value: &[u8]) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag][..], &varint(bytes.len() as u64), bytes].concat();
    [field(0x0a, type_url.as_bytes()), field(0x12, value)].concat()
}

fn varint(value: u64) -> Vec<u8> {
    let low = (value & 0x7f) as u8;
    if value < 0x80 { vec![low] } else { [vec![low | 0x80], varint(value >> 7)].concat() }
}
