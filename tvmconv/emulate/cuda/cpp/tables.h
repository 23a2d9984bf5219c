/* Which memory there is, and the notes on who touched it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "block.h"

namespace emulated {

/* Notes on a few bytes: the last write and the last reads by two threads. Times are counted by the
 * clocks of warps; 0 is before everything. */
struct Note {
  uint32_t written, read, read_before;
  uint16_t writer, reader, reader_before;
  uint16_t pending; /* whether a copy that nobody has waited for writes here */
  uint16_t shown;   /* how often the writer had shown its writes to asynchronous readers before */
};

/* A stretch of memory with a name. */
struct Region {
  const char *name;
  uintptr_t begin;
  size_t bytes;
  bool writable, is_shared;
  Note *notes; /* none where nothing is ever written */
};

/* Device memory of one call, all poison. */
constexpr unsigned MAX_BUFFERS = 64;
void device_begins(size_t total_bytes, unsigned buffers);
void *device_buffer(const char *name, size_t bytes, bool writable);
extern unsigned note_shift; /* a note is about 2^note_shift bytes */

/* The region of an access, or null for memory of the thread itself; faults beyond its bounds. */
Region *region_of(const void *data, size_t bytes, bool writes);

/* Notes an access of `thread`; UNKNOWN_LANE of its warp. Faults when it races with another. */
constexpr uint16_t UNKNOWN_LANE = 0x8000;
void note_read(Region &region, const void *data, size_t bytes, uint16_t thread);
void note_write(Region &region, const void *data, size_t bytes, uint16_t thread);
/* Faults where an asynchronous reader does not see what was written last. */
void check_shown(Region &region, const void *data, size_t bytes, uint16_t thread);
/* What bulk copies write is done by no thread, but counts as done by a warp of its own. */
constexpr unsigned BULK_WARP = MAX_WARPS, CLOCKS = MAX_WARPS + 1;
constexpr uint16_t BULK_COPY = BULK_WARP * WARP | UNKNOWN_LANE;
void note_pending(Region &region, const void *data, size_t bytes, bool is_pending);

/* A block begins, which knows of the others of its launch that they are unordered. */
void clocks_begin(unsigned warps, bool launch);

/* Clocks of warps, for what orders them beside barriers: what this warp knows of others. */
struct Knowledge {
  uint32_t clocks[CLOCKS];
};
void publish(Knowledge &to);        /* all that the current warp did and knows */
void learn(const Knowledge &from);
/* A bulk copy has written; who learns from `to` knows. */
void note_bulk(Region &region, const void *data, size_t bytes, Knowledge &to);

}  // namespace emulated
