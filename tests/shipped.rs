//! What ships is what is tested: every definition loads, is documented, can pass and can fail.

mod support;

use std::collections::BTreeSet;
use std::fs;

use nodecheck::catalog::{BUILT_IN, Catalog};

#[test]
fn every_definition_is_embedded_and_right() {
    let mut files: Vec<String> = fs::read_dir(support::here().join("checks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let embedded: Vec<String> = BUILT_IN.iter().map(|(name, _)| format!("{name}.toml")).collect();
    assert_eq!(files, embedded);
    assert!(!files.is_empty());
    let faults = Catalog::built_in().all_faults();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn every_check_has_what_an_operator_needs() {
    let catalog = Catalog::built_in();
    for name in catalog.names() {
        let check = catalog.check(name, &[]).unwrap().unwrap();
        let definition = &check.definition;
        assert!(definition.summary.len() <= 60, "{name}: the summary is a few words");
        assert!(definition.why.len() >= 40 && definition.advice.len() >= 40, "{name}: why and advice are sentences");
        assert!(definition.main.is_some(), "{name}: a bare -w needs a main metric");
        assert!(definition.deadline < std::time::Duration::from_secs(10), "{name}: check_nrpe waits 10 s");
        assert!(!definition.thresholds.is_empty() || !definition.rules.is_empty(), "{name}: it can't fail");
    }
}

#[test]
fn every_check_has_a_scenario_that_passes_and_one_that_fails() {
    let mut codes: BTreeSet<(String, String)> = BTreeSet::new();
    for (check, dir) in support::scenarios() {
        let text = fs::read_to_string(dir.join(format!("expect/{check}.txt"))).unwrap();
        codes.insert((check, text.lines().next().unwrap().to_owned()));
    }
    for (name, _) in BUILT_IN {
        let has = |code: &str| codes.contains(&((*name).to_owned(), code.to_owned()));
        assert!(has("exit 0"), "{name} has no scenario that passes");
        assert!(has("exit 1") || has("exit 2"), "{name} has no scenario that fails");
    }
    for (check, _) in &codes {
        assert!(BUILT_IN.iter().any(|(name, _)| name == check), "tests/scenarios/{check} is of no check");
    }
}

#[test]
fn the_readme_has_a_row_a_check_and_no_other() {
    let readme = fs::read_to_string(support::here().join("README.md")).unwrap();
    let rows: BTreeSet<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(name, _)| name)
        .filter(|name| BUILT_IN.iter().any(|(known, _)| known == name) || !name.contains([' ', '/']))
        .collect();
    for (name, _) in BUILT_IN {
        assert!(rows.contains(name), "README has no row for {name}");
    }
    let section = readme.split("## Checks").nth(1).expect("README has a section 'Checks'");
    let section = section.split("\n## ").next().unwrap();
    for name in section.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0)) {
        assert!(BUILT_IN.iter().any(|(known, _)| *known == name), "README describes {name}, which is no check");
    }
}
