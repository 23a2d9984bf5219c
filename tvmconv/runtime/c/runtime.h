/* Inside of the runtime: what the generated wrappers and the runtime's own files share. */
#ifndef TVMCONV_RUNTIME_H
#define TVMCONV_RUNTIME_H

#include "tvmconv.h"

/* In a bundle the runtime is linked in and hidden; kernels compiled inside a process share one
 * runtime library (and so one thread pool), which must show these names. */
#if defined(TVMCONV_SHARED_RUNTIME)
#define TVMCONV_INSIDE __attribute__((visibility("default")))
#else
#define TVMCONV_INSIDE __attribute__((visibility("hidden")))
#endif

/* TVM's calling convention (tvm_ffi 0.1): a tagged 16-byte value per argument. */
typedef struct {
  int32_t type_index;
  uint32_t zero;
  union {
    int64_t i;
    void *pointer;
  } value;
} tvmconv_any;

typedef int32_t (*tvmconv_entry)(void *self, const tvmconv_any *args, int32_t count,
                                 tvmconv_any *result);

/* What TVM hands to every task of a parallel loop. */
typedef struct {
  void *sync_handle;
  int32_t num_task;
} tvmconv_parallel_env;

typedef int32_t (*tvmconv_task)(int32_t task_id, tvmconv_parallel_env *env, void *cdata);

/* One pointer of a wrapper: its number (TVMCONV_ARG_*) for the error code. */
typedef struct {
  const void *data;
  int32_t argument;
} tvmconv_pointer;

/* Checks pointers and CPU, then calls the kernel with at most `threads` threads. */
TVMCONV_INSIDE int32_t tvmconv_invoke(tvmconv_entry entry, uint64_t cpu,
                                      const tvmconv_pointer *pointers, int32_t count,
                                      int32_t threads);

/* The three services that TVM's code reaches through the pointers below. */
TVMCONV_INSIDE int32_t tvmconv_parallel_launch(tvmconv_task task, void *cdata, int32_t num_task);
TVMCONV_INSIDE void *tvmconv_workspace_alloc(int32_t device_type, int32_t device_id, uint64_t size,
                                             int32_t dtype_code, int32_t dtype_bits);
TVMCONV_INSIDE int32_t tvmconv_workspace_free(int32_t device_type, int32_t device_id, void *block);

/* TVM's objects hold weak, NULL pointers of these names and call through them without a check. The
 * generated wrappers define them once per library: there, because a linker would never fetch a
 * strong definition of its own accord where a weak one will do. */
#define TVMCONV_HOOK __attribute__((visibility("hidden"))) extern
TVMCONV_HOOK int32_t (*__TVMBackendParallelLaunch)(tvmconv_task, void *, int32_t);
TVMCONV_HOOK void *(*__TVMBackendAllocWorkspace)(int32_t, int32_t, uint64_t, int32_t, int32_t);
TVMCONV_HOOK int32_t (*__TVMBackendFreeWorkspace)(int32_t, int32_t, void *);

#define TVMCONV_DEFINE_HOOKS                                                           \
  int32_t (*__TVMBackendParallelLaunch)(tvmconv_task, void *, int32_t) =               \
      tvmconv_parallel_launch;                                                         \
  void *(*__TVMBackendAllocWorkspace)(int32_t, int32_t, uint64_t, int32_t, int32_t) =  \
      tvmconv_workspace_alloc;                                                         \
  int32_t (*__TVMBackendFreeWorkspace)(int32_t, int32_t, void *) = tvmconv_workspace_free;

/* Bits of the instruction sets that the processor has and its system supports. */
TVMCONV_INSIDE uint64_t tvmconv_cpu_detect(void);

/* Sets how many threads a parallel loop of this host thread may use; returns the old value. */
TVMCONV_INSIDE int32_t tvmconv_set_threads(int32_t threads);

#endif
