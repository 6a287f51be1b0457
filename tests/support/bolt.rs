//! Makes bolt databases (etcd-io/bbolt, file format 2): right ones of a [`Tree`] with [`Bolt`], and wrong ones page by page
//! with [`Pages`]. What containerd writes into one is in meta_db.rs. The same calls make the same bytes.
#![allow(dead_code, unused_imports)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]
#![allow(clippy::panic, clippy::expect_used, clippy::string_slice)]

#[path = "meta_db.rs"]
mod meta_db;

use std::collections::BTreeMap;

pub use meta_db::{Ctr, MetaDb, Pod, any, go_time};

pub const BRANCH: u16 = 0x01;
pub const LEAF: u16 = 0x02;
pub const FREELIST: u16 = 0x10;
const NOT_STORED: u64 = u64::MAX;
const HEADER: usize = 16;
/// Of bytes 16.. of a meta page: what the checksum covers, and with it.
const COVERED: usize = 56;
const META: usize = 64;

// --- nodes ----------------------------------------------------------------------------------------------------------

/// One element of a node.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: Vec<u8>,
    /// Of a leaf: whether the value is a bucket.
    pub is_bucket: bool,
    /// Of a branch: the number of a page.
    pub value: Vec<u8>,
}

fn entry(key: impl AsRef<[u8]>, is_bucket: bool, value: Vec<u8>) -> Entry {
    Entry { key: key.as_ref().to_vec(), is_bucket, value }
}

/// Of a leaf: a key with a value.
pub fn value(key: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Entry {
    entry(key, false, bytes.as_ref().to_vec())
}

/// Of a leaf: a bucket whose root is that page.
pub fn bucket(key: impl AsRef<[u8]>, root: u64) -> Entry {
    entry(key, true, [root.to_ne_bytes(), [0; 8]].concat())
}

/// Of a leaf: a bucket whose only node lies in the value.
pub fn inline(key: impl AsRef<[u8]>, flags: u16, entries: &[Entry]) -> Entry {
    entry(key, true, [vec![0; 16], encode(0, flags, entries, 0)].concat())
}

/// Of a leaf: a bucket with this for its value.
pub fn odd_bucket(key: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Entry {
    entry(key, true, bytes.as_ref().to_vec())
}

/// Of a branch: a key with the page below it.
pub fn child(key: impl AsRef<[u8]>, page: u64) -> Entry {
    entry(key, false, page.to_ne_bytes().to_vec())
}

/// A node, filled up to whole pages; with pages of size 0 to what it needs.
pub fn encode(page: u64, flags: u16, entries: &[Entry], page_size: usize) -> Vec<u8> {
    let (mut data, mut heads): (Vec<u8>, Vec<u8>) = Default::default();
    for (number, entry) in entries.iter().enumerate() {
        let position = ((entries.len() - number) * 16 + data.len()) as u32;
        let key_size = entry.key.len() as u32;
        data.extend(&entry.key);
        if flags == BRANCH {
            heads.extend([position, key_size].map(u32::to_ne_bytes).concat());
            heads.extend(&entry.value);
        } else {
            let numbers = [u32::from(entry.is_bucket), position, key_size, entry.value.len() as u32];
            heads.extend(numbers.map(u32::to_ne_bytes).concat());
            data.extend(&entry.value);
        }
    }
    let length = HEADER + heads.len() + data.len();
    let pages = if page_size == 0 { 1 } else { length.div_ceil(page_size) };
    let mut node = page.to_ne_bytes().to_vec();
    node.extend([flags, entries.len() as u16].map(u16::to_ne_bytes).concat());
    node.extend((pages as u32 - 1).to_ne_bytes());
    node.extend(heads);
    node.extend(data);
    node.resize(length.max(pages * page_size), 0);
    node
}

// --- metas ----------------------------------------------------------------------------------------------------------

/// What a meta page says.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    pub page_size: u32,
    pub root: u64,
    pub freelist: u64,
    pub high_water: u64,
    pub txid: u64,
}

impl Meta {
    /// Its 64 bytes, which follow the header of the page.
    pub fn encode(&self) -> [u8; META] {
        let mut bytes = Vec::new();
        for number in [0xED0C_DAED, 2, self.page_size, 0] {
            bytes.extend(u32::to_ne_bytes(number));
        }
        for number in [self.root, 0, self.freelist, self.high_water, self.txid, 0] {
            bytes.extend(number.to_ne_bytes());
        }
        seal(&mut bytes);
        bytes.try_into().unwrap()
    }
}

/// The newer meta of a file that has two good ones.
pub fn newest(file: &[u8]) -> Meta {
    let u32_at = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_ne_bytes(file[at..at + 8].try_into().unwrap());
    let page_size = u32_at(24);
    let of = |page: usize| Meta {
        page_size,
        root: u64_at(page + 32),
        freelist: u64_at(page + 48),
        high_water: u64_at(page + 56),
        txid: u64_at(page + 64),
    };
    let (first, second) = (of(0), of(page_size as usize));
    if second.txid > first.txid { second } else { first }
}

/// Writes the checksum of a meta's 64 bytes.
pub fn seal(meta: &mut [u8]) {
    let sum = meta[..COVERED]
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    meta[COVERED..META].copy_from_slice(&sum.to_ne_bytes());
}

/// Writes the checksums of both metas of a file anew, after bytes of it were changed.
pub fn reseal(file: &mut [u8], page_size: usize) {
    for at in [HEADER, page_size + HEADER] {
        seal(&mut file[at..at + META]);
    }
}

// --- page by page ---------------------------------------------------------------------------------------------------

/// A file that is written page by page, with any lie in it.
#[derive(Debug, Clone)]
pub struct Pages {
    size: usize,
    bytes: Vec<u8>,
}

impl Pages {
    /// Two pages for the metas, which [`Pages::done`] writes.
    pub fn new(size: usize) -> Pages {
        Pages { size, bytes: vec![0; 2 * size] }
    }

    pub fn leaf(self, page: u64, entries: &[Entry]) -> Pages {
        self.node(page, LEAF, entries)
    }

    pub fn branch(self, page: u64, entries: &[Entry]) -> Pages {
        self.node(page, BRANCH, entries)
    }

    pub fn node(self, page: u64, flags: u16, entries: &[Entry]) -> Pages {
        let (at, node) = (page as usize * self.size, encode(page, flags, entries, self.size));
        self.write(at, &node)
    }

    /// Writes over `offset` of a page: 0 is its id, 8 its flags, 10 its count, 12 its overflow, 16 its first element.
    pub fn poke(self, page: u64, offset: usize, bytes: &[u8]) -> Pages {
        let at = page as usize * self.size + offset;
        self.write(at, bytes)
    }

    fn write(mut self, at: usize, bytes: &[u8]) -> Pages {
        let end = (at + bytes.len()).next_multiple_of(self.size).max(self.bytes.len());
        self.bytes.resize(end, 0);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// With metas that name this root, all pages there are, and transaction 7; page 0 has the older one, of the same tree.
    pub fn done(self, root: u64) -> Vec<u8> {
        let high_water = (self.bytes.len() / self.size) as u64;
        self.with(root, high_water)
    }

    /// The same with another number of pages.
    pub fn with(mut self, root: u64, high_water: u64) -> Vec<u8> {
        for txid in [6, 7] {
            let page_size = self.size as u32;
            let meta = Meta { page_size, root, freelist: NOT_STORED, high_water, txid };
            put_meta(&mut self.bytes, txid & 1, &meta);
        }
        self.bytes
    }
}

fn put_meta(file: &mut [u8], page: u64, meta: &Meta) {
    let at = page as usize * meta.page_size as usize;
    file[at..at + 8].copy_from_slice(&page.to_ne_bytes());
    file[at + 8..at + 10].copy_from_slice(&4_u16.to_ne_bytes());
    file[at + HEADER..at + HEADER + META].copy_from_slice(&meta.encode());
}

// --- whole databases ------------------------------------------------------------------------------------------------

/// Keys with values and buckets.
#[derive(Debug, Clone, Default)]
pub struct Tree(BTreeMap<Vec<u8>, Item>);

#[derive(Debug, Clone)]
enum Item {
    Value(Vec<u8>),
    Bucket(Tree),
}

impl Tree {
    /// The bucket at the end of that path; what is missing of it is made, what is none is replaced.
    pub fn bucket(&mut self, path: &[&str]) -> &mut Tree {
        path.iter().fold(self, |tree, key| {
            let item = tree.0.entry(key.as_bytes().to_vec()).or_insert_with(|| Item::Bucket(Tree::default()));
            if let Item::Value(_) = item {
                *item = Item::Bucket(Tree::default());
            }
            let Item::Bucket(tree) = item else { unreachable!() };
            tree
        })
    }

    /// Sets a value; the last part of the path is its key.
    pub fn put(&mut self, path: &[&str], value: impl AsRef<[u8]>) -> &mut Tree {
        let (key, path) = path.split_last().unwrap();
        self.bucket(path).0.insert(key.as_bytes().to_vec(), Item::Value(value.as_ref().to_vec()));
        self
    }

    /// Takes a value or a bucket out.
    pub fn remove(&mut self, path: &[&str]) {
        let (key, path) = path.split_last().unwrap();
        self.bucket(path).0.remove(key.as_bytes()).unwrap_or_else(|| panic!("there is no {key}"));
    }
}

/// A database that bbolt would write. The tree of the older meta is empty: who takes that one finds nothing.
#[derive(Debug, Clone)]
pub struct Bolt {
    pub tree: Tree,
    /// 4096, if nothing else is said.
    pub page_size: usize,
    /// An odd one has its meta in page 1.
    pub txid: u64,
    /// Whether the free list is written: containerd 1.7 and later do not.
    pub has_freelist: bool,
    /// Whether its metas are as a machine of the other byte order writes them.
    pub is_foreign: bool,
}

impl Default for Bolt {
    fn default() -> Bolt {
        Bolt { tree: Tree::default(), page_size: 4096, txid: 65, has_freelist: true, is_foreign: false }
    }
}

impl Bolt {
    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let mut writer = Writer { size: self.page_size, bytes: vec![0; 2 * self.page_size] };
        let list = writer.append(FREELIST, &[]);
        let empty = writer.append(LEAF, &[]);
        let at = list as usize * self.page_size;
        writer.bytes[at + 10..at + 12].copy_from_slice(&1_u16.to_ne_bytes());
        writer.bytes[at + HEADER..at + HEADER + 8].copy_from_slice(&empty.to_ne_bytes());
        let root = writer.bucket(&self.tree);
        let high_water = writer.next();
        let freelist = if self.has_freelist { 2 } else { NOT_STORED };
        for (txid, root) in [(self.txid - 1, empty), (self.txid, root)] {
            let meta = Meta { page_size: self.page_size as u32, root, freelist, high_water, txid };
            put_meta(&mut writer.bytes, txid & 1, &meta);
        }
        if self.is_foreign {
            for at in [HEADER, self.page_size + HEADER] {
                writer.bytes[at..at + 16].chunks_exact_mut(4).for_each(<[u8]>::reverse);
                writer.bytes[at + 16..at + META].chunks_exact_mut(8).for_each(<[u8]>::reverse);
            }
        }
        writer.bytes
    }
}

struct Writer {
    size: usize,
    bytes: Vec<u8>,
}

impl Writer {
    fn next(&self) -> u64 {
        (self.bytes.len() / self.size) as u64
    }

    fn append(&mut self, flags: u16, entries: &[Entry]) -> u64 {
        let page = self.next();
        self.bytes.extend(encode(page, flags, entries, self.size));
        page
    }

    /// Writes a bucket and those in it; its root.
    fn bucket(&mut self, tree: &Tree) -> u64 {
        let entries = tree.0.iter().map(|(key, item)| match item {
            Item::Value(bytes) => value(key, bytes),
            Item::Bucket(tree) => match self.inlined(tree) {
                Some(entries) => inline(key, LEAF, &entries),
                None => bucket(key, self.bucket(tree)),
            },
        });
        let entries: Vec<Entry> = entries.collect();
        let key = |node: &[Entry]| node.first().map(|entry| entry.key.clone()).unwrap_or_default();
        let leaves = self.split(&entries, 1).into_iter();
        let mut nodes: Vec<Entry> = leaves.map(|node| child(key(node), self.append(LEAF, node))).collect();
        while nodes.len() > 1 {
            let groups: Vec<Vec<Entry>> = self.split(&nodes, 2).into_iter().map(<[Entry]>::to_vec).collect();
            nodes = groups.iter().map(|group| child(&group[0].key, self.append(BRANCH, group))).collect();
        }
        u64::from_ne_bytes(nodes[0].value[..].try_into().unwrap())
    }

    /// The elements of a bucket that goes into the value: a small one without buckets (`bucket.go`).
    fn inlined(&self, tree: &Tree) -> Option<Vec<Entry>> {
        let of = |(key, item): (&Vec<u8>, &Item)| match item {
            Item::Value(bytes) => Some(value(key, bytes)),
            Item::Bucket(_) => None,
        };
        let entries: Vec<Entry> = tree.0.iter().map(of).collect::<Option<_>>()?;
        (encode(0, LEAF, &entries, 0).len() <= self.size / 4).then_some(entries)
    }

    /// As many elements to a node as fit in a page, and `least` of them even if they don't.
    fn split<'e>(&self, entries: &'e [Entry], least: usize) -> Vec<&'e [Entry]> {
        let (mut nodes, mut begin, mut length) = (Vec::new(), 0, HEADER);
        for (number, entry) in entries.iter().enumerate() {
            // The page of a branch is in the head of the element.
            let data = if least == 1 { entry.value.len() } else { 0 };
            let more = 16 + entry.key.len() + data;
            if length + more > self.size && number - begin >= least {
                nodes.push(&entries[begin..number]);
                (begin, length) = (number, HEADER);
            }
            length += more;
        }
        nodes.push(&entries[begin..]);
        nodes
    }
}
