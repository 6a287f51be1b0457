use std::fs::{create_dir_all, write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

const UID: &str = "0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d";
const STATIC: &str = "36b6d6be73b1065af369b3985edafa09";
const ID: &str = "c0ffee0000000000000000000000000000000000000000000000000000000001";
const OTHER: &str = "c0ffee0000000000000000000000000000000000000000000000000000000002";

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

/// A tree that stands for `/`: files with their content; a target after `->` is a link, a trailing `/` a directory.
fn tree(entries: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in entries {
        let place = dir.path().join(path.trim_start_matches('/'));
        match path.strip_suffix('/') {
            Some(_) => create_dir_all(place).unwrap(),
            None => {
                create_dir_all(place.parent().unwrap()).unwrap();
                match content.strip_prefix("-> ") {
                    Some(target) => symlink(target, place).unwrap(),
                    None => write(place, content).unwrap(),
                }
            }
        }
    }
    dir
}

fn look(root: &Path, uid_text: &str, ids: &[&str]) -> Names {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    Names::look(&Host::at_root(root).unwrap(), &BTreeMap::from([(uid(uid_text), ids)]))
}

/// `namespace/pod container restart`.
fn told(names: &Names, id: &str) -> String {
    let Some(name) = names.container(id) else { return "-".to_owned() };
    let restart = name.restart.map_or("-".to_owned(), |number| number.to_string());
    format!("{} {} {restart}", name.pod, name.container.as_deref().unwrap_or("(sandbox)"))
}

fn containerd(uid: &str, container: Option<&str>) -> String {
    let container = container.map_or(String::new(), |name| format!(r#""io.kubernetes.cri.container-name":"{name}","#));
    format!(
        r#"{{"ociVersion":"1.2.0","process":{{"env":["SECRET=x"]}},"annotations":{{{container}"io.kubernetes.cri.container-type":
        "container","io.kubernetes.cri.sandbox-name":"multus.x7k","io.kubernetes.cri.sandbox-namespace":"kube-system",
        "io.kubernetes.cri.sandbox-uid":"{uid}"}},"linux":{{}}}}"#
    )
}

#[test]
fn each_distribution_keeps_them_somewhere() {
    for state in crate::layout::task_dirs() {
        let root = tree(&[
            (&format!("{state}/{ID}/config.json"), &containerd(UID, Some("multus"))),
            (&format!("{state}/{OTHER}/config.json"), &containerd(UID, None)),
        ]);
        let names = look(root.path(), UID, &[ID, OTHER]);
        assert_eq!(names.pod(uid(UID)).unwrap().to_string(), "kube-system/multus.x7k", "{state}");
        assert_eq!(told(&names, ID), "kube-system/multus.x7k multus -");
        assert_eq!(told(&names, OTHER), "kube-system/multus.x7k (sandbox) -");
        assert_eq!(names.troubles, []);
    }
    let crio = r#"{"annotations":{"io.kubernetes.cri-o.Labels":"{\"io.kubernetes.pod.name\":\"a\",\"io.kubernetes.pod.namespace\":\"b\",\"io.kubernetes.container.name\":\"c\"}"}}"#;
    let root = tree(&[(&format!("{CRIO_CONTAINERS}/{ID}/userdata/config.json"), crio)]);
    assert_eq!(told(&look(root.path(), UID, &[ID]), ID), "b/a c -");
}

#[test]
fn logs_tell_the_pod_and_the_restart() {
    let logs = format!("{POD_LOGS}/kube-system_multus.x7k_{UID}");
    let config = containerd(UID, Some("multus"));
    let task = format!("/run/containerd/{}/{ID}/config.json", crate::layout::TASKS);
    let root = tree(&[
        (&format!("{POD_LOGS}/default_other_{STATIC}/app/0.log"), ""),
        (&format!("{logs}/multus/9.log"), ""),
        (&format!("{logs}/multus/10.log"), ""),
        (&format!("{logs}/multus/8.log.20261121-101500.gz"), ""),
        (&format!("{logs}/multus/99999999999.log"), ""),
        (&format!("{logs}/multus/x.log"), ""),
        (&task, &config),
    ]);
    assert_eq!(told(&look(root.path(), UID, &[ID]), ID), "kube-system/multus.x7k multus 10");
    // Asked for pods alone, it reads no config.json; without one, the logs are enough for the pod.
    write(root.path().join(task.trim_start_matches('/')), "no JSON").unwrap();
    let names = look(root.path(), UID, &[]);
    assert_eq!(names.pod(uid(UID)), PodName::new("kube-system", "multus.x7k").as_ref());
    assert_eq!(names.troubles, []);
    assert_eq!(look(root.path(), STATIC, &[]).pod(uid(STATIC)), PodName::new("default", "other").as_ref());
    let names = look(root.path(), UID, &[ID]);
    assert_eq!(told(&names, ID), "-");
    assert_eq!(names.troubles.len(), 1, "{names:?}");
}

#[test]
fn links_tell_of_containers_that_are_gone() {
    let target = format!("{POD_LOGS}/kube-system_multus.x7k_{UID}/multus-cni/3.log");
    let root = tree(&[
        (&target, ""),
        (&format!("{CONTAINER_LOGS}/multus.x7k_kube-system_multus-cni-{ID}.log"), &format!("-> {target}")),
        (&format!("{CONTAINER_LOGS}/gone_default_app-{OTHER}.log"), "-> /var/log/pods/nowhere"),
        (&format!("{CONTAINER_LOGS}/no-link_default_app-abc.log"), ""),
    ]);
    let names = look(root.path(), UID, &[ID, OTHER, "abc", "unknown"]);
    assert_eq!(told(&names, ID), "kube-system/multus.x7k multus-cni 3");
    assert_eq!(told(&names, OTHER), "default/gone app -");
    assert_eq!(told(&names, "abc"), "default/no-link app -");
    assert_eq!(told(&names, "unknown"), "-");
}

#[test]
fn what_is_not_there_is_no_trouble_and_what_is_denied_is() {
    let root = tree(&[("/etc/", "")]);
    let names = look(root.path(), UID, &[ID, "../../etc", "", "."]);
    assert_eq!(names, Names::default());

    let scenario = tree(&[
        ("/root/etc/", ""),
        ("/clock", "2026-11-21T00:00:00Z\n"),
        ("/stat.toml", "[\"/run/containerd\"]\nerrno = \"EACCES\"\n[\"/var/log/pods\"]\nerrno = \"EACCES\"\n"),
    ]);
    let host = Host::scenario(scenario.path()).unwrap();
    let names = Names::look(&host, &BTreeMap::from([(uid(UID), vec![ID.to_owned(), OTHER.to_owned()])]));
    let denied: Vec<String> = names.troubles.iter().map(ToString::to_string).collect();
    assert_eq!(denied.len(), 2, "{denied:?}");
    assert!(names.troubles.iter().all(|error| matches!(error, Error::Denied { .. })), "{denied:?}");
    assert!(denied[1].starts_with("/var/log/pods: permission denied"), "{denied:?}");
}

#[test]
fn troubles_are_told_and_few() {
    let state = format!("/run/containerd/{}", crate::layout::TASKS);
    let large = " ".repeat(usize::try_from(LARGEST_CONFIG).unwrap() + 1);
    for (content, want) in [
        ("{", "EOF while parsing"),
        ("\u{0}\u{1}", "expected value"),
        ("[]", "invalid length"),
        (r#"{"annotations":{"io.kubernetes.cri.sandbox-name":1}}"#, "invalid type"),
        (r#"{"annotations":{"io.kubernetes.cri-o.Labels":"{"}}"#, "EOF while parsing"),
        (&"[".repeat(1000), "invalid type"),
        (&format!("{{\"x\":{}", "[".repeat(1000)), "EOF while parsing a list"),
        (&large, "is larger than 1048576 bytes"),
        (&containerd(STATIC, Some("a")), "is of another pod"),
    ] {
        let root = tree(&[(&format!("{state}/{ID}/config.json"), content)]);
        let names = look(root.path(), UID, &[ID]);
        assert_eq!(told(&names, ID), "-");
        assert!(names.troubles.len() == 1 && names.troubles[0].to_string().contains(want), "{want}: {names:?}");
    }
    for content in ["{}", r#"{"annotations":null}"#, r#"{"annotations":{"io.kubernetes.cri.sandbox-name":"a"}}"#] {
        let root = tree(&[(&format!("{state}/{ID}/config.json"), content)]);
        assert_eq!(look(root.path(), UID, &[ID]), Names::default(), "{content}");
    }
    let ids: Vec<String> = (0..20).map(|number| format!("{number:064x}")).collect();
    let files: Vec<(String, &str)> = ids.iter().map(|id| (format!("{state}/{id}/config.json"), "{")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let files = tree(&files);
    assert_eq!(look(files.path(), UID, &ids).troubles.len(), MOST_TROUBLES);
    let many: Vec<String> = (100..100 + MOST_CONFIGS + 1).map(|number| format!("{number:064x}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let troubles = look(files.path(), UID, &many).troubles;
    assert_eq!(troubles, [Error::Failed("257 containers to be named: 256 of them by their config.json".to_owned())]);
}

#[test]
fn hostile_names_are_no_names() {
    let long = "x".repeat(255);
    let root = tree(&[(&format!("{POD_LOGS}/default_app_{UID}/"), "")]);
    let logs = root.path().join(POD_LOGS.trim_start_matches('/'));
    for name in [
        &b"\xff\xfe_app_0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d"[..],
        b"a\nb_app_0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d",
        b"nothing",
        b"_",
        b"__",
        long.as_bytes(),
    ] {
        create_dir_all(logs.join(std::ffi::OsStr::from_bytes(name))).unwrap();
    }
    let names = look(root.path(), UID, &[]);
    assert_eq!(names.pod(uid(UID)).unwrap().to_string(), "default/app");
    assert_eq!(names.troubles, []);
}

#[test]
fn log_dirs() {
    for (name, want) in [
        (format!("kube-system_multus.x7k-9_{UID}"), Some(format!("kube-system/multus.x7k-9 {UID}"))),
        (
            format!("kube-system_etcd-node.example.com_{STATIC}"),
            Some(format!("kube-system/etcd-node.example.com {STATIC}")),
        ),
        (
            format!("{}_{}_{UID}", "a".repeat(63), "b".repeat(150)),
            Some(format!("{}/{} {UID}", "a".repeat(63), "b".repeat(150))),
        ),
        (UID.to_owned(), None),
        (format!("default_{UID}"), None),
        (format!("_app_{UID}"), None),
        (format!("default__{UID}"), None),
        (format!("default_a_b_{UID}"), None),
        (format!("default_app..x_{UID}"), None),
        (format!("Default_app_{UID}"), None),
        (format!("default_app|x_{UID}"), None),
        (format!("default_a\nb_{UID}"), None),
        (format!("{}_app_{UID}", "a".repeat(64)), None),
        ("default_app_123".to_owned(), None),
        ("default_app_".to_owned(), None),
        (String::new(), None),
    ] {
        assert_eq!(of_log_dir(&name).map(|(pod, uid)| format!("{pod} {uid}")), want, "{name:?}");
    }
}

#[test]
fn log_links_and_numbers() {
    for (name, want) in [
        (format!("app.x_default_my-app-{ID}.log"), Some(format!("default/app.x my-app {ID}"))),
        (format!("app_default_my_app-{ID}.log"), None),
        (format!("app_default_-{ID}.log"), None),
        (format!("app_default_app{ID}.log"), None),
        (format!("app_default_app-{ID}"), None),
        ("app_default_app-../x.log".to_owned(), None),
        ("a.log".to_owned(), None),
    ] {
        let got = of_log_link(&name).map(|(pod, container, id)| format!("{pod} {container} {id}"));
        assert_eq!(got, want, "{name:?}");
    }
    for (name, want) in [
        ("0.log", Some(0)),
        ("4294967295.log", Some(u32::MAX)),
        ("3.log.20261121-101500", Some(3)),
        ("3.log.20261121-101500.gz", Some(3)),
        ("4294967296.log", None),
        ("-1.log", None),
        (".log", None),
        ("3.logx", None),
        ("3", None),
        ("", None),
    ] {
        assert_eq!(log_number(name), want, "{name:?}");
    }
}

#[test]
fn a_pods_name_can_be_written_down() {
    for text in ["kube-system/multus.x7k", "a/b"] {
        assert_eq!(text.parse::<PodName>().unwrap().to_string(), text);
    }
    for text in ["", "/", "a", "a/", "/b", "a/b/c", "a/B", "a/b\n", "a.b/c", "a/b."] {
        let error = text.parse::<PodName>().unwrap_err().to_string();
        assert!(error.ends_with("is no namespace/pod") && !error.contains('\n'), "{text:?}: {error}");
    }
}

#[test]
fn the_database_names_what_nothing_else_does() {
    use crate::bolt_writer::{MetaDb, Pod};

    let uid = "0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d";
    let pod = Pod::new("web/api-0").uid(uid);
    let container = pod.container("app").attempt(3);
    let root = tree(&[("/var/lib/k0s/containerd/io.containerd.metadata.v1.bolt/", "")]);
    let file = root.path().join("var/lib/k0s/containerd/io.containerd.metadata.v1.bolt/meta.db");
    write(&file, MetaDb::new().pod(&pod).container(&container).build()).unwrap();
    let names = look(root.path(), uid, &[&container.id, &pod.id, OTHER]);
    assert_eq!(told(&names, &container.id), "web/api-0 app 3");
    assert_eq!(told(&names, &pod.id), "web/api-0 (sandbox) -");
    assert_eq!(told(&names, OTHER), "-");
    assert_eq!(names.troubles, []);
    // Those of another pod are not asked for.
    assert_eq!(look(root.path(), STATIC, &[&container.id]).containers.len(), 0);
    // What the runtime says counts more.
    let task = root.path().join("run/k0s/containerd").join(crate::layout::TASKS).join(&container.id);
    create_dir_all(&task).unwrap();
    write(task.join("config.json"), containerd(uid, Some("multus"))).unwrap();
    assert_eq!(told(&look(root.path(), uid, &[&container.id]), &container.id), "kube-system/multus.x7k multus -");
    write(&file, "damaged").unwrap();
    assert_eq!(look(root.path(), uid, &[OTHER]).troubles, []);
}
