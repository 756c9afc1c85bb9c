#!/bin/bash
# Operations in a two-phase directory beside each other, beside refusals and beside batches that change the same directory: each is answered, none waits for another
# that waits for it. (R5, R4.7)
. "$(dirname "$0")/../lib/lib.sh"
scenario "a crowd in a two-phase directory"
printf '#!/bin/sh\n! grep -rq BAD "$DRSFS_TREE/strict" 2>/dev/null || { echo "BAD is there"; exit 1; }\n' >"$T/check" && chmod +x "$T/check"
export SLAVE2_OPTS="--check $T/check"
up 2
mkdir "$M/strict" && echo fine >"$M/strict/a" && echo BAD >"$T/bad"
setfattr -n user.drsfs.publish -v two-phase "$M/strict"
equal

makes() { for i in {1..60}; do mkdir "$1/$2$i" || return; done; }
refusals() { for _ in {1..40}; do ! cp "$T/bad" "$M/strict/a" 2>/dev/null || return; done; }
batches() { for i in {1..25}; do begin "$1-$i" && echo $i >"$view/strict/n$i" && echo $i >"$view/strict/b" && drsfs batch commit "$1-$i" || return; done; }
ends() { # ends TEXT PID…: all of them, well, in time
	local text=$1 pid
	shift
	for pid in "$@"; do check "$text" await 60 eval "! kill -0 $pid 2>/dev/null" && check "$text, and well" wait "$pid"; done
}

step "directories are made beside contents that are refused"
makes "$M/strict" d & one=$!
refusals & two=$!
ends "all are answered" $one $two
check "the refused content is nowhere" eval '[ "$(cat "$M/strict/a")" = fine ] && ! grep -rq BAD "$S1/strict" "$S2/strict"'

step "beside batches that change the same directory"
makes "$M/strict" e & one=$!
batches beside & two=$!
ends "all are answered" $one $two
equal

step "with the root itself two-phase"
setfattr -n user.drsfs.publish -v two-phase "$M"
makes "$M" r & one=$!
batches root & two=$!
refusals & three=$!
ends "all are answered" $one $two $three
equal

step "a file whose name is changed before it is closed"
check "rename does not wait: its close is judged" timeout 5 perl -e '
	my ($from, $to, $slave) = @ARGV;
	open(my $f, ">", $from) or die "$!\n";
	syswrite($f, "later\n") or die "$!\n";
	kill("STOP", $slave);
	rename($from, $to) or die "$!\n";
	kill("CONT", $slave);
	close($f) or die "$!\n";' "$M/strict/temporary" "$M/strict/final" "$(pid slave1)"
kill -CONT "$(pid slave1)"
check "it is there by that name" eval '[ "$(cat "$M/strict/final")" = later ] && cluster wait && [ "$(cat "$S1/strict/final")" = later ]'

step "who waits can be ended, and only that breaks it off"
kill -STOP "$(pid slave1)"
setsid mkdir "$M/strict/ended1" & one=$!
await 5 eval 'drsfs status | grep -q "is being agreed upon"'
setsid mkdir "$M/strict/d1/ended2" & two=$! # (in the same directory the kernel would not let it ask)
sleep 0.3
kill -TERM $two
check "who waits for his turn ends" await 5 eval "! kill -0 $two 2>/dev/null"
check "what is being agreed upon goes on" kill -0 $one
kill -KILL $one
check "who waits for the answer ends" await 5 eval "! kill -0 $one 2>/dev/null"
check "neither is there" eval '[ ! -e "$M/strict/ended1" ] && [ ! -e "$M/strict/d1/ended2" ]'
check "history tells" eval 'drsfs log --count 1 | grep -q "aborted.*cancelled"'
perl -e '$SIG{USR1} = sub { $n++ }; mkdir shift or die "$!\n"; $n or die "there was no signal"' "$M/strict/handles" 2>"$T/handles" & one=$!
await 5 eval 'drsfs status | grep -q "is being agreed upon"'
kill -USR1 $one
sleep 0.3
check "a signal that is handled breaks nothing off" kill -0 $one
kill -CONT "$(pid slave1)"
check "it ends well" eval "wait $one && [ -d '$M/strict/handles' ]"
equal

step "the master is stopped while operations wait"
kill -STOP "$(pid slave1)"
mkdir "$M/strict/waits1" 2>/dev/null & one=$!
sleep 0.2
mkdir "$M/strict/waits2" 2>/dev/null & two=$!
sleep 0.2
check "it stops" timeout 30 "$root/tests/cluster" stop "$T" master
kill -CONT "$(pid slave1)"
check "the first has failed" exits 1 wait $one
check "the second has failed" exits 1 wait $two
check "it starts" cluster start master
check "neither is there" eval '[ ! -e "$M/strict/waits1" ] && [ ! -e "$M/strict/waits2" ]'
equal
sound master slave1 slave2
