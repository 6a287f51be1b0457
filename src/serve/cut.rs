//! Shortens an answer to what a packet carries, where it hurts least, and says so.
use std::borrow::Cow;

use crate::parse::nrpe::Version;

/// How much of line 1 is worth more than saying what was cut, in bytes: a pager shows that much.
const FIRST: usize = 80;
const ELLIPSIS: &str = "...";

/// Shortens `text` to at most `limit` bytes; a text that fits is given back as it is.
///
/// `text` is `STATE - name: sentence | perfdata` and any lines after it. The last of these go first, as whole lines;
/// then whole perfdata items from the end; then the end of the sentence. A last line tells what is gone, unless the
/// limit is too small for it and 80 bytes of line 1. No perfdata item and no character is ever cut in half.
pub fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let text = text.trim_end_matches('\n');
    let (first, long) = text.split_once('\n').map_or((text, None), |(first, long)| (first, Some(long)));
    let lines: Vec<&str> = long.map(|long| long.split('\n').collect()).unwrap_or_default();
    let (head, items) = first.split_once('|').map_or((first, Vec::new()), |(head, perfdata)| (head, items(perfdata)));
    let head = head.trim_end();
    let fits = |size: usize, notice: &str| size + 1 + notice.len() <= limit;

    let mut size = text.len();
    for (kept, line) in lines.iter().enumerate().rev() {
        size -= 1 + line.len();
        let notice = notice(lines.len() - kept, 0, false, limit);
        if fits(size, &notice) {
            return Cow::Owned(format!("{}\n{notice}", &text[..size]));
        }
    }

    let mut size = head.len() + " |".len() + items.iter().map(|item| 1 + item.len()).sum::<usize>();
    for (kept, item) in items.iter().enumerate().rev() {
        size -= 1 + item.len();
        let notice = notice(lines.len(), items.len() - kept, false, limit);
        if fits(size, &notice) {
            let bar = if kept == 0 { "" } else { " | " };
            return Cow::Owned(format!("{head}{bar}{}\n{notice}", items[..kept].join(" ")));
        }
    }

    let notice = notice(lines.len(), items.len(), true, limit);
    match limit.checked_sub(1 + notice.len()) {
        Some(room) if room >= FIRST => Cow::Owned(format!("{}\n{notice}", shorten(head, room))),
        _ => shorten(head, limit),
    }
}

/// The items of a perfdata text: separated by blanks, which a label in quotes may hold.
fn items(perfdata: &str) -> Vec<&str> {
    let mut quoted = false;
    let separates = |letter: char| {
        quoted ^= letter == '\'';
        letter.is_ascii_whitespace() && !quoted
    };
    perfdata.split(separates).filter(|item| !item.is_empty()).collect()
}

fn notice(lines: usize, items: usize, head: bool, limit: usize) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut gone = Vec::new();
    if lines > 0 {
        gone.push(count(lines, "line"));
    }
    if items > 0 {
        gone.push(count(items, "perfdata item"));
    }
    if head {
        gone.push("the end of line 1".to_owned());
    }
    let last = gone.pop().unwrap_or_default();
    let before = if gone.is_empty() { String::new() } else { format!("{} and ", gone.join(", ")) };
    let hint = if limit < Version::V4.text_limit() { "NRPE v3 or v4 carries more" } else { "NRPE carries no more" };
    format!("[cut: {before}{last}; {hint}]")
}

fn shorten(head: &str, limit: usize) -> Cow<'_, str> {
    let until = |end: usize| &head[..(0..=end).rev().find(|at| head.is_char_boundary(*at)).unwrap_or(0)];
    if head.len() <= limit {
        Cow::Borrowed(head)
    } else if let Some(room) = limit.checked_sub(ELLIPSIS.len()) {
        Cow::Owned(format!("{}{ELLIPSIS}", until(room)))
    } else {
        Cow::Borrowed(until(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(words: usize, perfdata: usize, lines: usize) -> String {
        let mut text = format!("CRITICAL - pod-oom-kills: {}", "kïll ".repeat(words).trim_end());
        if perfdata > 0 {
            text.push_str(" |");
        }
        for n in 0..perfdata {
            text.push_str(&format!(" 'kills in pöd {n}'={n};0;9"));
        }
        for n in 0..lines {
            text.push_str(&format!("\nfinding {n}: contäiner {n} was killed"));
        }
        text
    }

    #[test]
    fn what_fits_is_untouched() {
        let text = sample(3, 3, 3);
        assert!(matches!(cut(&text, text.len()), Cow::Borrowed(same) if same == text));
        assert!(matches!(cut("", 0), Cow::Borrowed("")));
        assert_eq!(cut("OK - a\n", 7), "OK - a\n");
    }

    #[test]
    fn long_text_goes_first() {
        let text = sample(20, 2, 40);
        let short = cut(&text, 400);
        let lines: Vec<&str> = short.lines().collect();
        assert_eq!(lines[0], text.lines().next().unwrap());
        assert_eq!(lines[1], "finding 0: contäiner 0 was killed");
        assert_eq!(lines[lines.len() - 1], "[cut: 36 lines; NRPE v3 or v4 carries more]");
    }

    #[test]
    fn then_whole_perfdata_items() {
        let short = cut(&sample(4, 10, 1), 150).into_owned();
        assert_eq!(
            short,
            "CRITICAL - pod-oom-kills: kïll kïll kïll kïll | 'kills in pöd 0'=0;0;9\n\
             [cut: 1 line and 9 perfdata items; NRPE v3 or v4 carries more]"
        );
    }

    #[test]
    fn then_the_sentence() {
        let short = cut(&sample(300, 1, 2), 200).into_owned();
        let (first, notice) = short.split_once('\n').unwrap();
        assert!(first.starts_with("CRITICAL - pod-oom-kills: kïll ") && first.ends_with("..."));
        assert_eq!(notice, "[cut: 2 lines, 1 perfdata item and the end of line 1; NRPE v3 or v4 carries more]");
        assert_eq!(cut(&sample(300, 1, 2), 29), "CRITICAL - pod-oom-kills: ...");
    }

    #[test]
    fn the_largest_packet_has_no_larger_one() {
        let text = sample(1, 1, 3000);
        let short = cut(&text, 65535);
        assert!(text.len() > 65535 && short.ends_with(" lines; NRPE carries no more]"));
    }

    #[test]
    fn any_limit() {
        let samples = [(0, 0, 0), (1, 0, 0), (1, 3, 0), (1, 0, 3), (20, 3, 3), (60, 20, 0), (2, 40, 30), (100, 0, 0)];
        for (words, perfdata, lines) in samples {
            let text = sample(words, perfdata, lines);
            let head = text.lines().next().unwrap().split('|').next().unwrap().trim_end();
            let all = items(text.lines().next().unwrap().split_once('|').unwrap_or_default().1);
            for limit in 0..text.len() + 3 {
                let short = cut(&text, limit);
                assert!(short.len() <= limit, "{limit}: {short}");
                let mut kept = short.lines();
                let first = kept.next().unwrap_or_default();
                let (kept_head, kept_items) = first.split_once('|').unwrap_or((first, ""));
                let kept_head = kept_head.trim_end();
                assert!(kept_head == head || kept_head.len() >= limit.min(FIRST).saturating_sub(4), "{limit}: {short}");
                assert!(head.starts_with(kept_head.strip_suffix(ELLIPSIS).unwrap_or(kept_head)), "{limit}: {short}");
                assert_eq!(items(kept_items), all[..items(kept_items).len()], "{limit}");
                let told = short == text || limit < FIRST + 100 || short.lines().last().unwrap().starts_with("[cut: ");
                assert!(told, "{limit}: {short}");
                let kept: Vec<&str> = kept.filter(|line| !line.starts_with("[cut: ")).collect();
                assert_eq!(kept, text.lines().skip(1).take(kept.len()).collect::<Vec<_>>(), "{limit}");
                assert!(kept.is_empty() || items(kept_items).len() == all.len(), "{limit}: {short}");
            }
        }
    }
}
