//! Where the memory controller is: in the one hierarchy of v2, in one of its own (v1), or nowhere.
//!
//! A node may have both kinds mounted (systemd's hybrid mode), and then the presence of cgroup2 says nothing: what counts
//! is where *memory* is. `/proc/cgroups` can't tell: since Linux 6.15 it leaves out a controller that has no v1 side.

use super::{Error, digits, excerpt, lines};

/// One line of `/proc/self/mountinfo`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The directory of the file system that is mounted: `/`, or less in a container.
    pub root: &'a str,
    /// Where.
    pub point: &'a str,
    /// The file system's type: `cgroup`, `cgroup2`.
    pub fstype: &'a str,
    /// Whether the super options have `memory` (without a value).
    pub memory: bool,
    /// Whether the super options have `memory_localevents`.
    pub local_events: bool,
}

impl<'a> Mount<'a> {
    /// From the fields of a line; of the super options only the names matter, those with a value left out.
    pub fn new(
        root: &'a str,
        point: &'a str,
        fstype: &'a str,
        options: impl IntoIterator<Item = &'a str>,
    ) -> Mount<'a> {
        let mut mount = Mount { root, point, fstype, memory: false, local_events: false };
        for option in options {
            mount.memory |= option == "memory";
            mount.local_events |= option == "memory_localevents";
        }
        mount
    }

    /// How good a view of the hierarchy it is; less is better.
    fn rank(&self) -> (bool, bool, usize) {
        (self.root != "/", !self.point.starts_with("/sys/fs/cgroup"), self.point.len())
    }
}

/// Where the memory controller is to be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy<'a> {
    /// A v1 hierarchy that has it. A unified one beside it (hybrid mode) does not.
    V1(Mount<'a>),
    /// The unified hierarchy, the only place left. It has the controller if `cgroup.controllers` in its root lists it
    /// ([`lists_memory`]); if not, it was switched off (`cgroup_disable=memory`, as Raspberry Pi OS does).
    V2(Mount<'a>),
    /// No cgroup file system that could have it.
    None,
}

/// Decides by the mounts. Of several views of a hierarchy it takes that of its root, in /sys/fs/cgroup if possible.
///
/// ```
/// use nodecheck::parse::cgroup::{Hierarchy, Mount, hierarchy};
///
/// let mounts = [Mount::new("/", "/sys/fs/cgroup", "cgroup2", ["rw", "nsdelegate"])];
/// assert_eq!(hierarchy(mounts), Hierarchy::V2(mounts[0]));
/// ```
pub fn hierarchy<'a>(mounts: impl IntoIterator<Item = Mount<'a>>) -> Hierarchy<'a> {
    let (mut v1, mut v2): (Option<Mount>, Option<Mount>) = (None, None);
    for mount in mounts {
        let best = match mount.fstype {
            "cgroup" if mount.memory => &mut v1,
            "cgroup2" => &mut v2,
            _ => continue,
        };
        if best.is_none_or(|best| mount.rank() < best.rank()) {
            *best = Some(mount);
        }
    }
    match (v1, v2) {
        (Some(mount), _) => Hierarchy::V1(mount),
        (None, Some(mount)) => Hierarchy::V2(mount),
        (None, None) => Hierarchy::None,
    }
}

/// Whether `cgroup.controllers` of the unified hierarchy's root lists the memory controller.
pub fn lists_memory(controllers: &[u8]) -> bool {
    controllers.split(u8::is_ascii_whitespace).any(|name| name == b"memory")
}

/// The memory controller's line of `/proc/cgroups`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V1Controller {
    /// The number of the hierarchy that has it; 0 for the unified one, and for none.
    pub hierarchy: u64,
    /// False with `cgroup_disable=memory`.
    pub enabled: bool,
}

/// Reads `/proc/cgroups`. `None` says nothing: Linux 6.15 and later do not list a controller without a v1 side.
pub fn v1_controller(bytes: &[u8]) -> Result<Option<V1Controller>, Error> {
    let mut found = None;
    for line in lines(bytes)? {
        let mut fields = line.split(|byte| *byte == b'\t');
        if fields.next() != Some(b"memory") {
            continue;
        }
        let wrong = || Error::Line(excerpt(line));
        let [hierarchy, _, enabled] = [fields.next(), fields.next(), fields.next()];
        let hierarchy = digits("the hierarchy of memory", hierarchy.ok_or_else(wrong)?)?;
        let enabled = digits("enabled of memory", enabled.ok_or_else(wrong)?)? != 0;
        if found.replace(V1Controller { hierarchy, enabled }).is_some() {
            return Err(Error::Twice("memory"));
        }
    }
    Ok(found)
}

/// For the fuzzer: what is chosen can have the controller.
pub fn fuzz(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    let mounts = text.lines().map(|line| {
        let mut fields = line.split(' ');
        let mut field = || fields.next().unwrap_or_default();
        let (root, point, fstype, options) = (field(), field(), field(), field());
        Mount::new(root, point, fstype, options.split(','))
    });
    match hierarchy(mounts) {
        Hierarchy::V1(mount) => assert!(mount.fstype == "cgroup" && mount.memory),
        Hierarchy::V2(mount) => assert!(mount.fstype == "cgroup2"),
        Hierarchy::None => {}
    }
    let _ = (lists_memory(data), v1_controller(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[(&'static str, &'static str, &'static str, &'static str)]) -> String {
        let mounts = lines.iter().map(|(root, at, fstype, options)| Mount::new(root, at, fstype, options.split(',')));
        match hierarchy(mounts) {
            Hierarchy::V1(mount) => format!("v1 {} {} {}", mount.root, mount.point, mount.local_events),
            Hierarchy::V2(mount) => format!("v2 {} {} {}", mount.root, mount.point, mount.local_events),
            Hierarchy::None => "none".to_owned(),
        }
    }

    #[test]
    fn hierarchies() {
        let unified = ("/", "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate,memory_recursiveprot");
        let local = ("/", "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate,memory_localevents");
        let beside = ("/", "/sys/fs/cgroup/unified", "cgroup2", "rw");
        let v1 = ("/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory");
        let cpu = ("/", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct");
        let named = ("/", "/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name");
        let tmpfs = ("/", "/sys/fs/cgroup", "tmpfs", "rw,memory");
        let inside = ("/docker/1", "/sys/fs/cgroup/memory", "cgroup", "rw,memory");
        let copy = ("/", "/var/lib/docker/x/sys/fs/cgroup/memory", "cgroup", "rw,memory");
        for (lines, want) in [
            (&[unified][..], "v2 / /sys/fs/cgroup false"),
            (&[local], "v2 / /sys/fs/cgroup true"),
            (&[tmpfs, cpu, v1, beside], "v1 / /sys/fs/cgroup/memory false"),
            (&[beside, named, v1], "v1 / /sys/fs/cgroup/memory false"),
            (&[tmpfs, cpu, named, beside], "v2 / /sys/fs/cgroup/unified false"),
            (&[inside, copy, v1], "v1 / /sys/fs/cgroup/memory false"),
            (&[inside, copy], "v1 / /var/lib/docker/x/sys/fs/cgroup/memory false"),
            (&[inside], "v1 /docker/1 /sys/fs/cgroup/memory false"),
            (&[tmpfs, cpu, named], "none"),
            (&[], "none"),
        ] {
            assert_eq!(found(lines), want, "{lines:?}");
        }
        let hybrid = include_str!("../../../tests/captures/cgroup/mounts-hybrid").lines().map(|line| {
            let mut fields = line.split(' ');
            [(); 4].map(|()| fields.next().unwrap_or_default())
        });
        let lines: Vec<_> = hybrid.map(|[root, at, fstype, options]| (root, at, fstype, options)).collect();
        assert_eq!(found(&lines), "v1 / /sys/fs/cgroup/memory false");
    }

    #[test]
    fn controllers() {
        for (text, want) in [
            ("cpuset cpu io memory hugetlb pids rdma misc\n", true),
            ("memory\n", true),
            ("cpuset cpu io pids\n", false),
            ("memory_x xmemory\n", false),
            ("", false),
        ] {
            assert_eq!(lists_memory(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn proc_cgroups() {
        let head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\n";
        for (line, want) in [
            ("memory\t4\t11\t1\n", "Ok(Some(V1Controller { hierarchy: 4, enabled: true }))"),
            ("memory\t0\t92\t1\n", "Ok(Some(V1Controller { hierarchy: 0, enabled: true }))"),
            ("memory\t0\t1\t0\n", "Ok(Some(V1Controller { hierarchy: 0, enabled: false }))"),
            ("xmemory\t4\t11\t1\n", "Ok(None)"),
            ("", "Ok(None)"),
            ("memory\t4\t11\n", "Err(Line(\"memory\\\\t4\\\\t11\"))"),
            ("memory\n", "Err(Line(\"memory\"))"),
            ("memory\t-1\t1\t1\n", "Err(Number { key: \"the hierarchy of memory\", value: \"-1\" })"),
            ("memory\t1\t1\tyes\n", "Err(Number { key: \"enabled of memory\", value: \"yes\" })"),
            ("memory\t4\t11\t1\nmemory\t4\t11\t1\n", "Err(Twice(\"memory\"))"),
            ("memory\t4\t11\t1", "Err(Cut)"),
        ] {
            assert_eq!(format!("{:?}", v1_controller(format!("{head}{line}").as_bytes())), want, "{line:?}");
        }
        let real = include_bytes!("../../../tests/captures/cgroup/proc-cgroups-hybrid");
        assert_eq!(v1_controller(real), Ok(Some(V1Controller { hierarchy: 4, enabled: true })));
    }

    #[test]
    fn every_prefix() {
        let sample = "memory\t4\t11\t1\n/ /sys/fs/cgroup cgroup2 rw,memory_localevents\n/ /x cgroup rw,memory\n";
        for (end, _) in sample.char_indices() {
            fuzz(sample.get(..end).unwrap_or_default().as_bytes());
        }
    }
}
