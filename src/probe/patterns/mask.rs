//! What looks like a secret is not shown: lines go to whoever reads the monitoring.

use std::sync::LazyLock;

use regex::Regex;

use crate::host::printable;

/// A word that tells of a secret, and what follows it; what a URL has before its host; a token by its looks.
const SECRETS: &[(&str, &str)] = &[
    (
        r#"(?i)\b((?:[\w-]*(?:token|passw(?:or)?d|secret|api[-_]?key|credential)s?|authorization|bearer)["']?\s*(?:[:=]|\s)\s*(?:(?:bearer|basic)\s+)?["']?)[^\s"',;&]+"#,
        "$1***",
    ),
    (r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@:]+:[^\s/@]+@", "$1***@"),
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+", "***"),
    (r"\b[A-Za-z0-9+/_-]{40,}={0,2}", "***"),
];

static COMPILED: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let compiled = SECRETS.iter().filter_map(|(expression, instead)| Some((Regex::new(expression).ok()?, *instead)));
    compiled.collect()
});

/// A line in which no secret is seen any more.
pub fn masked(line: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(line).into_owned();
    for (expression, instead) in COMPILED.iter() {
        text = expression
            .replace_all(&text, |found: &regex::Captures<'_>| {
                let all = found.get(0).map(|all| all.as_str()).unwrap_or_default();
                // An id of a container is none, nor is a path.
                let is_id = all.bytes().all(|byte| byte.is_ascii_hexdigit()) || all.matches('/').count() > 2;
                if is_id {
                    return all.to_owned();
                }
                let mut out = String::new();
                found.expand(instead, &mut out);
                out
            })
            .into_owned();
    }
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_is_one() {
        assert_eq!(COMPILED.len(), SECRETS.len());
    }

    #[test]
    fn secrets() {
        for (line, want) in [
            ("token=abcdef rest", "token=*** rest"),
            ("Authorization: Bearer abc.def rest", "Authorization: Bearer *** rest"),
            ("--db-password \"hunter2\" x", "--db-password \"***\" x"),
            ("etcd https://root:hunter2@10.0.0.1:2379/x", "etcd https://***@10.0.0.1:2379/x"),
            ("jwt eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln ok", "jwt *** ok"),
            ("key AKIAIOSFODNN7EXAMPLEwJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY", "key ***"),
        ] {
            assert_eq!(masked(line.as_bytes()), want);
        }
        let id = "4f1f0a6a8b0f4d1e9c7a5b3d2e1f00998877665544332211ffeeddccbbaa0011";
        for line in [
            &format!("name is reserved for \"{id}\"")[..],
            "/registry/services/specs/kube-system/metrics-server-and-a-long-name-of-it",
            "error while range on /registry/health : query (try: 0): context canceled",
        ] {
            assert_eq!(masked(line.as_bytes()), line);
        }
        assert_eq!(masked(b"a\x1b[31m\xff"), printable("a\u{1b}[31m\u{fffd}"));
    }
}
