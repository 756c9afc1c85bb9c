#!/bin/bash
# The commands that look: status, log, wait, verify, version, --help; and what they say when something is wrong. (F8)
. "$(dirname "$0")/../lib/lib.sh"
scenario "commands"
export MASTER_OPTS='--beat-interval 200ms --link-timeout 1s' SLAVE_OPTS='--link-timeout 1s'
up 2
master=$T/state/master
echo one >"$M/one"
equal

step "help"
for command in master slave status batch log wait verify forget stop version; do
	check "drsfs $command --help" eval 'drsfs $command --help | grep -q "^Usage: drsfs $command"'
done
check "drsfs --help" eval 'drsfs --help | grep -q "^Usage: drsfs COMMAND"'
check "drsfs version" eval 'drsfs version | grep -qE "^drsfs [0-9.]+$"'
code() { "${@:2}" >/dev/null 2>&1; [ $? = "$1" ]; }
check "no command: exit code 2" code 2 drsfs
check "an unknown option: exit code 2" code 2 drsfs status --bogus
check "and a guess" refused "did you mean '--beat-interval'" drsfs master --beat-intrval 1s /mnt
check "no daemon: exit code 1" code 1 drsfs status --state /nonexistent
check "and what to do" refused "start it with 'drsfs master'" drsfs status --state /nonexistent

step "status"
check "the master's" eval 'drsfs status --state "$master" | grep -q "^slave2 .*0 "'
check "a slave's" eval 'drsfs status --state "$T/state/slave1" | grep -q "^slave slave1 of volume"'
check "DRSFS_STATE says where" eval 'DRSFS_STATE=$master drsfs status | grep -q "^master "'
check "as JSON: role" eval '[ "$(field master role)" = master ] && [ "$(field slave1 role)" = slave ]'
check "as JSON: one volume" eval '[ -n "$(field master did)" ] && [ "$(field master did)" = "$(field slave2 did)" ]'
check "slaves hear multicast" await 5 eval '[ "$(field slave1 path)" = multicast ]'

step "wait"
check "for the version of now" eval '[ "$(drsfs wait latest --state "$master")" -ge 1 ]'
check "for a number" drsfs wait 1 --state "$master" --timeout 5s
latest_has_it() {
	local i
	for i in {1..20}; do
		echo "$i" >"$M/latest" && drsfs wait latest --state "$master" --timeout 5s >/dev/null && [ "$(cat "$S1/latest" "$S2/latest")" = "$i"$'\n'"$i" ] || return
	done
}
check "what was written just before is in 'latest'" latest_has_it
check "for some slaves" drsfs wait latest --state "$master" --slaves slave2 --timeout 5s
check "on a slave" drsfs wait "$(version)" --state "$T/state/slave1" --timeout 5s
check "for what is not there yet: exit code 3" code 3 drsfs wait 999999 --state "$master" --timeout 300ms
check "for one that does not exist: it is named" refused nobody drsfs wait latest --state "$master" --slaves nobody --timeout 300ms
next=$(($(version) + 1))
drsfs wait $next --state "$master" --timeout 10s >/dev/null &
waiter=$!
echo two >"$M/two"
check "it returns when the version comes" wait $waiter
cluster stop slave2
echo three >"$M/three"
sync "$M"
check "a slave that is gone: it is named" refused slave2 drsfs wait latest --state "$master" --slaves slave1,slave2 --timeout 300ms
check "status shows it as gone" await 5 eval 'drsfs status --state "$master" | grep -q "^slave2 .*gone"'
cluster start slave2

step "log"
check "it lists versions" eval 'drsfs log --state "$master" | grep -qE "^ +$(version) +20[0-9][0-9]-"'
check "as many as asked" eval '[ "$(drsfs log -n 2 --json --state "$master" | wc -l)" = 2 ]'
check "a slave's, too" eval 'drsfs log --state "$T/state/slave1" | grep -qE "^ +$(version slave1) "'
check "no store: what to do" refused 'with --state' drsfs log --state /nonexistent

step "verify"
yes 'a marked line of a file that will be damaged' | head -c 100000 >"$M/marked"
equal
sound master slave1 slave2
cluster stop master
cluster stop slave1
check "also with no daemon" drsfs verify --state "$master"
cp -a "$T/state/slave1" "$T/state/damaged"
offset=$(grep -abo -m 1 'a marked line of a file' "$T/state/damaged/data.mdb" | head -n 1 | cut -d: -f1)
if [ -n "$offset" ]; then
	printf 'DAMAGE' | dd of="$T/state/damaged/data.mdb" bs=1 seek=$((offset + 10)) conv=notrunc status=none
	check "damage is found: exit code 1" code 1 drsfs verify --state "$T/state/damaged"
	check "and told" eval 'drsfs verify --state "$T/state/damaged" 2>&1 | grep -qi "damage\|hash\|chunk"'
else
	not_ok "the file's bytes are found in the store"
fi
cluster start master
cluster start slave1
