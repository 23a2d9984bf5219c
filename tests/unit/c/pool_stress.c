/* Stress test of the runtime's pool and workspace; built plainly and under the sanitizers. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch.h"
#include "runtime.h"

#define REQUIRE(ok)                                              \
  do {                                                           \
    if (!(ok)) {                                                 \
      fprintf(stderr, "line %d: %s is false\n", __LINE__, #ok);  \
      _exit(1); /* at once: other threads are still at work */   \
    }                                                            \
  } while (0)

enum { HOSTS = 4, ROUNDS = 300, MOST = 9 };

typedef struct {
  int32_t runs[MOST]; /* how often each task ran: plain, so that a sanitizer sees a race */
  int32_t told[MOST]; /* num_task as each task saw it */
  int32_t nested;
  int32_t fail_at;
  uint64_t fp_control;
  int rounds_up;
} job;

/* As floats are rounded: fegetround() reads the x87 control word on x86, which kernels never use. */
static int rounds_up(void) {
  volatile float one = 1.0f, little = 1e-30f;
  return one + little > one;
}

static int32_t inner(int32_t id, tvmconv_parallel_env *env, void *cdata) {
  REQUIRE(id == 0 && env->num_task == 1);
  ++*(int32_t *)cdata;
  return 0;
}

static int32_t task(int32_t id, tvmconv_parallel_env *env, void *cdata) {
  job *all = cdata;
  char *first = tvmconv_workspace_alloc(1, 0, 5000, 2, 32);
  char *second = tvmconv_workspace_alloc(1, 0, 300000, 2, 32);
  REQUIRE(first != NULL && second != NULL && first != second);
  REQUIRE((uintptr_t)first % 64 == 0 && (uintptr_t)second % 64 == 0);
  memset(first, id, 5000);
  memset(second, id, 300000);
  REQUIRE(tvmconv_fp_control() == all->fp_control && rounds_up() == all->rounds_up);
  for (int32_t i = id; i < env->num_task; i += env->num_task) {
    ++all->runs[i];
    all->told[i] = env->num_task;
  }
  int32_t inside = 0;
  if (all->nested) {
    REQUIRE(tvmconv_parallel_launch(inner, &inside, 0) == 0);
    REQUIRE(env->num_task == 1 || inside == 1);
  }
  REQUIRE(first[4999] == (char)id && second[299999] == (char)id);
  REQUIRE(tvmconv_workspace_free(1, 0, first) == 0);
  REQUIRE(tvmconv_workspace_free(1, 0, second) == 0);
  return id == all->fail_at ? -1 : 0;
}

static void launch(int32_t threads, int32_t nested, int32_t fail_at) {
  job all = {.nested = nested && threads > 1, .fail_at = fail_at};
  all.fp_control = tvmconv_fp_control();
  all.rounds_up = rounds_up();
  const int32_t before = tvmconv_set_threads(nested ? 1 : threads);
  const int32_t result = tvmconv_parallel_launch(task, &all, nested ? threads : 0);
  tvmconv_set_threads(before);
  const int32_t ran = all.told[0];
  REQUIRE(ran == 1 || ran == threads); /* 1: alone, the pool was taken */
  for (int32_t i = 0; i < MOST; ++i) REQUIRE(all.runs[i] == (i < ran) && all.told[i] == ran * (i < ran));
  REQUIRE(result == (fail_at >= 0 && fail_at < ran ? -1 : 0));
}

static void *host(void *seed) {
  unsigned state = (unsigned)(uintptr_t)seed;
  for (int round = 0; round < ROUNDS; ++round) {
    state = state * 1664525u + 1013904223u;
    const int32_t threads = (int32_t)(state >> 24) % MOST + 1;
    launch(threads, state >> 20 & 1, state >> 16 & 1 ? (int32_t)(state >> 12) % MOST : -1);
    if ((state >> 8 & 63) == 0) usleep(300); /* long enough for the workers to fall asleep */
  }
  return NULL;
}

static int threads_of_process(void) {
  DIR *folder = opendir("/proc/self/task");
  REQUIRE(folder != NULL);
  int count = 0;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) count += entry->d_name[0] != '.';
  closedir(folder);
  return count;
}

static void in_child(void) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    for (int i = 0; i < 20; ++i) launch(4, 0, -1);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv) {
  const int with_fork = argc > 1 && strcmp(argv[1], "fork") == 0;
  const int base = threads_of_process();
  launch(1, 0, -1);
  REQUIRE(threads_of_process() == base);
  launch(4, 0, -1);
  REQUIRE(threads_of_process() >= base + 3); /* a sanitizer adds its own at the first */
  if (with_fork) in_child();
  host((void *)99); /* nobody else: every launch gets its threads */
  REQUIRE(fesetround(FE_UPWARD) == 0);
  REQUIRE(rounds_up());
  host((void *)98); /* workers take over how their caller rounds */
  REQUIRE(fesetround(FE_TONEAREST) == 0);
  pthread_t hosts[HOSTS];
  for (uintptr_t i = 0; i < HOSTS; ++i)
    REQUIRE(pthread_create(&hosts[i], NULL, host, (void *)(i + 1)) == 0);
  if (with_fork)
    for (int i = 0; i < 10; ++i) in_child(); /* in the middle of other threads' launches */
  for (int i = 0; i < HOSTS; ++i) pthread_join(hosts[i], NULL);
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040u); /* flush denormals, here only */
#endif
  for (int i = 0; i < 50; ++i) launch(4, 0, -1);
  puts("ok");
  return 0;
}
