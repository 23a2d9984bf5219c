/* CUDA's vector types, with the sizes and alignments that a GPU asks for. */
#pragma once

#include <stdint.h>

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;

#define EMULATED_VECTORS(base, name, align2, align4)                                    \
  struct name##1 { base x; };                                                           \
  struct alignas(align2) name##2 { base x, y; };                                        \
  struct name##3 { base x, y, z; };                                                     \
  struct alignas(align4) name##4 { base x, y, z, w; };                                  \
  inline name##1 make_##name##1(base x) { return {x}; }                                 \
  inline name##2 make_##name##2(base x, base y) { return {x, y}; }                      \
  inline name##3 make_##name##3(base x, base y, base z) { return {x, y, z}; }           \
  inline name##4 make_##name##4(base x, base y, base z, base w) { return {x, y, z, w}; }

EMULATED_VECTORS(signed char, char, 2, 4)
EMULATED_VECTORS(unsigned char, uchar, 2, 4)
EMULATED_VECTORS(short, short, 4, 8)
EMULATED_VECTORS(unsigned short, ushort, 4, 8)
EMULATED_VECTORS(int, int, 8, 16)
EMULATED_VECTORS(unsigned int, uint, 8, 16)
EMULATED_VECTORS(long long, longlong, 16, 16)
EMULATED_VECTORS(unsigned long long, ulonglong, 16, 16)
EMULATED_VECTORS(float, float, 8, 16)
EMULATED_VECTORS(double, double, 16, 16)
#undef EMULATED_VECTORS

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
