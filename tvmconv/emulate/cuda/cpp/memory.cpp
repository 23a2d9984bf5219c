/* Bounds of arrays, and shared memory's layout. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tables.h"

namespace emulated {

unsigned note_shift = 1;

namespace {

/* Hopper's limit, and room between arrays that nobody may touch. */
constexpr size_t SHARED_BYTES = 256 << 10, GAP = 64, PAGE = 4096;
constexpr unsigned MAX_ARRAYS = 64, DYNAMIC = 0;

unsigned char *shared_memory, *device_memory;
size_t device_bytes, device_used, shared_used;
Note *shared_notes, *device_notes;
Region arrays[MAX_ARRAYS], buffers[MAX_BUFFERS];
int lines[MAX_ARRAYS];
unsigned array_count, buffer_count;
bool launch_has_begun;

/* Constants of the kernel, and what the linker put around them. */
extern "C" char __executable_start, _end;
bool is_of_program(uintptr_t at) {
  return at - (uintptr_t)&__executable_start < (uintptr_t)(&_end - &__executable_start);
}

size_t notes_of(size_t bytes) { return (bytes >> note_shift) + 1; }

void *fresh(size_t bytes) {
  void *made = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) fault("memory", "no memory for %zu bytes", bytes);
  return made;
}

/* Where dynamic memory starts: behind all that static arrays may take; further in front where a block
 * takes all that an SM has, since wgmma's descriptors end at 256 KiB. */
constexpr size_t DYNAMIC_AT = 64 << 10, EARLY_DYNAMIC_AT = 16 << 10;
size_t dynamic_at;

[[noreturn]] void beyond(const Region *regions, unsigned count, const void *data, size_t bytes,
                         bool is_write) {
  const uintptr_t at = (uintptr_t)data;
  const Region *nearest = nullptr;
  size_t distance = SIZE_MAX;
  for (unsigned i = 0; i < count; ++i) {
    const Region &region = regions[i];
    const size_t off = at < region.begin ? region.begin - at : at - region.begin < region.bytes
                           ? 0 : at - region.begin - region.bytes;
    if (off < distance) distance = off, nearest = &region;
  }
  const char *verb = is_write ? "writes" : "reads";
  if (nearest == nullptr)
    fault("bounds", "%s shared memory that the kernel has not", verb);
  fault("bounds", "%s %zu bytes at byte %td of %s, which has %zu", verb, bytes,
        (ptrdiff_t)(at - nearest->begin), nearest->name, nearest->bytes);
}

Region *inside(Region *regions, unsigned count, const void *data, size_t bytes, bool is_write) {
  static unsigned last;
  for (unsigned i = 0, at = last; i < count; ++i, ++at) {
    if (at >= count) at = 0;
    Region &region = regions[at];
    const size_t offset = (uintptr_t)data - region.begin;
    if (offset < region.bytes && bytes <= region.bytes - offset) {
      last = at;
      if (is_write && !region.writable)
        fault("bounds", "writes to %s, an input", region.name);
      return &region;
    }
  }
  beyond(regions, count, data, bytes, is_write);
}

}  // namespace

Region *region_of(const void *data, size_t bytes, bool is_write) {
  const uintptr_t at = (uintptr_t)data;
  if (at - (uintptr_t)shared_memory < SHARED_BYTES)
    return inside(arrays, array_count, data, bytes, is_write);
  if (at - (uintptr_t)device_memory < device_bytes)
    return inside(buffers, buffer_count, data, bytes, is_write);
  const uintptr_t stack = (uintptr_t)current->stack;
  if (at - stack < STACK || is_of_program(at)) return nullptr;
  fault("bounds", "%s %zu bytes where there is nothing", is_write ? "writes" : "reads", bytes);
}

void poison(void *data, size_t bytes) {
  unsigned char *at = (unsigned char *)data;
  for (size_t i = 0; i < bytes; ++i) at[i] = (unsigned char)(i % 2 ? POISON >> 8 : POISON & 0xff);
}

void device_begins(size_t total_bytes, unsigned count) {
  if (count > MAX_BUFFERS) fault("memory", "more than %u buffers", MAX_BUFFERS);
  if (device_memory != nullptr) {
    munmap(device_memory, device_bytes);
    munmap(device_notes, notes_of(device_bytes) * sizeof(Note));
  }
  device_bytes = total_bytes + (count + 1) * 2 * PAGE;
  device_memory = (unsigned char *)fresh(device_bytes);
  device_notes = (Note *)fresh(notes_of(device_bytes) * sizeof(Note));
  poison(device_memory, device_bytes);
  device_used = PAGE;
  buffer_count = 0;
}

void *device_buffer(const char *name, size_t bytes, bool writable) {
  unsigned char *made = device_memory + device_used;
  Note *notes = writable ? device_notes + (device_used >> note_shift) : nullptr;
  buffers[buffer_count++] = {name, (uintptr_t)made, bytes, writable, false, notes};
  device_used += (bytes + PAGE - 1) / PAGE * PAGE + PAGE;
  return made;
}

static void lay(unsigned slot, const char *name, size_t at, size_t bytes) {
  Note *notes = shared_notes + (at >> note_shift);
  arrays[slot] = {name, (uintptr_t)shared_memory + at, bytes, true, true, notes};
  memset(notes, 0, notes_of(bytes) * sizeof(Note));
  poison(shared_memory + at, bytes);
}

void launch_begins(unsigned shared_bytes) {
  if (shared_memory == nullptr) {
    shared_memory = (unsigned char *)fresh(SHARED_BYTES + PAGE);
    shared_notes = (Note *)fresh((SHARED_BYTES + PAGE) * sizeof(Note));
  }
  dynamic_at = DYNAMIC_AT + shared_bytes > SHARED_BYTES ? EARLY_DYNAMIC_AT : DYNAMIC_AT;
  if (dynamic_at + shared_bytes > SHARED_BYTES)
    fault("launch", "%u bytes of dynamic shared memory", shared_bytes);
  shared_used = GAP;
  launch_has_begun = false;
  array_count = 1;
  lay(DYNAMIC, "dynamic shared memory", dynamic_at, shared_bytes);
}

void block_begins(unsigned warps) {
  for (unsigned i = 0; i < array_count; ++i) poison((void *)arrays[i].begin, arrays[i].bytes);
  clocks_begin(warps, !launch_has_begun);
  launch_has_begun = true;
}

void *shared_array(const char *name, int line, size_t bytes, size_t alignment) {
  for (unsigned i = DYNAMIC + 1; i < array_count; ++i)
    if (lines[i] == line && arrays[i].name == name) return (void *)arrays[i].begin;
  if (array_count == MAX_ARRAYS) fault("launch", "more than %u shared arrays", MAX_ARRAYS);
  const size_t at = (shared_used + alignment - 1) / alignment * alignment;
  if (at + bytes > 49152 + GAP * array_count || at + bytes + GAP > dynamic_at)
    fault("launch", "more than 48 KiB of static shared memory");
  shared_used = at + bytes + GAP;
  lines[array_count] = line;
  lay(array_count, name, at, bytes);
  return (void *)arrays[array_count++].begin;
}

void *dynamic_shared(const char *name) {
  arrays[DYNAMIC].name = name;
  return (void *)arrays[DYNAMIC].begin;
}

uint32_t shared_address(const void *pointer) {
  const size_t offset = (uintptr_t)pointer - (uintptr_t)shared_memory;
  if (offset > SHARED_BYTES) fault("bounds", "takes the shared address of what is not shared");
  return (uint32_t)offset;
}

void *at_shared(uint32_t address) {
  if (address > SHARED_BYTES) fault("bounds", "uses %u as an address of shared memory", address);
  return shared_memory + address;
}

}  // namespace emulated
