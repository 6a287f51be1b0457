//! What is inside a reboot flag and the list of packages beside it.
//!
//! The flag's own text is localised prose ("*** System restart required ***") and means nothing; only the level words of
//! openSUSE's zypp-boot-plugin do. The list has one package a line (Debian policy 9.12: without duplicates; the hooks in
//! use append all the same).

/// How much of a restart is enough (zypp-boot-plugin).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Through the firmware.
    Reboot,
    /// A new kernel, without the firmware.
    Kexec,
    /// Of user space only: `systemctl soft-reboot`.
    SoftReboot,
}

impl Level {
    /// The word in the flag.
    pub fn word(self) -> &'static str {
        match self {
            Level::Reboot => "reboot",
            Level::Kexec => "kexec",
            Level::SoftReboot => "soft-reboot",
        }
    }
}

/// The level in a flag that holds nothing but one.
pub fn level(bytes: &[u8]) -> Option<Level> {
    let word = bytes.trim_ascii();
    [Level::Reboot, Level::Kexec, Level::SoftReboot].into_iter().find(|level| level.word().as_bytes() == word)
}

/// The distinct lines of a package list, in their order. What is not UTF-8 is replaced; control characters stay. `None`
/// for a file with a zero byte: it is no list of anything.
pub fn packages(bytes: &[u8]) -> Option<Vec<String>> {
    if bytes.contains(&0) {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    let mut seen = std::collections::HashSet::new();
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty() && seen.insert(*name));
    Some(names.map(str::to_owned).collect())
}

/// For the fuzzer: names are distinct, not empty and on one line.
pub fn fuzz(data: &[u8]) {
    let _ = level(data);
    if let Some(names) = packages(data) {
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.iter().all(|name| !name.is_empty() && !name.contains('\n')));
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        for (text, want) in [
            ("reboot", Some(Level::Reboot)),
            ("kexec\n", Some(Level::Kexec)),
            (" soft-reboot \n", Some(Level::SoftReboot)),
            ("", None),
            ("*** System restart required ***\n", None),
            ("*** Neustart des Systems erforderlich ***\n", None),
            ("reboot now", None),
            ("Kexec", None),
        ] {
            assert_eq!(level(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn package_lists() {
        for (text, want) in [
            ("linux-base\nlibc6\nlinux-base\n\n linux-base \r\n", Some(vec!["linux-base", "libc6"])),
            ("libc6", Some(vec!["libc6"])),
            ("li\u{1b}[31mbc6\n", Some(vec!["li\u{1b}[31mbc6"])),
            ("\n\n", Some(vec![])),
            ("", Some(vec![])),
            ("\u{7f}ELF\0\u{1}", None),
        ] {
            let want = want.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(packages(text.as_bytes()), want, "{text:?}");
        }
        assert_eq!(packages(b"a\xff\n"), Some(vec!["a\u{fffd}".to_owned()]));
    }

    #[test]
    fn every_prefix() {
        for sample in ["soft-reboot\n", "linux-image-6.8.0-47-generic\nlinux-base\nlinux-base\nlibc6\n"] {
            for end in 0..=sample.len() {
                fuzz(&sample.as_bytes()[..end]);
            }
        }
    }
}
