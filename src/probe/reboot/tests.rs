use std::fs::{File, create_dir_all, write};
use std::path::Path;

use super::age::{FlagAge, Sight, dated, of_flag};
use super::flags::Flag;
use super::*;
use crate::history::History;
use crate::host::state_dir::StateDir;
use crate::status::Status;

const BOOT: &str = "3f1c0b9e-0000-4000-8000-000000000001";

fn put(dir: &Path, path: &str, text: impl AsRef<[u8]>) {
    let path = dir.join(path.trim_start_matches('/'));
    create_dir_all(path.parent().unwrap()).unwrap();
    write(path, text).unwrap();
}

/// A tree with the newest kernel running and a flag of now; its times are those of its files.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "/proc/sys/kernel/osrelease", "6.1.0-45-amd64\n");
    put(dir.path(), "/proc/sys/kernel/random/boot_id", BOOT);
    put(dir.path(), "/proc/uptime", "900000.00 1.00\n");
    put(dir.path(), "/boot/vmlinuz-6.1.0-45-amd64", "");
    put(dir.path(), "/run/reboot-required", "");
    dir
}

fn look(probe: &RebootRequired, host: &Host, history: &History) -> Assessment {
    let now = host.now();
    let seen = probe.observe(host, &history.load("c", &now)).unwrap();
    let past = history.record("c", &now, &probe.trace(&seen), None);
    let assessment = probe.assess(&seen, &past, &now);
    assert_eq!(probe.assess(&seen, &past, &now), assessment, "judging is pure");
    let text = lines(&assessment);
    assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
    assessment
}

fn look_at(dir: &Path) -> Assessment {
    look(&RebootRequired::default(), &Host::at_root(dir).unwrap(), &History::in_memory())
}

fn lines(assessment: &Assessment) -> String {
    let findings = assessment.findings.iter().map(|finding| format!("{}: {}", finding.status, finding.text));
    let first = format!("{}: {}", assessment.summary, assessment.detail);
    [first].into_iter().chain(findings).collect::<Vec<_>>().join("\n")
}

fn value(assessment: &Assessment, name: &str) -> Option<f64> {
    assessment.metrics.iter().find(|metric| metric.spec.name == name).map(|metric| metric.value)
}

fn worst(assessment: &Assessment) -> Status {
    assessment.findings.iter().fold(Status::Ok, |worst, finding| worst.worst(finding.status))
}

#[test]
fn the_age_of_a_flag() {
    let at = |text: &str| -> Timestamp { format!("2026-11-{text}:00Z").parse().unwrap() };
    let now = Moment { wall: at("21T03:22"), boot: Some(BOOT.to_owned()), uptime: Some(10.0 * 86400.0) };
    let boot = now.boot_time();
    // birth, mtime, on a tmpfs -> hours, source, whether a touch can't have hidden more; None: stale.
    for (born, modified, volatile, want) in [
        (Some("19T03:22"), Some("21T02:22"), false, Some((48, "file's birth", true))),
        (Some("21T02:22"), Some("19T03:22"), false, Some((48, "file's mtime", true))),
        (None, Some("19T03:22"), false, Some((48, "file's mtime", false))),
        (Some("19T03:22"), None, false, Some((48, "file's birth", true))),
        (None, Some("25T03:22"), false, Some((0, "file's mtime, in the future: a clock is or was wrong", false))),
        (None, None, false, Some((0, "now: its times are not known", false))),
        (None, Some("11T03:21"), false, None),
        (Some("01T03:22"), None, false, None),
        (Some("01T03:22"), Some("02T03:22"), false, None),
        (Some("01T03:22"), Some("19T03:22"), false, Some((48, "file's mtime", false))),
        (Some("19T03:22"), Some("01T03:22"), false, Some((48, "file's birth", true))),
        (None, Some("01T03:22"), true, Some((240, "the boot: the file was written before the clock was set", true))),
    ] {
        let (born, modified) = (born.map(at), modified.map(at));
        let flag = Flag { path: "/run/reboot-required".to_owned(), born, modified, level: None, packages: Vec::new() };
        let found = match of_flag(&flag, &Past::default(), &now, boot, volatile) {
            FlagAge::Stale(_) => None,
            FlagAge::Pending(since) => Some((since.age.as_secs() / 3600, since.source, since.proven)),
        };
        assert_eq!(found, want.map(|(age, source, proven)| (age, source.to_owned(), proven)), "{born:?} {modified:?}");
        // Without the boot's time nothing can be called stale.
        assert!(matches!(of_flag(&flag, &Past::default(), &now, None, volatile), FlagAge::Pending(_)));
    }
}

#[test]
fn an_age_that_can_be_neither_proven_nor_kept_is_unknown() {
    let dir = tree();
    let host = Host::at_root(dir.path()).unwrap();
    let nowhere = History::in_directory(StateDir::new(Path::new("/proc/nodecheck")));
    let assessment = look(&RebootRequired::default(), &host, &nowhere);
    assert_eq!(worst(&assessment), Status::Unknown);
    assert!(
        lines(&assessment).contains("UNKNOWN: the age of /run/reboot-required is not known: a touch resets its mtime")
    );
    assert!(assessment.summary.starts_with("reboot pending for at least 0 s"), "{}", assessment.summary);
    assert_eq!(value(&assessment, "pending"), Some(1.0));
    // Where the look is kept, the next one will know.
    assert_eq!(worst(&look_at(dir.path())), Status::Ok);
}

#[test]
fn names_with_newlines_are_one_line_or_nothing() {
    let dir = tree();
    for path in ["/boot/vmlinuz-6.1.0-46\n-amd64", "/lib/modules/6.1.0-46-amd64\n/vmlinuz", "/run/a\nb|c"] {
        put(dir.path(), path, "");
    }
    put(dir.path(), "/boot/loader/entries/x\ny.conf", "version 6.1.0-47-amd64\nlinux /nowhere\n");
    put(dir.path(), "/lib/modules/6.1.0-45-amd64/modules.dep", "");
    put(dir.path(), "/run/a\nb|c.pkgs", "one\u{7}\n");
    let probe = RebootRequired { flags: vec!["/run/a\nb|c".to_owned()], ..RebootRequired::default() };
    let text = lines(&look(&probe, &Host::at_root(dir.path()).unwrap(), &History::in_memory()));
    assert!(text.starts_with("reboot pending for 0 s: one\\u{7}; running 6.1.0-45-amd64\n"), "{text}");
    assert!(text.contains("/run/a\\nb|c"), "{text}");
    assert!(text.contains("the boot entry x\\ny.conf leads to no kernel"), "{text}");
}

#[test]
fn gigantic_files_hide_nothing() {
    let dir = tree();
    let grow = |path: &str| {
        put(dir.path(), path, "");
        File::options()
            .write(true)
            .open(dir.path().join(path.trim_start_matches('/')))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
    };
    for path in ["/run/reboot-required", "/proc/version", "/boot/loader/entries/a.conf", "/run/systemd/container"] {
        grow(path);
    }
    grow("/run/reboot-required.pkgs");
    let text = lines(&look_at(dir.path()));
    assert!(text.starts_with("reboot pending for 0 s: no package is named; running 6.1.0-45-amd64\n"), "{text}");
    assert!(text.contains("/run/reboot-required.pkgs is cut after 64 KiB"), "{text}");
    assert!(text.contains("/boot/loader/entries/a.conf is larger than 65536 bytes"), "{text}");
    let list: String = (0..9000).map(|n| format!("package-{n:05}\n")).collect();
    put(dir.path(), "/run/reboot-required.pkgs", list);
    let assessment = look_at(dir.path());
    assert_eq!(value(&assessment, "pkgs"), Some(f64::from((64 << 10) / 14)));
    assert!(lines(&assessment).contains("package-00009 and 4671 more\n"), "{}", lines(&assessment));
    put(dir.path(), "/run/reboot-required.pkgs", "x".repeat(5000));
    assert!(look_at(dir.path()).detail.contains(&format!("{}...;", "x".repeat(100))));
    grow("/proc/sys/kernel/osrelease");
    let assessment = look_at(dir.path());
    assert!(
        lines(&assessment).contains("UNKNOWN: which kernel runs is not known: /proc/sys/kernel/osrelease is larger")
    );
    assert_eq!(value(&assessment, "pending"), Some(1.0), "the flag still speaks");
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let dir = tree();
    for path in ["run/reboot-required.pkgs", "boot/vmlinuz-6.1.0-46-amd64", "boot/vmlinuz-linux"] {
        nix::unistd::mkfifo(&dir.path().join(path), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let assessment = look_at(dir.path());
    let text = lines(&assessment);
    assert!(text.contains("the packages are not known: /run/reboot-required.pkgs is a FIFO"), "{text}");
    assert!(text.contains("newest installed 6.1.0-45-amd64"), "{text}");
    assert!(text.contains("UNKNOWN: /boot/vmlinuz-linux is a FIFO, not a regular file"), "{text}");
    assert!(
        text.contains(
            "UNKNOWN: the kernel 6.1.0-46-amd64 could not be looked at: /boot/vmlinuz-6.1.0-46-amd64 is a FIFO"
        )
    );
    assert_eq!((value(&assessment, "pkgs"), value(&assessment, "newer_kernel")), (None, None));
    // The flag itself may be anything but a directory.
    for path in ["run/reboot-required", "proc/sys/kernel/osrelease", "boot/vmlinuz-6.1.0-45-amd64"] {
        let path = dir.path().join(path);
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let text = lines(&look_at(dir.path()));
    assert!(text.starts_with("reboot pending for"), "{text}");
    assert!(text.contains("UNKNOWN: which kernel runs is not known: /proc/sys/kernel/osrelease is a FIFO"), "{text}");
}

#[test]
fn a_file_of_grub_that_is_too_large_keeps_no_kernel() {
    let dir = tree();
    std::fs::remove_file(dir.path().join("run/reboot-required")).unwrap();
    put(dir.path(), "/boot/vmlinuz-6.1.0-46-amd64", "");
    put(dir.path(), "/boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=m-6.1.0-45-amd64\n");
    put(dir.path(), "/etc/default/grub", "GRUB_DEFAULT=saved\n");
    assert!(lines(&look_at(dir.path())).contains("kept by saved_entry in /boot/grub/grubenv"));
    put(dir.path(), "/etc/default/grub", "# long\n".repeat(10_000));
    let assessment = look_at(dir.path());
    let text = lines(&assessment);
    assert_eq!((worst(&assessment), value(&assessment, "pending")), (Status::Unknown, None), "{text}");
    assert!(text.contains("UNKNOWN: whether 6.1.0-46-amd64 is booted next is not known: saved_entry in"), "{text}");
    assert!(text.contains("/etc/default/grub is larger than 65536 bytes"), "{text}");
}

#[test]
fn a_time_means_what_the_clock_showed_at_the_first_sight() {
    let moment = |wall: &str, uptime: u32| Moment {
        wall: format!("2026-11-{wall}:00Z").parse().unwrap(),
        boot: Some(BOOT.to_owned()),
        uptime: Some(f64::from(uptime) * 3600.0),
    };
    let at = |text: &str| format!("2026-11-{text}:00Z").parse::<Timestamp>().unwrap();
    // The boot was at 01T00:00 by the clock of the first looks, and at 11T00:00 by that of now.
    let (early, first, now) = (moment("01T10:00", 10), moment("01T20:00", 20), moment("12T16:00", 40));
    // A file's time, whether an earlier look missed it -> hours; None: there before the boot.
    for (file, missed, want) in [
        ("01T18:00", true, Some(22)),
        ("01T18:00", false, Some(22)),
        // Written between the looks, whatever its time.
        ("01T02:00", true, Some(30)),
        ("01T02:00", false, Some(38)),
        // Touched later, or the clock was wrong at the first sight.
        ("12T10:00", true, Some(20)),
        ("12T10:00", false, Some(6)),
        ("05T00:00", false, None),
    ] {
        let past = History::in_memory();
        let looked = |seen: bool| {
            let notes = seen.then(|| ("x".to_owned(), BOOT.to_owned()));
            let looked = [(String::new(), BOOT.to_owned())];
            Trace::default().group("flag ", notes).group(LOOKED_FLAGS, looked)
        };
        if missed {
            past.record("c", &early, &looked(false), None);
        }
        past.record("c", &first, &looked(true), None);
        let past = past.record("c", &now, &looked(true), None);
        let sight = Sight::of(&past, "flag x", LOOKED_FLAGS, &now).unwrap();
        assert_eq!(sight.came(), missed);
        let since = dated(at(file), "file", Some(&sight), &now, now.boot_time());
        assert_eq!(since.map(|since| since.age.as_secs() / 3600), want, "{file} {missed}");
    }
}

#[test]
fn nothing_to_look_at_is_absent() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at_root(dir.path()).unwrap();
    let error = RebootRequired::default().observe(&host, &Past::default()).unwrap_err();
    assert_eq!(error, Error::Absent("no /run, no /boot and no /lib/modules".to_owned()));
    create_dir_all(dir.path().join("usr/lib/modules")).unwrap();
    assert!(RebootRequired::default().observe(&host, &Past::default()).is_ok());
}

#[test]
fn a_source_that_can_not_be_read_keeps_its_notes() {
    for (source, other) in [("/run", "/boot/vmlinuz-6.1.0-46-amd64"), ("/boot", "/run/reboot-required")] {
        let dir = tree();
        put(dir.path(), "/boot/vmlinuz-6.1.0-46-amd64", "");
        std::fs::remove_file(dir.path().join(&other[1..])).unwrap();
        let scene = tempfile::tempdir().unwrap();
        let history = History::in_memory();
        std::os::unix::fs::symlink(dir.path(), scene.path().join("root")).unwrap();
        let denied = format!("[\"{source}\"]\nerrno = \"EACCES\"\n");
        let mut ages = Vec::new();
        for (day, stat) in [(1, ""), (2, denied.as_str()), (9, "")] {
            put(dir.path(), "/proc/uptime", format!("{}.00 1.00\n", 900_000 + day * 86400));
            put(scene.path(), "clock", format!("2026-11-{day:02}T00:00:00Z\n"));
            put(scene.path(), "stat.toml", stat);
            let assessment = look(&RebootRequired::default(), &Host::scenario(scene.path()).unwrap(), &history);
            ages.push((value(&assessment, "pending_age"), worst(&assessment)));
        }
        // What could not be looked at has no number, and what was seen before is still known.
        let want = [(Some(0.0), Status::Ok), (None, Status::Unknown), (Some(8.0 * 86400.0), Status::Ok)];
        assert_eq!(ages, want, "{source}");
    }
}

#[test]
fn parameters() {
    let read = |text: &str| toml::from_str::<RebootRequired>(text).map_err(|error| error.message().to_owned());
    for (text, seconds) in [("kured_grace = \"36h\"", 129_600), ("kured_grace = 3600", 3600), ("", 86400)] {
        assert_eq!(read(text).unwrap().kured_grace, Duration::from_secs(seconds));
    }
    for (text, message) in [
        ("kured_grace = \"soon\"", "not a duration such as \"24h\", nor a number of seconds"),
        ("kured_grace = -1", "not a duration such as \"24h\", nor a number of seconds"),
        ("flags = [\"run/x\"]", "'run/x' is not an absolute path"),
        ("kured_sentinel = \"reboot-required\"", "'reboot-required' is not an absolute path"),
        ("kured_sentinel = \"/var/run/\"", "'/var/run/' ends in a slash: it must be a file's path"),
        ("flags = [\"\"]", "'' is not an absolute path"),
        ("flags = [\"/\"]", "'/' ends in a slash: it must be a file's path"),
        ("flags = [\"/run/x\", \"/run/x/\"]", "'/run/x/' ends in a slash: it must be a file's path"),
        ("flags = [\"/run//x\"]", "'/run//x' has two slashes in a row"),
        ("flags = [\"/run/./x\"]", "'/run/./x' has a '.' or '..' between its slashes"),
        ("flags = [\"/run/../x\"]", "'/run/../x' has a '.' or '..' between its slashes"),
        ("flags = [\"/run/..\"]", "'/run/..' has a '.' or '..' between its slashes"),
        ("flags = [\"/run/x\\u0000\"]", "'/run/x\\u{0}' has a control character in it"),
        ("flags = [\"/run/x\\n\"]", "'/run/x\\n' has a control character in it"),
        ("flags = []\nkernels = false", "flags is empty and kernels is false: nothing is left to judge by"),
    ] {
        assert_eq!(read(text), Err(message.to_owned()));
    }
    assert!(read("flags = []").is_ok() && read("kernels = false").is_ok());
    assert!(read("flags = [\"/run/..x\", \"/run/.x\"]").is_ok());
    assert!(read("flag = []").unwrap_err().contains("unknown field"));
    let written = toml::to_string(&RebootRequired::default()).unwrap();
    assert_eq!(read(&written), Ok(RebootRequired::default()));
}
