/* TVM's objects hold weak, NULL pointers of these names and call through them without a check;
 * these definitions take their place when the library is linked. One copy per library. */
#include "runtime.h"

#define HOOK __attribute__((visibility("hidden"))) extern

HOOK int32_t (*__TVMBackendParallelLaunch)(tvmconv_task, void *, int32_t);
HOOK void *(*__TVMBackendAllocWorkspace)(int32_t, int32_t, uint64_t, int32_t, int32_t);
HOOK int32_t (*__TVMBackendFreeWorkspace)(int32_t, int32_t, void *);

int32_t (*__TVMBackendParallelLaunch)(tvmconv_task, void *, int32_t) = tvmconv_parallel_launch;
void *(*__TVMBackendAllocWorkspace)(int32_t, int32_t, uint64_t, int32_t, int32_t) =
    tvmconv_workspace_alloc;
int32_t (*__TVMBackendFreeWorkspace)(int32_t, int32_t, void *) = tvmconv_workspace_free;
