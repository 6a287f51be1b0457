#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod lies;

use super::super::ReadAt;
use super::{Bucket, Db, Fault, Meta, Span, Value, fuzz};
use crate::bolt_writer::{Bolt, newest, reseal, seal};

/// A line for each key: those of the buckets above it, and its value.
fn list<F: ReadAt + ?Sized>(
    db: &Db<'_, F>,
    bucket: Bucket<'_>,
    above: &str,
    lines: &mut Vec<String>,
) -> Result<(), Fault> {
    db.each(bucket, &mut |key, value| {
        let path = format!("{above}{}", String::from_utf8_lossy(key));
        match value {
            Value::Bytes(bytes, _) if bytes.len() > 40 => lines.push(format!("{path}={} bytes", bytes.len())),
            Value::Bytes(bytes, _) => lines.push(format!("{path}={}", String::from_utf8_lossy(bytes))),
            Value::Bucket(bucket) => {
                lines.push(format!("{path}/"));
                list(db, bucket, &format!("{path}/"), lines)?;
            }
        }
        Ok(())
    })
}

fn walk<F: ReadAt + ?Sized>(file: &F) -> Result<Vec<String>, Fault> {
    let db = Db::new(file, Meta::newest(file)?);
    let mut lines = Vec::new();
    list(&db, db.root(), "", &mut lines)?;
    Ok(lines)
}

/// What is in a file, or what is wrong with it.
fn told(file: &[u8]) -> String {
    fuzz(file);
    let told = |file: &[u8]| walk(file).map_or_else(|fault| fault.to_string(), |lines| lines.join(" "));
    if let Some(rest) = remembered(file, usize::MAX) {
        // Of long keys only the beginning is.
        let begin = |text: String| text.chars().take(90).collect::<String>();
        assert_eq!(begin(told(&rest)), begin(told(file)), "with nothing of the file but what was remembered");
    }
    told(file)
}

/// A file of which only the metas are left, and what a walk remembers: of the values those that are shorter.
fn remembered(file: &[u8], shorter: usize) -> Option<Vec<u8>> {
    fn keep<F: ReadAt + ?Sized>(db: &Db<'_, F>, bucket: Bucket<'_>, shorter: usize) -> Result<(), Fault> {
        db.each(bucket, &mut |_, value| match value {
            Value::Bucket(bucket) => keep(db, bucket, shorter),
            Value::Bytes(bytes, _) => {
                if bytes.len() < shorter {
                    db.keep(value);
                }
                Ok(())
            }
        })
    }
    let meta = Meta::newest(file).ok()?;
    let mut rest = vec![b'?'; file.len()];
    for at in [0, meta.page_size as usize] {
        rest[at..at + 80].copy_from_slice(&file[at..at + 80]);
    }
    let db = Db::inked(file, meta);
    // A bucket is nothing that could be kept.
    db.keep(Value::Bucket(db.root()));
    let _ = keep(&db, db.root(), shorter);
    for Span { at, bytes, is_value } in db.into_spans() {
        assert!(!is_value || bytes.len() < shorter);
        rest[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
    }
    Some(rest)
}

fn small() -> Bolt {
    let mut bolt = Bolt { page_size: 1024, ..Bolt::default() };
    bolt.tree.put(&["a", "b"], "1").put(&["c"], "2").put(&["d", "e", "f"], "3");
    bolt
}

const SMALL: &str = "a/ a/b=1 c=2 d/ d/e/ d/e/f=3";

// --- metas ----------------------------------------------------------------------------------------------------------

#[test]
fn the_newest_meta_counts_wherever_it_is() {
    for txid in [65, 66] {
        for has_freelist in [true, false] {
            let bolt = Bolt { txid, has_freelist, ..small() };
            let file = bolt.build();
            let meta = Meta::newest(&file[..]).unwrap();
            assert_eq!((meta.txid, meta.page_size, meta.root), (txid, 1024, newest(&file).root));
            assert_eq!(told(&file), SMALL);
            // Any bit of the newer one bent, the older one counts: its tree is empty.
            let newer = (txid as usize & 1) * 1024 + 16;
            for byte in newer..newer + 64 {
                let mut bent = file.clone();
                bent[byte] ^= 0x10;
                assert_eq!(Meta::newest(&bent[..]).unwrap().txid, txid - 1, "{byte}");
                assert_eq!(told(&bent), "");
            }
            let older = (1 - (txid as usize & 1)) * 1024 + 16;
            for byte in older..older + 64 {
                let mut bent = file.clone();
                bent[byte] ^= 0x10;
                assert_eq!(Meta::newest(&bent[..]).unwrap(), meta, "{byte}");
            }
        }
    }
}

/// Copies of a database made by bbolt itself have the newest in page 0, whatever its number.
#[test]
fn the_parity_of_a_meta_is_not_asked() {
    let file = Bolt { txid: 65, ..small() }.build();
    let swapped = [&file[1024..2048], &file[..1024], &file[2048..]].concat();
    assert_eq!(told(&swapped), SMALL);
    assert_eq!(Meta::newest(&swapped[..]).unwrap(), Meta::newest(&file[..]).unwrap());
}

#[test]
fn metas_are_the_same_only_to_the_bit() {
    let file = small().build();
    let meta = Meta::newest(&file[..]).unwrap();
    // The sequence of the root bucket, which nothing else shows.
    let mut other = file.clone();
    other[1024 + 40] = 1;
    reseal(&mut other, 1024);
    let other = Meta::newest(&other[..]).unwrap();
    assert_eq!((other.txid, other.root, other.high_water), (meta.txid, meta.root, meta.high_water));
    assert_ne!(other, meta);
}

#[test]
fn any_page_size_with_either_meta() {
    for shift in 10..=18 {
        let page_size = 1 << shift;
        let file = Bolt { page_size, ..small() }.build();
        assert_eq!(told(&file), SMALL, "{page_size}");
        let mut bent = file.clone();
        bent[..80].fill(0);
        assert_eq!(told(&bent), SMALL, "{page_size}: without the first meta");
        let mut bent = Bolt { page_size, txid: 66, ..small() }.build();
        bent[page_size..page_size + 80].fill(0);
        assert_eq!(told(&bent), SMALL, "{page_size}: without the second meta");
    }
}

/// Both metas of a small file with something of them changed, and the checksum made right or not.
fn bent(at: usize, bytes: &[u8], is_sealed: bool) -> Vec<u8> {
    let mut file = small().build();
    for meta in [0, 1024] {
        file[meta + at..meta + at + bytes.len()].copy_from_slice(bytes);
        if is_sealed {
            seal(&mut file[meta + 16..meta + 80]);
        }
    }
    file
}

#[test]
fn files_without_a_meta() {
    let damage = |why: &str| format!("neither meta page is valid: {why}");
    let size = |size: u32| bent(24, &size.to_ne_bytes(), true);
    for (file, want, is_damage) in [
        (Vec::new(), "it is empty (0 bytes)".to_owned(), false),
        (vec![0], damage("the file ends in it"), true),
        (small().build()[..79].to_vec(), damage("the file ends in it"), true),
        (vec![0; 16384], damage("no magic number"), true),
        (vec![0xff; 16384], damage("no magic number"), true),
        (bent(16, &0xED0C_DAEE_u32.to_ne_bytes(), true), damage("no magic number"), true),
        (bent(20, &3_u32.to_ne_bytes(), true), "it is of bolt format 3, and only 2 is known".to_owned(), false),
        (bent(20, &3_u32.to_ne_bytes(), false), damage("wrong checksum"), true),
        (bent(72, &[0; 8], false), damage("wrong checksum"), true),
        (bent(64, &[1], false), damage("wrong checksum"), true),
        (size(0), damage("a page size that can't be"), true),
        (size(512), damage("a page size that can't be"), true),
        (size(1025), damage("a page size that can't be"), true),
        (size(32 << 20), damage("a page size that can't be"), true),
        (size(u32::MAX), damage("a page size that can't be"), true),
        (
            Bolt { is_foreign: true, ..small() }.build(),
            "it is of the other byte order (foreign endianness)".to_owned(),
            false,
        ),
    ] {
        let fault = Meta::newest(&file[..]).unwrap_err();
        assert_eq!((fault.to_string(), fault.is_damage()), (want, is_damage));
        fuzz(&file);
    }
}

/// A meta is looked for where its own page size says that it is.
#[test]
fn a_second_meta_must_fit_the_first_place() {
    let good = Bolt { page_size: 2048, ..small() }.build();
    let mut file = vec![0; 4096];
    file[1024..1104].copy_from_slice(&good[2048..2128]);
    assert_eq!(told(&file), "neither meta page is valid: no magic number");
    // Of two good ones with two page sizes the first is taken.
    let mut file = Bolt { txid: 66, ..small() }.build();
    let mut other = good[2048..2128].to_vec();
    other[64..72].copy_from_slice(&99_u64.to_ne_bytes());
    seal(&mut other[16..]);
    file[1024..1104].copy_from_slice(&other);
    assert_eq!(Meta::newest(&file[..]).unwrap().txid, 66);
}

// --- trees ----------------------------------------------------------------------------------------------------------

#[test]
fn buckets_of_every_form() {
    let mut bolt = small();
    let mut want = vec!["a/".to_owned(), "a/b=1".to_owned(), "big=3000 bytes".to_owned(), "empty/".to_owned()];
    bolt.tree.remove(&["c"]);
    bolt.tree.remove(&["d"]);
    bolt.tree.put(&["big"], [b'x'; 3000]).bucket(&["empty"]);
    // Three branches above each other, and a value that no inline bucket can hold in some.
    want.push("many/".to_owned());
    for number in 0..2000 {
        let (key, value) = (format!("{number:0>40}"), "v".repeat(number % 40));
        bolt.tree.put(&["many", &key], &value);
        want.push(format!("many/{key}={value}"));
    }
    let file = bolt.build();
    assert_eq!(walk(&file).unwrap(), want);
    let meta = Meta::newest(&file[..]).unwrap();
    let db = Db::new(&file[..], meta.clone());
    list(&db, db.root(), "", &mut Vec::new()).unwrap();
    // All but two metas, the free list and the older tree; the big value has the root take three pages.
    assert_eq!(db.pages() as u64, meta.high_water - 4);
}

#[test]
fn where_values_lie() {
    let file = small().build();
    let db = Db::new(&file[..], Meta::newest(&file[..]).unwrap());
    db.each(db.root(), &mut |key, value| {
        if let Value::Bytes(bytes, at) = value {
            assert_eq!((key, bytes, value.bytes()), (&b"c"[..], &b"2"[..], Some(&b"2"[..])));
            assert_eq!(&file[at as usize..at as usize + 1], b"2");
        } else if let (b"a", Value::Bucket(bucket)) = (key, value) {
            assert_eq!(value.bytes(), None);
            // In a bucket that lies in a value.
            db.each(bucket, &mut |_, value| {
                let Value::Bytes(_, at) = value else { unreachable!() };
                assert_eq!(&file[at as usize..at as usize + 1], b"1");
                Ok(())
            })?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_error_of_the_caller_ends_the_walk() {
    let file = small().build();
    let db = Db::new(&file[..], Meta::newest(&file[..]).unwrap());
    let mut count = 0;
    let ended = db.each(db.root(), &mut |_, _| {
        count += 1;
        Err(Fault::Empty)
    });
    assert!(matches!(ended, Err(Fault::Empty)) && count == 1);
    // A second walk meets the same pages.
    let again = db.each(db.root(), &mut |_, _| Ok(())).unwrap_err();
    assert!(again.to_string().ends_with("is used twice"), "{again}");
}

#[test]
fn values_are_remembered_only_if_they_are_kept() {
    let mut bolt = small();
    for number in 0..100 {
        bolt.tree.put(&["many", &format!("key {number}"), "inline"], "x".repeat(number));
    }
    bolt.tree.put(&["big"], [b'x'; 3000]);
    let file = bolt.build();
    let rest = remembered(&file, 30).unwrap();
    let lines = walk(&file).unwrap();
    let mut count = 0;
    for (line, left) in lines.iter().zip(walk(&rest).unwrap()) {
        let is_long = line.ends_with(" bytes") || line.contains(&"x".repeat(30));
        assert_eq!(left.contains('?'), is_long && !line.ends_with(" bytes"), "{left}");
        assert_eq!(left.replace('?', "x"), *line);
        count += usize::from(is_long);
    }
    assert_eq!((count, lines.len()), (71, walk(&rest).unwrap().len()));
    assert!(Db::new(&file[..], Meta::newest(&file[..]).unwrap()).into_spans().is_empty());
}
