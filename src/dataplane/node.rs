//! What else on a node tells whether there should be rules, and how they come back.

use crate::host::{Error, Host, SMALL, optional};
use crate::layout::DISTRIBUTIONS;
use crate::parse::process;

/// Programs that are a kubelet, by the name of their process. That of k0s and RKE2 is a process of its own.
const KUBELETS: &[&str] = &["kubelet", "kubelite", "k3s-server", "k3s-agent"];
/// What k3s has no kubelet with.
const WITHOUT_KUBELET: &str = "--disable-agent";
const MOST_PROCESSES: usize = 1 << 20;
const MOST_FILES: usize = 1000;
const LARGEST_CONF: u64 = 1 << 20;

/// Network devices of what carries services without kube-proxy.
const REPLACEMENTS: &[(&str, &str)] = &[
    ("cilium_host", "Cilium"),
    ("bpfin.cali", "Calico's eBPF dataplane"),
    ("bpfnatin", "Calico's eBPF dataplane"),
    ("kube-dummy-if", "kube-router"),
    ("ovn-k8s-mp0", "OVN-Kubernetes"),
    ("antrea-gw0", "Antrea"),
];

/// Where CNI plugins are configured.
const CNI: &[&str] = &[
    "/etc/cni/net.d",
    "/var/snap/microk8s/current/args/cni-network",
    "/var/lib/rancher/k3s/agent/etc/cni/net.d",
    "/var/lib/rancher/rke2/agent/etc/cni/net.d",
];

/// A kubelet that runs in our network namespace, with its process; `None` where there is none.
pub fn kubelet(host: &Host) -> Result<Option<String>, Error> {
    let proc = host.dir("/proc")?;
    let ours = host.read_link("/proc/self/ns/net").ok();
    for pid in proc.dirs(MOST_PROCESSES)? {
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Some(stat) = optional(proc.read(&format!("{pid}/stat"), SMALL))?.and_then(|stat| process::stat(&stat))
        else {
            continue;
        };
        if stat.has_ended() || !KUBELETS.contains(&stat.comm.as_str()) {
            continue;
        }
        // Anybody can call himself so; and that of a node in a container has its own network.
        let is_roots = || proc.read(&format!("{pid}/status"), SMALL).is_ok_and(|status| process::is_of_root(&status));
        let is_elsewhere = || {
            host.read_link(&format!("/proc/{pid}/ns/net"))
                .is_ok_and(|its| ours.as_ref().is_some_and(|ours| *ours != its))
        };
        let is_without = || {
            let cmdline = proc.read(&format!("{pid}/cmdline"), SMALL).unwrap_or_default();
            process::arguments(&cmdline).iter().any(|argument| argument.starts_with(WITHOUT_KUBELET))
        };
        if is_roots() && !is_elsewhere() && !is_without() {
            return Ok(Some(format!("{} (process {pid})", stat.comm)));
        }
    }
    Ok(None)
}

/// What carries services here without kube-proxy, by the network device that it makes.
pub fn replacement(host: &Host) -> Result<Option<&'static str>, Error> {
    for (device, name) in REPLACEMENTS {
        if host.exists(&format!("/sys/class/net/{device}"))? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether Calico's eBPF dataplane carries services.
pub fn is_calico_bpf(host: &Host) -> Result<bool, Error> {
    Ok(replacement(host)?.is_some_and(|name| name.starts_with("Calico")))
}

/// The file that makes Calico the network of this node's pods.
pub fn calico_conf(host: &Host) -> Result<Option<String>, Error> {
    for dir in CNI {
        let Some(mut files) = optional(host.list(dir, MOST_FILES))? else { continue };
        files.sort();
        for file in files.iter().filter_map(|file| file.to_str()) {
            let path = format!("{dir}/{file}");
            let is_conf = [".conf", ".conflist", ".json"].iter().any(|end| file.ends_with(end));
            if is_conf && optional(host.read(&path, LARGEST_CONF))?.is_some_and(|conf| is_of_calico(&conf)) {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// Whether a configuration of CNI has the plugin of Calico.
fn is_of_calico(conf: &[u8]) -> bool {
    let Ok(conf) = serde_json::from_slice::<serde_json::Value>(conf) else { return false };
    let is = |plugin: &serde_json::Value| plugin.get("type").and_then(|kind| kind.as_str()) == Some("calico");
    is(&conf) || conf.get("plugins").and_then(|plugins| plugins.as_array()).is_some_and(|all| all.iter().any(is))
}

/// The distribution that is installed, if it is one with services of its own.
pub fn distribution(host: &Host) -> Option<&'static str> {
    // What everybody may have comes last.
    let own = DISTRIBUTIONS.iter().filter(|one| !["kubeadm", "Docker"].contains(&one.name));
    let mut own = own.filter(|one| host.exists(one.containerd_root).unwrap_or(false));
    own.next().map(|one| one.name)
}

/// How kube-proxy is made to write all of its rules again.
pub fn restart_kube_proxy(distribution: Option<&str>) -> &'static str {
    match distribution {
        Some("microk8s") => "snap restart microk8s.daemon-kubelite",
        Some("k3s") => "systemctl restart k3s (k3s-agent on an agent)",
        Some("RKE2") => {
            concat!(
                "c='/var/lib/rancher/rke2/bin/crictl -c /var/lib/rancher/rke2/agent/etc/crictl.yaml'; ",
                "$c stop $($c ps -q --name '^kube-proxy$')"
            )
        }
        Some("k0s") => {
            "k0s kubectl -n kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName=$(hostname)"
        }
        _ => "kubectl -n kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName=$(hostname)",
    }
}

/// How `kubectl` is called.
pub fn kubectl(distribution: Option<&str>) -> &'static str {
    match distribution {
        Some("microk8s") => "microk8s kubectl",
        Some("k3s") => "k3s kubectl",
        Some("RKE2") => "/var/lib/rancher/rke2/bin/kubectl --kubeconfig /etc/rancher/rke2/rke2.yaml",
        Some("k0s") => "k0s kubectl",
        _ => "kubectl",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_cni() {
        for (conf, want) in [
            (r#"{"name":"k8s-pod-network","plugins":[{"type":"calico","mtu":0},{"type":"portmap"}]}"#, true),
            (r#"{"name":"old","type":"calico"}"#, true),
            (r#"{"plugins":[{"type":"flannel"}]}"#, false),
            (r#"{"plugins":{"type":"calico"}}"#, false),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(is_of_calico(conf.as_bytes()), want, "{conf}");
        }
    }
}
