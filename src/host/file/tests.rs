use std::fs::{OpenOptions, create_dir_all, hard_link, remove_file, rename, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::host::FileKind;

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    create_dir_all(dir.path().join("d")).unwrap();
    write(dir.path().join("d/file"), "0123456789").unwrap();
    symlink("d/file", dir.path().join("link")).unwrap();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    dir
}

fn part(file: &OpenFile<'_>, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let count = file.read_at(offset, &mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

fn scenario(dir: &Path, stats: &str) -> Host {
    write(dir.join("clock"), "2026-11-21T03:22:00Z").unwrap();
    write(dir.join("stat.toml"), stats).unwrap();
    Host::scenario(dir).unwrap()
}

#[test]
fn parts_of_a_file() {
    let dir = tree();
    let host = Host::at_root(dir.path()).unwrap();
    let file = host.open_file("/link").unwrap();
    assert_eq!((file.path(), file.length()), ("/link", Ok(10)));
    assert_eq!((part(&file, 2, 3), part(&file, 8, 3), part(&file, 10, 3)), (b"234".to_vec(), b"89".to_vec(), vec![]));
    assert_eq!(
        (part(&file, u64::MAX, 1), part(&file, i64::MAX as u64, 1), part(&file, 0, 0)),
        (vec![], vec![], vec![])
    );
    let stat = host.stat("/d/file").unwrap();
    assert_eq!((file.fstype(), file.inode()), (stat.fstype, stat.inode));
    let device = std::fs::metadata(dir.path()).unwrap().dev();
    assert_eq!(file.device(), Some((major(device), minor(device))));
    OpenOptions::new().append(true).open(dir.path().join("d/file")).unwrap().set_len(11).unwrap();
    assert_eq!((file.length(), part(&file, 9, 3)), (Ok(11), b"9\0".to_vec()));
    assert_eq!(host.busy_with().as_deref(), Some("/link"));
}

#[test]
fn only_a_regular_file_is_opened() {
    let dir = tree();
    let host = Host::at_root(dir.path()).unwrap();
    let error = |path: &str| host.open_file(path).unwrap_err();
    assert_eq!(error("/none"), Error::Absent("no /none".to_owned()));
    assert_eq!(error("/d"), Error::Failed("/d is a directory, not a regular file".to_owned()));
    assert_eq!(error("/fifo"), Error::Failed("/fifo is a FIFO, not a regular file".to_owned()));
    assert_eq!(error("/d/../d/file"), Error::Failed("/d/../d/file: Invalid argument".to_owned()));
    let recorded = tempfile::tempdir().unwrap();
    create_dir_all(recorded.path().join("root")).unwrap();
    for name in ["locked", "odd", "plain"] {
        write(recorded.path().join("root").join(name), "x").unwrap();
    }
    let host = scenario(
        recorded.path(),
        "['/locked']\nread_errno = 'EACCES'\n['/odd']\nkind = 'socket'\n['/plain']\ninode = 7\nfstype = 'xfs'\n",
    );
    assert!(matches!(host.open_file("/locked"), Err(Error::Denied { what, .. }) if what == "/locked"));
    assert!(host.open_file("/odd").unwrap_err().to_string().contains("is a socket"));
    let plain = host.open_file("/plain").unwrap();
    assert_eq!((plain.inode(), plain.device(), plain.fstype().as_deref()), (7, None, Some("xfs")));
    remove_file(recorded.path().join("root/plain")).unwrap();
    assert_eq!(plain.is_still_there(), Ok(true));
}

#[test]
fn whether_its_path_still_leads_to_it() {
    let dir = tree();
    let at = |name: &str| dir.path().join(name);
    let host = Host::at_root(dir.path()).unwrap();
    let open = || host.open_file("/link").unwrap();
    let file = open();
    assert_eq!(file.is_still_there(), Ok(true));
    // Written over in place is the same file.
    write(at("d/file"), "other").unwrap();
    assert_eq!(file.is_still_there(), Ok(true));
    // Another one of that name.
    hard_link(at("d/file"), at("d/kept")).unwrap();
    write(at("d/new"), "new").unwrap();
    rename(at("d/new"), at("d/file")).unwrap();
    assert_eq!((file.is_still_there(), open().is_still_there()), (Ok(false), Ok(true)));
    rename(at("d/kept"), at("d/file")).unwrap();
    assert_eq!(file.is_still_there(), Ok(true));
    remove_file(at("d/file")).unwrap();
    assert_eq!((file.is_still_there(), part(&file, 0, 9)), (Ok(false), b"other".to_vec()));
    std::fs::remove_dir(at("d")).unwrap();
    assert_eq!(file.is_still_there(), Ok(false));
    write(at("d"), "").unwrap();
    assert_eq!(file.is_still_there(), Ok(false));
}

#[test]
fn a_read_ends_where_the_file_does() {
    let mut answers = vec![
        Ok(3),
        Err(io::ErrorKind::Interrupted),
        Ok(4),
        // The kernel gave less than was asked for, and there is more.
        Ok(1),
        Ok(0),
    ]
    .into_iter();
    let mut asked = Vec::new();
    let read = whole(100, &mut [0; 20], |at, rest| {
        asked.push((at, rest.len()));
        answers.next().unwrap().map_err(Into::into)
    });
    assert_eq!((read.unwrap(), asked), (8, vec![(100, 20), (103, 17), (103, 17), (107, 13), (108, 12)]));
    let failed = whole(0, &mut [0; 9], |_, rest| if rest.len() > 5 { Ok(5) } else { Err(io::ErrorKind::Other.into()) });
    assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::Other);
}

#[test]
fn a_failed_read_names_the_file() {
    let dir = tree();
    let mut host = Host::at_root(dir.path()).unwrap().recording();
    {
        let mut file = host.open_file("/d/file").unwrap();
        // Reading a directory fails.
        file.file = File::open(dir.path()).unwrap();
        let error = file.read_at(0, &mut [0; 9]).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::IsADirectory, "/d/file: Is a directory")
        );
        assert!(matches!(error.downcast::<Error>(), Ok(Error::Failed(_))));
    }
    let out = tempfile::tempdir().unwrap();
    host.recording.take().unwrap().write(out.path(), "2026-11-21T03:22:00Z".parse().unwrap()).unwrap();
    let replay = Host::scenario(out.path()).unwrap();
    assert_eq!(replay.open_file("/d/file").unwrap_err().to_string(), "/d/file: Is a directory");
}

#[test]
fn a_recording_has_what_was_read() {
    let dir = tree();
    write(dir.path().join("d/large"), [&[b's'; 70_000][..], b"tail"].concat()).unwrap();
    write(dir.path().join("d/empty"), "").unwrap();
    let host = Host::at_root(dir.path()).unwrap().recording();
    for _ in 0..2 {
        let large = host.open_file("/d/large").unwrap();
        assert_eq!((part(&large, 5_000, 5), part(&large, 70_002, 9)), (b"sssss".to_vec(), b"il".to_vec()));
        assert!(large.fstype().is_some());
    }
    host.open_file("/d/empty").unwrap();
    // Seen in another way too.
    host.stat("/d/large").unwrap();
    assert!(host.open_file("/d/gone").is_err());
    let out = tempfile::tempdir().unwrap();
    host.recorded().unwrap().write(out.path(), "2026-11-21T03:22:00Z".parse().unwrap()).unwrap();
    let replay = Host::scenario(out.path()).unwrap();
    let (is, was) = (replay.open_file("/d/large").unwrap(), host.open_file("/d/large").unwrap());
    assert_eq!((is.length(), is.inode(), is.fstype()), (Ok(70_004), was.inode(), was.fstype()));
    assert_eq!((part(&is, 4_999, 7), part(&is, 70_000, 9)), (b"\0sssss\0".to_vec(), b"\0\0il".to_vec()));
    assert_eq!(replay.stat("/d/large").unwrap().kind, FileKind::File);
    assert_eq!(replay.open_file("/d/empty").unwrap().length(), Ok(0));
    assert!(replay.open_file("/d/gone").unwrap_err().is_absent());
    let mode = std::fs::metadata(out.path().join("root/d/large")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
