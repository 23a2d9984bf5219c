#include "async.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "tables.h"

namespace emulated {
namespace {

struct Copy {
  unsigned char *to;
  const unsigned char *from;
  uint16_t bytes, given;
  uint32_t group;
};

/* A thread's copies in the order of their groups; `open` is the group that is not yet committed. */
struct Copies {
  Copy *all;
  unsigned first, end, room;
  uint32_t open;
};

Copies copies[MAX_THREADS];

void deliver(Copies &own, uint32_t end_group) {
  for (; own.first < own.end && own.all[own.first].group < end_group; ++own.first) {
    const Copy &copy = own.all[own.first];
    Region *region = region_of(copy.to, copy.bytes, true);
    note_pending(*region, copy.to, copy.bytes, false);
    writes(copy.to, copy.bytes);
    memcpy(copy.to, copy.from, copy.given);
    memset(copy.to + copy.given, 0, copy.bytes - copy.given);
  }
  if (own.first == own.end) own.first = own.end = 0;
}

}  // namespace

namespace ptx {

void cp_async(uint32_t to, uint64_t from, unsigned bytes, unsigned given) {
  if (given > bytes) fault("bounds", "cp.async of %u bytes is given %u", bytes, given);
  Copies &own = copies[current->number];
  unsigned char *target = (unsigned char *)at_shared(to);
  if (given > 0) reads((const void *)from, given, bytes);
  writes(target, bytes, bytes);
  poison(target, bytes);
  note_pending(*region_of(target, bytes, true), target, bytes, true);
  if (own.end == own.room) {
    own.room = own.room == 0 ? 16 : own.room * 2;
    own.all = (Copy *)realloc(own.all, own.room * sizeof *own.all);
  }
  own.all[own.end++] = {target, (const unsigned char *)from, (uint16_t)bytes, (uint16_t)given,
                        own.open};
}

void cp_async_commit_group() { ++copies[current->number].open; }

void cp_async_wait_group(unsigned youngest) {
  Copies &own = copies[current->number];
  if (own.open > youngest) deliver(own, own.open - youngest);
}

void cp_async_wait_all() { deliver(copies[current->number], UINT32_MAX); }

}  // namespace ptx

/* Copies that a thread has not waited for when it ends arrive where nobody can look. */
void thread_ends() {
  Copies &own = copies[current->number];
  deliver(own, UINT32_MAX);
  own.open = 0;
}

/* After a fault: nothing is under way. */
void forget_copies() {
  for (Copies &own : copies) own.first = own.end = own.open = 0;
}

}  // namespace emulated
