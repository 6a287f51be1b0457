//! The kinds of looking. One file a kind: how to look, how to judge. The registry below lists them all.

pub mod calico_nat;
pub mod churn;
mod container;
pub mod glob;
pub mod headroom;
pub mod kube_nat;
pub mod oom;
mod params;
pub mod patterns;
pub mod reboot;
pub mod sandboxes;
mod whole;
mod words;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::history::{Past, Trace};
use crate::host::{Error, Host, Moment};
use crate::verdict::{Assessment, MetricSpec};

/// A kind of check: how to look at the node, and what to think of what was seen. The struct is its parameters, their
/// defaults included; it refuses unknown fields.
pub trait Probe: DeserializeOwned + Serialize + Default + Send + Sync + 'static {
    /// The name that a definition's `probe` key holds.
    const NAME: &'static str;
    /// One sentence a parameter, in order: name and meaning.
    const PARAMS: &'static [(&'static str, &'static str)];
    /// What one look saw; plain data.
    type Observation: Send + 'static;
    /// The metrics it gives with these parameters; a threshold for any other name is refused.
    fn metrics(&self) -> Vec<MetricSpec>;
    /// Looks. The only method that does I/O.
    fn observe(&self, host: &Host, past: &Past) -> Result<Self::Observation, Error>;
    /// What of this look must be remembered.
    fn trace(&self, seen: &Self::Observation) -> Trace;
    /// Judges. Pure: the same arguments give the same answer. `past` includes this look.
    fn assess(&self, seen: &Self::Observation, past: &Past, now: &Moment) -> Assessment;
}

/// Every kind of looking there is.
pub static KINDS: &[Kind] = &[
    Kind::of::<oom::CgroupOom>(),
    Kind::of::<headroom::CgroupHeadroom>(),
    Kind::of::<reboot::RebootRequired>(),
    Kind::of::<sandboxes::Sandboxes>(),
    Kind::of::<churn::Churn>(),
    Kind::of::<patterns::LogPatterns>(),
    Kind::of::<kube_nat::KubeNat>(),
    Kind::of::<calico_nat::CalicoNat>(),
];

/// A probe type, as the definitions see it.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name in definitions.
    pub name: &'static str,
    /// Its parameters with their meanings.
    pub params: &'static [(&'static str, &'static str)],
    bind: fn(toml::Table) -> Result<Box<dyn Look>, toml::de::Error>,
    defaults: fn() -> toml::Table,
}

impl Kind {
    const fn of<P: Probe>() -> Kind {
        Kind {
            name: P::NAME,
            params: P::PARAMS,
            bind: |params| Ok(Box::new(toml::Value::Table(params).try_into::<P>()?)),
            defaults: || toml::Table::try_from(P::default()).unwrap_or_default(),
        }
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// The probe with these parameters; the error names the wrong one and the known ones.
    pub fn bind(&self, params: toml::Table) -> Result<Box<dyn Look>, toml::de::Error> {
        (self.bind)(params)
    }

    /// The parameters' default values. An optional parameter without a value is not in it.
    pub fn defaults(&self) -> toml::Table {
        (self.defaults)()
    }
}

/// A probe whose type is forgotten.
pub trait Look: Send + Sync {
    /// See [`Probe::metrics`].
    fn metrics(&self) -> Vec<MetricSpec>;
    /// Looks at the node once.
    fn look(&self, host: &Host, past: &Past) -> Result<Box<dyn Looked + '_>, Error>;
}

/// What one look saw, with the probe that can judge it.
pub trait Looked {
    /// See [`Probe::trace`].
    fn trace(&self) -> Trace;
    /// See [`Probe::assess`].
    fn assess(&self, past: &Past, now: &Moment) -> Assessment;
}

impl<P: Probe> Look for P {
    fn metrics(&self) -> Vec<MetricSpec> {
        Probe::metrics(self)
    }

    fn look(&self, host: &Host, past: &Past) -> Result<Box<dyn Looked + '_>, Error> {
        Ok(Box::new((self, self.observe(host, past)?)))
    }
}

impl<P: Probe> Looked for (&P, P::Observation) {
    fn trace(&self) -> Trace {
        self.0.trace(&self.1)
    }

    fn assess(&self, past: &Past, now: &Moment) -> Assessment {
        self.0.assess(&self.1, past, now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_registry_is_whole() {
        let names: BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len(), "two kinds share a name");
        for kind in KINDS {
            let probe = kind.bind(toml::Table::new()).expect(kind.name);
            let metrics = probe.metrics();
            let distinct: BTreeSet<_> = metrics.iter().map(|m| m.name).collect();
            assert_eq!(distinct.len(), metrics.len(), "{}: two metrics share a name", kind.name);
            for name in distinct {
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            }
            let documented: BTreeSet<_> = kind.params.iter().map(|(name, _)| *name).collect();
            for name in kind.defaults().keys() {
                assert!(documented.contains(name.as_str()), "{}: parameter {name} has no sentence", kind.name);
            }
            for name in documented {
                let mut table = toml::Table::new();
                table.insert(name.to_owned(), toml::Value::Datetime("1979-05-27".parse().unwrap()));
                let error = kind.bind(table).err().map(|e| e.to_string()).unwrap_or_default();
                assert!(!error.contains("unknown field"), "{}: {name} is documented and unknown", kind.name);
            }
        }
    }
}
