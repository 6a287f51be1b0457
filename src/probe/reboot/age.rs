//! Since when a reboot is pending.
//!
//! A file's mtime proves little: update-notifier touches its flag at every run, and dpkg gives a kernel image the time
//! of its build. So the earliest is taken of several times, each where it means something, and what we saw ourselves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::flags::Flag;
use super::kernels::Image;
use super::shown;
use crate::history::{Note, Past};
use crate::host::Moment;

/// `/proc/stat` counts whole seconds, and clocks are slewed.
const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// Since when something holds, and how that is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Since {
    pub age: Duration,
    pub at: Timestamp,
    /// Where the time comes from.
    pub source: String,
    /// False when it may well have held for longer.
    pub proven: bool,
}

impl Since {
    /// Since a time by the wall clock; a time in the future is an age of 0.
    pub(super) fn time(at: Timestamp, now: &Moment, source: impl Into<String>) -> Since {
        let mut source = source.into();
        if at > now.wall.saturating_add(SLACK).unwrap_or(now.wall) {
            source.push_str(", in the future: a clock is or was wrong");
        }
        Since { age: now.since_wall(at), at, source, proven: true }
    }

    /// Since a note was first written down.
    pub(super) fn first_seen(note: &Note, now: &Moment) -> Since {
        let age = now.since(&note.first);
        let at = now.wall.checked_sub(age).unwrap_or(note.first.wall);
        Since { age, at, source: "first seen by this check".to_owned(), proven: !age.is_zero() }
    }
}

/// The earliest; of equals the first in the list.
pub(super) fn earliest(all: impl IntoIterator<Item = Since>) -> Option<Since> {
    all.into_iter().reduce(|best, next| if next.age > best.age { next } else { best })
}

/// Whether a time lies before the boot. Never where the boot's time is not known.
pub(super) fn before(at: Timestamp, boot: Option<Timestamp>) -> bool {
    boot.is_some_and(|boot| boot.duration_since(at) > SLACK)
}

/// A note of this boot.
pub(super) fn note_of_boot<'a>(past: &'a Past, key: &str, now: &Moment) -> Option<&'a Note> {
    past.note(key).filter(|note| note.first.same_boot(now))
}

/// What a flag's times come to.
pub(super) enum FlagAge {
    /// It is older than the boot that should have removed it; holds its newest time.
    Stale(Timestamp),
    Pending(Since),
}

/// The age of a flag: the earliest of its birth, its mtime and its first sight in this boot. With `volatile` it lies
/// on a file system that did not outlive the last boot.
pub(super) fn of_flag(flag: &Flag, past: &Past, now: &Moment, boot: Option<Timestamp>, volatile: bool) -> FlagAge {
    let seen = note_of_boot(past, &format!("flag {}", flag.path), now).map(|note| Since::first_seen(note, now));
    // A touch resets the mtime; only a second witness tells that none has.
    let mut proven = flag.born.is_some_and(|born| !before(born, boot)) || seen.as_ref().is_some_and(|seen| seen.proven);
    let times = [(flag.born, "file's birth"), (flag.modified, "file's mtime")];
    let known = || times.iter().filter_map(|(at, source)| Some(((*at)?, *source)));
    let mut sinces: Vec<Since> =
        known().filter(|(at, _)| !before(*at, boot)).map(|(at, source)| Since::time(at, now, source)).collect();
    if let (true, Some((newest, _)), Some(boot)) = (sinces.is_empty(), known().max(), boot) {
        if !volatile {
            return FlagAge::Stale(newest);
        }
        // Written in this boot by a clock that had not been set yet.
        proven = true;
        sinces.push(Since::time(boot, now, "the boot: the file was written before the clock was set"));
    }
    let since = earliest(sinces.into_iter().chain(seen));
    let since = since.unwrap_or_else(|| Since::time(now.wall, now, "now: its times are not known"));
    FlagAge::Pending(Since { proven, ..since })
}

/// When an image was installed: the earliest of its own time and its first sight.
pub(super) fn of_image(image: &Image, past: &Past, now: &Moment) -> Since {
    let note = past.note(&format!("kernel {}", image.release.text()));
    let came = note.is_some_and(|note| past.notes("kernel ").any(|(_, other)| other.first.wall < note.first.wall));
    // Where we saw it come, the time of its build would only make it older.
    let file = of_file(image, now).filter(|_| image.changed.is_some() || !came);
    let seen = note.map(|note| Since::first_seen(note, now));
    let since = earliest(file.into_iter().chain(seen));
    since.unwrap_or_else(|| Since { proven: false, ..Since::time(now.wall, now, "now: its times are not known") })
}

/// When an image's file was written: its change time. dpkg and rpm set the mtime to that of the build, so it only stands
/// in where a change time can't be known, behind that of `modules.dep`, which depmod writes at installation.
pub(super) fn of_file(image: &Image, now: &Moment) -> Option<Since> {
    let path = shown(&image.path);
    Some(match (image.changed, image.depmod, image.modified) {
        (Some(at), ..) => Since::time(at, now, format!("ctime of {path}")),
        (None, Some(at), _) => Since::time(at, now, "mtime of its modules.dep"),
        (None, None, at) => Since::time(at?, now, format!("mtime of {path}")),
    })
}
