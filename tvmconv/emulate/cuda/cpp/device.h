/* Everything that a kernel's source finds: what nvcc knows without a header, and CUDA's headers. */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cstdint>
#include <type_traits>

#include "arithmetic.h"
#include "async.h"
#include "half.h"
#include "mbarrier.h"
#include "memory.h"
#include "ptx.h"
#include "tensor_core.h"
#include "threads.h"
#include "vectors.h"
#include "warpgroup.h"
#include "wmma.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define CUDART_INF_F __builtin_inff()
#define CUDART_NAN_F __builtin_nanf("")
#define CUDART_INF __builtin_inf()
#define CUDART_NAN __builtin_nan("")
