#!/bin/bash
# What is open or mapped on a slave stays what it was: through 1,000 versions (VERSIONS to change it) of which few are retained, when it is deleted, renamed or replaced,
# when the kernel has dropped its pages, and when the master is gone and comes back. What the end of the slave's own daemon does. (F3)
. "$(dirname "$0")/../lib/lib.sh"
versions=${VERSIONS:-1000}
scenario "open files, and $versions versions of them"
export MASTER_OPTS='--retain-versions 20 --retain-time 0' SLAVE_OPTS='--retain-versions 20'
up 1
mkdir "$M/held" "$M/more"
for i in 1 2 3 4; do head -c $((i * 1500000 + i)) /dev/urandom >"$M/held/big-$i"; done
for i in 1 2 3; do echo "small $i" >"$M/held/small-$i"; done
truncate -s 5M "$M/held/sparse" && echo middle | dd of="$M/held/sparse" bs=1 seek=3000000 conv=notrunc status=none
cp "$M/held/big-4" "$M/held/same" && : >"$M/held/empty"
equal
mkfifo "$T/ask"
"$build/lib/holders" 3 "$S1/held" <"$T/ask" >"$T/held" 2>&1 &
extra_pids+=($!)
exec 8>"$T/ask"
asked=1
as_they_were() {
	await 60 eval '[ "$(wc -l <"$T/held")" -ge $asked ]' && tail -n 1 "$T/held" && [ "$(tail -n 1 "$T/held")" = '10 files are as they were' ]
}
ask() { asked=$((asked + 1)) && echo ask >&8 && as_they_were; }
check "three processes hold ten files" as_they_were

step "$versions versions"
rewrite() { # a hundred bytes in the middle of each file, by turns; and all of the small ones
	perl -MIO::Handle -e '
		my ($dir, $n) = @ARGV;
		for my $i (1 .. $n) {
			my $name = ("big-1", "big-2", "small-1", "big-3", "big-4", "small-2", "same", "sparse", "empty", "small-3")[$i % 10];
			open(my $f, $name =~ /small/ ? ">" : "+<", "$dir/$name") or die "$name: $!";
			seek($f, int(rand(1000000)), 0) unless $name =~ /small|empty/;
			print $f "change $i\n" x 10;
			$f->flush && $f->sync or die "$name: $!";
			close($f) or die "$name: $!";
		}' "$M/held" "$1"
}
before=$(version)
check "they are made" rewrite "$versions"
check "each is a version" test "$(version)" -ge $((before + versions))
equal
check "what is open is what it was" ask
step "deleted, renamed, replaced, chmod"
rm "$M/held/big-1" "$M/held/small-1"
mv "$M/held/big-2" "$M/more/"
mv "$M/held/same" "$M/held/big-3"
chmod 600 "$M/held/big-4"
for i in {1..100}; do echo "$i" >"$M/held/new-$i"; done
equal
check "what is open is what it was" ask
make_versions 100
[ ! -w /proc/sys/vm/drop_caches ] || [ -z "${DROP_CACHES:-}" ] || { sync && echo 3 >/proc/sys/vm/drop_caches; }
check "what is open is what it was" ask
step "the master restarts"
cluster stop master
check "what is open is what it was, without it" ask
cluster start master 8>&- # else it would keep the fifo open
make_versions 30
check "and with it" ask
sound slave1
step "the directory goes"
rm -r "$M/held" "$M/more"
make_versions 100
equal
check "what is open is what it was" ask
held=$(field slave1 nodes_held)
exec 8>&-
check "what nobody has open any more is forgotten" await 20 eval '[ "$(field slave1 nodes_held)" -le $((held - 11)) ]'
sound slave1

step "the slave's daemon restarts"
echo text >"$M/file" && cluster wait slave1
exec 9<"$S1/file"
cluster stop slave1
cluster start slave1
check "what was open is no more" refused 'not connected' cat /proc/self/fd/9
check "what is opened is there" grep -qx text "$S1/file"
exec 9<&-
