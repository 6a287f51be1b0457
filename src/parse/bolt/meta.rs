//! The two meta pages (`internal/common/meta.go`, `db.go`).

use super::super::ReadAt;
use super::{Fault, read, u32_at, u64_at};

/// `internal/common/types.go`.
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// The header of a page.
const HEADER: usize = 16;
const META: usize = 64;
/// Where the second meta page may begin: bbolt tries the same.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1024..=16 << 20;

/// A meta page whose magic number, version and checksum hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// All of it: two metas are the same only if they are to the bit.
    bytes: [u8; META],
    /// Bytes in a page: that of the machine that made the file, from 4 KiB to 64 KiB as a rule.
    pub page_size: u32,
    /// The page of the root bucket.
    pub root: u64,
    /// Every page that is used has a smaller number.
    pub high_water: u64,
    /// The transaction that wrote it.
    pub txid: u64,
}

impl Meta {
    /// The newest valid one.
    pub fn newest<F: ReadAt + ?Sized>(file: &F) -> Result<Meta, Fault> {
        let first = at(file, 0)?;
        let second = match &first {
            Ok(first) => at(file, first.page_size.into())?,
            Err(_) => {
                let sizes = std::iter::successors(Some(*PAGE_SIZES.start()), |size| size.checked_mul(2));
                let mut found = Err(Invalid::NoMagic);
                for size in sizes.take_while(|size| PAGE_SIZES.contains(size)) {
                    let meta = at(file, size.into())?;
                    if meta.as_ref().is_ok_and(|meta| meta.page_size == size) {
                        found = meta;
                        break;
                    }
                }
                found
            }
        };
        match (first, second) {
            (Ok(first), Ok(second)) if second.page_size == first.page_size && second.txid > first.txid => Ok(second),
            (Ok(first), _) => Ok(first),
            (Err(_), Ok(second)) => Ok(second),
            (Err(first), Err(_)) => Err(first.into()),
        }
    }
}

/// Why a meta page is not one.
enum Invalid {
    Empty,
    Short,
    Foreign,
    NoMagic,
    Version(u32),
    Checksum,
    PageSize,
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Fault {
        match invalid {
            Invalid::Empty => Fault::Empty,
            Invalid::Short => Fault::NoMeta("the file ends in it"),
            Invalid::Foreign => Fault::ForeignEndian,
            Invalid::NoMagic => Fault::NoMeta("no magic number"),
            Invalid::Version(version) => Fault::Version(version),
            Invalid::Checksum => Fault::NoMeta("wrong checksum"),
            Invalid::PageSize => Fault::NoMeta("a page size that can't be"),
        }
    }
}

/// The meta page that begins at this offset. Its bytes are read at once, so that the checksum tells whether it was being
/// written.
fn at<F: ReadAt + ?Sized>(file: &F, offset: u64) -> Result<Result<Meta, Invalid>, Fault> {
    let mut page = [0; HEADER + META];
    let length = read(file, offset, &mut page)?;
    Ok(match page.get(HEADER..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) if length == page.len() => meta(bytes),
        _ if length == 0 => Err(Invalid::Empty),
        _ => Err(Invalid::Short),
    })
}

fn meta(bytes: &[u8; META]) -> Result<Meta, Invalid> {
    let number = |at: usize| u64_at(bytes, at).ok_or(Invalid::Short);
    let half = |at: usize| u32_at(bytes, at).ok_or(Invalid::Short);
    let magic = half(0)?;
    if magic == MAGIC.swap_bytes() {
        return Err(Invalid::Foreign);
    }
    if magic != MAGIC {
        return Err(Invalid::NoMagic);
    }
    let covered = bytes.get(..56).ok_or(Invalid::Short)?;
    if number(56)? != fnv1a(covered) {
        return Err(Invalid::Checksum);
    }
    // After the checksum: a version that was never written is none.
    if half(4)? != VERSION {
        return Err(Invalid::Version(half(4)?));
    }
    let page_size = half(8)?;
    if !(page_size.is_power_of_two() && PAGE_SIZES.contains(&page_size)) {
        return Err(Invalid::PageSize);
    }
    Ok(Meta { bytes: *bytes, page_size, root: number(16)?, high_water: number(40)?, txid: number(48)? })
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
