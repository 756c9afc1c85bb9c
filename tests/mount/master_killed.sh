#!/bin/bash
# The master killed in the middle of cp: what fsync confirmed is there, numbers are never used again, slaves converge. (R1.1, F7)
. "$(dirname "$0")/../lib/lib.sh"
scenario "kill -9 of the master in the middle of cp"
export MASTER_OPTS='--beat-interval 200ms' SLAVE_OPTS='--link-timeout 2s'
up 2
last=0
for i in {1..5}; do
	step "round $i"
	(cp -a /usr/share/doc "$M/doc-$i" 2>/dev/null) &
	copier=$!
	extra_pids+=($copier)
	sleep "0.$((RANDOM % 8 + 1))"
	check "a file is written and synced" eval 'seq 1 $((i * 10000)) | dd of="$M/synced-$i" bs=64k conv=fsync status=none'
	seen=$(version slave2)
	cluster kill master
	wait $copier 2>/dev/null
	check "the master starts again over its stale mount" cluster start master || break
	now=$(version)
	check "it knows every version that a slave has seen ($seen, $now)" test "$now" -ge "$seen" -a "$now" -ge $last
	last=$now
	for ((j = 1; j <= i; j++)); do
		check "the synced file $j is there" cmp "$M/synced-$j" <(seq 1 $((j * 10000)))
	done
	check "the mount takes writes" eval 'rm -rf "$M/doc-$i" && echo $i >"$M/round"'
	equal
done
sound master slave1
