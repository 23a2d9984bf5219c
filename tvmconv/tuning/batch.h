/* The candidates of a program that checks and times them; the table is generated (batch.py). */
#ifndef TVMCONV_BATCH_H
#define TVMCONV_BATCH_H

#include "runtime.h"

typedef struct {
  tvmconv_entry run, pack; /* pack is NULL where there is nothing to pack */
  int32_t run_count, pack_count;
  int32_t run_args[8], pack_args[8]; /* TVMCONV_ARG_* */
  uint64_t packed;                   /* floats */
} batch_candidate;

extern const batch_candidate batch_candidates[];
extern const int32_t batch_count;
extern const uint64_t batch_y;    /* floats of the result */
extern const uint64_t batch_cpu;  /* instruction sets that the target has */
extern const uint32_t batch_core; /* the target's core as tvmconv_cpu_core has it; 0 for any */

/* How samples are taken (measure.py). */
typedef struct {
  int32_t cpu_samples, wall_samples, max_calls;
  double seconds, hopeless, warm;
} batch_protocol;

extern const batch_protocol batch_rules;

int32_t tvmconv_describe(uint64_t needed, char *text, size_t size);

#endif
