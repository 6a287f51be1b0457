//! Records and databases that containerd itself fails on.

use super::healthy::web;
use super::node::{Ended, MINUTE, Node};
use super::support::bolt::{Bolt, MetaDb, Pod, go_time};
use super::{Case, case};

const META_DB: &str = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";

fn db() -> Pod {
    Pod::new("db/postgres-0")
}

fn well() -> Node {
    Node::new().live(&db()).live(&web())
}

/// The same with other bytes for its database.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Node {
    let mut bytes = well().built();
    change(&mut bytes);
    well().bytes(bytes)
}

/// Where the newest meta is: in page 1.
const NEWEST: usize = 1024 + 16;

fn u64_at(bytes: &[u8], at: usize) -> usize {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

pub fn cases() -> Vec<Case> {
    let broken = "1 record can't be loaded: sandbox default/web-0";
    let with = |pod: &Pod| Node::new().live(&db()).dead(pod);
    let empty = |minute: &str| {
        let pod = web().without_extension().ip("").created(&format!("2026-11-21T03:{minute}:00Z"));
        Node::v2().live(&db()).change(|db| db.sandbox_of_api(&pod)).known(&pod)
    };
    vec![
        case(
            "record-without-its-extension",
            with(&web().without_extension()),
            2,
            "broken=1 sandboxes=1",
            broken,
            &["has no extension io.cri-containerd.sandbox.metadata", "containers rm "],
        ),
        case(
            "record-of-another-version",
            with(&web().json(|json| json.replace(r#""Version":"v1""#, r#""Version":"v2""#))),
            2,
            "broken=1",
            broken,
            &["has version 'v2'"],
        )
        .only_here(),
        case(
            "record-with-another-id",
            with(&web().json(|json| json.replacen(r#""ID":""#, r#""ID":"0ther"#, 1))),
            2,
            "broken=1",
            broken,
            &["bears the id of 0ther"],
        ),
        // containerd reserves names for ids, and refuses empty ones.
        case(
            "record-without-an-id",
            with(&web().json(|json| json.replace(&format!(r#""ID":"{}""#, web().id), r#""ID":"""#))),
            2,
            "broken=1",
            broken,
            &["bears no id"],
        )
        .only_here(),
        case(
            "record-without-a-name",
            with(&web().json(|json| json.replace(&web().full_name(), ""))),
            2,
            "broken=1",
            "1 record can't be loaded: sandbox default/web-0",
            &["bears no name, and has no process: containerd does not start again with it"],
        )
        .only_here(),
        case(
            "record-with-a-time-that-is-none",
            with(&web().created_as(Some(b"\x07yesterday".to_vec()))),
            2,
            "broken=1",
            broken,
            &["a time that can't be read"],
        )
        .only_here(),
        case(
            "record-of-a-container-without-its-extension",
            well().container(&web().container("nginx").without_extension(), Ended::No),
            2,
            "broken=1",
            "1 record can't be loaded: container ",
            &["has no extension io.cri-containerd.container.metadata"],
        ),
        // Between two transactions of a creation.
        case("record-2-without-metadata-young", empty("21"), 0, "broken=0", "1 sandbox on record", &[]).only_here(),
        case(
            "record-2-without-metadata-old",
            empty("05").after(empty("05").ago(12)),
            2,
            "broken=1",
            "1 record can't be loaded: sandbox",
            &["has no extension metadata"],
        ),
        // Odd and harmless: a year that no calendar here has, and a time that nobody wrote.
        case(
            "records-with-odd-times",
            Node::new()
                .live(&db().created_as(Some(go_time(-62_135_596_800, 0))))
                .live(&web().created_as(Some(go_time(400_000_000_000, 0)))),
            0,
            "broken=0 live=2",
            "all live",
            &[],
        )
        .only_here(),
        // --- the file
        case(
            "database-with-a-page-of-zeros",
            changed(|bytes| {
                let root = u64_at(bytes, NEWEST + 16) * 1024;
                bytes[root..root + 1024].fill(0);
            }),
            2,
            "",
            "containerd's database is damaged: /var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db: page ",
            &["to mend it: drain the node"],
        ),
        case(
            "database-cut-off",
            changed(|bytes| bytes.truncate(bytes.len() / 2)),
            2,
            "",
            "containerd's database is damaged",
            &[],
        )
        .only_here(),
        case(
            "database-with-keys-in-disorder",
            changed(|bytes| {
                let key = b"snapshotter";
                let at = bytes.windows(key.len()).position(|found| found == key).unwrap();
                bytes[at] = b'a';
            }),
            2,
            "",
            "keys out of order",
            &[],
        )
        .only_here(),
        case(
            "database-without-a-meta",
            changed(|bytes| {
                bytes[16 + 60] ^= 1;
                bytes[NEWEST + 60] ^= 1;
            }),
            2,
            "",
            "neither meta page is valid: wrong checksum",
            &[],
        ),
        case("database-of-zeros", well().bytes([0; 32768]), 2, "", "neither meta page is valid", &[]).only_here(),
        case("database-of-100-bytes", changed(|bytes| bytes.truncate(100)), 2, "", "database is damaged", &[])
            .only_here(),
        // The older meta is as good: what a crash in a transaction leaves.
        case(
            "database-with-one-meta",
            changed(|bytes| {
                bytes.copy_within(NEWEST..NEWEST + 64, 16);
                bytes[NEWEST + 60] ^= 1;
            }),
            0,
            "sandboxes=2 live=2",
            "2 sandboxes on record, all live",
            &[],
        ),
        case("database-empty", well().bytes([]), 3, "", "meta.db is empty (0 bytes)", &[]),
        case(
            "database-of-the-other-byte-order",
            Node::of("/var/lib/containerd", MetaDb::new().pod(&web()).foreign()),
            3,
            "",
            "foreign endianness",
            &[],
        ),
        case("database-of-another-bolt", well().bytes(Bolt::default().build()), 3, "", "no bucket v1", &[]).only_here(),
        case("database-on-nfs", well().on("nfs"), 3, "", "lies on nfs", &[]),
        case(
            "database-denied",
            well().stat("/var/lib/containerd", "errno = \"EACCES\""),
            3,
            "",
            "permission denied; needs root or CAP_DAC_READ_SEARCH",
            &[],
        ),
        case("database-with-a-bad-sector", well().stat(META_DB, "read_errno = \"EIO\""), 3, "", "I/O error", &[]),
        // What one tells does not make the other one well.
        case(
            "database-damaged-beside-a-good-one",
            changed(|bytes| bytes.truncate(2048))
                .database("/var/lib/k0s/containerd", MetaDb::new())
                .boot('2', 40 * MINUTE)
                .taken(&Pod::new("ci/runner-4"), "sh", Ended::Unknown),
            2,
            "stale=1",
            "containerd's database is damaged",
            &["ci/runner-4 attempt 0"],
        ),
    ]
}
