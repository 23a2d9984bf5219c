/* The runtime of static bundles, in the place of pool.c and workspace.c: no thread, no malloc, and
 * of the C library at most memcpy and memset. The workspace is memory that the program hands over,
 * a stack of blocks. */
#include "runtime.h"
#include "tvmconv_workspace.h"

enum { ALIGNMENT = 64 }; /* what TVM's code assumes */

/* Stands in the 64 bytes before the block that the kernel sees. */
typedef struct block {
  struct block *below;
  void *start; /* what the program's function returned, or where the rest of its memory began */
  int32_t in_use;
} block;

_Static_assert(sizeof(block) <= ALIGNMENT, "a block's header fits before it");

static struct {
  char *next, *end;
  block *top;
  tvmconv_allocate allocate;
  tvmconv_release release;
  void *context;
} given;

int32_t tvmconv_set_workspace(void *memory, size_t bytes) {
  if (given.top != NULL) return TVMCONV_WORKSPACE;
  given.allocate = NULL;
  given.release = NULL;
  given.next = memory;
  given.end = memory == NULL ? NULL : (char *)memory + bytes;
  return TVMCONV_OK;
}

int32_t tvmconv_set_allocator(tvmconv_allocate allocate, tvmconv_release release, void *context) {
  const int32_t code = tvmconv_set_workspace(NULL, 0);
  if (code != TVMCONV_OK) return code;
  given.allocate = allocate;
  given.release = release;
  given.context = context;
  return TVMCONV_OK;
}

static void *taken(size_t bytes) {
  if (given.allocate != NULL) return given.allocate(given.context, bytes);
  if (given.next == NULL || bytes > (size_t)(given.end - given.next)) return NULL;
  void *start = given.next;
  given.next += bytes;
  return start;
}

/* Gives back the blocks on top that nobody uses. */
static void drop(void) {
  while (given.top != NULL && !given.top->in_use) {
    void *start = given.top->start;
    given.top = given.top->below;
    if (given.allocate == NULL)
      given.next = start;
    else if (given.release != NULL)
      given.release(given.context, start);
  }
}

void *tvmconv_workspace_alloc(int32_t device_type, int32_t device_id, uint64_t size,
                              int32_t dtype_code, int32_t dtype_bits) {
  (void)device_type, (void)device_id, (void)dtype_code, (void)dtype_bits;
  if (size > SIZE_MAX - 2 * ALIGNMENT) return NULL;
  /* A header, and up to 63 bytes before it: 127 more than asked for. */
  char *start = taken((size_t)size + 2 * ALIGNMENT - 1);
  if (start == NULL) return NULL;
  char *data = start + ALIGNMENT - 1;
  data += ALIGNMENT - (uintptr_t)data % ALIGNMENT;
  block *found = (block *)(void *)(data - ALIGNMENT);
  found->below = given.top;
  found->start = start;
  found->in_use = 1;
  given.top = found;
  return data;
}

int32_t tvmconv_workspace_free(int32_t device_type, int32_t device_id, void *data) {
  (void)device_type, (void)device_id;
  if (data == NULL) return 0;
  ((block *)(void *)((char *)data - ALIGNMENT))->in_use = 0;
  drop();
  return 0;
}

void tvmconv_workspace_reset(void) {
  for (block *each = given.top; each != NULL; each = each->below) each->in_use = 0;
  drop();
}

int32_t tvmconv_parallel_launch(tvmconv_task task, void *cdata, int32_t num_task) {
  (void)num_task;
  tvmconv_parallel_env env = {NULL, 1};
  return task(0, &env, cdata);
}

int32_t tvmconv_set_threads(int32_t threads) {
  (void)threads;
  return 1;
}

#if defined(__ARM_EABI__)
/* LLVM writes tables for unwinding the stack, which name these; nothing here is ever unwound. Weak:
 * a program that has the compiler's own library keeps those. */
void __aeabi_unwind_cpp_pr0(void);
void __aeabi_unwind_cpp_pr1(void);
__attribute__((weak)) void __aeabi_unwind_cpp_pr0(void) {}
__attribute__((weak)) void __aeabi_unwind_cpp_pr1(void) {}
#endif
