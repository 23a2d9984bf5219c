/* Launches, each of them a run of the emulator. */
#define _GNU_SOURCE
#include "stand_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

graph *capturing;

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
CUresult emulate(const function *f, const unsigned *sizes, const uint64_t *addresses, int device) {
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
