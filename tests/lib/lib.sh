# What the scenario scripts share. A script sources this file, says 'scenario', and then reads like a transcript of what somebody does:
#
#   up [SLAVES]             a fresh cluster in $T (temporary): $M is the master's mount, $S1 $S2 … the slaves', state and log in $T/state, $T/log
#   step TEXT               what comes now
#   check TEXT COMMAND…     a claim: 'ok' if the command succeeds, else 'not ok' with what it printed
#   equal [SLAVE…]          a claim: these slaves (all) have the master's tree, by rsync both ways and by digest
#   skip TEXT               a claim that cannot be tried here
#   begin NAME              begin a batch: $view is its view
#
# Everything is ended and unmounted when the script ends, however it does; after a failure the ends of all logs are shown.
# shellcheck shell=bash

set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit
build=${BUILD:-$root/build/release}
DRSFS=${DRSFS:-$build/bin/drsfs}
TIMEOUT=${TIMEOUT:-60}
export DRSFS TIMEOUT
T='' passed=0 failed=0 skipped=0 extra_mounts=() extra_pids=() extra_clusters=()

ok() {
	passed=$((passed + 1))
	echo "ok - $*"
}

not_ok() {
	failed=$((failed + 1))
	echo "not ok - $*"
}

skip() {
	skipped=$((skipped + 1))
	echo "skip - $*"
}

step() {
	echo "# $(date +%T) $*"
}

# The work cannot go on.
die() {
	not_ok "$*"
	exit 1
}

# Not in a subshell: a claim may be about this shell's own children ('wait').
check() {
	local text=$1 output=$T/check-output code
	shift
	"$@" >"$output" 2>&1
	code=$?
	if [ $code -eq 0 ]; then
		ok "$text"
	else
		not_ok "$text"
		{ printf '%s\n' "$*" && cat "$output"; } | head -n 40 | sed 's/^/#   /'
	fi
	return $code
}

refused() { # refused WORDS COMMAND…: it fails, and says so with these words
	local words=$1 output
	shift
	if output=$(LC_ALL=C "$@" 2>&1); then
		echo "it succeeded"
		return 1
	fi
	grep -qF -- "$words" <<<"$output" || { echo "$output"; return 1; }
}

exits() { # exits CODE COMMAND…: with that exit code, whatever it says
	local wanted=$1 output=$T/exits-output code
	shift
	"$@" >"$output" 2>&1
	code=$?
	[ $code = "$wanted" ] || { echo "exit code $code:"; cat "$output"; return 1; }
}

finish() {
	local i code=$?
	trap - EXIT INT TERM
	cd / || exit
	for i in ${extra_pids[@]+"${extra_pids[@]}"}; do kill -TERM "$i" 2>/dev/null && kill -CONT "$i" 2>/dev/null; done
	if [ -n "$T" ]; then
		if [ $code -ne 0 ] || [ $failed -ne 0 ]; then
			tail_logs
			[ $failed -ne 0 ] || not_ok "the script ended early, with exit code $code"
		fi
		if [ -e "$T/cluster" ]; then
			"$root/tests/cluster" down "$T" || not_ok "all daemons end by SIGTERM"
		fi
		for i in ${extra_clusters[@]+"${extra_clusters[@]}"}; do [ ! -e "$i/cluster" ] || "$root/tests/cluster" down "$i"; done
		for i in ${extra_mounts[@]+"${extra_mounts[@]}"}; do "$root/tests/cluster" unmount "$i"; done
		if grep -qF " $T/" /proc/self/mountinfo; then
			echo "# still mounted under $T; it is left alone"
		elif [ -n "${KEEP:-}" ]; then
			echo "# kept: $T"
		else
			rm -rf "$T"
		fi
	fi
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed -eq 0 ]
	exit
}

tail_logs() {
	local log
	for log in "$T"/log/*; do
		[ -s "$log" ] || continue
		echo "# --- the end of ${log##*/}'s log"
		tail -n "${LOG_LINES:-40}" "$log" | sed 's/^/#   /'
	done
}

scenario() {
	echo "# $*"
	[ -e /dev/fuse ] || { skip "no /dev/fuse here: $*"; echo "0 passed, 0 failed, 1 skipped"; exit 77; }
	T=$(mktemp -d "${TMPDIR:-/tmp}/drsfs-test-XXXXXX") && T=$(cd "$T" && pwd -P) || exit
	trap finish EXIT
	trap 'exit 130' INT TERM
	# shellcheck disable=SC2034 # for the scripts
	M=$T/master S1=$T/slave1 S2=$T/slave2 S3=$T/slave3
	export DRSFS_STATE=$T/state/master # whom a command means, if it does not say
}

cluster() {
	local verb=$1
	shift
	"$root/tests/cluster" "$verb" "$T" "$@"
}

up() {
	local began=$SECONDS
	export MASTER_OPTS=${MASTER_OPTS:-} SLAVE_OPTS=${SLAVE_OPTS:-}
	cluster up "$@" || die "a cluster of a master and ${1:-2} slaves comes up"
	unset MASTER_OPTS SLAVE_OPTS # they stay with the cluster
	step "the cluster is up after $((SECONDS - began)) s"
}

# --- asking the daemons

drsfs() { "$DRSFS" "$@"; }
# A top-level member of a daemon's status: field master version. (Two blanks of indentation: not those of inner objects.)
field() {
	drsfs status --json --state "$T/state/$1" | sed -n 's/^  "'"$2"'": "\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p'
}
pid() { cat "$T/pid/$1"; }
version() { field "${1:-master}" version; }

await() { # await SECONDS COMMAND…
	local until=$((SECONDS + $1 + 1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $until ] || return 1
		sleep 0.05
	done
}

# --- batches

# Not in a subshell: it sets $view.
begin() {
	view=$(drsfs batch begin --name "$1") && [ -d "$view" ]
}

# Commit in the background, so that it can be looked at meanwhile: $commit is the process, $T/commit what it says. 'committed' waits for it.
commit() {
	"$DRSFS" batch commit "$@" >"$T/commit" 2>&1 &
	commit=$!
}

committed() { # committed [CODE]: it ends, with this exit code (0)
	local code=0
	wait $commit || code=$?
	cat "$T/commit"
	[ $code = "${1:-0}" ] || { echo "exit code $code"; return 1; }
}

# What a running commit is at, by the slave's own word: 'is_prepared slave1'.
is_prepared() { [ "$(field "$1" prepared)" -gt 0 ] 2>/dev/null; }
not_prepared() { [ "$(field "$1" prepared)" = null ]; }

# A check for slaves (--check "$T/check") that a scenario holds: 'hold NAME' has it wait on that slave, 'release NAME' lets it go on; 'held NAME':
# it is there and waits. It refuses a tree that has a file refuse or refuse-NAME, and its words are the file's.
make_check() {
	cat >"$T/check" <<-END
		#!/bin/sh
		[ ! -e "$T/hold-\$DRSFS_NAME" ] || echo "\$DRSFS_VERSION" >"$T/held-\$DRSFS_NAME"
		while [ -e "$T/hold-\$DRSFS_NAME" ]; do sleep 0.02; done
		rm -f "$T/held-\$DRSFS_NAME"
		for file in "\$DRSFS_TREE/refuse" "\$DRSFS_TREE/refuse-\$DRSFS_NAME"; do
			[ ! -e "\$file" ] || { cat "\$file"; exit 1; }
		done
	END
	chmod 755 "$T/check"
}
hold() { local name; for name in "$@"; do rm -f "$T/held-$name"; : >"$T/hold-$name"; done; }
release() { local name; for name in "$@"; do rm -f "$T/hold-$name"; done; }
held() { await 10 test -s "$T/held-$1"; }

mounts() { # the paths of the master's mount and of all slaves'
	find "$T" -maxdepth 1 \( -name master -o -name 'slave*' \) | sort
}

unseen() { # unseen PATH…: on no mount
	local mount path
	for mount in $(mounts); do
		for path in "$@"; do [ ! -e "$mount/$path" ] || { echo "$mount/$path is there"; return 1; }; done
	done
}

# --- comparing

# What rsync would have to do to make $2 like $1: nothing, if they are identical. Contents by checksum; hard links, ACLs, xattrs, owners, times too.
# Once in some thousand times rsync 3.5.0 misses its own signal to end and ends, well, when it next wakes: after a minute, or half of --timeout if
# that is sooner. It gives up when it is silent for longer than that, so there must be time to read the largest file.
differences() {
	rsync -aHAXn --checksum --delete --itemize-changes --timeout=$((TIMEOUT / 2)) "$1/" "$2/"
}

same_trees() {
	local there back
	there=$(differences "$1" "$2" 2>&1) && back=$(differences "$2" "$1" 2>&1) && [ -z "$there$back" ] && return
	printf '%s -> %s:\n%s\nback:\n%s\n' "$1" "$2" "$there" "${back-not tried}"
	return 1
}

same_digests() {
	local ours theirs
	ours=$(field master digest) theirs=$(field "$1" digest)
	echo "the master has digest '$ours', $1 has '$theirs'"
	[ -n "$ours" ] && [ "$ours" = "$theirs" ]
}

# shellcheck disable=SC2120 # mostly it is all of them
equal() {
	local names=("$@") name
	[ $# -gt 0 ] || mapfile -t names < <(cd "$T" && printf '%s\n' slave*)
	check "${names[*]}: at the master's version within $TIMEOUT s" cluster wait "${names[@]}" || return 1
	for name in "${names[@]}"; do
		check "$name: identical tree" same_trees "$M" "$T/$name"
		check "$name: equal digest" same_digests "$name"
	done
}

# The store of a daemon is sound, by re-reading all of it.
sound() {
	local name
	for name in "$@"; do check "$name: the store is sound" drsfs verify --state "$T/state/$name"; done
}

# --- making changes

# So many versions, each a synced change of the file 'counter' and every tenth a new file too.
make_versions() {
	perl -MIO::Handle -e '
		my ($dir, $n) = @ARGV;
		for my $i (1 .. $n) {
			for my $name ("counter", $i % 10 ? () : "new-$i-" . time) {
				open(my $f, ">", "$dir/$name") or die "$name: $!";
				print $f "change $i\n" x 20;
				$f->flush && $f->sync or die "$name: $!";
				close($f) or die "$name: $!";
			}
		}' "$M" "$1"
}

# A small tree with one of everything that is odd. Needs no privilege, but leaves out what it may not make.
odd_tree() (
	mkdir -p "$1" && cd "$1" || exit
	: >empty
	echo hello >plain
	printf 'no newline' >'with space'
	echo newline >$'a\nname\nof lines'
	echo tab >$'\ttab'
	echo latin >$'invalid-\xff\xfe-utf8'
	echo dash >./-dash
	echo star >'*?[x]'
	echo long >"$(printf 'n%.0s' {1..255})"
	echo quote >"it's \"quoted\" \\"
	ln plain hard-link
	mkdir -p links && ln plain links/hard-link-2
	ln -s plain symlink
	ln -s /nonexistent/target dangling
	ln -s "$(printf 't%.0s' {1..1000})" long-symlink
	mkfifo fifo
	mkdir -m 1777 sticky && mkdir -m 2775 setgid && mkdir -m 0700 closed && mkdir empty-directory
	echo secret >closed/file && { [ "$(id -u)" != 0 ] || chmod 000 closed/file; }
	echo suid >suid && chmod 4755 suid
	truncate -s 10M sparse-all-hole
	truncate -s 1M sparse && printf middle | dd of=sparse bs=1 seek=500000 conv=notrunc status=none && truncate -s 3M sparse
	head -c 300000 /dev/urandom >random
	head -c 4096 /dev/zero >page-of-zeros
	touch -d '1969-12-31 23:59:58.5 UTC' before-1970
	touch -d '2106-02-07 06:28:20.123456789 UTC' far-future
	mkdir many && cd many && for i in {1..300}; do echo "$i" >"file-$i"; done
	cd .. && mkdir -p "$(printf 'd/%.0s' {1..60})" && echo deep >"$(printf 'd/%.0s' {1..60})file"
	setfattr -n user.note -v 'some text' plain && setfattr -n user.binary -v 0x00ff00 plain && setfattr -n user.empty plain
	setfattr -n user.big -v "$(printf 'x%.0s' {1..3000})" random
	setfattr -n user.dir -v yes sticky
	setfacl -m u:12345:r,g:23456:rw plain && setfacl -d -m u:12345:rwx setgid
	touch -d '2020-01-02 03:04:05.678901234' many
	if [ "$(id -u)" = 0 ]; then
		mknod null c 1 3
		mknod block b 7 200
		chown 12345:23456 random
		chown -h 12345:23456 symlink
		setfattr -n trusted.note -v t plain
		setcap cap_net_raw+ep suid 2>/dev/null
	fi
	perl -MSocket -e 'socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un("socket"))' 2>/dev/null
	true
)
