#!/bin/bash
# A slave with no cache: waits, or serves an empty tree, as it is told; an interrupted first copy goes on where it was. (R7.2)
. "$(dirname "$0")/../lib/lib.sh"
scenario "the first copy"
export MASTER_OPTS='--beat-interval 200ms --link-timeout 2s' SLAVE_OPTS='--link-timeout 2s'
up 0

step "with no master in reach"
cluster stop master
NOWAIT=1 cluster start slave1
SLAVE_OPTS='--wait-first=no' NOWAIT=1 cluster start slave2
check "slave2 serves an empty tree" await 10 eval 'grep -qF " $S2 " /proc/self/mountinfo && [ -z "$(ls -A "$S2")" ]'
check "slave1 waits unmounted" eval '! grep -qF " $S1 " /proc/self/mountinfo'
check "and answers" drsfs status --state "$T/state/slave1"
check "slave1 can be stopped while it waits" cluster stop slave1
check "the master comes" cluster start master
echo one >"$M/one"
check "slave2 gets the first version" await 20 grep -qx one "$S2/one"

step "a first copy of some size, interrupted again and again"
mkdir "$M/tree"
for i in {1..40}; do head -c 5M /dev/urandom >"$M/tree/file-$i"; done
for i in {1..3000}; do echo "$i"; done | split -l 1 -a 3 - "$M/tree/small-"
sync -f "$M"
progress=0 kills=0 resumed=0
for i in {1..12}; do
	NOWAIT=1 cluster start slave1
	for ((j = 0; j < 100; j++)); do
		bytes=$(du -sk "$T/state/slave1" | cut -f1)
		[ "$bytes" -lt $((progress + 15000)) ] || break
		[ "$(field slave1 state 2>/dev/null)" != current ] || break 2
		sleep 0.02
	done
	[ "$i" = 1 ] || [ "$bytes" -lt "$progress" ] || resumed=$((resumed + 1))
	progress=$bytes
	cluster kill slave1
	kills=$((kills + 1))
	"$root/tests/cluster" unmount "$S1"
done
step "killed $kills times on the way, store at $((progress / 1024)) MiB"
check "it was interrupted at least once" test $kills -gt 0
check "the store never began anew ($resumed resumptions)" test $resumed -ge $((kills - 1))
[ -n "$(pid slave1 2>/dev/null)" ] || NOWAIT=1 cluster start slave1
check "slave1 is mounted in the end" await 60 grep -qF " $S1 " /proc/self/mountinfo
equal slave1 slave2
sound slave1
cluster stop slave1
cluster stop slave2
