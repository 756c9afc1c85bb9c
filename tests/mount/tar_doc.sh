#!/bin/bash
# Many small directories from a stream: tar x of /usr/share/doc. (R3, F1)
. "$(dirname "$0")/../lib/lib.sh"
scenario "tar x of /usr/share/doc"
up 2

step "tar c | tar x"
check "tar x" eval 'tar -C /usr/share -cf - doc | tar -C "$M" -xpf -'
check "the copy equals the original" same_trees /usr/share/doc "$M/doc"
equal

step "tar x over what is there"
check "tar x --overwrite" eval 'tar -C /usr/share -cf - doc | tar -C "$M" -xpf - --overwrite'
equal
