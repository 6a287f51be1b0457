//! The virtual servers of IPVS in `/proc/net/ip_vs` (`net/netfilter/ipvs/ip_vs_ctl.c`, `ip_vs_info_seq_show`).
//!
//! Three lines of headings, then a line a service, `TCP  0A600001:01BB rr`, and below it a line a destination,
//! `  -> C000020A:192B      Masq    1      0          0`: address and port in hexadecimal, or `[address]:port` for IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ruleset::Endpoint;

/// A virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Its address, port and protocol.
    pub at: Endpoint,
    /// How many destinations it has.
    pub destinations: usize,
    /// How many of them get new connections: their weight is not 0.
    pub usable: usize,
}

/// The services, in order. Those by firewall mark are none of kube-proxy's, and are left out, as is what is not as the
/// kernel prints it.
pub fn services(text: &[u8]) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    // Whether the destinations that follow are of the last service.
    let mut is_known = false;
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if first != "->" {
            let at = words.next().zip(protocol(first)).and_then(|(at, protocol)| endpoint(at, protocol));
            is_known = at.is_some();
            services.extend(at.map(|at| Service { at, destinations: 0, usable: 0 }));
            continue;
        }
        let weight = words.next().and_then(|at| endpoint(at, 0)).and_then(|_| words.nth(1)?.parse::<i64>().ok());
        if let (Some(weight), true, Some(service)) = (weight, is_known, services.last_mut()) {
            service.destinations = service.destinations.saturating_add(1);
            service.usable = service.usable.saturating_add(usize::from(weight > 0));
        }
    }
    services
}

fn protocol(word: &str) -> Option<u8> {
    match word {
        "TCP" => Some(6),
        "UDP" => Some(17),
        "SCTP" => Some(132),
        _ => None,
    }
}

fn endpoint(text: &str, protocol: u8) -> Option<Endpoint> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => IpAddr::V6(address.parse::<Ipv6Addr>().ok()?),
        None => IpAddr::V4(Ipv4Addr::from_bits(u32::from_str_radix(address, 16).ok()?)),
    };
    Some(Endpoint { address, port, protocol })
}

/// What must hold for any bytes: no panic, and no more destinations than lines.
pub fn fuzz(data: &[u8]) {
    let lines = String::from_utf8_lossy(data).lines().count();
    let services = services(data);
    let told = services.iter().map(|service| service.destinations.saturating_add(1));
    assert!(told.sum::<usize>() <= lines);
    assert!(services.iter().all(|service| service.usable <= service.destinations));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = b"IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr
  -> C000020A:192B      Masq    1      3          0
  -> C000020B:192B      Masq    0      0          2
FWM  00000001 wlc
  -> C000020C:192B      Masq    1      0          0
UDP  [fd00:0096:0000:0000:0000:0000:0000:000a]:0035 rr
  -> [fd00:0010:0000:0000:0000:0000:0000:0002]:0035      Masq    1      0          0
TCP  0A60000B:0050 rr persistent 10800
";

    #[test]
    fn services_and_their_destinations() {
        let told = services(SAMPLE);
        let at = |address: &str, port, protocol| Endpoint { address: address.parse().unwrap(), port, protocol };
        let want = [
            Service { at: at("10.96.0.1", 443, 6), destinations: 2, usable: 1 },
            Service { at: at("fd00:96::a", 53, 17), destinations: 1, usable: 1 },
            Service { at: at("10.96.0.11", 80, 6), destinations: 0, usable: 0 },
        ];
        assert_eq!(told, want);
        assert_eq!(services(b"  -> C000020A:192B Masq 1 0 0\n"), []);
    }

    #[test]
    fn every_prefix() {
        for end in 0..=SAMPLE.len() {
            fuzz(&SAMPLE[..end]);
        }
    }
}
