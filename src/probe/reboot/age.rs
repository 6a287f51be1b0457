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
/// The notes of the first look of a boot that saw every flag, and every kernel.
pub(super) const LOOKED_FLAGS: &str = "looked flags";
pub(super) const LOOKED_KERNELS: &str = "looked kernels";

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

    /// Since the first look that saw it.
    pub(super) fn first_seen(first: &Moment, now: &Moment) -> Since {
        let age = now.since(first);
        let source = "first seen by this check".to_owned();
        Since { age, at: told(age, first.wall, now), source, proven: !age.is_zero() }
    }
}

/// The wall-clock time of what is so old: `at` itself, but for a clock that was set since.
fn told(age: Duration, at: Timestamp, now: &Moment) -> Timestamp {
    let counted = now.wall.checked_sub(age).unwrap_or(at);
    if counted.duration_since(at).abs() > SLACK { counted } else { at }
}

/// What the looks of this boot tell of one thing. A clock may be set between two looks; what lies between them by the
/// boot clock stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight<'a> {
    /// The first look of this boot that saw it.
    pub first: &'a Moment,
    /// The newest look of this boot before that, which did not have it: it came in between.
    missed: Option<&'a Moment>,
}

impl<'a> Sight<'a> {
    /// Of the note `key`; `looked` is the key of the first look of this boot that would have seen it.
    pub(super) fn of(past: &'a Past, key: &str, looked: &str, now: &Moment) -> Option<Sight<'a>> {
        let note = note_of_boot(past, key, now)?;
        let first = &note.first;
        let earlier = |look: &Moment| match (look.uptime, first.uptime) {
            (Some(look), Some(first)) => look < first,
            _ => look.wall < first.wall,
        };
        let first_look = note_of_boot(past, looked, now).map(|note| &note.first);
        let newest = note.missed.as_ref().filter(|look| look.same_boot(now));
        let missed = newest.or(first_look).filter(|look| earlier(look));
        Some(Sight { first, missed })
    }

    /// Whether this boot saw it come.
    pub(super) fn came(&self) -> bool {
        self.missed.is_some()
    }
}

/// The age by a file's time; `None` when the file was there before this boot. The time means what the clock showed at
/// the first sight, as far as it lies before that.
pub(super) fn dated(
    at: Timestamp,
    source: impl Into<String>,
    sight: Option<&Sight<'_>>,
    now: &Moment,
    boot: Option<Timestamp>,
) -> Option<Since> {
    let by_clock = |source| (!before(at, boot)).then(|| Since::time(at, now, source));
    let Some(Sight { first, missed }) = sight else { return by_clock(source) };
    let lead = first.wall.duration_since(at);
    let at_first = Duration::try_from(lead).unwrap_or_default();
    let at_first = match missed {
        // It can't have come before the look that missed it, whatever the clock showed.
        Some(missed) => at_first.min(first.since(missed)),
        None if lead < -SLACK => return by_clock(source),
        None if before(at, first.boot_time().or(boot)) => return None,
        None => at_first,
    };
    if missed.is_some() && at_first.is_zero() {
        return Some(Since::first_seen(first, now));
    }
    let age = now.since(first).saturating_add(at_first);
    Some(Since { age, at: told(age, at, now), source: source.into(), proven: true })
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
    let sight = Sight::of(past, &format!("flag {}", flag.path), LOOKED_FLAGS, now);
    let seen = sight.map(|sight| Since::first_seen(sight.first, now));
    let dated = |at: Timestamp, source: &str| dated(at, source, sight.as_ref(), now, boot);
    // A touch resets the mtime; only a second witness tells that none has.
    let born = flag.born.and_then(|at| dated(at, "file's birth"));
    let mut proven = born.is_some() || seen.as_ref().is_some_and(|seen| seen.proven);
    let modified = flag.modified.and_then(|at| dated(at, "file's mtime"));
    let mut sinces: Vec<Since> = born.into_iter().chain(modified).collect();
    let newest = flag.born.max(flag.modified);
    if let (true, Some(newest), Some(boot)) = (sinces.is_empty(), newest, boot) {
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

/// When an image was installed, or was another build.
pub(super) enum ImageAge {
    /// Before this boot, which did not take it.
    PassedOver(Since),
    Pending(Since),
}

/// The earliest of an image's own time and the first sight that the note `key` tells of.
pub(super) fn of_image(image: &Image, key: &str, past: &Past, now: &Moment, boot: Option<Timestamp>) -> ImageAge {
    let sight = Sight::of(past, key, LOOKED_KERNELS, now);
    let note = past.note(key);
    let came = note.is_some_and(|note| past.notes("kernel ").any(|(_, other)| other.first.wall < note.first.wall));
    let came = came || sight.is_some_and(|sight| sight.came());
    // Where we saw it come, the time of its build would only make it older.
    let file = file_time(image).filter(|_| image.changed.is_some() || !came);
    let seen = note.map(|note| Since::first_seen(&note.first, now));
    if let (Some(sight), Some(seen)) = (&sight, &seen) {
        let Some((at, source)) = file else { return ImageAge::Pending(seen.clone()) };
        return match dated(at, source.clone(), Some(sight), now, boot) {
            Some(since) => ImageAge::Pending(if seen.age > since.age { seen.clone() } else { since }),
            None => ImageAge::PassedOver(Since::time(at, now, source)),
        };
    }
    let file = file.map(|(at, source)| Since::time(at, now, source));
    match earliest(file.into_iter().chain(seen)) {
        Some(since) if before(since.at, boot) => ImageAge::PassedOver(since),
        Some(since) => ImageAge::Pending(since),
        None => {
            ImageAge::Pending(Since { proven: false, ..Since::time(now.wall, now, "now: its times are not known") })
        }
    }
}

/// When an image's file was written: its change time. dpkg and rpm set the mtime to that of the build, so it only stands
/// in where a change time can't be known, behind that of `modules.dep`, which depmod writes at installation.
fn file_time(image: &Image) -> Option<(Timestamp, String)> {
    let path = shown(&image.path);
    match (image.changed, image.depmod, image.modified) {
        (Some(at), ..) => Some((at, format!("ctime of {path}"))),
        (None, Some(at), _) => Some((at, "mtime of its modules.dep".to_owned())),
        (None, None, at) => Some((at?, format!("mtime of {path}"))),
    }
}
