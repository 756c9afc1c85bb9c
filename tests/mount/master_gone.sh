#!/bin/bash
# A slave serves with the master gone, from a restart too, and goes on by itself when the master is back. (R3.3, R7.1)
. "$(dirname "$0")/../lib/lib.sh"
scenario "the master is gone"
export MASTER_OPTS='--beat-interval 200ms --link-timeout 1s' SLAVE_OPTS='--link-timeout 1s'
up 2
cp -a "$root/drsfs" "$M/"
equal
before=$(version)

step "the master stops"
check "it ends by SIGTERM" cluster stop master
check "and has unmounted" eval '! grep -qF " $M " /proc/self/mountinfo'
check "slave1 still has the tree" same_trees "$root/drsfs" "$S1/drsfs"
check "slave1 says that it is alone within 10 s" await 10 eval '[ "$(field slave1 state)" = alone ]'

step "a slave restarts without it"
check "slave1 stops" cluster stop slave1
check "slave1 starts" cluster start slave1
check "it serves its version $before" eval '[ "$(version slave1)" = "$before" ]'
check "and the tree" same_trees "$root/drsfs" "$S1/drsfs"

step "the master is back"
check "it starts on its old state" cluster start master
check "at its old version" eval '[ "$(version)" = "$before" ]'
echo more >"$M/more"
check "its numbers go on" eval 'cluster wait && [ "$(version)" -gt "$before" ]'
equal

step "a slave that shall wait for the master does not mount before"
cluster stop slave2 && cluster stop master
SLAVE_OPTS='--wait-master' NOWAIT=1 cluster start slave2
sleep 2
check "slave2 is not mounted" eval '! grep -qF " $S2 " /proc/self/mountinfo'
check "but it runs and answers" drsfs status --state "$T/state/slave2"
check "the master starts" cluster start master
check "then slave2 is mounted" await 20 grep -qF " $S2 " /proc/self/mountinfo
equal
