#!/bin/bash
# One slave has no room for a batch: it says so, nobody shows anything of it, all serve; with room it goes through. (R4.2, R4.3, R4.5, F8)
. "$(dirname "$0")/../lib/lib.sh"
scenario "a full disk on one slave during a commit"
[ "$(id -u)" = 0 ] || { skip "needs root for a small tmpfs"; exit 0; }
mkdir -p "$T/state/slave1"
mount -t tmpfs -o size=48m none "$T/state/slave1" || { skip "no tmpfs can be mounted here"; exit 0; }
extra_mounts+=("$T/state/slave1")
export MASTER_OPTS='--beat-interval 200ms'
up 3
cp -a "$root/drsfs" "$M/"
equal
before=$(version) digest=$(field master digest)

step "more than fits"
check "a batch is begun" begin big
check "and written" eval 'for i in {1..20}; do head -c 5M /dev/urandom >"$view/file-$i" || break; done; rm -r "$view/drsfs"'
check "exit code 1" exits 1 drsfs batch commit big --timeout 60s
drsfs batch commit big --timeout 60s >"$T/commit" 2>&1
check "slave1 is named" grep -q '^ *slave1:' "$T/commit"
check "and has no room" grep -qiE 'slave1:.*(space|full|room)' "$T/commit"
check "the others are not blamed" eval '! grep -qE "slave[23]:.*(space|full|room)" "$T/commit"'
for name in slave1 slave2 slave3; do
	check "$name is not prepared" await 10 not_prepared $name
	check "$name is at the version before" eval '[ "$(field $name version) $(field $name digest)" = "$before $digest" ]'
	check "$name serves" same_trees "$root/drsfs" "$T/$name/drsfs"
done
check "slave1 goes on taking what fits" eval 'echo small >"$M/small" && cluster wait && grep -qx small "$S1/small"'
check "a small batch goes through" drsfs batch run -- touch smaller
equal

step "room"
mount -o remount,size=600m "$T/state/slave1"
check "committed" drsfs batch commit big --timeout 60s
equal
check "it is there" test -s "$S1/file-20"
check "and what it removed is not" unseen drsfs
sound master slave1 slave2 slave3
