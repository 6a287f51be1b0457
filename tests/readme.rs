//! The README says what is so: its examples are run, its settings are checked, its links lead somewhere.

mod support;

use std::fs;

use support::{here, nodecheck, outcome, run};

fn readme() -> String {
    fs::read_to_string(here().join("README.md")).unwrap()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(of) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if of == language {
                found.push(block.join("\n"));
            }
        }
    }
    found
}

#[test]
fn what_it_shows_is_what_is_said() {
    let mut count = 0;
    for block in blocks(&readme(), "console") {
        let Some(rest) = block.strip_prefix("$ nodecheck ") else { continue };
        let (command, shown) = rest.split_once('\n').unwrap();
        let (_, said, _) = outcome(nodecheck().args(command.split(' ')).current_dir(here()).output().unwrap());
        // "[...]" stands for the rest of a line.
        let mut said = said.lines();
        for shown in shown.lines() {
            let line = said.next().unwrap_or_default();
            match shown.strip_suffix("[...]") {
                Some(begin) => assert!(line.starts_with(begin), "{command}:\n{line}\n{shown}"),
                None => assert_eq!(line, shown, "{command}"),
            }
        }
        assert_eq!(said.next(), None, "{command}");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn its_commands_are_understood() {
    // Two days of a pending reboot, so that every command has something to tell.
    let (node, dir) = (support::pending_node(48), tempfile::tempdir().unwrap());
    let captured = dir.path().join("captured");
    let mut count = 0;
    let text = readme();
    let blocks = blocks(&text, "sh");
    for line in blocks.iter().flat_map(|block| block.lines()).filter(|line| line.starts_with("nodecheck ")) {
        let command = line.split(" #").next().unwrap().replace("/root/node-7", captured.to_str().unwrap());
        let mut arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        if !arguments.contains(&"--scenario") {
            arguments.extend(["--root", node.path().to_str().unwrap()]);
        }
        let (_, out, _) = run(&arguments);
        assert!(out.contains("reboot pending for 2 d") || out == "ok\n", "{line}: {out}");
        count += 1;
    }
    assert!(count >= 10, "{count}");
}

#[test]
fn its_settings_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let text = readme();
    let blocks = blocks(&text, "toml");
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let file = dir.path().join("block.toml");
        fs::write(&file, &block).unwrap();
        let (code, out, _) = run(&["check-config", file.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (0, "ok\n"), "{block}");
    }
}

#[test]
fn its_links_lead_somewhere() {
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(here().join(name)).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            assert!(target.starts_with("https://") || here().join(target).exists(), "{name}: {target}");
        }
    }
}
