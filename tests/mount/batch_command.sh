#!/bin/bash
# How the batch commands talk: what they ask, what they print, what they exit with; against a daemon that answers by a script. (R4.2, R4.3, R4.4, F8)
. "$(dirname "$0")/../lib/lib.sh"
scenario "the batch commands"
export DRSFS_STATE=$T/fake
mkdir "$T/fake" "$T/view" "$T/log"
answers() { cat >"$T/answers.new" && mv "$T/answers.new" "$T/answers"; }
answers <<<'{}'
"$build/lib/fake_daemon" "$T/fake" "$T/answers" >"$T/log/fake" 2>&1 &
fake=$!
extra_pids+=("$fake")
check "the daemon that answers by a script is ready" await 5 grep -q ready "$T/log/fake"
asked() { grep -qF -- "$1" "$T/fake/requests" || { cat "$T/fake/requests"; return 1; }; }
last_asked() { tail -n 1 "$T/fake/requests" | grep -qF -- "$1" || { tail -n 3 "$T/fake/requests"; return 1; }; }
# What a command prints on stdout (or stderr, first argument 2), all of it, is what stands on our stdin.
prints() {
	local from=$1 there
	shift
	if [ "$from" = 2 ]; then there=$("$@" 2>&1 >/dev/null); else there=$("$@" 2>/dev/null); fi
	diff <(cat) - <<<"$there"
}

step "help, and what is not understood"
for command in begin commit abort cancel list diff run; do
	check "drsfs batch $command --help" eval 'drsfs batch $command --help | grep -q "^Usage: drsfs batch $command"'
done
check "drsfs batch --help" eval 'drsfs batch --help | grep -q "^  commit "'
check "drsfs forget --help" eval 'drsfs forget --help | grep -q "^Usage: drsfs forget"'
check "no verb: exit code 2" exits 2 drsfs batch
check "an unknown verb: exit code 2" exits 2 drsfs batch comit 1
check "no batch is named: exit code 2" exits 2 drsfs batch commit
check "a flag of another command: exit code 2" exits 2 drsfs batch abort --require all 1
check "--require nobody: exit code 2" exits 2 drsfs batch commit --require 0 1
check "--require rubbish: exit code 2" exits 2 drsfs batch commit --require most 1
check "no time: exit code 2" exits 2 drsfs batch commit --timeout 0 1
check "a message that is too long: exit code 2" exits 2 drsfs batch commit --message "$(printf 'm%.0s' {1..201})" 1
check "a name that is a number: exit code 2" exits 2 drsfs batch begin --name 17
check "a name that is not text: exit code 2" exits 2 drsfs batch begin --name $'\xff'
check "run without a command: exit code 2" exits 2 drsfs batch run --
check "a mistake in run's flags is told before anything is begun" exits 2 drsfs batch run --require most -- touch "$T/ran"
check "and nothing ran" test ! -e "$T/ran"
check "nothing of all this was asked" test ! -s "$T/fake/requests"
check "no daemon: exit code 1, and what to do" refused 'no drsfs daemon runs on' drsfs batch list --state /nonexistent
check "a daemon that does not know batches: exit code 1" refused 'does not know that command' drsfs batch list

step "begin, list, diff, abort, cancel, forget"
answers <<<'{
	"batch-begin": [ { "ok": true, "id": 7, "name": "site", "path": "'"$T/view"'", "base": 41 } ],
	"batch-list": [ { "ok": true, "batches": [
		{ "id": 7, "name": "site", "state": "open", "base": 41, "begun": "2026-01-02T03:04:05Z", "changes": 3, "path": "/m/.drsfs/batch/7" },
		{ "id": 12, "name": "", "state": "proposed", "base": 40, "begun": "2026-01-02T03:04:06Z", "changes": 0, "path": "/m/.drsfs/batch/12" } ] } ],
	"batch-diff": [ { "ok": true, "changes": [ { "path": "etc/new", "change": "added" }, { "path": "etc/a\nb\u001b[2J", "change": "modified" },
		{ "path": "gone", "change": "removed" } ], "more": 5 } ],
	"batch-abort": [ { "ok": true } ],
	"batch-cancel": [ { "ok": false, "error": "no commit of that batch is going on" } ],
	"forget": [ { "ok": true } ]
}'
check "begin prints the path" prints 1 drsfs batch begin --name site <<<"$T/view"
check "it asked for the name" last_asked '"name":"site"'
check "begin without a name" drsfs batch begin
check "then none is asked for" last_asked '{"command":"batch-begin"}'
check "begin --json" eval 'drsfs batch begin --json | grep -q "\"id\":7.*\"base\":41"'
check "list" prints 1 drsfs batch list <<-'END'
	    ID  NAME              STATE       BEGUN                     BASE  CHANGES  PATH
	     7  site              open        2026-01-02T03:04:05Z        41        3  /m/.drsfs/batch/7
	    12  -                 proposed    2026-01-02T03:04:06Z        40        0  /m/.drsfs/batch/12
END
check "diff" prints 1 drsfs batch diff site <<-'END'
	A  etc/new
	M  etc/a?b?[2J
	D  gone
	and 5 more
END
check "a name is asked for as one" last_asked '"id":"site"'
check "diff --json" eval 'drsfs batch diff --json 7 | grep -q "\"change\": \"removed\""'
check "a number as a number" last_asked '"id":7'
check "abort" drsfs batch abort 7
check "cancel, when there is nothing to cancel: exit code 1" refused 'no commit of that batch' drsfs batch cancel site
check "forget" drsfs forget web1
check "it asked for the name" last_asked '"name":"web1"'

step "commit"
answers <<<'{ "batch-commit": [
	{ "votes": [ { "name": "web1", "answer": "asked" }, { "name": "web2", "answer": "unreachable" } ] },
	{ "votes": [ { "name": "web1", "answer": "prepared" }, { "name": "web2", "answer": "syncing" } ] },
	{ "ok": true, "version": 42, "ms": 12, "votes": [ { "name": "web1", "answer": "prepared" }, { "name": "web2", "answer": "prepared" } ] } ] }'
check "it tells the version and the time, and nothing else where there is no terminal" prints 1 drsfs batch commit 7 <<<'committed version 42 in 12 ms'
check "it asks for all, for ten seconds" last_asked '"id":7,"require":"all","timeout_ms":10000'
check "as it is told" drsfs batch commit 7 --require connected --timeout 2min --message 'a new site'
check "it asks" last_asked '"message":"a new site","require":"connected","timeout_ms":120000'
check "for so many" drsfs batch commit --require 3 site
check "it asks" last_asked '"id":"site","require":3'
check "--json prints the last line only" prints 1 drsfs batch commit --json 7 <<<'{"ok":true,"version":42,"ms":12,"votes":[{"name":"web1","answer":"prepared"},{"name":"web2","answer":"prepared"}]}'
on_terminal() { # What a terminal of 60 columns and $1 rows gets.
	local rows=$1
	shift
	script -fqec "stty rows $rows cols 60; $(printf '%q ' "$@")" /dev/null </dev/null | tr -d '\r'
}
check "on a terminal: a line each, painted anew" diff <(on_terminal 24 "$DRSFS" batch commit 7) - <<-END
	web1  asked
	web2  unreachable
	$(printf '\033')[2A$(printf '\033')[Jweb1  prepared
	web2  syncing
	$(printf '\033')[2A$(printf '\033')[Jweb1  prepared
	web2  prepared
	committed version 42 in 12 ms
END
check "on a small one: counts" diff <(on_terminal 3 "$DRSFS" batch commit 7) - <<-END
	1 unreachable, 1 asked
	$(printf '\033')[1A$(printf '\033')[J1 syncing, 1 prepared
	$(printf '\033')[1A$(printf '\033')[J2 prepared
	committed version 42 in 12 ms
END
answers <<<'{ "batch-commit": [ { "ok": true, "version": 41, "unchanged": true } ] }'
check "nothing was changed" prints 1 drsfs batch commit 7 <<<'nothing was changed: the version still is 41'

step "commit that fails"
answers <<<'{ "batch-commit": [ { "ok": false, "reason": "refused", "error": "2 slaves refused it", "votes": [
	{ "name": "db1", "answer": "unreachable" }, { "name": "web1", "answer": "refused", "reason": "nginx: unknown directive \"sever\"" }, { "name": "db2", "answer": "prepared" },
	{ "name": "web2", "answer": "refused", "reason": "nginx: unknown directive \"sever\"" }, { "name": "web3", "answer": "refused", "reason": "first\n\u001b[31msecond\n" },
	{ "name": "db3", "answer": "asked" }, { "name": "db4", "answer": "syncing" }, { "name": "db5", "answer": "not needed" }, { "name": "db6", "answer": "refused" } ] } ] }'
check "refused: exit code 1" exits 1 drsfs batch commit 7
check "the reasons, rolled up" prints 2 drsfs batch commit 7 <<-'END'
	drsfs batch commit: not committed: 2 slaves refused it
	  web1, web2: nginx: unknown directive "sever"
	  web3:
	    first
	    ?[31msecond
	  db6: refused
	  db1: not reachable
	  db3: has not answered
	  db4: was still syncing
END
check "--json: exit code 1, too" exits 1 drsfs batch commit --json 7
answers <<<'{ "batch-commit": [ { "ok": false, "reason": "timeout", "error": "not all had answered after 10 s", "votes": [ { "name": "db1", "answer": "asked" } ] } ] }'
check "time is up: exit code 3" exits 3 drsfs batch commit 7
check "--json: exit code 3, too" exits 3 drsfs batch commit --json 7
answers <<<'{ "batch-commit": [ { "ok": false, "reason": "conflict", "error": "the live tree has changed in the same places", "conflicts": [ "etc/passwd", "etc/odd\u0007" ], "more": 2 } ] }'
check "conflicts: exit code 1" exits 1 drsfs batch commit 7
check "a path a line" prints 2 drsfs batch commit 7 <<-'END'
	drsfs batch commit: not committed: the live tree has changed in the same places
	  etc/passwd
	  etc/odd?
	  and 2 more
END
answers <<<'{ "batch-commit": [ { "ok": false } ] }'
check "no reason: exit code 1" exits 1 drsfs batch commit 7

step "Ctrl-C during a commit"
cancelled='{ "ok": false, "reason": "cancelled", "error": "cancelled", "votes": [] }'
answers <<<'{ "batch-commit": [ { "votes": [ { "name": "web1", "answer": "asked" } ] }, { "until": "batch-cancel" }, '"$cancelled"' ], "batch-cancel": [ { "ok": true } ] }'
: >"$T/fake/requests"
"$DRSFS" batch commit 7 >"$T/commit" 2>&1 &
commit=$!
await 5 asked batch-commit
kill -TERM $commit
wait $commit
check "exit code 1" test $? = 1
check "it told the daemon" asked '{"command":"batch-cancel","id":7}'
check "and the user, what came of it" grep -q 'not committed: cancelled' "$T/commit"
answers <<<'{ "batch-commit": [ { "sleep_ms": 20000 }, '"$cancelled"' ], "batch-cancel": [ { "ok": true } ] }'
: >"$T/fake/requests"
"$DRSFS" batch commit 7 >"$T/commit" 2>&1 &
commit=$!
await 5 asked batch-commit
kill -TERM $commit
await 5 asked batch-cancel
kill -TERM $commit
wait $commit
check "the second one does not wait any more" test $? = 143
check "and the daemon learns that nobody listens" await 5 asked '{"gone":"batch-commit"}'

step "run"
begun='"batch-begin": [ { "ok": true, "id": 8, "name": "", "path": "'"$T/view"'", "base": 41 } ], "batch-abort": [ { "ok": true } ]'
answers <<<'{ '"$begun"', "batch-commit": [ { "ok": true, "version": 42, "ms": 12, "votes": [] } ] }'
: >"$T/fake/requests"
check "exit code 0" drsfs batch run --name x --message why --timeout 5s -- sh -c 'pwd >here; echo "$DRSFS_BATCH $DRSFS_TREE $DRSFS_STATE" >environment'
check "the command was in the view" grep -qxF "$T/view" "$T/view/here"
check "and knew which" grep -qxF "8 $T/view $T/fake" "$T/view/environment"
check "it began one by that name" asked '{"command":"batch-begin","name":"x"}'
check "and committed it as told" last_asked '{"command":"batch-commit","id":8,"message":"why","require":"all","timeout_ms":5000}'
check "stdout is the command's" prints 1 drsfs batch run echo -n hello <<<'hello'
check "the command's flags are its own" prints 1 drsfs batch run printf '%s %s\n' --name -t <<<'--name -t'
check "stderr tells the version" prints 2 drsfs batch run true <<<'committed version 42 in 12 ms'
check "the command's exit code is passed on" exits 5 drsfs batch run -- sh -c 'exit 5'
check "and the batch is aborted" last_asked '{"command":"batch-abort","id":8}'
check "a signal's, too" exits 137 drsfs batch run -- sh -c 'kill -KILL $$'
check "a command that is not there: 127" exits 127 drsfs batch run -- "$T/nonexistent"
check "one that cannot be run: 126" exits 126 drsfs batch run -- "$T/answers"
check "and the batch is aborted" last_asked '{"command":"batch-abort","id":8}'
"$DRSFS" batch run -- sh -c 'trap "echo got it; exit 0" TERM; echo on >running; while :; do sleep 0.05; done' >"$T/run" 2>&1 &
run=$!
await 5 test -e "$T/view/running"
kill -TERM $run
wait $run
check "a signal is passed on, and then nothing is committed: 143" test $? = 143
check "the command got it" grep -qx 'got it' "$T/run"
check "and the batch is aborted" last_asked '{"command":"batch-abort","id":8}'
answers <<<'{ '"$begun"', "batch-commit": [ { "ok": false, "reason": "timeout", "error": "time is up" } ] }'
check "what cannot be committed: exit code 1" exits 1 drsfs batch run true
check "is aborted" last_asked '{"command":"batch-abort","id":8}'
answers <<<'{ "batch-begin": [ { "ok": false, "error": "there are too many batches" } ] }'
check "what cannot be begun does not run" refused 'too many batches' drsfs batch run -- touch "$T/ran"
check "indeed" test ! -e "$T/ran"
answers <<<'{ "batch-begin": [ { "ok": true, "id": 8, "path": "'"$T/nowhere"'" } ], "batch-abort": [ { "ok": true } ] }'
check "nor what has no view" refused "$T/nowhere" drsfs batch run -- touch "$T/ran"
check "indeed" test ! -e "$T/ran"

step "a daemon that goes away in the middle"
answers <<<'{ "batch-commit": [ { "sleep_ms": 20000 }, { "ok": true } ] }'
: >"$T/fake/requests"
"$DRSFS" batch commit 7 >"$T/commit" 2>&1 &
commit=$!
await 5 asked batch-commit
kill -KILL $fake
wait $commit
check "exit code 1" test $? = 1
check "and where to look for what came of it" grep -q "drsfs log" "$T/commit"
