/* Modules, which are found by the hash of their image, and their kernels. */
#define _GNU_SOURCE
#include "stand_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
