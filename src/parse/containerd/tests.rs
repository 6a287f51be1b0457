#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic)]

mod captures;
mod values;

use jiff::Timestamp;

use super::super::bolt::{Db, Fault, Meta};
use super::{Container, Id, Records, Sandbox, fuzz, reduced, time};
use crate::bolt_writer::{Ctr, MetaDb, Pod, any, go_time, reseal};

fn read(file: &[u8]) -> Result<Records, Fault> {
    super::records(&Db::new(file, Meta::newest(file)?))
}

fn records(db: &MetaDb) -> Records {
    let file = db.build();
    fuzz(&file);
    read(&file).unwrap()
}

/// The only sandbox of a database.
fn sandbox(db: &MetaDb) -> Sandbox {
    let records = records(db);
    assert_eq!((records.sandboxes.len(), records.containers.len()), (1, 0));
    *records.sandboxes.into_values().next().unwrap()
}

/// What becomes of the metadata of a pod whose record is among the containers.
fn of_pod(pod: &Pod) -> Sandbox {
    sandbox(&MetaDb::new().sandbox(pod))
}

fn of_container(container: &Ctr) -> Container {
    *records(&MetaDb::new().container(container)).containers.into_values().next().unwrap()
}

/// Why a sandbox's metadata can't be read.
fn why(pod: &Pod) -> String {
    of_pod(pod).in_containers.unwrap().metadata.unwrap_err()
}

fn id(text: &str) -> Id {
    text.into()
}

fn web() -> Pod {
    Pod::new("prod/web-0")
}

// --- records --------------------------------------------------------------------------------------------------------

#[test]
fn a_node_with_containerd_1_6() {
    let (web, etcd) =
        (web().attempt(3).created("2026-11-02T03:04:05.000000006Z"), Pod::new("kube-system/etcd").host_network());
    let nginx = web.container("nginx").attempt(2);
    let db = MetaDb::new().pod(&web).pod(&etcd).container(&nginx).container(&etcd.container("etcd"));
    let all = records(&db);
    assert_eq!((all.schema, all.is_kubernetes, &all.namespaces[..]), (Some(3), true, &["k8s.io".to_owned()][..]));
    assert_eq!((all.sandboxes.len(), all.containers.len()), (2, 2));

    let record = all.sandboxes[&id(&web.id)].in_containers.clone().unwrap();
    assert_eq!(record.created, Some("2026-11-02T03:04:05.000000006Z".parse().unwrap()));
    assert_eq!((record.runtime.as_deref(), record.has_bad_time), (Some("io.containerd.runc.v2"), false));
    // The labels are for records that say nothing else.
    assert_eq!(record.labelled, None);
    let metadata = record.metadata.unwrap();
    assert_eq!((metadata.other_id(), metadata.name()), (None, &*format!("web-0_prod_{}_3", web.uid)));
    assert_eq!((metadata.has_host_network(), metadata.has_address()), (false, true));
    assert_eq!(metadata.netns(), Some(&*web.netns()));
    let pod = metadata.pod().unwrap();
    assert_eq!((pod.name, pod.namespace, pod.uid, pod.attempt), ("web-0", "prod", &*web.uid, 3));
    assert_eq!(all.sandboxes[&id(&web.id)].in_sandboxes, None);

    let metadata = all.sandboxes[&id(&etcd.id)].metadata().unwrap();
    assert_eq!((metadata.has_host_network(), metadata.has_address(), metadata.netns()), (true, false, None));
    assert_eq!(metadata.pod().unwrap().attempt, 0, "containerd does not write what is 0");

    let metadata = all.containers[&id(&nginx.id)].metadata.clone().unwrap();
    assert_eq!((metadata.name(), &metadata.sandbox), (&*nginx.full_name(), &id(&web.id)));
    assert_eq!(metadata.other_id(), None);
    assert_eq!(metadata.container(), Some(("nginx", 2)));
}

#[test]
fn where_the_records_of_a_sandbox_are() {
    let (web, other) = (web(), Pod::new("other"));
    let places = |db: &MetaDb| {
        let sandbox = sandbox(db);
        assert_eq!(sandbox.metadata().unwrap().name(), web.full_name());
        (sandbox.in_containers.is_some(), sandbox.in_sandboxes.is_some(), sandbox.records().count())
    };
    assert_eq!(places(&MetaDb::new().pod(&web)), (true, false, 1));
    assert_eq!(places(&MetaDb::v2().pod(&web)), (true, true, 2));
    assert_eq!(places(&MetaDb::v2().sandbox_of_api(&web)), (false, true, 1));
    assert_eq!(places(&MetaDb::new().sandbox_of_1_7(&web)), (false, true, 1));
    assert_eq!(places(&MetaDb::new().sandbox(&web).sandbox_of_1_7(&web)), (true, true, 2));
    let all = records(&MetaDb::v2().pod(&web).sandbox_of_api(&other));
    assert_eq!((all.schema, all.sandboxes.len()), (Some(4), 2));
    assert_eq!(all.sandboxes[&id(&other.id)].in_containers, None);
}

#[test]
fn the_record_that_can_be_read_tells() {
    let (good, other) = (web(), web().ip(""));
    let bad = good.clone().without_extension();
    let told = |db: MetaDb| sandbox(&db).metadata().map(|metadata| metadata.has_address());
    let both = |first: &Pod, second: &Pod| told(MetaDb::v2().sandbox(first).sandbox_of_api(second));
    assert_eq!(both(&good, &other), Some(true));
    assert_eq!(both(&other, &good), Some(false));
    assert_eq!(both(&bad, &good), Some(true));
    assert_eq!(both(&good, &bad), Some(true));
    assert_eq!(both(&bad, &bad), None);
    assert_eq!(told(MetaDb::v2().sandbox(&bad)), None);
}

#[test]
fn thousands_of_records() {
    let pods: Vec<Pod> = (0..1500).map(|number| Pod::new(&format!("ns-{}/pod-{number}", number % 7))).collect();
    let db = pods.iter().fold(MetaDb::v2(), |db, pod| db.pod(pod).container(&pod.container("main")));
    let all = read(&db.build()).unwrap();
    assert_eq!((all.sandboxes.len(), all.containers.len()), (1500, 1500));
    for pod in &pods {
        assert_eq!(all.sandboxes[&id(&pod.id)].metadata().unwrap().name(), pod.full_name());
    }
}

#[test]
fn any_page_size_of_a_machine() {
    let want = records(&MetaDb::v2().pod(&web()));
    for page_size in [1024, 4096, 16384, 65536] {
        for txid in [2, 3] {
            assert_eq!(records(&MetaDb::v2().pod(&web()).page_size(page_size).txid(txid)), want);
        }
    }
}

// --- what is none ---------------------------------------------------------------------------------------------------

#[test]
fn schemas() {
    let of = |db: MetaDb| {
        let all = records(&db);
        (all.schema, all.is_kubernetes, all.namespaces.join(" "))
    };
    assert_eq!(of(MetaDb::nothing()), (None, false, String::new()));
    assert_eq!(of(MetaDb::nothing().put(&["other"], "x")), (None, false, String::new()));
    assert_eq!(of(MetaDb::nothing().put(&["v1"], "x")), (None, false, String::new()));
    assert_eq!(of(MetaDb::nothing().bucket(&["v1"])), (Some(0), false, String::new()));
    assert_eq!(of(MetaDb::nothing().schema(3)), (Some(3), false, String::new()));
    assert_eq!(of(MetaDb::nothing().schema(300)), (Some(300), false, String::new()));
    for (bytes, want) in [(&[6][..], 3), (&[8], 4), (&[0x80, 1], 64), (&[], 0), (&[0x80], 0), (&[0xff; 11], 0)] {
        assert_eq!(of(MetaDb::nothing().put(&["v1", "version"], bytes)).0, Some(want), "{bytes:?}");
    }
    let docker = MetaDb::nothing().schema(3).bucket(&["v1", "moby", "containers", "x"]);
    assert_eq!(of(docker.clone()), (Some(3), false, "moby".to_owned()));
    let both = docker.bucket(&["v1", "k8s.io"]);
    assert_eq!(of(both), (Some(3), true, "k8s.io moby".to_owned()));
    // That of 1.7 is no namespace of containerd's.
    assert_eq!(of(MetaDb::nothing().sandbox_of_1_7(&web())), (None, false, String::new()));
}

#[test]
fn records_of_others_are_left_out() {
    let (web, id) = (web(), "0".repeat(64));
    let of = |db: &MetaDb| {
        let all = records(db);
        (all.sandboxes.len(), all.containers.len())
    };
    // Made with `ctr`, of Docker's namespace, without any label.
    let db = MetaDb::v2()
        .put(&["v1", "k8s.io", "containers", &id, "labels", "app"], "x")
        .put(&["v1", "k8s.io", "containers", &id, "extensions", "mine"], "x")
        .put(&["v1", "moby", "containers", &id, "labels", "io.cri-containerd.kind"], "sandbox")
        .put(&["v1", "k8s.io", "images", "x", "createdat"], "x")
        .bucket(&["v1", "k8s.io", "containers", "empty"])
        .bucket(&["v1", "moby", "sandboxes", &id])
        .bucket(&["k8s.io", "containers", &id]);
    assert_eq!(of(&db), (0, 0));
    // Either the label or the extension says what a record is of.
    let kind = "io.cri-containerd.kind";
    assert_eq!(of(&MetaDb::new().sandbox(&web.clone().without_label(kind))), (1, 0));
    assert_eq!(of(&MetaDb::new().sandbox(&web.clone().without_extension())), (1, 0));
    assert_eq!(of(&MetaDb::new().sandbox(&web.clone().without_extension().without_label(kind))), (0, 0));
    assert_eq!(of(&MetaDb::new().container(&web.container("c").without_label(kind))), (0, 1));
    assert_eq!(of(&MetaDb::new().container(&web.container("c").without_extension())), (0, 1));
    assert_eq!(of(&MetaDb::new().sandbox(&web.clone().without_extension().label(kind, "other"))), (0, 0));
    // A record of the sandbox API is one of a sandbox whatever it holds.
    assert_eq!(of(&MetaDb::v2().bucket(&["v1", "k8s.io", "sandboxes", "x"])), (1, 0));
}

/// A value where a bucket should be, and a bucket where a value should be.
#[test]
fn things_in_the_wrong_form() {
    let web = web();
    let record =
        |rest: &[&'static str]| [&["v1", "k8s.io", "containers"][..], &[&*web.id.clone().leak()], rest].concat();
    for path in [&["v1", "k8s.io"][..], &["v1", "k8s.io", "containers"], &record(&[])] {
        assert!(records(&MetaDb::new().pod(&web).put(path, "x")).sandboxes.is_empty(), "{path:?}");
    }
    let v2 = MetaDb::v2().sandbox_of_api(&web).put(&["v1", "k8s.io", "sandboxes"], "x");
    assert!(records(&v2).sandboxes.is_empty());
    let old = MetaDb::new().sandbox_of_1_7(&web);
    assert!(records(&old.clone().put(&["k8s.io", "sandboxes"], "x")).sandboxes.is_empty());
    assert!(records(&old.put(&["k8s.io"], "x")).sandboxes.is_empty());
    let db = || MetaDb::new().pod(&web);
    let changed = |db: MetaDb| sandbox(&db).in_containers.unwrap();
    assert!(changed(db().put(&record(&["labels"]), "x")).metadata.is_ok());
    assert_eq!(changed(db().put(&record(&["runtime"]), "x")).runtime, None);
    assert_eq!(changed(db().put(&record(&["extensions"]), "x")).metadata.unwrap_err(), MISSING);
    assert_eq!(changed(db().bucket(&record(&["createdat"]))).created, None);
    assert_eq!(changed(db().bucket(&record(&["runtime", "name"]))).runtime, None);
    let key = "io.cri-containerd.sandbox.metadata";
    assert_eq!(changed(db().bucket(&record(&["extensions", key]))).metadata.unwrap_err(), MISSING);
    assert_eq!(records(&db().bucket(&["v1", "version"])).schema, Some(0));
}

const MISSING: &str = "has no extension io.cri-containerd.sandbox.metadata";

#[test]
fn records_without_what_they_need() {
    assert_eq!(why(&web().without_extension()), MISSING);
    let container = of_container(&web().container("c").without_extension());
    assert_eq!(container.metadata.unwrap_err(), "has no extension io.cri-containerd.container.metadata");
    let sandbox = sandbox(&MetaDb::v2().sandbox_of_api(&web().without_extension()));
    assert_eq!(sandbox.in_sandboxes.unwrap().metadata.unwrap_err(), "has no extension metadata");

    // Its labels tell whose it is then.
    let labelled = |pod: &Pod| of_pod(pod).in_containers.unwrap().labelled;
    let bad = web().without_extension();
    assert_eq!(labelled(&bad).as_deref(), Some("prod/web-0"));
    assert_eq!(labelled(&web().extension("x")).as_deref(), Some("prod/web-0"));
    assert_eq!(labelled(&bad.clone().without_label("io.kubernetes.pod.name")), None);
    assert_eq!(labelled(&bad.clone().without_label("io.kubernetes.pod.namespace")), None);

    let record = of_pod(&web().created_as(None).runtime(None)).in_containers.unwrap();
    assert_eq!((record.created, record.runtime, record.has_bad_time), (None, None, false));
    assert!(record.metadata.is_ok());
}

/// With nothing else of the file than the metas and what was remembered, the records are the same.
#[test]
fn what_is_remembered_is_enough() {
    let (web, etcd) = (web().attempt(1), Pod::new("kube-system/etcd").host_network());
    let db = MetaDb::v2().pod(&web).container(&web.container("c")).sandbox(&etcd.clone().without_extension());
    let file = db.sandbox_of_1_7(&etcd).put(&["v1", "moby", "secret"], "of others").build();
    let db = Db::inked(&file[..], Meta::newest(&file[..]).unwrap());
    let want = super::records(&db).unwrap();
    let mut rest = vec![0; file.len()];
    rest[..80].copy_from_slice(&file[..80]);
    rest[4096..4176].copy_from_slice(&file[4096..4176]);
    for span in db.into_spans() {
        let at = usize::try_from(span.at).unwrap();
        rest[at..at + span.bytes.len()].copy_from_slice(&span.bytes);
    }
    assert_eq!(read(&rest).unwrap(), want);
    let text = String::from_utf8_lossy(&rest).into_owned();
    assert!(!text.contains("of others") && !text.contains("overlayfs") && text.contains("createdat"));
}

// --- any damage -----------------------------------------------------------------------------------------------------

fn sample() -> Vec<u8> {
    let json = |json: String| json.replace(r#""labels":{"app":"web-0"},"#, "");
    MetaDb::v2().page_size(1024).sandbox_of_api(&web().json(json)).container(&web().container("c")).build()
}

#[test]
fn every_prefix() {
    let file = sample();
    let whole = read(&file).unwrap();
    for end in 0..file.len() {
        fuzz(&file[..end]);
        match read(&file[..end]) {
            // Without the newest meta, the older tree, which is empty.
            Ok(records) => assert!(records == whole || records == Records::default(), "{end}"),
            Err(fault) => assert!(fault.is_damage() || end == 0, "{end}: {fault}"),
        }
    }
}

#[test]
fn every_byte_bent() {
    let mut file = sample();
    for at in 0..file.len() {
        let good = file[at];
        for bad in [good ^ 0x01, good ^ 0x80, 0xff].into_iter().filter(|bad| *bad != good) {
            file[at] = bad;
            reseal(&mut file, 1024);
            let _ = read(&file);
        }
        file[at] = good;
    }
    reseal(&mut file, 1024);
    assert_eq!(file, sample());
}
