//! What a kernel says of itself: the running one in `/proc`, and an x86 one in its image.
//!
//! The *build* is the text from `#` on (`UTS_VERSION`): `#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2026-05-08)`. It tells
//! two builds apart that bear the same release.

/// Where the boot header says that the text is (Documentation/arch/x86/boot.rst): an offset less 0x200, little-endian.
const TEXT_AT: usize = 0x20e;
/// As many bytes of an image as are looked at: the offset has 16 bits.
pub const IMAGE_HEAD: u64 = 0x1_0000 + 0x200 + LONGEST_TEXT;
const LONGEST_TEXT: u64 = 512;

/// Release and build of one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banner {
    /// As `uname -r`.
    pub release: String,
    /// As `uname -v`, from `#` on; empty when there is none.
    pub build: String,
}

/// The banner in `/proc/version`: `Linux version RELEASE (who@where) (compiler) BUILD`.
pub fn proc_version(bytes: &[u8]) -> Option<Banner> {
    banner(std::str::from_utf8(bytes).ok()?.trim_end().strip_prefix("Linux version ")?)
}

/// The banner in the first bytes of an x86 image (`bzImage`); `None` for any other file.
pub fn image(head: &[u8]) -> Option<Banner> {
    let bytes = |at: usize, length: usize| head.get(at..at.checked_add(length)?);
    let word = |at: usize| Some(u16::from_le_bytes(bytes(at, 2)?.try_into().ok()?));
    if word(0x1fe)? != 0xaa55 || bytes(0x202, 4)? != b"HdrS" || word(0x206)? < 0x200 {
        return None;
    }
    let offset = usize::from(word(TEXT_AT).filter(|offset| *offset != 0)?);
    let text = head.get(offset.checked_add(0x200)?..)?;
    let text = text.get(..usize::try_from(LONGEST_TEXT).ok()?).unwrap_or(text);
    let text = text.split(|byte| *byte == 0).next()?;
    banner(std::str::from_utf8(text).ok()?)
}

fn banner(text: &str) -> Option<Banner> {
    let (release, rest) = text.split_once(' ').unwrap_or((text, ""));
    if release.is_empty() || text.chars().any(char::is_control) {
        return None;
    }
    // The compiler's name stands in parentheses and may itself hold a '#'.
    let build = rest.find(") #").and_then(|at| rest.get(at.checked_add(2)?..)).unwrap_or_default();
    Some(Banner { release: release.to_owned(), build: build.to_owned() })
}

/// The time of the boot in `/proc/stat` (`btime`), in seconds since 1970.
pub fn boot_second(stat: &[u8]) -> Option<i64> {
    let line = stat.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"btime "))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok().filter(|second| *second > 0)
}

/// For the fuzzer: nothing panics, and what is found was there.
pub fn fuzz(data: &[u8]) {
    for found in [proc_version(data), image(data)].into_iter().flatten() {
        let text = String::from_utf8_lossy(data);
        assert!(text.contains(&found.release) && text.contains(&found.build));
    }
    let _ = boot_second(data);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn pair(banner: Option<Banner>) -> Option<(String, String)> {
        banner.map(|b| (b.release, b.build))
    }

    /// A boot header with its text at `at`.
    fn header(at: u16, text: &[u8]) -> Vec<u8> {
        let mut image = vec![0; usize::from(at) + 0x200];
        image.resize(image.len().max(0x220), 0);
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
        image[TEXT_AT..TEXT_AT + 2].copy_from_slice(&at.to_le_bytes());
        image.truncate(usize::from(at) + 0x200);
        image.extend(text);
        image
    }

    #[test]
    fn proc_version_cases() {
        for (text, release, build) in [
            (
                "Linux version 6.1.0-45-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld) \
                 #1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2026-05-08)\n",
                "6.1.0-45-amd64",
                "#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2026-05-08)",
            ),
            ("Linux version 6.8.0 (b@h) (gcc) #45~22.04.1-Ubuntu SMP\n", "6.8.0", "#45~22.04.1-Ubuntu SMP"),
            ("Linux version 6.8.0", "6.8.0", ""),
        ] {
            assert_eq!(pair(proc_version(text.as_bytes())), Some((release.into(), build.into())));
        }
        for bytes in [&b""[..], b"Linux version ", b"FreeBSD 14", b"Linux version 6.8\x00 (b@h) #1", b"\xff\xfe"] {
            assert_eq!(proc_version(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn image_cases() {
        let text = b"6.1.0-56-cloud-amd64 (d@d) #1 SMP Debian 6.1.192-2 (2026-11-16)\0rest";
        let want = Some(("6.1.0-56-cloud-amd64".into(), "#1 SMP Debian 6.1.192-2 (2026-11-16)".into()));
        assert_eq!(pair(image(&header(0x100, text))), want);
        assert_eq!(pair(image(&header(0xffff, text))), want);
        for bad in [header(0, text), header(0x100, b""), header(0x100, b"\x01\x02\0"), vec![0; 0x300], vec![]] {
            assert_eq!(image(&bad), None);
        }
        let mut old = header(0x100, text);
        old[0x207] = 1;
        assert_eq!(image(&old), None);
    }

    #[test]
    fn boot_second_cases() {
        for (text, second) in [
            ("cpu 1 2\nbtime 1763000000\nprocesses 1\n", Some(1_763_000_000)),
            ("btime 1763000000", Some(1_763_000_000)),
            ("btime x", None),
            ("btime 0", None),
            ("btime 99999999999999999999", None),
            ("xbtime 1", None),
            ("", None),
        ] {
            assert_eq!(boot_second(text.as_bytes()), second, "{text}");
        }
    }

    #[test]
    fn every_prefix() {
        let image = header(0x100, b"6.1.0-56-cloud-amd64 (d@d) #1 SMP\0");
        let version = b"Linux version 6.8.0 (b@h) (gcc) #45 SMP\nbtime 1763000000\n";
        for sample in [&image[..], version] {
            for end in 0..=sample.len() {
                fuzz(&sample[..end]);
            }
        }
    }
}
