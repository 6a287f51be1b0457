//! Names that are held: creations that don't end, duplicates, attempts in the wrong order.

use super::healthy::{doubled, web};
use super::node::{DAY, Ended, MINUTE, Node};
use super::support::bolt::Pod;
use super::{Case, case};

fn db() -> Pod {
    Pod::new("db/postgres-0")
}

/// A node on which a pod is being made since then.
fn making(created: &str) -> Node {
    Node::new().live(&db()).dead(&web().ip("").created(created))
}

fn begun(name: &str) -> Pod {
    Pod::new(name).created("2026-11-21T03:10:00Z")
}

/// Attempt 1 was made after a reboot with a clock that was behind.
fn behind() -> Pod {
    web().attempt(1).created("2024-02-29T00:00:31Z")
}

pub fn cases() -> Vec<Case> {
    let only_begun = |node: Node, pod: &Pod| node.change(|db| db.sandbox_of_api(pod)).known(pod);
    let full_name = "it holds the name web-0_default_";
    let stuck = "1 sandbox creation is stuck: default/web-0 attempt 0 (";
    let three = ["shop/cart-0", "shop/pay-0", "shop/ship-0"].map(begun);
    let inverted = "1 pod may not get its next sandbox (attempts in the wrong order): default/web-0 attempt 0 (";
    let next = "asks for attempt 1 next, whose name is taken";
    vec![
        case("creation-of-5-minutes", making("2026-11-21T03:17:00Z"), 0, "stuck=0 stale=0", "1 live", &[]).only_here(),
        case(
            "creation-of-12-minutes",
            making("2026-11-21T03:10:00Z"),
            1,
            "stuck=1 stuck_age=720s",
            stuck,
            &[full_name],
        ),
        case(
            "creation-of-40-minutes",
            making("2026-11-21T02:42:00Z"),
            2,
            "stuck=1 stuck_age=2400s",
            "stuck for 40 min: default/web-0 attempt 0",
            &[full_name],
        ),
        case(
            "creations-three-at-once",
            three.iter().fold(Node::new().live(&db()), |node, pod| node.dead(&pod.clone().ip(""))),
            2,
            "stuck=3",
            "3 sandbox creations are stuck: shop/",
            &[],
        ),
        case(
            "creation-2-has-only-begun",
            only_begun(Node::v2().live(&db()), &begun("default/web-0")),
            1,
            "stuck=1 stuck_age=720s stale=0",
            stuck,
            &["has not started after 12 min", "it may hold the name web-0_default_"],
        ),
        // After a crash of containerd it is only a leftover: the name was given to the next one.
        case(
            "creation-2-lost-and-made-again",
            only_begun(Node::v2().live(&db()).live(&web()), &web().id("1057").created("2026-11-20T12:00:00Z").ip("")),
            0,
            "stuck=0 stuck_age=0s duplicates=0 live=2",
            "",
            &[],
        ),
        // By its clock it began long ago, and a look of two minutes ago did not see it.
        case(
            "creation-by-a-clock-that-was-behind",
            making("2024-02-29T00:00:31Z").after(Node::new().live(&db()).ago(2)),
            0,
            "stuck=0 stuck_age=0s",
            "1 live",
            &[],
        )
        .only_here(),
        case(
            "creation-lost-in-a-power-loss",
            making("2026-11-21T02:41:00Z")
                .boot('2', 40 * MINUTE)
                .live(&web().attempt(1).created("2026-11-21T02:43:00Z")),
            0,
            "stuck=0 superseded=1",
            "1 superseded",
            &[],
        )
        .only_here(),
        // The kubelet went on to the next name, and that one is done.
        case(
            "creation-lost-and-the-next-one-is-done",
            making("2026-11-21T02:41:00Z").taken(
                &web().attempt(1).created("2026-11-21T02:43:00Z"),
                "job",
                Ended::With(0),
            ),
            0,
            "stuck=0 stuck_age=0s stale=0 live=1",
            "3 sandboxes on record, 1 live",
            &[],
        ),
        // 1.6.9 to 1.6.14 never wrote the address down.
        case(
            "without-an-address-but-with-containers",
            Node::new().live(&db()).taken(&web().ip(""), "nginx", Ended::With(0)),
            0,
            "stuck=0 stale=0",
            "2 sandboxes on record, 1 live",
            &[],
        ),
        case(
            "host-network-without-containers",
            Node::new().live(&db()).dead(&Pod::new("kube-system/etcd-n1").host_network()),
            0,
            "stuck=0 stale=0",
            "2 sandboxes on record, 1 live",
            &[],
        )
        .only_here(),
        // --- two of one name
        case(
            "duplicate-one-lives",
            Node::new().live(&web()).dead(&web().id("d00b1e")),
            2,
            "duplicates=1 live=1",
            "the next start of containerd will fail: two records with one name: default/web-0 attempt 0 (",
            // That one, and not the one that lives.
            &["before containerd is restarted: ctr -n k8s.io containers rm d00b1e000", " lives", " is dead"],
        ),
        case(
            "duplicate-both-dead-and-down",
            doubled(Node::new()).down(),
            2,
            "duplicates=1",
            "start of containerd",
            &[],
        )
        .only_here(),
        case(
            "duplicate-2",
            doubled(Node::v2()),
            2,
            "duplicates=1",
            "two records with one name",
            &["to mend it before containerd is restarted"],
        ),
        case(
            "duplicate-of-containers",
            Node::new()
                .live(&web())
                .container(&web().container("nginx"), Ended::No)
                .container(&web().container("nginx").id("d00b1e"), Ended::Unknown),
            2,
            "duplicates=1",
            "the next start of containerd will fail: two records with one name: nginx of default/web-0",
            &["ctr -n k8s.io containers rm ", " is dead"],
        ),
        // --- attempts
        case(
            "inversion-the-newest-is-dead",
            Node::new().boot('2', 12 * DAY).taken(&web(), "nginx", Ended::Unknown).live(&behind()),
            2,
            "inverted=1 inverted_live=0 superseded=1",
            inverted,
            &[next, "was made after attempt 1", "crictl rmp -f "],
        ),
        case(
            "inversion-the-newest-lives",
            Node::new().live(&web()).taken(&behind(), "nginx", Ended::With(0)),
            1,
            "inverted=0 inverted_live=1",
            inverted,
            &[next],
        ),
        case(
            "inversion-both-dead",
            Node::new().boot('2', 40 * MINUTE).live(&db()).taken(&web(), "nginx", Ended::Unknown).taken(
                &behind(),
                "nginx",
                Ended::Unknown,
            ),
            2,
            // Its remedies must not contradict each other.
            "inverted=1 stale=0",
            inverted,
            &[next],
        ),
        // The next name is free, and the one after it is not.
        case(
            "inversion-with-a-gap",
            Node::new().taken(&web(), "nginx", Ended::With(0)).live(&behind().attempt(2)),
            2,
            "inverted=1",
            inverted,
            &["asks for attempt 1 next, and comes to 2, whose name is taken"],
        ),
    ]
}
