#!/bin/bash
# Being a daemon: one on a state directory, stale mounts, signals, the background, systemd. (F8)
. "$(dirname "$0")/../lib/lib.sh"
scenario "daemons"
up 1
echo one >"$M/one"
equal

step "a second daemon on the same state"
mkdir "$T/other"
check "is refused" refused 'another drsfs daemon uses this state directory' timeout 20 "$DRSFS" master --state "$T/state/master" --listen 127.0.0.1:0 --group none "$T/other"
check "the first goes on" eval 'echo two >"$M/two" && cluster wait'

step "the other role on a state"
cluster stop slave1
check "a master on a slave's state is refused" refused 'belongs to the other role' timeout 20 "$DRSFS" master --state "$T/state/slave1" --listen 127.0.0.1:0 --group none "$T/other"
check "slave1 starts again" cluster start slave1

step "a mountpoint that is not there"
check "is told" refused "$T/nowhere" timeout 20 "$DRSFS" master --state "$T/state/new" --listen 127.0.0.1:0 --group none "$T/nowhere"
check "by a slave, too" refused "$T/nowhere" timeout 20 "$DRSFS" slave --state "$T/state/newer" --master 127.0.0.1:1 --group none --wait-first=no "$T/nowhere"

step "a port that is taken"
# shellcheck source=/dev/null
port=$(. "$T/cluster" && echo "$port")
check "is told" refused "$port" timeout 20 "$DRSFS" master --state "$T/state/new" --listen "127.0.0.1:$port" --group none "$T/other"

step "stale mounts"
cluster kill master
cluster kill slave1
check "the dead mount is dead" refused 'not connected' ls "$M"
check "the master starts over it" cluster start master
check "the slave, too" cluster start slave1
check "what was written is there" grep -qx two "$M/two"
equal

step "signals, with a file open and a shell inside"
exec 5<"$M/one"
check "SIGTERM ends it" cluster stop master
exec 5<&-
check "and it has unmounted" eval '! grep -qF " $M " /proc/self/mountinfo'
check "it starts" cluster start master
check "SIGINT, too" eval 'kill -INT "$(pid master)" && await 10 test ! -e "/proc/$(pid master)"'
check "and it has unmounted" eval '! grep -qF " $M " /proc/self/mountinfo'
cluster start master
check "drsfs stop, too" eval 'drsfs stop --state "$T/state/master" && await 10 test ! -e "/proc/$(pid master)"'
cluster start master
check "and umount from outside" eval '"$root/tests/cluster" unmount "$M" && await 10 test ! -e "/proc/$(pid master)"'

step "in the background"
options=(--state "$T/state/back" --listen 127.0.0.1:0 --group none --pid-file "$T/back.pid" --log-file "$T/log/back")
check "drsfs master -d returns" timeout 20 "$DRSFS" master -d "${options[@]}" "$T/other"
check "when it is mounted" grep -qF " $T/other " /proc/self/mountinfo
check "with a pid file" test -d "/proc/$(cat "$T/back.pid")"
extra_mounts+=("$T/other")
check "a second one says why not, and returns 1" eval 'refused "another drsfs daemon" timeout 20 "$DRSFS" master -d "${options[@]}" "$T/slave1"'
check "it takes writes" eval 'echo x >"$T/other/x"'
check "drsfs stop ends it" eval 'process=$(cat "$T/back.pid") && drsfs stop --state "$T/state/back" && await 10 test ! -e "/proc/$process"'
check "its pid file is gone" test ! -e "$T/back.pid"

step "a mountpoint that is not UTF-8"
odd=$T/$'odd\xff'
mkdir "$odd"
check "drsfs master -d returns" timeout 20 "$DRSFS" master -d "${options[@]}" "$odd"
extra_mounts+=("$odd")
check "its status can be had" eval 'drsfs status --state "$T/state/back" | grep -q "mounted on $T/odd?"'
check "drsfs stop ends it" eval 'process=$(cat "$T/back.pid") && drsfs stop --state "$T/state/back" && await 10 test ! -e "/proc/$process"'

step "as systemd would start it"
perl -MSocket -e '
	socket(my $in, PF_UNIX, SOCK_DGRAM, 0) or die $!;
	bind($in, sockaddr_un($ARGV[0])) or die $!;
	open(my $out, ">", $ARGV[1]) or die $!;
	while (defined recv($in, my $text, 4096, 0)) { syswrite($out, $text) }' "$T/notify" "$T/notified" &
extra_pids+=($!)
await 5 test -S "$T/notify"
NOTIFY_SOCKET=$T/notify "$DRSFS" master "${options[@]}" "$T/other" >>"$T/log/back" 2>&1 &
process=$!
extra_pids+=($process)
check "it tells READY=1" await 10 grep -qx 'READY=1' "$T/notified"
check "and then is mounted" grep -qF " $T/other " /proc/self/mountinfo
kill -TERM $process
check "it tells STOPPING=1" await 10 grep -qx 'STOPPING=1' "$T/notified"
check "it ends with exit code 0" wait $process
