/* The driver's library, opened when it is first used; what failed, in words; contexts and memory.
 *
 * Everything here is static, as in launch.h, which includes it. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tvmconv_cuda.h"

typedef struct context context; /* CUcontext */
typedef struct module module;   /* CUmodule */
typedef struct function function;
typedef uint64_t address; /* CUdeviceptr */

/* The driver's functions that are used here, by their names in the library. */
#define TVMCONV_DRIVER_FUNCTIONS(X)                                                              \
  X(cuInit, (unsigned))                                                                          \
  X(cuGetErrorName, (int, const char **))                                                        \
  X(cuDeviceGet, (int *, int))                                                                   \
  X(cuDeviceGetAttribute, (int *, int, int))                                                     \
  X(cuDevicePrimaryCtxRetain, (context **, int))                                                 \
  X(cuCtxGetCurrent, (context **))                                                               \
  X(cuCtxGetDevice, (int *))                                                                     \
  X(cuCtxPushCurrent_v2, (context *))                                                            \
  X(cuCtxPopCurrent_v2, (context **))                                                            \
  X(cuModuleLoadData, (module **, const void *))                                                 \
  X(cuModuleGetFunction, (function **, module *, const char *))                                  \
  X(cuFuncSetAttribute, (function *, int, int))                                                  \
  X(cuLaunchKernel, (function *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,     \
                     unsigned, void *, void **, void **))                                        \
  X(cuMemAlloc_v2, (address *, size_t))                                                          \
  X(cuMemFree_v2, (address))                                                                     \
  X(cuMemAllocAsync, (address *, size_t, void *))                                                \
  X(cuMemFreeAsync, (address, void *))                                                           \
  X(cuMemcpyHtoD_v2, (address, const void *, size_t))                                            \
  X(cuMemcpyDtoH_v2, (void *, address, size_t))                                                  \
  X(cuStreamSynchronize, (void *))

#define DECLARE(name, parameters) static int(*name) parameters;
TVMCONV_DRIVER_FUNCTIONS(DECLARE)
#undef DECLARE

enum { OUT_OF_MEMORY = 2, NO_DEVICE = 100 };

static int asked;                  /* whether the driver was asked for */
static int32_t driver_code;        /* what came of it, and why */
static char driver_detail[512];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local char detail[4608]; /* of the thread's last failure; a path fits */

static int32_t failed(int32_t code, const char *what, const char *more) {
  snprintf(detail, sizeof detail, "%s%s%s", what, *more ? ": " : "", more);
  return code;
}

static int32_t driver_failed(const char *what, int status) {
  const char *name = NULL;
  if (cuGetErrorName(status, &name) != 0 || name == NULL) name = "an unknown error";
  return failed(status == OUT_OF_MEMORY ? TVMCONV_MEMORY : TVMCONV_CUDA - status, what, name);
}

#define TRY(call)                                                      \
  do {                                                                 \
    const int status_ = (call);                                        \
    if (status_ != 0) return driver_failed(#call, status_);            \
  } while (0)

static int32_t find_driver(void) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == NULL) {
    const char *why = dlerror();
    return failed(TVMCONV_DRIVER, why == NULL ? "libcuda.so.1" : why, "");
  }
#define FIND(name, parameters)                                                                   \
  {                                                                                              \
    void *found = dlsym(library, #name);                                                         \
    if (found == NULL) return failed(TVMCONV_DRIVER, "libcuda.so.1 has no", #name);              \
    memcpy(&name, &found, sizeof found);                                                         \
  }
  TVMCONV_DRIVER_FUNCTIONS(FIND)
#undef FIND
  const int status = cuInit(0);
  if (status == NO_DEVICE) return failed(TVMCONV_DEVICE, "cuInit", "CUDA_ERROR_NO_DEVICE");
  return status == 0 ? 0 : driver_failed("cuInit", status);
}

/* Opens the driver once; under the lock. */
static int32_t open_driver(void) {
  if (!asked) {
    driver_code = find_driver();
    snprintf(driver_detail, sizeof driver_detail, "%.500s", driver_code ? detail : "");
    asked = 1;
  }
  return driver_code == 0 ? 0 : failed(driver_code, driver_detail, "");
}

/* Makes sure that the thread has a context: its own, or that of the first GPU for the length of a
 * call. `*pushed` says whether it is to be taken back. */
static int32_t enter(int *pushed) {
  *pushed = 0;
  pthread_mutex_lock(&lock);
  const int32_t code = open_driver();
  pthread_mutex_unlock(&lock);
  if (code != 0) return code;
  context *current = NULL;
  TRY(cuCtxGetCurrent(&current));
  if (current != NULL) return 0;
  int device;
  TRY(cuDeviceGet(&device, 0));
  TRY(cuDevicePrimaryCtxRetain(&current, device));
  TRY(cuCtxPushCurrent_v2(current));
  *pushed = 1;
  return 0;
}

static void leave(int pushed) {
  context *popped;
  if (pushed) cuCtxPopCurrent_v2(&popped);
}

static int32_t allocate(void **made, size_t bytes) {
  int pushed;
  int32_t code = enter(&pushed);
  if (code != 0) return code;
  address found = 0;
  const int status = cuMemAlloc_v2(&found, bytes == 0 ? 1 : bytes);
  leave(pushed);
  *made = (void *)(uintptr_t)found;
  return status == 0 ? 0 : driver_failed("cuMemAlloc", status);
}

static void release(void *memory) {
  int pushed;
  if (memory == NULL || enter(&pushed) != 0) return;
  cuMemFree_v2((address)(uintptr_t)memory);
  leave(pushed);
}

/* Copies to the GPU, or from there when `back`, after what is in the default stream. */
static int32_t copy(void *to, const void *from, size_t bytes, int back) {
  int pushed;
  int32_t code = enter(&pushed);
  if (code != 0 || bytes == 0) return code;
  int status = back ? cuMemcpyDtoH_v2(to, (address)(uintptr_t)from, bytes)
                    : cuMemcpyHtoD_v2((address)(uintptr_t)to, from, bytes);
  if (status == 0) status = cuStreamSynchronize(NULL);
  leave(pushed);
  return status == 0 ? 0 : driver_failed("copy", status);
}

static int32_t wait_for(void *stream) {
  int pushed;
  int32_t code = enter(&pushed);
  if (code != 0) return code;
  const int status = cuStreamSynchronize(stream);
  leave(pushed);
  return status == 0 ? 0 : driver_failed("cuStreamSynchronize", status);
}

/* A sentence for a code, with what is known of this thread's last failure. */
static const char *explain(int32_t code) {
  static _Thread_local char text[4800];
  const char *what = "a call of the driver failed";
  if (code == TVMCONV_OK) return "no error";
  if (code <= TVMCONV_NULL && code > TVMCONV_DRIVER) what = "an argument does not fit";
  if (code == TVMCONV_DRIVER) what = "there is no NVIDIA driver, or it is too old";
  if (code == TVMCONV_DEVICE) what = "there is no GPU";
  if (code == TVMCONV_ARCH) what = "the bundle has no code for this GPU";
  if (code == TVMCONV_FILE) what = "a file is missing, truncated or altered";
  if (code == TVMCONV_MEMORY) what = "not enough memory";
  snprintf(text, sizeof text, "%s (%s)", what, detail);
  return text;
}
