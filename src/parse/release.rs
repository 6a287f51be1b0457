//! Kernel releases (`uname -r`): which of two is newer, and whether they are of one flavour.
//!
//! A release is a version and a flavour run together, and every distribution does it in its own way:
//!
//! | release                          | version            | flavour         |
//! |----------------------------------|--------------------|-----------------|
//! | `6.8.0-45-generic`               | 6 8 0 45           | `generic`       |
//! | `6.12.74+deb13+1-cloud-amd64`    | 6 12 74 deb 13 1   | `cloud amd64`   |
//! | `5.14.0-427.13.1.el9_4.x86_64`   | 5 14 0 427 13 1 .. | `x86_64`        |
//! | `6.12.0-160000.9-default`        | 6 12 0 160000 9    | `default`       |
//! | `6.6.51+rpt-rpi-2712`            | 6 6 51             | `rpi 2712`      |
//! | `6.16.4-arch1-1`                 | 6 16 4 arch 1 1    | `arch`          |
//!
//! Numbers compare as numbers (6.8.0-100 is newer than 6.8.0-31) and a number is newer than a word, as rpm has it.
use std::cmp::Ordering;

/// `struct new_utsname` has room for 64 bytes.
const LONGEST: usize = 64;
/// What is installed as an image with its release in its name. SUSE has `Image-` on aarch64, `image-` on s390x and
/// `zImage-` on armv7; Debian has `vmlinux-` on ppc64el.
const IMAGE_PREFIXES: [&str; 5] = ["vmlinuz-", "vmlinux-", "Image-", "image-", "zImage-"];
/// Tags of a distribution's release or build that carry a counter and say nothing about the flavour.
const DIST_TAGS: [&str; 11] = ["el", "fc", "amzn", "deb", "bpo", "rc", "lp", "azl", "cm", "ph", "rpi"];
/// Processor names that end in digits which are no counter; so are all that end in 64.
const PROCESSORS: [&str; 9] = ["i386", "i486", "i586", "i686", "s390", "sh4", "v6", "v7", "v8"];

/// One step of a version. The order of the variants is the order of age: `6.12-rc1` < `6.12` < `6.12.arch1` < `6.12.1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Candidate,
    End,
    Word(String),
    /// How many digits (without leading zeros), then the digits: no number is too large.
    Number(usize, String),
}

/// A kernel release, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    text: String,
    version: Vec<Part>,
    flavour: Vec<String>,
}

impl Release {
    /// Takes a release apart; `None` for what can't be one: it begins with a digit, has a dot, at most 64 bytes of
    /// `[A-Za-z0-9._+~-]`, and is no rescue image's.
    pub fn parse(text: &str) -> Option<Release> {
        let fits = (1..=LONGEST).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_digit());
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+~-".contains(&b);
        if !fits || !text.contains('.') || !text.bytes().all(plain) || text.ends_with('~') {
            return None;
        }
        let mut release = Release { text: text.to_owned(), version: Vec::new(), flavour: Vec::new() };
        let mut in_flavour = false;
        for token in text.split(['-', '.', '+', '~']).filter(|token| !token.is_empty()) {
            if token == "rescue" {
                return None;
            }
            in_flavour = release.take(token, in_flavour);
        }
        release.version.push(Part::End);
        Some(release)
    }

    /// Adds one token to the version, to the flavour or to both; returns whether what follows belongs to the flavour.
    fn take(&mut self, token: &str, in_flavour: bool) -> bool {
        let letters: &str = token.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        let counter = token.strip_prefix(letters).unwrap_or_default();
        let word = !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_alphabetic());
        // `deb13a` is the second ABI of `deb13`.
        let debian = token.strip_prefix("deb").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if letters.is_empty() && !in_flavour {
            self.version.push(number(token));
        } else if is_commit(token) || token == "rpt" || token == "bpo" {
            // A commit has no order; the others are Raspberry Pi's and Debian's marks without a counter.
        } else if debian || (word && !counter.is_empty() && DIST_TAGS.contains(&letters)) {
            self.count(token);
        } else if word && !counter.is_empty() && !counter.ends_with("64") && !PROCESSORS.contains(&token) {
            self.flavour.push(letters.to_owned());
            self.count(token);
        } else {
            self.flavour.push(token.to_owned());
            return true;
        }
        in_flavour
    }

    /// Adds the runs of letters and of digits to the version.
    fn count(&mut self, token: &str) {
        let mut rest = token;
        while let Some(first) = rest.chars().next() {
            let is_digit = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(rest.len());
            let (run, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            rest = after;
            match run {
                "rc" => self.version.push(Part::Candidate),
                "_" => {}
                run if is_digit => self.version.push(number(run)),
                run => self.version.push(Part::Word(run.to_owned())),
            }
        }
    }

    /// The release as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether both are of one line of kernels: one can be an update of the other.
    pub fn same_flavour(&self, other: &Release) -> bool {
        self.flavour == other.flavour
    }

    /// Whether this one is a later version. Means nothing for two flavours.
    pub fn newer_than(&self, other: &Release) -> bool {
        self.order(other) == Ordering::Greater
    }

    /// The order of age; releases that differ in their flavour only are equal.
    pub fn order(&self, other: &Release) -> Ordering {
        self.version.cmp(&other.version)
    }

    /// Whether a boot loader's text (an entry's id, title or file name) names this release, and not one that merely
    /// begins or ends like it.
    pub fn is_named_in(&self, text: &str) -> bool {
        let inside = |c: char| c.is_ascii_alphanumeric() || "._+~".contains(c);
        text.match_indices(&self.text).any(|(at, found)| {
            let (before, rest) = text.split_at_checked(at).unwrap_or_default();
            let after = rest.strip_prefix(found).unwrap_or_default();
            // A file name goes on with ".conf".
            let after = after.strip_suffix(".conf").unwrap_or(after);
            !before.ends_with(inside) && !after.starts_with(inside)
        })
    }
}

/// The release in the name of a kernel image in `/boot`; `None` for other files, and for a name that has none
/// (`vmlinuz-linux`).
pub fn of_image_name(name: &str) -> Option<Release> {
    Release::parse(image_suffix(name)?)
}

/// What follows `vmlinuz-` and its like in a file name.
pub fn image_suffix(name: &str) -> Option<&str> {
    IMAGE_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))
}

/// The release in the file name of a boot entry: `TOKEN-RELEASE.conf` (kernel-install, RHEL) or `RELEASE.conf`, with the
/// tries of systemd-boot (`+2-1`) before the dot. `None` for a name that has none.
pub fn of_entry_name(name: &str) -> Option<Release> {
    let stem = name.strip_suffix(".conf")?;
    let tries = |text: &str| text.split('-').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let stem = stem.rsplit_once('+').filter(|(_, end)| tries(end)).map_or(stem, |(start, _)| start);
    match stem.split_once('-') {
        // A token (a machine's id, "fedora") has no dot.
        Some((token, rest)) if !token.contains('.') => Release::parse(rest),
        _ => Release::parse(stem),
    }
}

/// `g` and an abbreviated commit, as `git describe` puts it into the release of a kernel that was built by hand.
fn is_commit(token: &str) -> bool {
    token.strip_prefix('g').is_some_and(|hex| hex.len() >= 7 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn number(digits: &str) -> Part {
    let digits = digits.trim_start_matches('0');
    Part::Number(digits.len(), digits.to_owned())
}

/// For the fuzzer: asserts what holds for any bytes, taken as two releases at the first newline.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (one, two) = text.split_once('\n').unwrap_or((&text, &text));
    let _ = (of_image_name(one), of_entry_name(one));
    if let Some(a) = Release::parse(one) {
        assert!(a.text() == one && a.same_flavour(&a) && !a.newer_than(&a) && a.is_named_in(one));
        if let Some(b) = Release::parse(two) {
            assert!(a.order(&b) == b.order(&a).reverse());
            let _ = a.is_named_in(b.text());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap_or_else(|| panic!("{text} is not taken as a release"))
    }

    #[test]
    fn older_and_newer_of_one_flavour() {
        for (older, newer) in [
            ("6.8.0-31-generic", "6.8.0-100-generic"),
            ("5.15.0-130-generic", "6.8.0-45-generic"),
            ("6.8.0-1005-raspi", "6.8.0-1010-raspi"),
            ("6.8.0-45-lowlatency", "6.8.0-47-lowlatency"),
            ("6.5.0-1024-azure-fde", "6.8.0-1001-azure-fde"),
            ("6.8.0-45-generic-64k", "6.8.0-47-generic-64k"),
            ("6.1.0-9-amd64", "6.1.0-45-amd64"),
            ("6.1.0-0.deb11.21-amd64", "6.1.0-1-amd64"),
            ("5.10.0-0.bpo.3-amd64", "5.10.0-0.bpo.15-amd64"),
            ("6.1.0-45-amd64", "6.12.74+deb13+1-amd64"),
            ("6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64"),
            ("6.12.9+bpo-amd64", "6.12.57+deb13-amd64"),
            ("6.12.57+deb13-amd64", "6.12.74+deb13-amd64"),
            ("6.12.74+deb13-amd64", "6.12.74+deb13+1-amd64"),
            ("6.12.74+deb13-amd64", "6.12.74+deb13a-amd64"),
            ("6.1.0-44-686-pae", "6.1.0-45-686-pae"),
            ("6.12.0-160000.9-default", "6.12.0-160000.10-default"),
            ("5.3.18-lp152.102-default", "5.14.21-150500.55.19-default"),
            ("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.20.1.el9_4.x86_64"),
            ("5.14.0-427.el9.x86_64", "5.14.0-427.13.1.el9_4.x86_64"),
            ("5.14.0-427.20.1.el9_4.x86_64", "5.14.0-503.14.1.el9_5.x86_64"),
            ("5.14.0-70.13.1.rt21.83.el9_0.x86_64", "5.14.0-70.22.1.rt21.94.el9_0.x86_64"),
            ("5.14.0-427.13.1.el9_4.x86_64+rt", "5.14.0-427.20.1.el9_4.x86_64+rt"),
            ("5.15.0-206.153.7.el9uek.x86_64", "5.15.0-300.163.18.el9uek.x86_64"),
            ("6.1.112-122.189.amzn2023.x86_64", "6.1.115-126.197.amzn2023.x86_64"),
            ("6.11.4-301.fc41.x86_64", "6.12.4-100.fc42.x86_64"),
            ("6.12.0-0.rc1.17.fc42.aarch64", "6.12.0-30.fc42.aarch64"),
            ("6.17.13-7-pve", "7.0.2-2-pve"),
            ("6.6.51+rpt-rpi-2712", "6.12.25+rpt-rpi-2712"),
            ("6.1.0-rpi4-rpi-v8", "6.6.31+rpt-rpi-v8"),
            ("5.4.79-v7l+", "5.4.83-v7l+"),
            ("6.16.4-arch1-1", "6.16.4-arch2-1"),
            ("6.16-arch2-1", "6.16.1-arch1-1"),
            ("6.12.44-1-lts", "6.12.45-1-lts"),
            ("6.11.2-x64v3-xanmod1", "6.11.10-x64v3-xanmod1"),
            ("6.12-rc7-amd64", "6.12-amd64"),
            ("6.6.57", "6.6.58"),
            ("6.6.9+", "6.6.10+"),
            ("6.8.0-rc2-00123-g0123abc", "6.8.0-rc3-00001-gfedcba987654"),
        ] {
            let (a, b) = (release(older), release(newer));
            assert!(b.newer_than(&a) && !a.newer_than(&b), "{newer} must be newer than {older}");
            assert!(a.same_flavour(&b), "{older} and {newer} are of one flavour: {a:?} {b:?}");
        }
    }

    #[test]
    fn other_flavours() {
        for (a, b) in [
            ("6.8.0-45-generic", "6.8.0-47-lowlatency"),
            ("6.8.0-45-generic", "6.8.0-47-generic-64k"),
            ("6.1.0-45-amd64", "6.1.0-46-cloud-amd64"),
            ("6.1.0-45-amd64", "6.1.0-46-rt-amd64"),
            ("6.1.0-45-amd64", "6.1.0-46-arm64"),
            ("6.12.0-160000.9-default", "6.12.0-160000.10-preempt"),
            ("6.6.51+rpt-rpi-2712", "6.6.62+rpt-rpi-v8"),
            ("6.6.51+rpt-rpi-v7", "6.6.62+rpt-rpi-v8"),
            ("5.4.79-v7l+", "5.4.83-v8+"),
            ("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.20.1.el9_4.x86_64+rt"),
            ("5.14.0-427.13.1.el9_4.x86_64", "5.15.0-206.153.7.el9uek.x86_64"),
            ("5.14.0-427.13.1.el9_4.x86_64", "6.11.3-1.el9.elrepo.x86_64"),
            ("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.20.1.el9_4.x86_64.debug"),
            ("6.16.4-arch1-1", "6.16.5-zen1-1-zen"),
            ("4.13.0-38-generic", "4.15.0-15.1-liquorix-amd64"),
            ("6.8.0-45-generic", "6.8.0-47-generic.old"),
            ("6.8.0-45-generic", "6.8.0-47-generic.dpkg-new"),
            ("6.6.58", "6.6.59.old"),
            ("6.18.44-fc-v509", "6.18.45-cloud-amd64"),
        ] {
            assert!(!release(a).same_flavour(&release(b)), "{a} and {b} are of two flavours");
        }
    }

    #[test]
    fn image_names() {
        let of = |name: &str| of_image_name(name).map(|r| r.text().to_owned());
        for name in ["vmlinuz-6.1.0-45-amd64", "vmlinux-6.1.0-45-amd64", "Image-6.1.0-45-amd64"] {
            assert_eq!(of(name).as_deref(), Some("6.1.0-45-amd64"));
        }
        for name in [
            "vmlinuz",
            "vmlinuz-",
            "vmlinuz-linux",
            "vmlinuz.old",
            "vmlinuz-0-rescue-0123456789abcdef0123456789abcdef",
            "vmlinuz-5.14.0-rescue-0123",
            "initrd.img-6.1.0-45-amd64",
            "initramfs-6.1.0-45-amd64.img",
            "System.map-6.1.0-45-amd64",
            "config-6.1.0-45-amd64",
            ".vmlinuz-5.14.0-427.13.1.el9_4.x86_64.hmac",
            "vmlinuz-6.1.0\n-45-amd64",
            "vmlinuz-6.1.0-45-amd64~",
            "vmlinuz-../../etc/passwd",
        ] {
            assert_eq!(of(name), None, "{name:?}");
        }
    }

    #[test]
    fn entry_names() {
        for (name, want) in [
            ("0123456789abcdef0123456789abcdef-5.14.0-427.el9.x86_64.conf", Some("5.14.0-427.el9.x86_64")),
            ("0123456789abcdef0123456789abcdef-6.11.3-200.fc40.x86_64+3-1.conf", Some("6.11.3-200.fc40.x86_64")),
            ("fedora-6.11.3-200.fc40.x86_64+3.conf", Some("6.11.3-200.fc40.x86_64")),
            ("6.12.74+deb13+1-amd64.conf", Some("6.12.74+deb13+1-amd64")),
            ("0123456789abcdef0123456789abcdef-0-rescue.conf", None),
            ("ostree-2-fedora.conf", None),
            ("arch.conf", None),
            ("m-6.1.0-45-amd64", None),
            (".conf", None),
        ] {
            assert_eq!(of_entry_name(name).as_ref().map(Release::text), want, "{name}");
        }
    }

    #[test]
    fn what_a_boot_loader_names() {
        for (release_text, text, named) in [
            ("6.8.0-45-generic", "gnulinux-advanced-1f>gnulinux-6.8.0-45-generic-advanced-1f", true),
            ("6.8.0-45-generic", "Advanced options for Ubuntu>Ubuntu, with Linux 6.8.0-45-generic", true),
            ("6.8.0-45-generic", "Debian, with Linux 6.8.0-45-generic (recovery mode)", true),
            ("6.8.0-4-generic", "Ubuntu, with Linux 6.8.0-45-generic", false),
            ("6.8.0-45-generic", "Ubuntu, with Linux 16.8.0-45-generic", false),
            ("5.14.0-427.el9.x86_64", "1f-5.14.0-427.el9.x86_64", true),
            ("5.14.0-427.el9.x86_64", "1f-5.14.0-427.el9.x86_64.conf", true),
            ("5.14.0-427.el9.x86_64", "1f-5.14.0-427.el9.x86_64+rt", false),
            ("6.8.0-45-generic", "0", false),
            ("6.8.0-45-generic", "gnulinux-simple-1f", false),
        ] {
            assert_eq!(release(release_text).is_named_in(text), named, "{release_text} in {text}");
        }
    }

    #[test]
    fn no_release() {
        for text in
            ["", "6", "generic", "-6.1", "6.1 0", "6.1/0", "6.1.0\n", "6.1.0-ä", &format!("6.{}", "1".repeat(63))]
        {
            assert_eq!(Release::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_prefix() {
        let sample = "6.12.74+deb13+1-cloud-amd64\n5.14.0-427.13.1.el9_4.x86_64+rt";
        for end in 0..=sample.len() {
            fuzz(&sample.as_bytes()[..end]);
        }
    }
}
