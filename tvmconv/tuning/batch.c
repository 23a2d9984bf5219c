/* Checks and times candidates on a device that has nothing but a kernel to run programs.
 *
 *   batch                                        says what this machine is
 *   batch OPERANDS THREADS SECONDS BEST [TURNS]  runs each candidate on the operands
 *
 * Every candidate has a process of its own, so that one which crashes or hangs costs only itself.
 * It packs, runs once, and then takes samples as it is told to; SECONDS is the limit for all of
 * that, BEST the least time so far. With TURNS ("2,0,1") all are kept and take one sample per turn.
 *
 * What comes of it goes to stdout in frames, so whatever arrived before a connection broke counts.
 * OPERANDS: "TVCOPER1", uint64 floats of the tensors TVMCONV_ARG_X..SHIFT, zeros up to byte 128,
 * then the tensors, each from a multiple of 64 bytes on. Everything is little-endian.
 */
#define _GNU_SOURCE
#include "batch.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MACHINE = 1, BEGUN, ANSWER, SAME, TIMES, FAILED, END };     /* kinds of frames */
enum { TIMED_OUT = -1, REFUSED = -2 };                             /* values of FAILED */
enum { TENSORS = 10, MOST = 64, GUARD = 64, HEADER = 128, LINE = 64 };
static const float untouched = -1.2345e30f;
static const double LONG_CALL = 1e-2; /* seconds, against which filling a cache is nothing */

typedef struct {
  uint32_t magic;
  int32_t kind, candidate, value;
  uint64_t bytes;
} frame;

typedef struct {
  double wall, cpu;
  int32_t code, wrong;
} sample;

typedef struct {
  pid_t pid;
  int ask, answer;
  float *y;
  double once, wall[256], cpu[256];
  int32_t taken, calls;
} child;

static const float *operands[TENSORS + 1]; /* by TVMCONV_ARG_* */
static int32_t threads;
static double limit, best;
static uint64_t seen[MOST];

static void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int all(int written, int file, void *data, size_t size) {
  char *at = data;
  while (size > 0) {
    const ssize_t done = written ? write(file, at, size) : read(file, at, size);
    if (done <= 0 && !(done < 0 && errno == EINTR)) return 0;
    if (done > 0) at += done, size -= (size_t)done;
  }
  return 1;
}

/* Nobody listens any more when this fails: the connection is gone, and the work is in vain. */
static void say(int32_t kind, int32_t candidate, int32_t value, const void *data, uint64_t bytes) {
  frame head = {0x52435654u, kind, candidate, value, bytes};
  if (!all(1, STDOUT_FILENO, &head, sizeof head) ||
      !all(1, STDOUT_FILENO, (void *)(uintptr_t)data, (size_t)bytes))
    exit(1);
}

static float *room(uint64_t floats) {
  const size_t size = ((size_t)floats + 2 * GUARD) * sizeof(float);
  float *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) fail("no memory");
  for (size_t i = 0; i < floats + 2 * GUARD; ++i)
    start[i] = i < GUARD || i >= floats + GUARD ? untouched : NAN; /* what is not written shows */
  return start + GUARD;
}

static int guarded(const float *data, uint64_t floats) {
  for (size_t i = 0; i < GUARD; ++i)
    if ((data - GUARD)[i] != untouched || data[floats + i] != untouched) return 0;
  return 1;
}

static int32_t call(tvmconv_entry entry, const int32_t *arguments, int32_t count,
                    const float *const *tensors, int32_t with) {
  tvmconv_pointer pointers[8];
  for (int32_t i = 0; i < count; ++i)
    pointers[i] = (tvmconv_pointer){tensors[arguments[i]], arguments[i]};
  return tvmconv_invoke(entry, 0, pointers, count, with);
}

/* A candidate's process: packs, runs, says how that went, then takes samples of so many calls. */
static void live(const batch_candidate *c, float *y, int ask, int answer) {
  const float *tensors[TENSORS + 1];
  float *packed = room(c->packed);
  memcpy(tensors, operands, sizeof tensors);
  tensors[TVMCONV_ARG_PACKED] = packed, tensors[TVMCONV_ARG_Y] = y;
  sample result = {0};
  if (c->pack != NULL) result.code = call(c->pack, c->pack_args, c->pack_count, tensors, 1);
  if (result.code == 0) result.code = call(c->run, c->run_args, c->run_count, tensors, threads);
  result.wrong = !guarded(packed, c->packed);
  int32_t calls;
  while (all(1, answer, &result, sizeof result) && all(0, ask, &calls, sizeof calls)) {
    const double cpu = now(CLOCK_THREAD_CPUTIME_ID), wall = now(CLOCK_MONOTONIC);
    for (int32_t i = 0; i < calls && result.code == 0; ++i)
      result.code = call(c->run, c->run_args, c->run_count, tensors, threads);
    result.wall = (now(CLOCK_MONOTONIC) - wall) / calls;
    result.cpu = (now(CLOCK_THREAD_CPUTIME_ID) - cpu) / calls;
  }
  _exit(0);
}

/* Ends a candidate's process; returns the signal that had ended it before, or 0. */
static int32_t bury(child *one) {
  int status = 0;
  kill(one->pid, SIGKILL);
  waitpid(one->pid, &status, 0);
  close(one->ask), close(one->answer);
  munmap(one->y - GUARD, ((size_t)batch_y + 2 * GUARD) * sizeof(float));
  one->pid = 0;
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* What a process says next; 0, and a frame, when it is dead or takes too long. */
static int hear(child *one, int32_t candidate, double deadline, sample *result) {
  struct pollfd poller = {one->answer, POLLIN, 0};
  const double left = deadline - now(CLOCK_MONOTONIC);
  const int heard = poll(&poller, 1, left > 0 ? (int)(1e3 * left) + 1 : 0);
  if (heard == 1 && all(0, one->answer, result, sizeof *result)) {
    if (result->code == 0) return 1;
    const char *text = tvmconv_error_text(result->code);
    bury(one);
    say(FAILED, candidate, REFUSED, text, strlen(text));
    return 0;
  }
  const int32_t ended = bury(one);
  say(FAILED, candidate, heard == 0 ? TIMED_OUT : ended, NULL, 0);
  return 0;
}

static uint64_t digest(const float *data, uint64_t floats) {
  uint64_t found = UINT64_C(14695981039346656037); /* FNV-1a over words */
  for (uint64_t i = 0; i < floats; ++i) {
    uint32_t word;
    memcpy(&word, &data[i], sizeof word);
    found = (found ^ word) * UINT64_C(1099511628211);
    found ^= found >> 29;
  }
  return found;
}

/* Sends a result, or the number of the earlier candidate that has the very same. */
static void tell(int32_t candidate, const float *y, int32_t wrong) {
  const uint64_t found = digest(y, batch_y);
  for (int32_t i = 0; i < candidate && wrong == 0; ++i)
    if (seen[i] == found) {
      say(SAME, candidate, i, NULL, 0);
      return;
    }
  seen[candidate] = wrong == 0 ? found : 0;
  say(ANSWER, candidate, wrong, y, batch_y * sizeof(float));
}

static int start(child *one, int32_t candidate) {
  int ask[2], answer[2];
  sample first;
  say(BEGUN, candidate, 0, NULL, 0);
  memset(one, 0, sizeof *one);
  one->y = room(batch_y);
  if (pipe(ask) != 0 || pipe(answer) != 0) fail("pipe");
  one->pid = fork();
  if (one->pid < 0) fail("fork");
  if (one->pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(ask[1]), close(answer[0]);
    live(&batch_candidates[candidate], one->y, ask[0], answer[1]);
  }
  close(ask[0]), close(answer[1]);
  one->ask = ask[1], one->answer = answer[0];
  if (!hear(one, candidate, now(CLOCK_MONOTONIC) + limit, &first)) return 0;
  tell(candidate, one->y, first.wrong + 2 * !guarded(one->y, batch_y));
  return 1;
}

/* The time that counts: of the thread where one works, of the clock where several do. */
static double counted(const sample *s) { return threads == 1 ? s->cpu : s->wall; }

static int take(child *one, int32_t candidate, int32_t calls, double deadline, sample *result) {
  if (!all(1, one->ask, &calls, sizeof calls)) calls = 0; /* it is dead, as hear will find */
  return hear(one, candidate, deadline, result);
}

static int keep(child *one, int32_t candidate, double deadline) {
  sample s;
  if (!take(one, candidate, one->calls, deadline, &s)) return 0;
  if (one->taken < (int32_t)(sizeof one->wall / sizeof *one->wall)) {
    one->wall[one->taken] = s.wall, one->cpu[one->taken] = s.cpu;
    ++one->taken;
  }
  return 1;
}

/* One call to see how many fill a sample. */
static int settle(child *one, int32_t candidate, double deadline) {
  sample s;
  if (!take(one, candidate, 1, deadline, &s)) return 0;
  one->once = counted(&s);
  const double wanted = batch_rules.seconds / (one->once > 1e-9 ? one->once : 1e-9);
  one->calls = wanted > batch_rules.max_calls ? batch_rules.max_calls : (int32_t)(wanted + 0.5);
  if (one->calls < 1) one->calls = 1;
  return 1;
}

static void report(child *one, int32_t candidate) {
  double pairs[512];
  for (int32_t i = 0; i < one->taken; ++i)
    pairs[2 * i] = one->wall[i], pairs[2 * i + 1] = one->cpu[i];
  say(TIMES, candidate, one->taken, pairs, 2 * sizeof(double) * (uint64_t)one->taken);
  bury(one);
}

static int hopeless(const child *one) {
  const double *times = threads == 1 ? one->cpu : one->wall;
  return one->taken == 2 && fmin(times[0], times[1]) > batch_rules.hopeless * best;
}

/* One after the other, as runner.py does it. */
static void try_each(void) {
  static child one;
  const int32_t wanted = threads == 1 ? batch_rules.cpu_samples : batch_rules.wall_samples;
  for (int32_t i = 0; i < batch_count; ++i) {
    const double deadline = now(CLOCK_MONOTONIC) + limit;
    if (!start(&one, i) || !settle(&one, i, deadline)) continue;
    int alive = 1;
    while (alive && one.taken < wanted && !hopeless(&one)) alive = keep(&one, i, deadline);
    if (!alive) continue;
    const double *times = threads == 1 ? one.cpu : one.wall;
    for (int32_t s = 0; s < one.taken; ++s) best = fmin(best, times[s]);
    report(&one, i);
  }
}

/* All of them, one sample a turn, each after a call that warms the caches unless it would take
 * long. Whole rounds are given up when time runs out: a slow board is no lost one. */
static void take_turns(char *turns) {
  static child every[MOST];
  sample warm;
  const double end = now(CLOCK_MONOTONIC) + 0.8 * limit * batch_count;
  int32_t turn = 0;
  for (int32_t i = 0; i < batch_count; ++i)
    if (start(&every[i], i)) settle(&every[i], i, now(CLOCK_MONOTONIC) + limit);
  for (char *word = strtok(turns, ","); word != NULL; word = strtok(NULL, ",")) {
    const int32_t i = atoi(word);
    if (turn++ % batch_count == 0 && turn > 1 && now(CLOCK_MONOTONIC) > end) break;
    if (i < 0 || i >= batch_count || every[i].pid == 0) continue;
    const double deadline = now(CLOCK_MONOTONIC) + limit;
    if (every[i].once > LONG_CALL || take(&every[i], i, 1, deadline, &warm))
      keep(&every[i], i, deadline);
  }
  for (int32_t i = 0; i < batch_count; ++i)
    if (every[i].pid != 0) report(&every[i], i);
}

static void open_operands(const char *path) {
  struct stat size;
  const int file = open(path, O_RDONLY);
  if (file < 0 || fstat(file, &size) != 0) fail(path);
  const char *data = mmap(NULL, (size_t)size.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  if (data == MAP_FAILED) fail(path);
  uint64_t floats[TENSORS], at = HEADER;
  if (size.st_size < HEADER || memcmp(data, "TVCOPER1", 8) != 0) fail(path);
  memcpy(floats, data + 8, sizeof floats);
  for (int i = 0; i < TENSORS; ++i) {
    operands[i + 1] = floats[i] != 0 ? (const void *)(data + at) : NULL;
    at += (floats[i] * sizeof(float) + LINE - 1) / LINE * LINE;
  }
  if (at > (uint64_t)size.st_size) fail(path);
}

/* Onto the last core that is of the target's kind: the first ones serve interrupts, and where some
 * are faster they come last. */
static void pin(void) {
  cpu_set_t usable, one;
  int last = -1;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return;
  for (int core = CPU_SETSIZE - 1; core >= 0; --core) {
    if (!CPU_ISSET(core, &usable)) continue;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    if (last < 0) last = core;
    if (sched_setaffinity(0, sizeof one, &one) != 0) return;
    if (batch_core == 0 || tvmconv_cpu_core() == batch_core) return;
  }
  CPU_ZERO(&one);
  CPU_SET(last < 0 ? 0 : last, &one);
  sched_setaffinity(0, sizeof one, &one);
}

/* A program that an earlier connection left behind would disturb this one. */
static void be_alone(void) {
  const int lock = open("lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  char text[32] = "";
  if (lock < 0) fail("lock");
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    if (read(lock, text, sizeof text - 1) > 0 && atoi(text) > 1) kill(atoi(text), SIGKILL);
    alarm(10);
    if (flock(lock, LOCK_EX) != 0) fail("lock");
    alarm(0);
  }
  const int length = snprintf(text, sizeof text, "%d\n", (int)getpid());
  if (ftruncate(lock, 0) != 0 || pwrite(lock, text, (size_t)length, 0) != length) fail("lock");
}

int main(int argc, char **argv) {
  static char text[2048];
  if (argc != 1 && argc != 5 && argc != 6) return 64;
  signal(SIGPIPE, SIG_IGN);
  tvmconv_describe(batch_cpu, text, sizeof text);
  say(MACHINE, 0, 0, text, strlen(text));
  if (argc == 1) return 0;
  threads = atoi(argv[2]), limit = strtod(argv[3], NULL), best = strtod(argv[4], NULL);
  be_alone();
  open_operands(argv[1]);
  if (threads == 1) pin();
  const double begin = now(CLOCK_MONOTONIC); /* the governor needs work to raise the clock */
  while (now(CLOCK_MONOTONIC) - begin < batch_rules.warm) continue;
  if (argc == 6)
    take_turns(argv[5]);
  else
    try_each();
  say(END, 0, 0, NULL, 0);
  return 0;
}
