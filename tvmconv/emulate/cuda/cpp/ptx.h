/* Instructions of inline PTX, as ptx.py writes them: operands of 32 bits as uint32_t, results by
 * reference. Layouts of fragments are those of the PTX ISA, section "Warp Level Matrix
 * Multiply-Accumulate Instructions". */
#pragma once

#include <stdint.h>
#include <string.h>

#include "memory.h"
#include "tensor_core.h"
#include "threads.h"


namespace emulated {
namespace ptx {

/* Loads and stores, of vectors too: all their parts at once, at a multiple of their size. */
template <class T, class... V>
EMULATED_MODEL void load(const void *from, V &...values) {
  reads(from, sizeof(T) * sizeof...(V), sizeof(T) * sizeof...(V));
  const T *at = (const T *)from;
  ((memcpy(&values, at++, sizeof(T))), ...);
}
template <class T, class... V>
EMULATED_MODEL void store(void *to, V... values) {
  writes(to, sizeof(T) * sizeof...(V), sizeof(T) * sizeof...(V));
  T *at = (T *)to;
  ((memcpy(at++, &values, sizeof(T))), ...);
}

inline uint32_t pair_of_half(float high, float low) {
  return (uint32_t)half_of_float(high) << 16 | half_of_float(low);
}
inline uint32_t pair_of_bfloat16(float high, float low) {
  return (uint32_t)bfloat16_of_float(high) << 16 | bfloat16_of_float(low);
}

struct Matrices {
  uint32_t address;
  uint32_t values[4];
};

/* Matrix i has its eight rows of eight 16-bit values at the addresses of lanes 8 i to 8 i + 7; lane l
 * gets two neighbours of row l / 4, or of column l / 4 when transposed. */
template <int COUNT, bool TRANSPOSED, bool STORE>
EMULATED_MODEL void moved_matrices(void *const *brought) {
  for (int i = 0; i < COUNT; ++i) {
    uint16_t matrix[8][8];
    for (int lane = 0; STORE && lane < 32; ++lane)
      for (int j = 0; j < 2; ++j) {
        const int row = lane / 4, column = lane % 4 * 2 + j;
        (TRANSPOSED ? matrix[column][row] : matrix[row][column]) =
            (uint16_t)(((const Matrices *)brought[lane])->values[i] >> 16 * j);
      }
    for (int row = 0; row < 8; ++row) {
      void *at = at_shared(((const Matrices *)brought[8 * i + row])->address);
      if (STORE) {
        warp_writes(at, 16, 16);
        memcpy(at, matrix[row], 16);
      } else {
        warp_reads(at, 16, 16);
        memcpy(matrix[row], at, 16);
      }
    }
    for (int lane = 0; !STORE && lane < 32; ++lane) {
      uint32_t value = 0;
      for (int j = 0; j < 2; ++j) {
        const int row = lane / 4, column = lane % 4 * 2 + j;
        value |= (uint32_t)(TRANSPOSED ? matrix[column][row] : matrix[row][column]) << 16 * j;
      }
      ((Matrices *)brought[lane])->values[i] = value;
    }
  }
}

template <bool TRANSPOSED, class... V>
EMULATED_MODEL void ldmatrix(int line, uint32_t address, V &...values) {
  Matrices mine = {address, {}};
  meet(EVERY_LANE, &mine, moved_matrices<sizeof...(V), TRANSPOSED, false>, "ldmatrix", line);
  const uint32_t *value = mine.values;
  ((values = *value++), ...);
}
template <bool TRANSPOSED, class... V>
EMULATED_MODEL void stmatrix(int line, uint32_t address, V... values) {
  Matrices mine = {address, {(uint32_t)values...}};
  meet(EVERY_LANE, &mine, moved_matrices<sizeof...(V), TRANSPOSED, true>, "stmatrix", line);
}

/* Types of mma.sync's operands; a register holds two 16-bit values or one of 32 bits. */
struct F16 {
  static constexpr int in_register = 2;
  static float value(uint32_t bits, int i) { return float_of_half((uint16_t)(bits >> 16 * i)); }
};
struct BF16 {
  static constexpr int in_register = 2;
  static float value(uint32_t bits, int i) { return float_of_bfloat16((uint16_t)(bits >> 16 * i)); }
};
struct TF32 {
  static constexpr int in_register = 1;
  static float value(uint32_t bits, int) { return tf32_cut(float_of(bits)); }
};

template <class T, int K> struct Operands {
  static constexpr int a_registers = 16 * K / 32 / T::in_register;
  static constexpr int b_registers = 8 * K / 32 / T::in_register;
  uint32_t a[a_registers], b[b_registers];
  float c[4];
};

template <class T, int K>
EMULATED_MODEL void multiplied(void *const *brought) {
  typedef Operands<T, K> Mine;
  constexpr int held = T::in_register;
  float a[16][K], b[8][K];
  for (int lane = 0; lane < 32; ++lane) {
    const Mine &mine = *(const Mine *)brought[lane];
    const int group = lane / 4, part = lane % 4;
    for (int r = 0; r < Mine::a_registers; ++r)
      for (int i = 0; i < held; ++i)
        a[group + 8 * (r % 2)][part * held + i + 4 * held * (r / 2)] = T::value(mine.a[r], i);
    for (int r = 0; r < Mine::b_registers; ++r)
      for (int i = 0; i < held; ++i)
        b[group][part * held + i + 4 * held * r] = T::value(mine.b[r], i);
  }
  for (int lane = 0; lane < 32; ++lane) {
    Mine &mine = *(Mine *)brought[lane];
    for (int i = 0; i < 4; ++i)
      mine.c[i] = multiply_add(mine.c[i], a[lane / 4 + 8 * (i / 2)], b[lane % 4 * 2 + i % 2], K);
  }
}

/* D = A B + C of 16 x K and K x 8 in float; `registers` are those of D, A, B and C in this order. */
template <class T, int K, class... V>
EMULATED_MODEL void mma_sync(int line, float &d0, float &d1, float &d2, float &d3, V... registers) {
  typedef Operands<T, K> Mine;
  constexpr int inputs = Mine::a_registers + Mine::b_registers;
  static_assert(sizeof...(V) == inputs + 4, "registers of mma.sync");
  /* As bits: those of C are floats. */
  uint32_t bits[inputs + 4];
  uint32_t *next = bits;
  ((memcpy(next++, &registers, 4)), ...);
  Mine mine;
  memcpy(mine.a, bits, sizeof mine.a);
  memcpy(mine.b, bits + Mine::a_registers, sizeof mine.b);
  memcpy(mine.c, bits + inputs, sizeof mine.c);
  meet(EVERY_LANE, &mine, multiplied<T, K>, "mma.sync", line);
  d0 = mine.c[0], d1 = mine.c[1], d2 = mine.c[2], d3 = mine.c[3];
}

}  // namespace ptx
}  // namespace emulated
