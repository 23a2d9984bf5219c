/* Blocks and their threads: fibers, the order in which they run, and what they wait for. */
#include "block.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fiber.h"

namespace emulated {

Thread *current;
uint3 block_index;
dim3 block_size, grid_size;

namespace {

constexpr size_t GUARD = 4096;
constexpr unsigned BARRIERS = 16;

struct Barrier {
  unsigned wanted, arrived;
  uint32_t warps;
  int line;
};

struct Warp {
  unsigned lanes; /* that have not ended */
  unsigned wanted, arrived;
  Combine combine;
  int line;
  void *brought[WARP];
};

Thread threads[MAX_THREADS];
uint16_t sequence[MAX_THREADS];
Warp warps[MAX_WARPS];
Barrier barriers[BARRIERS];
unsigned count, ended;
unsigned char *stacks;
void *scheduler;
const Launch *running;
uint32_t random_state;

uint32_t random_below(uint32_t limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return (uint32_t)((uint64_t)random_state * limit >> 32);
}

template <class T>
void shuffle_order(T *items, unsigned size) {
  for (unsigned i = size; i > 1; --i) {
    const uint32_t j = random_below(i);
    const T kept = items[i - 1];
    items[i - 1] = items[j];
    items[j] = kept;
  }
}

void thread_main() {
  running->kernel(running->arguments);
  thread_ends();
  current->state = ENDED;
  ++ended;
  warps[current->warp].lanes &= ~(1u << current->lane);
  for (;;) switch_fiber(&current->stack_pointer, scheduler);
}

void make_stacks() {
  const size_t bytes = (size_t)MAX_THREADS * (STACK + GUARD);
  stacks = (unsigned char *)mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stacks == MAP_FAILED) fault("memory", "no memory for the stacks of threads");
  for (unsigned i = 0; i < MAX_THREADS; ++i)
    mprotect(stacks + i * (STACK + GUARD), GUARD, PROT_NONE);
}

void prepare(unsigned number) {
  Thread &thread = threads[number];
  thread.number = (uint16_t)number;
  thread.warp = (uint8_t)(number / WARP);
  thread.lane = (uint8_t)(number % WARP);
  thread.index = {number % block_size.x, number / block_size.x % block_size.y,
                  number / (block_size.x * block_size.y)};
  thread.state = READY;
  thread.stack = stacks + number * (STACK + GUARD) + GUARD;
  thread.stack_pointer = new_fiber(thread.stack, STACK, thread_main);
  warps[thread.warp].lanes |= 1u << thread.lane;
}

/* Nobody can go on: says who waits for what. */
[[noreturn]] void stuck() {
  const Thread *waiting = nullptr;
  for (unsigned i = 0; i < count && waiting == nullptr; ++i)
    if (threads[i].state == WAITING) waiting = &threads[i];
  char first[64], second[64];
  thread_name(waiting->number, first);
  for (unsigned i = 0; i < count; ++i) {
    const Thread &other = threads[i];
    thread_name(i, second);
    if (other.state == ENDED)
      fault("divergence", "%s waits for %s in line %d, %s has ended", first, waiting->what,
            waiting->line, second);
    if (other.line != waiting->line)
      fault("divergence", "%s waits for %s in line %d, %s for %s in line %d", first, waiting->what,
            waiting->line, second, other.what, other.line);
  }
  fault("deadlock", "all threads wait for %s in line %d", waiting->what, waiting->line);
}

void run_block(Order order) {
  ended = 0;
  memset(barriers, 0, sizeof barriers);
  memset(warps, 0, sizeof warps);
  for (unsigned i = 0; i < count; ++i) {
    prepare(i);
    sequence[i] = (uint16_t)(order == REVERSE ? count - 1 - i : i);
  }
  block_begins((count + WARP - 1) / WARP);
  while (ended < count) {
    bool moved = false;
    if (order == RANDOM) shuffle_order(sequence, count);
    for (unsigned i = 0; i < count; ++i) {
      Thread &thread = threads[sequence[i]];
      if (thread.state != READY) continue;
      moved = true;
      current = &thread;
      switch_fiber(&scheduler, thread.stack_pointer);
    }
    if (!moved) stuck();
  }
  current = nullptr;
  block_ends();
}

/* Counts this thread in; true when it was the last. */
bool joins(Barrier &barrier, unsigned number, unsigned wanted, int line) {
  if (barrier.arrived == 0) barrier = {wanted, 0, 0, line};
  if (barrier.wanted != wanted)
    fault("divergence", "barrier %u is for %u threads in line %d, for %u in line %d", number,
          barrier.wanted, barrier.line, wanted, line);
  if (number == 0 && wanted == count && barrier.line != line)
    fault("divergence", "this thread is at __syncthreads in line %d, others in line %d", line,
          barrier.line);
  barrier.warps |= 1u << current->warp;
  if (++barrier.arrived < wanted) return false;
  barrier.arrived = 0;
  if (wanted == count)
    block_synchronised();
  else
    warps_synchronised(barrier.warps);
  wake(&barrier);
  return true;
}

Barrier &barrier_of(unsigned number) {
  if (number >= BARRIERS) fault("divergence", "there is no barrier %u", number);
  return barriers[number];
}

}  // namespace

void wait(const void *on, const char *what, int line) {
  current->state = WAITING;
  current->waits_on = on, current->what = what, current->line = line;
  switch_fiber(&current->stack_pointer, scheduler);
}

void wake(const void *on) {
  for (unsigned i = 0; i < count; ++i)
    if (threads[i].state == WAITING && threads[i].waits_on == on) threads[i].state = READY;
}

void barrier(unsigned number, unsigned wanted, int line) {
  Barrier &joined = barrier_of(number);
  if (joins(joined, number, wanted == 0 ? count : wanted, line)) return;
  wait(&joined, number == 0 ? "__syncthreads" : "a named barrier", line);
}

void arrive(unsigned number, unsigned wanted, int line) {
  joins(barrier_of(number), number, wanted, line);
}

void meet(unsigned mask, void *mine, Combine combine, const char *what, int line) {
  Warp &warp = warps[current->warp];
  const unsigned lane = 1u << current->lane;
  const unsigned there = count - current->warp * WARP;
  if (there < WARP) mask &= (1u << there) - 1;
  if ((mask & lane) == 0) fault("divergence", "%s whose mask lacks the lane itself", what);
  if (warp.arrived == 0) {
    memset(warp.brought, 0, sizeof warp.brought);
    warp.wanted = mask, warp.combine = combine, warp.line = line;
  }
  if (warp.wanted != mask || warp.combine != combine || warp.line != line)
    fault("divergence", "this lane is at %s in line %d, others of its warp in line %d", what, line,
          warp.line);
  warp.brought[current->lane] = mine;
  warp.arrived |= lane;
  if (warp.arrived != mask) return wait(&warp, what, line);
  warp.arrived = 0;
  combine(warp.brought);
  for (unsigned i = 0; i < WARP; ++i)
    if (warp.brought[i] != nullptr) threads[current->warp * WARP + i].state = READY;
}

static void agree(void *const *) { warp_synchronised(current->warp); }

/* A lane that brings nothing would count as outside of the mask, and be woken by nobody. */
void warp_barrier(unsigned mask, int line) { meet(mask, current, agree, "__syncwarp", line); }

void shuffle(void *const *brought) {
  for (unsigned lane = 0; lane < WARP; ++lane) {
    Shuffled *own = (Shuffled *)brought[lane];
    if (own == nullptr) continue;
    const Shuffled *other = (const Shuffled *)brought[own->source < 0 ? lane : own->source];
    /* A lane outside of the mask has nothing to give. */
    own->result = other == nullptr ? 0x7fc0dead7fc0dead : other->value;
  }
}

void vote(void *const *brought) {
  unsigned all = 0;
  for (unsigned lane = 0; lane < WARP; ++lane)
    if (brought[lane] != nullptr) all |= ((const Vote *)brought[lane])->predicate << lane;
  for (unsigned lane = 0; lane < WARP; ++lane)
    if (brought[lane] != nullptr) ((Vote *)brought[lane])->all = all;
}

void run_launch(const Launch &launch, Order order, uint32_t seed) {
  if (stacks == nullptr) make_stacks();
  running = &launch;
  grid_size = launch.grid, block_size = launch.block;
  count = block_size.x * block_size.y * block_size.z;
  random_state = seed * 2654435761u + 88172645u;
  launch_begins(launch.shared_bytes);
  const unsigned blocks = grid_size.x * grid_size.y * grid_size.z;
  unsigned *places = (unsigned *)malloc(blocks * sizeof *places);
  for (unsigned i = 0; i < blocks; ++i) places[i] = order == REVERSE ? blocks - 1 - i : i;
  if (order == RANDOM) shuffle_order(places, blocks);
  for (unsigned i = 0; i < blocks; ++i) {
    const unsigned block = places[i];
    block_index = {block % grid_size.x, block / grid_size.x % grid_size.y,
                   block / (grid_size.x * grid_size.y)};
    run_block(order);
  }
  free(places);
}

const char *thread_name(unsigned number, char *room) {
  const uint3 &index = threads[number].index;
  snprintf(room, 64, "thread (%u, %u, %u)", index.x, index.y, index.z);
  return room;
}

}  // namespace emulated
