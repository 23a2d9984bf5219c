/* The kernels of a program that runs calls from a file; the table is generated. */
#ifndef TVMCONV_CALLS_H
#define TVMCONV_CALLS_H

#include "tvmconv.h"

typedef struct {
  int32_t (*pack)(const float *, const float *, const float *, const float *, float *);
  int32_t (*run)(const float *, const float *, const float *, const float *, const float *,
                 float *, int32_t);
  uint64_t packed, y; /* floats */
} calls_kernel;

extern const calls_kernel calls_kernels[];
extern const uint32_t calls_kernel_count;
extern const uint64_t calls_cpu; /* instruction sets that the kernels need */

/* Runs before the first call; returns a code of the runtime. */
int32_t calls_prepare(void);

#endif
