/* Switching between stacks: what calls keep, and nothing of the system, in a few nanoseconds. */
#pragma once

#include <stddef.h>

namespace emulated {

/* Leaves the running fiber, whose place goes to *from, for the one at `to`. */
void switch_fiber(void **from, void *to);

/* A fiber on a stack that begins with `start`, which never returns. */
void *new_fiber(void *stack, size_t bytes, void (*start)());

}  // namespace emulated
