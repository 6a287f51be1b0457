#!/bin/sh
# What people run today instead of `nodecheck run reboot-required`: is the flag there, and is a newer kernel installed?
# It knows no age, no other distribution's flag and no flavour of kernels. The argument is a root directory.
root=${1:-}
running=$(cut -d ' ' -f 1 "$root/proc/sys/kernel/osrelease")
# shellcheck disable=SC2012 # as people write it
newest=$(ls "$root/boot" | sed -n 's/^vmlinuz-//p' | sort -V | tail -n 1)
if [ -f "$root/var/run/reboot-required" ]; then
    echo "WARNING - reboot required: $(sort -u "$root/var/run/reboot-required.pkgs" | tr '\n' ' ')"
    exit 1
elif [ -n "$newest" ] && [ "$newest" != "$running" ]; then
    echo "WARNING - running $running, newest installed $newest"
    exit 1
fi
echo "OK - no reboot required"
