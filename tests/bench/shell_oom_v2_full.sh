#!/bin/sh
# What people run today instead of `nodecheck run pod-oom-kills` and `nodecheck run memory-headroom` together: one find,
# and one awk that reads five files of each container. The argument is the memory hierarchy's directory.
find "${1:-/sys/fs/cgroup}" -path '*kubepods*' -name memory.events -print | awk '
    # The value of a key in a file of keys and values, or all of a file of one value.
    function value(file, key,    line, found, length_of_key) {
        found = ""
        length_of_key = length(key)
        while ((getline line < file) > 0)
            if (key == "" || index(line, key " ") == 1)
                found = substr(line, key == "" ? 1 : length_of_key + 2)
        close(file)
        return found
    }
    /\.scope\/memory\.events$/ {
        dir = substr($0, 1, length($0) - length("/memory.events"))
        containers++
        count = value($0, "oom_kill") + 0
        kills += count
        if (count > 0) killed++
        limit = value(dir "/memory.max", "")
        used = value(dir "/memory.current", "") - value(dir "/memory.stat", "inactive_file")
        if (limit != "max" && used > 0.9 * limit) near++
        if (value(dir "/memory.pressure", "full") ~ /avg60=[1-9][0-9]/) pressed++
    }
    END {
        printf "%d kills in %d of %d containers, %d near their limit, %d wait for memory\n", \
            kills, killed, containers, near, pressed
    }'
