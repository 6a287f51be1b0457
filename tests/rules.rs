//! The rules of CONTRIBUTING.md that no compiler and no lint enforces, read off the sources.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use support::here;

/// What is refused outside src/host and src/serve, and why.
const IO: &[(&str, &str)] = &[
    ("std::fs", "files are read through Host"),
    ("std::net", "sockets belong to host and serve (addresses as values are fine)"),
    ("std::os::unix::net", "sockets belong to host and serve"),
    ("std::os::unix::fs", "files are read through Host"),
    ("std::process", "no check runs a program; the exit code is main.rs's"),
    ("std::time::SystemTime", "one look has one moment: host.now()"),
    ("std::time::Instant", "one look has one moment: host.now()"),
    ("Timestamp::now", "one look has one moment: host.now()"),
    ("Zoned::now", "one look has one moment: host.now()"),
    ("SystemTime::now", "one look has one moment: host.now()"),
    ("Instant::now", "one look has one moment: host.now()"),
    ("env::var", "the environment is not part of a verdict"),
    ("std::env::vars", "the environment is not part of a verdict"),
    ("nix::fcntl", "files are read through Host"),
    ("nix::dir", "files are read through Host"),
    ("nix::unistd", "the system is asked through Host"),
    ("nix::sys", "the system is asked through Host"),
    ("nix::libc", "the system is asked through Host"),
    ("tokio::fs", "files are read through Host"),
    ("unsafe", "unsafe code is in src/host only"),
    ("unsafe_code", "unsafe code is in src/host only"),
];

/// What is refused everywhere: names that would make a static glibc load the host's NSS libraries, and programs.
const NOWHERE: &[(&str, &str)] = &[
    ("lookup_host", "names are not resolved"),
    ("ToSocketAddrs", "names are not resolved"),
    ("to_socket_addrs", "names are not resolved"),
    ("getaddrinfo", "names are not resolved"),
    ("getpwnam", "read /etc/passwd instead"),
    ("getgrnam", "read /etc/group instead"),
    ("User::from_name", "read /etc/passwd instead"),
    ("User::from_uid", "read /etc/passwd instead"),
    ("Group::from_name", "read /etc/group instead"),
    ("Group::from_gid", "read /etc/group instead"),
    ("std::process::Command", "no program is run"),
    ("process::Command", "no program is run"),
    ("tokio::process", "no program is run"),
];

/// Values of std::net, with which nothing can be opened.
const VALUES: &[&str] =
    &["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6", "AddrParseError"];

/// Where a rule of [`IO`] has an exception: the file, the path in it, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/main.rs", "std::process::exit", "the only file that knows the number"),
    ("src/command/mod.rs", "env::var_os", "NO_COLOR and TERM concern the printing, not the verdict"),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All of src, as (path from the package's directory, text).
fn src() -> Vec<(String, String)> {
    let read = |path: PathBuf| {
        let name = path.strip_prefix(here()).unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(&path).unwrap())
    };
    sources(&here().join("src")).into_iter().map(read).collect()
}

/// The code of a source: without comments, without the insides of texts, without its test module.
fn code(text: &str) -> String {
    let is_tests = |rest: &str| {
        let module = rest.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
        module.starts_with("mod ") && module.ends_with('{')
    };
    let cuts = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at);
    let end = cuts.into_iter().find(|at| (*at == 0 || text[..*at].ends_with('\n')) && is_tests(&text[*at..]));
    let text = &text[..end.unwrap_or(text.len())];
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| without_texts(line) + "\n").collect()
}

fn without_texts(line: &str) -> String {
    let (mut out, mut inside, mut escaped) = (String::new(), false, false);
    // A quote in a character literal begins no text.
    let line = line.replace("'\"'", "' '").replace("'\\\"'", "' '");
    for character in line.chars() {
        if !inside && out.ends_with('/') && character == '/' {
            break;
        }
        if inside && (escaped || character == '\\') {
            escaped = !escaped;
        } else if character == '"' {
            inside = !inside;
            out.push('"');
        } else if !inside {
            out.push(character);
        }
    }
    out
}

/// Every path of a code: `use` trees spread out (`use std::{env, fs}` names std::env and std::fs), others as written.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = String::new();
    for (number, part) in code.split(';').enumerate() {
        match part.rsplit_once("use ").filter(|(before, _)| number == 0 || before.trim().split(' ').all(is_modifier)) {
            Some((before, tree)) => {
                rest.push_str(before);
                spread("", tree, &mut found);
            }
            None => rest.push_str(part),
        }
        rest.push(' ');
    }
    let mut path = String::new();
    for character in rest.chars().chain([' ']) {
        if character.is_alphanumeric() || matches!(character, '_' | ':') {
            path.push(character);
        } else {
            found.extend(Some(std::mem::take(&mut path)).filter(|path| !path.is_empty()));
        }
    }
    found
}

fn is_modifier(word: &str) -> bool {
    word.is_empty() || word.starts_with("pub") || word.starts_with('#') || word.starts_with('\n')
}

fn spread(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    match tree.split_once('{') {
        None => found.push(format!("{prefix}{}", tree.split(" as ").next().unwrap_or_default().trim())),
        Some((head, rest)) => {
            let inner = rest.strip_suffix('}').unwrap_or(rest);
            let (mut depth, mut part) = (0, String::new());
            for character in inner.chars().chain([',']) {
                match character {
                    ',' if depth == 0 => {
                        let item = std::mem::take(&mut part);
                        if !item.trim().is_empty() {
                            spread(&format!("{prefix}{head}"), &item, found);
                        }
                        continue;
                    }
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                part.push(character);
            }
        }
    }
}

/// Whether `path` names `rule` or something in it: `std::fs::read` is of `std::fs`, `a::Instant::now` of
/// `Instant::now`, `env::var_os` of `env::var`.
fn is_of(path: &str, rule: &str) -> bool {
    if rule == "env::var" {
        return path.starts_with("env::var") || path.starts_with("std::env::var");
    }
    let joined = format!("::{path}::");
    match rule.split_once("::") {
        Some(("std" | "nix" | "tokio", _)) => joined.starts_with(&format!("::{rule}::")),
        _ => joined.contains(&format!("::{rule}::")),
    }
}

/// What is wrong in one file.
fn offences(name: &str, text: &str) -> Vec<String> {
    let may_do_io = name.starts_with("src/host/") || name.starts_with("src/serve/");
    // Tests only.
    if name.ends_with("/tests.rs") || name.contains("/tests/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for path in paths(&code(text)) {
        let io = IO.iter().filter(|_| !may_do_io);
        for (rule, why) in io.chain(NOWHERE).filter(|(rule, _)| is_of(&path, rule)) {
            let is_value =
                *rule == "std::net" && VALUES.iter().any(|value| is_of(&path, &format!("std::net::{value}")));
            let is_excepted = EXCEPTIONS.iter().any(|(file, known, _)| *file == name && is_of(&path, known));
            if !is_value && !is_excepted {
                found.push(format!("{name}: {path}: {why}"));
            }
        }
    }
    found
}

#[test]
fn io_clocks_and_the_environment_are_in_host_and_serve_only() {
    let found: Vec<String> = src().iter().flat_map(|(name, text)| offences(name, text)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The reader above, on one line each: what it must see, and what it must let pass.
#[test]
fn the_reader_of_sources_sees_what_it_must() {
    for (text, offence) in [
        ("use std::fs;", true),
        ("use std::{env, fs};", true),
        ("use std::{\n    collections::{BTreeMap, BTreeSet},\n    net::{IpAddr, TcpStream},\n};", true),
        ("use std::io;\nuse std::fs as files;", true),
        ("pub(crate) use std::process;", true),
        ("fn f() { let x = std::fs::read(p)?; }", true),
        ("fn f() { let x = g(std::env::var(\"X\")); }", true),
        ("use std::env;\nfn f() { env::var_os(\"X\"); }", true),
        ("use jiff::Timestamp;\nfn f() { h(Timestamp::now()) }", true),
        ("use std::time::{Duration, Instant};", true),
        ("fn f() { unsafe { g() } }", true),
        ("#![allow(unsafe_code)]", true),
        ("let s = \"//\"; std::fs::read(p);", true),
        ("let quote = '\"'; std::fs::read(p);", true),
        ("use std::net::{IpAddr, SocketAddr};", false),
        ("use std::time::Duration;", false),
        ("/// Reads with std::fs.\nfn f() {}", false),
        ("fn f() {} // not std::fs", false),
        ("let s = \"use std::fs;\";", false),
        ("use crate::host::Host;\nfn f() { host.read(p) }", false),
        ("fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}", false),
        ("fn f() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    use std::fs;\n}", false),
        ("#[cfg(test)]\nmod tests;\nuse std::fs;", true),
    ] {
        assert_eq!(!offences("src/probe/x.rs", text).is_empty(), offence, "{text}: {:?}", paths(&code(text)));
    }
    assert!(offences("src/host/x.rs", "use std::fs;\nfn f() { unsafe { g() } }").is_empty());
    for text in ["use tokio::net::lookup_host;", "nix::unistd::Group::from_name(n)", "use std::process::Command;"] {
        assert!(!offences("src/host/x.rs", text).is_empty(), "{text}");
    }
    assert!(offences("src/main.rs", "use std::process::exit;").is_empty());
    assert!(!offences("src/main.rs", "use std::process::Command;").is_empty());
}

#[test]
fn parsers_can_not_panic_and_are_tested() {
    let parsers: Vec<_> = src().into_iter().filter(|(name, _)| name.starts_with("src/parse/")).collect();
    let (_, root) = parsers.iter().find(|(name, _)| name == "src/parse/mod.rs").unwrap();
    let denied = root.split_once("#![deny(").and_then(|(_, rest)| rest.split_once(")]")).unwrap().0;
    for lint in [
        "indexing_slicing",
        "arithmetic_side_effects",
        "unwrap_used",
        "expect_used",
        "panic",
        "as_conversions",
        "string_slice",
    ] {
        let lint = format!("clippy::{lint}");
        assert!(denied.split(',').any(|item| item.trim() == lint), "src/parse/mod.rs must deny {lint}");
    }
    let parsers = parsers.iter().filter(|(name, _)| name != "src/parse/mod.rs");
    let mut folders: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    for (name, text) in parsers {
        let is_tests = name.ends_with("/tests.rs") || name.contains("/tests/");
        let (code, tests) = match text.split_once("#[cfg(test)]") {
            _ if is_tests => ("", text.as_str()),
            Some(parts) => parts,
            None => (text.as_str(), ""),
        };
        // A parser of several files is fuzzed and tested as a whole.
        let parser = name["src/parse/".len()..].split('/').next().unwrap();
        let (is_fuzzed, is_cut) = folders.entry(parser).or_default();
        *is_fuzzed |= code.contains("\npub fn fuzz(data: &[u8])");
        *is_cut |= tests.contains("prefix");
        assert!(!code.contains("allow("), "{name} allows what src/parse/mod.rs denies");
        assert!(!code.contains("crate::"), "{name} uses another part of this crate");
    }
    for (parser, (is_fuzzed, is_cut)) in folders {
        assert!(is_fuzzed, "src/parse/{parser} has no fuzz function");
        assert!(is_cut, "src/parse/{parser} has no test over every prefix of a good sample");
    }
}

#[test]
fn no_source_is_long() {
    for (name, text) in src() {
        let lines = text.lines().count();
        assert!(lines <= 400, "{name} has {lines} lines; 400 are enough for one idea");
    }
}

#[test]
fn no_test_is_left_out() {
    let run = std::fs::read_to_string(here().join("tests/run")).unwrap();
    assert!(run.contains("-- --include-ignored"), "tests/run deep must run what is ignored elsewhere");
    // Joined here, else this file would count.
    let ignore = ["#[", "ignore"].concat();
    for path in sources(&here().join("src")).into_iter().chain(sources(&here().join("tests"))) {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| line.trim().starts_with(&ignore)) {
            let is_run = line.contains("= \"deep: ") || line.contains("= \"started by another test\"");
            assert!(is_run, "{}: {line}: say \"deep: why\" or \"started by another test\"", path.display());
        }
    }
}

#[test]
fn contributing_says_what_each_dependency_replaces() {
    let text = std::fs::read_to_string(here().join("CONTRIBUTING.md")).unwrap();
    let manifest = std::fs::read_to_string(here().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let named = |group: &str| {
        let table = manifest.get(group).and_then(toml::Value::as_table).cloned().unwrap_or_default();
        table.keys().cloned().collect::<Vec<String>>()
    };
    let dependencies = [named("dependencies"), named("dev-dependencies"), named("build-dependencies")].concat();
    assert!(!dependencies.is_empty());
    for name in &dependencies {
        assert!(text.contains(&format!("\n| `{name}` | ")), "CONTRIBUTING.md has no line for {name}");
    }
    let rows = text.split("## Dependencies").nth(1).expect("a section 'Dependencies'").split("\n## ").next().unwrap();
    for name in rows.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0)) {
        assert!(dependencies.iter().any(|known| known == name), "CONTRIBUTING.md explains {name}, which is not used");
    }
}
