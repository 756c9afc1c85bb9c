#!/bin/bash
# Building drsfs itself inside the mount. (F1)
. "$(dirname "$0")/../lib/lib.sh"
scenario "a build in the mount"
up 2
export MAKEFLAGS= MFLAGS=
mkdir "$M/source"
cp -a "$root"/{Makefile,drsfs,master,slave,store} "$M/source/"
mkdir "$M/source/tests"

step "make -j"
check "it builds" make -C "$M/source" -j"$(nproc)" all
check "and runs" "$M/source/build/release/bin/drsfs" version
check "make finds nothing left to do" make -C "$M/source" -q all
equal
check "what was built runs from the slave" "$S1/source/build/release/bin/drsfs" version

step "make clean"
check "it cleans" make -C "$M/source" clean
equal
