/* What a device says of itself: text of one "name value" per line. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "runtime.h"

int32_t tvmconv_describe(uint64_t needed, char *text, size_t size);

/* Appends a formatted line; what does not fit is left out. */
static void add(char *text, size_t size, const char *format, ...) {
  const size_t used = strlen(text);
  va_list values;
  va_start(values, format);
  const int length = vsnprintf(text + used, size - used, format, values);
  va_end(values);
  if (length < 0 || (size_t)length >= size - used) text[used] = 0;
}

/* The board's name as the device tree has it, or what /proc/cpuinfo calls the processor. */
static void read_model(char *model, size_t size) {
  char line[256];
  model[0] = 0;
  FILE *file = fopen("/proc/device-tree/model", "r");
  if (file != NULL) {
    model[fread(model, 1, size - 1, file)] = 0;
    fclose(file);
  }
  if (model[0] != 0 || (file = fopen("/proc/cpuinfo", "r")) == NULL) return;
  while (model[0] == 0 && fgets(line, sizeof line, file) != NULL)
    if (strncmp(line, "model name", 10) == 0) sscanf(strchr(line, ':') + 1, " %199[^\n]", model);
  fclose(file);
}

/* Describes this machine; `needed` are the instruction sets (TVMCONV_CPU_* bits) to look for. */
int32_t tvmconv_describe(uint64_t needed, char *text, size_t size) {
  struct utsname names;
  cpu_set_t cores;
  char model[200], missing[512];
  text[0] = 0;
  if (uname(&names) != 0) return -1;
  read_model(model, sizeof model);
  tvmconv_cpu_missing(needed, missing, sizeof missing);
  const int count = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
  add(text, size, "machine %s\n", names.machine);
  add(text, size, "system %s %s\n", names.sysname, names.release);
  add(text, size, "model %s\n", model);
  add(text, size, "cores %d\n", count);
  add(text, size, "core %#x\n", (unsigned)tvmconv_cpu_core());
  add(text, size, "missing %s\n", missing);
  return 0;
}
