//! A node with a pending reboot.

use std::fs::{File, create_dir_all, write};
use std::io::Result;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

const RUNNING: &str = "6.8.0-45-generic";

/// An Ubuntu node with six kernels, whose reboot has been pending for two days.
pub fn make(root: &Path) -> Result<()> {
    for dir in ["boot", "run", "var", "lib/modules", "etc"] {
        create_dir_all(root.join(dir))?;
    }
    make_proc(root)?;
    symlink("../run", root.join("var/run"))?;
    for number in [31, 39, 41, 45, 47, 100] {
        let release = format!("6.8.0-{number}-generic");
        for name in ["vmlinuz", "initrd.img", "config", "System.map"] {
            write(root.join(format!("boot/{name}-{release}")), vec![0; 2 << 20])?;
        }
        create_dir_all(root.join(format!("lib/modules/{release}/kernel")))?;
        write(root.join(format!("lib/modules/{release}/modules.dep")), "")?;
    }
    for (path, text) in [
        ("run/reboot-required", "*** System restart required ***\n"),
        ("run/reboot-required.pkgs", "linux-image-6.8.0-100-generic\nlinux-base\nlibc6\nlinux-base\n"),
        ("etc/os-release", "ID=ubuntu\nVERSION_ID=\"24.04\"\n"),
    ] {
        write(root.join(path), text)?;
    }
    let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 86400);
    File::open(root.join("run/reboot-required"))?.set_modified(two_days_ago)
}

/// A kernel that was booted ten days ago.
pub fn make_proc(root: &Path) -> Result<()> {
    create_dir_all(root.join("proc/sys/kernel/random"))?;
    create_dir_all(root.join("proc/1"))?;
    for (path, text) in [
        ("proc/sys/kernel/random/boot_id", "0d9b3c1e-6d1c-4f0e-9a55-0c9d4a1b7f10\n".to_owned()),
        ("proc/sys/kernel/osrelease", format!("{RUNNING}\n")),
        ("proc/version", format!("Linux version {RUNNING} (buildd@lcy02) (gcc) #45-Ubuntu SMP PREEMPT_DYNAMIC\n")),
        ("proc/uptime", "864000.00 1700000.00\n".to_owned()),
        ("proc/stat", "cpu 1 2 3 4\nbtime 1790000000\n".to_owned()),
        ("proc/cmdline", format!("BOOT_IMAGE=/boot/vmlinuz-{RUNNING} root=/dev/sda1 ro\n")),
    ] {
        write(root.join(path), text)?;
    }
    Ok(())
}
