#!/bin/bash
# Two-phase directories: plain programs get the guarantee of a batch. What all slaves accept is there when the call returns; what one refuses fails, and the tree
# is as before, everywhere. (R5, R4.3, R4.5, F2)
. "$(dirname "$0")/../lib/lib.sh"
scenario "two-phase directories"
cat >"$T/check" <<'EOF'
#!/bin/sh
found=$(grep -rl BAD "$DRSFS_TREE/strict" 2>/dev/null; find "$DRSFS_TREE/strict" -name '*bad*' -o -perm 0666 -type f; test ! -e "$DRSFS_TREE/strict/guard" || test -e "$DRSFS_TREE/strict/needed" || echo "needed is gone")
[ -z "$found" ] || { echo "not wanted: $found"; exit 1; }
EOF
chmod +x "$T/check"
export SLAVE2_OPTS="--check $T/check" MASTER_OPTS='--two-phase-timeout 2s --link-timeout 1s --beat-interval 200ms'
up 2
mkdir "$M/strict" "$M/strict/sub" "$M/lax" && echo needed >"$M/strict/needed" && : >"$M/strict/guard"
equal

step "the attribute"
check "only directories have it" refused 'Invalid argument' setfattr -n user.drsfs.publish -v two-phase "$M/strict/needed"
check "it has three values" refused 'Invalid argument' setfattr -n user.drsfs.publish -v both "$M/strict"
check "it is set" setfattr -n user.drsfs.publish -v two-phase "$M/strict"
check "and replicated" eval 'cluster wait && getfattr -n user.drsfs.publish "$S1/strict" | grep -q two-phase'

# The call returns with the decision; slaves show it a moment later.
has() { [ "$(cat "$S1/$1")" = "$2" ] && [ "$(cat "$S2/$1")" = "$2" ]; }
everywhere() { cluster wait >/dev/null && has "$@"; }
nowhere() { [ ! -e "$M/$1" ] && [ ! -e "$S1/$1" ] && [ ! -e "$S2/$1" ]; }
as_before() { has "$1" "$2" && [ "$(cat "$M/$1")" = "$2" ]; }
put() { echo "$2" >"$T/content" && cp "$T/content" "$M/$1"; }

step "what is accepted"
for file in strict/a strict/sub/b; do
	check "$file: written by cp" put $file one
	check "$file: on both" everywhere $file one
	check "$file: written again" put $file two
	check "$file: on both" everywhere $file two
done
check "mkdir" eval 'mkdir "$M/strict/d" && cluster wait && [ -d "$S1/strict/d" ] && [ -d "$S2/strict/d" ]'
check "below it, too" eval 'put strict/d/c three && everywhere strict/d/c three'
check "rename" eval 'mv "$M/strict/a" "$M/strict/d/a" && everywhere strict/d/a two && cluster wait && [ ! -e "$S1/strict/a" ]'
check "rename over" eval 'mv "$M/strict/d/a" "$M/strict/d/c" && everywhere strict/d/c two'
check "chmod" eval 'chmod 600 "$M/strict/d/c" && cluster wait && [ "$(stat -c %a "$S2/strict/d/c")" = 600 ]'
check "truncate" eval 'truncate -s 1 "$M/strict/d/c" && cluster wait && [ "$(stat -c %s "$S2/strict/d/c")" = 1 ]'
check "link" eval 'ln "$M/strict/d/c" "$M/strict/link" && cluster wait && [ "$(stat -c %h "$S1/strict/link")" = 2 ]'
check "symlink" eval 'ln -s d/c "$M/strict/symlink" && cluster wait && [ "$(readlink "$S1/strict/symlink")" = d/c ]'
check "fifo" eval 'mkfifo "$M/strict/fifo" && cluster wait && [ -p "$S2/strict/fifo" ]'
check "attribute" eval 'setfattr -n user.x -v y "$M/strict/link" && cluster wait && [ "$(getfattr --only-values -n user.x "$S1/strict/d/c")" = y ]'
check "unlink" eval 'rm "$M/strict/link" "$M/strict/symlink" "$M/strict/fifo" && cluster wait && [ ! -e "$S1/strict/link" ] && [ ! -e "$S2/strict/fifo" ]'
check "rmdir" eval 'rm -r "$M/strict/d" && cluster wait && [ ! -e "$S1/strict/d" ]'
check "fsync" eval 'dd if=/dev/zero of="$M/strict/zeros" bs=64K count=8 conv=fsync status=none && cluster wait && [ "$(stat -c %s "$S2/strict/zeros")" = 524288 ]'
check "a large file" eval 'seq 1 3000000 >"$T/large" && cp "$T/large" "$M/strict/large" && cluster wait && cmp "$T/large" "$S2/strict/large" && cmp "$T/large" "$S1/strict/large"'
check "a tree" eval 'rsync -a --exclude "*bad*" "$root/man" "$root/packaging" "$M/strict/"'
equal

step "what is refused fails, and nothing has changed"
put strict/a good && cluster wait
check "new content: close fails" refused 'Operation canceled' put strict/a BAD
check "it is as before" as_before strict/a good
check "its size and time, too" eval '[ "$(stat -c %s "$M/strict/a")" = 5 ] && [ "$(stat -c %Y "$M/strict/a")" = "$(stat -c %Y "$S1/strict/a")" ]'
check "good content is taken again" eval 'put strict/a better && cluster wait && as_before strict/a better'
check "a new file" refused 'Operation canceled' put strict/new BAD
check "it is nowhere" nowhere strict/new
check "its name can be had" eval 'put strict/new fine && cluster wait && as_before strict/new fine'
check "fsync" refused 'Operation canceled' dd if="$T/check" of="$M/strict/a" bs=64K conv=fsync,notrunc status=none oflag=append
check "it is as before" as_before strict/a better
check "mkdir" refused 'Operation canceled' mkdir "$M/strict/bad"
check "it is nowhere" nowhere strict/bad
check "rename" refused 'Operation canceled' mv "$M/strict/a" "$M/strict/bad"
check "it is as before" eval 'as_before strict/a better && nowhere strict/bad'
check "rename into it" eval 'put lax/a-bad-one x; refused "Operation canceled" mv "$M/lax/a-bad-one" "$M/strict/" && [ -e "$M/lax/a-bad-one" ] && nowhere strict/a-bad-one'
check "link" refused 'Operation canceled' ln "$M/strict/a" "$M/strict/bad"
check "symlink" refused 'Operation canceled' ln -s a "$M/strict/bad"
check "fifo" refused 'Operation canceled' mkfifo "$M/strict/bad"
check "chmod" refused 'Operation canceled' chmod 666 "$M/strict/a"
check "the mode is as before" eval '[ "$(stat -c %a "$M/strict/a")" = "$(stat -c %a "$S1/strict/a")" ] && [ "$(stat -c %a "$M/strict/a")" != 666 ]'
check "unlink" refused 'Operation canceled' rm "$M/strict/needed"
check "it is as before" as_before strict/needed needed
exec 3<"$M/strict/needed"
check "unlink of an open file" refused 'Operation canceled' rm "$M/strict/needed"
check "who has it open reads it" eval '[ "$(cat <&3)" = needed ]'
exec 3<&-
check "it is as before" as_before strict/needed needed
check "and can be written" eval 'put strict/needed more && cluster wait && as_before strict/needed more'
check "rename away" refused 'Operation canceled' mv "$M/strict/needed" "$M/lax/"
check "rename over it" eval 'put lax/other BAD && refused "Operation canceled" mv "$M/lax/other" "$M/strict/needed" && as_before strict/needed more && [ "$(cat "$M/lax/other")" = BAD ]'
check "history tells why" eval 'drsfs log | grep aborted | grep -q "refused by slave2: not wanted"'
check "so does the status" eval 'drsfs status | grep -q "was aborted .* ago: refused by slave2: not wanted"'
equal

step "what is complete without a call that could fail is asked about as well"
aborted() { drsfs log --count 0 | grep -c aborted; }
versions() { drsfs log --count 0 | grep -vc aborted; }
was=$(versions) && check "a new file" put strict/once one
check "is one version, with its directory's time" eval '[ "$(versions)" = $((was + 1)) ] && cluster wait && [ "$(stat -c %y "$M/strict")" = "$(stat -c %y "$S1/strict")" ]'
check "an empty one" eval 'touch "$M/strict/empty" && await 10 eval "[ -e $S1/strict/empty ] && [ -e $S2/strict/empty ]"'
was=$(aborted) && check "an empty one that is refused" refused 'Operation canceled' touch "$M/strict/bad"
check "history has it" eval '[ "$(aborted)" = $((was + 1)) ]'
check "it is nowhere" nowhere strict/bad
check "a file that is made and not written" eval 'perl -MFcntl -e "sysopen(F, shift, O_RDONLY | O_CREAT) or die \$!" "$M/strict/made" && await 10 test -e "$S2/strict/made"'
was=$(aborted) && check "one that is refused" perl -MFcntl -e 'sysopen(F, shift, O_RDONLY | O_CREAT) or die $!' "$M/strict/bad"
check "history has it" await 10 eval '[ "$(aborted)" = $((was + 1)) ]'
check "it is nowhere" await 10 nowhere strict/bad
put strict/mapped before
check "stores through a mapping" eval '"$build/lib/map_store" "$M/strict/mapped" "after " && await 10 as_before strict/mapped "after "'
was=$(aborted) && check "some that are refused" "$build/lib/map_store" "$M/strict/mapped" BAD
check "history has it" await 10 eval '[ "$(aborted)" = $((was + 1)) ]'
check "the content is as before" as_before strict/mapped "after "
removed_at_once() { local i; for i in 1 2 3 4 5; do "$build/lib/map_store" "$M/strict/mapped" "$i" && rm "$M/strict/mapped" && put strict/mapped x || return; done; }
check "files that await their turn can be removed" removed_at_once
check "and moved out" eval 'touch "$M/strict/moves" && mv "$M/strict/moves" "$M/lax/" && await 10 test -e "$S1/lax/moves"'
equal

step "who has written through another descriptor hears of it"
check "a refused sync, and the close after it" perl -MIO::Handle -e '
	my ($path) = @ARGV;
	open(my $one, "+<", $path) or die $!;
	open(my $other, "+<", $path) or die $!;
	syswrite($one, "BAD") or die $!;
	$other->sync and die "the sync succeeded";
	$! == 125 or die "sync: $!";
	close($one) and die "the close succeeded";
	$! == 125 or die "close: $!";
	close($other) and die "the other close succeeded";' "$M/strict/mapped"
check "the content is as before" as_before strict/mapped x
check "who has only read does not" perl -e '
	my ($path) = @ARGV;
	open(my $reader, "<", $path) or die $!;
	open(my $writer, "+<", $path) or die $!;
	syswrite($writer, "BAD") or die $!;
	close($writer) and die "the close succeeded";
	<$reader> eq "x\n" or die "it reads something else";
	close($reader) or die $!;' "$M/strict/mapped"
equal

step "a copy of a descriptor that is closed is no end"
was=$(versions)
check "by children, and by a shell" bash -c '{ echo BAD; sleep 0.1; /bin/true; echo BAD; truncate -s 0 "$1"; echo fine; } >>"$1"' - "$M/strict/written"
check "is one version" eval 'everywhere strict/written fine && [ "$(versions)" = $((was + 1)) ]'
was=$(versions)
check "a file that is closed empty waits for the answer" refused 'Operation canceled' perl -e 'open(my $f, ">", shift) or die $!; close($f) or die "$!\n"' "$M/strict/bad"
check "and is nowhere" nowhere strict/bad
check "a thread that closes what another one has opened" perl -Mthreads -MPOSIX -e '
	my ($path) = @ARGV;
	my $fd = threads->create(sub { POSIX::open($path, POSIX::O_WRONLY() | POSIX::O_CREAT()) })->join;
	POSIX::write($fd, "BAD", 3) == 3 or die $!;
	POSIX::close($fd) and die "it was closed well";
	$! == 125 or die $!;' "$M/strict/thread"
check "a child, when the thread that has opened it has ended" perl -Mthreads -MPOSIX -e '
	my ($path) = @ARGV;
	my $fd = threads->create(sub { POSIX::open($path, POSIX::O_WRONLY() | POSIX::O_CREAT()) })->join;
	POSIX::write($fd, "BAD", 3) == 3 or die $!;
	system("true");
	POSIX::lseek($fd, 0, 0);
	POSIX::write($fd, "fine", 4) == 4 or die $!;
	POSIX::close($fd) or die "$!\n";' "$M/strict/thread"
"$build/lib/poll_close" "$M/strict/polled" "$M/strict/needed" & poller=$!
check "a close beside the first epoll_ctl with a file of the mount" await 10 eval "! kill -0 $poller 2>/dev/null"
check "is a good one" wait $poller
equal

step "while a new file waits for the answer it is there as before"
kill -STOP "$(pid slave1)"
cp "$T/content" "$M/strict/waits" 2>"$T/late" & late=$!
check "it is" await 1 eval '[ -n "$(find "$M/strict" -name waits)" ]'
await 1 eval 'drsfs status | grep -q "is being agreed upon"'
check "it can be looked at" test -e "$M/strict/waits"
check "it is listed" eval 'find "$M/strict" -name waits | grep -q .'
check "and read" cmp "$T/content" "$M/strict/waits"
echo more >>"$M/strict/waits" & more=$!
kill -CONT "$(pid slave1)"
check "it is closed well" wait $late
check "who wanted to write has waited" wait $more
check "both are there" eval 'cluster wait && [ "$(cat "$S1/strict/waits")" = "$(cat "$T/content"; echo more)" ]'
kill -STOP "$(pid slave1)"
cp "$T/content" "$M/strict/waits-in-vain" 2>"$T/late" & late=$!
check "one that nobody answers about is there for as long" await 1 eval '[ -e "$M/strict/waits-in-vain" ]'
check "until time is up" eval 'exits 1 wait $late && grep -q "Connection timed out" "$T/late"'
check "then it is not" eval '[ ! -e "$M/strict/waits-in-vain" ] && [ -z "$(find "$M/strict" -name "waits-in*")" ]'
kill -CONT "$(pid slave1)"
check "it is back" await 20 eval 'put strict/a better'
check "nor on slaves" nowhere strict/waits-in-vain
equal

step "names of files that are being written"
held_open() { # held_open PATH TEXT COMMAND…: write TEXT, run the command, write TEXT again, close
	perl -e '
	my ($path, $text, @command) = @ARGV;
	open(my $file, "+<", $path) or die "$!\n";
	syswrite($file, "$text\n") or die "$!\n";
	my $failed = system(@command);
	syswrite($file, "$text\n") or die "$!\n";
	close($file) or die "close: $!\n";
	exit($failed ? 1 : 0);' "$@"
}
put strict/log one
check "one is removed" eval 'held_open "$M/strict/log" two rm "$M/strict/log" && cluster wait && nowhere strict/log'
put strict/log one && put strict/other three
check "one is replaced" eval 'held_open "$M/strict/log" two mv "$M/strict/other" "$M/strict/log" && everywhere strict/log three'
check "one is renamed" eval 'held_open "$M/strict/log" fourth mv "$M/strict/log" "$M/strict/moved" && everywhere strict/moved "$(printf "fourth\nfourth")"'
put strict/needed one
check "a refused removal" refused 'Operation canceled' held_open "$M/strict/needed" fine rm "$M/strict/needed"
check "what was written meanwhile is there" everywhere strict/needed "$(printf 'fine\nfine')"
put lax/other BAD
check "a refused replacement" refused 'Operation canceled' held_open "$M/strict/needed" well mv "$M/lax/other" "$M/strict/needed"
check "what was written meanwhile is there" everywhere strict/needed "$(printf 'well\nwell')"
check "a refused link" refused 'Operation canceled' held_open "$M/strict/needed" good ln "$M/strict/needed" "$M/strict/bad"
check "what was written meanwhile is there" eval 'everywhere strict/needed "$(printf "good\ngood")" && [ "$(stat -c %h "$M/strict/needed")" = 1 ]'
equal

step "a slave whose check refuses what went one phase"
put lax/fine fine && ln "$M/strict/a" "$M/lax/link"
check "it agrees" put strict/a better
mv "$T/check" "$T/strict-check"
printf '#!/bin/sh\n[ ! -e "$DRSFS_TREE/lax/wrong" ] || grep -q sorry "$DRSFS_TREE/strict/a" || { echo "wrong is there"; exit 1; }\nexec "%s"\n' "$T/strict-check" >"$T/check" && chmod +x "$T/check"
echo x >"$M/lax/wrong"
check "it stays where it is" await 10 eval 'drsfs status --state "$T/state/slave2" | grep -q "wrong is there"'
check "it agrees to nothing that leaves it so" refused 'Operation canceled' put strict/a later
check "it agrees to what mends it" put strict/a sorry
check "and shows both" eval 'cluster wait && everywhere strict/a sorry && [ -e "$S2/lax/wrong" ]'
check "what is wrong as long as the other is there" refused 'Operation canceled' put strict/a later
check "the directory can be made one-phase without being asked" setfattr -n user.drsfs.publish -v one-phase "$M/strict"
check "and what is wrong put there" put strict/a later
check "it stays where it is" await 10 eval 'drsfs status --state "$T/state/slave2" | grep -q "wrong is there"'
check "and two-phase again" setfattr -n user.drsfs.publish -v two-phase "$M/strict"
rm "$M/lax/wrong"
check "what was wrong is mended" cluster wait
check "it agrees again" put strict/a better
kill -STOP "$(pid slave1)"
check "a name elsewhere of a file in the directory counts for it, too" refused 'Connection timed out' rm "$M/lax/link"
kill -CONT "$(pid slave1)"
check "it is back" await 20 eval 'rm "$M/lax/link"'
equal

step "other directories go on as ever"
setfattr -n user.drsfs.publish -v one-phase "$M/strict/sub"
check "one-phase below two-phase" put strict/sub/loose fine
kill -STOP "$(pid slave1)"
put strict/a late 2>"$T/late" & late=$!
check "with a slave that does not answer: the status tells for whom it waits" await 5 eval 'drsfs status | grep -A1 "is being agreed upon" | grep -q "slave1: has not answered"'
check "time is up" eval 'exits 1 wait $late && grep -q "Connection timed out" "$T/late"'
check "it is as before" eval '[ "$(cat "$M/strict/a")" = better ] && [ "$(cat "$S2/strict/a")" = better ]'
check "elsewhere nobody waits" eval 'put lax/now x && put strict/sub/now x && cluster wait slave2 && [ -e "$S2/lax/now" ]'
kill -CONT "$(pid slave1)"
check "it is back" await 20 eval 'put strict/a back'
setfattr -n user.drsfs.publish -v auto "$M/strict/sub"
equal

step "many at once, and beside batches"
writer() { local i; for i in {1..25}; do put_one "strict/file-$1" "$1-$i" || return; done; }
put_one() { echo "$2" >"$T/content-${1//\//-}" && cp "$T/content-${1//\//-}" "$M/$1"; }
writers=()
for i in 1 2 3 4; do writer $i & writers+=($!); done
for i in 1 2 3; do
	check "a batch is committed meanwhile" eval 'begin beside-$i && echo $i >"$view/strict/batch-$i" && echo $i >"$view/lax/batch-$i" && drsfs batch commit beside-$i'
	put lax/live-$i x
done
for i in "${writers[@]}"; do check "a writer ends well" wait "$i"; done
all_there() { local i; for i in 1 2 3 4; do as_before strict/file-$i $i-25 || return; done; }
check "the last of each is there" all_there
equal

step "the master is killed in the middle"
put strict/a before && cluster wait
kill -STOP "$(pid slave1)"
cp "$T/large" "$M/strict/a" 2>/dev/null &
copier=$!
await 10 eval 'drsfs batch list >/dev/null && [ "$(jobs -r | wc -l)" -ge 1 ]'
sleep 0.3
cluster kill master
kill -CONT "$(pid slave1)"
wait $copier 2>/dev/null
check "it starts again" cluster start master
check "all are as before" await 10 as_before strict/a before
check "the attribute still holds" refused 'Operation canceled' put strict/a BAD
check "no batch is left" eval '[ -z "$(drsfs batch list)" ]'
equal
sound master slave1 slave2
