#!/bin/bash
# Where multicast is off, or does not reach, heartbeats come by unicast; where no datagram arrives, over the link. (R2.1)
. "$(dirname "$0")/../lib/lib.sh"
scenario "without multicast"
export MASTER_OPTS='--beat-interval 200ms' SLAVE1_OPTS='--group none' SLAVE2_OPTS='--group 239.255.255.254:9'
up 2
cp -a "$root/drsfs" "$M/"
equal
check "slave1, which has no group, hears by unicast" await 10 eval '[ "$(field slave1 path)" = unicast ]'
check "slave2, whom the group does not reach, too" await 10 eval '[ "$(field slave2 path)" = unicast ]'
make_versions 100
equal

step "a master without a group"
cluster stop master
check "it starts" env MASTER_OPTS='--group none' "$root/tests/cluster" start "$T" master
make_versions 20
equal
