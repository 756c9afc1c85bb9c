#!/bin/bash
# A slave checks each version before it shows it, and runs a command after: what is refused stays hidden there, is told, and holds nobody back. (R3.3, R4.2, R4.5, F4)
. "$(dirname "$0")/../lib/lib.sh"
scenario "a check before, a command after"
cat >"$T/check" <<END
#!/bin/sh
# Refuses the word 'bad'; slow if the file 'slow' is there.
echo "\$DRSFS_VERSION" >>"$T/checked"
[ ! -e "\$DRSFS_TREE/slow" ] || sleep 100
grep -n bad "\$DRSFS_TREE/conf" >&2 || exit 0
echo "conf has a bad word"
exit 3
END
cat >"$T/after" <<END
#!/bin/sh
echo "\$DRSFS_NAME \$DRSFS_VERSION: \$(cat "\$DRSFS_TREE/conf")" >>"$T/told"
[ ! -e "\$DRSFS_TREE/no-reload" ] || { echo 'there is nothing to reload'; exit 1; }
END
chmod +x "$T/check" "$T/after"
export MASTER_OPTS='--beat-interval 200ms' SLAVE1_OPTS="--check $T/check --check-timeout 1s --after $T/after --after-timeout 5s"
up 2
prepared=$T/state/slave1/prepared
told() { grep -qx "slave1 [0-9]*: $1" "$T/told"; }
# A member of an inner object of slave1's status: inner check result
inner() {
	drsfs status --json --state "$T/state/slave1" | awk -v of="$1" -v key="$2" -F': ' '
		$1 ~ "^  \"" of "\"$" { inside = 1 } /^  }/ { inside = 0 }
		inside && $1 ~ "^    \"" key "\"$" { sub(/^[^:]*: "?/, ""); sub(/"?,?$/, ""); print }'
}
is() { [ "$(inner "$1" "$2")" = "$3" ]; }

step "a good version"
echo 'good 1' >"$M/conf"
equal
check "it was checked" grep -qx "$(version)" "$T/checked"
check "the check's mount is gone" test ! -e "$prepared"
check "then the command ran, with the new content in view" await 10 told 'good 1'
check "status tells of both" eval 'is check result ok && is after result ok && is check good true'
before=$(version slave1)

step "a bad one"
echo 'bad 1' >"$M/conf"
check "slave2 is not held back" eval 'cluster wait slave2 && grep -qx "bad 1" "$S2/conf"'
check "slave1 refuses it" await 20 is check result 'exit code 3'
check "it goes on showing the one before" grep -qx 'good 1' "$S1/conf"
check "at its version" eval '[ "$(version slave1)" = "$before" ]'
check "status says so" eval 'field slave1 trouble | grep -qx "version $(version) is refused by the check"'
check "and why" eval 'drsfs status --state "$T/state/slave1" | grep -qx "  conf has a bad word"'
check "so does the log, once" eval '[ "$(grep -c "refuses version.*conf has a bad word" "$T/log/slave1")" = 1 ]'
check "nobody was told of it" eval '! told "bad 1"'
check "the check's mount is gone" test ! -e "$prepared"

step "a restart does not make it better"
check "slave1 is killed" cluster kill slave1
check "and starts" cluster start slave1
check "at the good version" eval 'grep -qx "good 1" "$S1/conf" && [ "$(version slave1)" = "$before" ]'
check "it refuses again" await 20 is check result 'exit code 3'

step "the next good one goes through"
echo 'good 2' >"$M/conf"
equal
check "the command ran" await 10 told 'good 2'
check "the trouble is over" eval '[ -z "$(field slave1 trouble)" ]'

step "a larger bad one, pulled; then a good one"
cp -a "$root/store" "$M/" && head -c 3M /dev/urandom >"$M/random" && echo 'bad 2' >"$M/conf"
check "slave2 has it" cluster wait slave2
check "slave1 refuses it" await 20 is check output '1:bad 2\nconf has a bad word'
check "it shows the one before" eval 'grep -qx "good 2" "$S1/conf"'
echo 'good 3' >"$M/conf"
equal
check "the command ran" await 10 told 'good 3'

step "a check that takes too long"
touch "$M/slow"
check "is a refusal" await 20 is check result 'not done within 1 s'
check "nothing runs any more" eval '! pgrep -f "$T/check\$" >/dev/null'
check "slave1 shows the version before" test ! -e "$S1/slow"
rm "$M/slow"
equal

step "stopped and killed in the middle of a check"
touch "$M/slow"
check "it is being checked" await 10 test -e "$prepared"
check "slave1 stops at once" eval 'STOP_TIMEOUT=5 cluster stop slave1'
check "nothing is left mounted" eval '! grep -qF " $prepared " /proc/self/mountinfo'
check "no check runs any more" eval '! pgrep -f "$T/check\$" >/dev/null'
cluster start slave1
check "it is being checked again" await 10 grep -qF " $prepared " /proc/self/mountinfo
cluster kill slave1
cluster start slave1
check "it serves" grep -qx 'good 3' "$S1/conf"
rm "$M/slow"
equal
check "the check's mount is gone" eval '! grep -qF " $prepared " /proc/self/mountinfo && [ ! -e "$prepared" ]'

step "a command after that fails"
touch "$M/no-reload"
equal
check "is told in status" await 10 eval 'is after result "exit code 1" && is after output "there is nothing to reload"'
check "for people too" eval 'drsfs status --state "$T/state/slave1" | grep -q "after.*exit code 1"'
rm "$M/no-reload"
equal
check "and over with the next" await 10 is after result ok
sound slave1
