/* Multiplications of a warpgroup (wgmma): four warps, matrices in shared memory, sums in registers.
 *
 * As late as a GPU may: sums are poison until the group is waited for, and the matrices must then be
 * what they were. What threads and cp.async wrote has to be shown to it first (fence.proxy.async). */
#pragma once

#include <stdint.h>

#include "memory.h"
#include "ptx.h"
#include "tensor_core.h"
#include "threads.h"

namespace emulated {
namespace ptx {

constexpr int GROUP_DEPTH = 16, MAX_SUMS = 128, CHUNK = 16;

/* A multiplication that is under way, as one thread sees it. */
struct Multiplication {
  uint64_t a, b;
  int n, line;
  uint32_t group;
  uint64_t seen; /* a number made of what it read */
  float *places[MAX_SUMS];
  float sums[MAX_SUMS];
};

/* Bytes of a row of a matrix under a descriptor, `chunk` 16 bytes of its depth. */
const unsigned char *matrix_chunk(uint64_t descriptor, int row, int chunk);
/* Row of A that register `i` of the current thread adds to, and column. */
int sum_row(int i);
int sum_column(int i);

/* Room for a multiplication, with sums as they will be once all before it have ended. */
Multiplication &start_multiplication(uint64_t a, uint64_t b, int n, int line, float *const *places,
                                     const float *now);
/* Notes what it reads and takes its number. */
void look_at_matrices(Multiplication &of);

void wgmma_fence(int line);
void wgmma_commit_group(int line);
void wgmma_wait_group(unsigned youngest, int line);

template <class T>
EMULATED_MODEL void read_row(uint64_t descriptor, int row, float *to) {
  for (int chunk = 0; chunk < 2; ++chunk) {
    uint32_t words[4];
    memcpy(words, matrix_chunk(descriptor, row, chunk), CHUNK);
    for (int i = 0; i < 8; ++i) to[chunk * 8 + i] = T::value(words[i / 2], i % 2);
  }
}

/* D = A B + D of 64 x 16 and 16 x N; `places` are the variables behind the registers. */
template <class T, int N, class... V>
EMULATED_MODEL void wgmma(int line, uint64_t a, uint64_t b, bool added, float *const *places,
                          V &...registers) {
  static_assert(sizeof...(V) == N / 2 && N % 8 == 0 && N <= 256, "registers of wgmma");
  warp_barrier(EVERY_LANE, line);
  float now[N / 2];
  float *next = now;
  ((*next++ = registers), ...);
  Multiplication &mine = start_multiplication(a, b, N, line, places, now);
  look_at_matrices(mine);
  float rows[2][GROUP_DEPTH], column[GROUP_DEPTH];
  read_row<T>(a, sum_row(0), rows[0]);
  read_row<T>(a, sum_row(2), rows[1]);
  for (int i = 0; i < N / 2; i += i % 4 == 0 ? 1 : 3) {
    read_row<T>(b, sum_column(i), column);
    for (int half = 0; half < 2; ++half) {
      float &sum = mine.sums[i + 2 * half];
      sum = multiply_add(added ? sum : 0.0f, rows[half], column, GROUP_DEPTH);
    }
  }
  const float unknown = __builtin_nanf("");
  ((registers = unknown), ...);
}

}  // namespace ptx
}  // namespace emulated
