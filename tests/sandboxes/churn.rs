//! Pods that get one sandbox after the other.

use super::node::{MINUTE, Node};
use super::support::bolt::{MetaDb, Pod};
use super::{Case, case};

/// Pods with the highest of their attempts; the one before is there, too, as the kubelet keeps it.
type Pods<'a> = &'a [(&'a str, u32)];

/// A look so many minutes before the one that is judged, in a boot that is 30 days old.
fn look(minutes: u64, pods: Pods<'_>) -> Node {
    with_all(Node::new().ago(minutes), pods)
}

/// The same after a reboot 20 minutes ago.
fn rebooted(minutes: u64, pods: Pods<'_>) -> Node {
    with_all(Node::new().boot('2', 20 * MINUTE).ago(minutes), pods)
}

fn with_all(node: Node, pods: Pods<'_>) -> Node {
    pods.iter().fold(node, |node, (name, attempt)| with(node, name, *attempt))
}

fn with(node: Node, name: &str, attempt: u32) -> Node {
    let before = attempt.checked_sub(1);
    let pods = before.into_iter().chain([attempt]).map(|attempt| Pod::new(name).attempt(attempt));
    pods.fold(node, |node, pod| node.change(|db| db.pod(&pod)))
}

/// Looks in a row, the last of them the one that is judged.
fn looks(all: impl IntoIterator<Item = Node>) -> Node {
    all.into_iter().reduce(|before, look| look.after(before)).unwrap()
}

/// A climb of that many attempts in four looks.
fn climb(by: u32) -> Node {
    let at = |part: u32| [("default/web-0", 7 + by * part / 3), ("db/postgres-0", 2)];
    looks([look(45, &at(0)), look(30, &at(1)), look(15, &at(2)), look(0, &at(3))])
}

pub fn cases() -> Vec<Case> {
    let none = "no pod got sandbox after sandbox in ";
    let many: Vec<String> = (0..40).map(|number| format!("shop/cart-{number}")).collect();
    let forty = |attempt: u32| many.iter().map(|name| (name.as_str(), attempt)).collect::<Vec<_>>();
    let ignoring = |node: Node| node.settings("[check.sandbox-churn.params]\nignore = [\"ci/*\"]\n");
    let damaged = |node: Node| node.database("/var/lib/k0s/containerd", MetaDb::new()).bytes([0; 4096]);
    vec![
        case(
            "first-look",
            look(0, &[("default/web-0", 41), ("db/postgres-0", 2)]),
            0,
            "worst_pod=0 attempts=0 pods=0",
            "2 pods in the first look",
            &[],
        ),
        case("quiet", climb(0), 0, "worst_pod=0 attempts=0", none, &["looks cover 45 min of 60 min"]).only_here(),
        case("three-are-few", climb(3), 0, "worst_pod=3 attempts=3 pods=1", "default/web-0 got 3 new sandboxes", &[])
            .only_here(),
        case(
            "climbs",
            climb(6),
            1,
            "worst_pod=6 attempts=6 pods=1",
            "default/web-0 got 6 new sandboxes in 60 min",
            &["attempt 13 now"],
        ),
        case(
            "climbs-fast",
            climb(30),
            2,
            "worst_pod=30 attempts=30",
            "default/web-0 got 30 new sandboxes in 60 min",
            &[],
        ),
        // Each pod gets one more by the boot itself.
        case(
            "rebooted",
            looks([
                look(60, &[("default/web-0", 7), ("db/postgres-0", 2)]),
                rebooted(15, &[("default/web-0", 7), ("db/postgres-0", 2)]),
                rebooted(0, &[("default/web-0", 8), ("db/postgres-0", 3)]),
            ]),
            0,
            "worst_pod=0 attempts=0",
            none,
            &[],
        ),
        case(
            "rebooted-and-climbs",
            looks([
                look(60, &[("default/web-0", 7)]),
                rebooted(15, &[("default/web-0", 8)]),
                rebooted(0, &[("default/web-0", 13)]),
            ]),
            1,
            "worst_pod=5 attempts=5",
            "default/web-0 got 5 new sandboxes",
            &[],
        ),
        // Nobody looked before the reboot: one of them is its.
        case(
            "rebooted-and-looked-at-first-then",
            looks([rebooted(15, &[("default/web-0", 7)]), rebooted(0, &[("default/web-0", 8)])]),
            0,
            "worst_pod=0",
            none,
            &[],
        )
        .only_here(),
        // crictl rmp: the number is given once more.
        case(
            "highest-removed-and-made-again",
            looks([
                look(30, &[("default/web-0", 7)]),
                look(15, &[("default/web-0", 6)]),
                look(0, &[("default/web-0", 7)]),
            ]),
            0,
            "worst_pod=1 attempts=1",
            "default/web-0 got 1 new sandbox",
            &[],
        )
        .only_here(),
        case(
            "new-pods",
            looks([look(15, &[]), look(0, &[("default/web-0", 0), ("db/postgres-0", 5)])]),
            1,
            "worst_pod=5 attempts=5 pods=1",
            "db/postgres-0 got 5 new sandboxes",
            &[],
        ),
        case(
            "forty-pods-one-each",
            looks([look(15, &forty(2)), look(0, &forty(3))]),
            1,
            "worst_pod=1 attempts=40 pods=40",
            "40 new sandboxes in 40 pods in 60 min",
            &["and 20 more pods"],
        ),
        case(
            "looks-three-hours-apart",
            looks([look(180, &[("default/web-0", 7)]), look(0, &[("default/web-0", 12)])]),
            1,
            "worst_pod=5",
            "default/web-0 got 5 new sandboxes",
            &["looks were far apart: some of it may be older than 60 min"],
        ),
        case(
            "ignored",
            ignoring(looks([
                look(15, &[("ci/runner-4", 7), ("db/postgres-0", 2)]),
                look(0, &[("ci/runner-4", 27), ("db/postgres-0", 2)]),
            ])),
            0,
            "worst_pod=0 ignored=20",
            none,
            &["20 new sandboxes of pods that are ignored"],
        )
        .only_here(),
        // Ignored it stays.
        case(
            "ignored-and-deleted",
            ignoring(looks([look(20, &[("ci/runner-4", 7)]), look(10, &[("ci/runner-4", 27)]), look(0, &[])])),
            0,
            "worst_pod=0 ignored=20",
            none,
            &[],
        ),
        case(
            "deleted",
            looks([look(20, &[("default/web-0", 7)]), look(10, &[("default/web-0", 27)]), look(0, &[])]),
            2,
            "worst_pod=20 pods=1",
            "default/web-0 (gone) got 20 new sandboxes",
            &[],
        ),
        // Counted once, however often the other one can't be read.
        case(
            "a-second-database-is-damaged",
            looks([
                look(20, &[("default/web-0", 7)]),
                damaged(look(15, &[("default/web-0", 9)])),
                damaged(look(10, &[("default/web-0", 9)])),
                damaged(look(5, &[("default/web-0", 9)])),
                damaged(look(0, &[("default/web-0", 9)])),
            ]),
            3,
            "worst_pod=2 attempts=2",
            "k0s",
            &["default/web-0: 2 new sandboxes"],
        ),
    ]
}
