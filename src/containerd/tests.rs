use std::fs;

use super::config::{Dirs, read};
use super::find;
use crate::host::Host;

/// The root directory that settings name; each file with its text.
fn root_of(files: &[(&str, &str)]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let host = Host::at_root(dir.path()).unwrap();
    let Dirs { root } = read(&host, "/etc/containerd/config.toml");
    root
}

#[test]
fn settings() {
    const MAIN: &str = "etc/containerd/config.toml";
    let a = "root = \"/a\"";
    for (files, root, why) in [
        (&[][..], None, "no file"),
        (&[(MAIN, a)], Some("/a"), "the setting"),
        (&[(MAIN, "version = 3\n[plugins.\"x\"]\nroot = \"/no\"")], None, "another one of that name"),
        (&[(MAIN, "root = \"\"")], None, "an empty one is none"),
        (&[(MAIN, "root = 7\nimports = 7")], None, "not as containerd reads it"),
        (&[(MAIN, "root = \"/a\nimports")], None, "no TOML"),
        (
            &[(MAIN, "root = \"/a\"\nimports = [\"b.toml\"]"), ("etc/containerd/b.toml", "root = \"/b\"")],
            Some("/b"),
            "later",
        ),
        (
            &[(MAIN, "root = \"/a\"\nimports = [\"/b.toml\"]"), ("b.toml", "root = [")],
            Some("/a"),
            "an import is broken",
        ),
        (
            &[(MAIN, "root = \"/a\"\nimports = [\"/b.toml\"]"), ("b.toml", "root = \"\"")],
            Some("/a"),
            "an import says nothing",
        ),
        (
            &[
                (MAIN, "imports = [\"/d/*.toml\"]"),
                ("d/1.toml", "root = \"/1\""),
                ("d/2.toml", "root = \"/2\""),
                ("d/3", "root = \"/3\""),
            ],
            Some("/2"),
            "in the order of their names",
        ),
        (
            &[(MAIN, "imports = [\"/b.toml\"]"), ("b.toml", "imports = [\"c.toml\"]"), ("c.toml", "root = \"/c\"")],
            Some("/c"),
            "an import of an import",
        ),
        (&[(MAIN, "root = \"/a\"\nimports = [\"*\", \"config.toml\"]")], Some("/a"), "itself"),
    ] {
        assert_eq!(root_of(files).as_deref(), root, "{why}");
    }
}

/// Rather none than something else than what was asked for.
#[test]
fn given_directories_are_the_only_ones() {
    let dir = tempfile::tempdir().unwrap();
    for root in ["var/lib/containerd", "data", "seen"] {
        let path = dir.path().join(root).join("io.containerd.metadata.v1.bolt");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("meta.db"), root).unwrap();
    }
    let host = Host::at_root(dir.path()).unwrap();
    let found = |given: &[&str], remembered: &[&str]| {
        let owned = |all: &[&str]| all.iter().map(|root| (*root).to_owned()).collect::<Vec<_>>();
        let places = find(&host, &owned(given), &owned(remembered));
        places.map(|places| places.into_iter().map(|place| (place.root, place.of)).collect::<Vec<_>>())
    };
    let at = |root: &str, of| (root.to_owned(), of);
    let kubeadm = at("/var/lib/containerd", Some("kubeadm"));
    assert_eq!(found(&[], &[]).unwrap(), std::slice::from_ref(&kubeadm));
    assert_eq!(found(&[], &["/seen", "/gone", "", "no/root", "/seen/"]).unwrap(), [kubeadm, at("/seen", None)]);
    assert_eq!(found(&["/data/"], &["/seen"]).unwrap(), [at("/data", None)]);
    assert!(found(&["/gone"], &["/seen"]).unwrap_err().is_absent());
}
