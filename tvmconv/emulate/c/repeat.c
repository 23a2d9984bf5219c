/* Packs the weights of one kernel once and runs it so often:
 *
 *   repeat TIMES
 *
 * Tensors hold small numbers that are the same each time; the answer is not looked at.
 */
#include "calls.h"

#include <stdio.h>
#include <stdlib.h>

extern const uint64_t repeat_sizes[8]; /* floats of calls.c's tensors */

static float *filled(uint64_t size) {
  float *data = aligned_alloc(64, ((size_t)size * sizeof(float) / 64 + 1) * 64);
  if (data == NULL) exit(1);
  for (uint64_t i = 0; i < size; ++i) data[i] = (float)((i * 7 + i / 5) % 9) - 4.0f;
  return data;
}

int main(int argc, char **argv) {
  float *given[8];
  const calls_kernel *k = &calls_kernels[0];
  const int times = argc == 2 ? atoi(argv[1]) : 0;
  if (times < 1) return 1;
  for (int i = 0; i < 8; ++i) given[i] = filled(repeat_sizes[i]);
  float *packed = filled(k->packed), *y = filled(k->y);
  int32_t code = TVMCONV_OK;
  if (k->pack != NULL) code = k->pack(given[0], given[1], given[2], given[3], packed);
  for (int i = 0; i < times && code == TVMCONV_OK; ++i)
    code = k->run(given[4], packed, given[5], given[6], given[7], y, 1);
  if (code != TVMCONV_OK) fprintf(stderr, "%s\n", tvmconv_error_text(code));
  return code == TVMCONV_OK ? 0 : 1;
}
