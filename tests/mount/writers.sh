#!/bin/bash
# Many writers at once, while slaves are compared with themselves: all arrives, nothing is mixed. (R1.4, F1)
. "$(dirname "$0")/../lib/lib.sh"
scenario "many writers"
up 2
writer() {
	local i dir=$M/writer-$1
	for i in 1 2 3 4 5 6; do
		rm -rf "$dir.old" && mkdir -p "$dir" && cp -a "$root/drsfs" "$dir/$i" && mv "$dir" "$dir.old" || return
		ln "$dir.old/$i/main.c" "$M/link-$1-$i" && echo "$1 $i" >>"$M/shared" || return
		mv "$dir.old/$i" "$M/moved-$1-$i" && rm -rf "$M/moved-$1-$((i - 1))" || return
	done
}
writers=()
for w in 1 2 3 4 5; do
	writer $w &
	writers+=($!)
	extra_pids+=($!)
done
for w in "${writers[@]}"; do check "writer $w has done all it wanted" wait "$w"; done
check "each line of the shared file is there" eval '[ "$(sort -u "$M/shared" | wc -l)" = 30 ]'
equal
sound master slave1 slave2
