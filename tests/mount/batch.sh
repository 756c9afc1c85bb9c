#!/bin/bash
# A batch: begun, written, looked at, committed or dropped; nothing of it is seen anywhere before. (R4.1, R4.3, R4.5, R4.7, R1.1)
. "$(dirname "$0")/../lib/lib.sh"
scenario "batches"
up 3
cp -a "$root/drsfs" "$root/store" "$M/"
mkdir "$M/etc"
for i in motd hosts passwd; do echo "the first $i" >"$M/etc/$i"; done
equal

# One of each kind of change.
change_tree() {
	echo 'the second motd' >"$1/etc/motd"
	echo more >>"$1/etc/hosts"
	rm "$1/etc/passwd"
	mv "$1/drsfs" "$1/etc/moved"
	rm -r "$1/store"
	chmod 600 "$1/etc/moved/main.c"
	setfattr -n user.note -v changed "$1/etc/moved"
	odd_tree "$1/odd"
	head -c 3M /dev/urandom >"$1/big"
}
is_as_before() { # $1: the version before; $2: the digest
	local name
	for name in master slave1 slave2 slave3; do
		[ "$(field "$name" version) $(field "$name" digest)" = "$1 $2" ] || { echo "$name is at $(field "$name" version)"; return 1; }
	done
}
opened() { drsfs batch list | awk -v name="$1" '$2 == name { found = 1 } END { exit !found }'; }
differs() { # by 'batch diff': differs LETTER PATH
	drsfs batch diff site | grep -qE "^$1 +/?$2\$" || { drsfs batch diff site; return 1; }
}

step "begin, and write in the view"
before=$(version) digest=$(field master digest)
check "a batch is begun" begin site
check "its view is below the master's hidden directory" eval '[ "${view#"$M/.drsfs/batch/"}" != "$view" ]'
check "which is not listed" eval '! ls -A "$M" | grep -qx .drsfs'
check "nor on slaves" test ! -e "$S1/.drsfs"
check "the view has the tree as it is" same_trees "$M/" "$view/"
check "everything can be changed in it" change_tree "$view"
sync "$view/etc/motd"
check "a program sees its changes" grep -qx 'the second motd' "$view/etc/motd"
check "the master's mount has none of it" eval 'grep -qx "the first motd" "$M/etc/motd" && [ -e "$M/drsfs/main.c" ] && [ ! -e "$M/odd" ]'
sleep 1
check "nobody has: version and digest everywhere are as before" is_as_before "$before" "$digest"
cp -a "$view" "$T/expected"

step "list and diff"
check "the batch is listed" opened site
check "as JSON, with its base" eval 'drsfs batch list --json | grep -q "\"base\": $before"'
check "diff: modified" differs M etc/motd
check "diff: added" differs A odd/plain
check "diff: removed" differs D etc/passwd

step "commit"
check "it is committed" eval 'drsfs batch commit site --message "a new site" | tee "$T/commit" && grep -qE "^committed version [0-9]+ in [0-9]+ ms" "$T/commit"'
check "the version is a new one" test "$(version)" -gt "$before"
equal
check "it is what the view was" same_trees "$T/expected" "$M"
check "slave3, too" same_trees "$T/expected" "$S3"
check "log tells what it was for" eval 'drsfs log -n 5 | grep -q "a new site"'
check "the view is gone" await 5 test ! -e "$view"
check "and the batch" refused '' drsfs batch commit site

step "abort"
before=$(version) digest=$(field master digest)
check "one is begun" begin dropped
check "and written" eval 'rm -r "$view/odd" && echo x >"$view/new"'
check "abort" drsfs batch abort dropped
check "the view is gone" await 5 test ! -e "$view"
check "it is not listed" eval '! opened dropped'
check "nothing has happened" is_as_before "$before" "$digest"

step "names"
check "a batch with a name" begin twice
check "there is no second one" exits 1 drsfs batch begin --name twice
check "one without a name" eval 'plain=$(drsfs batch begin) && [ -d "$plain" ]'
check "goes by its number" drsfs batch abort "${plain##*/}"
check "the other by its name" drsfs batch abort twice
check "an unknown one" exits 1 drsfs batch commit nobody
check "a number that there is not" exits 1 drsfs batch commit 4711
check "the list is empty" eval '[ -z "$(drsfs batch list)" ]'
check "a batch that changes nothing" begin nothing
check "can be committed" drsfs batch commit nothing

step "run"
check "a command's changes become a version" drsfs batch run --message 'by run' -- sh -c 'echo ran >ran && rm big'
check "everywhere" cluster wait
check "at once" eval 'grep -qx ran "$S1/ran" "$S2/ran" "$S3/ran" && unseen big'
before=$(version)
check "one that fails: its exit code" exits 5 drsfs batch run -- sh -c 'echo half >half; exit 5'
check "one that is killed: 128 and the signal" exits 137 drsfs batch run -- sh -c 'echo half >half; kill -9 $$'
check "one that cannot be found: 127" exits 127 drsfs batch run -- "$T/nowhere"
check "none of them changed anything" eval 'unseen half && [ "$(version)" = "$before" ]'
check "nor is left open" eval '[ -z "$(drsfs batch list)" ]'
equal

step "an open batch outlives its master's process"
check "a batch is begun" begin kept
check "and written" eval 'echo kept >"$view/kept" && sync "$view/kept"'
check "the master stops" cluster stop master
check "and starts" cluster start master
check "the batch is listed" opened kept
check "its view is back" await 10 grep -qx kept "$view/kept"
check "more is written" eval 'echo more >"$view/kept-more" && sync "$view/kept-more"'
cluster kill master
check "the master, killed, starts again" cluster start master
check "its view is back, with all" await 10 grep -qx more "$view/kept-more"
check "nobody sees it" unseen kept kept-more
check "the slaves are back" cluster wait
check "it can be committed" drsfs batch commit kept
equal
check "all of it is there" grep -qx kept "$S2/kept"

step "the live tree changes meanwhile, elsewhere"
check "a batch is begun" begin beside
check "it changes a file, and a directory" eval 'echo batch >"$view/etc/motd" && echo new >"$view/etc/by-batch"'
check "the live tree others, in the same directory, too" eval 'echo live >"$M/etc/hosts" && echo new >"$M/etc/by-live" && rm -r "$M/odd"'
check "that is seen at once" cluster wait
check "and not in the view" test ! -e "$view/etc/by-live"
check "no conflict" drsfs batch commit beside
equal
check "both are there" eval 'grep -qx batch "$S1/etc/motd" && grep -qx live "$S1/etc/hosts" && [ -e "$S1/etc/by-batch" ] && [ -e "$S1/etc/by-live" ]'
check "and nothing else came back" unseen odd

step "the live tree changes meanwhile, in the same places"
mkdir "$M/both" && echo one >"$M/both/written" && echo one >"$M/both/removed" && echo one >"$M/both/renamed"
equal
check "a batch is begun" begin conflict
check "it changes three files and adds one" eval 'for i in written removed renamed added; do echo batch >"$view/both/$i"; done'
check "the live tree, too" eval 'echo live >"$M/both/written" && rm "$M/both/removed" && mv "$M/both/renamed" "$M/both/elsewhere" && echo live >"$M/both/added"'
cluster wait >/dev/null
before=$(version) digest=$(field master digest)
check "it is refused: exit code 1" exits 1 drsfs batch commit conflict
drsfs batch commit conflict >"$T/conflicts" 2>&1
for i in written removed added; do check "both/$i is named" grep -qE "^ */?both/$i\$" "$T/conflicts"; done
check "nothing has happened" is_as_before "$before" "$digest"
check "the batch is still open" grep -qx batch "$view/both/written"
check "as JSON" eval 'drsfs batch commit --json conflict | grep -q "\"reason\":\"conflict\""'
check "it can be dropped" drsfs batch abort conflict
equal
sound master slave1 slave2 slave3
