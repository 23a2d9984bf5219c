/* Threads of a block as the kernel sees them: indices, barriers, warps.
 *
 * Every CUDA thread is a fiber. It runs until it waits for others; then the scheduler of block.cpp
 * goes on with the next one in the chosen order.
 */
#pragma once

#include <string.h>

#include "vectors.h"

namespace emulated {

enum State : uint8_t { READY, WAITING, ENDED };

struct Thread {
  void *stack, *stack_pointer;
  uint3 index;
  uint16_t number;     /* in the block, x fastest */
  uint8_t warp, lane;
  State state;
  const void *waits_on; /* the object whose event makes it READY again */
  const char *what;     /* in words, and the line of the source */
  int line;
};

extern Thread *current;
extern uint3 block_index;
extern dim3 block_size, grid_size;
constexpr unsigned WARP = 32, EVERY_LANE = 0xffffffffu;

/* Ends the call: `kind` is one word for programs, the rest a sentence for people. */
[[noreturn]] void fault(const char *kind, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Lets other threads run until one of them wakes those that wait on the same object. */
void wait(const void *on, const char *what, int line);
void wake(const void *on);

/* Waits for `threads` threads (0: all of the block) at the barrier of that number; or says only that
 * this one has come. */
void barrier(unsigned number, unsigned threads, int line);
void arrive(unsigned number, unsigned threads, int line);
void warp_barrier(unsigned mask, int line);

/* All lanes of `mask` meet; the last one runs `combine` over what each of them has brought, a null
 * pointer for lanes outside of the mask. All have to come with the same `combine`. */
typedef void (*Combine)(void *const *brought);
void meet(unsigned mask, void *mine, Combine combine, const char *what, int line);

struct Shuffled {
  uint64_t value, result;
  int source; /* lane, or -1 for the lane's own value */
};
void shuffle(void *const *brought);

struct Vote {
  unsigned predicate, all;
};
void vote(void *const *brought);

template <class T> T shuffled(unsigned mask, T value, int source, int line) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
  Shuffled mine = {0, 0, source};
  memcpy(&mine.value, &value, sizeof value);
  meet(mask, &mine, shuffle, "a shuffle", line);
  memcpy(&value, &mine.result, sizeof value);
  return value;
}

/* The lane that a shuffle reads; beyond its part of `width` lanes it is the lane itself. */
inline int lane_up(unsigned delta, int width) {
  const int lane = current->lane, first = lane & ~(width - 1);
  return lane - (int)delta >= first ? lane - (int)delta : -1;
}
inline int lane_down(unsigned delta, int width) {
  const int lane = current->lane, end = (lane & ~(width - 1)) + width;
  return lane + (int)delta < end ? lane + (int)delta : -1;
}
inline int lane_xor(int mask, int width) {
  const int lane = current->lane, other = lane ^ mask;
  return other < (lane & ~(width - 1)) + width ? other : -1;
}
inline int lane_of(int source, int width) {
  return (current->lane & ~(width - 1)) + (source & (width - 1));
}

inline unsigned ballot(unsigned mask, bool predicate, int line) {
  Vote mine = {predicate, 0};
  meet(mask, &mine, vote, "a vote", line);
  return mine.all;
}

}  // namespace emulated

#define threadIdx (emulated::current->index)
#define blockIdx emulated::block_index
#define blockDim emulated::block_size
#define gridDim emulated::grid_size
#define warpSize 32

#define __syncthreads() emulated::barrier(0, 0, __LINE__)
#define __syncwarp(...) emulated::warp_barrier(EMULATED_MASK(__VA_ARGS__), __LINE__)
#define EMULATED_MASK(...) (emulated::EVERY_LANE __VA_OPT__(&(__VA_ARGS__)))
#define EMULATED_WIDTH(...) (32 __VA_OPT__(-32 + (__VA_ARGS__)))
#define __shfl_sync(mask, value, lane, ...)                                                   \
  emulated::shuffled(mask, value, emulated::lane_of(lane, EMULATED_WIDTH(__VA_ARGS__)), __LINE__)
#define __shfl_up_sync(mask, value, delta, ...)                                               \
  emulated::shuffled(mask, value, emulated::lane_up(delta, EMULATED_WIDTH(__VA_ARGS__)), __LINE__)
#define __shfl_down_sync(mask, value, delta, ...)                                             \
  emulated::shuffled(mask, value, emulated::lane_down(delta, EMULATED_WIDTH(__VA_ARGS__)), __LINE__)
#define __shfl_xor_sync(mask, value, bits, ...)                                               \
  emulated::shuffled(mask, value, emulated::lane_xor(bits, EMULATED_WIDTH(__VA_ARGS__)), __LINE__)
#define __ballot_sync(mask, predicate) emulated::ballot(mask, (predicate) != 0, __LINE__)
#define __any_sync(mask, predicate) (__ballot_sync(mask, predicate) != 0)
#define __all_sync(mask, predicate) (__ballot_sync(mask, !(predicate)) == 0)
#define __activemask() emulated::EVERY_LANE
