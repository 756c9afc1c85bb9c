#!/bin/bash
# Things change on the master as fast as somebody can, one after another; readers on the slaves check all that they see of them (tests/lib/looks.h): nothing
# new and then old, no mixture, no part, no listing of no version; and what they have open stays, though few versions are retained. One slave has
# watchers' events on. For LIVE_SECONDS (6). (R1.4, F2, F3, F4)
. "$(dirname "$0")/../lib/lib.sh"
seconds=${LIVE_SECONDS:-6}
scenario "changes for $seconds s, and readers who check them"
export MASTER_OPTS='--retain-versions 50 --retain-time 0' SLAVE_OPTS='--retain-versions 20'
[ "$(id -u)" != 0 ] || export SLAVE1_OPTS=--inotify=yes
up 2
check "no reader saw anything wrong" eval '"$build/lib/flip_live" "$seconds" "$M" "$S1" "$S2" 2>&1 | tee "$T/told"; [ "${PIPESTATUS[0]}" = 0 ]'
step "$(grep -h ' changes, ' "$T/told" | sed "s,$T/,," | tr '\n' ';') versions: $(version)"
equal
sound master slave1 slave2
