/* The runtime of static bundles around the fake kernel: every way in which workspace can be short. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tvmconv_workspace.h"

int32_t fake_pack(const float *, const float *, const float *, const float *, float *);
int32_t fake_run(const float *, const float *, const float *, const float *, const float *, float *,
                 int32_t);

#define REQUIRE(ok)                                             \
  do {                                                          \
    if (!(ok)) {                                                \
      fprintf(stderr, "line %d: %s is false\n", __LINE__, #ok); \
      exit(1);                                                  \
    }                                                           \
  } while (0)

enum { COUNT = 1000, NEEDED = COUNT * sizeof(float) + 127 };

static float x[COUNT], y[COUNT], weight[10], packed[10];
static int taken, returned;

static int32_t run(void) { return fake_run(x, packed, NULL, NULL, NULL, y, 4); }

static void *take(void *context, size_t bytes) {
  REQUIRE(context == &taken);
  ++taken;
  return (char *)malloc(bytes + 8) + 4; /* of no particular alignment */
}

static void give_back(void *context, void *block) {
  REQUIRE(context == &taken);
  ++returned;
  free((char *)block - 4);
}

static void *take_nothing(void *context, size_t bytes) {
  (void)context, (void)bytes;
  return NULL;
}

int main(void) {
  static char memory[NEEDED + 64];
  for (int i = 0; i < 10; ++i) weight[i] = (float)i;
  for (int i = 0; i < COUNT; ++i) x[i] = 2.0f;
  REQUIRE(fake_pack(weight, NULL, NULL, NULL, packed) == TVMCONV_OK);
  REQUIRE(run() == TVMCONV_WORKSPACE); /* none was given */
  for (size_t offset = 0; offset < 64; ++offset) {
    REQUIRE(tvmconv_set_workspace(memory + offset, NEEDED) == TVMCONV_OK);
    memset(y, 0, sizeof y);
    for (int i = 0; i < 3; ++i) REQUIRE(run() == TVMCONV_OK); /* it comes back each time */
    for (int i = 0; i < COUNT; ++i) REQUIRE(y[i] == 2.0f * (float)(i % 10));
    for (size_t i = NEEDED + offset; i < sizeof memory; ++i) REQUIRE(memory[i] == 0);
    memset(memory, 0, sizeof memory);
  }
  for (size_t bytes = 0; bytes < NEEDED; bytes += 61) {
    REQUIRE(tvmconv_set_workspace(memory, bytes) == TVMCONV_OK);
    REQUIRE(run() == TVMCONV_WORKSPACE);
  }
  REQUIRE(tvmconv_set_allocator(take, give_back, &taken) == TVMCONV_OK);
  REQUIRE(run() == TVMCONV_OK && taken == 1 && returned == 1);
  REQUIRE(tvmconv_set_allocator(take_nothing, NULL, NULL) == TVMCONV_OK);
  REQUIRE(run() == TVMCONV_WORKSPACE);
  REQUIRE(tvmconv_set_workspace(NULL, 0) == TVMCONV_OK);
  REQUIRE(run() == TVMCONV_WORKSPACE);
  REQUIRE(fake_run(NULL, packed, NULL, NULL, NULL, y, 1) == TVMCONV_NULL - TVMCONV_ARG_X);
  puts("ok");
  return 0;
}
