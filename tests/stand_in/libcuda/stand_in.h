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
#ifndef STAND_IN_H_
#define STAND_IN_H_

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;

enum {
  OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100,
  INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NO_BINARY_FOR_GPU = 209,
  INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, LAUNCH_OUT_OF_RESOURCES = 701,
  LAUNCH_FAILED = 719
};

enum { DEVICES = 4, ALLOCATIONS = 4096, ARGUMENTS = 32, NODES = 512 };
enum { SHARED_UNASKED = 48 << 10, SHARED_OPTIN = 227 << 10 };

typedef struct { int device; } context;
typedef struct { context *owner; char program[1024]; } module;
typedef struct { module *owner; unsigned number, pointers; int shared; char name[256]; } function;
typedef struct { function *kernel; unsigned sizes[7]; uint64_t addresses[ARGUMENTS]; } node;
typedef struct { void *stream; int count; node nodes[NODES]; } graph;
typedef struct { char *start; size_t size; int device; } allocation;
typedef struct { struct timespec at; } event;

/* devices.c */
extern int initialised;
extern __thread context *stack[16];
extern __thread int depth;
int capability(int device);

/* memory.c */
size_t memory(void);
size_t room(uint64_t address, int device);

/* launches.c; streams.c records and replays them. */
extern graph *capturing;
CUresult emulate(const function *f, const unsigned *sizes, const uint64_t *addresses, int device);

/* calls.c */
extern pthread_mutex_t lock;
void note(const char *format, ...);
CUresult planned(const char *name);

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

#endif
