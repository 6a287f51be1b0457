//! nf_tables and ipsets of the real kernel, in network namespaces of their own. Needs root.

#[path = "netfilter/save.rs"]
mod save;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nodecheck::host::{Error, Host, NftTable, Wanted};
use nodecheck::parse::ruleset::{Action, Endpoint, Family, Ruleset};
use save::{NODE, NODE6, ODD, alone, chains, iptables, output, restore, rules_of, saved};

/// What kube-proxy writes in its nftables mode, for six services; made by a program of ours.
const KUBE_PROXY: &str = "tests/netfilter/kube-proxy.nft";
/// What a look at a cluster in iptables mode needs.
const DECIDING: &[&str] = &["PREROUTING", "OUTPUT", "POSTROUTING", "KUBE-POSTROUTING", "KUBE-SVC-NPX46M4PTMTKRN6Y"];

fn nft(script: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("script"), script).unwrap();
    output(Command::new("nft").arg("-f").arg(dir.path().join("script")));
}

fn read(family: Family, table: &str, wanted: &Wanted<'_>) -> NftTable {
    Host::live().unwrap().nft_table(family, table, wanted).unwrap()
}

fn endpoints_of(from: &str, to: &str) -> bool {
    from.starts_with("KUBE-SVC-") && to.starts_with("KUBE-SEP-")
}

fn deciding() -> Wanted<'static> {
    Wanted { chains: Some(DECIDING), follow: &endpoints_of, maps: &|_| true }
}

/// We and `iptables-nft-save` see the same.
#[track_caller]
fn assert_as_saved(family: Family, table: &str) -> Ruleset {
    let (program, any) =
        if family == Family::Ip { ("iptables-nft-save", "0.0.0.0") } else { ("ip6tables-nft-save", "::") };
    let rules = read(family, table, &Wanted::ALL).contents.rules;
    assert_eq!(chains(&rules), saved(&output(iptables(program).args(["-t", table])), any));
    rules
}

fn count(rules: &Ruleset, is_meant: impl Fn(&Action) -> bool) -> usize {
    rules.chains().flat_map(|(_, chain)| chain.rules()).filter(|rule| is_meant(&rule.action)).count()
}

fn names(rules: &Ruleset) -> BTreeSet<&str> {
    rules.chains().map(|(_, chain)| chain.name()).collect()
}

#[test]
fn what_iptables_prints_is_what_is_read() {
    alone("what_iptables_prints_is_what_is_read", || {
        restore("iptables-nft-restore", &rules_of(NODE));
        restore("ip6tables-nft-restore", &rules_of(NODE6));
        for family in [Family::Ip, Family::Ip6] {
            let nat = assert_as_saved(family, "nat");
            assert_eq!(count(&nat, |action| matches!(action, Action::Dnat(_))), 25);
            assert_as_saved(family, "filter");
            let host = Host::live().unwrap();
            let tables = host.nft_tables(family).unwrap();
            let told: BTreeSet<_> = tables.iter().map(|table| &*table.name).collect();
            assert!(told.contains("nat") && told.contains("filter"), "{told:?}");
            let listed = host.nft_chains(family, "nat").unwrap();
            assert_eq!(listed.iter().map(|chain| &*chain.name).collect::<BTreeSet<_>>(), names(&nat));
            let services = listed.iter().find(|chain| chain.name == "KUBE-SERVICES").unwrap();
            let rules = nat.get(nat.find("KUBE-SERVICES").unwrap()).unwrap().rules().len();
            let jumps = count(&nat, |action| *action == Action::Jump(nat.find("KUBE-SERVICES").unwrap()));
            assert_eq!(services.uses as usize, rules + jumps);
        }
    });
}

#[test]
fn what_no_node_has_is_read_too() {
    alone("what_no_node_has_is_read_too", || {
        // `iptables-nft-save` prints chains that are not there.
        restore("iptables-nft-restore", &ODD.replace("*nat\n", "*nat\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"));
        assert_as_saved(Family::Ip, "nat");
    });
}

#[test]
fn deciding_chains_alone() {
    alone("deciding_chains_alone", || {
        restore("iptables-nft-restore", &rules_of(NODE));
        let all = read(Family::Ip, "nat", &Wanted::ALL).contents.rules;
        let table = read(Family::Ip, "nat", &deciding()).contents;
        let few = &table.rules;
        let expected = DECIDING.iter().copied().chain(names(&all).into_iter().filter(|name| {
            let to = all.find(name).unwrap();
            let service = all.get(all.find("KUBE-SVC-NPX46M4PTMTKRN6Y").unwrap()).unwrap();
            name.starts_with("KUBE-SEP-") && service.rules().iter().any(|rule| rule.action == Action::Jump(to))
        }));
        assert_eq!(names(few), expected.collect());
        let (few, all) = (chains(few), chains(&all));
        assert!(few.iter().all(|(name, rules)| all[name] == *rules), "{few:?}");
        assert_eq!(table.bases.len(), 3);
        // Chains that are not there are not told; a table that is not there is.
        let host = Host::live().unwrap();
        let wanted = Wanted { chains: Some(&["no-such-chain"]), ..deciding() };
        assert_eq!(host.nft_table(Family::Ip, "nat", &wanted).unwrap().contents.rules.chains().count(), 0);
        for wanted in [Wanted::ALL, deciding()] {
            let absent = host.nft_table(Family::Ip, "no-such-table", &wanted).map(drop);
            assert_eq!(absent, Err(Error::Absent("no table no-such-table of nf_tables".to_owned())));
        }
    });
}

#[test]
fn kube_proxy_in_its_nftables_mode() {
    alone("kube_proxy_in_its_nftables_mode", || {
        nft(&rules_of(KUBE_PROXY));
        let follow = |from: &str, to: &str| {
            from == "service-ips" && to.ends_with("-default/kubernetes/tcp/https") || from.starts_with("__map")
        };
        let base = ["nat-prerouting", "nat-output", "services", "masquerading"];
        let wanted = Wanted { chains: Some(&base), follow: &follow, maps: &|_| true };
        let table = read(Family::Ip, "kube-proxy", &wanted).contents;
        let rules = &table.rules;
        let services = rules.find("services").unwrap();
        for base in ["nat-prerouting", "nat-output"] {
            let base = rules.get(rules.find(base).unwrap()).unwrap();
            assert!(base.rules().iter().any(|rule| rule.action == Action::Jump(services) && rule.is_unconditional));
        }
        let map = table.find_map("service-ips").unwrap();
        assert_eq!(map.elements.len(), 6);
        let key = Endpoint { address: [10, 96, 0, 1].into(), port: 443, protocol: 6 };
        let Action::Goto(service) = map.elements.iter().find(|it| it.key == Some(key)).unwrap().action else {
            panic!()
        };
        let choice = rules.get(service).unwrap().rules().last().unwrap().action;
        let Action::Vmap(choice) = choice else { panic!("{choice:?}") };
        let Action::Goto(endpoint) = table.map(choice).unwrap().elements[0].action else { panic!() };
        let last = *rules.get(endpoint).unwrap().rules().last().unwrap();
        assert_eq!(rules.target(&last).unwrap().address, std::net::IpAddr::from([192, 0, 2, 10]));
        // Only what was followed is there.
        assert_eq!(names(rules).len(), base.len() + 2);
        assert_eq!(Host::live().unwrap().nft_set_size(Family::Ip, "kube-proxy", "service-ips"), Ok(6));
        assert_eq!(Host::live().unwrap().nft_set_size(Family::Ip, "kube-proxy", "cluster-ips"), Ok(4));
        // As much of it as `nft` prints.
        let all = read(Family::Ip, "kube-proxy", &Wanted::ALL).contents;
        let text = output(Command::new("nft").args(["list", "table", "ip", "kube-proxy"]));
        let lines = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!(all.rules.chains().count(), lines("\tchain "));
        assert_eq!(count(&all.rules, |action| matches!(action, Action::Dnat(_))), lines(" dnat to "));
        assert_eq!(count(&all.rules, |action| matches!(action, Action::Vmap(_))), lines(" vmap "));
        assert_eq!(count(&all.rules, |action| *action == Action::Masquerade), lines("\t\tmasquerade"));
        assert_eq!(all.bases.len(), lines(" hook "));
    });
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All that a writer ever makes is a table in which a hundred chains have as many rules each, all with one verdict.
#[test]
#[ignore = "deep: a writer and a reader that take turns as the machine lets them"]
fn a_writer_tears_nothing() {
    alone("a_writer_tears_nothing", || {
        let table = |rules: usize, last: &str| {
            let chains: String = (0..100).map(|n| format!(":many-{n} - [0:0]\n")).collect();
            let many: String = (0..100).map(|n| format!("-A many-{n} -j {last}\n").repeat(rules)).collect();
            format!("*nat\n{chains}{many}COMMIT\n")
        };
        let tables = [table(1, "ACCEPT"), table(3, "ACCEPT"), table(3, "RETURN")];
        restore("iptables-nft-restore", &tables[0]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // A look that fails ends the writer, too.
            let done = Done(&stop);
            let writer = scope.spawn(|| {
                for rules in tables.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                    restore("iptables-nft-restore", rules);
                    // Without a pause hardly any look is of one moment.
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let host = Host::live().unwrap();
            let (mut seen, mut refused, mut loose) = (BTreeMap::new(), 0, 0);
            let begun = Instant::now();
            let is_whole = |rules: &Ruleset| {
                let kinds: BTreeSet<String> = rules
                    .chains()
                    .filter(|(_, chain)| chain.name().starts_with("many-"))
                    .map(|(_, chain)| format!("{:?}", chain.rules().iter().map(|it| it.action).collect::<Vec<_>>()))
                    .collect();
                (kinds.len() == 1).then(|| kinds.into_iter().next().unwrap())
            };
            while (seen.values().sum::<usize>() < 300 || seen.len() < 3 || refused + loose == 0)
                && begun.elapsed() < Duration::from_secs(60)
                && !writer.is_finished()
            {
                match host.nft_table(Family::Ip, "nat", &Wanted::ALL) {
                    Ok(table) => {
                        let kind = is_whole(&table.contents.rules).expect("all chains are of one transaction");
                        *seen.entry(kind).or_insert(0) += 1;
                    }
                    Err(error) => {
                        assert!(error.to_string().contains("changes too often to read nat"), "{error}");
                        refused += 1;
                    }
                }
                // Two looks in a row are of two moments: what is refused inside of one.
                let one = |chain: &'static str| {
                    let wanted = Wanted { chains: Some(&[chain]), follow: &|_, _| false, maps: &|_| false };
                    host.nft_table(Family::Ip, "nat", &wanted).ok().and_then(|table| is_whole(&table.contents.rules))
                };
                loose += usize::from(one("many-0") != one("many-99"));
            }
            drop(done);
            println!("{seen:?}, {refused} refused, {loose} loose pairs");
            assert_eq!(seen.len(), 3, "{seen:?}");
            assert!(refused + loose > 0, "nothing was ever changed beside a look");
        });
    });
}

/// What `without_the_right` asks, in a process that has lost it.
#[test]
#[ignore = "started by another test"]
fn asks() {
    if std::env::var_os("NODECHECK_ASKS").is_some() {
        let host = Host::live().unwrap();
        let told = |error: Option<Error>| error.map_or("fine".to_owned(), |error| error.to_string());
        println!("\ngeneration: {}", told(host.nft_generation().err()));
        println!("table: {}", told(host.nft_table(Family::Ip, "nat", &deciding()).err()));
        println!("ipsets: {}", told(host.ipsets().err()));
    }
}

#[test]
fn without_the_right() {
    alone("without_the_right", || {
        restore("iptables-nft-restore", &rules_of(NODE));
        let ask = |options: &[&str]| {
            let mut command = Command::new("setpriv");
            command.args(options).arg(std::env::current_exe().unwrap());
            command.args(["asks", "--exact", "--ignored", "--nocapture"]).env("NODECHECK_ASKS", "1");
            let out = output(&mut command);
            ["generation: ", "table: ", "ipsets: "]
                .map(|name| out.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned())
        };
        assert_eq!(ask(&["--bounding-set=-all,+net_admin", "--inh-caps=-all"]), ["fine"; 3]);
        let denied =
            ["nf_tables", "nf_tables", "ipset"].map(|what| format!("{what}: permission denied; needs CAP_NET_ADMIN"));
        assert_eq!(ask(&["--bounding-set=-net_admin", "--inh-caps=-all"]), denied);
        assert_eq!(ask(&["--reuid=65534", "--regid=65534", "--clear-groups"]), denied);
    });
}

#[test]
fn ipsets_and_the_number_of_the_ruleset() {
    alone("ipsets_and_the_number_of_the_ruleset", || {
        let host = Host::live().unwrap();
        assert_eq!((host.ipsets(), host.nft_tables(Family::Ip)), (Ok(Vec::new()), Ok(Vec::new())));
        let first = host.nft_generation().unwrap();
        assert_eq!(host.nft_generation(), Ok(first));
        // Looking made nothing.
        assert_eq!(output(Command::new("nft").args(["list", "ruleset"])), "");
        nft("add table ip six");
        assert_ne!(host.nft_generation(), Ok(first));
        for arguments in [
            "create pools hash:net",
            "add pools 10.0.0.0/8",
            "add pools 192.0.2.0/24",
            "create p6 hash:ip family inet6",
        ] {
            output(Command::new("ipset").args(arguments.split(' ')));
        }
        let sets = host.ipsets().unwrap();
        let told: Vec<_> = sets.iter().map(|set| (&*set.name, &*set.kind, set.family, set.members)).collect();
        assert_eq!(told, [("pools", "hash:net", 2, Some(2)), ("p6", "hash:ip", 10, Some(0))]);
        let empty = host.nft_table(Family::Ip, "six", &Wanted::ALL).unwrap();
        assert_eq!(empty.contents.rules.chains().count(), 0);
    });
}

#[test]
fn a_recording_tells_the_same() {
    alone("a_recording_tells_the_same", || {
        restore("iptables-nft-restore", &rules_of(NODE));
        nft(&rules_of(KUBE_PROXY));
        output(Command::new("ipset").args(["create", "pools", "hash:net"]));
        let told = |host: &Host| {
            let table = |name: &str, wanted: &Wanted<'_>| {
                let table = host.nft_table(Family::Ip, name, wanted).unwrap();
                let mut maps = table.contents.maps().to_vec();
                maps.sort_by(|one, other| one.name().cmp(other.name()));
                let sizes: Vec<_> = maps.iter().map(|map| (map.name().to_owned(), map.elements.len())).collect();
                (names(&table.contents.rules).len(), count(&table.contents.rules, |_| true), sizes, table.generation)
            };
            let few = (table("nat", &deciding()), host.ipsets(), host.nft_tables(Family::Ip));
            let none = host.nft_table(Family::Ip, "nat", &Wanted { chains: Some(&["none"]), ..deciding() }).map(drop);
            (few, none, table("nat", &Wanted::ALL), table("kube-proxy", &Wanted::ALL), table("nat", &deciding()))
        };
        let host = Host::live().unwrap().recording();
        let live = told(&host);
        let dir = tempfile::tempdir().unwrap();
        host.recorded().unwrap().write(&dir.path().join("all"), host.now().wall).unwrap();
        let scenario = Host::scenario(&dir.path().join("all")).unwrap();
        assert_eq!(told(&scenario), live);
        assert_eq!(
            chains(&scenario.nft_table(Family::Ip, "nat", &Wanted::ALL).unwrap().contents.rules).len(),
            live.2.0
        );
        assert!(scenario.nft_tables(Family::Ip6).unwrap_err().is_absent());
        // Deciding chains alone.
        let host = Host::live().unwrap().recording();
        let few = host.nft_table(Family::Ip, "nat", &deciding()).unwrap();
        host.recorded().unwrap().write(&dir.path().join("few"), host.now().wall).unwrap();
        let again = Host::scenario(&dir.path().join("few")).unwrap().nft_table(Family::Ip, "nat", &deciding()).unwrap();
        assert_eq!(chains(&again.contents.rules), chains(&few.contents.rules));
        // A tree has no kernel.
        assert!(Host::at_root(dir.path()).unwrap().nft_generation().unwrap_err().is_absent());
    });
}

/// What this process has in memory at most, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_hundred_thousand_chains() {
    alone("a_hundred_thousand_chains", || {
        let mut script = "add table ip many\n".to_owned();
        for n in 0..100_000 {
            script += &format!("add chain ip many c{n}\n");
        }
        for n in (0..99_999).step_by(10) {
            script += &format!("add rule ip many c{n} jump c{}\n", n + 1);
        }
        nft(&script);
        drop(script);
        let (before, begun) = (peak(), Instant::now());
        let table = read(Family::Ip, "many", &Wanted::ALL);
        let (took, more) = (begun.elapsed(), peak() - before);
        println!("{took:?}, {more} KiB");
        assert_eq!((table.contents.rules.chains().count(), count(&table.contents.rules, |_| true)), (100_000, 10_000));
        assert!(took < Duration::from_secs(9), "{took:?}");
        assert!(more < 64 << 10, "{more} KiB");
        // Names of chains cost nothing where few are wanted.
        let begun = Instant::now();
        let wanted = Wanted { chains: Some(&["c0", "c7"]), follow: &|_, _| true, maps: &|_| true };
        assert_eq!(names(&read(Family::Ip, "many", &wanted).contents.rules), BTreeSet::from(["c0", "c1", "c7"]));
        assert!(begun.elapsed() < took / 4);
    });
}
