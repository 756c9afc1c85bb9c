# drsfs: build, tests, demo, bench. 'make help' lists the targets.
# One build folder a variant: make V=release (default), V=asan, V=tsan, V=debug.

V ?= release
B := build/$(V)

ifeq ($(origin CC),default)
CC := gcc
endif

PACKAGES := fuse3 lmdb libxxhash libevent libevent_pthreads libprotobuf-c inih jansson
WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wimplicit-fallthrough -Wvla
CFLAGS_release := -O2 -g
CFLAGS_debug := -Og -g3
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g -fsanitize=thread
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DFUSE_USE_VERSION=314 -I. -I$(B) $(WARNINGS) $(CFLAGS_$(V)) $(shell pkg-config --cflags $(PACKAGES)) -pthread $(CFLAGS)
ALL_LDFLAGS = $(CFLAGS_$(V)) -pthread $(LDFLAGS)
LIBS = $(shell pkg-config --libs $(PACKAGES))

SOURCES := $(filter-out drsfs/main.c,$(wildcard drsfs/*.c master/*.c slave/*.c store/*.c))
PROTOS := $(wildcard drsfs/*.proto)
OBJECTS := $(SOURCES:%.c=$(B)/%.o) $(PROTOS:%.proto=$(B)/%.pb-c.o)
UNITS := $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/*.c))

.PHONY: all unit clean
.SECONDARY:

all: $(B)/drsfs

$(B)/drsfs: $(B)/drsfs/main.o $(B)/libdrsfs.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/libdrsfs.a: $(OBJECTS)
	@rm -f $@
	ar rcs $@ $^

$(B)/%.o: %.c | $(PROTOS:%.proto=$(B)/%.pb-c.h)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/%.pb-c.o: $(B)/%.pb-c.c
	$(CC) $(ALL_CFLAGS) -w -MMD -MP -c -o $@ $<

$(B)/%.pb-c.c $(B)/%.pb-c.h &: %.proto
	@mkdir -p $(@D)
	protoc-c --c_out=$(B) $<

$(B)/unit/%: tests/unit/%.c $(B)/libdrsfs.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(B)/libdrsfs.a $(LIBS) -lcriterion

unit: $(UNITS)
	@for t in $(UNITS); do $$t || exit 1; done

clean:
	rm -rf build

-include $(OBJECTS:.o=.d) $(UNITS:=.d)
