/* From plain pointers to TVM's calling convention, with the checks that its code leaves out. */
#include "runtime.h"

enum { MAX_POINTERS = 8, FFI_DLTENSOR = 7, DL_CPU = 1 };

/* DLTensor. Kernels are compiled for fixed shapes and without run-time assertions: of these fields
 * their code reads only the data pointer and the device. */
typedef struct {
  void *data;
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  uint8_t dtype_code;
  uint8_t dtype_bits;
  uint16_t dtype_lanes;
  int64_t *shape;
  int64_t *strides;
  uint64_t byte_offset;
} dl_tensor;

int32_t tvmconv_invoke(tvmconv_entry entry, uint64_t cpu, const tvmconv_pointer *pointers,
                       int32_t count, int32_t threads) {
  dl_tensor tensors[MAX_POINTERS];
  tvmconv_any args[MAX_POINTERS];
  for (int32_t i = 0; i < count; ++i) {
    if (pointers[i].data == NULL) return TVMCONV_NULL - pointers[i].argument;
    if ((uintptr_t)pointers[i].data % sizeof(float) != 0)
      return TVMCONV_MISALIGNED - pointers[i].argument;
    /* The kernel writes only through its last pointer; TVM's convention has no const. */
    tensors[i] = (dl_tensor){(void *)(uintptr_t)pointers[i].data, DL_CPU, 0, 0, 2, 32, 1,
                             NULL, NULL, 0};
    args[i] = (tvmconv_any){FFI_DLTENSOR, 0, {.pointer = &tensors[i]}};
  }
  if (tvmconv_cpu_missing(cpu, NULL, 0) != 0) return TVMCONV_CPU;
  tvmconv_any result = {0, 0, {0}};
  const int32_t before = tvmconv_set_threads(threads);
  const int32_t failed = entry(NULL, args, count, &result);
  tvmconv_set_threads(before);
#if defined(TVMCONV_FREESTANDING)
  if (failed != 0) tvmconv_workspace_reset();
#endif
  return failed == 0 ? TVMCONV_OK : TVMCONV_WORKSPACE; /* nothing else in a kernel can fail */
}

#define TEXTS(name)                                                        \
  {name " must not be NULL",                                               \
   name " must point to float32 values, so be a multiple of 4 bytes"}

const char *tvmconv_error_text(int32_t code) {
  static const char *const texts[][2] = {
      TEXTS("x"), TEXTS("packed"), TEXTS("residual"), TEXTS("offset"), TEXTS("mask"),
      TEXTS("y"), TEXTS("weight"), TEXTS("bias"),     TEXTS("scale"),  TEXTS("shift")};
  const int32_t known = (int32_t)(sizeof texts / sizeof *texts);
  if (code == TVMCONV_OK) return "ok";
  if (code == TVMCONV_CPU)
    return "this CPU lacks an instruction set that the kernel was built for";
  if (code == TVMCONV_WORKSPACE) return "no memory, or too little, for the kernel's workspace";
  if (code == TVMCONV_TARGET) return "the library holds no target of this name";
  for (int32_t kind = 0; kind < 2; ++kind) {
    const int64_t argument = (int64_t)(kind == 0 ? TVMCONV_NULL : TVMCONV_MISALIGNED) - code;
    if (argument >= 1 && argument <= known) return texts[argument - 1][kind];
  }
  return "unknown tvmconv error code";
}
