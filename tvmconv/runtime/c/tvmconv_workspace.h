/* Memory for the kernels of a static bundle, which take none by themselves. A kernel whose
 * <KERNEL>_WORKSPACE_BYTES is 0 needs none of this; where weights are packed on the device,
 * <KERNEL>_PACK_WORKSPACE_BYTES count as well. One call at a time: the workspace is shared. */
#ifndef TVMCONV_WORKSPACE_H
#define TVMCONV_WORKSPACE_H

#include "tvmconv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `bytes` of memory for every call from now on, at least <KERNEL>_WORKSPACE_BYTES of the kernels
 * that are called; a call that finds too little returns TVMCONV_WORKSPACE. NULL takes it back.
 * Returns TVMCONV_OK, or TVMCONV_WORKSPACE when a kernel is running on what was given before. */
TVMCONV_API int32_t tvmconv_set_workspace(void *memory, size_t bytes);

/* In its place a function that is asked for each block, such as one around malloc. It returns
 * memory of any alignment, or NULL if there is none; `release` gets every block back before the
 * call returns. Returns what tvmconv_set_workspace does. */
typedef void *(*tvmconv_allocate)(void *context, size_t bytes);
typedef void (*tvmconv_release)(void *context, void *block);
TVMCONV_API int32_t tvmconv_set_allocator(tvmconv_allocate allocate, tvmconv_release release,
                                          void *context);

#ifdef __cplusplus
}
#endif
#endif
