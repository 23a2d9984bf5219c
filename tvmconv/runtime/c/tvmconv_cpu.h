/* Instruction sets, spelled as in /proc/cpuinfo (pni is SSE3, abm is LZCNT, asimd is NEON); RISC-V's
 * letters with rv_ before; sve256 is SVE whose vectors have 256 bits or more. One list: C makes bits and names of it, and Python reads this file, so a
 * name that is not here is refused on both sides. Bits are never renumbered; 63 stays free. */
#ifndef TVMCONV_CPU_H
#define TVMCONV_CPU_H

#include <stdint.h>

#define TVMCONV_CPU_LIST(X) \
  X(0, pni)                 \
  X(1, ssse3)               \
  X(2, sse4_1)              \
  X(3, sse4_2)              \
  X(4, popcnt)              \
  X(5, cx16)                \
  X(6, avx)                 \
  X(7, avx2)                \
  X(8, bmi1)                \
  X(9, bmi2)                \
  X(10, f16c)               \
  X(11, fma)                \
  X(12, abm)                \
  X(13, movbe)              \
  X(14, avx512f)            \
  X(15, avx512bw)           \
  X(16, avx512cd)           \
  X(17, avx512dq)           \
  X(18, avx512vl)           \
  X(19, avx512_vnni)        \
  X(20, avx512_bf16)        \
  X(21, avx512_fp16)        \
  X(22, avx512vbmi)         \
  X(23, avx_vnni)           \
  X(24, amx_tile)           \
  X(25, amx_int8)           \
  X(26, amx_bf16)           \
  X(27, fp)                 \
  X(28, asimd)              \
  X(29, fphp)               \
  X(30, asimdhp)            \
  X(31, asimddp)            \
  X(32, fcma)               \
  X(33, sve)                \
  X(34, sve2)               \
  X(35, i8mm)               \
  X(36, bf16)               \
  X(37, svei8mm)            \
  X(38, svebf16)            \
  X(39, vfp)                \
  X(40, neon)               \
  X(41, vfpv3)              \
  X(42, vfpv4)              \
  X(43, idiva)              \
  X(44, rv_m)               \
  X(45, rv_a)               \
  X(46, rv_f)               \
  X(47, rv_d)               \
  X(48, rv_c)               \
  X(49, rv_v)               \
  X(50, sve256)

#define TVMCONV_CPU_BIT(bit, name) static const uint64_t TVMCONV_CPU_##name = UINT64_C(1) << bit;
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-const-variable"
#endif
TVMCONV_CPU_LIST(TVMCONV_CPU_BIT)
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#undef TVMCONV_CPU_BIT

#endif
