/* What TVM's code generator emits for a kernel `fake`, written by hand: y = packed * x, with a
 * parallel loop and a workspace; packing copies, times FACTOR. The weak pointers are TVM's. */
#include <stdint.h>
#include <string.h>

typedef struct {
  int32_t type_index;
  uint32_t zero;
  union {
    int64_t wide; /* 16 bytes where pointers have 4, too */
    void *pointer;
  } value;
} any;

typedef struct {
  void *data;
  int32_t device_type, device_id;
} tensor;

typedef struct {
  void *sync;
  int32_t num_task;
} group;

#if !defined(FACTOR)
#define FACTOR 1.0f
#endif
enum { COUNT = 1000 };

__attribute__((weak)) int32_t (*__TVMBackendParallelLaunch)(int32_t (*)(int32_t, group *, void *),
                                                            void *, int32_t);
__attribute__((weak)) void *(*__TVMBackendAllocWorkspace)(int32_t, int32_t, uint64_t, int32_t,
                                                          int32_t);
__attribute__((weak)) int32_t (*__TVMBackendFreeWorkspace)(int32_t, int32_t, void *);

static float *data_of(const any *value) { return ((const tensor *)value->value.pointer)->data; }

static int32_t scale(int32_t id, group *env, void *cdata) {
  float **at = cdata;
  const int32_t each = (COUNT + env->num_task - 1) / env->num_task;
  for (int32_t i = id * each; i < (id + 1) * each && i < COUNT; ++i)
    at[2][i] = at[0][i] * at[1][i % 10];
  return 0;
}

int32_t __tvm_ffi_fake_run(void *self, const any *args, int32_t count, any *result);
int32_t __tvm_ffi_fake_pack(void *self, const any *args, int32_t count, any *result);
int32_t __tvm_ffi_main(void);
__attribute__((weak)) int32_t __tvm_ffi_main(void) { return 0; }

int32_t __tvm_ffi_fake_run(void *self, const any *args, int32_t count, any *result) {
  (void)self, (void)count, (void)result;
  float *copy = __TVMBackendAllocWorkspace(1, 0, COUNT * sizeof(float), 2, 32);
  if (copy == NULL) return -1;
  memcpy(copy, data_of(&args[0]), COUNT * sizeof(float));
  float *at[] = {copy, data_of(&args[1]), data_of(&args[2])};
  const int32_t failed = __TVMBackendParallelLaunch(scale, at, 0);
  return __TVMBackendFreeWorkspace(1, 0, copy) != 0 ? -1 : failed;
}

int32_t __tvm_ffi_fake_pack(void *self, const any *args, int32_t count, any *result) {
  (void)self, (void)count, (void)result;
  for (int i = 0; i < 10; ++i) data_of(&args[1])[i] = FACTOR * data_of(&args[0])[i];
  return 0;
}
