#!/bin/sh
# As shell_oom_v2.sh, for cgroup v1: the kills of the containers that are still there. The argument is the memory
# hierarchy's directory.
find "${1:-/sys/fs/cgroup/memory}" -path '*kubepods*' -name memory.oom_control -print | awk '
    {
        file = $0
        while ((getline line < file) > 0)
            if (index(line, "oom_kill ") == 1) {
                count = substr(line, 10) + 0
                cgroups++
                kills += count
                if (count > 0) killed++
            }
        close(file)
    }
    END { printf "%d kills in %d of %d cgroups\n", kills, killed, cgroups }'
