#include "fiber.h"

#include <stdint.h>

#if defined(__x86_64__)

extern "C" void emulated_switch(void **from, void *to);
asm(R"(
.text
.globl emulated_switch
emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace emulated {

void switch_fiber(void **from, void *to) { emulated_switch(from, to); }

void *new_fiber(void *stack, size_t bytes, void (*start)()) {
  uintptr_t top = ((uintptr_t)stack + bytes) & ~(uintptr_t)15;
  void **frame = (void **)top - 8;     /* six registers, `start`, and a return address of null */
  for (int i = 0; i < 8; ++i) frame[i] = nullptr;
  frame[6] = (void *)start;
  return frame;
}

}  // namespace emulated

#elif defined(__aarch64__)

extern "C" void emulated_switch(void **from, void *to);
asm(R"(
.text
.globl emulated_switch
emulated_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");

namespace emulated {

void switch_fiber(void **from, void *to) { emulated_switch(from, to); }

void *new_fiber(void *stack, size_t bytes, void (*start)()) {
  uintptr_t top = ((uintptr_t)stack + bytes) & ~(uintptr_t)15;
  void **frame = (void **)(top - 160);
  for (int i = 0; i < 20; ++i) frame[i] = nullptr;
  frame[11] = (void *)start; /* x30, where `ret` goes */
  return frame;
}

}  // namespace emulated

#else /* Slower: it asks the system to change the signal mask each time. */

#include <ucontext.h>

namespace emulated {


void switch_fiber(void **from, void *to) {
  ucontext_t here;
  *from = &here;
  swapcontext(&here, (ucontext_t *)to);
}

void *new_fiber(void *stack, size_t bytes, void (*start)()) {
  ucontext_t *made = (ucontext_t *)stack;
  getcontext(made);
  made->uc_stack.ss_sp = (char *)stack + sizeof *made;
  made->uc_stack.ss_size = bytes - sizeof *made;
  made->uc_link = nullptr;
  makecontext(made, start, 0);
  return made;
}

}  // namespace emulated

#endif
