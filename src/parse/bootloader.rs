//! What the boot loaders keep in files: BLS entries, `loader.conf`, GRUB's environment block and its defaults.

/// One entry of the Boot Loader Specification (`loader/entries/*.conf`), as far as it names a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// `version`: the release on Fedora and RHEL, a number with ostree, a sentence on NixOS; empty where missing.
    pub version: String,
    /// `linux`: the image, from the top of the file system that holds the entry; empty where missing.
    pub linux: String,
}

/// Reads an entry: lines of a key, blanks and a value; `#` begins a comment. The first line with a key counts.
pub fn entry(bytes: &[u8]) -> Entry {
    let text = String::from_utf8_lossy(bytes);
    let of = |key| value(&text, key).unwrap_or_default().to_owned();
    Entry { version: of("version"), linux: of("linux") }
}

/// The `default` in systemd-boot's `loader.conf`: an entry's file name, often a pattern.
pub fn loader_default(bytes: &[u8]) -> Option<String> {
    value(&String::from_utf8_lossy(bytes), "default").map(str::to_owned)
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.trim().split_once([' ', '\t'])?;
        (name == key).then_some(value.trim())
    })
}

/// What GRUB's environment block says of the next boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrubEnv {
    /// `next_entry`: for one boot only (`grub-reboot`).
    pub next: Option<String>,
    /// `saved_entry`: the default while `GRUB_DEFAULT` is `saved`.
    pub saved: Option<String>,
}

/// Reads an environment block: a header line, `key=value` lines with `\` before a newline or a `\` in a value, padding.
pub fn grub_env(bytes: &[u8]) -> Option<GrubEnv> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix("# GRUB Environment Block\n")?;
    let of = |key: &str| {
        let found = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).next_back()?;
        Some(found.replace("\\\\", "\\")).filter(|value| !value.is_empty())
    };
    Some(GrubEnv { next: of("next_entry"), saved: of("saved_entry") })
}

/// What `GRUB_DEFAULT` is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrubDefault {
    /// `saved`, a menu position, an id or a title; `0` for an empty one, as grub-mkconfig takes it.
    Value(String),
    /// What only a shell could tell.
    Shell,
}

/// `GRUB_DEFAULT` in `/etc/default/grub` and its like; the last assignment counts. `None` where there is none.
pub fn grub_default(bytes: &[u8]) -> Option<GrubDefault> {
    let text = String::from_utf8_lossy(bytes);
    let mut assigned = text.lines().filter_map(|line| {
        let line = line.trim();
        line.strip_prefix("export ").unwrap_or(line).trim_start().strip_prefix("GRUB_DEFAULT=")
    });
    let value = assigned.next_back()?;
    let value = match value.strip_prefix(['"', '\'']) {
        Some(rest) => rest.split(['"', '\'']).next()?,
        None => value.split([' ', '\t', ';', '#']).next()?,
    };
    Some(match value {
        "" => GrubDefault::Value("0".to_owned()),
        value if value.contains(['$', '`', '\\']) => GrubDefault::Shell,
        value => GrubDefault::Value(value.to_owned()),
    })
}

/// For the fuzzer: nothing panics, and no value holds a line's end.
pub fn fuzz(data: &[u8]) {
    let Entry { version, linux } = entry(data);
    let env = grub_env(data).unwrap_or_default();
    let default = match grub_default(data) {
        Some(GrubDefault::Value(value)) => Some(value),
        _ => None,
    };
    let found = [Some(version), Some(linux), loader_default(data), env.next, env.saved, default];
    assert!(found.into_iter().flatten().all(|value| !value.contains('\n')));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const RHEL: &str = "title Red Hat Enterprise Linux (5.14.0-427.20.1.el9_4.x86_64) 9.4 (Plow)\n\
        version 5.14.0-427.20.1.el9_4.x86_64\n\
        linux /vmlinuz-5.14.0-427.20.1.el9_4.x86_64\n\
        initrd /initramfs-5.14.0-427.20.1.el9_4.x86_64.img $tuned_initrd\n\
        options root=/dev/mapper/rhel-root ro\n\
        grub_users $grub_users\n";

    #[test]
    fn entries() {
        for (text, version, linux) in [
            (RHEL, "5.14.0-427.20.1.el9_4.x86_64", "/vmlinuz-5.14.0-427.20.1.el9_4.x86_64"),
            ("version\t6.1.0\r\nlinux  /a b \n", "6.1.0", "/a b"),
            ("# version 6.1.0\n  linux /x\nlinux /y\n", "", "/x"),
            ("versions 1\nlinux\n", "", ""),
            ("\0\u{1}\u{2}", "", ""),
            ("", "", ""),
        ] {
            assert_eq!(entry(text.as_bytes()), Entry { version: version.into(), linux: linux.into() }, "{text:?}");
        }
    }

    #[test]
    fn loader_defaults() {
        assert_eq!(
            loader_default(b"timeout 3\ndefault *-6.1.0-44-amd64.conf\n").as_deref(),
            Some("*-6.1.0-44-amd64.conf")
        );
        assert_eq!(loader_default(b"#default x\ntimeout 3\n"), None);
    }

    #[test]
    fn environment_blocks() {
        let block = |body: &str| grub_env(format!("# GRUB Environment Block\n{body}##########").as_bytes());
        let env = block("saved_entry=1f-5.14.0\nnext_entry=\nboot_success=1\n").unwrap();
        assert_eq!((env.next.as_deref(), env.saved.as_deref()), (None, Some("1f-5.14.0")));
        assert_eq!(block("next_entry=a\\\\b\n").unwrap().next.as_deref(), Some("a\\b"));
        assert_eq!(block("xsaved_entry=1\n"), Some(GrubEnv::default()));
        assert_eq!(grub_env(b"saved_entry=1\n"), None);
        assert_eq!(grub_env(b""), None);
    }

    #[test]
    fn grub_defaults() {
        for (text, value) in [
            ("GRUB_DEFAULT=0\n", Some("0")),
            ("GRUB_DEFAULT=saved # the last one\n", Some("saved")),
            ("GRUB_DEFAULT=\"1>2\"\n", Some("1>2")),
            (
                "GRUB_DEFAULT=0\nGRUB_DEFAULT='Ubuntu, with Linux 6.8.0-45-generic'\n",
                Some("Ubuntu, with Linux 6.8.0-45-generic"),
            ),
            ("export GRUB_DEFAULT=saved", Some("saved")),
            ("#GRUB_DEFAULT=saved\nGRUB_DEFAULT_X=1\n", None),
            ("GRUB_DEFAULT=1\nGRUB_DEFAULT=\n", Some("0")),
        ] {
            let value = value.map(|value| GrubDefault::Value(value.to_owned()));
            assert_eq!(grub_default(text.as_bytes()), value, "{text:?}");
        }
        assert_eq!(grub_default(b"GRUB_DEFAULT=saved\nGRUB_DEFAULT=\"$(x)\"\n"), Some(GrubDefault::Shell));
    }

    #[test]
    fn every_prefix() {
        let env = "# GRUB Environment Block\nsaved_entry=1f-5.14.0\nnext_entry=x\n####";
        for sample in [RHEL, env, "default x\nGRUB_DEFAULT=\"a b\"\n"] {
            for end in 0..=sample.len() {
                fuzz(&sample.as_bytes()[..end]);
            }
        }
    }
}
