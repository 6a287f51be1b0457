//! The names that kube-proxy gives to its chains: hashes of what they are for (`pkg/proxy/iptables/proxier.go`,
//! `portProtoHash`, `servicePortEndpointChainName`; `pkg/proxy/nftables/proxier.go`).

use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE32;
use sha2::{Digest, Sha256};

/// The port of the API server's service, which every cluster has.
pub const API: &str = "default/kubernetes:https";
/// Its chain in every cluster.
pub const API_CHAIN: &str = "KUBE-SVC-NPX46M4PTMTKRN6Y";
/// The end of its chain's name in a table of nf_tables.
pub const API_NFT: &str = "-default/kubernetes/tcp/https";

/// Services that most clusters have: port and protocol.
const KNOWN: &[(&str, &str)] = &[
    (API, "tcp"),
    ("kube-system/kube-dns:dns", "udp"),
    ("kube-system/kube-dns:dns-tcp", "tcp"),
    ("kube-system/kube-dns:metrics", "tcp"),
    ("kube-system/rke2-coredns-rke2-coredns:udp-53", "udp"),
    ("kube-system/rke2-coredns-rke2-coredns:tcp-53", "tcp"),
    ("kube-system/metrics-server:https", "tcp"),
];

fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let mut name = BASE32.encode(&hasher.finalize());
    name.truncate(16);
    name
}

/// The service of a `KUBE-SVC-` chain, with its protocol, if it is one that most clusters have.
pub fn service(chain: &str) -> Option<(&'static str, &'static str)> {
    let of = chain.strip_prefix("KUBE-SVC-")?;
    KNOWN.iter().copied().find(|(port, protocol)| hash(&[port, protocol]) == of)
}

/// The chain of an endpoint of a service.
pub fn endpoint_chain(port: &str, protocol: &str, address: IpAddr, number: u16) -> String {
    format!("KUBE-SEP-{}", hash(&[port, protocol, &SocketAddr::new(address, number).to_string()]))
}

/// The address and port at the end of the name of an endpoint's chain in a table of nf_tables: `...__192.0.2.1/6443`. Those
/// of IPv6 have dots for colons. `None` where the name is cut, which it is beyond 128 characters.
pub fn endpoint_of(chain: &str) -> Option<SocketAddr> {
    let (_, end) = chain.strip_prefix("endpoint-")?.rsplit_once("__")?;
    let (address, port) = end.rsplit_once('/')?;
    let address = address.parse::<IpAddr>().or_else(|_| address.replace('.', ":").parse());
    Some(SocketAddr::new(address.ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_cluster() {
        assert_eq!(service(API_CHAIN), Some((API, "tcp")));
        for (chain, port) in [
            ("KUBE-SVC-TCOU7JCQXEZGVUNU", "kube-system/kube-dns:dns"),
            ("KUBE-SVC-ERIFXISQEP7F7OF4", "kube-system/kube-dns:dns-tcp"),
            ("KUBE-SVC-JD5MR3NA4I4DYORP", "kube-system/kube-dns:metrics"),
        ] {
            assert_eq!(service(chain).map(|(port, _)| port), Some(port));
        }
        assert_eq!(service("KUBE-SVC-AAAAAAAAAAAAAAAA"), None);
        assert_eq!(service("KUBE-SEP-NPX46M4PTMTKRN6Y"), None);
        let address = "192.168.20.100".parse().unwrap();
        assert_eq!(endpoint_chain(API, "tcp", address, 6443), "KUBE-SEP-U7HH75UFG3U5VGYY");
    }

    #[test]
    fn endpoints_of_nf_tables() {
        let chain = "endpoint-RQ57GWL3-default/kubernetes/tcp/https__192.0.2.10/6443";
        assert_eq!(endpoint_of(chain), "192.0.2.10:6443".parse().ok());
        let chain = "endpoint-RQ57GWL3-default/kubernetes/tcp/https__fd00..1/6443";
        assert_eq!(endpoint_of(chain), "[fd00::1]:6443".parse().ok());
        for other in ["endpoint-RQ57GWL3-a/b/tcp/c__192.0.2", "service-2QRHZV4L-a/b/tcp/", "endpoint-", ""] {
            assert_eq!(endpoint_of(other), None);
        }
    }
}
