/* The kernels of a program, which are compiled for it and listed by it. */
#pragma once

#include <utility>

#include "block.h"

namespace emulated {

struct Kernel {
  const char *name;
  Invoke invoke;
  unsigned arguments;
};

extern const Kernel kernels[];
extern const unsigned kernel_count;

/* Calls any __global__ function whose arguments are pointers. */
template <class... T, size_t... I>
__attribute__((no_sanitize("thread")))
void spread(void (*function)(T...), void *const *arguments, std::index_sequence<I...>) {
  function((T)arguments[I]...);
}

template <auto FUNCTION> struct Call;
template <class... T, void (*FUNCTION)(T...)> struct Call<FUNCTION> {
  static constexpr unsigned count = sizeof...(T);
  static void invoke(void *const *arguments) {
    spread(FUNCTION, arguments, std::index_sequence_for<T...>());
  }
};

}  // namespace emulated
