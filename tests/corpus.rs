//! The fuzzer's targets, without the fuzzer: the list is whole, and every input that was ever kept is replayed.

mod support;
#[path = "fuzz/src/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use support::here;
use targets::TARGETS;

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

#[test]
fn every_parser_has_a_target() {
    let targets: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(targets.len(), TARGETS.len(), "two targets share a name");
    let parsers = files(&here().join("src/parse"));
    assert!(!parsers.is_empty());
    for parser in parsers.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).filter(|name| *name != "mod") {
        assert!(targets.contains(parser), "tests/fuzz/src/targets.rs has no line for src/parse/{parser}.rs");
    }
}

#[test]
fn every_target_has_a_corpus_that_is_replayed() {
    for (name, target) in TARGETS {
        let seeds = [format!("tests/fuzz/corpus/{name}"), format!("tests/captures/{name}")];
        let seeds: Vec<PathBuf> = seeds.iter().flat_map(|dir| files(&here().join(dir))).collect();
        assert!(!seeds.is_empty(), "no input in tests/fuzz/corpus/{name} nor in tests/captures/{name}");
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            // A panic names no file by itself.
            let replayed = std::panic::catch_unwind(|| target(&bytes));
            assert!(replayed.is_ok(), "{name} panics on {}", seed.display());
        }
    }
}

#[test]
fn no_folder_of_inputs_is_forgotten() {
    for entry in std::fs::read_dir(here().join("tests/fuzz/corpus")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(TARGETS.iter().any(|(known, _)| name == *known), "tests/fuzz/corpus/{name:?} belongs to no target");
    }
}
