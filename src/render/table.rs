//! All checks of a node as a table: the answer first, the bad news next, what does not apply last.

use crate::render::{clean, worst};
use crate::status::Status;
use crate::verdict::Verdict;

/// How the table may look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Colour the states (SGR sequences).
    pub color: bool,
    /// Wrap at this many columns.
    pub width: Option<usize>,
}

/// Columns before the text.
const STATE: usize = 8;

/// The verdicts as a table, ending with a newline.
pub fn table(verdicts: &[Verdict], style: Style) -> String {
    let (skipped, mut here): (Vec<_>, Vec<_>) = verdicts.iter().partition(|verdict| verdict.not_here.is_some());
    here.sort_by_key(|verdict| verdict.status.rank());
    let mut out = format!("{}\n", headline(&here, skipped.len(), worst(verdicts), style));
    let name = verdicts.iter().map(|verdict| verdict.check.len()).max().unwrap_or(0);
    let indent = STATE + 2 + name + 2;
    let mut row = |state: String, check: &str, text: &str, more: &[String]| {
        out.push_str(&format!("\n{state}  {check:name$}  {}\n", wrap(text, indent, style.width)));
        for line in more {
            out.push_str(&format!("{:indent$}{}\n", "", wrap(line, indent, style.width)));
        }
    };
    for verdict in here {
        row(paint(verdict.status, STATE, style), &verdict.check, &clean(&verdict.summary), &details(verdict));
    }
    for verdict in skipped {
        let text = format!("not on this node: {}", clean(verdict.not_here.as_deref().unwrap_or_default()));
        row(format!("{:STATE$}", "-"), &verdict.check, &text, &[]);
    }
    out
}

/// What the operator needs to know beside line 1; for an OK check line 1 is enough.
fn details(verdict: &Verdict) -> Vec<String> {
    if verdict.status == Status::Ok {
        return Vec::new();
    }
    let on_line_1 = |text: &str| verdict.summary.starts_with(text);
    let findings = verdict.findings.iter().filter(|finding| !on_line_1(&finding.text));
    let mut lines: Vec<String> = findings
        .map(|finding| match finding.status {
            Status::Ok => clean(&finding.text),
            status => format!("{status}: {}", clean(&finding.text)),
        })
        .collect();
    if !verdict.advice.is_empty() {
        lines.push(format!("Do: {}", clean(&verdict.advice)));
    }
    lines
}

fn headline(here: &[&Verdict], skipped: usize, worst: Status, style: Style) -> String {
    let count = |status: Status| here.iter().filter(|verdict| verdict.status == status).count();
    let parts: Vec<String> = Status::BY_GRAVITY
        .into_iter()
        .filter(|status| count(*status) > 0)
        .map(|status| format!("{} {}", count(status), status.word()))
        .collect();
    let mut line = match here.len() {
        0 => format!("{} - no check applies to this node", paint(worst, 0, style)),
        1 => format!("{} - 1 check: {}", paint(worst, 0, style), parts.join(", ")),
        n => format!("{} - {n} checks: {}", paint(worst, 0, style), parts.join(", ")),
    };
    if skipped > 0 {
        line.push_str(&format!("; {skipped} not on this node"));
    }
    line
}

fn paint(status: Status, width: usize, style: Style) -> String {
    let code = match status {
        Status::Ok => "32",
        Status::Warning => "33",
        Status::Critical => "1;31",
        Status::Unknown => "35",
    };
    let word = format!("{status:width$}");
    if style.color { format!("\x1b[{code}m{word}\x1b[0m") } else { word }
}

/// Breaks a text at spaces so that it fits between `indent` and `width`; words are never broken.
pub fn wrap(text: &str, indent: usize, width: Option<usize>) -> String {
    let Some(room) = width.and_then(|width| width.checked_sub(indent)).filter(|room| *room >= 20) else {
        return text.to_owned();
    };
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > room {
            out.push_str(&format!("\n{:indent$}", ""));
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn skipped() -> Verdict {
        let mut verdict = Verdict::unknown("kube-nat", "x", sample().at);
        verdict.not_here = Some("no kubelet".into());
        verdict
    }

    #[test]
    fn plain_table() {
        let ok = Verdict { check: "a".into(), status: Status::Ok, ..sample() };
        let expected = "\
WARNING - 2 checks: 1 WARNING, 1 OK; 1 not on this node

WARNING   reboot-required  reboot pending for 2 d (CRITICAL above 7 d): libc6 / evil\\nname
                           WARNING: kured can't see it
                           running 6.8.0-45-generic
                           Do: Drain and reboot.

OK        a                reboot pending for 2 d (CRITICAL above 7 d): libc6 / evil\\nname

-         kube-nat         not on this node: no kubelet
";
        assert_eq!(table(&[ok, skipped(), sample()], Style::default()), expected);
    }

    #[test]
    fn nothing_applies_is_unknown() {
        let text = table(&[skipped()], Style::default());
        assert!(text.starts_with("UNKNOWN - no check applies to this node; 1 not on this node\n"), "{text}");
    }

    #[test]
    fn colour_and_width_are_the_terminals() {
        let text = table(&[sample()], Style { color: true, width: Some(60) });
        assert!(text.contains("\x1b[33mWARNING"), "{text}");
        for line in text.lines().skip(2) {
            assert!(line.chars().filter(|c| !c.is_control()).count() <= 60 + 7, "{line}");
        }
    }
}
