#!/bin/bash
# git inside the mount: clone, branches, gc. It uses locks, renames, hard links, mmap and O_EXCL. (F1)
. "$(dirname "$0")/../lib/lib.sh"
scenario "git"
export HOME=$T GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@localhost GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@localhost
git config --global init.defaultBranch main
git config --global --add safe.directory '*'
up 2

step "a repository with two branches, outside"
git init -q "$T/origin"
cp -r "$root/drsfs" "$root/store" "$root/tests" "$T/origin/"
git -C "$T/origin" add -A
git -C "$T/origin" commit -qm first
git -C "$T/origin" checkout -q -b other
rm -r "$T/origin/store"
for f in "$T"/origin/drsfs/*.c; do sed -i 's/struct/STRUCT/g' "$f"; done
mkdir "$T/origin/new" && cp /bin/ls "$T/origin/new/binary"
git -C "$T/origin" add -A
git -C "$T/origin" commit -qm second
git -C "$T/origin" checkout -q main

step "clone into the mount"
check "git clone" git clone -q "$T/origin" "$M/clone"
equal
for branch in other main other; do
	check "git checkout $branch" git -C "$M/clone" checkout -q "$branch"
	check "git finds its tree clean" eval '[ -z "$(git -C "$M/clone" status --porcelain)" ]'
	equal
done

step "commit and gc inside the mount"
echo more >>"$M/clone/new/text"
check "git commit" eval 'git -C "$M/clone" add -A && git -C "$M/clone" commit -qm third'
check "git gc" git -C "$M/clone" gc -q
check "git fsck" git -C "$M/clone" fsck --full
equal
check "the slave's copy can be read by git" git -C "$S1/clone" log --oneline
check "and it is sound" git -C "$S2/clone" fsck --full
