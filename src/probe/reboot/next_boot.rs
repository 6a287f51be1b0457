//! Which kernel the next boot takes, where somebody has settled it.
//!
//! An operator who keeps a node on an older kernel on purpose has written that down somewhere: then the newer one is
//! not pending. A boot menu's *position* tells nothing, since every new kernel shifts the positions. And a place that
//! can't be read may outweigh what a later one says: then nothing keeps the running kernel for certain.

use crate::host::{Error, Host, optional};
use crate::parse::bootloader::{self, GrubDefault};
use crate::parse::release::Release;

/// proxmox-boot-tool's pins: for the next boot, and for every one.
const PINS: [&str; 2] = ["/etc/kernel/next-boot-pin", "/etc/kernel/proxmox-boot-pin"];
const GRUB_ENV: [&str; 2] = ["/boot/grub/grubenv", "/boot/grub2/grubenv"];
const GRUB_DEFAULTS: &str = "/etc/default/grub";
const LOADER: &str = "/boot/loader/loader.conf";
const LONGEST: u64 = 64 << 10;

/// The kernel that the next boot takes.
#[derive(Debug)]
pub(super) struct Choice {
    pub release: String,
    /// Where that is written down.
    pub place: String,
}

/// What is settled of the next boot.
#[derive(Debug, Default)]
pub(super) struct NextBoot {
    pub choice: Option<Choice>,
    /// One place keeps the running kernel, and one that outweighs it could not be read.
    pub doubt: Option<String>,
}

/// One place, in the order of their weight.
enum Word {
    /// Where, and what it says.
    Says(String, String),
    Unread(Error),
    /// What lies in `/boot`, which is told elsewhere.
    NotLooked,
}

/// Looks in every place, below `/boot` only with `in_boot`; `installed` and the running kernel are what can be chosen.
pub(super) fn look(
    host: &Host,
    running: &Release,
    installed: &[&Release],
    in_boot: bool,
    remarks: &mut Vec<String>,
) -> NextBoot {
    let mut next = NextBoot::default();
    let mut unread: Option<String> = None;
    let mut decided = false;
    for word in words(host, in_boot) {
        let (place, text) = match word {
            Word::Says(place, text) => (place, text),
            Word::Unread(error) => {
                remarks.push(format!("which kernel the next boot takes may be written where it was not read: {error}"));
                unread.get_or_insert(error.to_string());
                continue;
            }
            Word::NotLooked => {
                unread.get_or_insert("/boot was not looked into".to_owned());
                continue;
            }
        };
        if decided {
            continue;
        }
        let named = installed.iter().copied().chain([running]).filter(|release| release.is_named_in(&text));
        if let Some(release) = named.max_by_key(|release| release.text().len()) {
            decided = true;
            match &unread {
                None => next.choice = Some(Choice { release: release.text().to_owned(), place }),
                // One that names the newer kernel changes nothing: without it the reboot is pending too.
                Some(_) if release.newer_than(running) => {}
                Some(why) => {
                    let (place, release) = (super::shown(&place), release.text());
                    next.doubt = Some(format!("{place} names {release}, but what may outweigh it was not read: {why}"));
                }
            }
            continue;
        }
        let position =
            text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'>');
        if position && text != "0" {
            remarks
                .push(format!("{place} is the menu position {}: it does not tell which kernel", super::shown(&text)));
        }
    }
    next
}

fn words(host: &Host, in_boot: bool) -> Vec<Word> {
    let read = |path: &str| optional(host.read(path, LONGEST));
    let mut words = Vec::new();
    for pin in PINS {
        match read(pin) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).lines().next().map(str::to_owned);
                words.extend(text.map(|text| Word::Says(pin.to_owned(), text)));
            }
            Err(error) => words.push(Word::Unread(error)),
        }
    }
    if !in_boot {
        words.push(Word::NotLooked);
    }
    let mut saved = None;
    for path in GRUB_ENV.into_iter().filter(|_| in_boot) {
        match read(path) {
            Ok(bytes) => {
                let Some(env) = bootloader::grub_env(&bytes.unwrap_or_default()) else { continue };
                words.extend(env.next.map(|text| Word::Says(format!("next_entry in {path}"), text)));
                saved = env.saved.map(|text| Word::Says(format!("saved_entry in {path}"), text));
                break;
            }
            Err(error) => words.push(Word::Unread(error)),
        }
    }
    match grub_default(host) {
        // Without a word in GRUB_DEFAULT the block may still rule, as it does on RHEL.
        Ok(None) => words.extend(saved),
        Ok(Some((_, GrubDefault::Value(value)))) if value == "saved" => words.extend(saved),
        Ok(Some((file, GrubDefault::Value(value)))) => {
            words.push(Word::Says(format!("GRUB_DEFAULT in {file}"), value));
        }
        Ok(Some((file, GrubDefault::Shell))) => {
            let text = format!("GRUB_DEFAULT in {} is what only a shell could tell", super::shown(&file));
            words.push(Word::Unread(Error::Failed(text)));
        }
        Err(errors) => {
            words.extend(errors.into_iter().map(Word::Unread));
            words.extend(saved);
        }
    }
    if in_boot {
        match read(LOADER) {
            Ok(bytes) => {
                let text = bytes.and_then(|bytes| bootloader::loader_default(&bytes));
                words.extend(text.map(|text| Word::Says(LOADER.to_owned(), text)));
            }
            Err(error) => words.push(Word::Unread(error)),
        }
    }
    words
}

/// `GRUB_DEFAULT` with the file that sets it; what comes later in Debian's directory counts. The errors are those of
/// files that may set it after the last one that was read does.
fn grub_default(host: &Host) -> Result<Option<(String, GrubDefault)>, Vec<Error>> {
    let directory = format!("{GRUB_DEFAULTS}.d");
    let listed = optional(host.list(&directory, 256));
    let (names, beyond) = match listed {
        Ok(names) => (names.unwrap_or_default(), None),
        Err(error) => (Vec::new(), Some(error)),
    };
    // A name that is not UTF-8 is replaced, and then missing: see below.
    let names = names.iter().map(|name| name.to_string_lossy()).filter(|name| name.ends_with(".cfg"));
    let files = [GRUB_DEFAULTS.to_owned()].into_iter().chain(names.map(|name| format!("{directory}/{name}")));
    let (mut set, mut unread) = (None, Vec::new());
    for file in files {
        match optional(host.read(&file, LONGEST)) {
            Ok(None) if file.contains(char::REPLACEMENT_CHARACTER) => {
                unread.push(Error::Failed(format!("{} has a name that is not UTF-8", super::shown(&file))));
            }
            Ok(bytes) => {
                if let Some(value) = bytes.and_then(|bytes| bootloader::grub_default(&bytes)) {
                    set = Some((file, value));
                    unread.clear();
                }
            }
            Err(error) => unread.push(error),
        }
    }
    unread.extend(beyond);
    if unread.is_empty() { Ok(set) } else { Err(unread) }
}
