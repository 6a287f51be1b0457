//! Where the Kubernetes distributions keep things.
//!
//! An administrator can move all of it; these are the places where it is found as it was installed.

/// A distribution, and where its containerd lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distribution {
    /// Its name, as people write it.
    pub name: &'static str,
    /// containerd's `root`: what outlives a reboot, meta.db among it.
    pub containerd_root: &'static str,
    /// containerd's `state`: what runs now. Below it, one directory a container ([`TASKS`]).
    pub containerd_state: &'static str,
}

/// Every distribution that is known.
pub static DISTRIBUTIONS: &[Distribution] = &[
    // What containerd does by itself; nearly all clouds' nodes too.
    Distribution { name: "kubeadm", containerd_root: "/var/lib/containerd", containerd_state: "/run/containerd" },
    // A snap: its "run" lies on disk and outlives a reboot.
    Distribution {
        name: "microk8s",
        containerd_root: "/var/snap/microk8s/common/var/lib/containerd",
        containerd_state: "/var/snap/microk8s/common/run/containerd",
    },
    Distribution {
        name: "k3s",
        containerd_root: "/var/lib/rancher/k3s/agent/containerd",
        containerd_state: "/run/k3s/containerd",
    },
    // The code of k3s with another data directory; the state directory is the same.
    Distribution {
        name: "RKE2",
        containerd_root: "/var/lib/rancher/rke2/agent/containerd",
        containerd_state: "/run/k3s/containerd",
    },
    Distribution { name: "k0s", containerd_root: "/var/lib/k0s/containerd", containerd_state: "/run/k0s/containerd" },
    // The one that dockerd starts by itself; with cri-dockerd its records are Docker's.
    Distribution {
        name: "Docker",
        containerd_root: "/var/lib/docker/containerd/daemon",
        containerd_state: "/run/docker/containerd/daemon",
    },
];

/// Below containerd's state directory: one directory a container, named by its id, with its OCI `config.json`.
pub const TASKS: &str = "io.containerd.runtime.v2.task/k8s.io";

/// CRI-O: one directory a container, with `userdata/config.json`.
pub const CRIO_CONTAINERS: &str = "/run/containers/storage/overlay-containers";

/// The kubelet's, everywhere: `<namespace>_<pod>_<uid>/<container>/<restart>.log`. Survives the containers.
pub const POD_LOGS: &str = "/var/log/pods";

/// The directories of the kubelets: `pods/<uid>` in them is there for as long as the kubelet knows the pod.
pub const KUBELET_ROOTS: &[&str] =
    &["/var/lib/kubelet", "/var/snap/microk8s/common/var/lib/kubelet", "/var/lib/k0s/kubelet"];

/// runc's own records of containers, wherever containerd has its state: `<id>/state.json`.
pub const RUNC_STATE: &str = "/run/containerd/runc/k8s.io";

/// Links to those files: `<pod>_<namespace>_<container>-<id>.log`.
pub const CONTAINER_LOGS: &str = "/var/log/containers";

/// The directories that may hold running containers' directories, each once.
pub fn task_dirs() -> Vec<String> {
    let mut dirs: Vec<String> = Vec::new();
    for distribution in DISTRIBUTIONS {
        let dir = format!("{}/{TASKS}", distribution.containerd_state);
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    dirs
}

/// How `ctr` and `crictl` are called on a distribution; anywhere else they are called by their names.
pub fn tools(distribution: &str) -> (&'static str, &'static str) {
    match distribution {
        "microk8s" => ("microk8s ctr", "crictl -r unix:///var/snap/microk8s/common/run/containerd.sock"),
        "k3s" => ("k3s ctr", "k3s crictl"),
        "RKE2" => (
            "/var/lib/rancher/rke2/bin/ctr -a /run/k3s/containerd/containerd.sock",
            "/var/lib/rancher/rke2/bin/crictl -r unix:///run/k3s/containerd/containerd.sock",
        ),
        "k0s" => ("k0s ctr", "crictl -r unix:///run/k0s/containerd.sock"),
        "Docker" => ("ctr -a /run/docker/containerd/containerd.sock", "crictl"),
        _ => ("ctr", "crictl"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_slice_is_sound() {
        let names: BTreeSet<_> = DISTRIBUTIONS.iter().map(|distribution| distribution.name).collect();
        let roots: BTreeSet<_> = DISTRIBUTIONS.iter().map(|distribution| distribution.containerd_root).collect();
        assert_eq!((names.len(), roots.len()), (DISTRIBUTIONS.len(), DISTRIBUTIONS.len()));
        let fixed = [CRIO_CONTAINERS, POD_LOGS, CONTAINER_LOGS];
        for path in roots.into_iter().chain(fixed).chain(task_dirs().iter().map(String::as_str)) {
            assert!(path.starts_with('/') && !path.ends_with('/') && !path.contains("//"), "{path}");
        }
        let distinct: BTreeSet<_> = task_dirs().into_iter().collect();
        assert_eq!(distinct.len(), task_dirs().len());
        assert!(distinct.contains("/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io"));
    }
}
