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

/* The machine code of one target in a library. */
typedef struct {
  const char *id;
  uint64_t cpu;  /* TVMCONV_CPU_* bits that it needs */
  uint32_t core; /* the core that it was scheduled for (tvmconv_cpu_core); 0 if for no one's */
} tvmconv_target;

/* The targets of a library, the most demanding first, and the one in use (dispatch.c). */
typedef struct {
  const tvmconv_target *targets;
  int32_t count;
  _Atomic int32_t chosen;
} tvmconv_targets;

/* Index of the target for a CPU with these features: the one made for its core, otherwise the first
 * whose features are all there; -1 if there is none. */
TVMCONV_INSIDE int32_t tvmconv_pick(const tvmconv_target *targets, int32_t count, uint64_t cpu,
                                    uint32_t core);

/* What a library's own <name>_target, <name>_use_target and <name>_cpu_missing do. */
TVMCONV_INSIDE const char *tvmconv_target_id(tvmconv_targets *all);
TVMCONV_INSIDE int32_t tvmconv_use_target(tvmconv_targets *all, const char *id);
TVMCONV_INSIDE uint64_t tvmconv_target_missing(tvmconv_targets *all, char *names, size_t size);

/* Calls the entry point of the target in use; `entries` has one per target. */
TVMCONV_INSIDE int32_t tvmconv_dispatch(tvmconv_targets *all, const tvmconv_entry *entries,
                                        const tvmconv_pointer *pointers, int32_t count,
                                        int32_t threads);

/* The three services that TVM's code reaches through the pointers below. */
TVMCONV_INSIDE int32_t tvmconv_parallel_launch(tvmconv_task task, void *cdata, int32_t num_task);
TVMCONV_INSIDE void *tvmconv_workspace_alloc(int32_t device_type, int32_t device_id, uint64_t size,
                                             int32_t dtype_code, int32_t dtype_bits);
TVMCONV_INSIDE int32_t tvmconv_workspace_free(int32_t device_type, int32_t device_id, void *block);

/* Static bundles alone (static.c): takes back every block. A kernel that finds too little memory
 * ends where it is and frees nothing. */
TVMCONV_INSIDE void tvmconv_workspace_reset(void);

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

/* The core that this thread runs on, as its maker numbers it: implementer << 16 | part, of ARM's
 * MIDR_EL1; first letter of the vendor << 16 | family, of CPUID. 0 where the system does not tell. */
TVMCONV_INSIDE uint32_t tvmconv_cpu_core(void);

/* Sets how many threads a parallel loop of this host thread may use; returns the old value. */
TVMCONV_INSIDE int32_t tvmconv_set_threads(int32_t threads);

#endif
