//! What is shipped beside the binary: the example settings, the snippet for the C daemon, the unit.

mod support;

use std::fs;
use std::process::Command;

use nodecheck::catalog::{BUILT_IN, Catalog};
use nodecheck::probe::Kind;
use support::{here, outcome, run};

fn shipped(name: &str) -> String {
    fs::read_to_string(here().join(name)).unwrap()
}

/// The example with every setting switched on: in it a setting is commented out as `#key`, prose as `# prose`.
fn uncommented(example: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    example.lines().map(line).collect()
}

#[test]
fn the_example_settings_are_right() {
    let example = shipped("packaging/nodecheck.toml");
    let path = here().join("packaging/nodecheck.toml");
    let (code, out, _) = run(&["check-config", path.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (0, "ok\n"));
    let dir = tempfile::tempdir().unwrap();
    let all = dir.path().join("nodecheck.toml");
    fs::write(&all, uncommented(&example)).unwrap();
    let (code, out, _) = run(&["check-config", all.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (0, "ok\n"));
    // Sees that something was switched on at all.
    fs::write(&all, uncommented(&example).replace("kernels = true", "kernels = 1")).unwrap();
    assert_eq!(run(&["check-config", all.to_str().unwrap()]).0, 1);
}

/// Switched on as it stands, the example changes nothing but the rule that it shows.
#[test]
fn the_example_settings_show_the_defaults() {
    let example = uncommented(&shipped("packaging/nodecheck.toml"));
    let settings: toml::Table = example.parse().unwrap();
    let catalog = Catalog::built_in();
    for (name, _) in BUILT_IN {
        let check = catalog.check(name, &[]).unwrap().unwrap();
        let shown =
            settings["check"].get(name).unwrap_or_else(|| panic!("packaging/nodecheck.toml has no [check.{name}]"));
        let kind = Kind::named(check.definition.probe).unwrap();
        for (param, _) in kind.params {
            let shown = shown["params"].get(param).unwrap_or_else(|| panic!("{name}: parameter {param} is not shown"));
            assert_eq!(check.definition.params.get(*param), Some(shown), "{name}: {param}");
        }
        for (metric, threshold) in &check.definition.thresholds {
            for (level, range) in [("warning", threshold.warning), ("critical", threshold.critical)] {
                let shown = shown["threshold"].get(metric).and_then(|levels| levels.get(level)?.as_str());
                assert_eq!(shown.map(str::to_owned), range.map(|range| range.to_string()), "{name}: {metric} {level}");
            }
        }
    }
}

#[test]
fn the_c_daemon_has_a_command_a_check() {
    let snippet = shipped("packaging/nrpe.d/nodecheck.cfg");
    let commands: Vec<&str> = snippet.lines().filter(|line| line.starts_with("command[")).collect();
    assert_eq!(commands.len(), BUILT_IN.len());
    for (name, _) in BUILT_IN {
        let link = format!("check_{}", name.replace('-', "_"));
        let line = format!("command[{link}]=/usr/lib/nagios/plugins/{link}");
        assert!(commands.contains(&line.as_str()), "no {line}");
    }
}

#[test]
fn systemd_takes_the_unit() {
    // Its binary is not installed here; the one under test stands in for it.
    let unit = shipped("systemd/nodecheck.service");
    let here = unit.replace("/usr/bin/nodecheck", env!("CARGO_BIN_EXE_nodecheck"));
    assert_ne!(unit, here);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nodecheck.service");
    let verify = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output();
        let (code, out, err) = outcome(output.expect("systemd-analyze is missing: apt-get install systemd"));
        // It also looks at the units that this one pulls in, which are the machine's business.
        let own: Vec<String> =
            (out + &err).lines().filter(|line| line.contains("nodecheck")).map(str::to_owned).collect();
        (code, own)
    };
    assert_eq!(verify(&here), (0, Vec::new()));
    let (_, complaints) = verify(&here.replace("Restart=on-failure", "Restart=on-flailure"));
    assert!(!complaints.is_empty(), "systemd-analyze sees nothing");
}
