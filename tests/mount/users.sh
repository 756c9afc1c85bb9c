#!/bin/bash
# Ordinary users: modes count on both mounts. (F1)
. "$(dirname "$0")/../lib/lib.sh"
scenario "users"
[ "$(id -u)" = 0 ] || { skip "needs root to become somebody else"; exit 0; }
as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
chmod 755 "$T"
up 1
echo secret >"$M/secret" && chmod 600 "$M/secret"
echo public >"$M/public" && chmod 644 "$M/public"
mkdir "$M/closed" && chmod 700 "$M/closed" && echo x >"$M/closed/file"
mkdir -m 1777 "$M/tmp"
equal
for mount in "$M" "$S1"; do
	check "${mount##*/}: a user reads what is public" as 12345 grep -qx public "$mount/public"
	check "${mount##*/}: and not what is secret" refused 'Permission denied' as 12345 cat "$mount/secret"
	check "${mount##*/}: nor in a closed directory" refused 'Permission denied' as 12345 cat "$mount/closed/file"
done
check "a user may not write where root may" refused 'Permission denied' as 12345 touch "$M/new"
check "but in /tmp" as 12345 touch "$M/tmp/mine"
check "it is theirs" eval '[ "$(stat -c %u "$M/tmp/mine")" = 12345 ]'
check "another user may not remove it (sticky)" refused 'Operation not permitted' as 23456 rm -f "$M/tmp/mine"
equal

step "set-user-id programs and device nodes"
cp /usr/bin/id "$M/id" && chmod 4755 "$M/id"
mknod -m 666 "$M/zero" c 1 5
equal
for mount in "$M" "$S1"; do
	check "${mount##*/}: a program runs as its owner" eval '[ "$(as 12345 "$mount/id" -u)" = 0 ]'
	check "${mount##*/}: a device is one" eval '[ "$(as 12345 head -c 100 "$mount/zero" | wc -c)" = 100 ]'
done
cluster stop slave1
cluster stop master
export MASTER_OPTS="-o nosuid,nodev" SLAVE_OPTS="-o nosuid,nodev"
check "both start with nosuid,nodev" eval 'cluster start master && cluster start slave1'
unset MASTER_OPTS SLAVE_OPTS
for mount in "$M" "$S1"; do
	check "${mount##*/}: then a program runs as who calls it" eval '[ "$(as 12345 "$mount/id" -u)" = 12345 ]'
	check "${mount##*/}: and a device is refused" refused 'Permission denied' as 12345 head -c 100 "$mount/zero"
done
