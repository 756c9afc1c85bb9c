#!/bin/bash
# Files that are made without a name (O_TMPFILE) and get one when they are complete, as installers and servers do. (F2, R5)
. "$(dirname "$0")/../lib/lib.sh"
scenario "files without a name"
make_check
export SLAVE2_OPTS="--check $T/check"
up 2

# tmpfile DIRECTORY NAME TEXT [closed]: make it there, write, and name it, while it is still written, or when it no longer is.
tmpfile() {
	perl -MFcntl -e '
		my ($dir, $name, $text, $closed) = @ARGV;
		sysopen(my $f, $dir, 020000000 | O_DIRECTORY | O_RDWR, 0644) or die "$dir: $!\n";
		syswrite($f, $text) or die "$!\n";
		my $fd = fileno($f);
		open(my $reader, "<", "/proc/$$/fd/$fd") or die "reader: $!\n";
		if ($closed) { close($f) or die "close: $!\n"; $fd = fileno($reader); }
		system("ln", "-L", "/proc/$$/fd/$fd", $name) == 0 or die "link\n";
		exit 0 if $closed;
		close($reader); close($f) or die "close: $!\n"' "$@"
}
if ! tmpfile "$M" "$M/first" text 2>"$T/error" && grep -q 'not supported' "$T/error"; then
	skip "this kernel has no O_TMPFILE for FUSE"
	exit 0
fi
check "it is on the master" grep -qx text "$M/first"
equal
check "and on the slaves" grep -qx text "$S1/first"
check "named when it is closed" tmpfile "$M" "$M/second" text closed
equal

step "in a two-phase directory"
mkdir "$M/strict" && setfattr -n user.drsfs.publish -v two-phase "$M/strict"
check "accepted" tmpfile "$M/strict" "$M/strict/a" text
check "accepted, named when it is closed" tmpfile "$M/strict" "$M/strict/b" text closed
equal
check "they are there" grep -qx text "$S2/strict/a" "$S2/strict/b"
echo no >"$M/refuse-slave2"
check "slave1 has what slave2 refuses" cluster wait slave1
check "refused" refused 'close' tmpfile "$M/strict" "$M/strict/c" text
check "it is nowhere" unseen strict/c
check "named when it is closed" tmpfile "$M/strict" "$M/strict/d" text closed
check "then it is refused, too" await 10 unseen strict/d
rm "$M/refuse-slave2"
equal
