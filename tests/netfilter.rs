//! Netfilter of the real kernel, in network namespaces of their own. Needs root.

#[path = "netfilter/save.rs"]
mod save;
mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nodecheck::host::{Error, Host};
use nodecheck::parse::ruleset::{Action, Endpoint, Family, Hook, Policy, Ruleset};
use nodecheck::parse::xtables::{recorded, table as parse};

use save::{NODE, NODE6, ODD, alone, chains, iptables, output, restore, rules_of, saved};
use support::here;

const NAMES: &str = "/proc/net/ip_tables_names";
/// [`ODD`] for IPv6, which asks for no fragments.
fn odd6() -> String {
    let v6 = ODD.replace("10.1.0.", "fd00::").replace("10.2.0.", "fd01::").replace("10.3.0.0/16", "fd03::/32");
    let v6 =
        v6.replace("/16", "/48").replace("192.0.2.1", "fd00::1").replace("/32 -p", "/128 -p").replace("-f -j", "-j");
    v6.replace("fd01::1-fd01::9:8000", "[fd01::1-fd01::9]:8000").replace("/32 -j empty", "/128 -j empty")
}

fn ruleset(family: Family, table: &str) -> Ruleset {
    Host::live().unwrap().legacy_table(family, table).unwrap().ruleset().unwrap()
}

/// We and `iptables-save` see the same.
#[track_caller]
fn assert_as_saved(family: Family, table: &str) -> Ruleset {
    let (program, any) =
        if family == Family::Ip { ("iptables-legacy-save", "0.0.0.0") } else { ("ip6tables-legacy-save", "::") };
    let rules = ruleset(family, table);
    assert_eq!(chains(&rules), saved(&output(iptables(program).args(["-t", table])), any));
    rules
}

fn count(rules: &Ruleset, is_meant: impl Fn(&Action) -> bool) -> usize {
    rules.chains().flat_map(|(_, chain)| chain.rules()).filter(|rule| is_meant(&rule.action)).count()
}

#[test]
fn what_iptables_prints_is_what_is_read() {
    alone("what_iptables_prints_is_what_is_read", || {
        restore("iptables-legacy-restore", &rules_of(NODE));
        restore("ip6tables-legacy-restore", &rules_of(NODE6));
        for family in [Family::Ip, Family::Ip6] {
            let nat = assert_as_saved(family, "nat");
            assert_eq!(count(&nat, |action| matches!(action, Action::Dnat(_))), 25);
            let services = nat.get(nat.find("KUBE-SERVICES").unwrap()).unwrap();
            let first = services.rules()[0];
            let (Action::Jump(to), Some(service)) = (first.action, nat.destination(&first)) else {
                panic!("{first:?}")
            };
            assert_eq!(nat.get(to).unwrap().name(), "KUBE-SVC-NPX46M4PTMTKRN6Y");
            let address = if family == Family::Ip { "10.96.0.1" } else { "fd00:96::1" };
            assert_eq!(service, Endpoint { address: address.parse().unwrap(), port: 443, protocol: 6 });
            let filter = assert_as_saved(family, "filter");
            assert!(filter.find("KUBE-FORWARD").is_some());
            let info = Host::live().unwrap().legacy_info(family, "nat").unwrap();
            assert_eq!((info.is_empty(Hook::Prerouting), info.is_empty(Hook::Input)), (Some(false), Some(true)));
            assert_eq!(info.is_empty(Hook::Forward), None);
        }
    });
}

#[test]
fn what_no_node_has_is_read_too() {
    alone("what_no_node_has_is_read_too", || {
        restore("iptables-legacy-restore", ODD);
        let rules = assert_as_saved(Family::Ip, "nat");
        let chain = rules.get(rules.find("PREROUTING").unwrap()).unwrap();
        assert_eq!((chain.hook, chain.policy), (Some(Hook::Prerouting), Some(Policy::Drop)));
        restore("ip6tables-legacy-restore", &odd6());
        assert_as_saved(Family::Ip6, "nat");
    });
}

fn names() -> String {
    std::fs::read_to_string(NAMES).unwrap()
}

#[test]
fn looking_makes_no_table() {
    alone("looking_makes_no_table", || {
        let host = Host::live().unwrap();
        assert_eq!(names(), "");
        for family in [Family::Ip, Family::Ip6] {
            assert_eq!(host.legacy_tables(family), Ok(Vec::new()));
            for table in ["nat", "filter", "no-such-table", "", "a name that is longer than any table's"] {
                let program = if family == Family::Ip { "iptables-legacy" } else { "ip6tables-legacy" };
                let absent = Err(Error::Absent(format!("no table {table} of {program}")));
                assert_eq!(host.legacy_table(family, table).map(drop), absent);
                assert_eq!(host.legacy_info(family, table).map(drop), absent);
            }
        }
        assert_eq!(names(), "");
        // What is listed is read, and nothing else comes to be.
        output(iptables("iptables-legacy").args(["-t", "nat", "-L", "-n"]));
        assert_eq!(host.legacy_tables(Family::Ip), Ok(vec!["nat".to_owned()]));
        let rules = assert_as_saved(Family::Ip, "nat");
        assert_eq!((rules.chains().count(), count(&rules, |_| true)), (4, 0));
        assert!(host.legacy_table(Family::Ip, "filter").is_err_and(|error| error.is_absent()));
        assert_eq!((names(), host.legacy_tables(Family::Ip6)), ("nat\n".to_owned(), Ok(Vec::new())));
    });
}

/// All that a writer ever makes is a table with as many jumps as rules in the chain that they lead to.
#[test]
#[ignore = "deep: a writer and a reader that take turns as the machine lets them"]
fn a_writer_tears_nothing() {
    alone("a_writer_tears_nothing", || {
        let table = |rules: usize, last: &str| {
            let jumps = "-A PREROUTING -j many\n".repeat(rules);
            let many: String =
                (0..rules).map(|n| format!("-A many -p tcp -m tcp --dport {} -j {last}\n", n + 1)).collect();
            format!("*nat\n:many - [0:0]\n-F\n{jumps}{many}COMMIT\n")
        };
        // Of two sizes, and two of one size.
        let tables = [table(40, "ACCEPT"), table(70, "ACCEPT"), table(70, "RETURN")];
        restore("iptables-legacy-restore", &tables[0]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for rules in tables.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                    restore("iptables-legacy-restore", rules);
                }
            });
            let host = Host::live().unwrap();
            let mut seen = BTreeMap::new();
            let begun = Instant::now();
            let mut reads = 0;
            while reads < 3000 || seen.len() < 3 && begun.elapsed() < Duration::from_secs(60) {
                reads += 1;
                let read = host.legacy_table(Family::Ip, "nat").and_then(|table| table.ruleset());
                let rules = read.unwrap();
                let of = |name| rules.get(rules.find(name).unwrap()).unwrap().rules();
                let (jumps, many) = (of("PREROUTING"), of("many"));
                assert_eq!(jumps.len(), many.len());
                assert!(many.iter().all(|rule| rule.action == many[0].action));
                *seen.entry((many.len(), format!("{:?}", many[0].action))).or_insert(0) += 1;
            }
            stop.store(true, Ordering::Relaxed);
            println!("{seen:?}");
            assert_eq!(seen.len(), 3, "{seen:?}");
        });
    });
}

/// What `without_rights` asks, in a process that has lost them.
#[test]
#[ignore = "started by another test"]
fn asks() {
    if std::env::var_os("NODECHECK_ASKS").is_some() {
        let host = Host::live().unwrap();
        let told = |error: Option<Error>| error.map_or("fine".to_owned(), |error| error.to_string());
        println!("\nlist: {}", told(host.legacy_tables(Family::Ip).err()));
        println!("table: {}", told(host.legacy_table(Family::Ip, "nat").err()));
        println!("info: {}", told(host.legacy_info(Family::Ip6, "nat").err()));
    }
}

#[test]
fn without_rights() {
    alone("without_rights", || {
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            output(iptables(program).args(["-t", "nat", "-L", "-n"]));
        }
        let ask = |options: &[&str]| {
            let mut command = Command::new("setpriv");
            command.args(options).arg(std::env::current_exe().unwrap()).args([
                "asks",
                "--exact",
                "--ignored",
                "--nocapture",
            ]);
            let out = output(command.env("NODECHECK_ASKS", "1"));
            let line = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
            [line("list: "), line("table: "), line("info: ")]
        };
        let drop = |capabilities: &str| {
            let without = format!("--bounding-set={capabilities}");
            ask(&[&without, "--inh-caps=-all"])
        };
        assert_eq!(drop("-sys_admin"), ["fine"; 3]);
        let needs = |what: &str, need: &str| format!("{what}: permission denied; needs {need}");
        let admin = |what| needs(what, "CAP_NET_ADMIN");
        // A raw socket is not needed.
        assert_eq!(drop("-all,+net_admin"), ["fine"; 3]);
        assert_eq!(
            drop("-net_admin"),
            ["fine".to_owned(), admin("table nat of iptables-legacy"), admin("table nat of ip6tables-legacy")]
        );
        let list = |path| needs(path, "root or CAP_DAC_READ_SEARCH");
        let [v4, v6] = [NAMES, "/proc/net/ip6_tables_names"].map(list);
        assert_eq!(ask(&["--reuid=65534", "--regid=65534", "--clear-groups"]), [v4.clone(), v4, v6]);
    });
}

#[test]
fn a_recording_tells_the_same() {
    alone("a_recording_tells_the_same", || {
        restore("iptables-legacy-restore", &rules_of(NODE));
        restore("ip6tables-legacy-restore", &rules_of(NODE6));
        let host = Host::live().unwrap().recording();
        for family in [Family::Ip, Family::Ip6] {
            assert_eq!(host.legacy_tables(family).unwrap().len(), 2);
            host.legacy_info(family, "filter").unwrap();
            host.legacy_table(family, "nat").unwrap();
            host.legacy_info(family, "nat").unwrap();
        }
        let out = tempfile::tempdir().unwrap();
        host.recorded().unwrap().write(out.path(), host.now().wall).unwrap();
        let replayed = Host::scenario(out.path()).unwrap();
        for family in [Family::Ip, Family::Ip6] {
            assert_eq!(replayed.legacy_tables(family), host.legacy_tables(family));
            for table in ["nat", "filter"] {
                assert_eq!(replayed.legacy_info(family, table), host.legacy_info(family, table));
            }
            let read = |host: &Host| host.legacy_table(family, "nat").unwrap().ruleset().unwrap();
            assert_eq!(read(&replayed), read(&host));
            assert!(replayed.legacy_table(family, "mangle").is_err_and(|error| error.is_absent()));
        }
    });
}

/// `NODECHECK_BLESS=1` writes them anew.
#[test]
fn the_captures_are_of_these_rules() {
    alone("the_captures_are_of_these_rules", || {
        let captured = |family: Family, table: &str, name: &str| {
            let host = Host::live().unwrap().recording();
            let want = host.legacy_table(family, table).unwrap().ruleset().unwrap();
            let path = here().join("tests/captures/xtables").join(name);
            if std::env::var_os("NODECHECK_BLESS").is_some() {
                let out = tempfile::tempdir().unwrap();
                host.recorded().unwrap().write(out.path(), host.now().wall).unwrap();
                let family = if family == Family::Ip { "ip" } else { "ip6" };
                std::fs::copy(out.path().join(format!("netfilter/legacy-{family}-{table}")), &path).unwrap();
            }
            let bytes = std::fs::read(&path).unwrap();
            let (info, entries) = recorded(&bytes).unwrap();
            assert_eq!(chains(&parse(family, &info, entries).unwrap()), chains(&want), "{name}");
            assert!(!bytes.windows(8).any(|text| text == b"cluster "), "{name}: comments are left out");
        };
        let load = |v4: &str, v6: &str| {
            restore("iptables-legacy-restore", v4);
            restore("ip6tables-legacy-restore", v6);
        };
        output(iptables("iptables-legacy").args(["-t", "nat", "-L", "-n"]));
        captured(Family::Ip, "nat", "empty");
        load(&rules_of(NODE), &rules_of(NODE6));
        captured(Family::Ip, "nat", "node-nat");
        captured(Family::Ip6, "nat", "node6-nat");
        captured(Family::Ip, "filter", "node-filter");
        load(ODD, &odd6());
        captured(Family::Ip, "nat", "odd");
        captured(Family::Ip6, "nat", "odd6");
    });
}
