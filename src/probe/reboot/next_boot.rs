//! Which kernel the next boot takes, where somebody has settled it.
//!
//! An operator who keeps a node on an older kernel on purpose has written that down somewhere: then the newer one is
//! not pending. A boot menu's *position* tells nothing, since every new kernel shifts the positions.

use crate::host::{Host, optional};
use crate::parse::bootloader;
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

/// Looks in every place, below `/boot` only with `in_boot`; `installed` and the running kernel are what can be chosen.
pub(super) fn look(
    host: &Host,
    running: &Release,
    installed: &[&Release],
    in_boot: bool,
    remarks: &mut Vec<String>,
) -> Option<Choice> {
    let mut read = |path: &str| {
        if path.starts_with("/boot/") && !in_boot {
            return None;
        }
        optional(host.read(path, LONGEST)).unwrap_or_else(|error| {
            remarks
                .push(format!("which kernel the next boot takes may be written in a file that was not read: {error}"));
            None
        })
    };
    let mut texts: Vec<(String, String)> = Vec::new();
    for pin in PINS {
        let first = read(pin).and_then(|bytes| String::from_utf8_lossy(&bytes).lines().next().map(str::to_owned));
        texts.extend(first.map(|text| (pin.to_owned(), text)));
    }
    let (file, default) = grub_default(host, &mut read).unzip();
    let env = GRUB_ENV.iter().find_map(|path| Some((*path, bootloader::grub_env(&read(path)?)?)));
    if let Some((path, env)) = env {
        texts.extend(env.next.map(|text| (format!("next_entry in {path}"), text)));
        // Without a word in GRUB_DEFAULT the block may still rule, as it does on RHEL.
        if default.as_deref().is_none_or(|default| default == "saved") {
            texts.extend(env.saved.map(|text| (format!("saved_entry in {path}"), text)));
        }
    }
    if let (Some(file), Some(text)) = (file, default.filter(|default| default != "saved")) {
        texts.push((format!("GRUB_DEFAULT in {file}"), text));
    }
    texts.extend(
        read(LOADER).and_then(|bytes| bootloader::loader_default(&bytes)).map(|text| (LOADER.to_owned(), text)),
    );
    for (place, text) in texts {
        let named = installed.iter().copied().chain([running]).filter(|release| release.is_named_in(&text));
        if let Some(release) = named.max_by_key(|release| release.text().len()) {
            return Some(Choice { release: release.text().to_owned(), place });
        }
        let position =
            text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'>');
        if position && text != "0" {
            remarks
                .push(format!("{place} is the menu position {}: it does not tell which kernel", super::shown(&text)));
        }
    }
    None
}

/// `GRUB_DEFAULT` with the file that sets it; what comes later in Debian's directory counts.
fn grub_default(host: &Host, read: &mut impl FnMut(&str) -> Option<Vec<u8>>) -> Option<(String, String)> {
    let directory = format!("{GRUB_DEFAULTS}.d");
    let names = optional(host.list(&directory, 256)).ok().flatten().unwrap_or_default();
    let names = names.iter().filter_map(|name| name.to_str()).filter(|name| name.ends_with(".cfg"));
    let files = [GRUB_DEFAULTS.to_owned()].into_iter().chain(names.map(|name| format!("{directory}/{name}")));
    files.filter_map(|file| Some((file.clone(), bootloader::grub_default(&read(&file)?)?))).last()
}
