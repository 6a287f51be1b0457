//! What a cgroup's path stands for: kubepods, a QoS class, a pod, a container, or something inside one.
//!
//! The kubelet and the runtime name cgroups in two ways (its `--cgroup-driver`), and put them below kubelet's
//! `--cgroup-root`, an LXC container or a kind node:
//!
//! | where                    | path                                                                                         |
//! |--------------------------|----------------------------------------------------------------------------------------------|
//! | cgroupfs                 | `kubepods/burstable/pod<uid>/<id>`                                                           |
//! | systemd                  | `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope` |
//! | guaranteed               | `kubepods.slice/kubepods-pod<uid>.slice/crio-<id>.scope`                                     |
//! | kind                     | `kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod<uid>.slice/...`                   |
//! | kubelet with the systemd driver, containerd without | `system.slice/containerd.service/kubepods-pod<uid>.slice:cri-containerd:<id>` |
//!
//! systemd gives `-` a meaning, so that the kubelet writes the uid with `_` there. A static pod's uid is an MD5 sum, 32
//! digits without dashes.

use std::fmt;

/// A pod's uid, with dashes where it has any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid([u8; Uid::LONG]);

impl Uid {
    /// A random uuid: `8-4-4-4-12`.
    const LONG: usize = 36;
    /// The sum of a static pod's manifest.
    const SHORT: usize = 32;

    /// Takes a uid with dashes, with `_` for dashes, or of 32 digits; `None` for any other text.
    pub fn parse(text: &str) -> Option<Uid> {
        let has_dashes = match text.len() {
            Uid::LONG => true,
            Uid::SHORT => false,
            _ => return None,
        };
        let mut bytes = [0; Uid::LONG];
        for ((at, byte), to) in text.bytes().enumerate().zip(&mut bytes) {
            *to = match has_dashes && matches!(at, 8 | 13 | 18 | 23) {
                true if matches!(byte, b'-' | b'_') => b'-',
                false if byte.is_ascii_hexdigit() => byte,
                _ => return None,
            };
        }
        Some(Uid(bytes))
    }

    /// The uid as the API and /var/log/pods have it.
    pub fn as_str(&self) -> &str {
        let used = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(used).unwrap_or_default()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The QoS classes that have a cgroup; a guaranteed pod lies directly in kubepods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Some request or limit.
    Burstable,
    /// Neither.
    BestEffort,
}

/// Whose name a container's scope bears. The cgroupfs driver's containerd writes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// `cri-containerd-<id>.scope`.
    Containerd,
    /// `crio-<id>.scope` or `crio-<id>`.
    CriO,
    /// `docker-<id>.scope`.
    Docker,
}

/// A container, as its cgroup's path names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Container<'a> {
    /// The pod it belongs to.
    pub pod: Uid,
    /// The runtime's id, as a rule 64 hex digits. The pod's sandbox has one too.
    pub id: &'a str,
    /// Who made it, where the name says so.
    pub runtime: Option<Runtime>,
}

/// What a path in the memory hierarchy stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// The root.
    Root,
    /// All pods: its limit is what the node allots to them.
    Kubepods {
        /// The path above it, as it was given: `""`, `"/"`, `"/kubelet.slice/"`.
        prefix: &'a str,
    },
    /// All pods of one class.
    Qos(Qos),
    /// A pod.
    Pod(Uid),
    /// Below a pod and no container of it: CRI-O's `crio-conmon-<id>.scope`.
    InPod(Uid),
    /// A container.
    Container(Container<'a>),
    /// Below a container: systemd, docker or a kind node in it.
    InContainer(Container<'a>),
    /// Not of Kubernetes.
    Other,
}

impl<'a> Place<'a> {
    /// Reads a path below the mount point of the memory hierarchy, or one from the kernel's log; a slash at either end
    /// means nothing. Of pods within pods it names the outermost, which is the one of this node.
    ///
    /// ```
    /// use nodecheck::parse::cgroup::{Place, Uid};
    ///
    /// let uid = Uid::parse("0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d").unwrap();
    /// let slice = "/kubepods.slice/kubepods-pod0dd4e3a1_5f0e_4a5c_9a61_2f0e2a3b4c5d.slice";
    /// assert_eq!(Place::of(slice), Place::Pod(uid));
    /// ```
    pub fn of(path: &'a str) -> Place<'a> {
        let mut start = 0_usize;
        let mut is_root = true;
        for element in path.split('/') {
            let end = start.saturating_add(element.len());
            let below = path.get(end..).unwrap_or_default();
            if is_kubepods(element) {
                return of_below(path.get(..start).unwrap_or_default(), below);
            }
            if let Some(container) = of_detached(element) {
                return container_or_below(container, elements(below).next());
            }
            is_root &= element.is_empty();
            start = end.saturating_add(1);
        }
        if is_root { Place::Root } else { Place::Other }
    }

    /// The pod that a kill in this place belongs to.
    pub fn pod(&self) -> Option<Uid> {
        match self {
            Place::Pod(uid) | Place::InPod(uid) => Some(*uid),
            Place::Container(container) | Place::InContainer(container) => Some(container.pod),
            _ => None,
        }
    }

    /// The container that a kill in this place belongs to.
    pub fn container(&self) -> Option<Container<'a>> {
        match self {
            Place::Container(container) | Place::InContainer(container) => Some(*container),
            _ => None,
        }
    }
}

fn elements(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|element| !element.is_empty())
}

fn is_kubepods(element: &str) -> bool {
    let Some(slice) = element.strip_suffix(".slice") else { return element == "kubepods" };
    slice == "kubepods" || slice.ends_with("-kubepods")
}

/// `below` is what follows kubepods in the path.
fn of_below<'a>(prefix: &'a str, below: &'a str) -> Place<'a> {
    let mut below = elements(below);
    let Some(mut element) = below.next() else { return Place::Kubepods { prefix } };
    if let Some(qos) = qos(element) {
        match below.next() {
            Some(next) => element = next,
            None => return Place::Qos(qos),
        }
    }
    let Some(uid) = pod(element) else { return Place::Other };
    match below.next() {
        None => Place::Pod(uid),
        Some(element) => match container(element) {
            Some((id, runtime)) => container_or_below(Container { pod: uid, id, runtime }, below.next()),
            None => Place::InPod(uid),
        },
    }
}

fn container_or_below<'a>(container: Container<'a>, below: Option<&str>) -> Place<'a> {
    if below.is_some() { Place::InContainer(container) } else { Place::Container(container) }
}

/// `burstable`, or a slice whose name ends so.
fn qos(element: &str) -> Option<Qos> {
    let name = match element.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("kubepods-")?.1,
        None => element,
    };
    match name {
        "burstable" => Some(Qos::Burstable),
        "besteffort" => Some(Qos::BestEffort),
        _ => None,
    }
}

/// `pod<uid>`, or a slice whose name ends so.
fn pod(element: &str) -> Option<Uid> {
    let (before, uid) = match element.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("pod")?,
        None => ("", element.strip_prefix("pod")?),
    };
    if before.is_empty() || before.ends_with('-') { Uid::parse(uid) } else { None }
}

fn container(element: &str) -> Option<(&str, Option<Runtime>)> {
    let name = element.strip_suffix(".scope").unwrap_or(element);
    let known = [("cri-containerd-", Runtime::Containerd), ("crio-", Runtime::CriO), ("docker-", Runtime::Docker)];
    for (prefix, runtime) in known {
        if let Some(id) = name.strip_prefix(prefix) {
            return (is_id(id) && !id.starts_with("conmon-")).then_some((id, Some(runtime)));
        }
    }
    // Without a prefix only what can't be anything else: nothing there is named by a person.
    let is_hex = (12..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then_some((name, None))
}

/// What containerd takes as an identifier.
fn is_id(id: &str) -> bool {
    (1..=76).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The systemd name `slice:prefix:id` as a directory: what runc without `SystemdCgroup` makes of it.
fn of_detached(element: &str) -> Option<Container<'_>> {
    let (slice, name) = element.split_once(':')?;
    let pod = pod(slice).filter(|_| slice.contains("kubepods-"))?;
    let (prefix, id) = name.split_once(':').filter(|(_, id)| is_id(id))?;
    let runtime = match prefix {
        "cri-containerd" => Some(Runtime::Containerd),
        "crio" => Some(Runtime::CriO),
        "docker" => Some(Runtime::Docker),
        _ => None,
    };
    Some(Container { pod, id, runtime })
}

/// For the fuzzer: what is named was in the path.
pub fn fuzz(data: &[u8]) {
    let path = &*String::from_utf8_lossy(data);
    let place = Place::of(path);
    if let Some(uid) = place.pod() {
        assert!(Uid::parse(uid.as_str()) == Some(uid));
        assert!(path.replace('_', "-").contains(uid.as_str()));
    }
    if let Some(container) = place.container() {
        assert!(path.contains(container.id) && !container.id.contains('/'));
    }
    if let Place::Kubepods { prefix } = place {
        assert!(path.starts_with(prefix));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: &str = "c0ffee0000000000000000000000000000000000000000000000000000000001";
    const DASHED: &str = "0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d";
    const STATIC: &str = "36b6d6be73b1065af369b3985edafa09";

    /// The path with P for a uid with dashes, U for one with underscores, S for a static pod's, I for an id.
    fn path(short: &str) -> String {
        short.replace('I', ID).replace('P', DASHED).replace('U', &DASHED.replace('-', "_")).replace('S', STATIC)
    }

    fn spoken(place: Place<'_>) -> String {
        let container = |c: Container<'_>| format!("{}/{}/{:?}", c.pod, c.id, c.runtime);
        let text = match place {
            Place::Container(c) => format!("container {}", container(c)),
            Place::InContainer(c) => format!("in container {}", container(c)),
            Place::Pod(uid) => format!("pod {uid}"),
            Place::InPod(uid) => format!("in pod {uid}"),
            Place::Kubepods { prefix } => format!("kubepods of '{prefix}'"),
            other => format!("{other:?}"),
        };
        text.replace(ID, "I").replace(DASHED, "P").replace(STATIC, "S")
    }

    #[test]
    fn places() {
        for (text, want) in [
            ("", "Root"),
            ("/", "Root"),
            ("//", "Root"),
            ("kubepods", "kubepods of ''"),
            ("/kubepods/", "kubepods of '/'"),
            ("/kubepods.slice", "kubepods of '/'"),
            ("/kubelet.slice/kubelet-kubepods.slice", "kubepods of '/kubelet.slice/'"),
            ("/kubelet/kubepods", "kubepods of '/kubelet/'"),
            ("/lxc.payload.n1/kubepods.slice", "kubepods of '/lxc.payload.n1/'"),
            ("/kubepods/burstable", "Qos(Burstable)"),
            ("/kubepods.slice/kubepods-besteffort.slice", "Qos(BestEffort)"),
            ("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice", "Qos(Burstable)"),
            // cgroupfs driver
            ("kubepods/burstable/podP", "pod P"),
            ("/kubepods/burstable/podP/I", "container P/I/None"),
            ("/kubepods/podS/I", "container S/I/None"),
            ("/kubepods/besteffort/podP/crio-I", "container P/I/Some(CriO)"),
            ("/kubepods/besteffort/podP/crio-conmon-I", "in pod P"),
            ("/kubepods/burstable/podP/I/system.slice/x.service", "in container P/I/None"),
            ("/kubepods/burstable/podP/I/docker/I", "in container P/I/None"),
            ("/kubepods/burstable/podP/tasks", "in pod P"),
            // systemd driver
            ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU.slice", "pod P"),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU.slice/cri-containerd-I.scope",
                "container P/I/Some(Containerd)",
            ),
            ("/kubepods.slice/kubepods-podS.slice/docker-I.scope", "container S/I/Some(Docker)"),
            ("/kubepods.slice/kubepods-podU.slice/crio-I.scope/container", "in container P/I/Some(CriO)"),
            ("/kubepods.slice/kubepods-podU.slice/crio-conmon-I.scope", "in pod P"),
            ("/kubepods.slice/kubepods-podU.slice/cri-containerd-aaaa.scope", "container P/aaaa/Some(Containerd)"),
            (
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
                 kubelet-kubepods-burstable-podU.slice/cri-containerd-I.scope",
                "container P/I/Some(Containerd)",
            ),
            ("/docker/I/kubelet/kubepods/podP/I", "container P/I/None"),
            // pods of a cluster that runs in a pod
            ("/kubepods/podP/I/kubelet/kubepods/podS/I", "in container P/I/None"),
            // kubelet with the systemd driver, containerd without
            (
                "/system.slice/containerd.service/kubepods-burstable-podS.slice:cri-containerd:I",
                "container S/I/Some(Containerd)",
            ),
            ("/kubepods-podU.slice:cri-containerd:I/init", "in container P/I/Some(Containerd)"),
            // nothing of ours
            ("/system.slice/kubelet.service", "Other"),
            ("/init.scope", "Other"),
            ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice", "Other"),
            ("/kubepods/burstable/pod", "Other"),
            ("/kubepods/burstable/podP1", "Other"),
            ("/kubepods/burstable/xpodP", "Other"),
            ("/kubepods.slice/kubepods-burstable.slice/xpodU.slice", "Other"),
            ("/kubepods/gold/podP", "Other"),
            ("/user.slice/podP/I", "Other"),
            ("/notkubepods/podP", "Other"),
            ("/kubepods-podU.slice:cri-containerd:", "Other"),
            ("/kubepods-podU.slice:I", "Other"),
            ("/podP.slice:cri-containerd:I", "Other"),
            ("/../../x", "Other"),
        ] {
            assert_eq!(spoken(Place::of(&path(text))), want, "{text}");
        }
    }

    #[test]
    fn uids() {
        for (text, want) in [
            (DASHED, Some(DASHED)),
            ("0dd4e3a1_5f0e_4a5c_9a61_2f0e2a3b4c5d", Some(DASHED)),
            (STATIC, Some(STATIC)),
            ("0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5", None),
            ("0dd4e3a15-f0e-4a5c-9a61-2f0e2a3b4c5d", None),
            ("0dd4e3a1+5f0e-4a5c-9a61-2f0e2a3b4c5d", None),
            ("gdd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d", None),
            ("36b6d6be73b1065af369b3985edafa0_", None),
            ("0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4cä", None),
            ("", None),
        ] {
            assert_eq!(Uid::parse(text).map(|uid| uid.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn every_prefix() {
        let samples = [
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
             kubelet-kubepods-burstable-podU.slice/cri-containerd-I.scope/system.slice",
            "/system.slice/containerd.service/kubepods-burstable-podS.slice:cri-containerd:I/x",
            "lxc.payload.ä/kubepods/besteffort/podP/crio-I/docker/I",
        ];
        for sample in samples.map(path) {
            for (end, _) in sample.char_indices() {
                fuzz(sample.get(..end).unwrap().as_bytes());
            }
        }
    }
}
