//! Databases of real containerds; tests/captures/containerd/README.md says where they come from.

#![allow(clippy::string_slice)]

use super::*;

fn capture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/captures/containerd/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A line for the database, and one for each record.
fn told(file: &[u8]) -> Vec<String> {
    let meta = Meta::newest(file).unwrap();
    let all = super::super::records(&Db::new(file, meta.clone())).unwrap();
    let namespaces = all.namespaces.join(" ");
    let schema = all.schema.unwrap();
    let mut lines = vec![format!("schema {schema} transaction {} pages of {} {namespaces}", meta.txid, meta.page_size)];
    for (id, sandbox) in &all.sandboxes {
        let id = &id.to_string()[..12];
        for (place, record) in
            [("containers", sandbox.in_containers.as_ref()), ("sandboxes", sandbox.in_sandboxes.as_deref())]
        {
            let Some(record) = record else { continue };
            let metadata = record.metadata.as_ref().unwrap();
            let pod = metadata.pod().unwrap();
            assert_eq!((metadata.other_id(), record.has_bad_time, &record.labelled), (None, false, &None));
            let network = match (metadata.has_host_network(), metadata.netns(), metadata.has_address()) {
                (true, None, false) => "host",
                (false, Some(netns), true) if netns.starts_with("/var/run/netns/cni-") => "own",
                (false, Some(_), false) => "no address",
                other => panic!("{id}: {other:?}"),
            };
            assert_eq!(record.runtime.as_deref(), Some("io.containerd.runc.v2"));
            let created = record.created.unwrap();
            let mut name = format!("{}_{}_{}_{}", pod.name, pod.namespace, pod.uid, pod.attempt);
            if name != metadata.name() {
                name += &format!(" is {}", metadata.name());
            }
            lines.push(format!("{} {place} {created} {name} {network}", id));
        }
    }
    for (id, record) in &all.containers {
        let id = &id.to_string()[..12];
        let metadata = record.metadata.as_ref().unwrap();
        let (name, attempt) = metadata.container().unwrap();
        assert_eq!((metadata.other_id(), record.has_bad_time), (None, false));
        let (created, sandbox) = (record.created.unwrap(), &metadata.sandbox.to_string()[..12]);
        lines.push(format!("{} {created} {name} {attempt} in {sandbox}", id));
    }
    lines
}

const CASES: &[(&str, &[&str])] = &[
    (
        "v1.6-healthy",
        &[
            "schema 3 transaction 65 pages of 4096 k8s.io",
            "006e6a116863 containers 2026-11-21T01:55:03.373944112Z db-0_default_dd530d27-3040-56f4-a495-13481fb63a1c_0 own",
            "0bc50f858050 containers 2026-11-21T01:55:02.803416944Z web-0_default_69efb763-87a6-5a88-b2bc-b230caee6399_0 own",
            "6ebf31f7b781 containers 2026-11-21T01:55:02.385615488Z etcd-node1_kube-system_46c94b00-9284-5013-9b51-e98675206d0d_0 host",
            "7804be05fb0a 2026-11-21T01:55:03.781455629Z main 0 in 0bc50f858050",
            "ea77013267f6 2026-11-21T01:55:05.066498364Z main 0 in 006e6a116863",
        ],
    ),
    (
        "v1.6-pages-of-16k",
        &[
            "schema 3 transaction 2 pages of 16384 k8s.io",
            "006e6a116863 containers 2026-11-21T01:55:03.373944112Z db-0_default_dd530d27-3040-56f4-a495-13481fb63a1c_0 own",
            "0bc50f858050 containers 2026-11-21T01:55:02.803416944Z web-0_default_69efb763-87a6-5a88-b2bc-b230caee6399_0 own",
            "6ebf31f7b781 containers 2026-11-21T01:55:02.385615488Z etcd-node1_kube-system_46c94b00-9284-5013-9b51-e98675206d0d_0 host",
            "7804be05fb0a 2026-11-21T01:55:03.781455629Z main 0 in 0bc50f858050",
            "ea77013267f6 2026-11-21T01:55:05.066498364Z main 0 in 006e6a116863",
        ],
    ),
    (
        "v1.6-inflight",
        &[
            "schema 3 transaction 39 pages of 4096 k8s.io",
            "236d70b7c385 containers 2026-11-21T01:57:53.023659784Z web-0_default_69efb763-87a6-5a88-b2bc-b230caee6399_0 no address",
        ],
    ),
    (
        "v1.6-duplicate",
        &[
            "schema 3 transaction 40 pages of 4096 k8s.io",
            "69dfa4c96da8 containers 2026-11-21T01:56:49.571069684Z web-0_default_69efb763-87a6-5a88-b2bc-b230caee6399_0 own",
            "9542488f2f5d containers 2026-11-21T01:56:49.571069684Z web-0_default_69efb763-87a6-5a88-b2bc-b230caee6399_0 own",
        ],
    ),
    (
        "v1.6-inversion",
        &[
            "schema 3 transaction 48 pages of 4096 k8s.io",
            "80f9ea6c43f6 containers 2026-01-21T13:57:27Z web-0_default_69efb763-87a6-5a88-b2bc-b230caee6399_1 own",
            "de12e138a3e7 containers 2026-11-21T01:57:02.619808227Z web-0_default_69efb763-87a6-5a88-b2bc-b230caee6399_0 own",
        ],
    ),
    (
        "v1.7-healthy",
        &[
            "schema 3 transaction 49 pages of 4096 k8s.io",
            "3c99f99b850b containers 2026-11-21T02:25:22.576558966Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
            "599c79f5b863 containers 2026-11-21T02:25:22.141599507Z web-0_default_69efb763-87a6-5a88-b2bc-b230caee6399_0 own",
            "ab5be35cc7b6 2026-11-21T02:25:23.088907356Z main 0 in 599c79f5b863",
        ],
    ),
    (
        "v1.7-sandbox-server",
        &[
            "schema 3 transaction 37 pages of 4096 k8s.io",
            "1c542407a929 containers 2026-11-21T02:26:59.910820951Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
            "1c542407a929 sandboxes 2026-11-21T02:26:59.792483701Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
        ],
    ),
    (
        "v2.1-upgraded",
        &[
            "schema 4 transaction 39 pages of 4096 k8s.io",
            "1c542407a929 containers 2026-11-21T02:26:59.910820951Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
            "1c542407a929 sandboxes 2026-11-21T02:26:59.792483701Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
        ],
    ),
    (
        "v2.1-healthy",
        &[
            "schema 4 transaction 55 pages of 4096 k8s.io",
            "2ed40027cce1 containers 2026-11-21T02:18:36.747641165Z web-0_default_69efb763-87a6-5a88-b2bc-b230caee6399_0 own",
            "2ed40027cce1 sandboxes 2026-11-21T02:18:36.539463305Z web-0_default_69efb763-87a6-5a88-b2bc-b230caee6399_0 own",
            "99d2c9100aa5 containers 2026-11-21T02:18:39.409539378Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
            "99d2c9100aa5 sandboxes 2026-11-21T02:18:39.391092957Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
            "c58d6f0e87e6 2026-11-21T02:18:41.316900225Z main 0 in 2ed40027cce1",
        ],
    ),
    (
        "v2.1-inflight",
        &[
            "schema 4 transaction 41 pages of 4096 k8s.io",
            "71ee87ac1124 sandboxes 2026-11-21T02:19:46.602051426Z db-0_default_dd530d27-3040-56f4-a495-13481fb63a1c_0 no address",
            "c0c1a937d9dc containers 2026-11-21T02:19:44.955554732Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
            "c0c1a937d9dc sandboxes 2026-11-21T02:19:44.855208864Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
        ],
    ),
    (
        "v2.1-duplicate",
        &[
            "schema 4 transaction 63 pages of 4096 k8s.io",
            "0ede6f4500d1 containers 2026-11-21T02:20:31.130521073Z db-0_default_dd530d27-3040-56f4-a495-13481fb63a1c_0 own",
            "0ede6f4500d1 sandboxes 2026-11-21T02:20:05.999891958Z db-0_default_dd530d27-3040-56f4-a495-13481fb63a1c_0 own",
            "57771dda7fce containers 2026-11-21T02:19:44.955554732Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
            "71ee87ac1124 sandboxes 2026-11-21T02:19:46.602051426Z db-0_default_dd530d27-3040-56f4-a495-13481fb63a1c_0 no address",
            "c0c1a937d9dc containers 2026-11-21T02:19:44.955554732Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
            "c0c1a937d9dc sandboxes 2026-11-21T02:19:44.855208864Z etcd_kube-system_e327f027-ae0f-59dc-a0a4-12137a1a0102_0 host",
            "ea89753582b5 sandboxes 2026-11-21T02:21:27.584670732Z x___0 is ghost_default_11111111-2222-3333-4444-555555555555_0 no address",
        ],
    ),
];

#[test]
fn captures() {
    for (name, want) in CASES {
        let file = capture(name);
        fuzz(&file);
        assert_eq!(told(&file), *want, "{name}");
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures/containerd");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), CASES.len() + 1, "all of them, and the README");
}

/// What a crash leaves: the newest meta is not whole, and the tree before it is.
#[test]
fn captures_without_their_newest_meta() {
    for (name, _) in CASES {
        let mut file = capture(name);
        let newest = Meta::newest(&file[..]).unwrap();
        let size = usize::try_from(newest.page_size).unwrap();
        let at = [0, size].into_iter().find(|at| file[at + 64..at + 72] == newest.txid.to_ne_bytes()).unwrap();
        file[at + 72] ^= 1;
        let older = Meta::newest(&file[..]).unwrap();
        assert_eq!(older.txid, newest.txid - 1, "{name}");
        let all = super::super::records(&Db::new(&file[..], older)).unwrap();
        // That one was written in a single transaction.
        assert_eq!(all.is_kubernetes, *name != "v1.6-pages-of-16k", "{name}");
    }
}
