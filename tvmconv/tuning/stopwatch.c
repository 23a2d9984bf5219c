/* Times calls of a kernel where they happen: from Python a call costs a microsecond more. */
#define _POSIX_C_SOURCE 199309L
#include <time.h>

#include "runtime.h"

static double read_clock(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Calls `calls` times; seconds[0] becomes the wall time of one call, seconds[1] its CPU time on
 * this thread. */
TVMCONV_API int32_t tvmconv_time(tvmconv_entry entry, const tvmconv_pointer *pointers,
                                 int32_t count, int32_t threads, int32_t calls, double *seconds) {
  int32_t status = TVMCONV_OK;
  const double cpu = read_clock(CLOCK_THREAD_CPUTIME_ID), wall = read_clock(CLOCK_MONOTONIC);
  for (int32_t i = 0; i < calls && status == TVMCONV_OK; ++i)
    status = tvmconv_invoke(entry, 0, pointers, count, threads);
  seconds[0] = (read_clock(CLOCK_MONOTONIC) - wall) / calls;
  seconds[1] = (read_clock(CLOCK_THREAD_CPUTIME_ID) - cpu) / calls;
  return status;
}
