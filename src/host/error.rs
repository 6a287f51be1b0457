//! Why something could not be looked at. Missing is not zero, and forbidden is not missing.

use nix::errno::Errno;

/// Why a look failed. The three kinds stay apart all the way up to the verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The feature is not on this node; holds what was looked for.
    #[error("{0}")]
    Absent(String),
    /// The node has it, and we may not look; `need` says what would allow it.
    #[error("{what}: permission denied; needs {need}")]
    Denied {
        /// What was refused.
        what: String,
        /// The capability, group or user that is missing.
        need: String,
    },
    /// It is there and could not be used: damaged, too large, busy, not what it should be.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Whether the thing is simply not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Error::Absent(_))
    }

    /// What `errno` means for a look at `path`.
    pub fn from_errno(path: &str, errno: Errno) -> Error {
        let path = printable(path);
        match errno {
            // ENODEV: a kernel file whose object went away between open and read (cgroups).
            Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV | Errno::ESRCH => Error::Absent(format!("no {path}")),
            Errno::EACCES | Errno::EPERM => {
                Error::Denied { what: path, need: "root or CAP_DAC_READ_SEARCH".to_owned() }
            }
            Errno::ELOOP => Error::Failed(format!("{path}: a loop of symbolic links")),
            other => Error::Failed(format!("{path}: {}", other.desc())),
        }
    }
}

/// What came of a look at something that may be missing: `None` when absent, the other errors kept.
pub fn optional<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Absent(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Text from the node, made fit for one line of output: control characters are escaped, and so are the invisible ones
/// that break a line or turn the direction of writing.
///
/// A file name may hold newlines, and the `|` that would start perfdata is taken out when text is rendered.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{e0000}'..='\u{e007f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || turns { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_denied_and_failed_are_three_things() {
        assert!(Error::from_errno("/a", Errno::ENOENT).is_absent());
        assert!(matches!(Error::from_errno("/a", Errno::EACCES), Error::Denied { .. }));
        assert_eq!(Error::from_errno("/a", Errno::EIO), Error::Failed("/a: I/O error".to_owned()));
        assert_eq!(Error::from_errno("/a\nb", Errno::ENOENT).to_string(), "no /a\\nb");
    }
}
