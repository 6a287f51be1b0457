//! What a daemon does again and again, in a process that has begun long ago: a line asks for it, and the answer is how many
//! milliseconds of CPU time it took.

use std::error::Error;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nodecheck::dataplane::Stamp;
use nodecheck::history::Past;
use nodecheck::host::{Host, Wanted};
use nodecheck::parse::ruleset::Family;
use nodecheck::probe::Probe;
use nodecheck::probe::kube_nat::KubeNat;

const API: &str = "KUBE-SVC-NPX46M4PTMTKRN6Y";
/// From where the chains are found that decide whether packets to services and from pods get to where they should.
const DECIDING: Wanted<'static> = Wanted {
    chains: Some(&["PREROUTING", "OUTPUT", "POSTROUTING", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", API]),
    follow: &|from, to| from == API || to.starts_with("cali-"),
    maps: &|_| false,
};
/// Of what kube-nat looks at.
const TABLES: &[&str] = &["nat", "filter", "mangle"];

/// Answers until nobody asks any more.
pub fn answer(work: &str) -> Result<(), Box<dyn Error>> {
    let (host, past) = (Host::live()?, Past::default());
    let probe = KubeNat::default();
    let work: Box<dyn Fn() -> Result<(), Box<dyn Error>>> = match work {
        "everything" => Box::new(|| Ok(KubeNat::default().observe(&host.again(), &past).map(drop)?)),
        "unchanged" => Box::new(|| Ok(probe.observe(&host.again(), &past).map(drop)?)),
        "stamp" => Box::new(|| Ok(Stamp::now(&host.again(), TABLES).map(drop)?)),
        "deciding" => Box::new(|| Ok(host.again().nft_table(Family::Ip, "nat", &DECIDING).map(drop)?)),
        other => return Err(format!("nothing is called {other}").into()),
    };
    for line in std::io::stdin().lines() {
        line?;
        let begun = cpu_time()?;
        work()?;
        println!("{:.4}", (cpu_time()? - begun).as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Of this process, user and system.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}
