#!/bin/bash
# Heartbeats lost, doubled, late and out of order, links cut and silent, both ways, from a seed: slaves converge all the same. (R2.3, R3.3)
. "$(dirname "$0")/../lib/lib.sh"
scenario "a bad network"
seed=${SEED:-$RANDOM}
step "SEED=$seed"
port=$((20000 + RANDOM % 6000)) there=$((26000 + RANDOM % 6000))
group=239.255.$((RANDOM % 254 + 1)).$((RANDOM % 254 + 1)) far=239.255.$((RANDOM % 254 + 1)).$((RANDOM % 254 + 1))
# The master multicasts to one group and the slaves listen to another; links go the same way: all of it through the proxy.
"$build/lib/proxy" --seed "$seed" --loss 0.3 --dup 0.2 --reorder 0.2 --delay 2 --jitter 20 --cut 1500 --stall 0.2 --down 300 \
	--udp "$group/$port:$far/$port" --tcp "127.0.0.1/$there:127.0.0.1/$port" >"$T/proxy" 2>&1 &
extra_pids+=($!)
check "the proxy is ready" await 5 grep -q ready "$T/proxy"
export PORT=$port GROUP=$group:$port MASTER_OPTS='--beat-interval 200ms --link-timeout 2s'
export SLAVE_OPTS="--link-timeout 2s --master 127.0.0.1:$there --group $far:$port"
up 2

step "half a minute of changes"
last1=0 last2=0
never_back() { # the versions that the slaves are at only grow
	local now1 now2
	now1=$(version slave1) now2=$(version slave2)
	[ "${now1:-0}" -ge $last1 ] && [ "${now2:-0}" -ge $last2 ] || { echo "slave1 $last1 -> $now1, slave2 $last2 -> $now2"; return 1; }
	last1=${now1:-0} last2=${now2:-0}
}
for i in {1..6}; do
	cp -a "$root/store" "$M/store-$i"
	make_versions 30
	head -c 3M /dev/urandom >"$M/big-$i"
	rm -rf "$M/store-$((i - 2))"
	sleep 2
	if never_back; then ok "round $i: no slave went back"; else not_ok "round $i: a slave went back"; fi
done
equal
make_versions 50
equal
sound slave1 slave2
kill -TERM "${extra_pids[0]}"
await 5 eval '[ "$(wc -l <"$T/proxy")" -gt 1 ]'
step "the proxy: $(tail -n 1 "$T/proxy")"
