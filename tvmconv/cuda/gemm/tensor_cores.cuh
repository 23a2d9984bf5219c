// What C++ has no words for: asynchronous copies, matrix loads, matrix multiply-adds, conversions.

// Copies `size` bytes, 4, 8 or 16, to shared memory, of which the first `bytes` come from `source` and
// the rest are 0.
template <int size>
__device__ inline void copy_async(void* target, const void* source, int bytes) {
#if __CUDA_ARCH__ >= 800
    unsigned address = (unsigned)__cvta_generic_to_shared(target);
    // Past the first-level cache, where the instruction has it.
    if (size == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     ::"r"(address), "l"(source), "r"(bytes) : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                     ::"r"(address), "l"(source), "n"(size), "r"(bytes) : "memory");
    }
#else
    struct alignas(size) Whole {
        unsigned short parts[size / 2];
    } value = {};
    if (bytes == size) value = *(const Whole*)source;
    for (int i = 0; i < size / 2; ++i)
        if (bytes < size && 2 * i < bytes) value.parts[i] = ((const unsigned short*)source)[i];
    *(Whole*)target = value;
#endif
}

// Closes the group of copies that were started since the last one.
__device__ inline void commit_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most `pending` groups of this thread are under way.
template <int pending>
__device__ inline void wait_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit elements; lanes 8i to 8i + 7 point to the rows of matrix i.
__device__ inline void load_matrices(unsigned (&value)[4], const void* row) {
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
                 : "r"(address) : "memory");
}

// The same, turned: a lane gets two neighbours of a column.
__device__ inline void load_turned_matrices(unsigned (&value)[4], const void* row) {
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
                 : "r"(address) : "memory");
}
