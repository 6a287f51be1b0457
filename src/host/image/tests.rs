use std::os::unix::fs::MetadataExt;

use super::*;

fn bytes_of(image: &Image, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; length];
    let count = image.read_at(offset, &mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

#[test]
fn the_newest_reading_counts_and_what_was_not_read_is_zero() {
    let mut image = Image::hollow(10_000);
    image.put(4090, b"across two");
    image.put(4098, b"ce");
    image.put(9_998, b"end");
    assert_eq!(bytes_of(&image, 4088, 15), b"\0\0across tce\0\0\0");
    // It grew.
    assert_eq!((image.length, bytes_of(&image, 9_997, 9)), (10_001, b"\0end".to_vec()));
    assert_eq!((bytes_of(&image, 10_001, 9), bytes_of(&image, u64::MAX, 9)), (vec![], vec![]));
    assert_eq!(image.chunks.values().map(Vec::len).sum::<usize>(), 4096 + 4 + (10_001 - 8192));
    // Nothing was there.
    image.put(20_000, b"");
    assert_eq!((image.chunks.len(), image.length), (3, 10_001));
}

#[test]
fn another_file_begins_anew() {
    let mut image = Image::default();
    image.begin((1, 2), 50);
    image.put(10, b"old");
    // Opened again, and shorter now.
    image.begin((1, 2), 12);
    assert_eq!((bytes_of(&image, 9, 9), image.inode()), (b"\0ol".to_vec(), 2));
    image.begin((1, 3), 20);
    assert_eq!((bytes_of(&image, 9, 9), image.inode()), (vec![0; 9], 3));
}

#[test]
fn so_much_is_remembered() {
    let mut image = Image::default();
    for number in 0..LARGEST / CHUNK {
        image.put(number * CHUNK, b"x");
    }
    assert!(!image.is_cut());
    image.put(LARGEST, b"x");
    image.put(0, b"x");
    assert!(image.is_cut() && image.chunks.is_empty());
}

#[test]
fn it_is_written_with_its_holes() {
    let file = tempfile::tempfile().unwrap();
    let mut image = Image::hollow(64 << 20);
    image.put(32 << 20, b"here");
    image.put(48 << 20, &[0; 8192]);
    // Shorter now than when that was read.
    image.put((64 << 20) - 2, b"ab");
    image.length = (64 << 20) - 1;
    image.write(&file).unwrap();
    let meta = file.metadata().unwrap();
    assert_eq!(meta.len(), image.length);
    assert!(meta.blocks() * 512 <= 128 << 10, "{} blocks", meta.blocks());
    let mut read = [0; 6];
    file.read_exact_at(&mut read, (32 << 20) - 1).unwrap();
    assert_eq!(&read, b"\0here\0");
    assert_eq!((file.read_at(&mut read, image.length - 1).unwrap(), read[0]), (1, b'a'));
}
