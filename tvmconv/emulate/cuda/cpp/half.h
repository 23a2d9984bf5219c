/* half and bfloat16: two bytes in memory, computed in float and rounded to nearest even. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "vectors.h"

namespace emulated {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline float float_of_half(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  if (rest >= 0x400) return float_of(sign | ((rest << 13) + 0x38000000));
  return float_of(sign | bits_of((float)rest * 0x1p-24f));
}

inline uint16_t half_of_float(float value) {
  const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return (uint16_t)(sign | 0x7fff);
  if (rest >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and above: infinity */
  if (rest < 0x38800000) /* subnormal: adding 2^-1 in float rounds to a multiple of 2^-24 */
    return (uint16_t)(sign | (bits_of(float_of(rest) + 0.5f) - 0x3f000000));
  return (uint16_t)(sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13);
}

inline float float_of_bfloat16(uint16_t value) { return float_of((uint32_t)value << 16); }

inline uint16_t bfloat16_of_float(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A float of 19 bits, as tensor cores take it: rounded to nearest (cvt.rna), or just cut. */
inline float tf32_rounded(float value) {
  const uint32_t bits = bits_of(value);
  return (bits & 0x7f800000) == 0x7f800000 ? value : float_of((bits + 0x1000) & 0xffffe000);
}
inline float tf32_cut(float value) { return float_of(bits_of(value) & 0xffffe000); }

/* A type of 16 bits, by its conversions from and to float. */
template <uint16_t (*FROM)(float), float (*TO)(uint16_t)>
struct alignas(2) Short {
  uint16_t bits;
  Short() = default;
  Short(float value) : bits(FROM(value)) {}
  Short(double value) : bits(FROM((float)value)) {}
  Short(int value) : bits(FROM((float)value)) {}
  Short(unsigned value) : bits(FROM((float)value)) {}
  Short(short value) : bits(FROM((float)value)) {}
  Short(unsigned short value) : bits(FROM((float)value)) {}
  Short(long value) : bits(FROM((float)value)) {}
  Short(unsigned long value) : bits(FROM((float)value)) {}
  Short(long long value) : bits(FROM((float)value)) {}
  Short(unsigned long long value) : bits(FROM((float)value)) {}
  operator float() const { return TO(bits); }
  explicit operator bool() const { return (bits & 0x7fff) != 0; }
  static Short of_bits(uint16_t bits) {
    Short made;
    made.bits = bits;
    return made;
  }
  friend Short operator+(Short a, Short b) { return Short(TO(a.bits) + TO(b.bits)); }
  friend Short operator-(Short a, Short b) { return Short(TO(a.bits) - TO(b.bits)); }
  friend Short operator*(Short a, Short b) { return Short(TO(a.bits) * TO(b.bits)); }
  friend Short operator/(Short a, Short b) { return Short(TO(a.bits) / TO(b.bits)); }
  friend Short operator-(Short a) { return of_bits(a.bits ^ 0x8000); }
  friend bool operator<(Short a, Short b) { return TO(a.bits) < TO(b.bits); }
  friend bool operator>(Short a, Short b) { return TO(a.bits) > TO(b.bits); }
  friend bool operator<=(Short a, Short b) { return TO(a.bits) <= TO(b.bits); }
  friend bool operator>=(Short a, Short b) { return TO(a.bits) >= TO(b.bits); }
  friend bool operator==(Short a, Short b) { return TO(a.bits) == TO(b.bits); }
  friend bool operator!=(Short a, Short b) { return TO(a.bits) != TO(b.bits); }
  Short &operator+=(Short other) { return *this = *this + other; }
  Short &operator-=(Short other) { return *this = *this - other; }
  Short &operator*=(Short other) { return *this = *this * other; }
  Short &operator/=(Short other) { return *this = *this / other; }
};

}  // namespace emulated

typedef emulated::Short<emulated::half_of_float, emulated::float_of_half> __half;
typedef emulated::Short<emulated::bfloat16_of_float, emulated::float_of_bfloat16> __nv_bfloat16;
typedef __half half;
typedef __nv_bfloat16 nv_bfloat16;

#define EMULATED_SHORT(type, pair, to_float, from_float)                                     \
  struct alignas(4) pair {                                                                   \
    type x, y;                                                                               \
    pair() = default;                                                                        \
    pair(type x, type y) : x(x), y(y) {}                                                     \
  };                                                                                         \
  inline pair make_##pair(type x, type y) { return {x, y}; }                                 \
  inline pair operator+(pair a, pair b) { return {a.x + b.x, a.y + b.y}; }                   \
  inline pair operator-(pair a, pair b) { return {a.x - b.x, a.y - b.y}; }                   \
  inline pair operator*(pair a, pair b) { return {a.x * b.x, a.y * b.y}; }                   \
  inline pair __hadd2(pair a, pair b) { return a + b; }                                      \
  inline pair __hsub2(pair a, pair b) { return a - b; }                                      \
  inline pair __hmul2(pair a, pair b) { return a * b; }                                      \
  inline float to_float(type value) { return value; }                                        \
  inline type __hadd(type a, type b) { return a + b; }                                       \
  inline type __hsub(type a, type b) { return a - b; }                                       \
  inline type __hmul(type a, type b) { return a * b; }                                       \
  inline type __hdiv(type a, type b) { return a / b; }                                       \
  inline type __hneg(type a) { return -a; }                                                  \
  inline type __habs(type a) { return type::of_bits(a.bits & 0x7fff); }                      \
  inline type __hfma(type a, type b, type c) { return fmaf(a, b, c); }                       \
  inline pair __hfma2(pair a, pair b, pair c) {                                              \
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};                                   \
  }                                                                                          \
  inline type __hmax(type a, type b) { return fmaxf(a, b); }                                 \
  inline type __hmin(type a, type b) { return fminf(a, b); }                                 \
  inline bool __hlt(type a, type b) { return a < b; }                                        \
  inline bool __hgt(type a, type b) { return a > b; }                                        \
  inline bool __hle(type a, type b) { return a <= b; }                                       \
  inline bool __hge(type a, type b) { return a >= b; }                                       \
  inline bool __heq(type a, type b) { return a == b; }                                       \
  inline bool __hne(type a, type b) { return a != b; }                                       \
  inline bool __hisnan(type a) { return a != a; }                                            \
  inline type hexp(type a) { return expf(a); }                                               \
  inline type hexp2(type a) { return exp2f(a); }                                             \
  inline type hlog(type a) { return logf(a); }                                               \
  inline type hlog2(type a) { return log2f(a); }                                             \
  inline type hsqrt(type a) { return sqrtf(a); }                                             \
  inline type hrsqrt(type a) { return 1.0f / sqrtf(a); }                                     \
  inline type hrcp(type a) { return 1.0f / (float)a; }                                       \
  inline type hsin(type a) { return sinf(a); }                                               \
  inline type hcos(type a) { return cosf(a); }                                               \
  inline type htanh(type a) { return tanhf(a); }                                             \
  inline type hfloor(type a) { return floorf(a); }                                           \
  inline type hceil(type a) { return ceilf(a); }                                             \
  inline type htrunc(type a) { return truncf(a); }                                           \
  inline type hrint(type a) { return rintf(a); }

EMULATED_SHORT(__half, __half2, __half2float, __float2half)
EMULATED_SHORT(__nv_bfloat16, __nv_bfloat162, __bfloat162float, __float2bfloat16)
#undef EMULATED_SHORT
typedef __half2 half2;
typedef __nv_bfloat162 nv_bfloat162;

inline __half __float2half(float value) { return value; }
inline __half __float2half_rn(float value) { return value; }
inline __half2 __float2half2_rn(float value) { return {value, value}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 value) { return {value.x, value.y}; }
inline float2 __half22float2(__half2 value) { return {value.x, value.y}; }
inline __half2 __half2half2(__half value) { return {value, value}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline float __low2float(__half2 value) { return value.x; }
inline float __high2float(__half2 value) { return value.y; }
inline uint16_t __half_as_ushort(__half value) { return value.bits; }
inline __half __ushort_as_half(uint16_t bits) { return __half::of_bits(bits); }

inline __nv_bfloat16 __float2bfloat16(float value) { return value; }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return value; }
inline __nv_bfloat162 __float2bfloat162_rn(float value) { return {value, value}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 value) { return {value.x, value.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 value) { return {value.x, value.y}; }
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t bits) { return __nv_bfloat16::of_bits(bits); }
