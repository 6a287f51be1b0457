#!/bin/sh
# What people run today instead of `nodecheck run pod-oom-kills`, at its best: one find and one awk. It tells how many
# kills there were since each container was made, and neither when, nor in which pod, nor at whose limit. The argument is
# the memory hierarchy's directory.
find "${1:-/sys/fs/cgroup}" -path '*kubepods*' -name memory.events -print | awk '
    {
        file = $0
        is_container = file ~ /\.scope\/memory\.events$/
        while ((getline line < file) > 0)
            if (is_container && index(line, "oom_kill ") == 1) {
                count = substr(line, 10) + 0
                containers++
                kills += count
                if (count > 0) killed++
            }
        close(file)
    }
    END { printf "%d kills in %d of %d containers\n", kills, killed, containers }'
