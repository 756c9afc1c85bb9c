#!/bin/bash
# A real configuration tree, copied in, changed and removed, arrives as it is. (R3, F1)
. "$(dirname "$0")/../lib/lib.sh"
scenario "cp -a /etc"
up 2

step "cp -a /etc"
if [ "$(id -u)" = 0 ]; then
	check "cp -a takes all of it" cp -a /etc "$M/"
	check "the copy equals the original" same_trees /etc "$M/etc"
else
	cp -a /etc "$M/" 2>/dev/null
	skip "that cp -a takes all of /etc: this user may not read all of it"
fi
equal

step "changes: rename, chmod, touch, append, remove"
mv "$M/etc" "$M/renamed"
find "$M/renamed" -name '*.conf' -type f -exec chmod u+x {} + -exec touch -d '2001-02-03 04:05:06' {} +
echo appended >>"$M/renamed/passwd"
rm -rf "$M/renamed/apt"
equal

step "rm -rf"
check "rm -rf takes all of it away" rm -rf "$M/renamed"
check "nothing is left" eval '[ -z "$(ls -A "$M")" ]'
equal
