//! `kube-nat` and `calico-nat` on the real kernel: rules as a node has them, broken in one way after the other, each in a
//! network namespace of its own. Needs root.
//!
//! `NODECHECK_ROWS=words` runs only the rows of the tables whose names contain these words.

#[path = "dataplane/beside.rs"]
mod beside;
#[path = "dataplane/calico.rs"]
mod calico;
#[path = "netfilter/generate.rs"]
mod generate;
#[path = "dataplane/generated.rs"]
mod generated;
#[path = "dataplane/kube.rs"]
mod kube;
#[path = "dataplane/nftables.rs"]
mod nftables;
#[path = "dataplane/node.rs"]
mod node;
#[path = "dataplane/quiet.rs"]
mod quiet;
#[path = "dataplane/row.rs"]
mod row;
#[path = "dataplane/sets.rs"]
mod sets;
mod support;

use row::run;

#[test]
fn kube_proxy_in_its_iptables_mode() {
    run(kube::rows());
}

#[test]
fn kube_proxy_and_calico_in_their_nftables_modes() {
    run(nftables::rows());
}

#[test]
fn calico_in_its_iptables_mode() {
    run(calico::rows());
}

#[test]
fn whole_sets_that_are_missing_or_twice_there() {
    run(sets::rows());
}

#[test]
fn what_is_no_fault() {
    run(quiet::rows());
}
