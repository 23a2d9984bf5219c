#include "mbarrier.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "tables.h"

namespace emulated {
namespace {

constexpr unsigned MAX_MBARRIERS = 64, MOST_COUNTED = (1 << 20) - 1;

struct Mbarrier {
  uint32_t address, count, phase;
  uint32_t missing; /* arrivals of this phase */
  int64_t bytes;    /* expected and not yet here */
  Knowledge arriving, ended; /* of those who have arrived; of all up to the last phase's end */
};

struct Copy {
  unsigned char *to;
  const unsigned char *from;
  uint32_t bytes;
  Mbarrier *counted;
};

Mbarrier mbarriers[MAX_MBARRIERS];
unsigned mbarrier_count;
Copy *copies;
unsigned copy_count, copy_room;

Mbarrier *find(uint32_t address) {
  for (unsigned i = 0; i < mbarrier_count; ++i)
    if (mbarriers[i].address == address) return &mbarriers[i];
  return nullptr;
}

/* The barrier at an address; who uses it must know of its start. */
Mbarrier &mbarrier_at(uint32_t address) {
  reads(at_shared(address), 8, 8);
  Mbarrier *found = find(address);
  if (found == nullptr) fault("async", "there is no mbarrier at %u of shared memory", address);
  return *found;
}

void count(Mbarrier &on) {
  if (on.missing > 0 || on.bytes > 0) return;
  if (on.bytes < 0)
    fault("async", "an mbarrier gets %lld bytes more than it was told", (long long)-on.bytes);
  on.ended = on.arriving;
  on.missing = on.count;
  ++on.phase;
  wake(&on);
}

/* All copies that count on a barrier arrive. */
void land(Mbarrier &on) {
  unsigned kept = 0;
  for (unsigned i = 0; i < copy_count; ++i) {
    const Copy copy = copies[i];
    if (copy.counted != &on) {
      copies[kept++] = copy;
      continue;
    }
    note_bulk(*region_of(copy.to, copy.bytes, true), copy.to, copy.bytes, on.arriving);
    memcpy(copy.to, copy.from, copy.bytes);
    on.bytes -= copy.bytes;
  }
  if (kept == copy_count) return;
  copy_count = kept;
  count(on);
}

}  // namespace

namespace ptx {

void mbarrier_init(uint32_t address, uint32_t count) {
  writes(at_shared(address), 8, 8);
  if (count < 1 || count > MOST_COUNTED) fault("async", "an mbarrier for %u arrivals", count);
  if (find(address) != nullptr) fault("async", "an mbarrier starts where there is one already");
  if (mbarrier_count == MAX_MBARRIERS) fault("memory", "more than %u mbarriers", MAX_MBARRIERS);
  mbarriers[mbarrier_count++] = {address, count, 0, count, 0, {}, {}};
}

void mbarrier_arrive(uint32_t address, uint32_t bytes) {
  Mbarrier &on = mbarrier_at(address);
  if (bytes > MOST_COUNTED) fault("async", "an mbarrier cannot expect %u bytes", bytes);
  if (on.missing == 0) fault("async", "an mbarrier for %u arrivals gets one more", on.count);
  --on.missing;
  on.bytes += bytes;
  publish(on.arriving);
  count(on);
}

bool mbarrier_wait(uint32_t address, uint32_t parity, int line) {
  Mbarrier &on = mbarrier_at(address);
  if ((on.phase & 1) != (parity & 1)) {
    learn(on.ended);
    return true;
  }
  const uint32_t phase = on.phase;
  land(on);
  if (on.phase == phase) wait(&on, "an mbarrier", line);
  return false;
}

void cp_async_bulk(uint32_t to, uint64_t from, uint32_t bytes, uint32_t counted) {
  unsigned char *target = (unsigned char *)at_shared(to);
  if (bytes == 0 || bytes % 16 != 0)
    fault("misaligned", "a bulk copy of %u bytes, no multiple of 16", bytes);
  Mbarrier &on = mbarrier_at(counted);
  async_reads(at_shared(counted), 8, 8);
  async_reads((const void *)from, bytes, 16);
  async_writes(target, bytes, 16);
  poison(target, bytes);
  note_pending(*region_of(target, bytes, true), target, bytes, true);
  if (copy_count == copy_room) {
    copy_room = copy_room == 0 ? 16 : copy_room * 2;
    copies = (Copy *)realloc(copies, copy_room * sizeof *copies);
  }
  copies[copy_count++] = {target, (const unsigned char *)from, bytes, &on};
  /* Who waits already looks again. */
  wake(&on);
}

}  // namespace ptx

void forget_mbarriers() { mbarrier_count = copy_count = 0; }

void block_ends() {
  if (copy_count > 0)
    fault("async", "a block ends while a bulk copy of %u bytes is under way", copies[0].bytes);
  forget_mbarriers();
}

}  // namespace emulated
