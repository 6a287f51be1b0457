use super::*;
use crate::pods::of_config;

const TASK: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/c0ffee/config.json";

#[test]
fn an_environment_keeps_its_names_and_loses_its_secrets() {
    let environ = b"PATH=/bin\0TOKEN=hunter2\0container=lxc\0odd\0";
    assert_eq!(blanked("/proc/1/environ", environ), b"PATH=\0TOKEN=\0container=lxc\0odd\0");
    assert_eq!(blanked("/etc/environ", environ), environ);
}

#[test]
fn a_container_keeps_its_names() {
    let containerd = r#"{"ociVersion":"1.2.0","process":{"env":["TOKEN=hunter2"],"args":["--key=hunter2"]},
        "annotations":{"io.kubernetes.cri.sandbox-namespace":"web","io.kubernetes.cri.sandbox-name":"api-0",
        "io.kubernetes.cri.sandbox-uid":"0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d","hunter2":"hunter2",
        "io.kubernetes.cri.container-name":"app","io.kubernetes.cri.image-name":"hunter2"}}"#;
    let crio = r#"{"annotations":{"io.kubernetes.cri-o.Labels":"{\"io.kubernetes.pod.namespace\":\"web\",\"hunter2\":
        \"hunter2\",\"io.kubernetes.pod.name\":\"api-0\",\"io.kubernetes.container.name\":\"app\",
        \"io.kubernetes.pod.uid\":\"0dd4e3a1-5f0e-4a5c-9a61-2f0e2a3b4c5d\"}","x":"hunter2"},"root":"hunter2"}"#;
    let crio = crio.replace('\n', "");
    for path in [TASK, "/run/containers/storage/overlay-containers/c0ffee/userdata/config.json"] {
        for text in [containerd, &crio, "{}", r#"{"process":"hunter2"}"#, r#"{"annotations":null}"#] {
            let blank = String::from_utf8(blanked(path, text.as_bytes())).unwrap();
            assert!(!blank.contains("hunter2"), "{blank}");
            assert_eq!(of_config(blank.as_bytes()).unwrap(), of_config(text.as_bytes()).unwrap(), "{blank}");
        }
        assert!(of_config(&blanked(path, crio.as_bytes())).unwrap().is_some());
    }
    for path in
        ["/etc/config.json", "/run/containerd/config.json", "/run/containers/storage/overlay-containersx/config.json"]
    {
        assert_eq!(blanked(path, containerd.as_bytes()), containerd.as_bytes(), "{path}");
    }
}

#[test]
fn what_could_not_be_read_stays_so() {
    let whole = r#"{"process": {"env": ["TOKEN=hunter2", "é\"\u00e9\\"], "pid": -20.5e3},
        "annotations": {"io.kubernetes.cri.sandbox-name": "hunter2", "x": true}}"#;
    let cut = (0..whole.len()).map(|end| whole.as_bytes()[..end].to_vec());
    let others = [
        &b"TOKEN=hunter2"[..],
        b"{\"a\": hunter2}",
        b"{\"a\": 1 \"hunter2\"}",
        b"{\"a\": \"\n\", \"hunter2\": 1}",
        b"{\"annotations\": {\"io.kubernetes.cri.sandbox-name\": \"\xff\", \"hunter2\": 1}}",
        b"{} hunter2",
        b"[\"hunter2\"]",
        b"\"hunter2\"",
        b"{\"annotations\": \"hunter2\"}",
        b"{\"annotations\": {\"io.kubernetes.cri.sandbox-name\": [\"hunter2\"]}}",
        b"{\"annotations\": {\"io.kubernetes.cri-o.Labels\": \"hunter2\"}}",
        b"{\"annotations\": {\"io.kubernetes.cri-o.Labels\": \"{\\\"hunter2\"}}",
        b"{\"annotations\": {}, \"annotations\": \"hunter2\"}",
    ];
    for text in cut.chain(others.map(<[u8]>::to_vec)) {
        let shown = text.escape_ascii().to_string();
        let blank = blanked(TASK, &text);
        assert!(!blank.escape_ascii().to_string().contains("hunter2"), "{shown}");
        let (is, was) = (of_config(&blank).unwrap_err(), of_config(&text).unwrap_err());
        // One that is being written.
        if was.is_eof() {
            assert_eq!(is.to_string(), was.to_string(), "{shown}");
            assert!(blank.len() == text.len() || shown.contains("cri-o"), "{shown}");
        }
    }
}

#[test]
fn arguments_keep_where_things_are() {
    let blank = |cmdline: &str| String::from_utf8(blanked("/proc/7/cmdline", cmdline.as_bytes())).unwrap();
    for (cmdline, want) in [
        (
            "/usr/bin/containerd\0--root\0/data\0--state=/run/c\0-c\0/etc/c.toml\0--log-level\0debug\0",
            "/usr/bin/containerd\0--root\0/data\0--state=/run/c\0-c\0/etc/c.toml\0x\0x\0",
        ),
        (
            "/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0-id\0c0ffee\0-address\0/run/c.sock\0-debug\0",
            "/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0-id\0c0ffee\0-address\0/run/c.sock\0x\0",
        ),
        ("sh\0-c\0TOKEN=hunter2 run\0--config\0\0hunter2\0", "sh\0x\0x\0x\0\0x\0"),
        ("containerd\0--config=--key hunter2\0--rooty\0hunter2\0root\0hunter2", "containerd\0--config=x\0x\0x\0x\0x"),
        ("program: --token hunter2", "program:"),
        ("containerd\0--id\0--root\0/x\0/y", "containerd\0--id\0--root\0/x\0x"),
        ("", ""),
    ] {
        assert_eq!(blank(cmdline), want);
        assert_eq!(want.split('\0').count(), cmdline.split('\0').count());
    }
    assert_eq!(blanked("/tmp/cmdline", b"a\0hunter2"), b"a\0hunter2");
}

#[test]
fn a_state_keeps_its_process() {
    let path = "/run/containerd/runc/k8s.io/c0ffee/state.json";
    let blank = |json: &str| String::from_utf8(blanked(path, json.as_bytes())).unwrap();
    let json =
        r#"{"id":"c0ffee","init_process_pid":812,"init_process_start":18446744073709551615,"config":{"hunter2":1}}"#;
    assert_eq!(blank(json), r#"{"init_process_pid":812,"init_process_start":18446744073709551615}"#);
    assert_eq!(blank("{}"), "{}");
    assert_eq!(blank(r#"{"init_process_pid":"hunter2"}"#), r#"{"init_process_pid":""}"#);
    let cut = blank(&json[..json.len() - 3]);
    assert!(!cut.contains("hunter2") && cut.len() == json.len() - 3, "{cut}");
    assert!(serde_json::from_str::<Value>(&cut).unwrap_err().is_eof());
    assert!(cut.contains("init_process_pid"));
}

#[test]
fn settings_keep_where_things_are() {
    let blank = |path: &str, text: &str| String::from_utf8(blanked(path, text.as_bytes())).unwrap();
    let text =
        "version = 3\nimports = ['/etc/c.d/*.toml']\nroot = \"/data\"\n[plugins.registry.auth]\nroot = 'hunter2'\n";
    for path in ["/etc/containerd/config.toml", "/var/snap/microk8s/1/args/containerd.toml", "/etc/c.d/auth.toml"] {
        let kept = blank(path, text);
        assert_eq!(kept.parse::<toml::Table>().unwrap().len(), 2, "{kept}");
        assert!(kept.contains("root = \"/data\"\n") && kept.contains("/etc/c.d/*.toml"), "{kept}");
        assert_eq!(blank(path, "[root]\npassword = 'hunter2'\n"), "root = 0\n");
        // Broken in the third line.
        let broken = blank(path, "root = '/a'\nauth = 'hunter2'\nhunter2\n");
        assert_eq!(broken, "\n\nx\n");
        assert!(broken.parse::<toml::Table>().is_err());
        assert_eq!(blank(path, ""), "");
    }
    assert_eq!(blank("/etc/nodecheck/checks/a.toml", text), text);
}

#[test]
fn mounts_keep_cgroups_and_namespaces() {
    let kept = "31 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                90 25 0:4 net:[4026532345] /run/netns/cni-1 rw shared:5 - nsfs nsfs rw\n";
    let text = format!("{kept}40 23 0:50 / /srv rw - nfs server:/hunter2 rw,password=hunter2\n");
    assert_eq!(String::from_utf8(blanked("/proc/1/mountinfo", text.as_bytes())).unwrap(), kept);
}
