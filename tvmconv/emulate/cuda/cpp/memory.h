/* Memory of a block and of the device, as kernels and the models of instructions see it.
 *
 * The kernel is compiled with -fsanitize=thread, which puts a call before every load and store; here
 * they end in memory.cpp, which knows all arrays, their bounds, and who touched what since when.
 * What the models touch they report themselves.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A model reports by itself what it touches. */
#define EMULATED_MODEL __attribute__((no_sanitize("thread")))

namespace emulated {

/* Says that the current thread is about to read or write; faults where it may not. */
void reads(const void *data, size_t bytes, unsigned alignment = 1);
void writes(void *data, size_t bytes, unsigned alignment = 1);
/* The same of a warp's instruction: which lane does it is not known. */
void warp_reads(const void *data, size_t bytes, unsigned alignment = 1);
void warp_writes(void *data, size_t bytes, unsigned alignment = 1);
/* The same of what goes past the ordinary path (wgmma, bulk copies): what threads wrote there must
 * have been shown to it, by the writer or, once it knows of the write, by the reader. */
void async_reads(const void *data, size_t bytes, unsigned alignment = 1);
void async_writes(void *data, size_t bytes, unsigned alignment = 1);
void show_to_async();
/* The same of an atomic operation, which races with nothing. */
void atomically(void *data, size_t bytes);

/* Shared arrays: the same one for all threads of a block, full of poison when the block starts. */
void *shared_array(const char *name, int line, size_t bytes, size_t alignment);
void *dynamic_shared(const char *name);
template <class T>
T &shared(const char *name, int line, size_t alignment) {
  return *(T *)shared_array(name, line, sizeof(T), alignment > alignof(T) ? alignment : alignof(T));
}

/* Addresses as PTX counts them: 32 bits within shared memory. */
uint32_t shared_address(const void *pointer);
void *at_shared(uint32_t address);

/* What stands in memory that nobody has written: NaN as float, half and bfloat16. */
constexpr uint16_t POISON = 0x7fd1;
void poison(void *data, size_t bytes);

}  // namespace emulated

inline uint32_t __cvta_generic_to_shared(const void *pointer) {
  return emulated::shared_address(pointer);
}
