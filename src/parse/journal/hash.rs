//! The hashes of fields.

use siphasher::sip::SipHasher24;

use super::u32_at;

/// SipHash-2-4 with a key: files with the flag KEYED_HASH, whose key is the file's id.
pub(super) fn siphash24(key: &[u8; 16], bytes: &[u8]) -> u64 {
    SipHasher24::new_with_key(key).hash(bytes)
}

/// Bob Jenkins' `hashlittle2` of lookup3 from zeros, as systemd's `jenkins_hash64` puts its halves together: files without
/// that flag.
pub(super) fn jenkins(bytes: &[u8]) -> u64 {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let begin = 0xdead_beef_u32.wrapping_add(length);
    let (mut a, mut b, mut c) = (begin, begin, begin);
    let mut rest = bytes;
    while let Some((part, after)) = rest.split_at_checked(12).filter(|(_, after)| !after.is_empty()) {
        let word = |at| u32_at(part, at).unwrap_or(0);
        a = a.wrapping_add(word(0));
        b = b.wrapping_add(word(4));
        c = c.wrapping_add(word(8));
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        rest = after;
    }
    if !rest.is_empty() {
        // The last part, with zeros behind it.
        let mut part = [0; 12];
        for (into, from) in part.iter_mut().zip(rest) {
            *into = *from;
        }
        let word = |at| u32_at(&part, at).unwrap_or(0);
        a = a.wrapping_add(word(0));
        b = b.wrapping_add(word(4));
        c = c.wrapping_add(word(8));
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        c = (c ^ b).wrapping_sub(b.rotate_left(24));
    }
    u64::from(c) << 32 | u64::from(b)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Those that lookup3.c prints of itself (`driver5`), and the one of SipHash's authors.
    #[test]
    fn known_values() {
        assert_eq!(jenkins(b""), 0xdead_beef_dead_beef);
        assert_eq!(jenkins(b"Four score and seven years ago"), 0x1777_0551_ce72_26e6);
        let key = *b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f";
        assert_eq!(siphash24(&key, key.split_last().unwrap().1), 0xa129_ca61_49be_45e5);
    }
}
