/* Copies from device to shared memory that go on by themselves (cp.async).
 *
 * As late as a GPU may: the bytes arrive when their group is waited for, and are poison before. */
#pragma once

#include <stdint.h>

namespace emulated {
namespace ptx {

/* Copies `given` bytes and fills up to `bytes` with zeros. */
void cp_async(uint32_t to, uint64_t from, unsigned bytes, unsigned given);
void cp_async_commit_group();
void cp_async_wait_group(unsigned youngest);
void cp_async_wait_all();

}  // namespace ptx
}  // namespace emulated
