/* The few lines that differ between processors. */
#ifndef TVMCONV_ARCH_H
#define TVMCONV_ARCH_H

#include <stdint.h>

/* Tells the core that this is a wait loop. On ARM `yield` is a no-op on most cores, `isb` is not. */
static inline void tvmconv_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#elif defined(__arm__)
  __asm__ volatile("yield" ::: "memory");
#else
  __asm__ volatile("" ::: "memory");
#endif
}

/* The floating-point control word (rounding, flush to zero) without its sticky flags. Workers take
 * over the caller's, or the answer would depend on which thread computed it. */
static inline uint64_t tvmconv_fp_control(void) {
#if defined(__x86_64__)
  return __builtin_ia32_stmxcsr() & ~UINT32_C(0x3f);
#elif defined(__aarch64__)
  uint64_t fpcr;
  __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
  return fpcr;
#elif defined(__arm__) && defined(__ARM_FP)
  uint32_t fpscr;
  __asm__ volatile("vmrs %0, fpscr" : "=r"(fpscr));
  return fpscr & ~UINT32_C(0xf800009f);
#elif defined(__riscv_flen)
  uintptr_t rounding;
  __asm__ volatile("frrm %0" : "=r"(rounding));
  return rounding;
#else
  return 0;
#endif
}

static inline void tvmconv_set_fp_control(uint64_t control) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr((uint32_t)control);
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" ::"r"(control));
#elif defined(__arm__) && defined(__ARM_FP)
  __asm__ volatile("vmsr fpscr, %0" ::"r"((uint32_t)control));
#elif defined(__riscv_flen)
  __asm__ volatile("fsrm %0" ::"r"((uintptr_t)control));
#else
  (void)control;
#endif
}

#endif
