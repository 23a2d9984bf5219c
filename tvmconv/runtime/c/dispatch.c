/* Which of a library's targets runs here. Several targets of one machine lie side by side in a
 * library; every kernel has one entry point per target, and a table that the target's index reads. */
#include <stdatomic.h>

#include "runtime.h"

enum { UNDECIDED = 0, NONE = -1 }; /* otherwise index + 1 */

int32_t tvmconv_pick(const tvmconv_target *targets, int32_t count, uint64_t cpu, uint32_t core) {
  int32_t first = -1;
  for (int32_t i = 0; i < count; ++i) {
    if ((targets[i].cpu & ~cpu) != 0) continue;
    if (core != 0 && targets[i].core == core) return i;
    if (first < 0) first = i;
  }
  return first;
}

/* Two threads that ask for the first time find the same. */
static int32_t chosen(tvmconv_targets *all) {
  int32_t found = atomic_load_explicit(&all->chosen, memory_order_relaxed);
  if (found == UNDECIDED) {
    const uint64_t cpu = ~tvmconv_cpu_missing(~UINT64_C(0), NULL, 0);
    const int32_t index = tvmconv_pick(all->targets, all->count, cpu, tvmconv_cpu_core());
    found = index < 0 ? NONE : index + 1;
    atomic_store_explicit(&all->chosen, found, memory_order_relaxed);
  }
  return found == NONE ? -1 : found - 1;
}

static int same(const char *a, const char *b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return *a == *b;
}

const char *tvmconv_target_id(tvmconv_targets *all) {
  const int32_t index = chosen(all);
  return index < 0 ? NULL : all->targets[index].id;
}

int32_t tvmconv_use_target(tvmconv_targets *all, const char *id) {
  if (id == NULL) {
    atomic_store_explicit(&all->chosen, UNDECIDED, memory_order_relaxed);
    return chosen(all) < 0 ? TVMCONV_CPU : TVMCONV_OK;
  }
  for (int32_t i = 0; i < all->count; ++i) {
    if (!same(all->targets[i].id, id)) continue;
    if (tvmconv_cpu_missing(all->targets[i].cpu, NULL, 0) != 0) return TVMCONV_CPU;
    atomic_store_explicit(&all->chosen, i + 1, memory_order_relaxed);
    return TVMCONV_OK;
  }
  return TVMCONV_TARGET;
}

uint64_t tvmconv_target_missing(tvmconv_targets *all, char *names, size_t size) {
  if (chosen(all) >= 0) {
    if (size != 0 && names != NULL) names[0] = 0;
    return 0;
  }
  return tvmconv_cpu_missing(all->targets[all->count - 1].cpu, names, size);
}

int32_t tvmconv_dispatch(tvmconv_targets *all, const tvmconv_entry *entries,
                         const tvmconv_pointer *pointers, int32_t count, int32_t threads) {
  const int32_t index = chosen(all);
  return index < 0 ? TVMCONV_CPU : tvmconv_invoke(entries[index], 0, pointers, count, threads);
}
