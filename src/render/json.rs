//! JSON: one document for one check or for all.

use serde::Serialize;

use crate::render::worst;
use crate::status::Status;
use crate::verdict::Verdict;

/// Rises when a field changes its meaning or goes away; new fields do not count.
pub const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    nodecheck: &'static str,
    status: Status,
    code: u8,
    checks: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    code: u8,
}

/// The verdicts as one JSON document with a newline at the end.
pub fn json(verdicts: &[Verdict]) -> String {
    let status = worst(verdicts);
    let checks = verdicts.iter().map(|verdict| Item { verdict, code: verdict.status.code() }).collect();
    let document =
        Document { schema: SCHEMA, nodecheck: env!("CARGO_PKG_VERSION"), status, code: status.code(), checks };
    // Serializing plain data with string keys can't fail.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn fields_that_readers_rely_on() {
        let value: serde_json::Value = serde_json::from_str(&json(&[sample()])).unwrap();
        assert_eq!(value["schema"], SCHEMA);
        assert_eq!((&value["status"], &value["code"]), (&"warning".into(), &1.into()));
        let check = &value["checks"][0];
        assert_eq!(check["check"], "reboot-required");
        assert_eq!(check["status"], "warning");
        assert_eq!(check["code"], 1);
        assert_eq!(check["metrics"][0]["name"], "pending_age");
        assert_eq!(check["metrics"][0]["value"], 172_800.0);
        assert_eq!(check["metrics"][0]["critical"], "604800");
        assert_eq!(check["findings"][0]["status"], "warning");
        assert_eq!(check["at"], "2026-11-21T03:22:00Z");
    }
}
