//! Log files: the lines of a container (CRI), of containerd and k3s (logrus), of the kubelet (klog); the names that rotation
//! gives to files.

mod cri;
mod lines;
mod name;
mod time;

pub use cri::{Entry, Joined, Joiner, Stream};
pub use lines::{LONGEST, Lines};
pub use name::{Age, Name};
pub use time::{Clock, Format};

/// What must hold for any bytes: no panic; a text is no longer than what it was made of; pieces of any size are the same
/// lines.
pub fn fuzz(data: &[u8]) {
    let reference = jiff::Timestamp::from_second(1_795_230_000).unwrap_or_default();
    let clock = Clock::new(reference, jiff::tz::TimeZone::UTC);
    let (mut joiner, mut length) = (Joiner::new(64), 0_usize);
    for line in data.split(|byte| *byte == b'\n') {
        for format in [Format::Cri, Format::Logrus, Format::Klog, Format::Auto] {
            let _ = clock.time(format, line);
        }
        if let Some(at) = clock.time(Format::Klog, line) {
            assert!(at <= clock.latest(), "{at}");
        }
        if let Some(entry) = Entry::parse(line) {
            assert!(entry.text.len() < line.len());
            assert_eq!(Some(entry.at), clock.time(Format::Auto, line));
            length = length.saturating_add(entry.text.len());
            if let Some(joined) = joiner.push(&entry) {
                assert!(joined.text.len() <= 64);
                length = length.saturating_sub(joined.text.len().saturating_add(joined.cut));
            }
        }
        if let Some(name) = std::str::from_utf8(line).ok().and_then(Name::parse) {
            assert!(name.base.len() <= line.len());
        }
    }
    for stream in [Stream::Stdout, Stream::Stderr] {
        let rest = joiner.rest(stream);
        length = length.saturating_sub(rest.map_or(0, |rest| rest.text.len().saturating_add(rest.cut)));
    }
    assert_eq!(length, 0, "texts are lost");
    let lines = |piece: usize| {
        let (mut lines, mut all) = (Lines::new(16), Vec::new());
        for piece in data.chunks(piece.max(1)) {
            lines.feed(piece, &mut |line, cut| all.push((line.to_vec(), cut)));
        }
        lines.finish(&mut |line, cut| all.push((line.to_vec(), cut)));
        (all, lines.broken)
    };
    let whole = lines(data.len());
    assert!(whole.0.iter().all(|(line, _)| line.len() <= 16 && line.first() != Some(&0) && !line.contains(&b'\n')));
    assert_eq!(whole, lines(1));
    assert_eq!(whole, lines(7));
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix() {
        let sample = "2016-10-06T00:17:09.669794202Z stdout P:x a\r\n2016-10-06T02:17:09+02:00 stdout F b\n\0\0\
            2016-10-06T00:17:10Z stderr P c\nx\n0.log.20261121-101500.gz\ncontainerd-2026-11-20T10-00-00.000.log.gz\n\
            time=\"2026-11-21T03:22:00.123456789Z\" level=error msg=\"x\"\n{\"time\":\"2026-11-21T03:22:00Z\"}\n\
            E1121 03:22:00.123456   12345 remote_runtime.go:176] \"x\"\n";
        for end in 0..=sample.len() {
            fuzz(&sample.as_bytes()[..end]);
        }
    }
}
