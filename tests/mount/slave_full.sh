#!/bin/bash
# A slave whose disk is full says so, keeps serving its old version, holds nobody back, and goes on when there is room. (R3.3, F8)
. "$(dirname "$0")/../lib/lib.sh"
scenario "a full disk on a slave"
[ "$(id -u)" = 0 ] || { skip "needs root for a small tmpfs"; exit 0; }
mkdir -p "$T/state/slave1"
mount -t tmpfs -o size=48m none "$T/state/slave1" || { skip "no tmpfs can be mounted here"; exit 0; }
extra_mounts+=("$T/state/slave1")
export MASTER_OPTS='--beat-interval 200ms'
up 2
cp -a "$root/drsfs" "$M/"
equal

step "more than fits"
for i in {1..20}; do head -c 5M /dev/urandom >"$M/file-$i"; done
check "slave2 has it" cluster wait slave2
in_trouble() { [ -n "$(field slave1 trouble)" ]; }
check "slave1 is in trouble" await 20 in_trouble
check "and says that there is no room: $(field slave1 trouble)" eval 'field slave1 trouble | grep -qiE "space|full|room"'
check "it serves its old version" same_trees "$root/drsfs" "$S1/drsfs"
check "and answers" drsfs status --state "$T/state/slave1"

step "room"
mount -o remount,size=600m "$T/state/slave1"
equal
check "the trouble is over" eval '[ -z "$(field slave1 trouble)" ]'
sound slave1
