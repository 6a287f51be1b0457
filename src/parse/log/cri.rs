//! The lines of `/var/log/pods` (`kubernetes/pkg/kubelet/kuberuntime/logs`): `2016-10-06T00:17:09.669794202Z stdout F text`.
//!
//! A runtime cuts a long line in parts (containerd: of 16 KiB), all but the last with the tag `P`. The parts of stdout and
//! stderr are mixed.

use jiff::Timestamp;

use super::time::rfc3339;

/// Where a container wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// One line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When the runtime got it.
    pub at: Timestamp,
    /// From where.
    pub stream: Stream,
    /// Whether the text goes on in the next line of the same stream.
    pub is_partial: bool,
    /// What the container wrote.
    pub text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads a line without its newline; `None` for what is none of a runtime's.
    pub fn parse(line: &'a [u8]) -> Option<Entry<'a>> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (at, []) = rfc3339(fields.next()?)? else { return None };
        let stream = match fields.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        // More tags may follow the first.
        let is_partial = match fields.next()?.split(|byte| *byte == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        // A runtime may leave out the space before a text that is empty.
        Some(Entry { at, stream, is_partial, text: fields.next().unwrap_or_default() })
    }
}

/// A text that is whole again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined<'a> {
    /// The time of its first part.
    pub at: Timestamp,
    /// The text, or the beginning of a longer one.
    pub text: &'a [u8],
    /// Bytes of it that were left out.
    pub cut: usize,
}

/// Puts the parts of lines together again.
#[derive(Debug)]
pub struct Joiner {
    most: usize,
    parts: [Part; 2],
}

#[derive(Debug, Default)]
struct Part {
    /// When it began; `None` where nothing waits for its end.
    at: Option<Timestamp>,
    text: Vec<u8>,
    cut: usize,
}

impl Joiner {
    /// One that keeps at most so many bytes of a text.
    pub fn new(most: usize) -> Joiner {
        Joiner { most, parts: Default::default() }
    }

    /// Adds a line of the file; the text that is whole with it, if one is.
    pub fn push<'j>(&'j mut self, entry: &Entry<'j>) -> Option<Joined<'j>> {
        let [stdout, stderr] = &mut self.parts;
        let part = if entry.stream == Stream::Stdout { stdout } else { stderr };
        if part.at.is_none() && !entry.is_partial {
            // As nearly all are: nothing needs to be copied.
            let text = entry.text.get(..self.most).unwrap_or(entry.text);
            return Some(Joined { at: entry.at, text, cut: entry.text.len().saturating_sub(text.len()) });
        }
        if part.at.is_none() {
            *part = Part { at: Some(entry.at), text: std::mem::take(&mut part.text), cut: 0 };
            part.text.clear();
        }
        let kept = entry.text.get(..self.most.saturating_sub(part.text.len())).unwrap_or(entry.text);
        part.text.extend_from_slice(kept);
        part.cut = part.cut.saturating_add(entry.text.len().saturating_sub(kept.len()));
        if entry.is_partial { None } else { part.take() }
    }

    /// The parts that no last one followed.
    pub fn rest(&mut self, stream: Stream) -> Option<Joined<'_>> {
        let [stdout, stderr] = &mut self.parts;
        if stream == Stream::Stdout { stdout.take() } else { stderr.take() }
    }
}

impl Part {
    fn take(&mut self) -> Option<Joined<'_>> {
        Some(Joined { at: self.at.take()?, text: &self.text, cut: self.cut })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line = b"2016-10-06T00:17:09.669794202Z stdout F The content of the log entry 1";
        let want = Entry {
            at: "2016-10-06T00:17:09.669794202Z".parse().unwrap(),
            stream: Stream::Stdout,
            is_partial: false,
            text: b"The content of the log entry 1",
        };
        assert_eq!(Entry::parse(line), Some(want));
        let entry = Entry::parse(b"2016-10-06T02:17:09.1+02:00 stderr P:x:y  two  spaces ").unwrap();
        let at = "2016-10-06T00:17:09.1Z".parse().unwrap();
        assert_eq!(entry, Entry { at, stream: Stream::Stderr, is_partial: true, text: b" two  spaces " });
        for empty in [&b"2016-10-06T00:17:09Z stdout F "[..], b"2016-10-06T00:17:09Z stdout F"] {
            assert_eq!(Entry::parse(empty).unwrap().text, b"");
        }
        for wrong in [
            &b""[..],
            b"2016-10-06T00:17:09Z",
            b"2016-10-06T00:17:09Z stdout",
            b"2016-10-06T00:17:09Z stdout X text",
            b"2016-10-06T00:17:09Z stdin F text",
            b"2016-10-06T00:17:09Z  stdout F text",
            b" 2016-10-06T00:17:09Z stdout F text",
            b"2016-10-06T00:17:09Zx stdout F text",
            b"{\"log\":\"text\\n\",\"stream\":\"stdout\",\"time\":\"2016-10-06T00:17:09Z\"}",
        ] {
            assert_eq!(Entry::parse(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn parts_are_joined_by_stream_and_a_long_text_is_cut() {
        let (mut joiner, mut all) = (Joiner::new(6), Vec::new());
        for line in [
            "2016-10-06T00:17:01Z stdout P ab",
            "2016-10-06T00:17:02Z stderr P xy",
            "2016-10-06T00:17:03Z stdout P cd",
            "2016-10-06T00:17:04Z stderr F z",
            "2016-10-06T00:17:05Z stdout F efgh",
            "2016-10-06T00:17:06Z stdout F i",
            "2016-10-06T00:17:07Z stdout F 12345678",
            "2016-10-06T00:17:08Z stderr P last",
        ] {
            let joined = joiner.push(&Entry::parse(line.as_bytes()).unwrap()).map(told);
            all.extend(joined);
        }
        assert!(joiner.rest(Stream::Stdout).is_none());
        all.extend(joiner.rest(Stream::Stderr).map(told));
        assert!(joiner.rest(Stream::Stderr).is_none());
        assert_eq!(all, ["02 xyz+0", "01 abcdef+2", "06 i+0", "07 123456+2", "08 last+0"]);
    }

    fn told(joined: Joined<'_>) -> String {
        let second = joined.at.strftime("%S");
        format!("{second} {}+{}", std::str::from_utf8(joined.text).unwrap(), joined.cut)
    }
}
