use std::fs::{create_dir, create_dir_all, remove_dir, remove_file, write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::*;

/// A tree with two levels, links of every kind, and what is no regular file.
fn sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["cg/a/deep", "cg/b", "cg/b.slice", "cg/c\nd", "outside"] {
        create_dir_all(at(name)).unwrap();
    }
    create_dir(at("cg").join(std::ffi::OsStr::from_bytes(b"caf\xe9"))).unwrap();
    write(at("cg/memory.events"), "oom 1\n").unwrap();
    write(at("cg/a/memory.events"), "oom 2\n").unwrap();
    write(at("cg/a/deep/memory.events"), "oom 3\n").unwrap();
    write(at("cg/large"), [b'x'; 10_000]).unwrap();
    write(at("outside/secret"), "secret").unwrap();
    for (target, link) in [
        ("a", "cg/to-dir"),
        ("memory.events", "cg/to-file"),
        ("../outside", "cg/out"),
        ("/cg", "to-cg"),
        ("/x", "to-x"),
    ] {
        symlink(target, at(link)).unwrap();
    }
    nix::unistd::mkfifo(&at("cg/fifo"), Mode::S_IRWXU).unwrap();
    drop(UnixListener::bind(at("cg/socket")).unwrap());
    dir
}

fn failed<T>(text: &str) -> Result<T, Error> {
    Err(Error::Failed(text.to_owned()))
}

fn absent<T>(text: &str) -> Result<T, Error> {
    Err(Error::Absent(text.to_owned()))
}

/// Stays for cases that a directory can't be compared in.
fn open<'a>(opened: Result<Dir<'a>, Error>) -> Result<String, Error> {
    opened.map(|dir| dir.path().to_owned())
}

#[test]
fn what_is_below() {
    let tree = sample();
    let host = Host::at_root(tree.path()).unwrap();
    let cg = host.dir("/cg").unwrap();
    assert_eq!(cg.read("memory.events", 64).unwrap(), b"oom 1\n");
    assert_eq!(cg.read("a/memory.events", 64).unwrap(), b"oom 2\n");
    let deep = cg.dir("a").unwrap().dir("deep").unwrap();
    assert_eq!((deep.path(), &*deep.read("memory.events", 6).unwrap()), ("/cg/a/deep", &b"oom 3\n"[..]));
    assert_eq!(host.busy_with().as_deref(), Some("/cg/a/deep/memory.events"));
    // From a link's name on, as it was asked for.
    assert_eq!(host.dir("/to-cg").unwrap().dir("a").unwrap().path(), "/to-cg/a");
    assert_eq!(host.dir("/").unwrap().dir("cg").unwrap().read("b/memory.events", 64), absent("no /cg/b/memory.events"));
    for (path, want) in [
        ("/to-x", absent("no /to-x")),
        ("/none", absent("no /none")),
        ("/cg/large", failed("/cg/large is a regular file, not a directory")),
        ("/cg/../cg", failed("/cg/../cg: Invalid argument")),
    ] {
        assert_eq!(open(host.dir(path)), want, "{path}");
    }
}

#[test]
fn only_directories_are_listed_and_a_limit_is_kept() {
    let tree = sample();
    let host = Host::at_root(tree.path()).unwrap();
    let cg = host.dir("/cg").unwrap();
    // Without the links, and without caf\xe9. Twice: no place in the directory is kept.
    for _ in 0..2 {
        assert_eq!(cg.dirs(4).unwrap(), ["a", "b", "b.slice", "c\nd"]);
    }
    assert_eq!(cg.dirs(3), failed("/cg holds more than 3 directories"));
    assert_eq!(cg.dir("b").unwrap().dirs(0).unwrap(), [""; 0]);
    let fd = cg.open(".", LISTING).unwrap();
    for (name, is) in [("a", true), ("to-dir", false), ("fifo", false), ("gone", false)] {
        assert_eq!(is_dir(&fd, name, libc::DT_UNKNOWN), Ok(is), "{name}");
    }
    // More than one system call gives.
    for number in 0..300 {
        create_dir(tree.path().join(format!("cg/b/{number}-{}", "x".repeat(40)))).unwrap();
    }
    assert_eq!(cg.dir("b").unwrap().dirs(300).unwrap().len(), 300);
    assert!(cg.dir("b").unwrap().dirs(299).is_err());
}

#[test]
fn links_and_what_is_no_regular_file_are_refused() {
    let tree = sample();
    let host = Host::at_root(tree.path()).unwrap();
    let cg = host.dir("/cg").unwrap();
    for (name, want) in [
        ("to-file", failed("/cg/to-file is a symbolic link, not a regular file")),
        ("to-dir/memory.events", failed("/cg/to-dir is a symbolic link, not a directory")),
        ("out/secret", failed("/cg/out is a symbolic link, not a directory")),
        ("fifo", failed("/cg/fifo is a FIFO, not a regular file")),
        ("socket", failed("/cg/socket is a socket, not a regular file")),
        ("a", failed("/cg/a is a directory, not a regular file")),
        ("c\nd", failed("/cg/c\\nd is a directory, not a regular file")),
        ("large", failed("/cg/large is larger than 9999 bytes")),
        ("none", absent("no /cg/none")),
        ("none/memory.events", absent("no /cg/none")),
        ("a/deep/memory.events", failed("/cg/a/deep/memory.events: Invalid argument")),
        ("../outside/secret", failed("/cg/../outside/secret: Invalid argument")),
        ("..", failed("/cg/..: Invalid argument")),
        ("a/", failed("/cg/a/: Invalid argument")),
        ("/a", failed("/cg//a: Invalid argument")),
        (".", failed("/cg/.: Invalid argument")),
        ("a\0b", failed("/cg/a\\u{0}b: Invalid argument")),
    ] {
        assert_eq!(cg.read(name, 9999), want, "{name}");
    }
    assert_eq!(cg.read("large", 10_000).unwrap().len(), 10_000);
    for (name, want) in [
        ("to-dir", failed("/cg/to-dir is a symbolic link, not a directory")),
        ("out", failed("/cg/out is a symbolic link, not a directory")),
        ("large", failed("/cg/large is a regular file, not a directory")),
        ("none", absent("no /cg/none")),
        ("a/deep", failed("/cg/a/deep: Invalid argument")),
        ("..", failed("/cg/..: Invalid argument")),
    ] {
        assert_eq!(open(cg.dir(name)), want, "{name}");
        assert_eq!(cg.node(name).map(|_| String::new()), want, "{name}");
    }
    assert_eq!(open(cg.dir("")), failed("/cg: Invalid argument"));
    let dev = Host::live().unwrap();
    let dev = dev.dir("/dev").unwrap();
    assert_eq!(dev.read("null", 64), failed("/dev/null is a device, not a regular file"));
}

#[test]
fn nodes() {
    let tree = sample();
    let host = Host::at_root(tree.path()).unwrap();
    let cg = host.dir("/cg").unwrap();
    let fstype = host.stat("/cg").unwrap().fstype.unwrap();
    let counts = ["tmpfs", "ext4", "xfs"].contains(&fstype.as_str());
    for (name, path, dirs) in [("", "/cg", 5), ("a", "/cg/a", 1), ("b", "/cg/b", 0)] {
        let want = Node { inode: host.stat(path).unwrap().inode, dirs: Some(dirs).filter(|_| counts) };
        assert_eq!(cg.node(name), Ok(want), "{path} on {fstype}");
    }
}

#[test]
fn a_directory_that_was_removed_holds_nothing() {
    let tree = sample();
    let host = Host::at_root(tree.path()).unwrap();
    let cg = host.dir("/cg").unwrap();
    let b = cg.dir("b").unwrap();
    remove_dir(tree.path().join("cg/b")).unwrap();
    // Another one of that name is not the one that is held.
    create_dir_all(tree.path().join("cg/b/c")).unwrap();
    write(tree.path().join("cg/b/memory.events"), "").unwrap();
    assert_eq!(b.dirs(9), absent("no /cg/b"));
    assert_eq!(b.read("memory.events", 9), absent("no /cg/b/memory.events"));
    assert_eq!(open(b.dir("c")), absent("no /cg/b/c"));
    assert_eq!(cg.dir("b").unwrap().dirs(9).unwrap(), ["c"]);
}

#[test]
fn a_recorded_node_answers_as_it_is_written() {
    let scenario = tempfile::tempdir().unwrap();
    let at = |name: &str| scenario.path().join(name);
    create_dir_all(at("root/cg/a")).unwrap();
    create_dir_all(at("root/cg/locked")).unwrap();
    for name in ["plain", "odd", "dying", "locked/x"] {
        write(at("root/cg").join(name), "x").unwrap();
    }
    write(at("clock"), "2026-11-21T03:22:00Z").unwrap();
    let stats = "['/cg/a']\ninode = 7\n['/cg/empty']\ndirectory = true\ninode = 8\n['/cg/empty/er']\ndirectory = true\n\
                 ['/cg/odd']\nkind = 'fifo'\n['/cg/dying']\nread_errno = 'ENODEV'\n['/cg/locked']\nerrno = 'EACCES'\n\
                 ['/cg/a/b/c']\ndirectory = true\n['/cg/a!']\nmode = '0700'\n['/only']\ndirectory = true\n";
    write(at("stat.toml"), stats).unwrap();
    let host = Host::scenario(scenario.path()).unwrap();
    let cg = host.dir("/cg").unwrap();
    assert_eq!(cg.dirs(3).unwrap(), ["a", "empty", "locked"]);
    assert_eq!(cg.node("a"), Ok(Node { inode: 7, dirs: None }));
    assert_eq!(cg.node(""), Ok(Node { inode: 0, dirs: None }));
    let empty = cg.dir("empty").unwrap();
    assert_eq!((empty.node(""), empty.dirs(9)), (Ok(Node { inode: 8, dirs: None }), Ok(vec!["er".to_owned()])));
    assert_eq!(empty.dir("er").unwrap().dirs(9), Ok(Vec::new()));
    assert_eq!(empty.read("er/x", 9), absent("no /cg/empty/er/x"));
    assert_eq!(empty.read("er", 9), failed("/cg/empty/er is a directory, not a regular file"));
    assert_eq!(host.dir("/only").unwrap().dirs(9), Ok(Vec::new()));
    assert_eq!(cg.read("odd", 9), failed("/cg/odd is a FIFO, not a regular file"));
    assert_eq!(cg.read("dying", 9), absent("no /cg/dying"));
    for refused in [open(cg.dir("locked")), cg.read("locked/x", 9).map(|_| String::new())] {
        assert_eq!(refused, Err(Error::from_errno("/cg/locked", Errno::EACCES)));
    }
}

/// All that a walk tells.
fn told(host: &Host) -> Vec<String> {
    fn walk(dir: &Dir<'_>, told: &mut Vec<String>) {
        told.push(format!("{} {}", dir.path(), dir.node("").unwrap().inode));
        for file in ["memory.events", "large", "none", "a/memory.events", "to-file", "fifo", "a"] {
            told.push(format!("{file} {:?}", dir.read(file, 64)));
        }
        let names = dir.dirs(9).unwrap();
        told.push(format!("{names:?} {:?}", dir.dirs(2)));
        for name in names.iter().filter(|name| *name != "b.slice") {
            told.push(format!("{name} {:?}", dir.node(name).map(|node| node.inode)));
            // One that nobody looks into.
            match dir.dir(name) {
                Ok(dir) if name != "b" => walk(&dir, told),
                other => told.push(format!("{:?}", open(other))),
            }
        }
    }
    let mut told = Vec::new();
    walk(&host.dir("/cg").unwrap(), &mut told);
    told.push(format!("{:?}", open(host.dir("/cg/none"))));
    told
}

/// What a checkout of a recording lacks.
fn remove_empty_directories(dir: &Path) {
    for entry in dir.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            remove_empty_directories(&entry);
            let _ = remove_dir(entry);
        }
    }
}

#[test]
fn a_recording_answers_like_the_node() {
    let tree = sample();
    let out = tempfile::tempdir().unwrap();
    let host = Host::at_root(tree.path()).unwrap().recording();
    let want = told(&host);
    // Listed, and gone when it was looked at; read, and gone then.
    let cg = host.dir("/cg").unwrap();
    remove_dir(tree.path().join("cg/b.slice")).unwrap();
    assert_eq!(open(cg.dir("b.slice")), absent("no /cg/b.slice"));
    remove_file(tree.path().join("cg/a/deep/memory.events")).unwrap();
    assert_eq!(cg.dir("a").unwrap().read("deep/memory.events", 64), absent("no /cg/a/deep/memory.events"));
    host.recorded().unwrap().write(out.path(), "2026-11-21T03:22:00Z".parse().unwrap()).unwrap();
    for _ in 0..2 {
        let replay = Host::scenario(out.path()).unwrap();
        assert_eq!(told(&replay), want);
        let cg = replay.dir("/cg").unwrap();
        assert_eq!(open(cg.dir("b.slice")), absent("no /cg/b.slice"));
        assert!(["", "a", "b"].iter().all(|name| cg.node(name).unwrap().dirs.is_none()));
        remove_empty_directories(&out.path().join("root"));
        assert!(!out.path().join("root/cg/b").exists());
    }
}

/// A cgroup file system of this machine, and a cgroup of ours in it where one may be made.
struct Cgroup {
    mount: String,
    own: Result<PathBuf, std::io::Error>,
}

impl Cgroup {
    fn all() -> Vec<Cgroup> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let is_cgroup = |line: &&str| line.split(' ').nth(2).is_some_and(|kind| ["cgroup", "cgroup2"].contains(&kind));
        let mounts = mounts.lines().filter(is_cgroup).filter_map(|line| Some(line.split(' ').nth(1)?.to_owned()));
        let made = mounts.map(|mount| {
            let own = Path::new(&mount).join(format!("nodecheck-test-{}", std::process::id()));
            Cgroup { mount, own: create_dir(&own).map(|()| own) }
        });
        made.collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Ok(own) = &self.own {
            let _ = remove_dir(own.join("below"));
            let _ = remove_dir(own);
        }
    }
}

#[test]
fn cgroups_are_read_alike_in_either_way() {
    for cgroup in Cgroup::all() {
        for walk in [false, true] {
            let host = Host::live().unwrap();
            if walk {
                host.tree.force_walk();
            }
            let top = host.dir(&cgroup.mount).unwrap();
            assert_eq!(top.ground.kernel, Some(Kernel::Cgroup), "{}", cgroup.mount);
            assert_eq!(top.open_shortly("cgroup.procs", FILE).is_some(), !walk);
            for name in ["notify_on_release", "cgroup.controllers", "none"] {
                assert_eq!(top.read(name, 4096), host.read(&format!("{}/{name}", cgroup.mount), 4096), "{name}");
            }
            let own = match &cgroup.own {
                Ok(own) => own.file_name().unwrap().to_str().unwrap(),
                Err(why) => {
                    eprintln!("{}: read only, since no cgroup can be made there: {why}", cgroup.mount);
                    continue;
                }
            };
            let path = format!("{}/{own}", cgroup.mount);
            let procs = top.read(&format!("{own}/cgroup.procs"), 64);
            assert_eq!(procs, Ok(Vec::new()), "{path}");
            assert_eq!(top.read(own, 64), failed(&format!("{path} is a directory, not a regular file")));
            assert_eq!(
                open(top.dir("cgroup.procs")).unwrap_err().to_string().split_once(" is ").unwrap().1,
                "a regular file, not a directory"
            );
            let dir = top.dir(own).unwrap();
            assert_eq!(dir.node(""), Ok(Node { inode: host.stat(&path).unwrap().inode, dirs: Some(0) }));
            create_dir(Path::new(&path).join("below")).unwrap();
            assert_eq!((dir.dirs(1), dir.node("").unwrap().dirs), (Ok(vec!["below".to_owned()]), Some(1)));
            let below = dir.dir("below").unwrap();
            remove_dir(Path::new(&path).join("below")).unwrap();
            assert_eq!(below.dirs(1), absent(&format!("no {path}/below")));
            assert_eq!(below.read("cgroup.procs", 64), absent(&format!("no {path}/below/cgroup.procs")));
        }
    }
}

#[test]
fn processes_are_read_alike_in_either_way() {
    let own = std::process::id().to_string();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let child_id = child.id().to_string();
    let mut held = Vec::new();
    let hosts = [false, true].map(|walk| {
        let host = Host::live().unwrap();
        if walk {
            host.tree.force_walk();
        }
        host
    });
    for host in &hosts {
        let proc = host.dir("/proc").unwrap();
        assert_eq!(proc.ground.kernel, Some(Kernel::Proc));
        assert!(proc.dirs(1 << 22).unwrap().contains(&own));
        let is_short = proc.open_shortly(&format!("{own}/stat"), FILE).is_some();
        assert_eq!(is_short, !host.tree.walks());
        for name in ["cgroup", "cmdline"] {
            let path = format!("/proc/{own}/{name}");
            assert_eq!(proc.read(&format!("{own}/{name}"), 1 << 20), host.read(&path, 1 << 20), "{path}");
            assert_eq!(proc.dir(&own).unwrap().read(name, 1 << 20), host.read(&path, 1 << 20), "{path}");
        }
        assert!(proc.read(&format!("{child_id}/stat"), 4096).unwrap().ends_with(b"\n"));
        // A list longer than one read, and whose reads end where an entry does.
        let maps = proc.read(&format!("{own}/smaps"), 64 << 20).unwrap();
        assert!(maps.len() > 8192 && String::from_utf8(maps).unwrap().contains("[stack]"));
        assert_eq!(proc.read("self/stat", 64), failed("/proc/self is a symbolic link, not a directory"));
        assert_eq!(proc.read(&own, 64), failed(&format!("/proc/{own} is a directory, not a regular file")));
        held.push((proc.dir(&child_id).unwrap(), proc));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for (dir, proc) in held {
        for name in ["cgroup", "stat", "cmdline"] {
            assert_eq!(dir.read(name, 64), absent(&format!("no /proc/{child_id}/{name}")));
            assert!(proc.read(&format!("{child_id}/{name}"), 64).unwrap_err().is_absent());
        }
    }
}

#[test]
fn a_list_of_processes_is_no_file_that_is_made_at_once() {
    for (name, at_once) in [
        ("memory.events", true),
        ("a/memory.stat", true),
        ("a/cgroup.procs", false),
        ("cgroup.threads", false),
        ("tasks", false),
    ] {
        assert_eq!(Kernel::Cgroup.is_read_at_once(name), at_once, "{name}");
    }
    for (name, at_once) in [("7/stat", true), ("cgroup", true), ("7/cmdline", false), ("7/maps", false)] {
        assert_eq!(Kernel::Proc.is_read_at_once(name), at_once, "{name}");
    }
}
