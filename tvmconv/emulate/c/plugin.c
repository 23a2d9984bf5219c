/* A plugin of QEMU's user-mode emulators that counts executed instructions.
 *
 *   qemu-aarch64 -plugin plugin.so,out=FILE PROGRAM
 *
 * FILE gets one line per block of code that was translated: address in hexadecimal, instructions,
 * how often it ran. Counts are exact; one thread is assumed.
 *
 * The few declarations of QEMU's public plugin interface that are needed stand here, since Debian
 * packages no header. Their form has been the same since QEMU 4.2; PLUGIN_API says which version of
 * the interface the emulator wants to hear of.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
typedef void (*translation_callback)(uint64_t id, struct qemu_plugin_tb *block);
typedef void (*execution_callback)(unsigned cpu, void *data);
typedef void (*exit_callback)(uint64_t id, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, translation_callback callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block,
                                          execution_callback callback, int flags, void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, exit_callback callback, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);

#ifndef PLUGIN_API
#define PLUGIN_API 1
#endif
extern EXPORT int qemu_plugin_version;
int qemu_plugin_version = PLUGIN_API;

typedef struct block {
  uint64_t address, instructions, runs;
  struct block *next;
} block;

static block *blocks;
static char *path;

static void executed(unsigned cpu, void *data) {
  (void)cpu;
  ((block *)data)->runs++;
}

static void translated(uint64_t id, struct qemu_plugin_tb *translation) {
  (void)id;
  block *made = calloc(1, sizeof *made);
  if (made == NULL) return;
  made->address = qemu_plugin_tb_vaddr(translation);
  made->instructions = qemu_plugin_tb_n_insns(translation);
  made->next = blocks;
  blocks = made;
  qemu_plugin_register_vcpu_tb_exec_cb(translation, executed, 0, made);
}

static void finished(uint64_t id, void *data) {
  (void)id, (void)data;
  FILE *file = fopen(path, "w");
  if (file == NULL) return;
  for (const block *b = blocks; b != NULL; b = b->next)
    fprintf(file, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", b->address, b->instructions, b->runs);
  fclose(file);
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; ++i)
    if (strncmp(argv[i], "out=", 4) == 0) path = strdup(argv[i] + 4);
  if (path == NULL) {
    fprintf(stderr, "plugin.c: out=FILE is missing\n");
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finished, NULL);
  return 0;
}
