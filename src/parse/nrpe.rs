//! NRPE packets, versions 2, 3 and 4 (layout: NRPE 4.1 `include/common.h`).
//!
//! All integers are big-endian. The CRC-32 covers the whole packet with its own field zeroed; in versions 3 and 4 the
//! alignment field is zeroed too, and in version 3 three zero bytes after the buffer are part of it, sent or not.
//!
//! | offset | version 2, 1036 bytes     | versions 3 and 4        |
//! |--------|---------------------------|-------------------------|
//! | 0      | version                   | version                 |
//! | 2      | type: 1 query, 2 response | type                    |
//! | 4      | CRC-32                    | CRC-32                  |
//! | 8      | result code               | result code             |
//! | 10     | buffer, 1024 bytes        | alignment, 2 bytes      |
//! | 12     |                           | buffer length n, signed |
//! | 16     |                           | buffer, n bytes         |
//! | end    | 2 bytes of padding        | version 3: 3 zero bytes |
use thiserror::Error;

const QUERY: u16 = 1;
const RESPONSE: u16 = 2;
/// What must be there before the size of a packet is known: the header of versions 3 and 4.
const HEADER: usize = 16;
const V2_TEXT_AT: usize = 10;
const V2_BUFFER: usize = 1024;
const V2_PACKET: usize = 1036;
/// The largest buffer of versions 3 and 4, in bytes; check_nrpe 4.x refuses more.
const MAX_BUFFER: usize = 65536;
/// check_nrpe pads its queries in versions 3 and 4 so that they are as long as one of version 2.
const V3_QUERY_BUFFER: usize = 1017;
const V4_QUERY_BUFFER: usize = 1020;

/// The protocol version of a packet; an answer must have that of its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Every NRPE up to 2.15; packets of 1036 bytes.
    V2,
    /// NRPE 3.x.
    V3,
    /// NRPE 4.x; version 3 without the three bytes at the end.
    V4,
}

impl Version {
    /// The most bytes of text that an answer carries: 1023, or 65535 in versions 3 and 4.
    pub fn text_limit(self) -> usize {
        match self {
            Version::V2 => V2_BUFFER.saturating_sub(1),
            Version::V3 | Version::V4 => MAX_BUFFER.saturating_sub(1),
        }
    }

    fn number(self) -> u16 {
        match self {
            Version::V2 => 2,
            Version::V3 => 3,
            Version::V4 => 4,
        }
    }

    fn tail(self) -> &'static [u8] {
        if self == Version::V3 { &[0; 3] } else { &[] }
    }
}

/// Why bytes are not the packet that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// There are too few bytes: with `need` of them, in all, it is worth decoding again.
    #[error("packet ends after {have} of {need} bytes")]
    Truncated {
        /// The version, once two bytes are there.
        version: Option<Version>,
        /// How many bytes there are.
        have: usize,
        /// How many are needed, at least; always more than `have`, at most 65552.
        need: usize,
    },
    /// The first two bytes are no version of NRPE.
    #[error("packet version {0} is none of 2, 3 and 4")]
    Version(u16),
    /// The buffer length of versions 3 and 4 is negative or above 65536.
    #[error("buffer length {1} is not within 0 to 65536")]
    Length(Version, i32),
    /// The CRC-32 in the packet is not that of its bytes.
    #[error("packet is damaged: its CRC-32 does not match its bytes")]
    Crc(Version),
    /// The type, here the second number, is not the expected one, the third.
    #[error("packet type is {1}, not {2}")]
    Type(Version, u16, u16),
}

impl Error {
    /// The version of the packet, if it got that far: an answer in that version can say what is wrong.
    pub fn version(&self) -> Option<Version> {
        match *self {
            Error::Version(_) => None,
            Error::Truncated { version, .. } => version,
            Error::Length(version, _) | Error::Crc(version) | Error::Type(version, ..) => Some(version),
        }
    }
}

/// A query: what check_nrpe sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// The version; the answer must have the same.
    pub version: Version,
    /// `command!argument!argument`, up to the first NUL or the end of the buffer. Any bytes.
    pub text: &'a [u8],
}

/// A response: what a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// The version.
    pub version: Version,
    /// The exit code for the monitoring system as it is in the packet; 0 to 3 from any sane server.
    pub code: u16,
    /// The text, up to the first NUL or the end of the buffer. Any bytes.
    pub text: &'a [u8],
}

/// Decodes the query that `bytes` begin with; what follows it is not looked at.
///
/// Bytes may come in any pieces: as long as they are too few the result is [`Error::Truncated`], at little cost.
pub fn decode_query(bytes: &[u8]) -> Result<Query<'_>, Error> {
    decode(bytes, QUERY).map(|(version, _, text)| Query { version, text })
}

/// Decodes the response that `bytes` begin with; as [`decode_query`].
pub fn decode_response(bytes: &[u8]) -> Result<Response<'_>, Error> {
    decode(bytes, RESPONSE).map(|(version, code, text)| Response { version, code, text })
}

/// Encodes a response. `code` is 0 to 3; anything else becomes 3, since check_nrpe exits with whatever it gets.
///
/// `text` ends at its first NUL and at [`Version::text_limit`] bytes; who has more must shorten it before.
pub fn encode(version: Version, code: u8, text: &[u8]) -> Vec<u8> {
    pack(version, RESPONSE, u16::from(code.min(3)), text, 0)
}

/// Encodes a query as check_nrpe does: never shorter than 1036 bytes. `text` is limited as in [`encode`].
pub fn encode_query(version: Version, text: &[u8]) -> Vec<u8> {
    let padded = if version == Version::V3 { V3_QUERY_BUFFER } else { V4_QUERY_BUFFER };
    pack(version, QUERY, 0, text, padded)
}

fn decode(bytes: &[u8], expected: u16) -> Result<(Version, u16, &[u8]), Error> {
    let truncated = |version, need| Error::Truncated { version, have: bytes.len(), need };
    let (number, _) = bytes.split_first_chunk().ok_or(truncated(None, HEADER))?;
    let version = match u16::from_be_bytes(*number) {
        2 => Version::V2,
        3 => Version::V3,
        4 => Version::V4,
        other => return Err(Error::Version(other)),
    };
    let (header, _) = bytes.split_first_chunk::<HEADER>().ok_or(truncated(Some(version), HEADER))?;
    let [_, _, t0, t1, c0, c1, c2, c3, r0, r1, _, _, n0, n1, n2, n3] = *header;
    let (start, length, need) = match version {
        Version::V2 => (V2_TEXT_AT, V2_BUFFER, V2_PACKET),
        Version::V3 | Version::V4 => {
            let length = i32::from_be_bytes([n0, n1, n2, n3]);
            let size = usize::try_from(length).ok().filter(|size| *size <= MAX_BUFFER);
            let size = size.ok_or(Error::Length(version, length))?;
            (HEADER, size, HEADER.saturating_add(size))
        }
    };
    let packet = bytes.get(..need).ok_or(truncated(Some(version), need))?;
    if u32::from_be_bytes([c0, c1, c2, c3]) != checksum(version, packet) {
        return Err(Error::Crc(version));
    }
    let found = u16::from_be_bytes([t0, t1]);
    if found != expected {
        return Err(Error::Type(version, found, expected));
    }
    let buffer = packet.get(start..start.saturating_add(length)).unwrap_or_default();
    Ok((version, u16::from_be_bytes([r0, r1]), until_nul(buffer)))
}

/// The CRC-32 that belongs to `packet`, which ends with its buffer (in version 2: with its padding).
fn checksum(version: Version, packet: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(packet.get(..4).unwrap_or_default());
    crc.update(&[0; 4]);
    match version {
        Version::V2 => crc.update(packet.get(8..).unwrap_or_default()),
        Version::V3 | Version::V4 => {
            crc.update(packet.get(8..10).unwrap_or_default());
            crc.update(&[0; 2]);
            crc.update(packet.get(12..).unwrap_or_default());
        }
    }
    crc.update(version.tail());
    crc.finalize()
}

/// Writes the CRC that belongs to `packet` into it; as [`checksum`].
fn seal(version: Version, packet: &mut [u8]) {
    let crc = checksum(version, packet);
    if let Some(field) = packet.get_mut(4..8) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// `text` as far as a packet carries it. What was received may lack its NUL and so be one byte longer.
fn limited(version: Version, text: &[u8]) -> &[u8] {
    let text = until_nul(text);
    text.get(..version.text_limit()).unwrap_or(text)
}

/// Builds a packet. In versions 3 and 4 the buffer is as long as the text and its NUL, and at least `padded`.
fn pack(version: Version, kind: u16, code: u16, text: &[u8], padded: usize) -> Vec<u8> {
    let text = limited(version, text);
    let mut packet = Vec::with_capacity(text.len().saturating_add(V2_PACKET));
    packet.extend(version.number().to_be_bytes());
    packet.extend(kind.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(code.to_be_bytes());
    match version {
        Version::V2 => {
            packet.extend(text);
            packet.resize(V2_PACKET, 0);
        }
        Version::V3 | Version::V4 => {
            let buffer = text.len().saturating_add(1).max(padded);
            packet.extend([0; 2]);
            // At most MAX_BUFFER, by the limit on the text.
            packet.extend(u32::try_from(buffer).unwrap_or_default().to_be_bytes());
            packet.extend(text);
            packet.resize(HEADER.saturating_add(buffer), 0);
        }
    }
    seal(version, &mut packet);
    packet.extend(version.tail());
    packet
}

/// For the fuzzer: asserts what holds for any bytes.
///
/// They are taken as a packet, as they are and with the right CRC; whatever decodes encodes to something that decodes
/// the same, and decoding in the pieces that it asks for is decoding at once. They are also taken as a text.
pub fn fuzz(data: &[u8]) {
    fuzz_packet(data);
    let header = data.get(..HEADER).unwrap_or_default();
    if let Err(Error::Truncated { version: Some(version), need, .. }) = decode_query(header) {
        let mut sealed = data.get(..need).unwrap_or(data).to_vec();
        seal(version, &mut sealed);
        fuzz_packet(&sealed);
    }
    for version in [Version::V2, Version::V3, Version::V4] {
        let text = limited(version, data);
        let code = data.first().copied().unwrap_or_default();
        let response = Response { version, code: u16::from(code.min(3)), text };
        assert_eq!(decode_response(&encode(version, code, data)), Ok(response));
        assert_eq!(decode_query(&encode_query(version, data)), Ok(Query { version, text }));
    }
}

fn fuzz_packet(data: &[u8]) {
    let mut have = 0;
    while let Some(bytes) = data.get(..have) {
        match decode_query(bytes) {
            Err(Error::Truncated { need, .. }) => {
                assert!(have < need && need <= HEADER.saturating_add(MAX_BUFFER));
                have = need;
            }
            done => {
                assert_eq!(done, decode_query(data));
                break;
            }
        }
    }
    if let Ok(query) = decode_query(data) {
        let text = limited(query.version, query.text);
        assert_eq!(decode_query(&encode_query(query.version, text)), Ok(Query { text, ..query }));
    }
    if let Ok(response) = decode_response(data) {
        let code = u8::try_from(response.code).unwrap_or(3).min(3);
        let text = limited(response.version, response.text);
        let same = Response { code: u16::from(code), text, ..response };
        assert_eq!(decode_response(&encode(response.version, code, text)), Ok(same));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic)]
mod tests {
    use super::*;

    const VERSIONS: [Version; 3] = [Version::V2, Version::V3, Version::V4];

    /// A packet in version 3 or 4 with any length field, any buffer, and the right CRC over what is there.
    fn packet(version: Version, kind: u16, length: i32, buffer: &[u8]) -> Vec<u8> {
        let mut packet = [version.number().to_be_bytes(), kind.to_be_bytes()].concat();
        packet.extend([0; 8]);
        packet.extend(length.to_be_bytes());
        packet.extend(buffer);
        seal(version, &mut packet);
        packet
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(decode_query(bytes).unwrap().text).unwrap()
    }

    #[test]
    fn sizes_and_codes() {
        let sizes = |text: &[u8]| VERSIONS.map(|version| encode(version, 0, text).len());
        assert_eq!(sizes(b"OK - hello | a=1"), [1036, 36, 33]);
        assert_eq!(sizes(b""), [1036, 20, 17]);
        assert_eq!(sizes(&[b'x'; 70_000]), [1036, 65555, 65552]);
        assert_eq!(VERSIONS.map(|version| encode_query(version, b"a").len()), [1036; 3]);
        let code = |code| decode_response(&encode(Version::V4, code, b"")).unwrap().code;
        assert_eq!([0, 1, 2, 3, 4, 255].map(code), [0, 1, 2, 3, 3, 3]);
    }

    #[test]
    fn what_is_tolerated() {
        for version in [Version::V3, Version::V4] {
            assert_eq!(text(&packet(version, 1, 5, b"check")), "check");
            assert_eq!(text(&packet(version, 1, 6, b"\0check")), "");
            assert_eq!(text(&packet(version, 1, 0, b"")), "");
            assert_eq!(text(&packet(version, 1, 65536, &[b'x'; 65536])).len(), 65536);
        }
        let mut query = encode_query(Version::V2, b"");
        query[10..1034].fill(b'x');
        seal(Version::V2, &mut query);
        assert_eq!(text(&query).len(), 1024);
        let mut query = encode_query(Version::V4, b"check");
        query[10..12].fill(7);
        assert_eq!(text(&query), "check", "the alignment field is not part of the CRC");
    }

    #[test]
    fn refusals() {
        let refused = |bytes: &[u8]| decode_query(bytes).unwrap_err();
        for number in [0, 1, 5, u16::MAX] {
            assert_eq!(refused(&number.to_be_bytes()), Error::Version(number));
        }
        for version in [Version::V3, Version::V4] {
            for length in [-1, -4, i32::MIN, i32::MAX, 65537] {
                assert_eq!(refused(&packet(version, 1, length, b"")), Error::Length(version, length));
            }
            for kind in [0, 2, 3] {
                assert_eq!(refused(&packet(version, kind, 1, b"a")), Error::Type(version, kind, 1));
            }
        }
        for version in VERSIONS {
            assert_eq!(refused(&encode(version, 0, &[b'x'; 1023])), Error::Type(version, 2, 1));
            for at in [4, 9, 17, 1032] {
                let mut bent = encode_query(version, b"check");
                bent[at] ^= 1;
                assert_eq!(refused(&bent), Error::Crc(version), "{at}");
            }
        }
    }

    #[test]
    fn every_prefix_asks_for_more() {
        for version in VERSIONS {
            let query = encode_query(version, b"check!a!b");
            let whole = query.len() - version.tail().len();
            for end in 0..query.len() {
                match decode_query(&query[..end]) {
                    Err(Error::Truncated { have, need, .. }) => assert!(have == end && end < need && need <= whole),
                    done => assert!(end >= whole && done.unwrap().text == b"check!a!b"),
                }
                fuzz(&query[..end]);
            }
        }
    }

    /// The file names say what is in them; tests/captures/nrpe/README.md says where they come from.
    #[test]
    fn captures() {
        let mut count = 0;
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures/nrpe")).unwrap() {
            let path = entry.unwrap().path();
            let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".bin") else { continue };
            let bytes = std::fs::read(&path).unwrap();
            fuzz(&bytes);
            let (_, kind) = name.split_once('-').unwrap();
            match kind {
                "command" | "short" => assert_eq!(text(&bytes), "pod-oom-kills", "{name}"),
                "args" => assert_eq!(text(&bytes), "pod-oom-kills!-w!5!-c!20:", "{name}"),
                "version" => assert_eq!(text(&bytes), "_NRPE_CHECK", "{name}"),
                "long" if name.starts_with("v2") => assert_eq!(text(&bytes), "x".repeat(1023), "{name}"),
                "long" => assert_eq!(text(&bytes), "x".repeat(1100), "{name}"),
                "from-4.0.0" => assert_eq!(decode_query(&bytes), Err(Error::Crc(Version::V4))),
                _ => panic!("what is in {name}?"),
            }
            count += 1;
        }
        assert_eq!(count, 15);
    }
}
