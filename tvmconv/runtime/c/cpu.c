/* Which of a kernel's instruction sets are missing, and their names. */
#include <stdatomic.h>
#include <string.h>

#include "runtime.h"

/* CPUID costs about a microsecond inside virtual machines: once per process. The top bit, which no
 * feature uses, says that the answer is there. */
static uint64_t available(void) {
  static _Atomic uint64_t cached;
  const uint64_t known = UINT64_C(1) << 63;
  uint64_t found = atomic_load_explicit(&cached, memory_order_relaxed);
  if (found == 0) {
    found = tvmconv_cpu_detect() | known;
    atomic_store_explicit(&cached, found, memory_order_relaxed);
  }
  return found & ~known;
}

uint64_t tvmconv_cpu_missing(uint64_t needed, char *names, size_t size) {
  const uint64_t missing = needed & ~available();
  if (names == NULL || size == 0) return missing;
#define NAME(bit, name) #name,
  static const char *const all[] = {TVMCONV_CPU_LIST(NAME)};
#undef NAME
  size_t used = 0;
  for (size_t bit = 0; bit < sizeof all / sizeof *all; ++bit) {
    const size_t length = strlen(all[bit]);
    if ((missing >> bit & 1u) == 0 || used + length + 2 > size) continue;
    if (used != 0) names[used++] = ' ';
    memcpy(names + used, all[bit], length);
    used += length;
  }
  names[used] = 0;
  return missing;
}
