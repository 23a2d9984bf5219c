/* Barriers in shared memory that count threads and bytes (mbarrier), and copies that report to them
 * (cp.async.bulk).
 *
 * As late as a GPU may: the bytes arrive when somebody waits for the phase, and are poison before.
 * What they write is ordered before those that have seen the phase end, and before nobody else. */
#pragma once

#include <stdint.h>

namespace emulated {
namespace ptx {

/* A barrier for `count` arrivals, in its phase 0. */
void mbarrier_init(uint32_t address, uint32_t count);
/* One arrival; the phase then ends with `bytes` bytes more. */
void mbarrier_arrive(uint32_t address, uint32_t bytes);
/* Whether the last phase of that parity has ended. Says no at least once to who came too early. */
bool mbarrier_wait(uint32_t address, uint32_t parity, int line);
/* Copies from device memory; the bytes count on the barrier at `counted`. */
void cp_async_bulk(uint32_t to, uint64_t from, uint32_t bytes, uint32_t counted);

}  // namespace ptx
}  // namespace emulated
