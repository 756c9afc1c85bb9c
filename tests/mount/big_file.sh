#!/bin/bash
# One file of 2 GiB (BIG_MIB to change it): arrives whole; a change inside moves little; a hole stays a hole. (F1)
. "$(dirname "$0")/../lib/lib.sh"
mib=${BIG_MIB:-2048}
scenario "a file of $mib MiB"
free=$(df -Pm "${TMPDIR:-/tmp}" | awk 'NR == 2 { print $4 }')
[ "$free" -gt $((mib * 6)) ] || { skip "needs $((mib * 6)) MiB in ${TMPDIR:-/tmp}, there are $free"; exit 0; }
TIMEOUT=180
up 2

step "write it"
key=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
pseudorandom() { # a keyed stream that can be made again: much faster than /dev/urandom twice
	if command -v openssl >/dev/null; then
		head -c "$1" /dev/zero | openssl enc -aes-128-ctr -K "$key" -iv 00000000000000000000000000000000 2>/dev/null
	else
		yes "$key-$1" | awk '{ print NR, $0, NR * 7919 % 104729 }' | head -c "$1"
	fi
}
check "written and synced" eval 'pseudorandom $((mib << 20)) | dd of="$M/big" bs=1M conv=fsync iflag=fullblock status=none'
check "the size is right" eval '[ "$(stat -c %s "$M/big")" = $((mib << 20)) ]'
equal
check "the content is what was written" cmp "$S1/big" <(pseudorandom $((mib << 20)))

step "change a little in the middle"
bytes_of() { drsfs status --json --state "$T/state/master" | sed -n 's/.*"link_bytes_sent": \([0-9]*\).*/\1/p'; }
before=$(bytes_of)
printf 'a hundred bytes or so' | dd of="$M/big" bs=1 seek=$((mib << 19)) conv=notrunc status=none
check "the slaves get it" cluster wait
sent=$(($(bytes_of) - before))
check "under 1 MiB crossed the links for it ($sent bytes)" test $sent -lt 1048576
check "slave1 has it" cmp -i $(((mib << 19) - 4096)) -n 8192 "$M/big" "$S1/big"
check "slave2 has it" cmp -i $(((mib << 19) - 4096)) -n 8192 "$M/big" "$S2/big"

step "punch a hole, cut it, remove it"
check "fallocate --punch-hole" fallocate --punch-hole --offset 1048576 --length 10485760 "$M/big"
check "truncate" truncate -s $(((mib << 20) - 12345)) "$M/big"
check "the slaves get it" cluster wait
check "the hole is there" eval '[ -z "$(tail -c +1048577 "$S1/big" | head -c 10485760 | tr -d "\0" | head -c 1)" ]'
check "slave1 has the size" eval '[ "$(stat -c %s "$S1/big")" = "$(stat -c %s "$M/big")" ]'
rm "$M/big"
equal
