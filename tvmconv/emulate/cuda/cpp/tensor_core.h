/* What tensor cores compute: D = A B + C of small matrices, as hardware rounds it. */
#pragma once

#include <math.h>

#include "half.h"

namespace emulated {

/* Sums of products of halves are exact until they are added up: hardware aligns a block of products
 * and the sum so far to the largest of them, cuts what is below 24 bits, and adds. Measured by
 * Fasi, Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ CS 2021;
 * newer chips keep one to three bits more, so this is the least that any of them does. */
constexpr int ALIGNED_TERMS = 8, ALIGNED_BITS = 24;

inline float add_products(float sum, const float *a, const float *b, int count) {
  double terms[ALIGNED_TERMS + 1];
  double largest = fabs((double)sum), all = largest;
  terms[count] = sum;
  for (int i = 0; i < count; ++i) {
    terms[i] = (double)a[i] * b[i];
    const double size = fabs(terms[i]);
    if (size > largest) largest = size;
    all += size;
  }
  if (!(all > 0 && all < INFINITY)) { /* zeros, or something that is no number */
    double total = 0;
    for (int i = 0; i <= count; ++i) total += terms[i];
    return (float)total;
  }
  uint64_t bits;
  memcpy(&bits, &largest, sizeof bits);
  /* A unit of the last of 24 bits; its inverse is a power of two as well. */
  const uint64_t exponent = bits >> 52;
  const uint64_t unit_bits = (exponent - (ALIGNED_BITS - 1)) << 52;
  const uint64_t inverse_bits = (2046 - (exponent - (ALIGNED_BITS - 1))) << 52;
  double unit, inverse;
  memcpy(&unit, &unit_bits, sizeof unit);
  memcpy(&inverse, &inverse_bits, sizeof inverse);
  int64_t units = 0;
  for (int i = 0; i <= count; ++i) units += (int64_t)(terms[i] * inverse);
  const double total = (double)units * unit;
  /* The carry may need more than 24 bits; they are cut as well. */
  float result = (float)total;
  if (fabs((double)result) > fabs(total)) result = nextafterf(result, 0.0f);
  return result;
}

/* One element of D: k products in blocks of eight. */
inline float multiply_add(float c, const float *a, const float *b, int k) {
  for (int i = 0; i < k; i += ALIGNED_TERMS) {
    const int count = k - i < ALIGNED_TERMS ? k - i : ALIGNED_TERMS;
    c = add_products(c, a + i, b + i, count);
  }
  return c;
}

/* As a tensor core reads its operands. */
inline float taken(float value) { return tf32_cut(value); }
inline float taken(__half value) { return value; }
inline float taken(__nv_bfloat16 value) { return value; }

}  // namespace emulated
