/* A stand-in for NVIDIA's driver, so that launchers and loaders are tested where there is no GPU.
 *
 * It has the functions that ours use, keeps the driver's rules, and runs kernels on the CPU: the
 * machine code of a module is looked up by its hash in a folder of programs of the emulator that were
 * compiled from the same source (kernels.py). Memory of its devices is memory of the process, filled
 * with NaN when it is allocated, and a launch may only be given addresses that lie in it. Work is
 * done at once, so nothing is learnt here about streams that overtake each other.
 *
 * The environment says what there is and what goes wrong, and is read at every call:
 *   STAND_IN_GPUS     compute capabilities, "9.0" or "8.0,9.0"; none: no device (default)
 *   STAND_IN_KERNELS  the folder of programs
 *   STAND_IN_MEMORY   bytes of each device, default 2 GiB
 *   STAND_IN_LOG      file to which every call is added, a line each
 *   STAND_IN_FAIL     "cuLaunchKernel=719" or "cuMemAlloc_v2=2@3": from the third call on
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;

enum {
  OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100,
  INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NO_BINARY_FOR_GPU = 209,
  INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, LAUNCH_OUT_OF_RESOURCES = 701,
  LAUNCH_FAILED = 719
};

enum { DEVICES = 4, ALLOCATIONS = 4096, ARGUMENTS = 32, NODES = 512, SHARED_UNASKED = 48 << 10, SHARED_OPTIN = 227 << 10 };

typedef struct { int device; } context;
typedef struct { context *owner; char program[1024]; } module;
typedef struct { module *owner; unsigned number, pointers; int shared; char name[256]; } function;
typedef struct { function *kernel; unsigned sizes[7]; uint64_t addresses[ARGUMENTS]; } node;
typedef struct { void *stream; int count; node nodes[NODES]; } graph;
typedef struct { char *start; size_t size; int device; } allocation;
typedef struct { struct timespec at; } event;

static context primary[DEVICES] = {{0}, {1}, {2}, {3}};
static allocation allocations[ALLOCATIONS];
static graph *capturing;
static int initialised;
static __thread context *stack[16];
static __thread int depth;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void note(const char *format, ...) {
  const char *path = getenv("STAND_IN_LOG");
  if (path == NULL) return;
  FILE *file = fopen(path, "a");
  if (file == NULL) return;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(file, format, arguments);
  va_end(arguments);
  fputc('\n', file);
  fclose(file);
}

/* The status that a call of `name` is to fail with, or 0. */
static CUresult planned(const char *name) {
  static char counted[64];
  static int calls;
  const char *plan = getenv("STAND_IN_FAIL");
  const size_t length = strlen(name);
  if (plan == NULL || strncmp(plan, name, length) != 0 || plan[length] != '=') return OK;
  pthread_mutex_lock(&lock);
  if (strncmp(counted, plan, sizeof counted) != 0) {
    strncpy(counted, plan, sizeof counted - 1);
    calls = 0;
  }
  ++calls;
  const char *from = strchr(plan, '@');
  const int fails = calls >= (from == NULL ? 1 : atoi(from + 1));
  pthread_mutex_unlock(&lock);
  return fails ? atoi(plan + length + 1) : OK;
}

#define ENTER(name)                                  \
  do {                                               \
    const CUresult failed = planned(name);           \
    if (failed != OK) {                              \
      note("%s -> %d", name, failed);                \
      return failed;                                 \
    }                                                \
    if (!initialised) return NOT_INITIALIZED;        \
  } while (0)
#define NEED_CONTEXT if (depth == 0 || stack[depth - 1] == NULL) return INVALID_CONTEXT

/* Compute capability of a device as 10 * major + minor, 0 if there is none. */
static int capability(int device) {
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

static size_t memory(void) {
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
static size_t room(uint64_t address, int device) {
  for (int i = 0; i < ALLOCATIONS; ++i) {
    const allocation *a = &allocations[i];
    const uint64_t start = (uint64_t)(uintptr_t)a->start;
    if (a->start != NULL && a->device == device && address >= start && address < start + a->size)
      return (size_t)(start + a->size - address);
  }
  return 0;
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

/* Size of an image: of a cubin by its section table, of PTX by its end. */
static size_t image_size(const unsigned char *image) {
  if (memcmp(image, "\x7f" "ELF", 4) != 0) return strlen((const char *)image);
  uint64_t sections, programs;
  uint16_t sizes[4]; /* of program headers and their number, of section headers and their number */
  memcpy(&programs, image + 32, 8);
  memcpy(&sections, image + 40, 8);
  memcpy(sizes, image + 54, 8);
  const uint64_t a = sections + (uint64_t)sizes[2] * sizes[3];
  const uint64_t b = programs + (uint64_t)sizes[0] * sizes[1];
  return (size_t)(a > b ? a : b);
}

/* Whether a device of this capability takes the image. */
static int fits(const unsigned char *image, int here) {
  if (memcmp(image, "\x7f" "ELF", 4) == 0) {
    const int made = image[8] >= 8 ? image[49] : image[48];
    return made / 10 == here / 10 && made <= here;
  }
  const char *target = strstr((const char *)image, ".target sm_");
  return target != NULL && atoi(target + strlen(".target sm_")) <= here;
}

CUresult cuModuleLoadData(module **made, const unsigned char *image) {
  ENTER("cuModuleLoadData");
  NEED_CONTEXT;
  const int device = stack[depth - 1]->device, elf = memcmp(image, "\x7f" "ELF", 4) == 0;
  if (!elf && strstr((const char *)image, ".version") == NULL) return INVALID_IMAGE;
  if (!fits(image, capability(device))) return NO_BINARY_FOR_GPU;
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  const size_t size = image_size(image);
  for (size_t i = 0; i < size; ++i) hash = (hash ^ image[i]) * UINT64_C(0x100000001b3);
  const char *folder = getenv("STAND_IN_KERNELS");
  module *loaded = calloc(1, sizeof *loaded);
  loaded->owner = stack[depth - 1];
  snprintf(loaded->program, sizeof loaded->program, "%s/%016llx", folder == NULL ? "." : folder,
           (unsigned long long)hash);
  const int known = access(loaded->program, X_OK) == 0;
  note("cuModuleLoadData %s %zu -> %s", elf ? "cubin" : "ptx", size,
       known ? "ok" : loaded->program);
  if (!known) {
    free(loaded);
    return INVALID_IMAGE;
  }
  *made = loaded;
  return OK;
}

CUresult cuModuleUnload(module *m) {
  ENTER("cuModuleUnload");
  free(m);
  return OK;
}

/* A line of the table beside a program: number, arguments, name. */
CUresult cuModuleGetFunction(function **made, module *m, const char *name) {
  ENTER("cuModuleGetFunction");
  NEED_CONTEXT;
  char path[1100];
  snprintf(path, sizeof path, "%s.kernels", m->program);
  FILE *table = fopen(path, "r");
  function *found = calloc(1, sizeof *found);
  while (table != NULL &&
         fscanf(table, "%u %u %255s", &found->number, &found->pointers, found->name) == 3)
    if (strcmp(found->name, name) == 0) {
      fclose(table);
      found->owner = m;
      found->shared = SHARED_UNASKED;
      *made = found;
      return OK;
    }
  if (table != NULL) fclose(table);
  free(found);
  return NOT_FOUND;
}

CUresult cuFuncSetAttribute(function *f, int attribute, int value) {
  ENTER("cuFuncSetAttribute");
  if (attribute != 8 || value < 0 || value > SHARED_OPTIN) return INVALID_VALUE;
  f->shared = value;
  note("cuFuncSetAttribute %s shared %d", f->name, value);
  return OK;
}

/* How far a kernel may go from an address: to the end of its allocation, or to another argument. */
static uint64_t reach(const uint64_t *addresses, unsigned count, unsigned at, int device) {
  uint64_t bytes = room(addresses[at], device);
  for (unsigned i = 0; i < count; ++i)
    if (addresses[i] > addresses[at] && addresses[i] - addresses[at] < bytes)
      bytes = addresses[i] - addresses[at];
  return bytes;
}

static void put(FILE *file, uint32_t value) { fwrite(&value, sizeof value, 1, file); }

/* Runs a launch in a program of the emulator; tvmconv/emulate/cuda/cpp/main.cpp has the format. */
static CUresult emulate(const function *f, const unsigned *sizes, const uint64_t *addresses,
                        int device) {
  char folder[] = "/tmp/stand-in-XXXXXX", given[64], answer[64], command[1400];
  if (mkdtemp(folder) == NULL) return LAUNCH_FAILED;
  snprintf(given, sizeof given, "%s/given", folder);
  snprintf(answer, sizeof answer, "%s/answer", folder);
  FILE *file = fopen(given, "wb");
  fwrite("TVCCUDA1", 8, 1, file);
  /* One call, threads in order, a note for each 2 bytes. */
  for (int i = 0; i < 6; ++i)
    put(file, (const uint32_t[]){1, 0, 0, 1, f->pointers, 1}[i]);
  for (unsigned i = 0; i < f->pointers; ++i) {
    const uint64_t bytes = reach(addresses, f->pointers, i, device);
    char name[16];
    put(file, (uint32_t)snprintf(name, sizeof name, "argument %u", i));
    fputs(name, file);
    for (int twice = 0; twice < 2; ++twice) fwrite(&bytes, sizeof bytes, 1, file);
    put(file, 1);
    fwrite((const void *)(uintptr_t)addresses[i], 1, bytes, file);
  }
  put(file, f->number);
  for (int i = 0; i < 7; ++i) put(file, sizes[i]);
  put(file, f->pointers);
  for (unsigned i = 0; i < f->pointers; ++i) put(file, i);
  fclose(file);
  snprintf(command, sizeof command, "'%s' %s %s", f->owner->program, given, answer);
  CUresult status = system(command) == 0 ? OK : LAUNCH_FAILED;
  file = status == OK ? fopen(answer, "rb") : NULL;
  uint32_t length = 0;
  if (file == NULL || fread(&length, sizeof length, 1, file) != 1) status = LAUNCH_FAILED;
  if (length != 0) {
    char text[1024] = "";
    const size_t read = fread(text, 1, sizeof text - 1, file);
    note("fault %.*s", (int)read, text);
    status = LAUNCH_FAILED;
  }
  for (unsigned i = 0; i < f->pointers && status == OK; ++i) {
    const uint64_t bytes = reach(addresses, f->pointers, i, device);
    if (fread((void *)(uintptr_t)addresses[i], 1, bytes, file) != bytes) status = LAUNCH_FAILED;
  }
  if (file != NULL) fclose(file);
  unlink(given);
  unlink(answer);
  rmdir(folder);
  return status;
}

CUresult cuLaunchKernel(function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                        unsigned bz, unsigned shared, void *stream, void **args, void **extra) {
  ENTER("cuLaunchKernel");
  NEED_CONTEXT;
  note("cuLaunchKernel %s grid %u,%u,%u block %u,%u,%u shared %u stream %p device %d", f->name, gx,
       gy, gz, bx, by, bz, shared, stream, stack[depth - 1]->device);
  if (f->owner->owner != stack[depth - 1]) return INVALID_HANDLE;
  if (extra != NULL || !gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024 || gy > 65535 ||
      gz > 65535)
    return INVALID_VALUE;
  if ((int)shared > f->shared) return INVALID_VALUE;
  if (f->pointers > ARGUMENTS) return INVALID_VALUE;
  uint64_t addresses[ARGUMENTS];
  for (unsigned i = 0; i < f->pointers; ++i) {
    addresses[i] = *(const uint64_t *)args[i];
    if (room(addresses[i], stack[depth - 1]->device) == 0) return ILLEGAL_ADDRESS;
  }
  const unsigned sizes[] = {gx, gy, gz, bx, by, bz, shared};
  if (capturing == NULL || capturing->stream != stream)
    return emulate(f, sizes, addresses, stack[depth - 1]->device);
  if (capturing->count == NODES) return OUT_OF_MEMORY;
  node *added = &capturing->nodes[capturing->count++];
  added->kernel = f;
  memcpy(added->sizes, sizes, sizeof sizes);
  memcpy(added->addresses, addresses, sizeof addresses);
  return OK;
}

CUresult cuStreamSynchronize(void *stream) {
  (void)stream;
  ENTER("cuStreamSynchronize");
  NEED_CONTEXT;
  return OK;
}

CUresult cuStreamCreate(void **stream, unsigned flags) {
  (void)flags;
  ENTER("cuStreamCreate");
  NEED_CONTEXT;
  return *stream = calloc(1, 1), OK;
}

CUresult cuStreamDestroy_v2(void *stream) {
  ENTER("cuStreamDestroy_v2");
  free(stream);
  return OK;
}

CUresult cuStreamBeginCapture_v2(void *stream, int mode) {
  (void)mode;
  ENTER("cuStreamBeginCapture_v2");
  if (stream == NULL || capturing != NULL) return INVALID_VALUE;
  capturing = calloc(1, sizeof *capturing);
  capturing->stream = stream;
  return OK;
}

CUresult cuStreamEndCapture(void *stream, graph **made) {
  ENTER("cuStreamEndCapture");
  if (capturing == NULL || capturing->stream != stream) return INVALID_VALUE;
  *made = capturing;
  capturing = NULL;
  return OK;
}

CUresult cuGraphInstantiateWithFlags(graph **made, graph *from, unsigned long long flags) {
  (void)flags;
  ENTER("cuGraphInstantiateWithFlags");
  *made = calloc(1, sizeof **made);
  **made = *from;
  return OK;
}

CUresult cuGraphLaunch(graph *g, void *stream) {
  ENTER("cuGraphLaunch");
  NEED_CONTEXT;
  note("cuGraphLaunch %d launches stream %p", g->count, stream);
  CUresult status = OK;
  for (int i = 0; i < g->count && status == OK; ++i)
    status = emulate(g->nodes[i].kernel, g->nodes[i].sizes, g->nodes[i].addresses,
                     stack[depth - 1]->device);
  return status;
}

CUresult cuGraphDestroy(graph *g) {
  ENTER("cuGraphDestroy");
  free(g);
  return OK;
}

CUresult cuGraphExecDestroy(graph *g) {
  ENTER("cuGraphExecDestroy");
  free(g);
  return OK;
}

CUresult cuEventCreate(event **made, unsigned flags) {
  (void)flags;
  ENTER("cuEventCreate");
  NEED_CONTEXT;
  return *made = calloc(1, sizeof **made), OK;
}

CUresult cuEventRecord(event *e, void *stream) {
  ENTER("cuEventRecord");
  clock_gettime(CLOCK_MONOTONIC, &e->at);
  note("cuEventRecord on %p", stream);
  return OK;
}

CUresult cuEventSynchronize(event *e) {
  (void)e;
  ENTER("cuEventSynchronize");
  return OK;
}

CUresult cuEventElapsedTime(float *milliseconds, event *start, event *end) {
  ENTER("cuEventElapsedTime");
  *milliseconds = (float)((double)(end->at.tv_sec - start->at.tv_sec) * 1e3 +
                          (double)(end->at.tv_nsec - start->at.tv_nsec) * 1e-6);
  return OK;
}

CUresult cuEventDestroy_v2(event *e) {
  ENTER("cuEventDestroy_v2");
  free(e);
  return OK;
}

CUresult cuGetErrorName(CUresult status, const char **name) {
  switch (status) {
    case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; return OK;
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return OK;
    case NOT_INITIALIZED: *name = "CUDA_ERROR_NOT_INITIALIZED"; return OK;
    case NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; return OK;
    case INVALID_DEVICE: *name = "CUDA_ERROR_INVALID_DEVICE"; return OK;
    case INVALID_IMAGE: *name = "CUDA_ERROR_INVALID_IMAGE"; return OK;
    case INVALID_CONTEXT: *name = "CUDA_ERROR_INVALID_CONTEXT"; return OK;
    case NO_BINARY_FOR_GPU: *name = "CUDA_ERROR_NO_BINARY_FOR_GPU"; return OK;
    case INVALID_HANDLE: *name = "CUDA_ERROR_INVALID_HANDLE"; return OK;
    case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; return OK;
    case ILLEGAL_ADDRESS: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; return OK;
    case LAUNCH_OUT_OF_RESOURCES: *name = "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"; return OK;
    case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; return OK;
    default: *name = NULL; return INVALID_VALUE;
  }
}
