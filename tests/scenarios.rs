//! Every recorded node against its golden files. `NODECHECK_BLESS=1` rewrites them; read the difference.

mod support;

use std::fs;
use std::time::Duration;

use nodecheck::cli::Global;
use nodecheck::node::Node;
use nodecheck::render::plugin;
use nodecheck::scenario::expectation;

#[test]
fn every_scenario_says_what_it_should() {
    let bless = std::env::var_os("NODECHECK_BLESS").is_some();
    let scenarios = support::scenarios();
    assert!(!scenarios.is_empty());
    let mut wrong = Vec::new();
    for (check, dir) in scenarios {
        let node = Node::open(&Global { scenario: Some(dir.clone()), ..Global::default() }).unwrap();
        let verdict = node.ask(&node.host, &check, None, Duration::from_secs(30));
        let said = expectation(verdict.status.code(), &plugin(&verdict, false));
        let file = dir.join(format!("expect/{check}.txt"));
        if bless {
            fs::create_dir_all(dir.join("expect")).unwrap();
            fs::write(&file, &said).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- said\n{said}", dir.display()));
        }
        let again = node.ask(&node.host, &check, None, Duration::from_secs(30));
        if expectation(again.status.code(), &plugin(&again, false)) != said {
            wrong.push(format!("{}: asked twice, it says two things", dir.display()));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn line_1_is_useful_when_cut_at_80_characters() {
    for (check, dir) in support::scenarios() {
        let text = fs::read_to_string(dir.join(format!("expect/{check}.txt"))).unwrap();
        let line = text.lines().nth(1).unwrap();
        let cut: String = line.chars().take(80).collect();
        let prefix = format!(" - {check}: ");
        let sentence = cut.split_once(&prefix).unwrap_or_else(|| panic!("{}: {line}", dir.display())).1;
        assert!(sentence.split(' ').count() >= 3, "{}: {cut}", dir.display());
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{}", dir.display());
    }
}
