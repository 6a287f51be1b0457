//! Payloads that are compressed (`compress.c`): journald compresses a field from 512 bytes on.

use ruzstd::decoding::FrameDecoder;

use super::{Fault, length, u64_at};

/// The flags of an object.
const XZ: u8 = 1;
const LZ4: u8 = 2;
const ZSTD: u8 = 4;

/// A longer field is not read: journald itself cuts lines at 48 KiB.
pub(super) const LARGEST: usize = 1 << 20;
/// journald gives its frames windows as large as their content; a decoder allocates a window before it reads.
const WINDOW: u64 = 8 << 20;

/// How the payload of an object is kept.
pub(super) enum Form {
    Plain,
    Lz4,
    Zstd,
    Xz,
    Other,
}

impl Form {
    pub(super) fn of(flags: u8) -> Form {
        match flags & (XZ | LZ4 | ZSTD) {
            0 => Form::Plain,
            LZ4 => Form::Lz4,
            ZSTD => Form::Zstd,
            XZ => Form::Xz,
            _ => Form::Other,
        }
    }
}

/// What remains between one payload and the next.
#[derive(Default)]
pub(super) struct Decoder {
    zstd: Option<Box<FrameDecoder>>,
    /// What came out last.
    pub(super) plain: Vec<u8>,
}

impl Decoder {
    /// Decompresses the payload of the object at `at` into `plain`.
    pub(super) fn decode(&mut self, at: u64, form: &Form, bytes: &[u8]) -> Result<(), Fault> {
        self.plain.clear();
        match form {
            Form::Plain => {
                self.plain.extend_from_slice(bytes);
                Ok(())
            }
            Form::Lz4 => self.lz4(at, bytes),
            Form::Zstd => self.zstd(at, bytes),
            Form::Xz => Err(Fault::Unread { at, why: "it is compressed with XZ" }),
            Form::Other => Err(Fault::damaged(at, "is compressed in several ways")),
        }
    }

    /// The size, and one block.
    fn lz4(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let damaged = || Fault::damaged(at, "is no LZ4");
        let size = u64_at(bytes, 0).ok_or_else(damaged)?;
        self.make_room(at, size)?;
        let block = bytes.get(8..).ok_or_else(damaged)?;
        match lz4_flex::block::decompress_into(block, &mut self.plain) {
            Ok(count) if count == self.plain.len() => Ok(()),
            _ => Err(damaged()),
        }
    }

    /// One frame, which tells its size.
    fn zstd(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let damaged = || Fault::damaged(at, "is no ZSTD");
        let mut zstd = self.zstd.take().unwrap_or_else(|| {
            let mut new = FrameDecoder::new();
            new.set_max_window_size(WINDOW);
            Box::new(new)
        });
        zstd.reset(bytes).map_err(|_| damaged())?;
        self.make_room(at, zstd.content_size())?;
        let count = zstd.decode_all(bytes, &mut self.plain).map_err(|_| damaged())?;
        // After an error another one begins from nothing.
        self.zstd = Some(zstd);
        if count == self.plain.len() { Ok(()) } else { Err(damaged()) }
    }

    fn make_room(&mut self, at: u64, size: u64) -> Result<(), Fault> {
        match length(size) {
            0 => Err(Fault::damaged(at, "is nothing, compressed")),
            size if size > LARGEST => Err(Fault::Unread { at, why: "it is larger than 1 MiB" }),
            size => {
                self.plain.resize(size, 0);
                Ok(())
            }
        }
    }
}

/// Both decoders on any bytes, twice: what one payload leaves behind must not spoil the next.
pub(super) fn fuzz(data: &[u8]) {
    let mut decoder = Decoder::default();
    for form in [Form::Lz4, Form::Zstd] {
        let once = decoder.decode(0, &form, data).is_ok().then(|| decoder.plain.clone());
        let again = decoder.decode(0, &form, data).is_ok().then(|| decoder.plain.clone());
        assert_eq!(once, again);
        assert!(again.is_none_or(|plain| plain.len() <= LARGEST));
    }
}
