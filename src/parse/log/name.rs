//! What rotation makes of a file's name.
//!
//! - The kubelet (`pkg/kubelet/logs/container_log_manager.go`): `0.log`, `0.log.20261121-101500`, and the older of those
//!   with `.gz`, which are `.tmp` first.
//! - lumberjack, which k3s and RKE2 use: `containerd.log`, `containerd-2026-11-20T10-00-00.000.log`, with `.gz` in the end.

/// How old a file is among those of its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// It was put aside at this time, written so that a later one is greater.
    Rotated(String),
    /// It is written to.
    Current,
}

/// The name of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// What it is called while it is written to.
    pub base: String,
    /// How old it is.
    pub age: Age,
    /// Whether it is packed by gzip.
    pub is_packed: bool,
}

impl Name {
    /// Reads the name of a file; `None` for one that is still made.
    pub fn parse(name: &str) -> Option<Name> {
        if name.ends_with(".tmp") {
            return None;
        }
        let (plain, is_packed) = name.strip_suffix(".gz").map_or((name, false), |plain| (plain, true));
        let (base, age) = match of_kubelet(plain).or_else(|| of_lumberjack(plain)) {
            Some((base, age)) => (base, Age::Rotated(age.to_owned())),
            // Packed by somebody else: it has no place among others.
            None => (name.to_owned(), Age::Current),
        };
        Some(Name { base, age, is_packed })
    }
}

fn of_kubelet(name: &str) -> Option<(String, &str)> {
    let (base, age) = name.rsplit_once('.')?;
    (!base.is_empty() && has_form(age, "00000000-000000")).then(|| (base.to_owned(), age))
}

fn of_lumberjack(name: &str) -> Option<(String, &str)> {
    const FORM: &str = "0000-00-00T00-00-00.000";
    // The last dot may be that of the time, in a file that has no extension.
    let of = |rest: &'_ str, extension: &str| -> Option<(String, usize)> {
        let at = rest.len().checked_sub(FORM.len())?;
        let base = rest.get(..at)?.strip_suffix('-')?;
        has_form(rest.get(at..)?, FORM).then(|| (format!("{base}{extension}"), at))
    };
    let (base, at) = match name.rfind('.').and_then(|dot| of(name.get(..dot)?, name.get(dot..)?)) {
        Some(found) => found,
        None => of(name, "")?,
    };
    Some((base, name.get(at..at.checked_add(FORM.len())?)?))
}

/// Whether it has digits where the form has zeros, and the same elsewhere.
fn has_form(text: &str, form: &str) -> bool {
    let fits = |(byte, form): (u8, u8)| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, base, age, is_packed) in [
            ("0.log", "0.log", "", false),
            ("12.log.20261121-101500", "12.log", "20261121-101500", false),
            ("12.log.20261121-101500.gz", "12.log", "20261121-101500", true),
            ("containerd.log", "containerd.log", "", false),
            ("containerd-2026-11-20T10-00-00.000.log", "containerd.log", "2026-11-20T10-00-00.000", false),
            ("kubelet-2026-11-20T10-00-00.000.log.gz", "kubelet.log", "2026-11-20T10-00-00.000", true),
            ("log-2026-11-20T10-00-00.000", "log", "2026-11-20T10-00-00.000", false),
            ("x.gz", "x.gz", "", true),
            ("0.log.2026112-101500", "0.log.2026112-101500", "", false),
            ("containerd-2026-11-20.log", "containerd-2026-11-20.log", "", false),
            ("", "", "", false),
        ] {
            let told = Name::parse(name).unwrap();
            let want = if age.is_empty() { Age::Current } else { Age::Rotated(age.to_owned()) };
            assert_eq!(told, Name { base: base.to_owned(), age: want, is_packed }, "{name}");
        }
        assert_eq!(Name::parse("0.log.20261121-101500.tmp"), None);
        let age = |name| Name::parse(name).unwrap().age;
        assert!(age("0.log.20261121-101500.gz") < age("0.log.20261121-101501"));
        assert!(age("0.log.20261121-101501") < age("0.log"));
    }
}
