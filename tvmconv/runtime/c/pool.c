/* The threads behind parallel loops.
 *
 * One job at a time. Its tasks are claimed one by one from a single 64-bit ticket, by the caller
 * and by whichever workers are awake:
 *
 *     ticket = job number (32 bits) | number of tasks (16) | next task (16)
 *
 * The caller works too, so a job ends even if no worker ever wakes up. A worker that comes late
 * finds the ticket used up, or changed, and its compare-and-swap fails: it never sees a job's
 * fields without owning one of its tasks, and a job cannot end while a task of it is owned.
 *
 * A second host thread that launches meanwhile runs its loop alone, as a nested launch does.
 */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "arch.h"
#include "runtime.h"

enum {
  MAX_THREADS = 256,
  /* A waiter spins this long before it sleeps: longer than the gap between two layers of a
   * network, and about what one sleep and wake-up cost. */
  SPIN_NS = 50000,
  PAUSES_PER_LOOK_AT_CLOCK = 32
};

static struct {
  _Alignas(64) _Atomic uint64_t ticket;
  _Alignas(64) _Atomic int32_t pending; /* tasks of the job that have not ended */
  _Atomic int32_t failed;               /* the first result that was not 0 */
  _Alignas(64) tvmconv_task task;
  void *cdata;
  int32_t num_task;
  uint64_t fp_control;
  atomic_bool busy; /* a launch owns the pool, and with it every plain field here */
  atomic_bool stop;
  atomic_bool caller_sleeps;
  _Atomic int32_t sleepers;
  int32_t workers;
  bool spin, fork_watched;
  uint32_t job;
  pthread_mutex_t lock;
  pthread_cond_t work, done;
  pthread_t threads[MAX_THREADS];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static _Thread_local int32_t threads_here = 1; /* of this host thread; workers keep 1 */

int32_t tvmconv_set_threads(int32_t threads) {
  const int32_t before = threads_here;
  threads_here = threads;
  return before;
}

static bool unclaimed(uint64_t ticket) { return (ticket & 0xffff) < (ticket >> 16 & 0xffff); }

static void claim_and_run(void) {
  uint64_t ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
  while (unclaimed(ticket)) {
    if (!atomic_compare_exchange_weak_explicit(&pool.ticket, &ticket, ticket + 1,
                                               memory_order_acq_rel, memory_order_acquire))
      continue;
    if (tvmconv_fp_control() != pool.fp_control) tvmconv_set_fp_control(pool.fp_control);
    tvmconv_parallel_env env = {NULL, pool.num_task};
    const int32_t failed = pool.task((int32_t)(ticket & 0xffff), &env, pool.cdata);
    int32_t none = 0;
    if (failed != 0) atomic_compare_exchange_strong(&pool.failed, &none, failed);
    if (atomic_fetch_sub(&pool.pending, 1) == 1 && atomic_load(&pool.caller_sleeps)) {
      pthread_mutex_lock(&pool.lock);
      pthread_cond_signal(&pool.done);
      pthread_mutex_unlock(&pool.lock);
    }
    ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
  }
}

static bool work_is_there(void) {
  return unclaimed(atomic_load(&pool.ticket)) || atomic_load(&pool.stop);
}

static bool all_done(void) { return atomic_load(&pool.pending) == 0; }

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool spin_until(bool (*ready)(void)) {
  if (ready()) return true;
  if (!pool.spin) return false;
  const int64_t end = now_ns() + SPIN_NS;
  do {
    for (int i = 0; i < PAUSES_PER_LOOK_AT_CLOCK; ++i) {
      tvmconv_pause();
      if (ready()) return true;
    }
  } while (now_ns() < end);
  return false;
}

static void *work(void *unused) {
  while (!atomic_load(&pool.stop)) {
    if (!spin_until(work_is_there)) {
      pthread_mutex_lock(&pool.lock);
      atomic_fetch_add(&pool.sleepers, 1); /* before the last look, see wake() */
      while (!work_is_there()) pthread_cond_wait(&pool.work, &pool.lock);
      atomic_fetch_sub(&pool.sleepers, 1);
      pthread_mutex_unlock(&pool.lock);
    }
    claim_and_run();
  }
  return unused;
}

/* The ticket is written before `sleepers` is read, and a worker counts itself before it reads the
 * ticket (all sequentially consistent): one of the two sees the other. */
static void wake(int32_t wanted) {
  if (atomic_load(&pool.sleepers) == 0) return;
  pthread_mutex_lock(&pool.lock);
  for (int32_t i = 0; i < wanted && i < atomic_load(&pool.sleepers); ++i)
    pthread_cond_signal(&pool.work);
  pthread_mutex_unlock(&pool.lock);
}

static void wait_for_tasks(void) {
  if (spin_until(all_done)) return;
  pthread_mutex_lock(&pool.lock);
  atomic_store(&pool.caller_sleeps, true);
  while (!all_done()) pthread_cond_wait(&pool.done, &pool.lock);
  atomic_store(&pool.caller_sleeps, false);
  pthread_mutex_unlock(&pool.lock);
}

/* A child process has this thread only: the workers are gone, and any lock or job of the parent's
 * other threads with them. The next launch starts new workers. */
static void forget_workers(void) {
  pthread_mutex_init(&pool.lock, NULL);
  pthread_cond_init(&pool.work, NULL);
  pthread_cond_init(&pool.done, NULL);
  atomic_store(&pool.ticket, 0);
  atomic_store(&pool.pending, 0);
  atomic_store(&pool.sleepers, 0);
  atomic_store(&pool.caller_sleeps, false);
  atomic_store(&pool.busy, false);
  pool.workers = 0;
}

/* Fewer than wanted is no error: the caller does what nobody else does. Workers block all signals,
 * which belong to the host's own threads. */
static void start_workers(int32_t wanted) {
  if (pool.workers >= wanted) return;
  if (!pool.fork_watched) pool.fork_watched = pthread_atfork(NULL, NULL, forget_workers) == 0;
  /* The workers of before read this flag. It changes only while there are none. */
  if (pool.workers == 0) pool.spin = sysconf(_SC_NPROCESSORS_ONLN) > 1;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (pool.workers < wanted &&
         pthread_create(&pool.threads[pool.workers], NULL, work, NULL) == 0)
    ++pool.workers;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int32_t run_alone(tvmconv_task task, void *cdata) {
  tvmconv_parallel_env env = {NULL, 1};
  return task(0, &env, cdata);
}

int32_t tvmconv_parallel_launch(tvmconv_task task, void *cdata, int32_t num_task) {
  int32_t tasks = num_task > 0 ? num_task : threads_here;
  if (tasks > MAX_THREADS) tasks = MAX_THREADS;
  if (tasks <= 1 || atomic_load(&pool.stop) || atomic_exchange(&pool.busy, true))
    return run_alone(task, cdata);
  start_workers(tasks - 1);
  pool.task = task;
  pool.cdata = cdata;
  pool.num_task = tasks;
  pool.fp_control = tvmconv_fp_control();
  atomic_store(&pool.failed, 0);
  atomic_store(&pool.pending, tasks);
  atomic_store(&pool.ticket, (uint64_t)++pool.job << 32 | (uint64_t)tasks << 16);
  wake(tasks - 1);
  const int32_t outer = tvmconv_set_threads(1); /* a loop inside a task runs alone */
  claim_and_run();
  tvmconv_set_threads(outer);
  wait_for_tasks();
  const int32_t failed = atomic_load(&pool.failed);
  atomic_store(&pool.busy, false);
  return failed;
}

/* At exit, or before the library is unloaded: no worker may run code that is gone. A launch that
 * is still going on gets 100 ms; it can never end if this is a signal handler above it. */
__attribute__((destructor)) static void stop_workers(void) {
  const int64_t patience = now_ns() + 100000000;
  while (atomic_exchange(&pool.busy, true)) {
    if (now_ns() > patience) return;
    sched_yield();
  }
  pthread_mutex_lock(&pool.lock);
  atomic_store(&pool.stop, true);
  pthread_cond_broadcast(&pool.work);
  pthread_mutex_unlock(&pool.lock);
  for (int32_t i = 0; i < pool.workers; ++i) pthread_join(pool.threads[i], NULL);
  pool.workers = 0;
  atomic_store(&pool.busy, false);
}
