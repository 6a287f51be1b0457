//! Whether anything was changed since the tables were read, for next to nothing.

use super::{Backend, SIDES};
use crate::host::{Error, Host, optional};
use crate::parse::ruleset::{Family, Hook};
use crate::parse::xtables::Info;

/// What tells one state of all tables from the next: the number that nf_tables has for its ruleset, and what x_tables tells
/// of each table. The latter is the same where rules were exchanged for as many of the same size.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamp {
    generation: Option<u32>,
    tables: Vec<(Family, Info)>,
    /// Chains and sets of the tables of nf_tables.
    uses: Vec<(Family, String, u32)>,
}

const HOOKS: [Hook; 3] = [Hook::Prerouting, Hook::Output, Hook::Postrouting];

impl Stamp {
    /// That of now.
    pub fn now(host: &Host, names: &[&str]) -> Result<Stamp, Error> {
        let (generation, nft) = optional(host.nft_overview())?.unwrap_or_default();
        let mut tables = Vec::new();
        for family in SIDES.iter().filter(|side| side.backend == Backend::Legacy).map(|side| side.family) {
            tables.extend(host.legacy_infos(family, names)?.into_iter().map(|info| (family, info)));
        }
        let uses = nft.into_iter().filter_map(|table| Some((table.family?, table.name, table.uses))).collect();
        Ok(Stamp { generation, tables, uses })
    }

    /// Whether a table or a base chain was emptied, or more than a tenth is gone.
    pub fn lost_much_since(&self, before: &Stamp) -> bool {
        let lost = |now: Option<u32>, before: u32| now.is_none_or(|now| now < before.saturating_sub(before / 10));
        let legacy = before.tables.iter().any(|(family, then)| {
            let now = self.tables.iter().find(|(of, now)| of == family && now.is_of(then)).map(|(_, now)| now);
            let emptied =
                |hook| then.is_empty(hook) == Some(false) && now.and_then(|now| now.is_empty(hook)) != Some(false);
            lost(now.map(|now| now.entries), then.entries) || HOOKS.into_iter().any(emptied)
        });
        let nft = before.uses.iter().any(|(family, name, then)| {
            let now = self.uses.iter().find(|(of, now, _)| (of, now) == (family, name)).map(|(_, _, uses)| *uses);
            lost(now, *then)
        });
        legacy || nft
    }
}
