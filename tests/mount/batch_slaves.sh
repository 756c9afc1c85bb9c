#!/bin/bash
# Slaves that are away, stopped, behind, new or slow while a batch is committed; commits that meet each other and live changes. (R4.2, R4.4, R4.5, R4.6, R4.7)
. "$(dirname "$0")/../lib/lib.sh"
scenario "slaves during a commit"
make_check
export MASTER_OPTS='--beat-interval 200ms --link-timeout 2s' SLAVE_OPTS="--link-timeout 2s --check $T/check"
up 3
mkdir "$M/etc" && echo first >"$M/etc/motd"
equal
nobody_prepared() {
	local name
	for name in slave1 slave2 slave3; do not_prepared $name || { echo "$name is prepared"; return 1; }; done
}
# A batch that adds a file of its own name.
write_batch() { begin "$1" && echo "$1" >"$view/$1"; }

step "a slave is stopped in its tracks: time is up"
check "a batch is written" write_batch stopped
kill -STOP "$(pid slave2)"
check "exit code 3" exits 3 drsfs batch commit stopped --timeout 1500ms
check "slave2 is named" refused 'slave2:' drsfs batch commit stopped --timeout 1500ms
check "nobody who can be asked shows it" eval '[ ! -e "$M/stopped" ] && [ ! -e "$S1/stopped" ] && [ ! -e "$S3/stopped" ]'
check "the others are not prepared any more" await 10 eval 'not_prepared slave1 && not_prepared slave3'
check "without it: by --require 2" drsfs batch commit stopped --require 2
check "the others show it" cluster wait slave1 slave3
check "by --require connected, once its link is given up" eval 'write_batch connected && drsfs batch commit connected --require connected --timeout 20s'
check "the others show that, too" cluster wait slave1 slave3
kill -CONT "$(pid slave2)"
equal

step "a slave is away"
cluster stop slave3
check "a batch is written" write_batch away
check "for all, time is up: exit code 3" exits 3 drsfs batch commit away --timeout 1s
check "slave3 is named, and why" refused 'slave3: not reachable' drsfs batch commit away --timeout 1s
check "one that has a link cannot be forgotten" exits 1 drsfs forget slave1
check "nor one that is not known" exits 1 drsfs forget nobody
check "slave3 can" drsfs forget slave3
check "then all are those that are left" drsfs batch commit away --timeout 10s
check "status does not show it any more" eval '! drsfs status | grep -q "^slave3 "'
check "the names outlive the master: it stops" cluster stop master
check "and starts" cluster start master
check "the slaves are back" cluster wait slave1 slave2
check "and slave3 is not waited for" eval 'write_batch forgotten && drsfs batch commit forgotten --timeout 10s'
check "it comes back, as a new one" cluster start slave3
equal
cluster stop slave2
check "one that is only away is still waited for after a restart: the master stops" cluster stop master
check "and starts" cluster start master
check "exit code 3" eval 'write_batch waited && exits 3 drsfs batch commit waited --timeout 1500ms'
check "slave2 is named" refused 'slave2: not reachable' drsfs batch commit waited --timeout 1500ms
check "it starts" cluster start slave2
check "committed" drsfs batch commit waited
equal

step "a slave is behind: it syncs, is asked again, and prepares"
cluster stop slave1
head -c 30M /dev/urandom >"$M/much"
check "the others have what it lacks" cluster wait slave2 slave3
check "a batch is written" write_batch behind
script -fqec "stty rows 24 cols 80; '$DRSFS' batch commit behind --timeout 60s" "$T/terminal" </dev/null >/dev/null 2>&1 &
commit=$!
check "the terminal shows that it is unreachable" await 10 grep -qE '^slave1 +unreachable' "$T/terminal"
NOWAIT=1 cluster start slave1
check "committed" wait $commit
check "it has shown that it syncs" grep -qE 'slave1 +syncing' "$T/terminal"
check "and then that it is prepared" grep -qE 'slave1 +prepared' "$T/terminal"
equal

step "a slave joins during a commit"
check "a batch is written" write_batch joined
hold slave1
commit joined --timeout 60s
check "slave1 checks" held slave1
check "slave4 starts" cluster start slave4
check "it does not show the batch" test ! -e "$T/slave4/joined"
check "the others wait" eval 'sleep 0.5; unseen joined && kill -0 $commit'
release slave1
check "committed" committed
check "slave4 follows" await 10 grep -qx joined "$T/slave4/joined"
equal slave1 slave2 slave3 slave4
check "slave4 leaves" cluster stop slave4
check "and is forgotten" await 10 drsfs forget slave4
"$root/tests/cluster" unmount "$T/slave4"
rm -rf "$T/slave4"

step "a slave leaves during a commit, and comes back"
check "a batch is written" write_batch left
hold slave1 slave2
commit left --timeout 60s
check "slave1 checks" held slave1
cluster kill slave1
release slave1
check "it starts again" cluster start slave1
check "the others wait" eval 'unseen left && kill -0 $commit'
release slave2
check "committed" committed
equal slave1 slave2 slave3

step "cancel"
check "a batch is written" write_batch cancelled
check "nothing to cancel yet" exits 1 drsfs batch cancel cancelled
hold slave1
commit cancelled --timeout 60s
check "slave1 checks" held slave1
check "slave2 is prepared" await 10 is_prepared slave2
check "cancel" drsfs batch cancel cancelled
check "the commit ends with exit code 1" committed 1
check "and says so" grep -qi cancel "$T/commit"
check "nobody shows it" unseen cancelled
check "nobody is prepared" await 10 nobody_prepared
release slave1
hold slave1
commit cancelled --timeout 60s
check "again" held slave1
kill -TERM $commit
check "Ctrl-C cancels, too" committed 1
check "nobody is prepared" await 10 nobody_prepared
release slave1
hold slave1
commit cancelled --timeout 60s
check "again" held slave1
kill -KILL $commit
wait $commit 2>/dev/null
check "who asked is killed: cancelled" await 10 nobody_prepared
release slave1
check "nobody shows it" unseen cancelled
check "the batch is still there, and can be committed" drsfs batch commit cancelled
equal slave1 slave2 slave3

step "two commits at once"
check "a batch is written" write_batch earlier
check "and another" write_batch later
hold slave1
commit earlier --timeout 60s
check "slave1 checks" held slave1
"$DRSFS" batch commit later --timeout 60s >"$T/later" 2>&1 &
later=$!
sleep 0.5
check "nobody shows either" unseen earlier later
release slave1
check "the first is committed" committed
if wait $later; then
	ok "the second waited its turn"
else
	check "the second was refused: $(head -n 1 "$T/later")" unseen later
	check "it is committed when asked again" drsfs batch commit later
fi
equal slave1 slave2 slave3
check "both are there" eval '[ -e "$S2/earlier" ] && [ -e "$S2/later" ]'

step "live changes during a commit"
check "a batch is written" eval 'begin live && echo batch >"$view/etc/motd"'
hold slave1
commit live --timeout 60s
check "slave1 checks" held slave1
check "a live change elsewhere goes on" timeout 5 sh -c "echo live >'$M/elsewhere'"
check "the master shows it" grep -qx live "$M/elsewhere"
(echo after >"$M/etc/motd") &
writer=$!
sleep 0.5
check "no slave does yet" eval '[ ! -e "$S1/elsewhere" ] && [ ! -e "$S2/elsewhere" ] && [ ! -e "$S3/elsewhere" ]'
release slave1
check "committed" committed
check "a live change of the same file went on after it" wait $writer
equal slave1 slave2 slave3
check "and so came after it" grep -qx after "$S3/etc/motd"
check "what was live is there" grep -qx live "$S1/elsewhere"
number=$(sed -n 's/^committed version \([0-9]*\).*/\1/p' "$T/commit")
check "in a version after the batch's" test "$(version)" -gt "${number:-999999}"
sound master slave1 slave2 slave3
