#!/bin/bash
# The network between the master and one slave is cut at each step of a commit: silent (what was under way arrives late) and lost. Nobody ever shows what was
# aborted, nobody stays prepared, all converge. (R4.2, R4.5, R4.8, R2.3)
. "$(dirname "$0")/../lib/lib.sh"
scenario "a cut network during a commit"
make_check
# slave1 hears the master through the proxy alone: its own group, its own port. slave2 and slave3 hear it directly.
port=$((20000 + RANDOM % 6000)) there=$((26000 + RANDOM % 6000))
group=239.255.$((RANDOM % 254 + 1)).$((RANDOM % 254 + 1)) far=239.255.$((RANDOM % 254 + 1)).$((RANDOM % 254 + 1))
proxy=''
connect() {
	"$build/lib/proxy" --udp "$group/$port:$far/$port" --tcp "127.0.0.1/$there:127.0.0.1/$port" >"$T/proxy" 2>&1 &
	proxy=$!
	extra_pids=("$proxy")
	await 5 grep -q ready "$T/proxy" || die "the proxy is ready"
}
# Two ways of cutting: the proxy stops, and what is on its way comes when it goes on; or it ends, and what is on its way is lost.
cut_silent() { kill -STOP $proxy; }
heal_silent() { kill -CONT $proxy; }
cut_lost() { kill -KILL $proxy; wait $proxy 2>/dev/null; }
heal_lost() { connect; }

connect
export PORT=$port GROUP=$group:$port MASTER_OPTS='--beat-interval 100ms --link-timeout 1s'
export SLAVE_OPTS="--link-timeout 1s --check $T/check" SLAVE1_OPTS="--master 127.0.0.1:$there --group $far:$port"
up 3
# The master sends unicast datagrams only to whom multicast does not reach: none goes beside the proxy.
check "slave1 hears by multicast, through the proxy" await 10 eval '[ "$(field slave1 path)" = multicast ]'
echo first >"$M/token"
equal

number=0
write_batch() { # a batch whose token is its number
	number=$((number + 1))
	begin "batch-$number" && echo "token-$number" >"$view/token" && head -c "${1:-100}" /dev/urandom >"$view/filler"
}
shows() { grep -qx "token-$number" "$T/$1/token"; }
nobody_shows() {
	local name
	for name in master slave1 slave2 slave3; do ! shows $name || { echo "$name shows it"; return 1; }; done
}
all_well() {
	local name
	equal || return
	for name in slave1 slave2 slave3; do check "$name is not prepared for anything" await 10 not_prepared $name; done
}
drop() { check "the batch is open still, and dropped" drsfs batch abort "batch-$number"; }

for how in silent lost; do
	step "$how: cut before it begins, healed in time"
	check "a batch is written" write_batch
	cut_$how
	commit "batch-$number" --timeout 30s
	check "the others are prepared, and wait" await 10 eval 'is_prepared slave2 && is_prepared slave3'
	check "nobody shows it" nobody_shows
	heal_$how
	check "committed" committed
	all_well
	check "slave1 shows it" shows slave1

	step "$how: cut before it begins, not healed"
	check "a batch is written" write_batch
	cut_$how
	check "time is up: exit code 3" exits 3 drsfs batch commit "batch-$number" --timeout 2s
	check "nobody shows it" nobody_shows
	heal_$how
	all_well
	check "nobody shows it" nobody_shows
	drop

	step "$how: cut after slave1 was asked, healed in time"
	check "a batch is written" write_batch
	hold slave1
	commit "batch-$number" --timeout 30s
	check "slave1 checks" held slave1
	cut_$how
	release slave1
	sleep 2
	check "nobody shows it" nobody_shows
	heal_$how
	check "committed" committed
	all_well
	check "slave1 shows it" shows slave1

	step "$how: cut after slave1 was asked, not healed: its answer does not arrive"
	check "a batch is written" write_batch
	hold slave1
	commit "batch-$number" --timeout 3s
	check "slave1 checks" held slave1
	cut_$how
	release slave1
	check "time is up: exit code 3" committed 3
	check "slave1 rolls back by itself" await 15 not_prepared slave1
	check "nobody shows it" nobody_shows
	heal_$how
	all_well
	check "nobody shows it" nobody_shows
	drop

	step "$how: cut after slave1 has prepared; then another refuses"
	check "a batch is written" write_batch
	echo no >"$view/refuse-slave2"
	hold slave2
	commit "batch-$number" --timeout 30s
	check "slave1 is prepared" await 10 is_prepared slave1
	check "slave2 checks" held slave2
	cut_$how
	release slave2
	check "refused: exit code 1" committed 1
	check "slave1, which does not know, shows nothing" nobody_shows
	heal_$how
	all_well
	check "nobody shows it" nobody_shows
	drop

	step "$how: cut after slave1 has prepared; then it is committed"
	check "a batch is written" write_batch
	hold slave2
	commit "batch-$number" --timeout 30s
	check "slave1 is prepared" await 10 is_prepared slave1
	check "slave2 checks" held slave2
	cut_$how
	release slave2
	sleep 0.3
	# Its Ack is there; whether it counts after its link is given up too is the policy's. Both ends are right, a mixture is not.
	if wait $commit; then
		ok "committed, without a word from slave1 any more"
		check "slave2 shows it" await 5 shows slave2
		heal_$how
		all_well
		check "slave1 shows it" shows slave1
	else
		check "not committed: nobody shows it" nobody_shows
		heal_$how
		all_well
		check "nobody shows it" nobody_shows
		drop
	fi

	step "$how: cut while slave1 pulls the batch"
	check "a batch of 20 MiB is written" write_batch 20M
	commit "batch-$number" --timeout 60s
	sleep 0.1
	cut_$how
	sleep 2
	check "nobody shows it, or all were done" eval 'nobody_shows || ! kill -0 $commit 2>/dev/null'
	heal_$how
	check "committed" committed
	all_well

	step "$how: cut right after the decision"
	check "a batch is written" write_batch
	check "committed" drsfs batch commit "batch-$number"
	cut_$how
	sleep 1
	check "slave2 shows it" await 5 shows slave2
	heal_$how
	all_well
	check "slave1 shows it" shows slave1
done
sound master slave1 slave2 slave3
