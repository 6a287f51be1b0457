//! What lies in the values of a record: times, protobuf, JSON.

use super::*;

#[test]
fn go_times() {
    let second = |second: i64| Timestamp::from_second(second).ok();
    let with = |bytes: &[u8]| time(bytes);
    assert_eq!(with(&go_time(0, 0)), second(0));
    assert_eq!(with(&go_time(1_793_527_200, 999_999_999)), Timestamp::new(1_793_527_200, 999_999_999).ok());
    // Before 1970, when Go's zero time went through UnixNano (1754), and in the first and the last year.
    for text in
        ["1969-12-31T23:59:59.5Z", "1754-08-30T22:43:41.128654848Z", "0001-01-01T00:00:00Z", "9999-12-30T00:00:00Z"]
    {
        let when: Timestamp = text.parse().unwrap();
        let seconds = when.as_nanosecond().div_euclid(1_000_000_000);
        let nanoseconds = when.as_nanosecond().rem_euclid(1_000_000_000);
        assert_eq!(with(&go_time(seconds.try_into().unwrap(), nanoseconds.try_into().unwrap())), Some(when), "{text}");
    }
    // A zone does not move the moment; the second version has its seconds too.
    let moved = |version: u8, zone: &[u8]| [&[version][..], &go_time(77, 5)[1..13], zone].concat();
    let want = Timestamp::new(77, 5).ok();
    for (bytes, want) in [
        (moved(1, &[0xff, 0xff]), want),
        (moved(1, &[0, 60]), want),
        (moved(1, &[0x80, 0]), want),
        (moved(2, &[0, 60, 30]), want),
        (moved(0, &[0, 60]), None),
        (moved(3, &[0, 60]), None),
        (moved(1, &[0, 60, 30]), None),
        (moved(2, &[0, 60]), None),
        (moved(1, &[0]), None),
        (moved(1, &[]), None),
        (Vec::new(), None),
        (vec![1], None),
        // Years beyond what a calendar has.
        (go_time(253_402_300_800, 0), None),
        ([&[1][..], &i64::MAX.to_be_bytes(), &[0; 6]].concat(), None),
        ([&[1][..], &i64::MIN.to_be_bytes(), &[0; 6]].concat(), None),
        ([&[1][..], &go_time(0, 0)[1..9], &i32::MAX.to_be_bytes(), &[0; 2]].concat(), None),
    ] {
        assert_eq!(with(&bytes), want, "{bytes:?}");
    }
}

#[test]
fn times_that_containerd_refuses() {
    let of = |bytes: &[u8]| {
        let record = of_pod(&web().created_as(Some(bytes.to_vec()))).in_containers.unwrap();
        assert!(record.metadata.is_ok());
        (record.created.is_some(), record.has_bad_time)
    };
    assert_eq!(of(&go_time(0, 0)), (true, false));
    assert_eq!(of(b""), (false, true));
    assert_eq!(of(b"2026-11-01"), (false, true));
    assert_eq!(of(&go_time(0, 0)[..14]), (false, true));
    // Go takes it, and no calendar here does.
    assert_eq!(of(&go_time(253_402_300_800, 0)), (false, false));
    let updated = ["v1", "k8s.io", "containers", &web().id, "updatedat"];
    let record = sandbox(&MetaDb::new().pod(&web()).put(&updated, "x")).in_containers.unwrap();
    assert!(record.has_bad_time && record.created.is_some());
}

/// The extension of a pod, made of these fields of an `Any`.
fn with(fields: &[&[u8]]) -> Pod {
    web().extension(fields.concat())
}

#[test]
fn any_of_protobuf() {
    let json = web().to_json();
    let whole = any("type", json.as_bytes());
    let value = &whole[6..];
    // Unknown fields of every kind that has a length, before and after; the type is not asked.
    for fields in [
        &[&whole[..]][..],
        &[value],
        &[&[0x18, 0x80, 0x01], value],
        &[&[0x19, 1, 2, 3, 4, 5, 6, 7, 8], value],
        &[&[0x1d, 1, 2, 3, 4], value, &[0x1a, 2, b'x', b'y']],
        &[&[0x12, 0], value],
        &[&[0xfa, 0x01, 1, b'x'], value],
    ] {
        assert!(of_pod(&with(fields)).metadata().is_some(), "{:?}", &fields[0][..9.min(fields[0].len())]);
    }
    let none = "has an extension that is not what containerd writes";
    for fields in [
        &[][..],
        &[&whole[..6]],
        &[&whole[..whole.len() - 1]],
        &[value, &[0x1b, 0x1c]],
        &[value, &[0x1f, 1]],
        &[value, &[0x18]],
        &[value, &[0x18, 0xff]],
        &[value, &[0x1d, 1, 2, 3]],
        &[value, &[0x19, 1]],
        &[value, &[0x1a, 200]],
        &[value, &[0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]],
        &[value, &[0xff; 11]],
        &[json.as_bytes()],
    ] {
        assert_eq!(why(&with(fields)), none);
    }
    assert_eq!(why(&with(&[&[0x12, 0]])), "is cut off (line 1, column 0)");
}

#[test]
fn json_of_containerd() {
    let changed = |from: &str, to: &str| {
        let pod = web().attempt(2);
        assert!(pod.to_json().contains(from), "{from} is not in {}", pod.to_json());
        pod.json(|json| json.replace(from, to))
    };
    let metadata = |from: &str, to: &str| of_pod(&changed(from, to)).metadata().unwrap().clone();
    // Unknown fields on every level, and such as are null.
    assert!(metadata(r#""ProcessLabel":"""#, r#""Later":{"a":[1,null]}"#).has_address());
    assert!(metadata(r#""Version""#, r#""Later":1,"Version""#).has_address());
    assert_eq!(metadata(r#","attempt":2"#, "").pod().unwrap().attempt, 0);
    assert_eq!(metadata(r#""attempt":2"#, r#""attempt":4294967295,"x":{}"#).pod().unwrap().attempt, u32::MAX);
    assert!(!metadata(r#""IP":"10.99.0.2""#, r#""IP":null"#).has_address());
    assert!(!metadata(r#""IP":"10.99.0.2","#, "").has_address());
    assert!(!metadata(r#""IP":"10.99.0.2""#, r#""IP":"""#).has_address());
    assert_eq!(metadata(r#""NetNSPath":"#, r#""NetNSPath":null,"x":"#).netns(), None);
    assert_eq!(metadata(r#""NetNSPath":"#, r#""x":"#).netns(), None);
    assert_eq!(metadata(r#""Config":"#, r#""Config":null,"x":"#).pod(), None);
    assert_eq!(metadata(r#""Config":"#, r#""x":"#).pod(), None);
    assert_eq!(metadata(r#""metadata":"#, r#""metadata":null,"x":"#).pod(), None);
    for (from, to, is_host) in [
        (r#""pid":1"#, r#""network":2,"pid":1"#, true),
        (r#""pid":1"#, r#""network":0"#, false),
        (r#""pid":1"#, r#""network":1"#, false),
        (r#""linux":"#, r#""linux":null,"x":"#, false),
        (r#""linux":"#, r#""x":"#, false),
        (r#""security_context":"#, r#""security_context":null,"x":"#, false),
        (r#""namespace_options":"#, r#""namespace_options":null,"x":"#, false),
    ] {
        assert_eq!(metadata(from, to).has_host_network(), is_host, "{to}");
    }
    let refused = |from: &str, to: &str| why(&changed(from, to));
    assert_eq!(refused(r#""v1""#, r#""v2""#), "has version 'v2', and containerd knows v1");
    assert_eq!(refused(r#""v1""#, r#""""#), "has version '', and containerd knows v1");
    assert_eq!(
        refused(r#""v1""#, &format!(r#""\u001b{}""#, "x".repeat(99))),
        format!("has version '\\u{{1b}}{}', and containerd knows v1", "x".repeat(14))
    );
    // Nothing of the record is in the text, whatever lies there.
    let name = format!("\"{}\"", web().attempt(2).full_name());
    for (from, to, want) in [
        (r#""Name":"#, r#""secret":"#, "lacks a field or has a wrong one (line 1, column "),
        (r#""Version":"v1","#, "", "lacks a field or has a wrong one (line 1, column "),
        (r#""Metadata":"#, r#""secret":"#, "lacks a field or has a wrong one (line 1, column "),
        (&name, r#"{"secret":1}"#, "lacks a field or has a wrong one (line 1, column "),
        (&name, r#""secret\x""#, "is no JSON (line 1, column "),
        (r#""ProcessLabel":""}}"#, r#""ProcessLabel":"secret"#, "is cut off (line 1, column "),
    ] {
        let why = refused(from, to);
        assert!(why.starts_with(want) && !why.contains("secret"), "{to}: {why}");
    }
    // As deep as it likes, known or unknown.
    let deep = "[".repeat(50_000);
    let known = format!(r#"{{"Version":"v1","Metadata":{deep}"#);
    assert_eq!(why(&web().json(|_| known)), "lacks a field or has a wrong one (line 1, column 28)");
    let unknown = format!(r#"{{"x":{deep}"#);
    assert_eq!(why(&web().json(|_| unknown)), "is cut off (line 1, column 50005)");
}

#[test]
fn json_of_a_container() {
    let with = |from: &str, to: &str| {
        let container = web().container("c").attempt(7);
        assert!(container.to_json().contains(from), "{from}");
        of_container(&container.json(|json| json.replace(from, to))).metadata.unwrap()
    };
    assert_eq!(with(r#","attempt":7"#, "").container(), Some(("c", 0)));
    assert_eq!(with(r#""Config":"#, r#""Config":null,"x":"#).container(), None);
    assert_eq!(with(r#""metadata":"#, r#""metadata":null,"x":"#).container(), None);
    assert_eq!(with(r#""SandboxID":"#, r#""x":"#).sandbox, id(""));
}

#[test]
fn a_reduced_extension_says_the_same() {
    let web = web().attempt(2);
    let etcd = Pod::new("kube-system/etcd").host_network();
    for pod in [&web, &etcd, &web.clone().ip("")] {
        let whole = any("type", pod.to_json().as_bytes());
        let short = reduced(&whole, true).unwrap();
        assert_eq!(short.len(), whole.len());
        assert_eq!(of_pod(&pod.clone().extension(&short)).metadata(), of_pod(pod).metadata());
        let text = String::from_utf8_lossy(&short).into_owned();
        assert!(!text.contains("log_directory") && !text.contains("CNIResult"), "{text}");
        assert_eq!(reduced(&short, true).as_ref(), Some(&short));
    }
    let container = web.container("c").attempt(1);
    let whole = any("type", container.to_json().as_bytes());
    let short = reduced(&whole, false).unwrap();
    assert_eq!(of_container(&container.clone().extension(&short)).metadata, of_container(&container).metadata);
    assert!(!String::from_utf8_lossy(&short).contains("ImageRef"));
    // What can't be read, and a value that is not the last field.
    for bytes in [&b""[..], b"x", &whole[..20], &any("type", b"{}"), &[&whole[..], &[0x18, 1]].concat()] {
        assert_eq!(reduced(bytes, true), None);
    }
    // Nothing can be left out of this one.
    let least = any("type", br#"{"Version":"v1","Metadata":{"Name":"x"}}"#);
    assert_eq!(reduced(&least, true), Some(least));
}

/// Texts that lie in each other are kept once, and those that do not are kept as well.
#[test]
fn texts_of_a_record() {
    let pod = |name: &str, pod: &str, id: &str| {
        let json = format!(
            r#"{{"Version":"v1","Metadata":{{"ID":"{id}","Name":"{name}","NetNSPath":"/é","Config":{{"metadata":{{{pod}}}}}}}}}"#
        );
        of_pod(&web().json(|_| json)).metadata().unwrap().clone()
    };
    let (names, id) = (r#""name":"a","namespace":"é_b","uid":"c_b""#, web().id);
    for name in ["a_é_b_c_b_0", "é_bc_b", "a", "", "aéb", "/é/é_b"] {
        let read = pod(name, names, &id);
        let its = read.pod().unwrap();
        assert_eq!((read.name(), read.netns(), read.other_id()), (name, Some("/é"), None));
        assert_eq!((its.name, its.namespace, its.uid, read.uid()), ("a", "é_b", "c_b", "c_b"));
    }
    let read = pod("x", "", "");
    assert_eq!((read.other_id(), read.name(), read.uid()), (Some(""), "x", ""));
    assert_eq!(pod("x", "", "x").other_id(), Some("x"));
}
