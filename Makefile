# drsfs: build, tests, demo, bench. 'make help' lists the targets.
# One build folder a variant: make V=release (default), V=asan, V=tsan, V=debug, V=fault.

VERSION := 0.1

V ?= release
B := build/$(V)

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(V),fuzz)
CC := clang
FUZZ_MAIN := -fsanitize=fuzzer
CFLAGS += -fsanitize=fuzzer-no-link
else
FUZZ_MAIN := $(B)/tests/fuzz/replay.o
endif

PREFIX ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= /lib/systemd/system

PACKAGES := fuse3 lmdb libxxhash libevent libevent_pthreads libprotobuf-c inih jansson
WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wimplicit-fallthrough -Wvla
CFLAGS_release := -O2 -g
CFLAGS_debug := -Og -g3
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_fuzz := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -w
CFLAGS_tsan := -O1 -g -fsanitize=thread
# With fault points (drsfs/fault.h), where a test's environment makes the program kill itself.
CFLAGS_fault := -O1 -g -DDRSFS_FAULTS
# Asked once, and only when something is compiled: 'make deps' has to work where pkg-config is still missing.
PACKAGES_CFLAGS = $(eval PACKAGES_CFLAGS := $(shell pkg-config --cflags $(PACKAGES)))$(PACKAGES_CFLAGS)
LIBS = $(eval LIBS := $(shell pkg-config --libs $(PACKAGES)))$(LIBS)
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DFUSE_USE_VERSION=314 -I. -I$(B) $(WARNINGS) $(CFLAGS_$(V)) $(PACKAGES_CFLAGS) -pthread $(CFLAGS)
ALL_LDFLAGS = $(CFLAGS_$(V)) -pthread $(LDFLAGS)

# What a bare Debian 12 or 13 lacks for building, and for the tests' workloads and comparisons.
DEBIAN := gcc libc6-dev make pkgconf libfuse3-dev fuse3 liblmdb-dev libxxhash-dev libevent-dev libprotobuf-c-dev protobuf-c-compiler \
	libinih-dev libjansson-dev libcriterion-dev git rsync attr acl vim-tiny sqlite3 nginx sudo inotify-tools

# One word a file, unless VERBOSE=1.
say = $(if $(VERBOSE),,@echo '  $(1)'; )

# The pure cores: no I/O, no clock, no thread, nothing of store or FUSE. 'make lint' holds them to it.
CORES := master/core.c slave/core.c drsfs/machine.c drsfs/machine.h drsfs/event.h drsfs/drs.h master/core.h slave/core.h

SOURCES := $(filter-out drsfs/main.c,$(wildcard drsfs/*.c master/*.c slave/*.c store/*.c))
PROTOS := $(wildcard drsfs/*.proto)
OBJECTS := $(SOURCES:%.c=$(B)/%.o) $(PROTOS:%.proto=$(B)/%.pb-c.o)
UNITS := $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/*.c))
SIM_OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/sim/*.c))
# Plain programs, one a file: fuzz (replay their corpora), stress (exit code tells), bench, lib (helpers of the scripts).
FUZZERS := $(patsubst tests/%.c,$(B)/%,$(filter-out %/replay.c,$(wildcard tests/fuzz/*.c)))
TOOLS := $(FUZZERS) $(foreach kind,stress bench lib,$(patsubst tests/$(kind)/%.c,$(B)/$(kind)/%,$(wildcard tests/$(kind)/*.c)))

.PHONY: deps all demo check unit sim asan tsan fuzz bench lint format install uninstall clean help tests-build print-cores alone
.DELETE_ON_ERROR:
.SECONDARY:

all: $(B)/bin/drsfs

help:
	@echo 'make all        build $(B)/bin/drsfs             (V=asan, tsan, debug: another variant)'
	@echo 'make demo       a master and two slaves on loopback, to play with (DEMO=once: only prove and end)'
	@echo 'make check      every test; the last line is the total'
	@echo 'make unit       unit tests of this variant       make asan, tsan  under the sanitizers'
	@echo 'make sim        the cores in the simulator       (SEED=n replays one run)'
	@echo 'make fuzz       replay the fuzzers'"'"' corpus, or fuzz for TIME=seconds'
	@echo 'make bench      the figures, as a table'
	@echo 'make lint       what must not be there, and format   make format  apply .clang-format'
	@echo 'make install    to $(PREFIX)                     make uninstall, clean'
	@echo 'make deps       install the packages that are missing (as root)'

# Nothing is started by being installed (policy-rc.d): nginx is wanted for 'nginx -t'.
deps:
	@command -v dpkg-query >/dev/null || { echo 'Not a Debian: please see to what its packages $(DEBIAN) hold.'; exit 0; }; \
	missing=; for package in $(DEBIAN); do \
		dpkg-query -W -f='$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || missing="$$missing $$package"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" != 0 ]; then echo "Missing packages; as root: apt-get install$$missing"; exit 1; fi; \
	echo "Installing$$missing"; \
	export DEBIAN_FRONTEND=noninteractive; \
	policy=/usr/sbin/policy-rc.d; \
	[ -e $$policy ] || { trap "rm -f $$policy" EXIT; trap 'exit 1' INT TERM; printf '#!/bin/sh\nexit 101\n' >$$policy; chmod 755 $$policy; }; \
	apt-get update -q && apt-get install -q -y --no-install-recommends $$missing

$(B)/bin/drsfs: $(B)/drsfs/main.o $(B)/libdrsfs.a
	@mkdir -p $(@D)
	$(call say,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/libdrsfs.a: $(OBJECTS)
	@rm -f $@
	$(call say,$@)ar rcs $@ $^

$(B)/drsfs/main.o: ALL_CFLAGS += -DDRSFS_VERSION='"$(VERSION)"'

$(B)/%.o: %.c | $(PROTOS:%.proto=$(B)/%.pb-c.h)
	@mkdir -p $(@D)
	$(call say,$@)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/%.pb-c.o: $(B)/%.pb-c.c
	$(call say,$@)$(CC) $(ALL_CFLAGS) -w -MMD -MP -c -o $@ $<

$(B)/%.pb-c.c $(B)/%.pb-c.h &: %.proto
	@mkdir -p $(@D)
	$(call say,$@)protoc-c --c_out=$(B) $<

$(B)/unit/%: tests/unit/%.c $(B)/libdrsfs.a
	@mkdir -p $(@D)
	$(call say,$@)$(CC) $(ALL_CFLAGS) -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(B)/libdrsfs.a $(LIBS) -lcriterion

$(B)/sim: $(SIM_OBJECTS) $(B)/libdrsfs.a
	$(call say,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lm

# A fuzz target: with clang's fuzzer under V=fuzz, else with a main program that replays corpora.
$(FUZZERS): $(B)/fuzz/%: tests/fuzz/%.c $(B)/libdrsfs.a $(filter %.o,$(FUZZ_MAIN))
	@mkdir -p $(@D)
	$(call say,$@)$(CC) $(ALL_CFLAGS) -MMD -MP $(ALL_LDFLAGS) $(CFLAGS) -o $@ $< $(FUZZ_MAIN) $(B)/libdrsfs.a $(LIBS)

$(B)/%: tests/%.c $(B)/libdrsfs.a
	@mkdir -p $(@D)
	$(call say,$@)$(CC) $(ALL_CFLAGS) -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(B)/libdrsfs.a $(LIBS) -lm

demo: deps
	@$(MAKE) --no-print-directory all
	@tests/demo

check: deps
	@tests/run

# All the tests' programs of this variant, none run.
tests-build: $(B)/bin/drsfs $(UNITS) $(if $(SIM_OBJECTS),$(B)/sim) $(TOOLS)

unit sim fuzz lint:
	@tests/run $@

asan:
	@tests/run asan

tsan:
	@tests/run tsan

bench: deps
	@$(MAKE) --no-print-directory all $(patsubst tests/%.c,$(B)/%,$(wildcard tests/bench/*.c))
	@tests/bench/run

format:
	clang-format -i $(wildcard drsfs/*.[ch] master/*.[ch] slave/*.[ch] store/*.[ch] tests/*/*.[ch])

install: all
	install -D -m 755 $(B)/bin/drsfs $(DESTDIR)$(SBINDIR)/drsfs
	install -D -m 644 man/drsfs.8 $(DESTDIR)$(MANDIR)/man8/drsfs.8
	for unit in packaging/*.service; do \
		mkdir -p $(DESTDIR)$(UNITDIR) && sed 's|@SBINDIR@|$(SBINDIR)|' $$unit >$(DESTDIR)$(UNITDIR)/$${unit##*/} || exit 1; \
	done

uninstall:
	rm -f $(DESTDIR)$(SBINDIR)/drsfs $(DESTDIR)$(MANDIR)/man8/drsfs.8
	rm -f $(patsubst packaging/%,$(DESTDIR)$(UNITDIR)/%,$(wildcard packaging/*.service))

# For tests/lint: which files are cores, and whether a header compiles alone.
print-cores:
	@printf '%s\n' $(CORES)

alone:
	@echo '#include "$(HEADER)"' | $(CC) $(ALL_CFLAGS) -fsyntax-only -x c -

clean:
	rm -rf build

-include $(OBJECTS:.o=.d) $(SIM_OBJECTS:.o=.d) $(B)/drsfs/main.d $(UNITS:=.d) $(TOOLS:=.d)
