//! One node of a tree: a page with those that follow it (`internal/common/page.go`, `inode.go`).

use std::ops::Range;

use super::{Fault, u16_at, u32_at, u64_at};

const HEADER: usize = 16;
const ELEMENT: usize = 16;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const BUCKET: u32 = 0x01;
/// Ids, and the keys of labels and extensions.
const LONGEST_NAME: usize = 96;
/// bbolt refuses longer keys.
const LONGEST_KEY: usize = 32768;

/// The header of a page.
pub(super) struct Header {
    pub id: u64,
    flags: u16,
    count: u16,
    /// The pages after it that belong to it and have no header of their own.
    pub overflow: u32,
}

impl Header {
    pub(super) fn of(bytes: &[u8]) -> Option<Header> {
        Some(Header {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }

    pub(super) fn is_branch(&self) -> bool {
        self.flags == BRANCH
    }
}

/// What an element of a node leads to.
pub(super) enum Target {
    /// Of a branch: another node.
    Page(u64),
    /// Of a leaf: a value, and whether it is a bucket; its place in the node.
    Value { is_bucket: bool, from: usize, to: usize },
}

/// A key with what it leads to.
pub(super) struct Element {
    pub key: Range<usize>,
    pub target: Target,
}

/// The elements of a node, checked.
#[derive(Default)]
pub(super) struct Node {
    pub is_leaf: bool,
    pub elements: Vec<Element>,
    /// How many of them have a key that can be.
    sound: usize,
}

/// What [`node`] answers by: the header, the elements and their keys. Of a node that is wrong, the elements up to that, and of
/// their keys as much as shows whether they are in order: the rest may be anything.
pub(super) fn traces(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut node = Node::default();
    let is_sound = read(0, bytes, &mut node).is_ok();
    let table = node.elements.len().saturating_mul(ELEMENT).saturating_add(HEADER).min(bytes.len());
    let mut traces = Vec::with_capacity(node.elements.len().saturating_add(1));
    // From the flags on; whose page it is was asked before.
    traces.push(8..if node.elements.is_empty() { table.min(12) } else { table });
    let text = |key: &Range<usize>| bytes.get(key.clone()).unwrap_or_default();
    let alike = |one: &Range<usize>, other: &Range<usize>| {
        text(one).iter().zip(text(other)).take_while(|(one, other)| one == other).count()
    };
    // The first key that can't be is wrong beside the one before it.
    let mut keys = node.elements.into_iter().take(node.sound.saturating_add(1)).map(|element| element.key).peekable();
    let mut with_before = 0;
    while let Some(key) = keys.next() {
        let with_next = keys.peek().map_or(0, |next| alike(&key, next));
        let end = key.start.saturating_add(with_before.max(with_next)).saturating_add(1);
        // No key that matters is as long; one that is may be what was a value before something went wrong.
        let most = if is_sound { end.max(key.start.saturating_add(LONGEST_NAME)) } else { end };
        traces.push(key.start..most.min(key.end));
        with_before = with_next;
    }
    traces
}

/// Reads a node; `page` is what an error names.
pub(super) fn node(page: u64, bytes: &[u8]) -> Result<Node, Fault> {
    let mut node = Node::default();
    read(page, bytes, &mut node)?;
    Ok(node)
}

/// The part of a leaf that nobody asks for: of a large value beyond its first page, whose key is one of `skipped`. Where the
/// first page tells otherwise than it should, there is none.
pub(super) fn hole(first: &[u8], whole: usize, skipped: &[&[u8]]) -> Option<Range<usize>> {
    let header = Header::of(first)?;
    let count = usize::from(header.count);
    if header.flags != LEAF || skipped.is_empty() {
        return None;
    }
    (0..count).find_map(|number| {
        let at = number.checked_mul(ELEMENT)?.checked_add(HEADER)?;
        let half = |offset: usize| usize::try_from(u32_at(first, at.checked_add(offset)?)?).ok();
        let key = at.checked_add(half(4)?)?;
        let from = key.checked_add(half(8)?)?;
        let to = from.checked_add(half(12)?)?;
        let hole = from.max(first.len())..to;
        let is_skipped = skipped.contains(&first.get(key..from)?) && u32_at(first, at)? & BUCKET == 0;
        (is_skipped && hole.start < hole.end && to <= whole).then_some(hole)
    })
}

fn read(page: u64, bytes: &[u8], node: &mut Node) -> Result<(), Fault> {
    let wrong = |why: String| Fault::damaged(page, why);
    let header = Header::of(bytes).ok_or_else(|| wrong("is cut off".to_owned()))?;
    node.is_leaf = match header.flags {
        LEAF => true,
        BRANCH => false,
        flags => return Err(wrong(format!("is neither a leaf nor a branch (flags {flags:#x})"))),
    };
    let count = usize::from(header.count);
    let end_of_elements = count.saturating_mul(ELEMENT).saturating_add(HEADER);
    if end_of_elements > bytes.len() {
        return Err(wrong(format!("claims {count} elements, more than it can hold")));
    }
    if !node.is_leaf && count == 0 {
        return Err(wrong("is a branch without elements".to_owned()));
    }
    node.elements.reserve_exact(count);
    let mut before: Option<&[u8]> = None;
    // bbolt writes keys and values one after the other. Where they may overlap, a page is more than its bytes.
    let mut free_from = end_of_elements;
    for number in 0..count {
        let at = number.saturating_mul(ELEMENT).saturating_add(HEADER);
        let element = element(bytes, at, node.is_leaf, free_from);
        let element = element.ok_or_else(|| wrong(format!("element {number} does not lie where it can")))?;
        let key = bytes.get(element.key.clone()).unwrap_or_default();
        free_from = match element.target {
            Target::Page(_) => element.key.end,
            Target::Value { to, .. } => to,
        };
        node.elements.push(element);
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(wrong(format!("the key of element {number} has {} bytes", key.len())));
        }
        if before.is_some_and(|before| before >= key) {
            return Err(wrong(format!("keys out of order at element {number}")));
        }
        before = Some(key);
        node.sound = node.elements.len();
    }
    Ok(())
}

fn element(bytes: &[u8], at: usize, is_leaf: bool, free_from: usize) -> Option<Element> {
    let half = |offset: usize| usize::try_from(u32_at(bytes, at.checked_add(offset)?)?).ok();
    // Leaf: flags, pos, ksize, vsize. Branch: pos, ksize, page. The position counts from the element itself.
    let (position, key_size) = if is_leaf { (half(4)?, half(8)?) } else { (half(0)?, half(4)?) };
    let from = at.checked_add(position)?;
    let to = from.checked_add(key_size)?;
    if from < free_from || to > bytes.len() {
        return None;
    }
    let target = if is_leaf {
        let end = to.checked_add(half(12)?)?;
        let is_bucket = u32_at(bytes, at)? & BUCKET != 0;
        (end <= bytes.len()).then_some(Target::Value { is_bucket, from: to, to: end })?
    } else {
        Target::Page(u64_at(bytes, at.checked_add(8)?)?)
    };
    Some(Element { key: from..to, target })
}
