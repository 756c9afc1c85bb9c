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
