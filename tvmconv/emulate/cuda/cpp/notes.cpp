/* Who touched what, and whether anything orders two accesses: happens-before, checked always.
 *
 * Each warp has a clock, and knows of every other warp up to which time its doings are visible here
 * (vector clocks, as in Flanagan and Freund, "FastTrack", PLDI 2009, with warps in place of threads).
 * Barriers bring all to the same knowledge. Within a warp __syncwarp orders the lanes, and nothing
 * else does. Clocks never go back: what an earlier launch did is known to all.
 */
#include <stdio.h>

#include "memory.h"
#include "tables.h"

namespace emulated {
namespace {

uint32_t clocks[CLOCKS];           /* of each warp: the time of what it does now */
uint32_t lanes_agree[MAX_WARPS];   /* its lanes know of each other what was before this */
Knowledge known[MAX_WARPS];
uint16_t shown[MAX_THREADS];          /* how often each thread has done so */
uint32_t known_when_shown[MAX_THREADS]; /* what it knew of all warps when it last did */
uint32_t launch_began, block_began, now = 1;
unsigned warp_count;

void all_know_all() {
  for (unsigned w = 0; w < warp_count; ++w)
    if (clocks[w] > now) now = clocks[w];
  if (clocks[BULK_WARP] > now) now = clocks[BULK_WARP];
  for (unsigned w = 0; w < warp_count; ++w) {
    for (unsigned v = 0; v < warp_count; ++v) known[w].clocks[v] = now;
    known[w].clocks[BULK_WARP] = now;
    clocks[w] = lanes_agree[w] = now + 1;
  }
  clocks[BULK_WARP] = ++now;
}

/* Whether `own` may rely on what `thread` did at `time`. */
bool ordered(const Region &region, uint32_t time, uint16_t thread, uint16_t own) {
  if (time < launch_began) return true; /* 0 too: nobody did anything */
  if (time < block_began) return region.is_shared; /* another block of the same launch */
  const unsigned warp = (thread & ~UNKNOWN_LANE) / WARP, mine = (own & ~UNKNOWN_LANE) / WARP;
  if (warp != mine) return time <= known[mine].clocks[warp];
  if (thread == own) return true;
  return time < lanes_agree[mine];
}

[[noreturn]] void race(const Region &region, size_t offset, uint32_t time, uint16_t other,
                       const char *own_verb, const char *verb) {
  if (time < block_began)
    fault("race", "%s byte %zu of %s, which another block of the launch %s", own_verb, offset,
          region.name, verb);
  char name[64];
  if (other == BULK_COPY)
    snprintf(name, sizeof name, "a bulk copy");
  else if (other & UNKNOWN_LANE)
    snprintf(name, sizeof name, "warp %u", (other & ~UNKNOWN_LANE) / WARP);
  else
    thread_name(other, name);
  fault("race", "%s byte %zu of %s, which %s %s, with nothing between that orders them",
        own_verb, offset, region.name, name, verb);
}

struct Span {
  Note *first, *end;
};

Span span(Region &region, const void *data, size_t bytes) {
  const size_t offset = (uintptr_t)data - region.begin;
  return {region.notes + (offset >> note_shift), region.notes + ((offset + bytes - 1) >> note_shift) + 1};
}

size_t offset_of(const Region &region, const Note *note) {
  return (size_t)(note - region.notes) << note_shift;
}

}  // namespace


void note_read(Region &region, const void *data, size_t bytes, uint16_t thread) {
  const uint32_t time = clocks[current->warp];
  const Span touched = span(region, data, bytes);
  for (Note *note = touched.first; note != touched.end; ++note) {
    if (note->pending)
      fault("async", "reads byte %zu of %s, which an asynchronous copy that was not waited for "
            "writes", offset_of(region, note), region.name);
    if (!ordered(region, note->written, note->writer, thread))
      race(region, offset_of(region, note), note->written, note->writer, "reads", "wrote");
    if (note->reader != thread) note->read_before = note->read, note->reader_before = note->reader;
    note->read = time, note->reader = thread;
  }
}

void note_write(Region &region, const void *data, size_t bytes, uint16_t thread) {
  const uint32_t time = clocks[current->warp];
  const Span touched = span(region, data, bytes);
  for (Note *note = touched.first; note != touched.end; ++note) {
    if (note->pending)
      fault("async", "writes byte %zu of %s, which an asynchronous copy that was not waited for "
            "writes too", offset_of(region, note), region.name);
    if (!ordered(region, note->written, note->writer, thread))
      race(region, offset_of(region, note), note->written, note->writer, "writes", "wrote");
    if (!ordered(region, note->read, note->reader, thread))
      race(region, offset_of(region, note), note->read, note->reader, "writes", "read");
    if (!ordered(region, note->read_before, note->reader_before, thread))
      race(region, offset_of(region, note), note->read_before, note->reader_before, "writes",
           "read");
    note->written = time, note->writer = thread;
    note->shown = shown[thread & ~UNKNOWN_LANE];
  }
}

void check_shown(Region &region, const void *data, size_t bytes, uint16_t thread) {
  const Span touched = span(region, data, bytes);
  for (Note *note = touched.first; note != touched.end; ++note) {
    const unsigned writer = note->writer & ~UNKNOWN_LANE;
    if (note->written < block_began || note->writer == BULK_COPY || note->shown != shown[writer] ||
        note->written <= known_when_shown[thread])
      continue;
    char name[64];
    fault("async", "reads byte %zu of %s past the ordinary path, to which %s has not shown what it "
          "wrote (fence.proxy.async)", offset_of(region, note), region.name,
          thread_name(writer, name));
  }
}

void show_to_async() {
  const unsigned thread = current->number, own = current->warp;
  ++shown[thread];
  uint32_t least = UINT32_MAX;
  for (unsigned w = 0; w < warp_count; ++w)
    if (w != own && known[own].clocks[w] < least) least = known[own].clocks[w];
  known_when_shown[thread] = least == UINT32_MAX ? lanes_agree[own] - 1 : least;
}

void note_pending(Region &region, const void *data, size_t bytes, bool is_pending) {
  const Span touched = span(region, data, bytes);
  for (Note *note = touched.first; note != touched.end; ++note) note->pending = is_pending;
}

void note_bulk(Region &region, const void *data, size_t bytes, Knowledge &to) {
  const Span touched = span(region, data, bytes);
  for (Note *note = touched.first; note != touched.end; ++note)
    note->pending = false, note->written = clocks[BULK_WARP], note->writer = BULK_COPY;
  to.clocks[BULK_WARP] = clocks[BULK_WARP]++;
}

void clocks_begin(unsigned warps, bool launch) {
  warp_count = MAX_WARPS;
  all_know_all();
  warp_count = warps;
  block_began = now;
  if (launch) launch_began = now;
}

void block_synchronised() { all_know_all(); }

void warp_synchronised(unsigned warp) { lanes_agree[warp] = ++clocks[warp]; }

void publish(Knowledge &to) {
  const unsigned own = current->warp;
  for (unsigned w = 0; w < CLOCKS; ++w)
    if (known[own].clocks[w] > to.clocks[w]) to.clocks[w] = known[own].clocks[w];
  to.clocks[own] = clocks[own]++;
}

void learn(const Knowledge &from) {
  const unsigned own = current->warp;
  for (unsigned w = 0; w < CLOCKS; ++w)
    if (from.clocks[w] > known[own].clocks[w]) known[own].clocks[w] = from.clocks[w];
}

void warps_synchronised(uint32_t warps) {
  Knowledge together = {};
  for (unsigned w = 0; w < warp_count; ++w) {
    if ((warps >> w & 1) == 0) continue;
    for (unsigned v = 0; v < CLOCKS; ++v)
      if (known[w].clocks[v] > together.clocks[v]) together.clocks[v] = known[w].clocks[v];
    if (clocks[w] > together.clocks[w]) together.clocks[w] = clocks[w];
  }
  for (unsigned w = 0; w < warp_count; ++w) {
    if ((warps >> w & 1) == 0) continue;
    known[w] = together;
    lanes_agree[w] = ++clocks[w];
  }
}

}  // namespace emulated
