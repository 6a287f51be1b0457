//! Of containerd's database, what a check judges: which pods there are and since when. Its pages hold more than that: what
//! containers are started with, and what was there before.

use super::{broken, is_place};
use crate::host::image::Image;
use crate::parse::ReadAt;
use crate::parse::bolt::{Db, Meta};
use crate::parse::containerd::{any, json_error, records, reduced};

/// Where it is below containerd's `root`.
const PLACE: &str = "/io.containerd.metadata.v1.bolt/meta.db";
/// That of a page.
const HEADER: usize = 16;
/// A page's header and the meta in it.
const META: usize = 80;
/// Of a meta, wherever it was made.
const MAGIC: u32 = 0xED0C_DAED;
/// Times, kinds, versions and most names are shorter.
const SHORT: usize = 64;
/// What is read of an extension.
const NAMES: &[&str] = &[
    "Version",
    "Metadata",
    "ID",
    "Name",
    "SandboxID",
    "NetNSPath",
    "IP",
    "Config",
    "metadata",
    "linux",
    "security_context",
    "namespace_options",
    "network",
    "name",
    "namespace",
    "uid",
    "attempt",
];

/// Whether it is containerd's database.
pub(in crate::host) fn is_database(path: &str) -> bool {
    path.ends_with(PLACE)
}

/// A database that is judged alike, and holds nothing else.
pub(in crate::host) fn database(image: &Image) -> Image {
    let mut kept = Image::hollow(image.length);
    let newest = Meta::newest(image);
    let second: Vec<u64> = match &newest {
        Ok(meta) => vec![meta.page_size.into()],
        // bbolt looks for it there.
        Err(_) => (10..=24).map(|power| 1 << power).collect(),
    };
    for at in [0].into_iter().chain(second) {
        let mut page = [0; META];
        let is_whole = image.read_at(at, &mut page).is_ok_and(|count| count == META);
        // Without the magic number it may be anything, and is no more of a meta than zeros are.
        if is_whole && [MAGIC.to_le_bytes(), MAGIC.to_be_bytes()].iter().any(|magic| page[HEADER..].starts_with(magic))
        {
            kept.put(at, &page);
        }
    }
    if let Ok(meta) = newest {
        let db = Db::inked(image, meta);
        // Where it ends early, it does so for what it read.
        let _ = records(&db);
        // In a damaged one they may lie over each other: structure says where it is damaged.
        let (values, structure): (Vec<_>, Vec<_>) = db.into_spans().into_iter().partition(|span| span.is_value);
        for span in values {
            kept.put(span.at, &value(&span.bytes));
        }
        for span in structure {
            kept.put(span.at, &span.bytes);
        }
    }
    // As long as it was, whatever lies beyond.
    kept.length = image.length;
    kept
}

/// A value that is judged alike, as long as it is.
fn value(bytes: &[u8]) -> Vec<u8> {
    // An extension begins with the name of its type, which is field 1; nothing else that is longer than a number does.
    let is_extension = bytes.len() > 10 && bytes.first() == Some(&0x0a);
    if !is_extension && (bytes.len() <= SHORT || std::str::from_utf8(bytes).is_ok_and(is_place)) {
        return bytes.to_owned();
    }
    let masked = || vec![b'x'; bytes.len()];
    let Some((head, json)) = any(bytes).and_then(|json| Some((bytes.strip_suffix(json)?, json))) else {
        return masked();
    };
    // Both kinds can be read as either; what only a container has tells.
    let is_sandbox = match reduced(bytes, false) {
        Some(container) => !String::from_utf8_lossy(&container).contains("\"SandboxID\":\""),
        None => String::from_utf8_lossy(head).contains("sandbox/"),
    };
    if let Some(short) = reduced(bytes, is_sandbox) {
        return short;
    }
    match json_error(json, is_sandbox) {
        Some(error) if head.len() <= 2 * SHORT => {
            [head, &broken(json, &error, NAMES, |blank| json_error(blank, is_sandbox))].concat()
        }
        _ => masked(),
    }
}

#[cfg(test)]
mod tests;
