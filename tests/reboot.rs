//! Every recorded node of `reboot-required` against `cases.tsv`: what its state is and what it must say, written down by
//! hand and apart from the golden files, which a switch rewrites.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nodecheck::cli::Global;
use nodecheck::node::Node;
use nodecheck::render::plugin;

const CHECK: &str = "reboot-required";

#[test]
fn every_case_has_its_state_and_says_why() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios").join(CHECK);
    let table = fs::read_to_string(dir.join("cases.tsv")).unwrap();
    let mut names = BTreeSet::new();
    let mut wrong = Vec::new();
    for row in table.lines() {
        let [name, state, words] = row.split('\t').collect::<Vec<_>>()[..] else { panic!("{row}: not three columns") };
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        let node = Node::open(&Global { scenario: Some(dir.join(name)), ..Global::default() }).unwrap();
        let verdict = node.ask(&node.host, CHECK, None, Duration::from_secs(30));
        let text = plugin(&verdict, false);
        if verdict.status.word() != state || !text.contains(words) {
            wrong.push(format!("{name}: {state}, {words}\n{text}"));
        }
    }
    let cases = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir());
    let cases: BTreeSet<String> = cases.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(cases, names, "cases.tsv and the directories differ");
    assert!(wrong.is_empty(), "{} are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}
