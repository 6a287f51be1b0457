use super::*;
use crate::bolt_writer::{MetaDb, Pages, Pod, bucket, child, inline, odd_bucket, value as entry};
use crate::parse::containerd::Records;

/// What a judge is told of a database.
fn told(file: &(impl ReadAt + ?Sized)) -> Result<Records, String> {
    let meta = Meta::newest(file).map_err(|fault| fault.to_string())?;
    records(&Db::new(file, meta)).map_err(|fault| fault.to_string())
}

/// As a recording remembers it that read it so, and as it is then written.
fn captured(file: &[u8]) -> Vec<u8> {
    struct Reader<'a>(&'a [u8], std::cell::RefCell<Image>);
    impl ReadAt for Reader<'_> {
        fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read_at(offset, into)?;
            self.1.borrow_mut().put(offset, &into[..count]);
            Ok(count)
        }
    }
    let reader = Reader(file, Image::hollow(file.len() as u64).into());
    let _ = told(&reader);
    let kept = database(&reader.1.into_inner());
    let mut bytes = vec![0; file.len()];
    assert_eq!(kept.read_at(0, &mut bytes).unwrap(), file.len());
    assert_eq!(kept.length, file.len() as u64);
    bytes
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|part| part == secret.as_bytes())
}

/// Pods with secrets wherever containerd puts some.
fn sample(page_size: usize, db: MetaDb, jobs: usize) -> Vec<u8> {
    let web = Pod::new("shop/web-0").attempt(2).label("team", "hunter2").json(|json| {
        json.replace(r#""labels":{"#, r#""annotations":{"SandboxID":"hunter2"},"labels":{"t":"hunter2","#)
    });
    let node = Pod::new("kube-system/etcd").host_network();
    let main = Pod::new("shop/web-0").container("main").attempt(3);
    let main = main.json(|json| json.replace(r#""image":{"#, r#""envs":[{"key":"T","value":"hunter2"}],"image":{"#));
    let (at, spec) = (["v1", "k8s.io", "containers", &main.id.clone(), "spec"], "hunter2 ".repeat(700));
    let mut db = db.page_size(page_size).pod(&web).pod(&node).container(&main).put(&at, &spec);
    for number in 0..jobs {
        db = db.pod(&Pod::new(&format!("shop/job-{number}")));
    }
    let db = db.put(&["v1", "k8s.io", "images", "registry/hunter2", "digest"], "hunter2");
    db.put(&["v1", "other", "containers", "x", "spec"], "hunter2").build()
}

/// Fills what nobody refers to with what was there before.
fn with_stale_slack(mut file: Vec<u8>, page_size: usize) -> Vec<u8> {
    for page in file.chunks_exact_mut(page_size) {
        let end = page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 16).max(96);
        if let Some(slack) = page.get_mut(end..) {
            slack.iter_mut().zip(b"hunter2 ".iter().cycle()).for_each(|(byte, stale)| *byte = *stale);
        }
    }
    [file, b"hunter2 ".repeat(page_size / 8)].concat()
}

#[test]
fn a_capture_tells_the_same_and_holds_no_secret() {
    for page_size in [1024, 4096, 16384] {
        for db in [MetaDb::new(), MetaDb::v2()] {
            let file = with_stale_slack(sample(page_size, db, 20), page_size);
            let kept = captured(&file);
            assert!(holds(&file, "hunter2") && !holds(&kept, "hunter2"), "{page_size}");
            let all = told(&file).unwrap();
            assert_eq!((all.sandboxes.len(), all.containers.len()), (22, 1));
            assert_eq!(told(&kept), Ok(all), "{page_size}");
            // Again, of what was kept.
            assert_eq!(captured(&kept), kept, "{page_size}");
        }
    }
}

#[test]
fn what_is_damaged_stays_so() {
    let file = with_stale_slack(sample(1024, MetaDb::v2(), 0), 1024);
    let (mut others, mut told_more) = (0, 0);
    for (at, change) in (0..file.len()).step_by(13).zip([0xff, 0x01, 0x80, 0x08].iter().cycle()) {
        let mut file = file.clone();
        file[at] ^= change;
        let kept = captured(&file);
        told_more += usize::from(holds(&kept, "hunter2"));
        match (told(&file), told(&kept)) {
            (Ok(was), Ok(is)) => {
                assert_eq!(was.sandboxes.keys().collect::<Vec<_>>(), is.sandboxes.keys().collect::<Vec<_>>());
                others += usize::from(was != is);
            }
            (was, is) => assert_eq!(was, is, "{at} {change}"),
        }
    }
    // What serde says may quote what can't be kept. And a key that became longer, with room after it,
    // takes what lies there: nobody can tell.
    assert!(others <= 9 && told_more <= 9, "{others} {told_more}");
}

#[test]
fn pages_that_lie() {
    let leaf = |page: u64| Pages::new(1024).leaf(page, &[bucket("k", 3), entry("secret", "hunter2")]);
    for (name, file) in [
        ("another page", leaf(2).poke(2, 0, b"hunter2!").done(2)),
        ("no leaf", leaf(2).poke(2, 8, &[9]).done(2)),
        ("too many elements", leaf(2).poke(2, 10, &[0xff, 0xff]).done(2)),
        ("elements that are none", leaf(2).poke(2, 10, &[20, 0]).poke(2, 80, &b"hunter2 ".repeat(90)).done(2)),
        ("too many pages", leaf(2).poke(2, 12, &[0xff]).done(2)),
        ("far too many pages", leaf(2).poke(2, 12, &[0xff, 0xff, 0xff]).with(2, 1 << 40)),
        ("beyond the end", leaf(2).with(7, 9)),
        ("no page", leaf(2).done(1)),
        ("long key", leaf(2).poke(2, 24, &[0; 4]).done(2)),
        ("out of order", Pages::new(1024).leaf(2, &[entry("v2", "hunter2"), entry("v1", "hunter2")]).done(2)),
        ("twice", Pages::new(1024).leaf(2, &[bucket("k8s.io", 3), bucket("v1", 3)]).leaf(3, &[]).done(2)),
        ("cut bucket", Pages::new(1024).leaf(2, &[odd_bucket("v1", b"hunter2")]).done(2)),
        ("no leaf inside", Pages::new(1024).leaf(2, &[inline("v1", 1, &[child("a", 7)])]).done(2)),
        (
            "lies inside",
            Pages::new(1024).leaf(2, &[odd_bucket("v1", [&[0; 16][..], b"hunter2hunter2hunter2"].concat())]).done(2),
        ),
        ("loop", Pages::new(1024).branch(2, &[child("a", 2)]).done(2)),
        ("empty leaf", Pages::new(1024).branch(2, &[child("a", 3)]).leaf(3, &[]).done(2)),
        ("keys of another", Pages::new(1024).branch(2, &[child("m", 3)]).leaf(3, &[entry("a", "hunter2")]).done(2)),
    ] {
        let kept = captured(&file);
        assert!(!holds(&kept[160..], "hunter2") || name == "another page", "{name}");
        let was = told(&file);
        assert!(was.is_err(), "{name}");
        assert_eq!(told(&kept), was, "{name}");
    }
}

#[test]
fn no_meta_page_and_no_database() {
    let good = sample(4096, MetaDb::new(), 1);
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = good.clone();
        change(&mut file);
        file
    };
    for (name, file) in [
        ("first", change(&|file| file[..96].fill(b'x'))),
        ("second", change(&|file| file[4096..4192].fill(b'x'))),
        ("checksums", change(&|file| [20, 4116].iter().for_each(|at| file[*at] ^= 1))),
        ("no magic", change(&|file| file[..8192].copy_from_slice(&b"hunter2 ".repeat(1024)))),
        ("no database", b"hunter2 ".repeat(5000)),
        ("short", b"hunter2 ".to_vec()),
        ("cut", good[..4096].to_vec()),
        ("cut in the second", good[..4120].to_vec()),
        ("a page", good[..8192].to_vec()),
        ("empty", Vec::new()),
        ("foreign", MetaDb::new().foreign().build()),
    ] {
        let kept = captured(&file);
        assert!(!holds(&kept, "hunter2"), "{name}");
        assert_eq!(told(&kept), told(&file), "{name}");
    }
}

#[test]
fn extensions_that_can_not_be_read() {
    let pod = Pod::new("shop/web-0");
    let json = pod.to_json().replace(r#""labels":{"#, r#""labels":{"t":"hunter2","#);
    let cut = |end: usize| json[..end].to_owned();
    let jsons = [
        ("{".to_owned(), true),
        (cut(json.find("hunter2").unwrap() + 7), true),
        (cut(json.len() - 1), true),
        (json.replace(r#""Name""#, r#""Nome""#), true),
        (json.replace(r#""Metadata""#, r#""Motadata""#), true),
        (json.replace(r#""v1""#, r#""v9""#), true),
        (json.replace("\"t\":", "\"t\" hunter2"), true),
        (json.replace(r#""IP":"10.99.0.2""#, r#""IP":7"#), false),
        (json.replace(r#""10.99.0.2""#, r#"{"a":"hunter2"}"#), true),
        (json.replace(r#""10.99.0.2""#, r#"["hunter2"]"#), true),
        ("hunter2".to_owned(), true),
        ("\"hunter2\"".to_owned(), false),
        (format!("{json}hunter2"), true),
        (String::new(), true),
    ];
    let odd = [(vec![], true), (b"\x0a\x20hunter2hunter2".to_vec(), true), (b"hunter2 ".repeat(9), true)];
    let odd = odd.map(|(bytes, is_same)| (pod.clone().extension(bytes), is_same));
    let all = jsons.map(|(json, is_same)| (pod.clone().json(|_| json), is_same)).into_iter().chain(odd);
    for (number, (pod, is_same)) in all.enumerate() {
        let file = MetaDb::v2().pod(&pod).build();
        let kept = captured(&file);
        assert!(!holds(&kept, "hunter2"), "{number}");
        let (was, is) = (told(&file).unwrap(), told(&kept).unwrap());
        match is_same {
            true => assert_eq!(is, was, "{number}"),
            false => assert_eq!(is.sandboxes.len(), was.sandboxes.len(), "{number}"),
        }
    }
}

#[test]
fn the_least_that_can_be_read_is_kept() {
    for json in [
        r#"{"Version":"v1","Metadata":{"Name":"a"}}"#,
        r#"{"Version":"v1","Metadata":{"Name":"a","Config":{}}}"#,
        r#"{"Metadata":{"Name":"\u003ca","IP":"","SandboxID":null},"Version":"v1"}"#,
        r#"{"Version":"v1","Metadata":{"Name":"\"SandboxID\":\"x","NetNSPath":null,"IP":"10.0.0.1"}}"#,
    ] {
        let file = MetaDb::v2().pod(&Pod::new("a").json(|_| json.to_owned())).build();
        assert_eq!(told(&captured(&file)), told(&file), "{json}");
    }
}

#[test]
fn only_that_file_is_a_database() {
    assert!(is_database("/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"));
    assert!(!is_database("/var/lib/containerd/meta.db"));
    assert!(!is_database("/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db.bak"));
}
