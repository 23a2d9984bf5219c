/* Brings machine code onto GPUs and launches it. Needs a C11 compiler and POSIX, nothing of CUDA:
 * the driver's library is opened when it is first used.
 *
 * Everything here is static: the file that includes it (kernels.c) has the public functions, so that a
 * program may link several bundles. */
#include <stdlib.h>

#include "driver.h"

enum { WORKSPACE = TVMCONV_ARG_SHIFT + 1, ARGUMENTS = 24 };

typedef struct {
  const char *id;
  int major, minor, special; /* special: only the very GPU, as sm_90a */
  int ptx;                   /* whether there is PTX for newer GPUs */
} target;
typedef struct {
  const char *path; /* in the bundle; NULL: no such file */
  size_t bytes;
  uint64_t checksum;
} image;
typedef struct {
  const char *function;
  unsigned grid[3], block[3], shared, count;
  unsigned char args[ARGUMENTS]; /* TVMCONV_ARG_*, or WORKSPACE plus the number of a buffer */
} launch;
typedef struct {
  image cubin, ptx;
  const launch *launches;
  unsigned count;
  const size_t *offsets; /* of the buffers in the workspace */
  size_t workspace;
} device_code;

static const char *const argument_names[WORKSPACE] = {
    "", "x", "packed", "residual", "offset", "mask", "y", "weight", "bias", "scale", "shift"};

#include "tables.h"

enum { MAJOR = 75, MINOR = 76, MEMORY_POOLS = 115, DYNAMIC_SHARED = 8, SHARED_UNASKED = 48 << 10 };
enum { CONTEXTS = 16, CODES = 2 * KERNELS };

/* What is known of one context: which target suits its GPU, and the functions that were loaded. */
typedef struct {
  context *key;
  int target, ptx, pools;
  function **functions[CODES];
} place;

static place places[CONTEXTS];
static char *folder;

/* The target whose code suits a GPU: of its generation the newest that is no newer; otherwise the
 * newest older one, from PTX where the bundle has it. */
static int32_t pick(place *here, int major, int minor) {
  int best = -1, older = -1;
  for (int i = 0; i < TARGETS; ++i) {
    const target *t = &targets[i];
    const int same = t->major == major && t->minor == minor;
    if (same || (!t->special && t->major == major && t->minor < minor))
      if (best < 0 || t->minor > targets[best].minor ||
          (t->minor == targets[best].minor && t->special))
        best = i;
    if (!t->special && t->ptx && 10 * t->major + t->minor <= 10 * major + minor)
      if (older < 0 || 10 * t->major + t->minor > 10 * targets[older].major + targets[older].minor)
        older = i;
  }
  if (best < 0 && older < 0) {
    char text[64];
    snprintf(text, sizeof text, "this GPU is sm_%d%d", major, minor);
    return failed(TVMCONV_ARCH, "made for " TARGET_NAMES, text);
  }
  here->target = best >= 0 ? best : older;
  here->ptx = best < 0;
  return 0;
}

/* What is known of the current context; under the lock. */
static int32_t find_place(place **found) {
  context *current = NULL;
  TRY(cuCtxGetCurrent(&current));
  int at = 0;
  while (at < CONTEXTS && places[at].key != NULL && places[at].key != current) ++at;
  if (at == CONTEXTS) return failed(TVMCONV_CUDA, "more than 16 contexts", "");
  place *here = &places[at];
  if (here->key == NULL) {
    int device, major, minor;
    TRY(cuCtxGetDevice(&device));
    TRY(cuDeviceGetAttribute(&major, MAJOR, device));
    TRY(cuDeviceGetAttribute(&minor, MINOR, device));
    TRY(cuDeviceGetAttribute(&here->pools, MEMORY_POOLS, device));
    const int32_t code = pick(here, major, minor);
    if (code != 0) return code;
    here->key = current;
  }
  *found = here;
  return 0;
}

/* Reads a file that must be what it was when the bundle was made; the caller frees `*content`. */
static int32_t read_file(const image *file, char **content) {
  if (folder == NULL) return failed(TVMCONV_FILE, BUNDLE "_open", "call it first");
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, file->path);
  FILE *opened = fopen(path, "rb");
  if (opened == NULL) return failed(TVMCONV_FILE, path, "cannot be read");
  char *data = malloc(file->bytes + 2);
  const size_t bytes = data == NULL ? 0 : fread(data, 1, file->bytes + 1, opened);
  fclose(opened);
  const char *problem = data == NULL ? "no memory for it" : NULL;
  if (data != NULL && bytes != file->bytes) problem = bytes < file->bytes ? "truncated" : "altered";
  uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
  for (size_t i = 0; problem == NULL && i < bytes; ++i)
    hash = (hash ^ (unsigned char)data[i]) * UINT64_C(0x100000001b3);
  if (problem == NULL && hash != file->checksum) problem = "altered";
  if (problem != NULL) {
    free(data);
    return failed(TVMCONV_FILE, path, problem);
  }
  data[bytes] = '\0'; /* PTX is text */
  *content = data;
  return 0;
}

/* Loads the functions of a code into the current context; under the lock. */
static int32_t load(place *here, unsigned number, const device_code *from) {
  char *content;
  const image *file = here->ptx ? &from->ptx : &from->cubin;
  if (file->path == NULL) return failed(TVMCONV_ARCH, from->cubin.path, "it has no PTX");
  const int32_t code = read_file(file, &content);
  if (code != 0) return code;
  module *loaded;
  const int status = cuModuleLoadData(&loaded, content);
  free(content);
  if (status != 0) return driver_failed(file->path, status);
  function **functions = calloc(from->count + 1, sizeof *functions);
  if (functions == NULL) return failed(TVMCONV_MEMORY, "no memory", "");
  for (unsigned i = 0; i < from->count; ++i) {
    const launch *one = &from->launches[i];
    TRY(cuModuleGetFunction(&functions[i], loaded, one->function));
    if (one->shared > SHARED_UNASKED)
      TRY(cuFuncSetAttribute(functions[i], DYNAMIC_SHARED, (int)one->shared));
  }
  here->functions[number] = functions;
  return 0;
}

static int32_t start(const device_code *from, function **functions, const void *const *tensors,
                     address workspace, void *stream) {
  for (unsigned i = 0; i < from->count; ++i) {
    const launch *one = &from->launches[i];
    address values[ARGUMENTS];
    void *pointers[ARGUMENTS];
    for (unsigned k = 0; k < one->count; ++k) {
      const unsigned arg = one->args[k];
      values[k] = arg < WORKSPACE ? (address)(uintptr_t)tensors[arg]
                                  : workspace + from->offsets[arg - WORKSPACE];
      pointers[k] = &values[k];
    }
    const int status =
        cuLaunchKernel(functions[i], one->grid[0], one->grid[1], one->grid[2], one->block[0],
                       one->block[1], one->block[2], one->shared, stream, pointers, NULL);
    if (status != 0) return driver_failed(one->function, status);
  }
  return 0;
}

static int32_t start_with_workspace(const place *here, const device_code *from, function **functions,
                                    const void *const *tensors, void *stream) {
  address workspace = 0;
  if (from->workspace == 0) return start(from, functions, tensors, 0, stream);
  if (here->pools)
    TRY(cuMemAllocAsync(&workspace, from->workspace, stream));
  else
    TRY(cuMemAlloc_v2(&workspace, from->workspace));
  const int32_t code = start(from, functions, tensors, workspace, stream);
  if (here->pools) {
    cuMemFreeAsync(workspace, stream);
  } else {
    cuStreamSynchronize(stream);
    cuMemFree_v2(workspace);
  }
  return code;
}

/* Runs code `number` (2 * kernel, or + 1 for its pack function) of the table `codes`.
 *
 * `tensors` is indexed by TVMCONV_ARG_*; bit i of `used` says that the kernel reads or writes it. */
static int32_t invoke(unsigned number, unsigned used, const void *const *tensors, void *stream) {
  if (codes[number][0].count == 0) return 0; /* a batch of 0 */
  for (int i = 1; i < WORKSPACE; ++i) {
    if (!(used >> i & 1)) continue;
    if (tensors[i] == NULL) return failed(TVMCONV_NULL - i, argument_names[i], "is NULL");
    if ((uintptr_t)tensors[i] % 16 != 0)
      return failed(TVMCONV_MISALIGNED - i, argument_names[i], "is no multiple of 16 bytes");
  }
  int pushed;
  int32_t code = enter(&pushed);
  if (code != 0) return code;
  place *here = NULL;
  pthread_mutex_lock(&lock);
  code = find_place(&here);
  if (code == 0 && here->functions[number] == NULL)
    code = load(here, number, &codes[number][here->target]);
  pthread_mutex_unlock(&lock);
  if (code == 0)
    code = start_with_workspace(here, &codes[number][here->target], here->functions[number],
                                tensors, stream);
  leave(pushed);
  return code;
}

/* Checks every file of the bundle in a folder, and takes code from there from now on. */
static int32_t open_folder(const char *path) {
  char *copy = malloc(strlen(path) + 1);
  if (copy == NULL) return failed(TVMCONV_MEMORY, "no memory", "");
  strcpy(copy, path);
  pthread_mutex_lock(&lock);
  char *before = folder;
  folder = copy;
  int32_t code = 0;
  for (int i = 0; i < CODES * TARGETS && code == 0; ++i) {
    const device_code *one = &codes[i / TARGETS][i % TARGETS];
    const image *const files[] = {&one->cubin, &one->ptx};
    for (int k = 0; k < 2 && code == 0; ++k) {
      char *content;
      if (files[k]->path == NULL) continue;
      code = read_file(files[k], &content);
      if (code == 0) free(content);
    }
  }
  if (code != 0) {
    free(copy);
    folder = before;
  } else {
    free(before);
  }
  pthread_mutex_unlock(&lock);
  return code;
}

/* The target of the current context's GPU. */
static int32_t target_here(const char **id) {
  int pushed;
  int32_t code = enter(&pushed);
  if (code != 0) return code;
  place *here = NULL;
  pthread_mutex_lock(&lock);
  code = find_place(&here);
  pthread_mutex_unlock(&lock);
  leave(pushed);
  if (code == 0) *id = targets[here->target].id;
  return code;
}
