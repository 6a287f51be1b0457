//! Maps that lead packets to chains: those of kube-proxy's nftables mode, by the service's address and port, and nameless ones
//! that choose an endpoint.

use std::collections::HashMap;

use super::super::ruleset::{Action, Endpoint};

/// A map from packets to verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    name: Box<str>,
    /// Its elements, if they were asked for and there are any.
    pub elements: Vec<Element>,
}

/// An element of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// Of a map whose keys have the length of `address . protocol . port`.
    pub key: Option<Endpoint>,
    /// Where it leads.
    pub action: Action,
}

impl Map {
    /// Its name. That of a nameless one begins with `__map`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was made for one rule.
    pub fn is_nameless(&self) -> bool {
        self.name.starts_with("__map")
    }
}

/// The maps of a table.
#[derive(Debug, Clone, Default)]
pub(super) struct Maps {
    maps: Vec<Map>,
    by_name: HashMap<Box<str>, u32>,
}

impl Maps {
    /// The number of the map of this name. `None` where there are too many.
    pub fn number(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.find(name) {
            return Some(number);
        }
        let number = u32::try_from(self.maps.len()).ok()?;
        self.maps.push(Map { name: name.into(), elements: Vec::new() });
        self.by_name.insert(name.into(), number);
        Some(number)
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, number: u32) -> Option<&Map> {
        self.maps.get(usize::try_from(number).ok()?)
    }

    pub fn all(&self) -> &[Map] {
        &self.maps
    }

    pub fn push(&mut self, number: u32, element: Element) {
        if let Some(map) = usize::try_from(number).ok().and_then(|number| self.maps.get_mut(number)) {
            map.elements.push(element);
        }
    }
}
