#!/bin/bash
# One of everything that is odd, by rsync -aHAX: hard links, symlinks, xattrs, ACLs, fifos, devices, names of any bytes, sparse and empty
# files, deep directories, times before 1970 and beyond 2106. (F1)
. "$(dirname "$0")/../lib/lib.sh"
scenario "an odd tree"
up 2
odd_tree "$T/odd"

step "rsync -aHAX into the master's mount"
check "rsync takes all of it" rsync -aHAX --sparse "$T/odd/" "$M/odd/"
check "the copy equals the original" same_trees "$T/odd" "$M/odd"
equal

step "what rsync does not compare"
nanoseconds() { (cd "$1" && find . -printf '%p %TY-%Tm-%Td %TH:%TM:%TS %y %n\0' | sort -z); }
same_nanoseconds() { cmp <(nanoseconds "$1") <(nanoseconds "$2"); }
check "nanoseconds, types and link counts on the slave" same_nanoseconds "$M/odd" "$S1/odd"
check "hard links are one file on the slave" eval '[ "$(stat -c %i "$S1/odd/plain")" = "$(stat -c %i "$S1/odd/links/hard-link-2")" ]'
check "ACLs on the slave" eval 'getfacl -p "$S1/odd/plain" | grep -q "^user:12345:r--"'
check "a file of holes takes no room on the slave" eval '[ "$(du -k "$S1/odd/sparse-all-hole" | cut -f1)" -lt 100 ]'

step "and once more, built in place"
check "the same tree built directly in the mount" odd_tree "$M/built"
equal

step "changes to odd things"
mv "$M/odd/hard-link" "$M/odd/d/moved-hard-link"
rm "$M/odd/plain"
ln -sfn elsewhere "$M/odd/symlink"
setfattr -n user.note -v changed "$M/odd/d/moved-hard-link"
setfattr -x user.binary "$M/odd/d/moved-hard-link"
printf x | dd of="$M/odd/sparse-all-hole" bs=1 seek=5000000 conv=notrunc status=none
truncate -s 100 "$M/odd/random"
mv "$M/odd/d" "$M/odd/e"
equal
sound master slave1
