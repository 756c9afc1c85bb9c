#!/bin/bash
# Ordinary programs at work in a two-phase directory: what slaves accept goes on as anywhere, what one refuses fails in whatever way the program says so, and leaves
# names, contents and attributes of files as they were. (R5, F1, F2)
. "$(dirname "$0")/../lib/lib.sh"
scenario "programs in a two-phase directory"
# It refuses whatever has BAD in it, and notes of each version which one the master had then: the one before, in two phase.
cat >"$T/check" <<END
#!/bin/sh
now=\$("$DRSFS" status --json --state "$T/state/master" | sed -n 's/^  "version": \\([0-9]*\\),/\\1/p')
echo "\$DRSFS_VERSION \$now" >>"$T/checked"
! grep -rq BAD "\$DRSFS_TREE/strict" 2>/dev/null || { echo "BAD is there"; exit 1; }
END
chmod +x "$T/check"
export SLAVE2_OPTS="--check $T/check" MASTER_OPTS='--two-phase-timeout 30s'
up 2
strict=$M/strict
mkdir "$strict" "$M/lax" "$T/from" && cp -r "$root/man" "$T/from/" && mkdir "$T/from/drsfs" && cp "$root"/drsfs/[a-d]*.c "$T/from/drsfs/" && grep -rl BAD "$T/from" | xargs -r rm
setfattr -n user.drsfs.publish -v two-phase "$strict"
equal
export HOME=$T GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@localhost GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@localhost
git config --global init.defaultBranch main
git config --global --add safe.directory '*'

in_time() { timeout -k 5 60 "$@"; }
shell() { in_time bash -c "set -o pipefail; $1"; }
export T M S1 S2 strict
descriptors() { find "/proc/$(pid master)/fd" | wc -l; }
at_first=$(descriptors)
while [ ! -e "$T/enough" ]; do find "$M" -type f -exec cat {} + >/dev/null 2>&1; sleep 0.2; done & reader=$!
extra_pids+=($reader)

step "trees are copied"
check "cp -a" in_time cp -a "$T/from" "$strict/copied"
check "it is identical" same_trees "$T/from" "$strict/copied"
check "tar x" shell 'tar c -C "$T/from" . | tar x -C "$strict/" --one-top-level=unpacked'
check "it is identical" same_trees "$T/from" "$strict/unpacked"
check "rsync -a" in_time rsync -a "$T/from/" "$strict/synced/"
for file in "$T"/from/drsfs/*.c; do echo '/* more */' >>"$file"; done
check "rsync -a --inplace" in_time rsync -a --inplace "$T/from/" "$strict/synced/"
check "it is identical" same_trees "$T/from" "$strict/synced"
equal

step "git"
check "init, add, commit" shell 'git init -q "$strict/repository" && cp -r "$T/from/drsfs" "$strict/repository/" && cd "$strict/repository" && git add -A && git commit -qm one'
check "commit -a, gc, fsck" shell 'cd "$strict/repository" && sed -i s/struct/STRUCT/ drsfs/buffer.c && git commit -qam two && git gc -q && git fsck --full'
check "clone" in_time git clone -q "$strict/repository" "$strict/clone"
check "git finds it clean" eval '[ -z "$(git -C "$strict/clone" status --porcelain)" ]'
equal
check "the slave's copy is sound" git -C "$S2/strict/clone" fsck --full

step "editors"
seq 1 1000 >"$strict/file"
vim=$(command -v vim || command -v vim.basic || command -v vim.tiny)
edit() { in_time "$vim" -N -u NONE -i NONE -es -c "$1" -c "$2" -c wq "$strict/file" </dev/null; }
save() { # save FILE TEXT: as editors do that mean it
	in_time perl -MIO::Handle -e '
		my ($file, $text) = @ARGV;
		open(my $new, ">", "$file.new") or die "open: $!\n";
		print $new "$text\n";
		$new->flush && $new->sync or die "fsync: $!\n";
		close($new) or die "close: $!\n";
		rename("$file.new", $file) or die "rename: $!\n";' "$@"
}
check "sed -i" in_time sed -i 's/^500$/five hundred/' "$strict/file"
if [ -n "$vim" ]; then
	for options in 'set nowritebackup' 'set writebackup backupcopy=no' 'set writebackup backupcopy=yes'; do
		check "vim with '$options'" edit "$options" '500s/$/ edited/'
	done
	check "three edits are there" eval '[ "$(sed -n 500p "$strict/file")" = "five hundred edited edited edited" ]'
else
	skip "there is no vim here"
fi
check "written beside, synced, renamed over" eval 'for i in 1 2 3; do save "$strict/saved" "text $i" || exit; done'
check "the last is there" eval '[ "$(cat "$strict/saved")" = "text 3" ]'
equal

step "databases"
query() { in_time sqlite3 "$@"; }
if command -v sqlite3 >/dev/null; then
	for mode in delete wal; do
		check "sqlite, journal_mode=$mode" query "$strict/$mode" "pragma journal_mode=$mode; create table t(a); insert into t values(1); insert into t select a + 1 from t;"
		check "another process adds" query "$strict/$mode" "insert into t select a + 2 from t; pragma integrity_check;"
		check "all is there" eval '[ "$(sqlite3 "$strict/$mode" "select sum(a) from t")" = 10 ]'
	done
	equal
else
	skip "there is no sqlite3 here"
fi

step "in place"
check "dd conv=notrunc, again and again" shell 'for i in {1..9}; do echo $i | dd of="$strict/file" bs=1 seek=$((10 * i)) conv=notrunc status=none || exit; done'
check "truncate" shell 'truncate -s 100000 "$strict/file" && truncate -s 3000 "$strict/file"'
check "fallocate" shell 'fallocate -l 100000 "$strict/allocated" && fallocate -p -o 4096 -l 4096 "$strict/file"'
: >"$strict/log"
appenders=()
for i in 1 2 3 4; do for j in {1..25}; do echo "$i $j" >>"$strict/log" || exit; done & appenders+=($!); done
for i in "${appenders[@]}"; do check "an appender ends well" wait "$i"; done
check "every line is there" eval '[ "$(sort -u "$strict/log" | wc -l) $(wc -l <"$strict/log")" = "100 100" ]'
equal

step "a file is open for long"
# Not the shell's own descriptor: what it starts would close a copy of that.
mkfifo "$T/lines"
perl -MIO::Handle -e 'open(my $to, ">", $ARGV[0]) or die; $to->autoflush; print $to $_ while <STDIN>; close($to) or die' "$strict/long" <"$T/lines" & keeper=$!
extra_pids+=($keeper)
exec 7>"$T/lines"
echo first >&7
check "it is there on the master" await 10 grep -q first "$strict/long"
check "others are agreed upon meanwhile" shell 'for i in {1..10}; do echo $i >"$strict/n" && mv "$strict/n" "$strict/m$i" && mkdir "$strict/d$i" || exit; done'
check "its name changes" mv "$strict/long" "$strict/d1/long"
echo last >&7
check "slaves do not have it" eval 'cluster wait && [ ! -e "$S1/strict/d1/long" ] && [ ! -e "$S1/strict/long" ]'
exec 7>&-
check "it is closed" wait $keeper
check "it is there, whole" eval 'cluster wait && [ "$(cat "$S1/strict/d1/long")" = $'"'first\nlast'"' ]'

step "names and attributes: all of it is agreed upon"
# A slave that was asked in time may check once more: when the next question comes before the word that this one is decided.
one_phase() { awk '!seen[$1]++ && $2 >= $1 { print; found = 1 } END { exit !found }' "$T/checked"; }
cluster wait >/dev/null && rm -f "$T/checked"
check "made and changed" shell 'cd "$strict" && mkdir tree && ln -s x tree/symlink && mkfifo tree/fifo && ln file tree/linked && setfattr -n user.a -v b file && setfattr -x user.a file &&
	chmod 600 file && chown 1:1 file 2>/dev/null; touch -d 2020-01-01 tree/linked && chmod 700 tree && touch -d 2020-01-01 tree'
check "moved" shell 'mv "$strict/tree" "$strict/moved" && mv "$strict/moved" "$M/lax/" && mv "$M/lax/moved" "$strict/copied/" && mv "$strict/copied/man" "$M/lax/" && mv "$M/lax/man" "$strict/copied/man"'
check "over others" shell 'mv "$strict/m1" "$strict/m2" && mkdir "$strict/e" && mv -T "$strict/e" "$strict/d2"'
check "removed" in_time rm -r "$strict/unpacked" "$strict/clone" "$strict/synced"
check "nothing was one phase" eval 'cluster wait && [ -s "$T/checked" ] && ! one_phase'
touch "$T/enough"
wait $reader
equal

step "refused"
rm -rf "$strict" && mkdir -p "$strict/d" "$T/tree" "$M/lax/tree" && setfattr -n user.drsfs.publish -v two-phase "$strict"
seq 1 100 >"$strict/file" && seq 1 100 >"$strict/other" && seq 1 100 >"$M/lax/file" && echo BAD | tee "$M/lax/tree/x" >"$T/bad"
ln "$strict/other" "$M/lax/outside" && ln "$M/lax/file" "$strict/inside"
# All but the times of directories.
shape() { (cd "$M" && find . -type d -printf '%p %m %U\n' -o -printf '%p %y %m %U %s %n %T@ %l\n' && find . -type f -exec md5sum {} +) | sort; }
fails() { ! "$@" >/dev/null 2>&1; }
aborts() { drsfs log -n 100000 | grep -c aborted; }
refuses() { # refuses TEXT COMMAND…: it fails since a slave refuses it, and the tree is as before
	local text=$1
	shift
	shape >"$T/before"
	aborted=$(aborts)
	check "$text: fails" fails "$@"
	check "$text: a slave was asked" [ "$(aborts)" -gt "$aborted" ]
	shape >"$T/after"
	check "$text: all is as before" diff "$T/before" "$T/after"
}
refuses "cp" in_time cp "$T/bad" "$strict/new"
refuses "cp over a file" in_time cp "$T/bad" "$strict/file"
refuses "cp by a name outside, of a file in here" in_time cp "$T/bad" "$M/lax/outside"
refuses "cp by a name in here, of a file outside" in_time cp "$T/bad" "$strict/inside"
refuses "rsync" in_time rsync "$T/bad" "$strict/file"
refuses "rsync --inplace" in_time rsync --inplace "$T/bad" "$strict/file"
refuses "tar" in_time sh -c 'tar c -C "$1" bad | tar x -C "$2"' - "$T" "$strict/d"
refuses "sed -i" in_time sed -i s/50/BAD/ "$strict/file"
[ -z "$vim" ] || refuses "vim" edit 'set nowritebackup' '50s/$/ BAD/'
refuses "dd conv=notrunc" in_time dd if="$T/bad" of="$strict/file" conv=notrunc bs=1 seek=20
refuses "appending" in_time dd if="$T/bad" of="$strict/file" oflag=append conv=notrunc,fsync
refuses "written beside, synced, renamed over" save "$strict/file" BAD
refuses "a link" in_time ln "$M/lax/tree/x" "$strict/linked"
refuses "a tree moved in" in_time mv "$M/lax/tree" "$strict/"
refuses "a name moved before the close" in_time perl -e '
	open(my $f, ">", "$ARGV[0]/t") or exit 0;
	syswrite($f, "BAD\n") && rename("$ARGV[0]/t", "$ARGV[0]/file") or exit 0;
	exit !close($f)' "$strict"
if command -v sqlite3 >/dev/null; then
	query "$strict/db" "create table t(a); insert into t values('good');"
	check "sqlite says so" eval '! query "$strict/db" "insert into t values('"'BAD'"')" 2>/dev/null'
	check "and finds the old state" eval '[ "$(query "$strict/db" "pragma integrity_check; select a from t")" = $'"'ok\ngood'"' ]'
fi
equal
check "the master keeps no files open" await 10 eval '[ "$(descriptors)" -le "$at_first" ]'
sound master slave1 slave2
