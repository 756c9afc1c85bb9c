#!/bin/bash
# Readers on every slave loop over two files that each batch changes together: nobody sees one new and then the other old, half a file, or a version that goes
# back. BATCHES (500) of them. (R1.4, R4.3, R4.8, F2, F3, F4)
. "$(dirname "$0")/../lib/lib.sh"
batches=${BATCHES:-500} pairs=$build/lib/pairs
scenario "$batches batches, with readers"
export MASTER_OPTS='--retain-versions 50 --retain-time 0'
up 3
mkdir "$M/live"
check "the first pair" drsfs batch run -- "$pairs" write 1
equal

step "readers begin"
for name in slave1 slave2 slave3; do
	"$pairs" read "$batches" 300 "$T/$name" >"$T/readers-$name" 2>&1 &
	readers[${name#slave}]=$!
	extra_pids+=($!)
done
sleep 0.2
for i in 1 2 3; do check "those on slave$i run" kill -0 "${readers[i]}"; done

step "batches, and live changes between them"
began=$SECONDS
write_all() {
	local i
	for ((i = 2; i <= batches; i++)); do
		drsfs batch run --timeout 30s -- "$pairs" write "$i" >"$T/run" 2>&1 || { echo "batch $i:"; cat "$T/run"; return 1; }
		[ $((i % 5)) -ne 0 ] || echo "$i" >"$M/live/$((i % 50))" || return
	done
}
check "$batches batches are committed" write_all
step "that took $((SECONDS - began)) s"
for i in 1 2 3; do
	check "slave$i: no reader saw anything wrong" eval 'wait "${readers[i]}" || { cat "$T/readers-slave$i"; false; }'
	step "slave$i: $(tail -n 1 "$T/readers-slave$i")"
done
equal
check "no batch is left" eval '[ -z "$(drsfs batch list)" ]'
sound master slave1 slave2 slave3
