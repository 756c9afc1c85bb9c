#!/bin/bash
# Slaves check a batch before anybody sees it, with the programs that will read it: nginx and sudo, on their own configuration. (R4.2, R4.3, R4.5)
. "$(dirname "$0")/../lib/lib.sh"
PATH=$PATH:/usr/sbin:/sbin
scenario "checks on slaves"
command -v nginx >/dev/null && [ -r /etc/nginx/nginx.conf ] || { skip "there is no nginx here ('make deps')"; exit 0; }
command -v visudo >/dev/null && [ -r /etc/sudoers ] || { skip "there is no visudo here ('make deps'), or /etc/sudoers is root's"; exit 0; }

# The first slave is a web server, the second lets people in, the third takes what comes.
cat >"$T/check-nginx" <<'END'
#!/bin/sh
exec nginx -t -q -p "$DRSFS_TREE/nginx" -c "$DRSFS_TREE/nginx/nginx.conf" -g 'pid /dev/null;' 2>&1
END
cat >"$T/check-visudo" <<'END'
#!/bin/sh
exec visudo -c -f "$DRSFS_TREE/sudoers" 2>&1
END
cat >"$T/after-nginx" <<END
#!/bin/sh
echo "\$DRSFS_PREVIOUS -> \$DRSFS_VERSION, \$(grep -c worker_connections "\$DRSFS_TREE/nginx/nginx.conf")" >>"$T/after"
[ ! -e "\$DRSFS_TREE/after-fails" ]
END
chmod 755 "$T"/check-* "$T/after-nginx"
nginx_files() { # Debian's own, able to move: includes are relative, and no file outside is written or socket below 1024 bound
	cp -a /etc/nginx "$1/nginx" && ln -sfn ../sites-available/default "$1/nginx/sites-enabled/default" || return
	sed -i -e 's|/etc/nginx/||' -e '/^pid /d' -e '/modules-enabled/d' -e 's|/var/log/nginx/access.log|off|; s|/var/log/nginx/error.log|stderr|' "$1/nginx/nginx.conf" &&
		sed -i -e 's|listen 80 |listen 127.0.0.1:18080 |' -e '/listen \[::\]/d' "$1/nginx/sites-available/default"
}
export SLAVE1_OPTS="--check $T/check-nginx --after $T/after-nginx" SLAVE2_OPTS="--check $T/check-visudo"
mkdir "$T/first" && nginx_files "$T/first" && cp /etc/sudoers "$T/first/sudoers" && chmod 440 "$T/first/sudoers" || die "the files can be had"
check "nginx itself takes them" env DRSFS_TREE="$T/first" "$T/check-nginx"
check "visudo, too" env DRSFS_TREE="$T/first" "$T/check-visudo"
up 0
cp -a "$T/first/." "$M/"
for name in slave1 slave2 slave3; do check "$name starts" cluster start $name; done
equal slave1 slave2 slave3
is_as_before() { # $1: version, $2: digest
	local name
	for name in master slave1 slave2 slave3; do
		[ "$(field $name version) $(field $name digest)" = "$1 $2" ] || { echo "$name is at $(field $name version)"; return 1; }
	done
}

step "a batch that both take"
check "committed" drsfs batch run --message 'more connections' -- sed -i 's/worker_connections .*/worker_connections 1024;/' nginx/nginx.conf
equal slave1 slave2 slave3
check "slave1 has run what comes after, on what it shows" await 10 grep -q "> $(version), 1" "$T/after"

step "nginx refuses"
before=$(version) digest=$(field master digest)
check "a batch is begun" begin broken
check "a word is misspelt" sed -i 's/^\(.*\)sendfile on;/\1sendfiel on;/' "$view/nginx/nginx.conf"
check "visudo's file is changed well" eval 'echo "# a remark" >>"$view/sudoers"'
( while [ ! -e "$T/looked-enough" ]; do grep -qs sendfiel "$S1/nginx/nginx.conf" "$S2/nginx/nginx.conf" "$S3/nginx/nginx.conf" && touch "$T/seen"; done ) &
looker=$!
extra_pids+=("$looker")
check "not committed: exit code 1" exits 1 drsfs batch commit broken
check "the reason is nginx's own" refused 'unknown directive "sendfiel"' drsfs batch commit broken
check "and is slave1's" eval 'drsfs batch commit broken 2>&1 | grep -q "^ *slave1:"'
touch "$T/looked-enough"
wait $looker
check "no slave has shown it, not for a moment" test ! -e "$T/seen"
check "version and digest everywhere are as before" is_as_before "$before" "$digest"
for name in slave1 slave2 slave3; do check "$name is not prepared for anything" await 5 not_prepared $name; done
check "log has the number and why" eval 'drsfs log -n 5 | grep aborted | grep -q slave1'
check "mended, it is committed" eval 'sed -i s/sendfiel/sendfile/ "$view/nginx/nginx.conf" && drsfs batch commit broken'
check "with a number that was not used" test "$(version)" -gt $((before + 1))
equal slave1 slave2 slave3

step "visudo refuses"
before=$(version) digest=$(field master digest)
check "a batch is begun" begin locked-out
check "a line is cut short" eval 'echo "root ALL=(ALL" >>"$view/sudoers"'
check "the reason is visudo's own" refused 'syntax error' drsfs batch commit locked-out
check "as JSON, with the name" eval 'drsfs batch commit --json locked-out | grep -q "\"name\":\"slave2\",\"answer\":\"refused\""'
check "version and digest everywhere are as before" is_as_before "$before" "$digest"
check "both refuse: both are told" eval 'echo "nonsense;" >>"$view/nginx/nginx.conf"; drsfs batch commit locked-out 2>"$T/both"; grep -qE "slave[12]:" "$T/both"'
check "abort" drsfs batch abort locked-out
check "run: the batch is aborted, exit code 1" exits 1 drsfs batch run -- sh -c 'echo "root ALL=(ALL" >>sudoers'
check "none is left" eval '[ -z "$(drsfs batch list)" ]'

step "what comes after fails: told, not fatal"
check "committed" drsfs batch run -- touch after-fails
equal slave1 slave2 slave3
after_failed() { drsfs status --state "$T/state/slave1" | grep -q "'after' failed for version $(version)"; }
check "status of slave1 tells" await 10 after_failed
rm "$M/after-fails"
equal slave1 slave2 slave3

step "one phase: who refuses stays behind, and holds back nobody"
old=$(version slave1)
sed -i 's/sendfile on;/sendfiel on;/' "$M/nginx/nginx.conf"
check "the others have it" cluster wait slave2 slave3
check "slave3 shows it" grep -q sendfiel "$S3/nginx/nginx.conf"
trouble_is() { field slave1 trouble | grep -q "$1"; }
check "slave1 says why it does not" await 10 trouble_is 'sendfiel\|check'
check "and shows what it had" eval '! grep -q sendfiel "$S1/nginx/nginx.conf" && [ "$(version slave1)" = "$old" ]'
sed -i 's/sendfiel on;/sendfile on;/' "$M/nginx/nginx.conf"
equal slave1 slave2 slave3
check "the trouble is over" eval '[ -z "$(field slave1 trouble)" ]'

step "two phase mends it: slave1 agrees from the version that it has"
sed -i 's/sendfile on;/sendfiel on;/' "$M/nginx/nginx.conf"
echo "meanwhile" >"$M/meanwhile"
check "the others have it" cluster wait slave2 slave3
old=$(version slave1)
check "slave1 says why it does not" await 10 trouble_is 'sendfiel\|check'
check "a batch about something else is refused" exits 1 drsfs batch run -- touch else
check "the reason is nginx's, for the whole of it" eval 'drsfs batch run -- touch else 2>&1 | grep -q sendfiel'
check "slave1 is where it was, and says why" eval '[ "$(version slave1)" = "$old" ] && trouble_is "sendfiel\|check"'
check "one that mends it is committed" drsfs batch run -- sed -i 's/sendfiel on;/sendfile on;/' nginx/nginx.conf
equal slave1 slave2 slave3
check "with what came meanwhile" grep -q meanwhile "$S1/meanwhile"
check "the trouble is over" eval '[ -z "$(field slave1 trouble)" ]'
check "slave1 verifies" drsfs verify --state "$T/state/slave1"
