#!/bin/bash
# 20,000 files of 1 KiB, 100,000 with THOROUGH=1 (MANY: another number). (F1)
. "$(dirname "$0")/../lib/lib.sh"
many=${MANY:-${THOROUGH:+100000}}
many=${many:-20000}
scenario "$many files"
TIMEOUT=180
up 2

step "unpack them"
mkdir "$T/source"
# Made by split: one process for all of them.
for d in $(seq 1 $((many / 1000))); do
	mkdir "$T/source/$d" && seq "$d" 1000000 | head -c 1024000 | split -b 1024 -a 3 - "$T/source/$d/f"
done
check "tar x" eval 'tar -C "$T" -cf - source | tar -C "$M" -xpf -'
check "all of them are there" eval '[ "$(find "$M/source" -type f | wc -l)" = $((many / 1000 * 1000)) ]'
check "the copy equals the original" same_trees "$T/source" "$M/source"
equal

step "one directory of $((many / 5)) files"
mkdir "$M/flat" && seq 1 10000000 | head -c $((many / 5 * 100)) | split -b 100 -a 5 - "$M/flat/f"
equal slave1
check "each is listed once" eval '[ "$(ls -f "$S1/flat" | sort | uniq -d | wc -l)" = 0 ] && [ "$(ls "$S1/flat" | wc -l)" = $((many / 5)) ]'

step "remove half of them"
rm -rf "$M"/source/*[13579] "$M/flat"
equal
