//! How the parameters are read.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub(super) fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let number = i64::deserialize(from)?;
    let percent = u8::try_from(number).ok().filter(|percent| (1..=100).contains(percent));
    percent.ok_or_else(|| D::Error::custom(format!("{number} is not a percentage from 1 to 100")))
}
