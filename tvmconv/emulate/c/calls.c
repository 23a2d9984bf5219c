/* Runs calls of kernels from a file and writes their answers to another: what proves kernels on a
 * machine without Python, emulated or real.
 *
 *   calls IN OUT
 *
 * IN:  "TVCCALL1", then per call: uint32 kernel, int32 threads, uint64 floats of weight, bias,
 *      scale, shift, x, residual, offset, mask (0: there is none), and those floats.
 * OUT: per call: int32 code, int32 how much was wrong (1: packed, 2: y was written beyond its end),
 *      and, when the code is 0, the floats of y.
 * Everything little-endian, as all of our targets are.
 *
 * Exit status: 0 when every call was made, 1 with a line on stderr when a file is not whole, 2 when
 * the processor lacks an instruction set.
 */
#include "calls.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TENSORS = 8, GUARD = 17 };
static const float untouched = -1.25e30f;

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

/* A tensor 4 bytes off a cache line between floats that nobody may touch: no more alignment than a
 * float's is promised. */
static float *tensor(uint64_t size, void **room) {
  const size_t floats = (size_t)size + 2 * GUARD;
  if (size > SIZE_MAX / sizeof(float) - 2 * GUARD - 64) fail("a tensor is too large");
  char *start = *room = malloc(floats * sizeof(float) + 64);
  if (start == NULL) fail("no memory");
  start += (64 - (uintptr_t)start % 64) % 64;
  float *data = (float *)(void *)start + GUARD;
  for (size_t i = 0; i < floats; ++i) (data - GUARD)[i] = untouched;
  return data;
}

static int guarded(const float *data, uint64_t size) {
  for (size_t i = 0; i < GUARD; ++i)
    if (data[-1 - (long)i] != untouched || data[size + i] != untouched) return 0;
  return 1;
}

static void call(FILE *in, FILE *out) {
  uint32_t kernel;
  int32_t threads;
  uint64_t sizes[TENSORS];
  if (fread(&kernel, sizeof kernel, 1, in) != 1 || fread(&threads, sizeof threads, 1, in) != 1 ||
      fread(sizes, sizeof sizes, 1, in) != 1 || kernel >= calls_kernel_count)
    fail("the calls are not whole");
  void *rooms[TENSORS + 2] = {NULL};
  float *given[TENSORS] = {NULL};
  for (int i = 0; i < TENSORS; ++i) {
    if (sizes[i] == 0) continue;
    given[i] = tensor(sizes[i], &rooms[i]);
    if (fread(given[i], sizeof(float), (size_t)sizes[i], in) != sizes[i])
      fail("the calls are not whole");
  }
  const calls_kernel *k = &calls_kernels[kernel];
  float *packed = tensor(k->packed, &rooms[TENSORS]), *y = tensor(k->y, &rooms[TENSORS + 1]);
  for (size_t i = 0; i < k->y; ++i) y[i] = NAN; /* whatever is not written shows */
  int32_t result[2] = {TVMCONV_OK, 0};
  if (k->pack != NULL) result[0] = k->pack(given[0], given[1], given[2], given[3], packed);
  if (result[0] == TVMCONV_OK)
    result[0] = k->run(given[4], packed, given[5], given[6], given[7], y, threads);
  if (result[0] != TVMCONV_OK)
    fprintf(stderr, "kernel %u: %s\n", (unsigned)kernel, tvmconv_error_text(result[0]));
  result[1] = !guarded(packed, k->packed) + 2 * !guarded(y, k->y);
  fwrite(result, sizeof result, 1, out);
  if (result[0] == TVMCONV_OK) fwrite(y, sizeof(float), (size_t)k->y, out);
  for (int i = 0; i < TENSORS + 2; ++i) free(rooms[i]);
}

int main(int argc, char **argv) {
  char magic[8], missing[512];
  if (argc != 3) fail("usage: calls IN OUT");
  if (tvmconv_cpu_missing(calls_cpu, missing, sizeof missing) != 0) {
    fprintf(stderr, "this CPU lacks: %s\n", missing);
    return 2;
  }
  const int32_t code = calls_prepare();
  if (code != TVMCONV_OK) fail(tvmconv_error_text(code));
  FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
  if (in == NULL || out == NULL) fail("a file cannot be opened");
  if (fread(magic, sizeof magic, 1, in) != 1 || memcmp(magic, "TVCCALL1", 8) != 0)
    fail("the calls are not whole");
  for (int next = fgetc(in); next != EOF; next = fgetc(in)) {
    ungetc(next, in);
    call(in, out);
  }
  if (fclose(out) != 0) fail("the answers cannot be written");
  fclose(in);
  return 0;
}
