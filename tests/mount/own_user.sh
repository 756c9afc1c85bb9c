#!/bin/bash
# A whole cluster of an ordinary user's own, without root, by fusermount3. (F1)
. "$(dirname "$0")/../lib/lib.sh"
# As root, and where /dev/fuse is only for root: in a mount namespace with a device that is for all, as on most machines.
if [ "$(id -u)" = 0 ] && [ -e /dev/fuse ] && [ -z "${OWN_USER:-}" ] && unshare --mount --propagation private true; then
	export OWN_USER=nobody # fusermount3 wants a user who has a name
	exec unshare --mount --propagation private "$0"
fi
scenario "a cluster of a user's own"
chmod 755 "$T"
if [ -n "${OWN_USER:-}" ]; then
	mount -t tmpfs -o mode=755,dev none /mnt && mknod -m 666 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse || { skip "no device can be made here"; exit 0; }
	as_user() { setpriv --reuid "$OWN_USER" --regid "$(id -g "$OWN_USER")" --clear-groups "$@"; }
else
	as_user() { "$@"; }
fi
fusermount=$(command -v fusermount3) && [ -u "$fusermount" ] || { skip "there is no fusermount3 for users here"; exit 0; }
[ -e /etc/mtab ] || { skip "there is no /etc/mtab here, which fusermount3 wants"; exit 0; }
as_user test -x "$root/tests/cluster" || { skip "a user may not run the scripts in $root"; exit 0; }
as_user test -x "$DRSFS" || { cp "$DRSFS" "$T/drsfs" && chmod 755 "$T/drsfs" && DRSFS=$T/drsfs; }
mkdir "$T/own" && chown "${OWN_USER:-$(id -u)}" "$T/own"
extra_clusters+=("$T/own")
printf '#!/bin/sh\n[ ! -e "$DRSFS_TREE/bad" ] || { echo "bad is there"; exit 1; }\n' >"$T/check" && chmod 755 "$T/check"
export SLAVE1_OPTS="--check $T/check --inotify=yes"

check "it comes up" as_user "$root/tests/cluster" up "$T/own" 2 || exit
check "the user writes" as_user cp -r "$root/drsfs" "$T/own/master/"
check "an odd tree, too" as_user bash -c ". '$root/tests/lib/lib.sh'; odd_tree '$T/own/master/odd'"
check "and waits" as_user "$root/tests/cluster" wait "$T/own"
check "and reads" as_user diff -r "$root/drsfs" "$T/own/slave2/drsfs"
for slave in slave1 slave2; do
	check "$slave is identical" as_user bash -c ". '$root/tests/lib/lib.sh'; same_trees '$T/own/master' '$T/own/$slave'"
	check "nobody may write on $slave" as_user bash -c ". '$root/tests/lib/lib.sh'; refused 'Read-only file system' touch '$T/own/$slave/x'"
done
status() { as_user "$DRSFS" status --state "$T/own/state/slave1"; }
check "and it is said that nobody can watch" grep -q 'no inotify events on .*: Operation not permitted' "$T/own/log/slave1"
as_user touch "$T/own/master/bad"
check "slave2 has it" as_user "$root/tests/cluster" wait "$T/own" slave2
check "slave1, that checks, refuses it" await 10 eval 'status | grep -qx "  bad is there"'
check "and does not show it" as_user test ! -e "$T/own/slave1/bad"
as_user rm "$T/own/master/bad"
check "then the next is accepted" as_user "$root/tests/cluster" wait "$T/own"
# Batches: a view is mounted inside the user's mount, by the user.
batch() { as_user "$DRSFS" batch "$1" --state "$T/own/state/master" "${@:2}"; }
check "a batch begins" eval 'view=$(batch begin --name mine) && [ -n "$view" ]'
check "the user writes into it" as_user cp -r "$root/packaging" "$view/"
check "nobody sees it" as_user test ! -e "$T/own/master/packaging"
check "it is committed" batch commit mine
check "all have it" as_user "$root/tests/cluster" wait "$T/own"
check "slave1 is the same" as_user diff -r "$root/packaging" "$T/own/slave1/packaging"
check "one that slave1 refuses" eval 'view=$(batch begin --name no) && as_user touch "$view/bad" && refused "slave1: bad is there" batch commit no'
check "it is dropped" batch abort no
check "a two-phase directory" as_user setfattr -n user.drsfs.publish -v two-phase "$T/own/master"
check "refuses what slave1 refuses" refused 'Operation canceled' as_user mkdir "$T/own/master/bad"
check "takes the rest" as_user mkdir "$T/own/master/good"
check "it goes down" as_user "$root/tests/cluster" down "$T/own"
