use std::cell::RefCell;
use std::fs::{create_dir_all, write};

use super::*;

const ODD: &[u8] = include_bytes!("../../../tests/captures/xtables/odd");

/// An answer to GET_INFO with this size.
fn sized(size: u32) -> Result<[u8; INFO], Errno> {
    let mut info = [0; INFO];
    info[80..].copy_from_slice(&size.to_ne_bytes());
    Ok(info)
}

/// What comes of these answers, asked in turn.
fn read(infos: &[Result<[u8; INFO], Errno>], entries: &[Result<(), Errno>]) -> Result<[u8; INFO], Errno> {
    let (infos, entries) = (RefCell::new(infos.iter().copied()), RefCell::new(entries.iter().copied()));
    let entries = |size: u32| {
        entries.borrow_mut().next().unwrap()?;
        Mapping::new(HEADER + size as usize)
    };
    let read = whole(|| infos.borrow_mut().next().unwrap(), entries);
    read.map(|(info, entries)| {
        assert_eq!(entries.len(), HEADER + Info::parse(&info).unwrap().size as usize);
        info
    })
}

#[test]
fn a_table_that_changes_is_read_again() {
    let (one, two) = (sized(8), sized(16));
    assert_eq!(read(&[one, one], &[Ok(())]), one);
    // It had another size already, or has one now.
    assert_eq!(read(&[one, two, two], &[Err(Errno::EAGAIN), Ok(())]), two);
    assert_eq!(read(&[one, two, two, two], &[Ok(()), Ok(())]), two);
    assert_eq!(read(&[Err(Errno::EPERM)], &[]), Err(Errno::EPERM));
    assert_eq!(read(&[one], &[Err(Errno::ENOMEM)]), Err(Errno::ENOMEM));
    assert_eq!(read(&[one, Err(Errno::ENOENT)], &[Ok(())]), Err(Errno::ENOENT));
    assert_eq!(read(&[sized(MOST_BYTES + 1)], &[]), Err(Errno::EFBIG));
    assert_eq!(read(&[one, two].repeat(MOST_TRIES), &[Ok(()); MOST_TRIES]), Err(Errno::EAGAIN));
    assert_eq!(read(&[one; MOST_TRIES], &[Err(Errno::EAGAIN); MOST_TRIES]), Err(Errno::EAGAIN));
}

#[test]
fn recorded_tables_and_errors() {
    let dir = tempfile::tempdir().unwrap();
    create_dir_all(dir.path().join("root/proc/net")).unwrap();
    create_dir_all(dir.path().join("netfilter")).unwrap();
    write(dir.path().join("clock"), "2026-11-21T03:22:00Z").unwrap();
    let told = |stats: &str| {
        write(dir.path().join("stat.toml"), stats).unwrap();
        let host = Host::scenario(dir.path()).unwrap();
        let table = host.legacy_table(Family::Ip, "nat").and_then(|table| table.ruleset());
        let table = table.map(|rules| rules.chains().count()).map_err(|error| error.to_string());
        let info = host.legacy_info(Family::Ip, "nat").map(|info| info.entries).map_err(|error| error.to_string());
        (table, info)
    };
    let both = |why: &str| (Err(why.to_owned()), Err(why.to_owned()));
    assert_eq!(told(""), both("no table nat of iptables-legacy"));
    let file = dir.path().join("netfilter/legacy-ip-nat");
    write(&file, ODD).unwrap();
    assert_eq!(told(""), (Ok(6), Ok(33)));
    for (errno, why) in [
        ("EPERM", "table nat of iptables-legacy: permission denied; needs CAP_NET_ADMIN"),
        ("ENOPROTOOPT", "no table nat of iptables-legacy"),
        ("EAGAIN", "table nat of iptables-legacy changes faster than it can be read"),
        ("EFBIG", "table nat of iptables-legacy has more than 256 MiB of rules"),
        ("ENOMEM", "table nat of iptables-legacy: Out of memory"),
    ] {
        assert_eq!(told(&format!("['netfilter/legacy-ip-nat']\nread_errno = '{errno}'")), both(why));
    }
    write(&file, &ODD[..INFO]).unwrap();
    let (table, info) = told("");
    assert_eq!(info, Ok(33));
    assert!(table.is_err_and(|why| why.starts_with("table nat of iptables-legacy: 0 bytes instead of ")));
    write(&file, &ODD[..INFO - 1]).unwrap();
    assert_eq!(told(""), both("table nat of iptables-legacy: 83 bytes instead of 84"));
    // Tables that a scenario lists; one without netfilter has none.
    let list = || Host::scenario(dir.path()).unwrap().legacy_tables(Family::Ip);
    assert_eq!(list(), Ok(Vec::new()));
    write(dir.path().join("root/proc/net/ip_tables_names"), "nat\nfilter\n").unwrap();
    assert_eq!(list(), Ok(vec!["nat".to_owned(), "filter".to_owned()]));
}

#[test]
fn a_tree_has_none() {
    let dir = tempfile::tempdir().unwrap();
    create_dir_all(dir.path().join("proc/net")).unwrap();
    write(dir.path().join("proc/net/ip_tables_names"), "nat\n").unwrap();
    let host = Host::at_root(dir.path()).unwrap();
    let absent = || Error::Absent("no netfilter in a tree".to_owned());
    assert_eq!(host.legacy_tables(Family::Ip), Err(absent()));
    assert_eq!(host.legacy_table(Family::Ip, "nat").err(), Some(absent()));
    assert_eq!(host.legacy_info(Family::Ip, "nat"), Err(absent()));
}

#[test]
fn the_network_namespace_of_process_1() {
    let dir = tempfile::tempdir().unwrap();
    let link = |process: &str, target: &str| {
        let ns = dir.path().join("proc").join(process).join("ns");
        create_dir_all(&ns).unwrap();
        let _ = std::fs::remove_file(ns.join("net"));
        std::os::unix::fs::symlink(target, ns.join("net")).unwrap();
        Host::at_root(dir.path()).unwrap().is_in_first_netns()
    };
    assert!(link("self", "net:[4026531840]").is_err_and(|error| error.is_absent()));
    assert_eq!(link("1", "net:[4026531840]"), Ok(true));
    assert_eq!(link("1", "net:[4026532000]"), Ok(false));
}
