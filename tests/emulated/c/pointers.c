/* Calls the fake kernel with bad pointers and prints what it says to each; then with good ones. */
#include <stdio.h>
#include <string.h>

#include "tvmconv.h"

int32_t fake_pack(const float *, const float *, const float *, const float *, float *);
int32_t fake_run(const float *, const float *, const float *, const float *, const float *, float *,
                 int32_t);

static _Alignas(64) char room[3][4096];

static const float *at(int which, int offset) {
  return (const float *)(const void *)(room[which] + offset);
}

static void run(const char *name, const float *x, const float *packed, const float *y) {
  const int32_t code = fake_run(x, packed, NULL, NULL, NULL, (float *)(uintptr_t)y, 2);
  printf("%s: %d %s\n", name, (int)code, tvmconv_error_text(code));
}

int main(void) {
  run("null", NULL, at(1, 0), at(2, 0));
  run("one byte", at(0, 1), at(1, 0), at(2, 0));
  run("two bytes", at(0, 0), at(1, 2), at(2, 0));
  run("three bytes", at(0, 0), at(1, 0), at(2, 3));
  float *x = (float *)(void *)(room[0] + 4), *packed = (float *)(void *)(room[1] + 4);
  for (int i = 0; i < 1000; ++i) x[i] = (float)i;
  for (int i = 0; i < 10; ++i) packed[i] = 3;
  run("a float off", x, packed, at(2, 4));
  float last;
  memcpy(&last, room[2] + 4 + 999 * 4, sizeof last);
  printf("last: %g\n", (double)last);
  char names[64];
  printf("missing: %d\n", tvmconv_cpu_missing(UINT64_C(1) << 20, names, sizeof names) != 0);
  printf("%s\n", names);
  return 0;
}
