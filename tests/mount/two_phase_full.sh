#!/bin/bash
# The master's disk is full, and programs write in a two-phase directory, and beside it: who fails is told, has changed nothing, and room can be made. (R4.3, F8)
. "$(dirname "$0")/../lib/lib.sh"
scenario "a full disk below a two-phase directory"
mkdir -p "$T/state/master"
mount -t tmpfs -o size=32m none "$T/state/master" || { skip "tmpfs cannot be mounted here"; exit 77; }
extra_mounts+=("$T/state/master")
export MASTER_OPTS='--retain-versions 1 --retain-time 0 --beat-interval 200ms'
up 1
mkdir "$M/strict" "$M/lax"
setfattr -n user.drsfs.publish -v two-phase "$M/strict"
for file in strict/keep strict/keep2 lax/keep; do echo precious >"$M/$file"; done
equal

as_before() { [ "$(cat "$M/$1")" = precious ] && [ "$(cat "$S1/$1")" = precious ]; }
random() { head -c "$1" /dev/urandom >"$T/content"; }
step "it is filled"
random 4M
filled() { local i; for i in {1..10}; do cp "$T/content" "$M/strict/fill$i" || return 0; random 4M; done; return 1; }
check "until no more fits" filled
random 3M
check "a file is not overwritten" refused 'No space left' cp "$T/content" "$M/strict/keep"
check "it is as before" await 10 as_before strict/keep
check "none is appended to" refused 'No space left' dd if="$T/content" of="$M/strict/keep2" oflag=append conv=notrunc bs=64k status=none
check "it is as before" await 10 as_before strict/keep2
check "none is made" refused 'No space left' cp "$T/content" "$M/strict/fresh"
check "it is nowhere" await 10 unseen strict/fresh
check "beside it: a file is overwritten with what there is room for" refused 'No space left' cp "$T/content" "$M/lax/keep"
same_size() { cluster wait && [ "$(stat -c %s "$M/lax/keep")" = "$(stat -c %s "$S1/lax/keep")" ] && cmp "$M/lax/keep" "$S1/lax/keep"; }
check "the master's mount shows what there is, and no more" await 10 same_size
equal

step "names are made until there is no room for these, either"
made() { local i; for i in {1..20000}; do mkdir "$M/strict/d$i" 2>"$T/error" || { cat "$T/error"; grep -q 'No space left' "$T/error"; return; }; done; return 1; }
check "until no more fits" made
removed() { local i; for i in 1 2 3; do rm "$M/strict/fill$i" || return; done; }
check "files can be removed" removed
check "and there is room" await 20 cp "$T/content" "$M/strict/fresh"
equal
sound master slave1
