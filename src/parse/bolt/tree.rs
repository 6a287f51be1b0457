//! Walking buckets. Every page may lie: it is checked before it is used, and used once.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::super::ReadAt;
use super::page::{self, Header, Node, Target};
use super::{Fault, Meta, read, u64_at};

/// Branches above branches; bbolt's own trees have five at most.
const DEEPEST: usize = 64;
/// Values up to 2 GiB are allowed; no record that somebody writes into one is larger than this.
const LARGEST_NODE: u64 = 32 << 20;
/// Branches hold keys alone.
const LARGEST_BRANCH: u64 = 2 << 20;
/// So much is read in one walk: ten times what 10,000 pods take.
const MOST_BYTES: u64 = 4 << 30;
/// A node's database has no page with a number as high: 256 GiB in pages of 4 KiB.
const FARTHEST: u64 = 64 << 20;
/// The header of a bucket's value: root page and sequence.
const BUCKET: usize = 16;

/// The tree of one [`Meta`].
pub struct Db<'f, F: ?Sized> {
    file: &'f F,
    meta: Meta,
    seen: RefCell<Seen>,
    /// How much was read.
    bytes: Cell<u64>,
    /// Of nodes that are done with: a new one each time would be filled with zeros each time.
    spare: RefCell<Vec<Buffer>>,
    /// Keys whose values nobody asks for, however large they are.
    skipped: &'static [&'static [u8]],
    ink: Option<RefCell<Vec<Span>>>,
}

/// The pages that were used so far, one bit for each.
#[derive(Default)]
struct Seen {
    bits: Vec<u64>,
    count: usize,
}

impl Seen {
    /// Whether the page is new.
    fn insert(&mut self, page: u64) -> bool {
        let (at, bit) = (length(page >> 6), 1_u64.checked_shl(u32::try_from(page & 63).unwrap_or(0)).unwrap_or(0));
        if at >= self.bits.len() {
            self.bits.resize(at.saturating_add(1), 0);
        }
        let Some(word) = self.bits.get_mut(at) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        self.count = self.count.saturating_add(usize::from(is_new));
        is_new
    }
}

/// Room for a node, and how much of it that takes.
#[derive(Default)]
struct Buffer {
    room: Vec<u8>,
    used: usize,
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        self.room.get(..self.used).unwrap_or_default()
    }

    /// Makes it as long. What is new in it is whatever was there.
    fn extend(&mut self, length: usize) {
        self.used = length;
        if self.room.len() < length {
            self.room.resize(length, 0);
        }
    }

    fn part(&mut self, part: Range<usize>) -> &mut [u8] {
        self.room.get_mut(part).unwrap_or_default()
    }
}

/// A part of the file that somebody read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Offset in the file.
    pub at: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it is a value that [`Db::keep`] was told of, and not structure.
    pub is_value: bool,
}

/// A bucket: keys in bytewise order, with values or further buckets.
#[derive(Debug, Clone, Copy)]
pub struct Bucket<'a>(Place<'a>);

#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    /// The page of its root, and where in the file that is said.
    Page(u64, Option<u64>),
    /// A leaf inside a value: the page that holds it, its offset in the file, its bytes.
    Inline(u64, u64, &'a [u8]),
}

/// What a key leads to.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Bytes, and where they are in the file.
    Bytes(&'a [u8], u64),
    /// A bucket in the bucket.
    Bucket(Bucket<'a>),
}

impl<'a> Value<'a> {
    /// The bytes, if it is no bucket.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(bytes, _) => Some(bytes),
            Value::Bucket(_) => None,
        }
    }
}

/// Takes one key with its value.
pub type Each<'e> = dyn FnMut(&[u8], Value<'_>) -> Result<(), Fault> + 'e;

/// The keys that a node may have: from its own in the branch above, to below the next one there.
#[derive(Clone, Copy, Default)]
struct Bounds<'a> {
    from: Option<&'a [u8]>,
    below: Option<&'a [u8]>,
}

impl<'f, F: ReadAt + ?Sized> Db<'f, F> {
    /// The tree that this meta names. What is read of it counts once that meta was found unchanged.
    pub fn new(file: &'f F, meta: Meta) -> Db<'f, F> {
        Db {
            file,
            meta,
            seen: RefCell::default(),
            bytes: Cell::new(0),
            spare: RefCell::default(),
            skipped: &[],
            ink: None,
        }
    }

    /// The same, but large values of these keys are not read and come out empty.
    pub fn skipping(self, keys: &'static [&'static [u8]]) -> Db<'f, F> {
        Db { skipped: keys, ..self }
    }

    /// The same, remembering all structure that is read, and the values that are kept.
    pub fn inked(file: &'f F, meta: Meta) -> Db<'f, F> {
        Db { ink: Some(RefCell::default()), ..Db::new(file, meta) }
    }

    /// What was remembered.
    pub fn into_spans(self) -> Vec<Span> {
        self.ink.map(RefCell::into_inner).unwrap_or_default()
    }

    /// The pages that were read so far.
    pub fn pages(&self) -> usize {
        self.seen.borrow().count
    }

    /// Remembers a value.
    pub fn keep(&self, value: Value<'_>) {
        if let Value::Bytes(bytes, at) = value {
            self.note(at, bytes, true);
        }
    }

    /// The outermost bucket.
    pub fn root(&self) -> Bucket<'static> {
        Bucket(Place::Page(self.meta.root, None))
    }

    /// Hands every key of a bucket to `each`, in order. A page that was visited once is damage the second time, so a bucket
    /// is walked once.
    pub fn each(&self, bucket: Bucket<'_>, each: &mut Each<'_>) -> Result<(), Fault> {
        match bucket.0 {
            Place::Page(page, place) => {
                if let Some(at) = place {
                    self.note(at, &page.to_ne_bytes(), false);
                }
                self.descend(page, 0, Bounds::default(), each)
            }
            Place::Inline(page, at, bytes) => {
                self.note(at.saturating_sub(offset(BUCKET)), &[0; 8], false);
                let node = self.node(page, at, bytes)?;
                if !node.is_leaf {
                    return Err(Fault::damaged(page, "a bucket inside a value is no leaf"));
                }
                self.leaf(page, at, bytes, &node, each)
            }
        }
    }

    fn descend(&self, page: u64, depth: usize, bounds: Bounds<'_>, each: &mut Each<'_>) -> Result<(), Fault> {
        if depth > DEEPEST {
            return Err(Fault::damaged(page, format!("lies below {DEEPEST} branches")));
        }
        let buffer = self.load(page)?;
        let bytes = buffer.bytes();
        let at = page.saturating_mul(self.meta.page_size.into());
        let node = self.node(page, at, bytes)?;
        let key = |number: usize| node.elements.get(number).and_then(|element| bytes.get(element.key.clone()));
        let outside = match (key(0), node.elements.len().checked_sub(1).and_then(key)) {
            (Some(first), Some(last)) => {
                bounds.from.is_some_and(|from| first < from) || bounds.below.is_some_and(|below| last >= below)
            }
            // Only a bucket without keys has a leaf without any.
            _ if depth > 0 => return Err(Fault::damaged(page, "is a leaf without elements below a branch")),
            _ => false,
        };
        if outside {
            return Err(Fault::damaged(page, "has keys that belong to another page"));
        }
        if node.is_leaf {
            self.leaf(page, at, bytes, &node, each)?;
        }
        for (number, element) in node.elements.iter().enumerate() {
            if let Target::Page(child) = element.target {
                let below = key(number.saturating_add(1)).or(bounds.below);
                self.descend(child, depth.saturating_add(1), Bounds { from: key(number), below }, each)?;
            }
        }
        self.spare.borrow_mut().push(buffer);
        Ok(())
    }

    fn leaf(&self, page: u64, at: u64, bytes: &[u8], node: &Node, each: &mut Each<'_>) -> Result<(), Fault> {
        for element in &node.elements {
            let Target::Value { is_bucket, from, to } = element.target else { continue };
            let (key, value) = (bytes.get(element.key.clone()), bytes.get(from..to));
            let (Some(key), Some(value)) = (key, value) else { continue };
            let place = at.saturating_add(offset(from));
            let value = if !is_bucket && self.skipped.contains(&key) { &[] } else { value };
            let value =
                if is_bucket { Value::Bucket(self.bucket(page, place, value)?) } else { Value::Bytes(value, place) };
            each(key, value)?;
        }
        Ok(())
    }

    /// The bucket that a value stands for (`internal/common/bucket.go`).
    fn bucket<'a>(&self, page: u64, at: u64, value: &'a [u8]) -> Result<Bucket<'a>, Fault> {
        let cut = || Fault::damaged(page, "a bucket's header is cut off");
        let (head, rest) = value.split_at_checked(BUCKET).ok_or_else(cut)?;
        Ok(Bucket(match u64_at(head, 0).ok_or_else(cut)? {
            0 => Place::Inline(page, at.saturating_add(offset(BUCKET)), rest),
            root => Place::Page(root, Some(at)),
        }))
    }

    /// A page with those that follow it.
    fn load(&self, page: u64) -> Result<Buffer, Fault> {
        if page < 2 || page >= self.meta.high_water {
            return Err(Fault::damaged(page, format!("is not one of the {} pages", self.meta.high_water)));
        }
        let size = length(self.meta.page_size.into());
        let beyond = || Fault::damaged(page, "lies beyond the end of the file");
        let at = page.checked_mul(offset(size)).ok_or_else(beyond)?;
        let mut buffer = self.spare.borrow_mut().pop().unwrap_or_default();
        buffer.extend(size);
        self.fill(page, at, &mut buffer, 0..size)?;
        self.take(page)?;
        let header = Header::of(buffer.bytes()).ok_or_else(beyond)?;
        // Its number alone, where it is another page's: the rest may be anything.
        self.note(at, buffer.bytes().get(..if header.id == page { 16 } else { 8 }).unwrap_or_default(), false);
        if header.id != page {
            return Err(Fault::damaged(page, format!("calls itself page {}", header.id)));
        }
        if header.overflow == 0 {
            return Ok(buffer);
        }
        let pages = u64::from(header.overflow).saturating_add(1);
        if page.checked_add(pages).is_none_or(|end| end > self.meta.high_water) {
            return Err(Fault::damaged(page, format!("claims {pages} pages, more than there are")));
        }
        let whole = pages.saturating_mul(offset(size));
        let most = if header.is_branch() { LARGEST_BRANCH } else { LARGEST_NODE };
        if whole > most {
            let why = format!("holds {} MiB, and at most {} are read", whole >> 20, most >> 20);
            return Err(Fault::TooLarge { page, why });
        }
        for number in 1..pages {
            self.take(page.saturating_add(number))?;
        }
        let whole = length(whole);
        let hole = page::hole(buffer.bytes(), whole, self.skipped);
        buffer.extend(whole);
        match hole.filter(|_| self.ink.is_none()) {
            Some(hole) => {
                self.fill(page, at, &mut buffer, size..hole.start)?;
                self.fill(page, at, &mut buffer, hole.end..whole)?;
            }
            None => self.fill(page, at, &mut buffer, size..whole)?,
        }
        Ok(buffer)
    }

    /// Reads a part of a node that begins at this offset.
    fn fill(&self, page: u64, at: u64, buffer: &mut Buffer, part: Range<usize>) -> Result<(), Fault> {
        let from = at.saturating_add(offset(part.start));
        let into = buffer.part(part);
        let sum = self.bytes.get().saturating_add(offset(into.len()));
        self.bytes.set(sum);
        if sum > MOST_BYTES {
            let why = format!("more than {} GiB are in use", MOST_BYTES >> 30);
            return Err(Fault::TooLarge { page, why });
        }
        match read(self.file, from, into)? < into.len() {
            true => Err(Fault::damaged(page, "lies beyond the end of the file")),
            false => Ok(()),
        }
    }

    /// Reads a node that begins at this offset, and remembers what that took.
    fn node(&self, page: u64, at: u64, bytes: &[u8]) -> Result<Node, Fault> {
        if self.ink.is_some() {
            for part in page::traces(bytes) {
                self.note(at.saturating_add(offset(part.start)), bytes.get(part).unwrap_or_default(), false);
            }
        }
        page::node(page, bytes)
    }

    /// Nothing but the one node that is being read may have this page.
    fn take(&self, page: u64) -> Result<(), Fault> {
        if page >= FARTHEST {
            return Err(Fault::TooLarge { page, why: "is farther than anything that is read".to_owned() });
        }
        match self.seen.borrow_mut().insert(page) {
            true => Ok(()),
            false => Err(Fault::damaged(page, "is used twice")),
        }
    }

    fn note(&self, at: u64, bytes: &[u8], is_value: bool) {
        if let Some(ink) = &self.ink {
            ink.borrow_mut().push(Span { at, bytes: bytes.to_owned(), is_value });
        }
    }
}

/// At most [`LARGEST_NODE`].
fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

fn offset(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
