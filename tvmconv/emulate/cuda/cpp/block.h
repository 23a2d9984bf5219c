/* The inner side of blocks, for the runtime's own sources; kernels see threads.h. */
#pragma once

#include "threads.h"

namespace emulated {

constexpr unsigned MAX_THREADS = 1024, MAX_WARPS = MAX_THREADS / WARP;
constexpr size_t STACK = 128 << 10;

typedef void (*Invoke)(void *const *arguments);

/* One start of a kernel. */
struct Launch {
  Invoke kernel;
  void **arguments;
  dim3 grid, block;
  unsigned shared_bytes;
};

enum Order : uint32_t { FORWARD, REVERSE, RANDOM };

/* Runs all blocks, one after the other. */
void run_launch(const Launch &launch, Order order, uint32_t seed);

/* "thread (3, 1, 0)", into a room of 64 bytes. */
const char *thread_name(unsigned number, char *room);

/* Memory's side of the same events. */
void launch_begins(unsigned shared_bytes);
void block_begins(unsigned warps);
void block_ends();
void thread_ends();
void block_synchronised();
void warps_synchronised(uint32_t warps);
void warp_synchronised(unsigned warp);

}  // namespace emulated
