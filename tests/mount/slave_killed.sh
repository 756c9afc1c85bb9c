#!/bin/bash
# A slave killed in the middle of applying comes back at a version that was, never a mixture, and converges. (R1.4, R3.3)
. "$(dirname "$0")/../lib/lib.sh"
scenario "kill -9 of a slave while it applies"
export MASTER_OPTS='--beat-interval 200ms' SLAVE_OPTS='--link-timeout 2s'
up 2

# Pairs of files that always change together in one rename of their directory: a mixture would show.
writer() {
	local i
	for ((i = 1; i < 100000; i++)); do
		rm -rf "$M/next" && mkdir "$M/next" && head -c 200000 /dev/urandom >"$M/next/a" && cp "$M/next/a" "$M/next/b" || return
		cp -a "$root/store" "$M/next/" && rm -rf "$M/old" || return
		{ [ ! -e "$M/now" ] || mv "$M/now" "$M/old"; } && mv "$M/next" "$M/now" || return
	done
}
writer &
writer=$!
extra_pids+=($writer)
whole() { [ ! -e "$S1/now/a" ] || cmp "$S1/now/a" "$S1/now/b"; }
last=0
for i in {1..8}; do
	sleep "0.$((RANDOM % 9 + 1))"
	cluster kill slave1
	check "round $i: it starts again over its stale mount" cluster start slave1 || break
	now=$(version slave1)
	check "round $i: its version did not go back ($last, $now)" test "$now" -ge "$last"
	last=$now
done
kill $writer
wait $writer 2>/dev/null
equal
check "pairs are equal" whole
sound slave1
