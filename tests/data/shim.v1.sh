#!/bin/bash
# What the shim of format 1 does with a start: it holds the lock, leaves the record `start` from within the process that
# becomes the node, waits, and leaves `exit`. Kept as it is: shims of old visors live as long as their nodes.
# Usage: shim.v1.sh ROOT START PROGRAM ARGS…
root=$1 dir=$1/state/starts/$2
shift 2
exec 8>>"$root/state/node.lock"
flock 8
setsid bash -c '
    dir=$0
    stat=$(<"/proc/$$/stat")
    set -- $$ ${stat##*) } -- "$@"
    boot=$(</proc/sys/kernel/random/boot_id)
    printf "{\"version\":1,\"identity\":{\"boot\":\"%s\",\"pid\":%s,\"start_time\":%s},\"at\":%s}" \
        "$boot" "$1" "${21}" "$(date +%s%3N)" >"$dir/start.tmp"
    mv "$dir/start.tmp" "$dir/start"
    while [ "$1" != -- ]; do shift; done
    shift
    exec "$@"
' "$dir" "$@"
code=$? signal=null
if [ "$code" -gt 128 ]; then
    signal=$((code - 128)) code=null
fi
printf '{"version":1,"code":%s,"signal":%s,"at":%s}' "$code" "$signal" "$(date +%s%3N)" >"$dir/exit.tmp"
mv "$dir/exit.tmp" "$dir/exit"
