//! Files that lie: each ends in the right fault, and none in a panic or a walk without an end.

use std::io;

use super::super::super::ReadAt;
use super::super::{Fault, fuzz};
use super::{SMALL, small, told, walk};
use crate::bolt_writer::{
    BRANCH, Entry, FREELIST, LEAF, Pages, bucket, child, encode, inline, odd_bucket, reseal, value,
};

/// A page of the size 1024.
fn pages() -> Pages {
    Pages::new(1024)
}

fn ab() -> [Entry; 2] {
    [value("a", "1"), value("b", "2")]
}

/// A branch as root with pages 3 and 4 below it, at `b` and `d`.
fn two(first: &[Entry], second: &[Entry]) -> Pages {
    pages().branch(2, &[child("b", 3), child("d", 4)]).leaf(3, first).leaf(4, second)
}

#[test]
fn lies_of_a_page() {
    let leaf = |offset, bytes: &[u8]| pages().leaf(2, &ab()).poke(2, offset, bytes).done(2);
    let four = |number: u32| number.to_ne_bytes();
    let branch = |offset, bytes: &[u8]| {
        pages()
            .branch(2, &[child("a", 3), child("b", 4)])
            .leaf(3, &ab()[..1])
            .leaf(4, &ab()[1..])
            .poke(2, offset, bytes)
            .done(2)
    };
    let long = |length| pages().leaf(2, &[value("k".repeat(length), "")]).done(2);
    for (file, want) in [
        (leaf(0, &[]), "a=1 b=2".to_owned()),
        (leaf(0, &[3]), "page 2: calls itself page 3".to_owned()),
        (leaf(7, &[1]), format!("page 2: calls itself page {}", 2 | 1_u64 << 56)),
        (leaf(8, &FREELIST.to_ne_bytes()), "page 2: is neither a leaf nor a branch (flags 0x10)".to_owned()),
        (leaf(8, &(LEAF | BRANCH).to_ne_bytes()), "page 2: is neither a leaf nor a branch (flags 0x3)".to_owned()),
        (leaf(8, &0_u16.to_ne_bytes()), "page 2: is neither a leaf nor a branch (flags 0x0)".to_owned()),
        (leaf(8, &4_u16.to_ne_bytes()), "page 2: is neither a leaf nor a branch (flags 0x4)".to_owned()),
        (leaf(10, &64_u16.to_ne_bytes()), "page 2: claims 64 elements, more than it can hold".to_owned()),
        (leaf(10, &[0xff; 2]), "page 2: claims 65535 elements, more than it can hold".to_owned()),
        // The elements of a larger count would lie over keys and values.
        (leaf(10, &3_u16.to_ne_bytes()), "page 2: element 0 does not lie where it can".to_owned()),
        (leaf(10, &0_u16.to_ne_bytes()), String::new()),
        (leaf(10, &1_u16.to_ne_bytes()), "a=1".to_owned()),
        (leaf(12, &four(1)), "page 2: claims 2 pages, more than there are".to_owned()),
        (leaf(12, &four(u32::MAX)), "page 2: claims 4294967296 pages, more than there are".to_owned()),
        // Position, size of key and value of the first element.
        (leaf(20, &four(31)), "page 2: element 0 does not lie where it can".to_owned()),
        (leaf(20, &four(u32::MAX)), "page 2: element 0 does not lie where it can".to_owned()),
        (leaf(20, &four(1007)), "page 2: element 0 does not lie where it can".to_owned()),
        (leaf(24, &four(u32::MAX)), "page 2: element 0 does not lie where it can".to_owned()),
        (leaf(24, &four(0)), "page 2: the key of element 0 has 0 bytes".to_owned()),
        (leaf(28, &four(u32::MAX)), "page 2: element 0 does not lie where it can".to_owned()),
        (leaf(28, &four(1024 - 48)), "page 2: element 0 does not lie where it can".to_owned()),
        // The first value over the second key.
        (leaf(28, &four(2)), "page 2: element 1 does not lie where it can".to_owned()),
        (leaf(48, b"b"), "page 2: keys out of order at element 1".to_owned()),
        (leaf(48, b"c"), "page 2: keys out of order at element 1".to_owned()),
        (
            pages().leaf(2, &[value("\0b", ""), value("\0a", "")]).done(2),
            "page 2: keys out of order at element 1".to_owned(),
        ),
        (long(32768), format!("{}=", "k".repeat(32768))),
        (long(32769), "page 2: the key of element 0 has 32769 bytes".to_owned()),
        (branch(0, &[]), "a=1 b=2".to_owned()),
        (branch(10, &[0; 2]), "page 2: is a branch without elements".to_owned()),
        (branch(16, &four(u32::MAX)), "page 2: element 0 does not lie where it can".to_owned()),
        (branch(20, &four(u32::MAX)), "page 2: element 0 does not lie where it can".to_owned()),
        (branch(24, &0_u64.to_ne_bytes()), "page 0: is not one of the 5 pages".to_owned()),
        (branch(24, &1_u64.to_ne_bytes()), "page 1: is not one of the 5 pages".to_owned()),
        (branch(24, &5_u64.to_ne_bytes()), "page 5: is not one of the 5 pages".to_owned()),
        (branch(24, &[0xff; 8]), format!("page {}: is not one of the 5 pages", u64::MAX)),
        (branch(24, &2_u64.to_ne_bytes()), "page 2: is used twice".to_owned()),
    ] {
        assert_eq!(told(&file), want);
    }
}

#[test]
fn lies_of_a_tree() {
    let (b, d) = (|| [value("b", "1"), value("c", "2")], || [value("d", "3")]);
    let chain = |length: u64| (2..length + 1).fold(pages(), |pages, page| pages.branch(page, &[child("a", page + 1)]));
    let chain = |length: u64| chain(length).leaf(length + 1, &ab()).done(2);
    let in_bucket = |entry: Entry| pages().leaf(2, &[entry]).done(2);
    let giant = || pages().leaf(2, &[value("a", vec![b'x'; 2500])]).leaf(5, &ab());
    for (file, want) in [
        (two(&b(), &d()).done(2), "b=1 c=2 d=3".to_owned()),
        (two(&[value("a", "1")], &d()).done(2), "page 3: has keys that belong to another page".to_owned()),
        (
            two(&[value("b", ""), value("d", "")], &d()).done(2),
            "page 3: has keys that belong to another page".to_owned(),
        ),
        (two(&b(), &[value("c", "")]).done(2), "page 4: has keys that belong to another page".to_owned()),
        (two(&[], &d()).done(2), "page 3: is a leaf without elements below a branch".to_owned()),
        // The branch below has `e`, which is beyond `d` of the branch above.
        (
            two(&[], &d()).branch(3, &[child("b", 5)]).leaf(5, &[value("b", ""), value("e", "")]).done(2),
            "page 5: has keys that belong to another page".to_owned(),
        ),
        (two(&[], &d()).branch(3, &[child("b", 5)]).leaf(5, &b()).done(2), "b=1 c=2 d=3".to_owned()),
        // Circles, and what two lead to.
        (pages().branch(2, &[child("a", 2)]).done(2), "page 2: is used twice".to_owned()),
        (two(&[], &d()).branch(3, &[child("b", 2)]).done(2), "page 2: is used twice".to_owned()),
        (pages().branch(2, &[child("b", 3), child("d", 3)]).leaf(3, &b()).done(2), "page 3: is used twice".to_owned()),
        (pages().leaf(2, &[bucket("a", 2)]).done(2), "page 2: is used twice".to_owned()),
        (pages().leaf(2, &[bucket("a", 3), bucket("b", 3)]).leaf(3, &[]).done(2), "page 3: is used twice".to_owned()),
        (chain(60), "a=1 b=2".to_owned()),
        (chain(65), "a=1 b=2".to_owned()),
        (chain(66), "page 67: lies below 64 branches".to_owned()),
        (chain(3000), "page 67: lies below 64 branches".to_owned()),
        // The pages that belong to another one.
        (giant().done(2), "a=2500 bytes".to_owned()),
        (giant().leaf(5, &[bucket("a", 2), bucket("b", 4)]).done(5), "page 4: is used twice".to_owned()),
        (
            giant().leaf(5, &[bucket("a", 4), bucket("b", 2)]).poke(4, 0, &encode(4, LEAF, &[], 0)).done(5),
            "page 4: is used twice".to_owned(),
        ),
        // Where the tree begins.
        (pages().leaf(2, &ab()).done(0), "page 0: is not one of the 3 pages".to_owned()),
        (pages().leaf(2, &ab()).done(1), "page 1: is not one of the 3 pages".to_owned()),
        (pages().leaf(2, &ab()).done(3), "page 3: is not one of the 3 pages".to_owned()),
        (pages().leaf(2, &ab()).with(2, 2), "page 2: is not one of the 2 pages".to_owned()),
        (pages().leaf(2, &ab()).with(2, u64::MAX), "a=1 b=2".to_owned()),
        (pages().leaf(2, &ab()).with(3, u64::MAX), "page 3: lies beyond the end of the file".to_owned()),
        (
            pages().leaf(2, &ab()).with(u64::MAX - 1, u64::MAX),
            format!("page {}: lies beyond the end of the file", u64::MAX - 1),
        ),
        (pages().leaf(2, &ab()).poke(2, 12, &[9]).with(2, 99), "page 2: lies beyond the end of the file".to_owned()),
        (giant().poke(2, 12, &[3]).with(2, 5), "page 2: claims 4 pages, more than there are".to_owned()),
        (
            pages().leaf(2, &ab()).poke(2, 12, &40_000_u32.to_ne_bytes()).with(2, u64::MAX),
            "page 2: holds 39 MiB, and at most 32 are read".to_owned(),
        ),
        // Buckets in values.
        (in_bucket(inline("a", LEAF, &ab())), "a/ a/a=1 a/b=2".to_owned()),
        (in_bucket(inline("a", LEAF, &[])), "a/".to_owned()),
        (in_bucket(inline("a", LEAF, &[inline("b", LEAF, &ab())])), "a/ a/b/ a/b/a=1 a/b/b=2".to_owned()),
        (in_bucket(inline("a", BRANCH, &[child("a", 2)])), "page 2: a bucket inside a value is no leaf".to_owned()),
        (in_bucket(inline("a", 0x10, &[])), "page 2: is neither a leaf nor a branch (flags 0x10)".to_owned()),
        (
            in_bucket(inline("a", LEAF, &[value("b", ""), value("a", "")])),
            "page 2: keys out of order at element 1".to_owned(),
        ),
        (in_bucket(odd_bucket("a", "")), "page 2: a bucket's header is cut off".to_owned()),
        (in_bucket(odd_bucket("a", [0; 15])), "page 2: a bucket's header is cut off".to_owned()),
        (in_bucket(odd_bucket("a", [0; 16])), "page 2: is cut off".to_owned()),
        (in_bucket(odd_bucket("a", [0; 31])), "page 2: is cut off".to_owned()),
        (
            in_bucket(odd_bucket("a", [7; 16])),
            format!("page {}: is not one of the 3 pages", u64::from_ne_bytes([7; 8])),
        ),
    ] {
        let shown = told(&file);
        assert_eq!(shown, want);
        if let Err(fault) = walk(&file) {
            assert_eq!(fault.is_damage(), !matches!(fault, Fault::TooLarge { .. }), "{shown}");
        }
    }
}

// --- any damage -----------------------------------------------------------------------------------------------------

/// A little of everything.
fn sample() -> Vec<u8> {
    let mut bolt = small();
    bolt.tree.put(&["big"], [b'x'; 1100]).bucket(&["empty"]);
    for number in 0..12 {
        bolt.tree.put(&["many", &format!("{number:0>60}")], "y".repeat(30));
    }
    bolt.build()
}

#[test]
fn every_prefix() {
    let file = sample();
    let whole = walk(&file).unwrap();
    for end in 0..file.len() {
        fuzz(&file[..end]);
        let read = walk(&file[..end]);
        // Without its meta in page 1 it has the older tree only, which is empty.
        let is_older = (80..1104).contains(&end);
        match read {
            Ok(lines) => assert!(lines == whole || (is_older && lines.is_empty()), "{end}"),
            Err(fault) => assert!(fault.is_damage() || end == 0, "{end}: {fault}"),
        }
    }
}

#[test]
fn every_byte_bent() {
    let mut file = sample();
    for at in 0..file.len() {
        let good = file[at];
        for bad in [good ^ 0x01, good ^ 0x80, 0, 0xff].into_iter().filter(|bad| *bad != good) {
            file[at] = bad;
            // A checksum made right lets through what it would stop.
            let metas = [16..80, 1024 + 16..1024 + 80];
            if metas.iter().any(|meta| meta.contains(&at)) {
                let _ = walk(&file);
                reseal(&mut file, 1024);
            }
            let _ = walk(&file);
        }
        file[at] = good;
        reseal(&mut file, 1024);
    }
    assert_eq!(file, sample());
}

// --- files that are no bytes in memory ------------------------------------------------------------------------------

/// Fails from some offset on.
struct Failing(Vec<u8>, u64);

impl ReadAt for Failing {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if offset >= self.1 { Err(io::Error::other("EIO")) } else { self.0.read_at(offset, into) }
    }
}

#[test]
fn a_file_that_can_not_be_read_is_no_damage() {
    for from in [0, 1024, 2048] {
        let fault = walk(&Failing(small().build(), from)).unwrap_err();
        assert!(matches!(fault, Fault::Read(_)) && !fault.is_damage());
        assert_eq!(fault.to_string(), "EIO");
    }
    assert_eq!(walk(&Failing(small().build(), u64::MAX)).unwrap().join(" "), SMALL);
}

/// A file without an end: after its first pages each is the same leaf.
struct Vast {
    start: Vec<u8>,
    leaf: Vec<u8>,
}

impl ReadAt for Vast {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let page = offset / 1024;
        if page < 3 {
            return self.start.as_slice().read_at(offset, into);
        }
        let mut leaf = self.leaf.clone();
        leaf[..8].copy_from_slice(&page.to_ne_bytes());
        leaf.as_slice().read_at(offset % 1024, into)
    }
}

#[test]
fn a_page_that_is_too_far_away_is_not_read() {
    let far = 64 << 20;
    let leaf = encode(0, LEAF, &[value("0000", "")], 1024);
    let with = |page: u64| {
        let start = pages().branch(2, &[child("0000", page)]).with(2, far + 2);
        walk(&Vast { start, leaf: leaf.clone() })
    };
    assert!(with(far - 1).is_ok());
    assert_eq!(with(far).unwrap_err().to_string(), format!("page {far}: is farther than anything that is read"));
}
