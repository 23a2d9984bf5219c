// Copies from memory to shared memory that threads start and wait for later (cp.async, sm_80).

// Starts a copy of 4, 8 or 16 bytes; where `inside` is false nothing is read, and zeros are written.
template <int BYTES>
__device__ __forceinline__ void start_copy(void* to, const void* from, bool inside) {
    unsigned shared = (unsigned)__cvta_generic_to_shared(to);
    int given = inside ? BYTES : 0;
    // Beside the first-level cache, where a copy is wide enough for that.
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :: "r"(shared), "l"(from), "r"(given) : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                     :: "r"(shared), "l"(from), "n"(BYTES), "r"(given) : "memory");
    }
}

// What this thread has started since it last closed a group is one.
__device__ __forceinline__ void close_group() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Returns when all but the last LATER groups of this thread have arrived.
template <int LATER>
__device__ __forceinline__ void await_group() {
    asm volatile("cp.async.wait_group %0;" :: "n"(LATER) : "memory");
}

