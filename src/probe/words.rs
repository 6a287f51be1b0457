//! How the probes write names, sizes and times.

use std::time::Duration;

use crate::host::clock::spoken;
use crate::host::printable;

/// Text from the node as it is echoed: one line, at most 100 characters.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    let text = printable(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A runtime's id as its tools print it.
pub fn short_id(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

/// At most `limit` names, and how many more there are.
pub fn some_of(names: &[String], limit: usize) -> String {
    let mut text = names.iter().take(limit).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > limit {
        text.push_str(&format!(" and {} more", names.len() - limit));
    }
    text
}

/// `60 min`, not `1 h`: a window is known by its setting.
pub fn minutes(time: Duration) -> String {
    match time.as_secs() {
        60..=7200 => format!("{} min", time.as_secs() / 60),
        _ => spoken(time),
    }
}

/// Bytes as Kubernetes writes them: exactly where few digits do, else with three of them, cut.
pub fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| bytes >= *unit) else { return bytes.to_string() };
    let hundredths = u128::from(bytes) * 100 / u128::from(unit);
    let (whole, tenth, hundredth) = (hundredths / 100, hundredths / 10 % 10, hundredths % 10);
    match (whole, tenth, hundredth) {
        (0..10, _, 1..) => format!("{whole}.{tenth}{hundredth}{name}"),
        (0..100, 1.., _) => format!("{whole}.{tenth}{name}"),
        _ => format!("{whole}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, want) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1Ki"),
            (64 << 20, "64Mi"),
            (61 << 20 | 1, "61Mi"),
            ((61 << 20) + (900 << 10), "61.8Mi"),
            (500_000_000, "476Mi"),
            (1 << 30, "1Gi"),
            (3 << 29, "1.5Gi"),
            ((3 << 29) - 1, "1.49Gi"),
            ((1 << 30) + (11 << 20), "1.01Gi"),
            ((1 << 30) - 1, "1023Mi"),
            (250 << 30, "250Gi"),
            (u64::MAX, "17179869183Gi"),
        ] {
            assert_eq!(size(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn times() {
        for (seconds, want) in [(30, "30 s"), (60, "1 min"), (3600, "60 min"), (7200, "120 min"), (86400, "1 d")] {
            assert_eq!(minutes(Duration::from_secs(seconds)), want);
        }
    }
}
