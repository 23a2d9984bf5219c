/* Which instruction sets this x86 CPU has and its operating system saves. Plain CPUID: the
 * compilers' own __builtin_cpu_supports knows fewer names and needs their support library. */
#include "runtime.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stddef.h>

enum { EAX, EBX, ECX, EDX };

typedef struct {
  uint64_t feature;
  uint32_t leaf, subleaf;
  int word, bit;
  uint32_t state; /* bits of XCR0 that the operating system must have set */
} probe;

/* XCR0: 1 SSE, 2 AVX; 5-7 AVX-512 mask and upper registers; 17-18 AMX. */
#define NO_STATE 0u
#define AVX_STATE 0x6u
#define AVX512_STATE 0xe6u
#define AMX_STATE 0x60000u

static uint32_t enabled_state(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c >> 27 & 1u) == 0) return 0; /* no OSXSAVE */
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

uint64_t tvmconv_cpu_detect(void) {
  const probe probes[] = {
      {TVMCONV_CPU_pni, 1, 0, ECX, 0, NO_STATE},
      {TVMCONV_CPU_ssse3, 1, 0, ECX, 9, NO_STATE},
      {TVMCONV_CPU_sse4_1, 1, 0, ECX, 19, NO_STATE},
      {TVMCONV_CPU_sse4_2, 1, 0, ECX, 20, NO_STATE},
      {TVMCONV_CPU_popcnt, 1, 0, ECX, 23, NO_STATE},
      {TVMCONV_CPU_cx16, 1, 0, ECX, 13, NO_STATE},
      {TVMCONV_CPU_movbe, 1, 0, ECX, 22, NO_STATE},
      {TVMCONV_CPU_fma, 1, 0, ECX, 12, AVX_STATE},
      {TVMCONV_CPU_f16c, 1, 0, ECX, 29, AVX_STATE},
      {TVMCONV_CPU_avx, 1, 0, ECX, 28, AVX_STATE},
      {TVMCONV_CPU_avx2, 7, 0, EBX, 5, AVX_STATE},
      {TVMCONV_CPU_bmi1, 7, 0, EBX, 3, NO_STATE},
      {TVMCONV_CPU_bmi2, 7, 0, EBX, 8, NO_STATE},
      {TVMCONV_CPU_abm, 0x80000001u, 0, ECX, 5, NO_STATE},
      {TVMCONV_CPU_avx512f, 7, 0, EBX, 16, AVX512_STATE},
      {TVMCONV_CPU_avx512dq, 7, 0, EBX, 17, AVX512_STATE},
      {TVMCONV_CPU_avx512cd, 7, 0, EBX, 28, AVX512_STATE},
      {TVMCONV_CPU_avx512bw, 7, 0, EBX, 30, AVX512_STATE},
      {TVMCONV_CPU_avx512vl, 7, 0, EBX, 31, AVX512_STATE},
      {TVMCONV_CPU_avx512vbmi, 7, 0, ECX, 1, AVX512_STATE},
      {TVMCONV_CPU_avx512_vnni, 7, 0, ECX, 11, AVX512_STATE},
      {TVMCONV_CPU_avx512_fp16, 7, 0, EDX, 23, AVX512_STATE},
      {TVMCONV_CPU_avx512_bf16, 7, 1, EAX, 5, AVX512_STATE},
      {TVMCONV_CPU_avx_vnni, 7, 1, EAX, 4, AVX_STATE},
      {TVMCONV_CPU_amx_tile, 7, 0, EDX, 24, AMX_STATE},
      {TVMCONV_CPU_amx_int8, 7, 0, EDX, 25, AMX_STATE},
      {TVMCONV_CPU_amx_bf16, 7, 0, EDX, 22, AMX_STATE},
  };
  const uint32_t state = enabled_state();
  uint64_t found = 0;
  for (size_t i = 0; i < sizeof probes / sizeof *probes; ++i) {
    const probe *p = &probes[i];
    uint32_t words[4] = {0, 0, 0, 0};
    if (__get_cpuid_count(p->leaf, p->subleaf, &words[EAX], &words[EBX], &words[ECX],
                          &words[EDX]) &&
        (words[p->word] >> p->bit & 1u) != 0 && (state & p->state) == p->state)
      found |= p->feature;
  }
  return found;
}

/* Zen 4 and Zen 5 have the same features for a kernel, and different best code. */
uint32_t tvmconv_cpu_core(void) {
  uint32_t signature, vendor, b, c, d;
  if (!__get_cpuid(0, &signature, &vendor, &c, &d)) return 0;
  if (!__get_cpuid(1, &signature, &b, &c, &d)) return 0;
  uint32_t family = signature >> 8 & 15u;
  if (family == 15u) family += signature >> 20 & 255u;
  return (vendor & 255u) << 16 | family;
}
#else
typedef int tvmconv_no_x86; /* a file of C has to hold something */
#endif
