/* Which instruction sets this processor has, as the system tells: ARM and RISC-V let programs ask
 * nobody else. */
#include "runtime.h"

#if defined(__x86_64__)
typedef int tvmconv_no_arm; /* a file of C has to hold something */
#elif defined(__APPLE__)
/* The M1 is the first; every later one has the same sets. */
uint64_t tvmconv_cpu_detect(void) {
  return TVMCONV_CPU_fp | TVMCONV_CPU_asimd | TVMCONV_CPU_fphp | TVMCONV_CPU_asimdhp |
         TVMCONV_CPU_asimddp | TVMCONV_CPU_fcma;
}

uint32_t tvmconv_cpu_core(void) { return 0; }
#elif defined(__linux__) && !defined(TVMCONV_FREESTANDING)
#include <stddef.h>
#include <sys/auxv.h>
#if defined(__aarch64__)
#include <sys/prctl.h>
#ifndef PR_SVE_GET_VL
#define PR_SVE_GET_VL 51
#endif
#endif

/* The kernel's own numbers (asm/hwcap.h); old headers lack the newer names. */
typedef struct {
  uint64_t feature;
  unsigned long word; /* AT_HWCAP or AT_HWCAP2 */
  int bit;
} probe;

#define FIRST 16ul  /* AT_HWCAP */
#define SECOND 26ul /* AT_HWCAP2 */

uint64_t tvmconv_cpu_detect(void) {
  const probe probes[] = {
#if defined(__aarch64__)
      {TVMCONV_CPU_fp, FIRST, 0},      {TVMCONV_CPU_asimd, FIRST, 1},
      {TVMCONV_CPU_fphp, FIRST, 9},    {TVMCONV_CPU_asimdhp, FIRST, 10},
      {TVMCONV_CPU_fcma, FIRST, 14},   {TVMCONV_CPU_asimddp, FIRST, 20},
      {TVMCONV_CPU_sve, FIRST, 22},    {TVMCONV_CPU_sve2, SECOND, 1},
      {TVMCONV_CPU_svei8mm, SECOND, 9}, {TVMCONV_CPU_svebf16, SECOND, 12},
      {TVMCONV_CPU_i8mm, SECOND, 13},  {TVMCONV_CPU_bf16, SECOND, 14},
#elif defined(__arm__)
      {TVMCONV_CPU_vfp, FIRST, 6},     {TVMCONV_CPU_neon, FIRST, 12},
      {TVMCONV_CPU_vfpv3, FIRST, 13},  {TVMCONV_CPU_vfpv4, FIRST, 16},
      {TVMCONV_CPU_idiva, FIRST, 17},
#elif defined(__riscv)
      {TVMCONV_CPU_rv_m, FIRST, 'm' - 'a'}, {TVMCONV_CPU_rv_a, FIRST, 'a' - 'a'},
      {TVMCONV_CPU_rv_f, FIRST, 'f' - 'a'}, {TVMCONV_CPU_rv_d, FIRST, 'd' - 'a'},
      {TVMCONV_CPU_rv_c, FIRST, 'c' - 'a'}, {TVMCONV_CPU_rv_v, FIRST, 'v' - 'a'},
#else
      {0, FIRST, 0},
#endif
  };
  const unsigned long words[] = {getauxval(FIRST), getauxval(SECOND)};
  uint64_t found = 0;
  for (size_t i = 0; i < sizeof probes / sizeof *probes; ++i)
    if ((words[probes[i].word == SECOND] >> probes[i].bit & 1ul) != 0) found |= probes[i].feature;
#if defined(__aarch64__)
  /* The low half is the length of this thread's vectors in bytes; negative without SVE. */
  const int length = prctl(PR_SVE_GET_VL);
  if (length > 0 && (length & 0xffff) >= 32) found |= TVMCONV_CPU_sve256;
#endif
  return found;
}

/* Linux lets programs read MIDR_EL1 from 4.11 on (HWCAP_CPUID, bit 11), by a trap: once per process,
 * so in a system of unlike cores the answer is that of the core which happened to ask. */
uint32_t tvmconv_cpu_core(void) {
#if defined(__aarch64__)
  uint64_t midr;
  if ((getauxval(FIRST) >> 11 & 1ul) == 0) return 0;
  __asm__("mrs %0, midr_el1" : "=r"(midr));
  return (uint32_t)(midr >> 24 & 0xff) << 16 | (uint32_t)(midr >> 4 & 0xfff);
#else
  return 0;
#endif
}
#else
/* No system to ask: an image of firmware is built for its one processor, which has what it needs. */
uint64_t tvmconv_cpu_detect(void) { return ~UINT64_C(0) >> 1; }

uint32_t tvmconv_cpu_core(void) { return 0; }
#endif
