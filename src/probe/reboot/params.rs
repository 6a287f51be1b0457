//! How the parameters are read: what would make the check one that can't fail is refused.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::RebootRequired;

impl<'de> Deserialize<'de> for RebootRequired {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let probe = RebootRequired::deserialize(from)?;
        if probe.flags.is_empty() && !probe.kernels {
            return Err(D::Error::custom("flags is empty and kernels is false: nothing is left to judge by"));
        }
        Ok(probe)
    }
}

impl Serialize for RebootRequired {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        RebootRequired::serialize(self, to)
    }
}
