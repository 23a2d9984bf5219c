/* tvmconv on NVIDIA GPUs: the part of the C interface that every bundle shares. */
#ifndef TVMCONV_CUDA_H
#define TVMCONV_CUDA_H

#include <stddef.h>
#include <stdint.h>

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

/* What the functions return: 0, or one of these; the first two minus an argument's number, the last
 * one minus the driver's own error (CUresult). */
enum {
  TVMCONV_OK = 0,
  TVMCONV_NULL = -100,       /* -101: x is NULL, -102: packed is NULL, ... */
  TVMCONV_MISALIGNED = -200, /* -201: x is no multiple of 16 bytes, ... */
  TVMCONV_DRIVER = -600,     /* there is no NVIDIA driver, or it is too old */
  TVMCONV_DEVICE = -601,     /* there is no GPU */
  TVMCONV_ARCH = -602,       /* the bundle has no code for this GPU */
  TVMCONV_FILE = -603,       /* a file is missing, truncated or altered, or nothing was opened */
  TVMCONV_MEMORY = -604,     /* not enough memory on the GPU */
  TVMCONV_CUDA = -10000      /* a call of the driver failed: -10719 is CUDA_ERROR_LAUNCH_FAILED */
};

#endif
