#!/bin/bash
# The crash matrix: for every fault point in the sources (drsfs/fault.h), before and after each durable step and each send of master and slave, a commit in which the
# process ends there as by SIGKILL. It is started again, and then: nobody has ever shown what was aborted, nobody stays prepared, all converge to equal digests, no
# number is used twice. No point is skipped: one at which nothing dies is a failure. (R4.8, R1.1, R1.4)
#
#   tests/mount/crash_matrix.sh [POINT…]      only these
#
# A point is met in the first of several plays (small, large, refused, …) that leads there; with THOROUGH=1 in each that does.
. "$(dirname "$0")/../lib/lib.sh"
TIMEOUT=20
scenario "crash matrix"
check "the program with fault points is built" env MAKEFLAGS= MFLAGS= make -j"$(nproc)" -C "$root" --no-print-directory V=fault all || exit
DRSFS=$root/build/fault/bin/drsfs
if [ $# -gt 0 ]; then
	points=("$@")
else
	mapfile -t points < <(cd "$root" && grep -rhoE 'FAULT(_SENT)?\("[^"]+"' drsfs master slave store --include='*.c' | sed 's/.*"\(.*\)"/\1/' | sort -u)
fi
check "there are points (${#points[@]})" test ${#points[@]} -gt 0 || exit
make_check
export MASTER_OPTS='--beat-interval 100ms --link-timeout 1s' SLAVE_OPTS="--link-timeout 1s --check $T/check"
export SLAVE3_OPTS='--group none' # told one by one, which has points of its own
up 3
echo token-0 >"$M/token"
equal

# What each mount shows as its token, as it changes: 'slave1 token-5' a line. It holds nothing open, so it keeps no mount from going.
perl -e '
	my ($dir, %last) = @ARGV; $| = 1;
	while (!-e "$dir/watched-enough") {
		for my $name ("slave1", "slave2", "slave3") {
			open(my $f, "<", "$dir/$name/token") or next;
			my $token = <$f> // next; close($f); chomp($token);
			print "$name $token\n" if ($last{$name} // "") ne $token;
			$last{$name} = $token;
		}
		select(undef, undef, undef, 0.002);
	}' "$T" >"$T/shown" 2>/dev/null &
extra_pids+=($!)

dead() { # a process: gone, or a zombie that nobody has waited for; but not while another of its threads still ends, with its lock on the state
	local state
	state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)
	[ -z "$state" ] || { [ "$state" = Z ] && [ "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -le 1 ]; }
}
died_at() { # 'victim' has ended, and by the point: it says so
	dead "$victim_pid" && grep -qF "fault point $point: killed" "$T/log/$victim"
}
# The victim runs, and is to end when it passes the point for the so manieth time.
start_armed() {
	DRSFS_FAULT=$point:$pass NOWAIT=1 cluster start "$victim"
	victim_pid=$(pid "$victim")
}
arm() {
	cluster stop "$victim"
	: >"$T/log/$victim"
	start_armed
	await 10 eval 'dead $victim_pid || drsfs status --state "$T/state/$victim"'
	await 10 linked
}
linked() { # all slaves are there, or the victim is dead
	dead "$victim_pid" || drsfs wait latest --timeout 1s --slaves slave1,slave2,slave3
}

# --- the plays: each goes on until the victim is dead or the play is over; true: it is dead. A commit of theirs is $commit, or none ('').

number=0
write_batch() { # write_batch [BYTES]
	number=$((number + 1)) commit=''
	begin "batch-$number" && echo "token-$number" >"$view/token" && head -c "${1:-100}" /dev/urandom >"$view/filler"
}
until_dead() { # or until the commit has ended, and a moment more for what follows it
	local until=$((SECONDS + 12))
	while ! dead "$victim_pid"; do
		if [ $SECONDS -ge $until ]; then return 1; fi
		if [ -z "$commit" ] || ! kill -0 "$commit" 2>/dev/null; then
			for _ in {1..40}; do ! dead "$victim_pid" || return 0; sleep 0.02; done
			return 1
		fi
		sleep 0.02
	done
}
play_small() { # the delta goes along with the asking
	write_batch && commit "batch-$number" --timeout 15s && until_dead
}
play_large() { # and here it is pulled
	write_batch 300K && commit "batch-$number" --timeout 15s && until_dead
}
play_refused() { # another refuses, when the victim is prepared
	local other=slave2
	write_batch && echo no >"$view/refuse-$other" && hold $other && commit "batch-$number" --timeout 15s || return
	await 5 eval 'dead $victim_pid || is_prepared slave1'
	release $other
	until_dead
}
play_refuses() { # slave1 refuses
	write_batch 300K && echo no >"$view/refuse-slave1" && commit "batch-$number" --timeout 15s && until_dead
}
play_timeout() { # nobody answers in time
	write_batch && hold slave2 && commit "batch-$number" --timeout 700ms || return
	until_dead
	local code=$?
	release slave2
	return $code
}
play_cancelled() {
	write_batch && hold slave2 && commit "batch-$number" --timeout 15s || return
	await 5 eval 'dead $victim_pid || is_prepared slave1'
	drsfs batch cancel "batch-$number" >/dev/null 2>&1
	until_dead
	local code=$?
	release slave2
	return $code
}
play_behind() { # slave1 lacks the version before, and syncs first
	[ "$victim" = slave1 ] || return 1
	kill -STOP "$victim_pid"
	head -c 300K /dev/urandom >"$M/live-$number" && sync "$M/live-$number"
	write_batch && commit "batch-$number" --timeout 15s
	kill -CONT "$victim_pid"
	until_dead
}
play_live() { # a change beside a commit
	write_batch && hold slave2 && commit "batch-$number" --timeout 15s || return
	head -c 100K /dev/urandom >"$M/live-$number"
	release slave2
	until_dead
}
play_restart() { # the process is killed while it is prepared, or has proposed, and the point lies on the way back
	write_batch && hold slave2 && commit "batch-$number" --timeout 15s || return
	await 5 is_prepared slave1
	cluster kill "$victim"
	start_armed
	await 3 dead "$victim_pid"
	release slave2
	until_dead
}
# All of them; by a point's name, what is tried first.
plays_of() {
	case $1 in
	*abort* | *unprepare*) echo refused refuses timeout cancelled small large behind live restart ;;
	*pull* | *stream* | *source*) echo large behind small refused refuses timeout cancelled live restart ;;
	*) echo small large refused refuses timeout cancelled behind live restart ;;
	esac
}

# --- afterwards

numbers() { # what the master's history says of every number: 'NUMBER STATE'
	drsfs log -n 0 --json | sed 's/.*"version":\([0-9]*\).*"state":"\([a-z]*\)".*/\1 \2/' | sort -n
}
history_holds() { # nothing that was told of a number before is told otherwise now, but for what is retired
	numbers >"$T/numbers"
	local wrong
	wrong=$(awk 'NR == FNR { was[$1] = $2; next } ($1 in was) && was[$1] != "proposed" && was[$1] != $2 { print $1, was[$1], $2 }' "$T/history" "$T/numbers")
	[ -z "$wrong" ] || { echo "number, what it was, what it is: $wrong"; return 1; }
	cp "$T/numbers" "$T/history"
}
highest() { tail -n 1 "$T/history" | cut -d' ' -f1; }
master_token() { cat "$M/token"; }
never_shown() { # a token that was not committed
	! grep "$1\$" "$T/shown" || return 1
}
nobody_prepared() {
	local name
	for name in slave1 slave2 slave3; do not_prepared $name || { echo "$name is prepared"; return 1; }; done
}
same_everywhere() {
	local name
	cluster wait slave1 slave2 slave3 || return
	for name in slave1 slave2 slave3; do same_digests $name || return; done
}
is_open() { drsfs batch list | awk -v name="$1" '$2 == name { found = 1 } END { exit !found }'; }

# One line for a good end of one play; what is wrong is told by the claim that fails.
aftermath() {
	local code='' bad=$failed
	cluster kill "$victim" # its pid file goes
	check "$what: $victim starts again" cluster start "$victim" || return
	release slave1 slave2 slave3
	if [ -n "$commit" ]; then
		await 20 dead "$commit"
		wait "$commit"
		code=$?
	fi
	await "$TIMEOUT" same_everywhere
	check "$what: all converge to equal digests" same_everywhere
	check "$what: nobody is prepared any more" await 15 nobody_prepared
	if [ "$(master_token)" != "token-$number" ]; then
		[ "$code" != 0 ] || not_ok "$what: the commit was said to be good, and is not there"
		check "$what: the aborted one was never shown" never_shown "token-$number"
	elif [ "$victim" != master ] && [ "${code:-0}" != 0 ]; then # a master that dies may leave who asked in doubt; no other does
		not_ok "$what: the commit was said to have failed, and is there"
	fi
	check "$what: history has no number twice" history_holds
	# Its batch: what was not committed is open still, whole, and can be committed; with a number above all there were.
	if is_open "batch-$number"; then
		[ "$(master_token)" != "token-$number" ] || not_ok "$what: the batch was committed and is open still"
		await 10 test -e "$view/token"
		rm -f "$view"/refuse*
		check "$what: the batch, open still, can be committed" drsfs batch commit "batch-$number" --timeout 15s
	fi
	check "$what: the token is the batch's" eval '[ "$(master_token)" = "token-$number" ]'
	local before
	before=$(highest)
	check "$what: the next batch is committed" eval 'write_batch && drsfs batch commit "batch-$number" --timeout 15s'
	check "$what: all have it" same_everywhere
	history_holds >/dev/null
	check "$what: its number is above all there were" test "$(highest)" -gt "$before"
	rm -f "$M"/live-*
	[ $failed -eq $bad ]
}

# Does this victim die at the point in one of the plays? Then the claims are made. A point that it passes on its way into the cluster already is
# one more case, and then a later pass of it is looked for.
try() {
	victim=$1 victim_pid=0 commit='' view=''
	local play met=0
	for pass in 1 2 3 4; do
		what="$point ($victim, starting)"
		arm
		died_at || break
		ok "$what: it died there"
		aftermath
		met=1
	done
	for play in $(plays_of "$point"); do
		what="$point ($victim, $play)"
		"play_$play" >"$T/play" 2>&1
		if died_at; then
			ok "$what: it died there"
			aftermath
			met=1
			[ -n "${THOROUGH:-}" ] || return 0
			pass=1
			arm
			! died_at || { aftermath; break; } # it always dies on its way in
		else
			settle "$play"
		fi
	done
	cluster stop "$victim"
	check "$victim starts without the point" cluster start "$victim"
	[ $met = 1 ]
}

# After a play in which it did not die there: its commit ends, its batch goes.
settle() {
	release slave1 slave2 slave3
	[ -z "$commit" ] || wait "$commit"
	commit=''
	if dead "$victim_pid"; then
		not_ok "$what: it died, but not there"
		cluster kill "$victim"
		start_armed
	fi
	await 10 linked
	! is_open "batch-$number" || drsfs batch abort "batch-$number"
	rm -f "$M"/live-*
}

numbers >"$T/history"
began=$SECONDS
for point in "${points[@]}"; do
	case $point in
	master.*) try master || not_ok "$point: nothing dies there" ;;
	slave.*) try slave1 || not_ok "$point: nothing dies there" ;;
	*) # either
		tried=0
		for one in master slave1; do ! try $one || tried=$((tried + 1)); done
		[ $tried -gt 0 ] || not_ok "$point: nothing dies there"
		;;
	esac
done
touch "$T/watched-enough"
step "${#points[@]} points in $((SECONDS - began)) s"
check "versions were seen on all slaves" eval '[ "$(cut -d" " -f1 "$T/shown" | sort -u | wc -l)" = 3 ]'
goes_back() { awk '{ split($2, n, "-"); if (n[2] + 0 < last[$1] + 0) { print; bad = 1 } last[$1] = n[2] } END { exit !bad }' "$T/shown"; }
check "no slave's token ever went back" eval '! goes_back'
equal
sound master slave1 slave2 slave3
