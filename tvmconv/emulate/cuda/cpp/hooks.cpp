/* Where the calls end that the compiler puts before loads and stores, and what models report. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "memory.h"
#include "tables.h"

namespace emulated {
namespace {

const char *size_name(unsigned alignment) {
  return alignment == 16 ? "16" : alignment == 8 ? "8" : alignment == 4 ? "4" : "2";
}

inline void access(const void *data, size_t bytes, bool is_write, uint16_t thread, unsigned alignment) {
  if (bytes == 0) return;
  /* Most accesses are to the thread's own variables. */
  if ((uintptr_t)data - (uintptr_t)current->stack < STACK) return;
  Region *region = region_of(data, bytes, is_write);
  if (region == nullptr) return;
  if ((uintptr_t)data % alignment != 0)
    fault("misaligned", "%s %zu bytes of %s at an address that is no multiple of %s",
          is_write ? "writes" : "reads", bytes, region->name, size_name(alignment));
  if (region->notes == nullptr) return;
  if (is_write)
    note_write(*region, data, bytes, thread);
  else
    note_read(*region, data, bytes, thread);
}

uint16_t whole_warp() { return (uint16_t)(current->warp * WARP | UNKNOWN_LANE); }

}  // namespace

void reads(const void *data, size_t bytes, unsigned alignment) {
  access(data, bytes, false, current->number, alignment);
}
void writes(void *data, size_t bytes, unsigned alignment) {
  access(data, bytes, true, current->number, alignment);
}
void async_reads(const void *data, size_t bytes, unsigned alignment) {
  reads(data, bytes, alignment);
  Region *region = region_of(data, bytes, false);
  if (region != nullptr && region->notes != nullptr)
    check_shown(*region, data, bytes, current->number);
}
void async_writes(void *data, size_t bytes, unsigned alignment) {
  Region *region = region_of(data, bytes, true);
  if (region != nullptr && region->notes != nullptr)
    check_shown(*region, data, bytes, current->number);
  writes(data, bytes, alignment);
}
void warp_reads(const void *data, size_t bytes, unsigned alignment) {
  access(data, bytes, false, whole_warp(), alignment);
}
void warp_writes(void *data, size_t bytes, unsigned alignment) {
  access(data, bytes, true, whole_warp(), alignment);
}
void atomically(void *data, size_t bytes) {
  if (region_of(data, bytes, true) != nullptr && (uintptr_t)data % bytes != 0)
    fault("misaligned", "an atomic operation on %zu bytes at no multiple of them", bytes);
}

}  // namespace emulated

using emulated::current;

static inline void own(const void *data, size_t bytes, bool is_write, unsigned alignment) {
  if (current != nullptr)
    emulated::access(data, bytes, is_write, current->number, alignment);
}

#define HOOKS(bytes)                                                                          \
  extern "C" void __tsan_read##bytes(void *data) { own(data, bytes, false, bytes); }          \
  extern "C" void __tsan_write##bytes(void *data) { own(data, bytes, true, bytes); }          \
  extern "C" void __tsan_unaligned_read##bytes(void *data) { own(data, bytes, false, 1); }    \
  extern "C" void __tsan_unaligned_write##bytes(void *data) { own(data, bytes, true, 1); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

extern "C" {
void __tsan_read_range(void *data, size_t bytes) {
  own(data, bytes, false, 1);
}
void __tsan_write_range(void *data, size_t bytes) {
  own(data, bytes, true, 1);
}
/* clang makes these of copies and fills of whole arrays. */
void *__tsan_memset(void *to, int value, size_t bytes) {
  own(to, bytes, true, 1);
  return memset(to, value, bytes);
}
void *__tsan_memmove(void *to, const void *from, size_t bytes) {
  own(from, bytes, false, 1);
  own(to, bytes, true, 1);
  return memmove(to, from, bytes);
}
void *__tsan_memcpy(void *to, const void *from, size_t bytes) {
  return __tsan_memmove(to, from, bytes);
}
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
}

/* -fsanitize=alignment and bounds come here, with what they were compiled for: the source's file, line
 * and column, and the type. An index may leave an array that is a thread's own. */
struct Type {
  uint16_t kind, info;
  char name[1];
};

struct Access {
  const char *file;
  uint32_t line, column;
  const Type *type;
};

struct AlignedAccess {
  Access access;
  uint8_t log2_alignment, check;
};

extern "C" void __ubsan_handle_type_mismatch_v1(AlignedAccess *where, uintptr_t) {
  if (current == nullptr) return;
  emulated::fault("misaligned", "an access as %s at an address that is no multiple of %u",
                  where->access.type->name, 1u << where->log2_alignment);
}
extern "C" void __ubsan_handle_type_mismatch_v1_abort(AlignedAccess *where, uintptr_t at) {
  __ubsan_handle_type_mismatch_v1(where, at);
}
extern "C" void __ubsan_handle_out_of_bounds(Access *where, uintptr_t index) {
  if (current == nullptr) return;
  emulated::fault("bounds", "index %td of %s", (ptrdiff_t)index, where->type->name);
}
extern "C" void __ubsan_handle_out_of_bounds_abort(Access *where, uintptr_t index) {
  __ubsan_handle_out_of_bounds(where, index);
}
