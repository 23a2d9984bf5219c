/* Memory of the devices, which is the process's own, and copies. */
#define _GNU_SOURCE
#include "stand_in.h"

#include <stdlib.h>
#include <string.h>

static allocation allocations[ALLOCATIONS];

size_t memory(void) {
  const char *text = getenv("STAND_IN_MEMORY");
  return text == NULL ? (size_t)2 << 30 : strtoull(text, NULL, 10);
}

static size_t used(int device) {
  size_t sum = 0;
  for (int i = 0; i < ALLOCATIONS; ++i)
    if (allocations[i].start != NULL && allocations[i].device == device) sum += allocations[i].size;
  return sum;
}

/* The bytes from an address to the end of its allocation on a device, 0 outside of them. */
size_t room(uint64_t address, int device) {
  for (int i = 0; i < ALLOCATIONS; ++i) {
    const allocation *a = &allocations[i];
    const uint64_t start = (uint64_t)(uintptr_t)a->start;
    if (a->start != NULL && a->device == device && address >= start && address < start + a->size)
      return (size_t)(start + a->size - address);
  }
  return 0;
}

CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
  ENTER("cuMemGetInfo_v2");
  NEED_CONTEXT;
  *total = memory();
  *available = *total - used(stack[depth - 1]->device);
  return OK;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
  ENTER("cuMemAlloc_v2");
  NEED_CONTEXT;
  if (size == 0) return INVALID_VALUE;
  const int device = stack[depth - 1]->device;
  pthread_mutex_lock(&lock);
  int at = 0;
  while (at < ALLOCATIONS && allocations[at].start != NULL) ++at;
  CUresult status = OUT_OF_MEMORY;
  if (at < ALLOCATIONS && used(device) + size <= memory()) {
    char *start = aligned_alloc(512, (size + 511) / 512 * 512);
    memset(start, 0xff, size); /* NaN, of whatever width */
    allocations[at] = (allocation){start, size, device};
    *address = (CUdeviceptr)(uintptr_t)start;
    status = OK;
  }
  pthread_mutex_unlock(&lock);
  note("cuMemAlloc_v2 %zu -> %d", size, status);
  return status;
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  ENTER("cuMemFree_v2");
  NEED_CONTEXT;
  CUresult status = INVALID_VALUE;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < ALLOCATIONS; ++i)
    if (allocations[i].start != NULL && (uintptr_t)allocations[i].start == address) {
      free(allocations[i].start);
      allocations[i].start = NULL;
      status = OK;
    }
  pthread_mutex_unlock(&lock);
  note("cuMemFree_v2 -> %d", status);
  return status;
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t size, void *stream) {
  ENTER("cuMemAllocAsync");
  note("cuMemAllocAsync on %p", stream);
  return cuMemAlloc_v2(address, size);
}

CUresult cuMemFreeAsync(CUdeviceptr address, void *stream) {
  ENTER("cuMemFreeAsync");
  note("cuMemFreeAsync on %p", stream);
  return cuMemFree_v2(address);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size) {
  ENTER("cuMemcpyHtoD_v2");
  NEED_CONTEXT;
  if (room(to, stack[depth - 1]->device) < size) return INVALID_VALUE;
  memcpy((void *)(uintptr_t)to, from, size);
  note("cuMemcpyHtoD_v2 %zu", size);
  return OK;
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size) {
  ENTER("cuMemcpyDtoH_v2");
  NEED_CONTEXT;
  if (room(from, stack[depth - 1]->device) < size) return INVALID_VALUE;
  memcpy(to, (const void *)(uintptr_t)from, size);
  note("cuMemcpyDtoH_v2 %zu", size);
  return OK;
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t size) {
  ENTER("cuMemsetD8_v2");
  NEED_CONTEXT;
  if (room(to, stack[depth - 1]->device) < size) return INVALID_VALUE;
  memset((void *)(uintptr_t)to, value, size);
  return OK;
}
