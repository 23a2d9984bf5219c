/* Which of a kernel's instruction sets are missing, and their names. */
#include <stdatomic.h>

#include "runtime.h"

/* CPUID costs about a microsecond inside virtual machines: once per process. The top bit, which no
 * feature uses, says that the answer is there. */
static uint64_t available(void) {
#if defined(TVMCONV_FREESTANDING) && !defined(__x86_64__)
  return tvmconv_cpu_detect(); /* a constant, and small processors have no 64-bit atomics */
#else
  static _Atomic uint64_t cached;
  const uint64_t known = UINT64_C(1) << 63;
  uint64_t found = atomic_load_explicit(&cached, memory_order_relaxed);
  if (found == 0) {
    found = tvmconv_cpu_detect() | known;
    atomic_store_explicit(&cached, found, memory_order_relaxed);
  }
  return found & ~known;
#endif
}

uint64_t tvmconv_cpu_missing(uint64_t needed, char *names, size_t size) {
  const uint64_t missing = needed & ~available();
  if (names == NULL || size == 0) return missing;
#define NAME(bit, name) {#name, sizeof #name - 1},
  static const struct {
    const char *text;
    size_t length;
  } all[] = {TVMCONV_CPU_LIST(NAME)};
#undef NAME
  size_t used = 0;
  for (size_t bit = 0; bit < sizeof all / sizeof *all; ++bit) {
    const size_t length = all[bit].length;
    if ((missing >> bit & 1u) == 0 || used + length + 2 > size) continue;
    if (used != 0) names[used++] = ' ';
    for (size_t i = 0; i < length; ++i) names[used++] = all[bit].text[i];
  }
  names[used] = 0;
  return missing;
}
