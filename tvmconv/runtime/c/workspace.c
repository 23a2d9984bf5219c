/* Workspace of the kernels: 64-byte aligned blocks, kept per thread for the next call.
 *
 * A kernel asks for the same few sizes at every call, up to nine of them where it transforms. malloc
 * would give blocks above 128 KiB back to the system each time, at one page fault per 4 KiB in the
 * next call. */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdlib.h>

#include "runtime.h"

enum { ALIGNMENT = 64, KEPT = 12 };
static const uint64_t KEEP_AT_MOST = UINT64_C(64) << 20; /* larger blocks go straight back */

/* Stands in the 64 bytes before the block that the kernel sees. */
typedef struct {
  uint64_t size;
} header;

typedef struct {
  header *blocks[KEPT];
  int registered;
} cache;

static _Thread_local cache kept;
static pthread_key_t at_thread_exit;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int have_key;

static void release(void *blocks) {
  cache *mine = blocks;
  for (int i = 0; i < KEPT; ++i) {
    free(mine->blocks[i]);
    mine->blocks[i] = NULL;
  }
  mine->registered = 0; /* a later destructor of this thread may run a kernel again */
}

static void make_key(void) { have_key = pthread_key_create(&at_thread_exit, release) == 0; }

/* Runs after the pool's destructor (which has no priority), so after the workers' own releases. */
__attribute__((destructor(200))) static void unload(void) {
  release(&kept);
  if (have_key) pthread_key_delete(at_thread_exit);
  have_key = 0;
}

void *tvmconv_workspace_alloc(int32_t device_type, int32_t device_id, uint64_t size,
                              int32_t dtype_code, int32_t dtype_bits) {
  (void)device_type, (void)device_id, (void)dtype_code, (void)dtype_bits;
  if (size > SIZE_MAX - 2 * ALIGNMENT) return NULL;
  int best = -1;
  for (int i = 0; i < KEPT; ++i) {
    const header *block = kept.blocks[i];
    if (block != NULL && block->size >= size &&
        (best < 0 || block->size < kept.blocks[best]->size))
      best = i;
  }
  header *block;
  if (best >= 0) {
    block = kept.blocks[best];
    kept.blocks[best] = NULL;
  } else {
    const uint64_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *fresh = NULL;
    if (posix_memalign(&fresh, ALIGNMENT, (size_t)(rounded + ALIGNMENT)) != 0) return NULL;
    block = fresh;
    block->size = rounded;
  }
  return (char *)block + ALIGNMENT;
}

int32_t tvmconv_workspace_free(int32_t device_type, int32_t device_id, void *data) {
  (void)device_type, (void)device_id;
  if (data == NULL) return 0;
  header *block = (header *)(void *)((char *)data - ALIGNMENT);
  if (!kept.registered) {
    pthread_once(&once, make_key);
    kept.registered = have_key && pthread_setspecific(at_thread_exit, &kept) == 0;
  }
  int smallest = 0;
  for (int i = 1; i < KEPT; ++i) {
    if (kept.blocks[smallest] == NULL) break;
    if (kept.blocks[i] == NULL || kept.blocks[i]->size < kept.blocks[smallest]->size) smallest = i;
  }
  header *out = kept.blocks[smallest];
  const int keep = kept.registered && block->size <= KEEP_AT_MOST &&
                   (out == NULL || out->size < block->size);
  if (!keep) {
    free(block);
    return 0;
  }
  kept.blocks[smallest] = block;
  free(out);
  return 0;
}
