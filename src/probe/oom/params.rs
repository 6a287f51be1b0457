//! How the parameters are read: what would make the check one that can't fail is refused.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::CgroupOom;
use crate::probe::glob::Glob;
use crate::threshold::{Range, Threshold};

/// The classes of OOM events; a check judges some of them, and each event is of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// In a pod, at a container's limit.
    Container,
    /// In a pod, at the pod's limit.
    Pod,
    /// In a pod, at the limit of all pods or of a QoS class.
    NodeAllocatable,
    /// In a pod, since the node had no memory left.
    Global,
    /// Outside all pods: the kubelet, containerd, sshd.
    System,
    /// In a cgroup that was gone before a look.
    Unattributed,
}

impl Scope {
    /// Whether a pod is to blame, or all of them together.
    pub(super) fn is_of_pods(self) -> bool {
        matches!(self, Scope::Container | Scope::Pod | Scope::NodeAllocatable)
    }
}

/// Thresholds of some pods, which hold instead of the check's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfPods {
    /// Which pods.
    pub pods: Glob,
    /// For the OOM kills of one of them.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "range", serialize_with = "text")]
    pub warning: Option<Range>,
    /// For the OOM kills of one of them.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "range", serialize_with = "text")]
    pub critical: Option<Range>,
}

impl OfPods {
    pub(super) fn threshold(&self) -> Threshold {
        Threshold { warning: self.warning, critical: self.critical }
    }
}

fn range<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Range>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Number(u64),
        Text(String),
    }
    let given = Given::deserialize(from).map_err(|_| D::Error::custom("not a range, such as \"9\""))?;
    let text = match given {
        Given::Number(number) => number.to_string(),
        Given::Text(text) => text,
    };
    text.parse().map(Some).map_err(D::Error::custom)
}

fn text<S: Serializer>(range: &Option<Range>, to: S) -> Result<S::Ok, S::Error> {
    match range {
        Some(range) => to.collect_str(range),
        None => to.serialize_none(),
    }
}

impl<'de> Deserialize<'de> for CgroupOom {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let probe = CgroupOom::deserialize(from)?;
        let wrong = |text: &str| Err(D::Error::custom(text));
        if probe.scopes.is_empty() {
            return wrong("scopes is empty: nothing is left to judge");
        }
        if probe.loop_at == 0 {
            return wrong("loop_at is 0: every pod would be in a loop");
        }
        if probe.thresholds.iter().any(|own| own.warning.is_none() && own.critical.is_none()) {
            return wrong(
                "thresholds has an entry without warning and critical: to leave pods out is what ignore is for",
            );
        }
        Ok(probe)
    }
}

impl Serialize for CgroupOom {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        CgroupOom::serialize(self, to)
    }
}
