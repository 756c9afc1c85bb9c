#!/bin/bash
# Programs on a slave that watch files and directories are told what versions change, and find it when they look. (F5; the table is in
# slave/echo.h)
. "$(dirname "$0")/../lib/lib.sh"
scenario "inotify on a slave"
[ "$(id -u)" = 0 ] || { skip "only root's mounts have events"; exit 0; }
command -v inotifywait >/dev/null || { skip "there is no inotifywait here"; exit 0; }

# watch NAME [OPTION…] PATH…: from now on somebody watches; what comes is in $T/NAME, without the mount's path
looked_for=create,modify,attrib,close_write,moved_from,moved_to,move_self,delete,delete_self
watch() {
	local name=$1
	shift
	inotifywait -m -e $looked_for --format '%e %w%f' "$@" >"$T/$name" 2>"$T/$name.err" &
	extra_pids+=($!)
	await 10 grep -q 'Watches established' "$T/$name.err"
}

# told NAME [EVENTS NAME]…: these came after what was told of before, and nothing else
told() {
	local name=$1
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" >>"$T/$name.expected"
	touch "$T/$name.expected"
	cluster wait slave1 && { await 10 as_expected "$name" || { diff "$T/$name.expected" "$T/$name.got"; return 1; }; }
}
as_expected() { sed "s,$S1/,,; s/CLOSE_WRITE,CLOSE/CLOSE_WRITE/" "$T/$1" >"$T/$1.got" && cmp "$T/$1.expected" "$T/$1.got"; }

export SLAVE1_OPTS=--inotify=yes # slave2 has the default
up 2
mkdir -p "$M/dir/below" "$M/aside" "$M/sub/dir"
for name in seen unseen twice; do echo old >"$M/dir/$name"; done
echo inside >"$M/sub/dir/file"
equal
cat "$S1/dir/seen" >/dev/null # the kernel knows this file; of the others it has not heard
watch events "$S1" "$S1/dir"
watch silent "$S2" "$S2/dir"

step "files"
echo new >"$M/dir/new"
check "created" told events 'CREATE dir/new' 'CLOSE_WRITE dir/new'
check "what came is there" grep -qx new "$S1/dir/new"
echo more >>"$M/dir/new"
check "appended to" told events 'MODIFY dir/new' 'CLOSE_WRITE dir/new'
echo again >"$M/dir/seen"
check "written, one that was read before" told events 'MODIFY dir/seen' 'CLOSE_WRITE dir/seen'
echo again >"$M/dir/unseen"
check "written, one that nobody has looked at" told events 'MODIFY dir/unseen' 'CLOSE_WRITE dir/unseen'
truncate -s 0 "$M/dir/new"
check "truncated" told events 'MODIFY dir/new' 'CLOSE_WRITE dir/new'
chmod 600 "$M/dir/new"
check "chmod" told events 'ATTRIB dir/new'
touch -d 2001-01-01 "$M/dir/seen"
check "utimes" told events 'ATTRIB dir/seen'
setfattr -n user.a -v b "$M/dir/twice"
check "setxattr" told events 'ATTRIB dir/twice'
mv "$M/dir/new" "$M/dir/newer"
check "renamed" told events 'MOVED_FROM dir/new' 'MOVED_TO dir/newer'
mv "$M/dir/newer" "$M/newest"
check "renamed to another directory" told events 'MOVED_FROM dir/newer' 'MOVED_TO newest'
mv "$M/newest" "$M/aside/"
check "to one that nobody watches" told events 'MOVED_FROM newest'
mv "$M/aside/newest" "$M/dir/"
check "and back" told events 'MOVED_TO dir/newest'
mv "$M/dir/newest" "$M/dir/seen"
check "over another" told events 'MOVED_FROM dir/newest' 'MOVED_TO dir/seen'
ln "$M/dir/twice" "$M/dir/thrice"
check "one more name" told events 'CREATE dir/thrice'
rm "$M/dir/thrice"
check "one less" told events 'DELETE dir/thrice'
rm "$M/dir/twice"
check "removed" told events 'DELETE dir/twice'
begin replace && echo whole >"$view/dir/.tmp" && mv "$view/dir/.tmp" "$view/dir/seen" && drsfs batch commit replace >/dev/null
check "replaced as editors do, within one version" told events 'MOVED_TO dir/seen'
check "what came is there" grep -qx whole "$S1/dir/seen"
for i in 0 1; do
	echo $i >"$M/dir/log.$i"
	check "log.$i" told events "CREATE dir/log.$i" "CLOSE_WRITE dir/log.$i"
done
begin rotate && mv "$view/dir/log.1" "$view/dir/log.2" && mv "$view/dir/log.0" "$view/dir/log.1" && drsfs batch commit rotate >/dev/null
check "rotated: what makes room goes first" told events 'MOVED_FROM dir/log.1' 'MOVED_TO dir/log.2' 'MOVED_FROM dir/log.0' 'MOVED_TO dir/log.1'

step "directories, and what is neither"
mkdir "$M/dir/sub"
check "created" told events 'CREATE,ISDIR dir/sub'
echo x >"$M/dir/sub/file"
chmod 700 "$M/dir/sub"
check "chmod; what is in it is told to those who watch it" told events 'ATTRIB,ISDIR dir/sub'
mv "$M/dir/sub" "$M/moved"
check "renamed" told events 'MOVED_FROM,ISDIR dir/sub' 'MOVED_TO,ISDIR moved'
rm -r "$M/moved"
check "removed" told events 'DELETE,ISDIR moved'
chmod 711 "$M/dir"
check "chmod of one that is watched" told events 'ATTRIB,ISDIR dir' 'ATTRIB,ISDIR dir/'
ln -s one "$M/link"
check "symlink" told events 'CREATE link'
begin swing && ln -s two "$view/.new" && mv -T "$view/.new" "$view/link" && drsfs batch commit swing >/dev/null
check "symlink replaced" told events 'MOVED_TO link'
check "it leads there" test "$(readlink "$S1/link")" = two
mkfifo "$M/fifo"
check "fifo" told events 'CREATE fifo'

step "who watches a file or a directory itself"
echo 1 >"$M/dir/file" && mkdir "$M/dir/gone" && cluster wait slave1
watch file "$S1/dir/file"
watch gone "$S1/dir/gone"
echo 2 >"$M/dir/file"
check "a file that is written: written, then replaced" told file 'MODIFY dir/file' 'CLOSE_WRITE dir/file' 'ATTRIB dir/file' 'DELETE_SELF dir/file'
rmdir "$M/dir/gone"
check "a directory that is removed" told gone 'DELETE_SELF dir/gone/'
watch file2 "$S1/dir/file"
chmod 640 "$M/dir/file"
check "chmod" told file2 'ATTRIB dir/file'
ln "$M/dir/file" "$M/dir/file.link"
check "one more name" told file2 'ATTRIB dir/file'
rm "$M/dir/file.link"
check "one less" told file2 'ATTRIB dir/file'
mv "$M/dir/file" "$M/aside/file"
check "renamed, out of what is watched" told file2 'MOVE_SELF dir/file'
mv "$M/aside/file" "$M/dir/file"
check "and back" told file2 'MOVE_SELF dir/file'
exec 9<"$S1/dir/file"
rm "$M/dir/file"
check "removed, while somebody reads it" told file2 'ATTRIB dir/file' 'DELETE_SELF dir/file'
check "who goes on reading" grep -qx 2 /dev/fd/9
exec 9<&-

step "found again after its way was cut"
watch deep "$S1/sub/dir"
mv "$M/sub" "$M/other" && cluster wait slave1
echo more >"$M/other/dir/file"
check "a directory above was renamed" told deep 'MODIFY sub/dir/file' 'CLOSE_WRITE sub/dir/file'

step "a rename is one event in two"
inotifywait -m -e move --format '%c' "$S1/dir" >"$T/cookies" 2>"$T/cookies.err" &
extra_pids+=($!)
await 10 grep -q 'Watches established' "$T/cookies.err"
mv "$M/dir/log.2" "$M/dir/log.3" && cluster wait slave1
check "both have come" await 5 eval '[ "$(wc -l <"$T/cookies")" = 2 ]'
check "with one cookie" test "$(sort -u "$T/cookies" | wc -l)" = 1

step "programs"
echo "one" >"$M/dir/text" && mkdir "$M/conf" && echo 0 >"$M/conf/app.conf" && cluster wait slave1
tail -n +1 -F "$S1/dir/text" >"$T/tail" 2>/dev/null &
tail=$!
extra_pids+=($tail)
mkfifo "$T/changes"
inotifywait -m -e close_write,moved_to --format %f "$S1/conf" >"$T/changes" 2>"$T/reloader.err" &
extra_pids+=($!)
while read -r _; do cat "$S1/conf/app.conf" >>"$T/reloaded"; done <"$T/changes" &
extra_pids+=($!)
await 10 grep -q 'Watches established' "$T/reloader.err"
for i in 1 2 3; do
	echo "line $i" >>"$M/dir/text"
	echo $i >"$M/conf/app.conf"
	await 10 grep -qx $i "$T/reloaded"
done
check "tail -F follows a file that is appended to" await 10 grep -qx 'line 3' "$T/tail"
kill $tail # it would come back when it is to be unmounted
check "one that reloads upon close_write has reloaded each" test "$(tr '\n' ' ' <"$T/reloaded")" = '1 2 3 '
echo 4 >"$M/conf/.new" && mv "$M/conf/.new" "$M/conf/app.conf"
check "upon moved_to, what was renamed into place" await 10 grep -qx 4 "$T/reloaded"
(while [ ! -e "$T/many" ] && inotifywait -qq -e modify "$S1/dir/seen"; do cat "$S1/dir/seen" >>"$T/reloaded-file"; done) &
extra_pids+=($!)
# Between two waits it is not there, and misses what happens then.
written_and_seen() { echo "$1" >"$M/dir/seen" && cluster wait slave1 && await 1 grep -qx "$1" "$T/reloaded-file"; }
for i in one two three; do
	check "one that watches the file only: $i" await 20 written_and_seen $i
done

step "systemd's path units"
if [ -x /lib/systemd/systemd ]; then
	mkdir -p "$T/systemd/run" "$T/systemd/user" && echo 0 >"$M/conf/unit" && cluster wait slave1
	printf '[Path]\nPathChanged=%s\n' "$S1/conf/unit" >"$T/systemd/user/watched.path"
	printf '[Service]\nType=oneshot\nExecStart=/bin/cp %s %s\n' "$S1/conf/unit" "$T/unit" >"$T/systemd/user/watched.service"
	printf '[Unit]\nRequires=watched.path\n' >"$T/systemd/user/test.target"
	# A user's instance, in a mount namespace where the machine looks booted by systemd. Our mounts go from it when they go here.
	XDG_RUNTIME_DIR=$T/systemd/run XDG_CONFIG_HOME=$T HOME=$T unshare --mount --propagation slave bash -c '
		mount -t tmpfs none /run && mkdir /run/systemd /run/systemd/system && exec /lib/systemd/systemd --user --unit=test.target --log-target=console' >"$T/systemd/log" 2>&1 &
	extra_pids+=($!)
	manager=$!
	unit_changed() { echo "$1" >"$M/conf/unit" && cluster wait slave1 && await 2 grep -qx "$1" "$T/unit"; }
	for i in 1 2 3; do
		check "a service is started when its file has changed: $i" await 20 unit_changed $i
	done
	kill $manager && wait $manager
else
	skip "there is no systemd here"
fi

step "many versions, watched and read"
watch many -r "$S1"
(while [ -e "$T/many" ]; do find "$S1" -type f -exec cat {} + >/dev/null 2>&1; done) &
reader=$!
extra_pids+=("$reader")
make_versions 300
echo end >"$M/the-end"
equal slave1
check "told to the end" await 30 grep -q 'CLOSE_WRITE.*/the-end' "$T/many"
check "each of the files that were new" eval '[ "$(grep -c "CREATE .*/new-" "$T/many")" = 30 ]'
check "nothing was left out" refused '' grep -q 'not told' "$T/log/slave1"
kill $reader

step "not where it is switched off, and nothing is written through it"
check "no event on slave2" test ! -s "$T/silent"
mkdir "$T/bound" && mount --bind "$S1" "$T/bound" && extra_mounts+=("$T/bound") && mount -o remount,rw,bind "$T/bound"
for attempt in 'touch new' 'mkdir new' 'ln -s x new' 'ln the-end new' 'mkfifo new' 'rm the-end' 'rmdir dir' 'mv the-end new' 'chmod 600 the-end' \
	'truncate -s 0 the-end' 'setfattr -n user.a -v b the-end' 'setfattr -x user.a dir' 'fallocate -l 10 the-end' 'dd if=/dev/zero of=the-end conv=notrunc count=1'; do
	# shellcheck disable=SC2086 # words
	check "through a mount that is writable: $attempt" bash -c "cd '$T/bound' && . '$root/tests/lib/lib.sh' && refused 'Read-only file system' $attempt"
done
umount "$T/bound"
equal slave1

step "the end of it"
watch last -r "$S1"
make_versions 1000 &
versions=$!
extra_pids+=("$versions")
await 10 eval '[ "$(wc -l <"$T/last")" -gt 20 ]'
check "killed while it tells" cluster kill slave1
check "its process is gone" await 10 eval '! ps -o stat= -p $(cat "$T/pid/slave1") | grep -v Z'
wait $versions
check "it comes back" cluster start slave1
equal slave1
watch last2 "$S1"
daemon=$(pid slave1)
check "unmounted by somebody" umount "$S1"
check "it ends, as nobody can look any more" await 10 eval '! ps -o stat= -p $daemon | grep -v Z'
check "without a word of events not told" refused '' grep -q 'not told' "$T/log/slave1"
