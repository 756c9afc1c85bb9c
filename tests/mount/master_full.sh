#!/bin/bash
# A full disk on the master: ENOSPC to the writer, nothing lost, the mount stays usable. (F8)
. "$(dirname "$0")/../lib/lib.sh"
scenario "a full disk on the master"
[ "$(id -u)" = 0 ] || { skip "needs root for a small tmpfs"; exit 0; }
mkdir -p "$T/state/master"
mount -t tmpfs -o size=64m none "$T/state/master" || { skip "no tmpfs can be mounted here"; exit 0; }
extra_mounts+=("$T/state/master")
export MASTER_OPTS='--retain-versions 1 --retain-time 0'
up 2
cp -a "$root/drsfs" "$M/"
head -c 5M /dev/urandom >"$T/precious"
cp "$T/precious" "$M/precious"
equal

step "fill it"
check "the writer is told" refused 'No space left on device' dd if=/dev/urandom of="$M/filler" bs=1M count=200 conv=fsync
check "and again" refused 'No space left on device' dd if=/dev/urandom of="$M/filler-2" bs=1M count=200 conv=fsync
check "what was there is there" cmp "$T/precious" "$M/precious"
check "and the tree" same_trees "$root/drsfs" "$M/drsfs"
check "files can be read and listed" eval 'ls -lR "$M" && cat "$M/drsfs/main.c"'
check "df says how it is" eval '[ "$(df -Pm "$M" | awk "NR == 2 { print \$4 }")" -lt 32 ]'

step "make room"
check "files can be removed" rm -f "$M/filler" "$M/filler-2"
room_again() { head -c 1M /dev/urandom >"$M/small" && sync "$M/small"; }
check "and then written again" await 20 room_again
equal
check "what was there is there still" cmp "$T/precious" "$S1/precious"

step "a restart on a disk that is full"
dd if=/dev/urandom of="$M/filler" bs=1M count=200 conv=fsync status=none 2>/dev/null
cluster stop master
check "the master starts" cluster start master
check "files can be removed" rm -f "$M/filler"
check "and written" await 20 room_again
equal
sound master slave1
