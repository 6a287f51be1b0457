//! Patterns for pods, as the parameters of checks have them: `kube-system/coredns-*`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::host::printable;
use crate::pods::PodName;

/// A pattern for `namespace/pod`: `*` stands for any characters and `?` for one, neither for the `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob {
    namespace: String,
    pod: String,
}

/// Why a text is no such pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' {fault}")]
pub struct NotAGlob {
    text: String,
    fault: &'static str,
}

impl Glob {
    /// Whether it fits a pod.
    pub fn matches(&self, name: &PodName) -> bool {
        fits(&self.namespace, name.namespace()) && fits(&self.pod, name.pod())
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    WildMatch::new(pattern).matches(text)
}

/// Whether it fits every name, none of which is empty.
fn fits_all(pattern: &str) -> bool {
    pattern.contains('*') && pattern.bytes().all(|byte| b"*?".contains(&byte)) && fits(pattern, "x")
}

/// Why a text is not the pattern of a pod, or one that makes a check blind.
fn fault(text: &str) -> Option<&'static str> {
    let parts = text.split_once('/').filter(|(_, pod)| !pod.contains('/'));
    let Some((namespace, pod)) = parts.filter(|(namespace, pod)| !namespace.is_empty() && !pod.is_empty()) else {
        return Some("is not of the form namespace/pod");
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*?".contains(&byte);
    if !namespace.bytes().all(plain) || !pod.bytes().all(|byte| plain(byte) || byte == b'.') {
        return Some("fits no pod: names have a-z, 0-9 and '-', those of pods also '.'; wildcards are * and ?");
    }
    (fits_all(namespace) && fits_all(pod)).then_some("fits every pod: nothing would be left to look at")
}

impl FromStr for Glob {
    type Err = NotAGlob;

    fn from_str(text: &str) -> Result<Glob, NotAGlob> {
        let wrong = |fault| NotAGlob { text: printable(text), fault };
        if let Some(fault) = fault(text) {
            return Err(wrong(fault));
        }
        let (namespace, pod) = text.split_once('/').unwrap_or_default();
        Ok(Glob { namespace: namespace.to_owned(), pod: pod.to_owned() })
    }
}

impl TryFrom<String> for Glob {
    type Error = NotAGlob;

    fn try_from(text: String) -> Result<Glob, NotAGlob> {
        text.parse()
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> String {
        glob.to_string()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits() {
        for (glob, name, fit) in [
            ("kured/gate-x7", "kured/gate-x7", true),
            ("kured/gate-x7", "kured/gate-x77", false),
            ("kured/gate-*", "kured/gate-x7", true),
            ("kured/gate-*", "kured/gate-", true),
            ("kured/*", "kured/a.b", true),
            ("kured/*", "kured2/a", false),
            ("*/gate-??", "any/gate-x7", true),
            ("*/gate-??", "any/gate-x", false),
            ("*/*a*a*b", "x/aaaaaaaaaaaaaaaaaaaaaab", true),
            ("*/*a*a*b", "x/aaaaaaaaaaaaaaaaaaaaaac", false),
            ("ci-?/*", "ci-1/x", true),
            ("ci-?/*", "ci-/x", false),
            ("a/b.c", "a/bxc", false),
        ] {
            let glob: Glob = glob.parse().unwrap();
            assert_eq!(glob.matches(&name.parse().unwrap()), fit, "{glob} {name}");
        }
    }

    #[test]
    fn what_is_refused() {
        for text in ["", "/", "kured", "kured/", "/x", "a/b/c"] {
            let error = text.parse::<Glob>().unwrap_err().to_string();
            assert_eq!(error, format!("'{text}' is not of the form namespace/pod"));
        }
        for text in ["Kured/x", "a/b|c", "a.b/c", "a/[bc]", "a/b\n"] {
            assert!(text.parse::<Glob>().unwrap_err().to_string().contains("' fits no pod: "), "{text}");
        }
        for text in ["*/*", "**/*", "*/?*", "*?/**"] {
            let error = text.parse::<Glob>().unwrap_err().to_string();
            assert_eq!(error, format!("'{text}' fits every pod: nothing would be left to look at"));
        }
        for text in ["?/*", "*/?", "*/??*", "kube-system/*", "*/x*"] {
            let glob: Glob = text.parse().unwrap();
            assert_eq!(serde_json::to_value(&glob).unwrap(), text);
            assert_eq!(serde_json::from_value::<Glob>(text.into()).unwrap(), glob);
        }
    }
}
