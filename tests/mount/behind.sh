#!/bin/bash
# A slave that was away catches up on its own: from 1 version behind, from 1,000, and from below the horizon; and the master restarts. (R1.3, R3.3)
. "$(dirname "$0")/../lib/lib.sh"
scenario "catching up"
export MASTER_OPTS='--beat-interval 200ms --retain-versions 5000' SLAVE_OPTS='--link-timeout 2s'
up 2
cp -a "$root/drsfs" "$M/"
equal

for behind in 1 1000; do
	step "slave1 is away for $behind versions"
	cluster stop slave1
	before=$(version)
	check "the master makes them" make_versions $behind
	check "slave2 does not wait for slave1" cluster wait slave2
	check "the number grew by $behind at least" test "$(version)" -ge $((before + behind))
	check "slave1 starts" cluster start slave1
	equal
done

step "slave1 is away until its version is no longer retained"
cluster stop slave1
cluster stop master
check "a master that retains 50 versions" env MASTER_OPTS='--retain-versions 50 --retain-time 0' "$root/tests/cluster" start "$T" master
away=$(version)
make_versions 200
rm -r "$M/drsfs"
cp -a "$root/store" "$M/"
horizon_passed() { make_versions 1 && [ "$(field master horizon)" -gt "$away" ]; }
check "the horizon moves past version $away" await 30 horizon_passed
check "slave1 starts" cluster start slave1
equal
sound master slave1 slave2

step "the master restarts under its slaves"
before=$(version)
check "it stops" cluster stop master
check "it starts" cluster start master
check "no version is used again" eval 'echo x >"$M/after" && cluster wait && [ "$(version)" -gt "$before" ]'
equal
