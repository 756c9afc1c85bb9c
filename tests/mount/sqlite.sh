#!/bin/bash
# A database: what it has confirmed survives the death of its writers, and of the master, in every journal mode. (F1, F7)
. "$(dirname "$0")/../lib/lib.sh"
scenario "sqlite"
command -v sqlite3 >/dev/null || { skip "no sqlite3 here"; exit 0; }

# One writer: a transaction after another, each noted when it is confirmed. (In rollback mode it is by removing the journal, which only 'extra' syncs; and a
# directory that cannot be opened for that any more, as its daemon has just been killed, is no error to sqlite. So the daemon is asked once more.)
writer() { # writer DATABASE MODE WHO
	local n=1
	while sleep 0.001; do
		sqlite3 -bail -cmd '.timeout 30000' "$1" "pragma synchronous=extra; pragma journal_mode=$2; begin immediate; insert into t values($3, $n, randomblob(3000));
			insert into t values($3, -$n, randomblob(100)); commit;" >/dev/null 2>&1 && stat -f "$M" >/dev/null 2>&1 || continue
		echo $n >>"$T/confirmed-$2-$3"
		n=$((n + 1))
	done
}

write_a_while() { # write_a_while MODE…: two writers each, for a second
	local mode
	writers=()
	for mode in "$@"; do
		for who in 1 2; do
			: >"$T/confirmed-$mode-$who"
			writer "$M/$mode.db" "$mode" $who 2>/dev/null &
			writers+=($!) extra_pids+=($!)
		done
	done
	sleep 1.5
	for mode in "$@"; do await 30 grep -q . "$T/confirmed-$mode-1" && await 30 grep -q . "$T/confirmed-$mode-2"; done
}

# (The shell tells of each that was killed.)
end_writers() {
	local pid
	for pid in "${writers[@]}"; do
		kill -STOP "$pid" # it starts no other one
		pkill -KILL -P "$pid"
		kill -KILL "$pid"
	done
	wait "${writers[@]}"
} 2>/dev/null

ask() { sqlite3 -bail -cmd '.timeout 30000' "$M/$1.db" "$2"; }

whole() { # whole MODE: the database is sound, and has every transaction that was confirmed, with both its rows
	local who confirmed rows
	grep -q . "$T/confirmed-$1"-? || { echo "nothing was written"; return 1; }
	[ "$(ask "$1" 'pragma integrity_check')" = ok ] || { ask "$1" 'pragma integrity_check'; return 1; }
	for who in 1 2; do
		confirmed=$(tail -n 1 "$T/confirmed-$1-$who")
		rows=$(ask "$1" "select sum(n between 1 and ${confirmed:-0}), sum(n) from t where who = $who")
		echo "writer $who: '$confirmed' confirmed; there are '$rows'"
		[ "$rows" = "${confirmed:-0}|0" ] || [ -z "$confirmed" ] || return
	done
}

up 0
modes="wal delete"
for mode in $modes; do
	sqlite3 "$M/$mode.db" "pragma journal_mode=$mode; create table t(who int, n int, bytes blob, primary key(who, n))" >/dev/null
done
step "the master is killed"
write_a_while $modes
cluster kill master
end_writers
cluster unmount "$M"
check "it starts again" cluster start master
for mode in $modes; do check "$mode: nothing that was confirmed is missing" whole $mode; done

step "the writers are killed"
for mode in $modes; do sqlite3 "$M/$mode.db" 'delete from t'; done
write_a_while $modes
end_writers
for mode in $modes; do check "$mode: nothing that was confirmed is missing" whole $mode; done
