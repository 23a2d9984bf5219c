#include "warpgroup.h"

#include <stdlib.h>
#include <string.h>

#include "tables.h"

namespace emulated {
namespace ptx {
namespace {

constexpr unsigned SWIZZLE_128B = 1, ROW_BYTES = 128, ROWS_TOGETHER = 8;

/* A thread's multiplications in the order of their groups; `open` is not yet committed. */
struct Multiplications {
  Multiplication *all;
  unsigned end, room;
  uint32_t open;
};

Multiplications started[MAX_THREADS];

uint64_t mixed(uint64_t seen, const unsigned char *chunk) {
  uint64_t words[2];
  memcpy(words, chunk, sizeof words);
  for (uint64_t word : words) seen = (seen ^ word) * 0x9e3779b97f4a7c15ull + (seen >> 29);
  return seen;
}

/* The two rows of A and all rows of B that the current thread's sums need. */
template <class Visit>
void visit_chunks(const Multiplication &of, Visit visit) {
  for (int chunk = 0; chunk < 2; ++chunk) {
    visit(matrix_chunk(of.a, sum_row(0), chunk));
    visit(matrix_chunk(of.a, sum_row(2), chunk));
    for (int row = 0; row < of.n; ++row) visit(matrix_chunk(of.b, row, chunk));
  }
}

uint64_t number_of(const Multiplication &of) {
  uint64_t seen = 0;
  visit_chunks(of, [&](const unsigned char *chunk) { seen = mixed(seen, chunk); });
  return seen;
}

bool is_last(const Multiplications &own, unsigned at) {
  for (unsigned later = at + 1; later < own.end; ++later)
    if (own.all[later].places[0] == own.all[at].places[0]) return false;
  return true;
}

void finish(Multiplications &own, uint32_t end_group) {
  unsigned done = 0;
  for (; done < own.end && own.all[done].group < end_group; ++done) {
    const Multiplication &of = own.all[done];
    if (number_of(of) != of.seen)
      fault("async", "shared memory that wgmma in line %d reads was written before it was waited for",
            of.line);
    if (!is_last(own, done)) continue;
    for (int i = 0; i < of.n / 2; ++i) *of.places[i] = of.sums[i];
  }
  own.end -= done;
  if (done > 0) memmove(own.all, own.all + done, own.end * sizeof *own.all);
}

}  // namespace

const unsigned char *matrix_chunk(uint64_t descriptor, int row, int chunk) {
  const uint32_t start = (uint32_t)(descriptor & 0x3fff) << 4;
  const uint32_t between = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
  if (descriptor >> 62 != SWIZZLE_128B)
    fault("wgmma", "a matrix whose swizzle is %u; modelled is 128 bytes", (unsigned)(descriptor >> 62));
  if (start & (ROWS_TOGETHER - 1) * ROW_BYTES)
    fault("misaligned", "a matrix of wgmma that starts at %u, no multiple of 1024", start);
  const uint32_t at = start + row / ROWS_TOGETHER * between + row % ROWS_TOGETHER * ROW_BYTES
                      + chunk * CHUNK;
  return (const unsigned char *)at_shared(at ^ (at >> 7 & 7) << 4);
}

int sum_row(int i) { return current->warp % 4 * 16 + current->lane / 4 + i / 2 % 2 * 8; }
int sum_column(int i) { return i / 4 * 8 + current->lane % 4 * 2 + i % 2; }

Multiplication &start_multiplication(uint64_t a, uint64_t b, int n, int line, float *const *places,
                                     const float *now) {
  Multiplications &own = started[current->number];
  if (own.end == own.room) {
    own.room = own.room == 0 ? 8 : own.room * 2;
    own.all = (Multiplication *)realloc(own.all, own.room * sizeof *own.all);
  }
  for (unsigned before = own.end; before-- > 0;)
    if (own.all[before].places[0] == places[0]) {
      now = own.all[before].sums;
      break;
    }
  Multiplication &made = own.all[own.end++];
  made.a = a, made.b = b, made.n = n, made.line = line, made.group = own.open;
  memcpy(made.places, places, n / 2 * sizeof *places);
  memcpy(made.sums, now, n / 2 * sizeof *now);
  return made;
}

void look_at_matrices(Multiplication &of) {
  visit_chunks(of, [](const unsigned char *chunk) { async_reads(chunk, CHUNK, CHUNK); });
  of.seen = number_of(of);
}

void wgmma_fence(int line) { warp_barrier(EVERY_LANE, line); }

void wgmma_commit_group(int line) {
  warp_barrier(EVERY_LANE, line);
  ++started[current->number].open;
}

void wgmma_wait_group(unsigned youngest, int line) {
  warp_barrier(EVERY_LANE, line);
  Multiplications &own = started[current->number];
  if (own.open > youngest) finish(own, own.open - youngest);
}

}  // namespace ptx

/* After a call or a fault: nothing is under way. */
void forget_multiplications() {
  for (ptx::Multiplications &own : ptx::started) own.end = own.open = 0;
}

}  // namespace emulated
