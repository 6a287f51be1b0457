//! What helps, for whoever has to mend it.

use super::Observation;
use super::judge::{Chosen, Cure};
use crate::dataplane::kube::Mode;
use crate::dataplane::node;
use crate::parse::ruleset::Family;

impl Observation {
    /// One sentence for each kind of fault.
    pub(super) fn cures(&self, chosen: &[Chosen<'_>]) -> Vec<String> {
        let mut cures: Vec<Cure> = self.faults.iter().map(|fault| fault.cure).collect();
        if cures.is_empty() {
            // Services lead nowhere.
            cures.push(Cure::Rewrite);
        }
        cures.dedup();
        let mut told = Vec::new();
        for cure in cures {
            let text = match cure {
                Cure::Rewrite => self.rewrite(chosen),
                Cure::Foreign => self.foreign(chosen),
                Cure::Leftover => "one of the two is left over: kube-proxy's log tells which it writes; take the other out (the \
                                   table kube-proxy: nft delete table ip kube-proxy), or reboot: a restart of kube-proxy does not"
                    .to_owned(),
                Cure::Cluster => format!(
                    "kube-proxy has written what it was told, that the API server's Service has no endpoints: look at the API \
                     servers, and at `{} get endpointslices`; where there are some, restart kube-proxy: {}",
                    node::kubectl(self.distribution),
                    node::restart_kube_proxy(self.distribution)
                ),
                Cure::Setting => "if it should be so, change `expect`".to_owned(),
            };
            if !told.contains(&text) {
                told.push(text);
            }
        }
        let is_gone = self.survey.sets.is_empty();
        match self.around.replacement {
            Some(name) if is_gone => {
                told.push(format!("{name} is on this node: if it carries the Services now, set expect = \"none\""));
            }
            None if is_gone => told.push("if this node is to have none: set expect = \"none\"".to_owned()),
            _ => {}
        }
        told
    }

    fn rewrite(&self, chosen: &[Chosen<'_>]) -> String {
        let restart = node::restart_kube_proxy(self.distribution);
        let known = || [Family::Ip, Family::Ip6].into_iter().find_map(|family| self.around.known(family));
        let mode = chosen.iter().find(|one| one.carries).map(|one| one.mode.name()).or_else(known).unwrap_or_default();
        if mode.starts_with(Mode::Nftables.name()) {
            return format!(
                "kube-proxy writes what has changed, and all of it once an hour at best; to make it now: {restart}"
            );
        }
        if mode.starts_with("ipvs") {
            return format!(
                "kube-proxy writes all of it every 30 s in this mode, so it does not run or fails: see its log, or restart it: \
                 {restart}"
            );
        }
        match self.survey.canaries.is_empty() {
            false => format!(
                "kube-proxy will not repair this by itself: it only looks at its canary in mangle, which is there; to make it: \
                 {restart}"
            ),
            true => format!(
                "kube-proxy's canary is not in mangle either: all tables were flushed, which it repairs within 35 s, or it does \
                 not run or fails: see its log, or restart it: {restart}"
            ),
        }
    }

    fn foreign(&self, chosen: &[Chosen<'_>]) -> String {
        let place = chosen.iter().find(|one| one.carries).map(|one| (one.mode, one.mode.place(one.family)));
        let list = match place {
            Some((Mode::Nftables, place)) => format!("nft list {place}"),
            Some((_, place)) => format!("{place} -t nat -L -n --line-numbers"),
            None => "iptables -t nat -L -n --line-numbers".to_owned(),
        };
        format!(
            "that rule is not kube-proxy's and stays when that is restarted: find it with `{list}`, and who adds it"
        )
    }
}
