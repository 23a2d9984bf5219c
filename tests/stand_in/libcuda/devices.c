/* Devices, as STAND_IN_GPUS lists them, and contexts. */
#include "stand_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int initialised;
__thread context *stack[16];
__thread int depth;
static context primary[DEVICES] = {{0}, {1}, {2}, {3}};

/* Compute capability of a device as 10 * major + minor, 0 if there is none. */
int capability(int device) {
  const char *text = getenv("STAND_IN_GPUS");
  for (int i = 0; text != NULL && *text != '\0'; ++i) {
    int major = 0, minor = 0;
    if (sscanf(text, "%d.%d", &major, &minor) != 2) return 0;
    if (i == device) return 10 * major + minor;
    text = strchr(text, ',');
    if (text != NULL) ++text;
  }
  return 0;
}

static int devices(void) {
  int count = 0;
  while (count < DEVICES && capability(count) != 0) ++count;
  return count;
}

CUresult cuInit(unsigned flags) {
  (void)flags;
  const CUresult failed = planned("cuInit");
  if (failed != OK) return failed;
  if (devices() == 0) return NO_DEVICE;
  initialised = 1;
  return OK;
}

/* NVRTC asks for a table of undocumented functions wherever cuInit succeeds, and does without. */
CUresult cuGetExportTable(const void **table, const void *id) {
  (void)id;
  return *table = NULL, NOT_FOUND;
}

CUresult cuDriverGetVersion(int *version) { return *version = 13000, OK; }

CUresult cuDeviceGetCount(int *count) {
  ENTER("cuDeviceGetCount");
  return *count = devices(), OK;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  ENTER("cuDeviceGet");
  if (ordinal < 0 || ordinal >= devices()) return INVALID_DEVICE;
  return *device = ordinal, OK;
}

CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
  ENTER("cuDeviceGetName");
  snprintf(name, (size_t)size, "Stand-in %d", device);
  return OK;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  (void)device;
  ENTER("cuDeviceTotalMem_v2");
  return *bytes = memory(), OK;
}

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  ENTER("cuDeviceGetAttribute");
  switch (attribute) {
    case 16: *value = 4; return OK;                       /* multiprocessors */
    case 75: *value = capability(device) / 10; return OK; /* compute capability */
    case 76: *value = capability(device) % 10; return OK;
    case 97: *value = SHARED_OPTIN; return OK;
    case 115: *value = 1; return OK; /* memory pools */
    default: return INVALID_VALUE;
  }
}

CUresult cuDevicePrimaryCtxRetain(context **found, CUdevice device) {
  ENTER("cuDevicePrimaryCtxRetain");
  if (device < 0 || device >= devices()) return INVALID_DEVICE;
  return *found = &primary[device], OK;
}

CUresult cuCtxGetCurrent(context **found) {
  ENTER("cuCtxGetCurrent");
  return *found = depth == 0 ? NULL : stack[depth - 1], OK;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  ENTER("cuCtxGetDevice");
  NEED_CONTEXT;
  return *device = stack[depth - 1]->device, OK;
}

CUresult cuCtxPushCurrent_v2(context *pushed) {
  ENTER("cuCtxPushCurrent_v2");
  if (depth == 16) return INVALID_VALUE;
  stack[depth++] = pushed;
  return OK;
}

CUresult cuCtxPopCurrent_v2(context **popped) {
  ENTER("cuCtxPopCurrent_v2");
  NEED_CONTEXT;
  *popped = stack[--depth];
  return OK;
}
