#!/bin/bash
# Two-phase directories, while slaves take their time: what others do meanwhile is not lost, does not go out unasked, and what they read is not left in caches. (R5, F2)
. "$(dirname "$0")/../lib/lib.sh"
scenario "two-phase directories and late answers"
cat >"$T/check" <<END
#!/bin/sh
while [ -e "$T/hold" ]; do : >"$T/held"; sleep 0.02; done
found=\$(grep -rl BAD "\$DRSFS_TREE/strict" 2>/dev/null)
[ -z "\$found" ] || { echo "not wanted: \$found"; exit 1; }
[ -e "\$DRSFS_TREE/strict/needed" ] || [ ! -e "\$DRSFS_TREE/strict/guard" ] || { echo "needed is gone"; exit 1; }
END
chmod +x "$T/check"
export SLAVE2_OPTS="--check $T/check"
up 2
mkdir "$M/strict" "$M/lax" && echo needed >"$M/strict/needed" && : >"$M/strict/guard"
setfattr -n user.drsfs.publish -v two-phase "$M/strict"
equal

put() { echo "$2" >"$T/content" && cp "$T/content" "$M/$1"; }
aborted() { drsfs log --count 0 | grep -c aborted; }
hold() { rm -f "$T/held" && : >"$T/hold"; }
held() { await 10 test -e "$T/held"; }
release() { rm -f "$T/hold"; }
map_store=$build/lib/map_store

step "the kernel forgets a file that awaits its turn"
if [ -w /proc/sys/vm/drop_caches ]; then
	put strict/mapped before && cluster wait
	was=$(aborted)
	hold
	mkdir "$M/strict/first" & first=$!
	held
	"$map_store" "$M/strict/mapped" "BAD   " && sync -f "$M/lax" && echo 2 >/proc/sys/vm/drop_caches
	release
	check "what came first is answered" wait $first
	check "it is asked about" await 10 eval '[ "$(aborted)" = $((was + 1)) ]'
	check "it is as before" eval '[ "$(cat "$M/strict/mapped")" = before ] && [ "$(cat "$S1/strict/mapped")" = before ]'
else
	skip "only root can have the kernel forget files"
fi
equal

step "it is read while it is asked about"
head -c 300000 /dev/zero | tr '\0' a >"$T/before" && tr a b <"$T/before" >"$T/after"
cp "$T/before" "$M/strict/large" && cluster wait
hold && "$map_store" "$M/strict/large" "$(head -c 100000 "$T/after")" && held
dd if="$M/strict/large" iflag=nocache count=0 status=none # takes it from the kernel's caches
check "it has what was written" eval 'cmp -n 100000 "$M/strict/large" "$T/after"'
release
check "what is decided is what is read" eval 'await 10 cmp -n 100000 "$S1/strict/large" "$T/after" && cmp "$M/strict/large" "$S1/strict/large"'
equal

step "the last writer goes while the name is to be removed"
put strict/needed before && cluster wait
"$map_store" "$M/strict/needed" after "$T/stored" "$T/go" & writer=$!
await 10 test -e "$T/stored" && sync -f "$M/lax"
hold
rm "$M/strict/needed" & remover=$!
held
: >"$T/go"
check "it goes" wait $writer
sleep 0.2 # its release comes on its own
release
check "the removal is refused" exits 1 wait $remover
check "what it has written is asked about, and there" await 10 eval 'grep -q after "$S1/strict/needed" && grep -q after "$M/strict/needed"'
equal

step "names of new files that are being written"
written() { # written COMMAND…: a new file strict/new is open, written, and closed well after the command has failed
	perl -e 'my ($path, @command) = @ARGV;
		open(my $file, ">", $path) or die "$!\n";
		syswrite($file, "new\n") or die "$!\n";
		system(@command) or die "it succeeded\n";
		close($file) or die "close: $!\n";' "$M/strict/new" "$@" 2>&1
}
put lax/bad BAD
check "a refused replacement leaves the file its name" written mv "$M/lax/bad" "$M/strict/new"
check "it is there" eval 'cluster wait && [ "$(cat "$S1/strict/new")" = new ]'
check "what such a file hides is not removed unasked" refused 'Operation canceled' perl -e 'my ($new, $needed) = @ARGV;
	open(my $file, ">", $new) or die "$!\n";
	rename($new, $needed) or die "rename: $!\n";
	unlink($needed) or die "$!\n";' "$M/strict/tmp" "$M/strict/needed"
check "it is there" eval 'cluster wait && [ -e "$S1/strict/needed" ] && [ -e "$M/strict/needed" ]'
check "nor is what it has hidden and left" refused 'Operation canceled' perl -e 'my ($new, $needed, $away) = @ARGV;
	open(my $file, ">", $new) or die "$!\n";
	syswrite($file, "new\n") or die "$!\n";
	rename($new, $needed) && rename($needed, $away) or die "rename: $!\n";
	close($file) or die "$!\n";' "$M/strict/tmp" "$M/strict/needed" "$M/lax/away"
check "it is there" eval 'cluster wait && [ -e "$S1/strict/needed" ] && [ -e "$M/strict/needed" ]'
equal
sound master slave1 slave2
