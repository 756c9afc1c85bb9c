#!/bin/bash
# Nobody writes on a slave: every kind of change is refused with EROFS. (R7, F8)
. "$(dirname "$0")/../lib/lib.sh"
scenario "a slave's mount is read-only"
up 1
mkdir "$M/dir"
echo content >"$M/file"
ln -s file "$M/link"
equal

readonly_words='Read-only file system'
cd "$S1" || exit
check "create" refused "$readonly_words" touch new
check "write" refused "$readonly_words" bash -c 'echo x >file'
check "append" refused "$readonly_words" bash -c 'echo x >>file'
check "truncate" refused "$readonly_words" truncate -s 0 file
check "unlink" refused "$readonly_words" rm -f file
check "mkdir" refused "$readonly_words" mkdir newdir
check "rmdir" refused "$readonly_words" rmdir dir
check "rename" refused "$readonly_words" mv -T file other
check "link" refused "$readonly_words" ln file hard
check "symlink" refused "$readonly_words" ln -s file soft
check "mkfifo" refused "$readonly_words" mkfifo pipe
check "chmod" refused "$readonly_words" chmod 600 file
check "chown" refused "$readonly_words" chown "$(id -u)" file
check "utimes" refused "$readonly_words" touch -d 2001-01-01 file
check "setxattr" refused "$readonly_words" setfattr -n user.a -v b file
cd / || exit
check "what is there can be read" grep -qx content "$S1/link"
equal
