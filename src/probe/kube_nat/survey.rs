//! Reading what kube-proxy has programmed, as seldom as that will do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::dataplane::kube::{Mode, Set, has_chains_of_ipvs};
use crate::dataplane::{SIDES, Side, Stamp, Table, unless_denied};
use crate::host::{Error, Host, Moment, Wanted as NftWanted, optional};
use crate::parse::ipvs;
use crate::parse::ruleset::Family;

/// What was read is believed for so long if nothing seems to have changed, and longer if it takes long to read: as many rules of
/// the same size may have come for others.
const BELIEVED: Duration = Duration::from_secs(60);
const BELIEVED_AT_MOST: Duration = Duration::from_secs(600);
const OF_ITS_TIME: u32 = 1000;
/// Reading takes at most one part in so many of the time; but what is whole is read again after this.
const SHARE: u32 = 100;
const LONGEST_REST: Duration = Duration::from_secs(60);
/// What is read in less is read whenever something has changed.
const QUICK: Duration = Duration::from_millis(20);
/// 100,000 services with a destination each.
const LARGEST_IP_VS: u64 = 32 << 20;
const TABLES: &[&str] = &["nat", "filter", "mangle"];

/// What is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// What carries services, for each family and in each mode.
    pub sets: Vec<(Family, Mode, Set)>,
    /// Where kube-proxy's canary lives in `mangle`: it looks at no other table.
    pub canaries: Vec<Side>,
    /// Where the kubelet has left its hints.
    pub hints: Vec<Side>,
    /// What could not be read, by family.
    pub troubles: Vec<(Family, Error)>,
    /// How long it took.
    pub took: Option<Duration>,
}

/// The newest survey, and what it was of.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Option<Newest>>);

#[derive(Debug, Clone)]
struct Newest {
    survey: Arc<Survey>,
    stamp: Stamp,
    at: Moment,
    is_whole: bool,
    /// Whether it was read twice: only then a fault that it shows is believed.
    is_sure: bool,
}

impl Kept {
    /// The survey of this moment, or one that still holds, with its age.
    pub fn survey(&self, host: &Host) -> Result<(Arc<Survey>, Duration), Error> {
        let stamp = Stamp::now(host, TABLES)?;
        let now = host.now();
        let newest = self.newest().clone();
        if let Some(newest) = newest.as_ref().filter(|newest| newest.holds(&stamp, &now)) {
            return Ok((newest.survey.clone(), now.since(&newest.at)));
        }
        let is_sure = newest.as_ref().is_some_and(|newest| newest.stamp == stamp);
        let survey = Arc::new(Survey::read(host)?);
        // Rules that change all the time were whole a moment ago.
        let recent = newest.as_ref().filter(|newest| newest.is_whole && now.since(&newest.at) < LONGEST_REST);
        if let (false, Some(newest)) = (survey.troubles.is_empty(), recent) {
            return Ok((newest.survey.clone(), now.since(&newest.at)));
        }
        // Only a node that goes on living is looked at again; and what came and went while it was read is in no stamp.
        if host.is_live() && survey.troubles.is_empty() && Stamp::now(host, TABLES)? == stamp {
            *self.newest() = Some(Newest { survey: survey.clone(), stamp, at: now, is_whole: false, is_sure });
        }
        Ok((survey, Duration::ZERO))
    }

    /// Says whether nothing is wrong with what was read.
    pub fn judged(&self, is_whole: bool) {
        if let Some(newest) = &mut *self.newest() {
            newest.is_whole = is_whole;
        }
    }

    fn newest(&self) -> std::sync::MutexGuard<'_, Option<Newest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newest {
    fn holds(&self, stamp: &Stamp, now: &Moment) -> bool {
        // Virtual servers of IPVS are in no stamp.
        let has_more = self.survey.sets.iter().any(|(_, mode, _)| matches!(mode, Mode::Ipvs(_)));
        let age = now.since(&self.at);
        if has_more || !(self.is_whole || self.is_sure) || !self.at.same_boot(now) {
            return false;
        }
        let took = self.survey.took.unwrap_or_default();
        if age >= (took * OF_ITS_TIME).clamp(BELIEVED, BELIEVED_AT_MOST) {
            return false;
        }
        let may_rest = self.is_whole && took > QUICK && age < (took * SHARE).min(LONGEST_REST);
        *stamp == self.stamp || (may_rest && !stamp.lost_much_since(&self.stamp))
    }
}

impl Survey {
    fn read(host: &Host) -> Result<Survey, Error> {
        let began = host.stopwatch();
        let mut survey = Survey::default();
        for side in SIDES {
            let read = survey.side(host, side);
            unless_denied(&mut survey.troubles, side.family, read)?;
        }
        for family in [Family::Ip, Family::Ip6] {
            let read = optional(host.nft_table(family, "kube-proxy", &NftWanted::ALL));
            let table = unless_denied(&mut survey.troubles, family, read)?.flatten();
            let set = table.map(|table| Set { is_dormant: table.is_dormant, ..Set::of_nftables(&table.contents) });
            survey.sets.extend(set.map(|set| (family, Mode::Nftables, set)));
        }
        survey.took = began.zip(host.stopwatch()).map(|(began, ended)| ended.saturating_sub(began));
        Ok(survey)
    }

    fn side(&mut self, host: &Host, side: Side) -> Result<(), Error> {
        const PROXY: &str = "KUBE-PROXY-CANARY";
        const KUBELET: &[&str] = &["KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"];
        let chains = [&[PROXY], KUBELET].concat();
        let mangle = side.table(host, "mangle", &only(&chains))?;
        if let Some(mangle) = &mangle {
            let has = |name: &str| mangle.rules().find(name).is_some();
            self.canaries.extend(has(PROXY).then_some(side));
            self.hints.extend(KUBELET.iter().any(|name| has(name)).then_some(side));
        }
        let Some(nat) = side.table(host, "nat", &NftWanted::ALL)? else { return Ok(()) };
        if has_chains_of_ipvs(nat.rules()) {
            let servers = optional(host.read("/proc/net/ip_vs", LARGEST_IP_VS))?.unwrap_or_default();
            let servers = ipvs::services(&servers);
            // With neither, an empty chain of it is only left over.
            if servers.is_empty() && !host.exists("/sys/class/net/kube-ipvs0")? {
                return self.iptables(host, side, &nat);
            }
            let set = Set::of_ipvs(nat.rules(), side.family, &servers);
            let set = Set { is_dormant: nat.is_dormant(), ..set };
            self.sets.push((side.family, Mode::Ipvs(side.backend), set));
            return Ok(());
        }
        self.iptables(host, side, &nat)
    }

    fn iptables(&mut self, host: &Host, side: Side, nat: &Table) -> Result<(), Error> {
        let filter = side.table(host, "filter", &only(&["KUBE-SERVICES"]))?;
        let set = Set::of_iptables(nat.rules(), filter.as_ref().map(|filter| filter.rules()));
        let is_dormant = nat.is_dormant();
        self.sets.extend(set.map(|set| (side.family, Mode::Iptables(side.backend), Set { is_dormant, ..set })));
        Ok(())
    }
}

/// These chains and no others.
fn only<'a>(chains: &'a [&'a str]) -> NftWanted<'a> {
    NftWanted { chains: Some(chains), follow: &|_, _| false, maps: &|_| false }
}
