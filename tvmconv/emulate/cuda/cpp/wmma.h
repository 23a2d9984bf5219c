/* nvcuda::wmma: matrices spread over the lanes of a warp, in 16-bit types and TF32.
 *
 * Which lane holds which element is not told by CUDA, and here it is another one than on any GPU:
 * element e of the matrix in row order is element e / 32 of lane e % 32. Fragments of inputs hold
 * everything twice, as they do on a GPU, where they do. So code that goes over all elements of a
 * fragment is right, and code that thinks to know their places is not.
 */
#pragma once

#include "memory.h"
#include "tensor_core.h"
#include "threads.h"

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32 {};
}  // namespace precision

template <class T> struct stored { typedef T type; };
template <> struct stored<precision::tf32> { typedef float type; };

template <class Use, int M, int N, int K, class T> struct shape;
template <int M, int N, int K, class T> struct shape<matrix_a, M, N, K, T> {
  enum { rows = M, columns = K, copies = sizeof(typename stored<T>::type) == 2 ? 2 : 1 };
};
template <int M, int N, int K, class T> struct shape<matrix_b, M, N, K, T> {
  enum { rows = K, columns = N, copies = sizeof(typename stored<T>::type) == 2 ? 2 : 1 };
};
template <int M, int N, int K, class T> struct shape<accumulator, M, N, K, T> {
  enum { rows = M, columns = N, copies = 1 };
};

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
  typedef typename stored<T>::type element_type;
  typedef shape<Use, M, N, K, T> Shape;
  static constexpr int held = Shape::rows * Shape::columns / 32;
  static constexpr int num_elements = held * Shape::copies;
  element_type x[num_elements];
};

inline float __float_to_tf32(float value) { return emulated::tf32_rounded(value); }


template <class F, class T>
EMULATED_MODEL void fill_fragment(F &to, const T &value) {
  for (auto &x : to.x) x = value;
}

template <class F, class T> struct Moved {
  F *fragment;
  T *memory;
  unsigned stride;
  bool rows;
};

/* Every lane brings the same memory: what differs is undefined on a GPU. */
template <class F, class T, bool STORE>
EMULATED_MODEL void moved_matrix(void *const *brought) {
  typedef typename F::Shape Shape;
  const Moved<F, T> &first = *(const Moved<F, T> *)brought[0];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const Moved<F, T> &own = *(const Moved<F, T> *)brought[lane];
    if (own.memory != first.memory || own.stride != first.stride || own.rows != first.rows)
      emulated::fault("divergence", "lanes of a warp give different addresses to %s",
                      STORE ? "store_matrix_sync" : "load_matrix_sync");
  }
  const unsigned outer = first.rows ? Shape::rows : Shape::columns;
  const unsigned inner = first.rows ? Shape::columns : Shape::rows;
  for (unsigned i = 0; i < outer; ++i) {
    T *line = first.memory + (size_t)i * first.stride;
    if (STORE)
      emulated::warp_writes((void *)line, inner * sizeof(T));
    else
      emulated::warp_reads(line, inner * sizeof(T));
  }
  for (unsigned e = 0; e < Shape::rows * Shape::columns; ++e) {
    const unsigned row = e / Shape::columns, column = e % Shape::columns;
    T *at = first.memory + (first.rows ? (size_t)row * first.stride + column
                                       : (size_t)column * first.stride + row);
    F &fragment = *((const Moved<F, T> *)brought[e % 32])->fragment;
    if (STORE)
      *at = fragment.x[e / 32];
    else
      for (int copy = 0; copy < Shape::copies; ++copy)
        fragment.x[e / 32 + copy * F::held] = *at;
  }
}

/* The whole matrix at multiples of 32 bytes, its rows at multiples of 16: what CUDA asks for. */
template <class T>
void check_place(const T *memory, unsigned stride, const char *what) {
  if ((uintptr_t)memory % 32 != 0)
    emulated::fault("misaligned", "%s at an address that is no multiple of 32 bytes", what);
  if (stride * sizeof(T) % 16 != 0)
    emulated::fault("misaligned", "%s with rows of %u bytes, no multiple of 16", what,
                    (unsigned)(stride * sizeof(T)));
}

template <class F, class T>
void load(F &to, const T *from, unsigned stride, bool rows, int line) {
  check_place(from, stride, "load_matrix_sync");
  Moved<F, T> mine = {&to, (T *)from, stride, rows};
  emulated::meet(emulated::EVERY_LANE, &mine, moved_matrix<F, T, false>, "load_matrix_sync", line);
}
template <class Use, int M, int N, int K, class T>
void load_at(int line, fragment<Use, M, N, K, T, row_major> &to,
             const typename stored<T>::type *from, unsigned stride) {
  load(to, from, stride, true, line);
}
template <class Use, int M, int N, int K, class T>
void load_at(int line, fragment<Use, M, N, K, T, col_major> &to,
             const typename stored<T>::type *from, unsigned stride) {
  load(to, from, stride, false, line);
}
template <int M, int N, int K, class T>
void load_at(int line, fragment<accumulator, M, N, K, T> &to, const T *from, unsigned stride,
             layout_t layout) {
  load(to, from, stride, layout == mem_row_major, line);
}
template <int M, int N, int K, class T>
void store_at(int line, T *to, const fragment<accumulator, M, N, K, T> &from, unsigned stride,
              layout_t layout) {
  typedef fragment<accumulator, M, N, K, T> F;
  check_place(to, stride, "store_matrix_sync");
  Moved<F, T> mine = {(F *)&from, to, stride, layout == mem_row_major};
  emulated::meet(emulated::EVERY_LANE, &mine, moved_matrix<F, T, true>, "store_matrix_sync", line);
}

template <class D, class A, class B, class C> struct Multiplied {
  D *d;
  const A *a;
  const B *b;
  const C *c;
};

template <int M, int N, int K, class D, class A, class B, class C>
EMULATED_MODEL void multiplied(void *const *brought) {
  typedef Multiplied<D, A, B, C> Mine;
  float a[M][K], b[N][K];
  for (int i = 0; i < M * K; ++i)
    a[i / K][i % K] = emulated::taken(((const Mine *)brought[i % 32])->a->x[i / 32]);
  for (int i = 0; i < K * N; ++i)
    b[i % N][i / N] = emulated::taken(((const Mine *)brought[i % 32])->b->x[i / 32]);
  for (int i = 0; i < M * N; ++i) {
    const Mine &mine = *(const Mine *)brought[i % 32];
    mine.d->x[i / 32] =
        emulated::multiply_add((float)mine.c->x[i / 32], a[i / N], b[i % N], K);
  }
}

template <int M, int N, int K, class TD, class T, class LA, class LB, class TC>
void mma_at(int line, fragment<accumulator, M, N, K, TD> &d,
            const fragment<matrix_a, M, N, K, T, LA> &a,
            const fragment<matrix_b, M, N, K, T, LB> &b,
            const fragment<accumulator, M, N, K, TC> &c) {
  typedef fragment<accumulator, M, N, K, TD> D;
  typedef fragment<matrix_a, M, N, K, T, LA> A;
  typedef fragment<matrix_b, M, N, K, T, LB> B;
  typedef fragment<accumulator, M, N, K, TC> C;
  static_assert(sizeof(T) == 2 || sizeof(typename A::element_type) == 4,
                "16-bit types and TF32 are modelled");
  Multiplied<D, A, B, C> mine = {&d, &a, &b, &c};
  emulated::meet(emulated::EVERY_LANE, &mine, multiplied<M, N, K, D, A, B, C>, "mma_sync", line);
}

#define load_matrix_sync(...) load_at(__LINE__, __VA_ARGS__)
#define store_matrix_sync(...) store_at(__LINE__, __VA_ARGS__)
#define mma_sync(...) mma_at(__LINE__, __VA_ARGS__)

}  // namespace wmma
}  // namespace nvcuda
