/* tvmconv runtime: the part of the C interface that every library of kernels shares. */
#ifndef TVMCONV_H
#define TVMCONV_H

#include <stddef.h>
#include <stdint.h>

#include "tvmconv_cpu.h"

#define TVMCONV_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers of the arguments, as they appear in the error codes below. */
enum {
  TVMCONV_ARG_X = 1,
  TVMCONV_ARG_PACKED = 2,
  TVMCONV_ARG_RESIDUAL = 3,
  TVMCONV_ARG_OFFSET = 4,
  TVMCONV_ARG_MASK = 5,
  TVMCONV_ARG_Y = 6,
  TVMCONV_ARG_WEIGHT = 7,
  TVMCONV_ARG_BIAS = 8,
  TVMCONV_ARG_SCALE = 9,
  TVMCONV_ARG_SHIFT = 10
};

/* What the functions return: 0, or one of these; the first two minus an argument's number. */
enum {
  TVMCONV_OK = 0,
  TVMCONV_NULL = -100,       /* -101: x is NULL, -102: packed is NULL, ... */
  TVMCONV_MISALIGNED = -200, /* -201: x is no multiple of 4 bytes, ... */
  TVMCONV_CPU = -300,        /* this CPU lacks an instruction set that the kernel was built for */
  TVMCONV_WORKSPACE = -400,  /* no memory, or too little, for the kernel's workspace */
  TVMCONV_TARGET = -500      /* the library holds no target of this name */
};

/* A sentence for a return code. Never NULL; the text is static. */
TVMCONV_API const char *tvmconv_error_text(int32_t code);

/* Which of `needed` (TVMCONV_CPU_* bits) this CPU or its operating system lacks: 0 if none.
 * Their names, separated by spaces, go to `names` (at most `size` bytes with the final 0; NULL
 * is allowed when size is 0). */
TVMCONV_API uint64_t tvmconv_cpu_missing(uint64_t needed, char *names, size_t size);

#ifdef __cplusplus
}
#endif
#endif
