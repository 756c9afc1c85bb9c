#!/bin/bash
# Edits as people and scripts make them: vim (backup, rename), sed -i, appending, in place, through mmap, tail -f on a slave. (F1, F2, F3)
. "$(dirname "$0")/../lib/lib.sh"
scenario "edits"
up 2
seq 1 2000 >"$M/file"
equal

step "sed -i"
check "sed -i" sed -i 's/^1000$/one thousand/' "$M/file"
check "the slaves get it" cluster wait
check "the new line is there" grep -qx 'one thousand' "$S1/file"

step "vim"
vim=$(command -v vim || command -v vim.basic || command -v vim.tiny)
if [ -n "$vim" ]; then
	for options in 'set nowritebackup' 'set writebackup backupcopy=no' 'set backup backupcopy=yes'; do
		check "vim with '$options'" eval '"$vim" -N -u NONE -i NONE -es -c "$options" -c "500s/\$/ edited/" -c wq "$M/file" </dev/null'
	done
	check "three edits are there" eval '[ "$(sed -n 500p "$M/file")" = "500 edited edited edited" ]'
else
	skip "there is no vim here"
fi
equal

step "appending, and writing in place"
for i in {1..50}; do echo "line $i" >>"$M/log"; done
printf XXXX | dd of="$M/file" bs=1 seek=100 conv=notrunc status=none
truncate -s 5000 "$M/file"
equal

step "a reader on the slave keeps what it opened"
cp "$M/file" "$T/old"
exec 5<"$S1/file"
echo new >"$M/new" && mv "$M/new" "$M/file"
check "the slaves get it" cluster wait
check "a new open sees the new content" grep -qx new "$S1/file"
check "the old descriptor reads the old content to its end" eval 'cmp "$T/old" - <&5'
exec 5<&-

step "a file is not seen before its writer closes it"
exec 6>"$M/growing"
echo half >&6
touch "$M/other"
check "the slaves get what is finished" cluster wait
check "the finished file is there" test -e "$S1/other"
check "the unfinished one is not" test ! -e "$S1/growing"
echo done >&6
exec 6>&-
equal
check "the whole is there" eval '[ "$(wc -l <"$S1/growing")" = 2 ]'

step "fsync shows what is written so far"
check "dd conv=fsync" dd if=/dev/urandom of="$M/synced" bs=64k count=10 conv=fsync status=none
equal
