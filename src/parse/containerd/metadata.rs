//! What is kept of a record's metadata: little, since there are tens of thousands.

use super::Id;
use super::json;

/// What the CRI plugin knows of a sandbox.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SandboxMetadata {
    texts: Box<str>,
    name: Part,
    other_id: Option<Part>,
    pod: Option<(Part, Part, Part, u32)>,
    netns: Option<Part>,
    has_host_network: bool,
    has_address: bool,
}

/// What the CRI plugin knows of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerMetadata {
    /// The id of its sandbox.
    pub sandbox: Id,
    texts: Box<str>,
    name: Part,
    other_id: Option<Part>,
    container: Option<(Part, u32)>,
}

/// The kubelet's names of a sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodMetadata<'a> {
    /// The pod.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// How many sandboxes it had before.
    pub attempt: u32,
}

/// Where a text lies among the texts of a record. They are in one piece: a name has most of the others in it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Part {
    from: u32,
    to: u32,
}

impl Part {
    /// That of a text, which is added unless it is there.
    fn of(text: &str, texts: &mut String) -> Part {
        let from = texts.find(text).unwrap_or_else(|| {
            texts.push_str(text);
            texts.len().saturating_sub(text.len())
        });
        // An extension is far smaller.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Part { from: place(from), to: place(from.saturating_add(text.len())) }
    }

    fn text(self, texts: &str) -> &str {
        let place = |at: u32| usize::try_from(at).ok();
        let range = place(self.from).zip(place(self.to));
        range.and_then(|(from, to)| texts.get(from..to)).unwrap_or_default()
    }
}

impl SandboxMetadata {
    /// Of an extension of the record that has this id.
    pub(super) fn read(extension: &[u8], id: &str) -> Result<SandboxMetadata, String> {
        let read: json::Sandbox = json::of(extension)?;
        let mut texts = String::new();
        let mut part = |text: &str| Part::of(text, &mut texts);
        Ok(SandboxMetadata {
            name: part(&read.name),
            other_id: (read.id != id).then(|| part(&read.id)),
            pod: read.pod().map(|pod| (part(&pod.name), part(&pod.namespace), part(&pod.uid), pod.attempt)),
            netns: read.netns.as_deref().filter(|path| !path.is_empty()).map(&mut part),
            has_host_network: read.has_host_network(),
            has_address: read.ip.is_some_and(|ip| !ip.is_empty()),
            texts: texts.into(),
        })
    }

    /// The name that can be reserved once: `<pod>_<namespace>_<uid>_<attempt>`.
    pub fn name(&self) -> &str {
        self.name.text(&self.texts)
    }

    /// The id that containerd goes by, where it is not the record's, as it should be.
    pub fn other_id(&self) -> Option<&str> {
        Some(self.other_id?.text(&self.texts))
    }

    /// The kubelet's names of it.
    pub fn pod(&self) -> Option<PodMetadata<'_>> {
        let (name, namespace, uid, attempt) = self.pod?;
        let text = |part: Part| part.text(&self.texts);
        Some(PodMetadata { name: text(name), namespace: text(namespace), uid: text(uid), attempt })
    }

    /// The uid of its pod; empty where that is not known.
    pub fn uid(&self) -> &str {
        self.pod.map_or("", |(_, _, uid, _)| uid.text(&self.texts))
    }

    /// Whether it has the node's network, hence neither an address nor a network namespace of its own.
    pub fn has_host_network(&self) -> bool {
        self.has_host_network
    }

    /// Whether its network was set up.
    pub fn has_address(&self) -> bool {
        self.has_address
    }

    /// Where its network namespace is mounted, if it has one of its own.
    pub fn netns(&self) -> Option<&str> {
        Some(self.netns?.text(&self.texts))
    }
}

impl ContainerMetadata {
    /// Of an extension of the record that has this id.
    pub(super) fn read(extension: &[u8], id: &str) -> Result<ContainerMetadata, String> {
        let read: json::Container = json::of(extension)?;
        let mut texts = String::new();
        let mut part = |text: &str| Part::of(text, &mut texts);
        Ok(ContainerMetadata {
            sandbox: Id::from(&*read.sandbox),
            name: part(&read.name),
            other_id: (read.id != id).then(|| part(&read.id)),
            container: read.container().map(|(name, attempt)| (part(name), attempt)),
            texts: texts.into(),
        })
    }

    /// `<container>_<pod>_<namespace>_<uid>_<attempt>`.
    pub fn name(&self) -> &str {
        self.name.text(&self.texts)
    }

    /// The id that containerd goes by, where it is not the record's, as it should be.
    pub fn other_id(&self) -> Option<&str> {
        Some(self.other_id?.text(&self.texts))
    }

    /// Its name in the pod, and how often it was made anew.
    pub fn container(&self) -> Option<(&str, u32)> {
        let (name, attempt) = self.container?;
        Some((name.text(&self.texts), attempt))
    }
}
