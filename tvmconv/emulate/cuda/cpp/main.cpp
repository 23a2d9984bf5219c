/* Runs calls of kernels from a file and writes their answers to another.
 *
 *   emulator IN OUT
 *
 * IN:  "TVCCUDA1", uint32 calls, then per call:
 *        uint32 order, seed, log2 of the bytes of a note, buffers, launches;
 *        per buffer:  uint32 length of its name, the name, uint64 bytes, uint64 bytes of data that
 *                     follow (0 or all of them), uint32 whether kernels may write it and it is
 *                     written to OUT;
 *        per launch:  uint32 kernel, grid x y z, block x y z, shared bytes, arguments, then the
 *                     number of the buffer of each.
 * OUT: per call: uint32 length of a fault's text, which follows; if 0, the bytes of all buffers that
 *      may be written, in their order.
 * Numbers are as this machine has them. Exit status 0 when every call was made, 1 with a line on
 * stderr when a file is not whole.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fiber.h"
#include "kernels.h"
#include "tables.h"

extern "C" char __executable_start;

namespace emulated {

void forget_copies();
void forget_multiplications();
void forget_mbarriers();

namespace {

constexpr size_t NAME = 64, TEXT = 1024;

struct Buffer {
  char name[NAME];
  void *data;
  uint64_t bytes, given;
  uint32_t writable;
};

FILE *in, *out;
uint32_t order, seed, buffer_count, launch_count;
Buffer buffers[MAX_BUFFERS];
const char *kernel_name;
char text[TEXT];
void *main_place, *call_place;
alignas(16) char call_stack[256 << 10];

[[noreturn]] void not_whole() {
  fprintf(stderr, "the calls are not whole\n");
  exit(1);
}

template <class T>
T take() {
  T value;
  if (fread(&value, sizeof value, 1, in) != 1) not_whole();
  return value;
}

void take_buffers() {
  size_t total = 0;
  const long start = ftell(in);
  for (int pass = 0; pass < 2; ++pass) { /* the sizes first, then the data */
    fseek(in, start, SEEK_SET);
    if (pass == 1) device_begins(total, buffer_count);
    for (uint32_t i = 0; i < buffer_count; ++i) {
      Buffer &buffer = buffers[i];
      const uint32_t length = take<uint32_t>();
      if (length >= NAME || fread(buffer.name, 1, length, in) != length) not_whole();
      buffer.name[length] = 0;
      buffer.bytes = take<uint64_t>(), buffer.given = take<uint64_t>();
      buffer.writable = take<uint32_t>();
      total += (buffer.bytes + 4095) / 4096 * 4096;
      if (pass == 0) {
        fseek(in, (long)buffer.given, SEEK_CUR);
        continue;
      }
      buffer.data = device_buffer(buffer.name, buffer.bytes, buffer.writable != 0);
      if (fread(buffer.data, 1, buffer.given, in) != buffer.given) not_whole();
    }
  }
}

void call() {
  for (uint32_t i = 0; i < launch_count; ++i) {
    const uint32_t number = take<uint32_t>();
    if (number >= kernel_count) not_whole();
    Launch launch;
    launch.kernel = kernels[number].invoke;
    launch.grid = {take<uint32_t>(), take<uint32_t>(), take<uint32_t>()};
    launch.block = {take<uint32_t>(), take<uint32_t>(), take<uint32_t>()};
    launch.shared_bytes = take<uint32_t>();
    void *arguments[MAX_BUFFERS];
    const uint32_t count = take<uint32_t>();
    kernel_name = kernels[number].name;
    if (count != kernels[number].arguments)
      fault("launch", "is given %u arguments and takes %u", count, kernels[number].arguments);
    for (uint32_t j = 0; j < count; ++j) {
      const uint32_t buffer = take<uint32_t>();
      if (buffer >= buffer_count) not_whole();
      arguments[j] = buffers[buffer].data;
    }
    launch.arguments = arguments;
    run_launch(launch, (Order)order, seed + i);
  }
}

void call_main() {
  call();
  for (;;) switch_fiber(&call_place, main_place);
}

/* Launches come behind buffers of any size; a fault must not lose the place of the next call. */
void skip_launches() {
  for (uint32_t i = 0; i < launch_count; ++i) {
    fseek(in, 8 * sizeof(uint32_t), SEEK_CUR);
    const uint32_t count = take<uint32_t>();
    fseek(in, (long)(count * sizeof(uint32_t)), SEEK_CUR);
  }
}

void on_signal(int number, siginfo_t *info, void *) {
  fault("bounds", "ended with %s at address %p",
        number == SIGSEGV ? "SIGSEGV" : number == SIGBUS ? "SIGBUS" : "SIGFPE", info->si_addr);
}

void catch_signals() {
  static char room[64 << 10];
  stack_t stack = {};
  stack.ss_sp = room, stack.ss_size = sizeof room;
  sigaltstack(&stack, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (int number : {SIGSEGV, SIGBUS, SIGFPE}) sigaction(number, &action, nullptr);
}

/* Where functions return to, innermost first, as offsets in the program: " @1a2f 1b03". */
void note_frames(char *end) {
  if (current == nullptr) return;
  const uintptr_t stack = (uintptr_t)current->stack;
  void **frame = (void **)__builtin_frame_address(0);
  for (int i = 0; i < 12 && (uintptr_t)frame - stack < STACK - 16; ++i) {
    const uintptr_t offset = (uintptr_t)frame[1] - (uintptr_t)&__executable_start;
    if (end + 20 > text + TEXT || frame[1] == nullptr) break;
    end += sprintf(end, "%s%zx", i == 0 ? " @" : " ", (size_t)offset - 1);
    frame = (void **)frame[0];
  }
}

}  // namespace

void fault(const char *kind, const char *format, ...) {
  char name[64] = "";
  int used;
  if (current != nullptr)
    used = snprintf(text, TEXT, "%s\n%s, block (%u, %u, %u), %s: ", kind, kernel_name,
                    block_index.x, block_index.y, block_index.z,
                    thread_name(current->number, name));
  else
    used = snprintf(text, TEXT, "%s\n%s: ", kind, kernel_name);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + used, TEXT - (size_t)used, format, arguments);
  va_end(arguments);
  note_frames(text + strlen(text));
  void *left;
  current = nullptr;
  switch_fiber(&left, main_place);
  abort();
}

}  // namespace emulated

using namespace emulated;

int main(int argc, char **argv) {
  char magic[8];
  in = argc == 3 ? fopen(argv[1], "rb") : nullptr;
  out = argc == 3 ? fopen(argv[2], "wb") : nullptr;
  if (in == nullptr || out == nullptr || fread(magic, sizeof magic, 1, in) != 1 ||
      memcmp(magic, "TVCCUDA1", sizeof magic) != 0)
    not_whole();
  catch_signals();
  for (uint32_t calls = take<uint32_t>(); calls > 0; --calls) {
    order = take<uint32_t>(), seed = take<uint32_t>(), note_shift = take<uint32_t>();
    buffer_count = take<uint32_t>(), launch_count = take<uint32_t>();
    take_buffers();
    const long launches = ftell(in);
    text[0] = 0;
    switch_fiber(&main_place, new_fiber(call_stack, sizeof call_stack, call_main));
    forget_copies();
    forget_multiplications();
    forget_mbarriers();
    fseek(in, launches, SEEK_SET);
    skip_launches();
    const uint32_t length = (uint32_t)strlen(text);
    fwrite(&length, sizeof length, 1, out);
    fwrite(text, 1, length, out);
    for (uint32_t i = 0; i < buffer_count && length == 0; ++i)
      if (buffers[i].writable) fwrite(buffers[i].data, 1, buffers[i].bytes, out);
  }
  return fclose(out) == 0 ? 0 : 1;
}
