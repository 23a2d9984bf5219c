// A stage's weights by all threads, 16 bytes at a time, in the groups of the copies of x.

struct Weights {
    __device__ inline explicit Weights(char*) {}

    __device__ inline void start(char* target, const char* source, int) const {
#pragma unroll
        for (int at = 0; at < B_BYTES; at += THREADS * 16) {
            int own = at + threadIdx.x * 16;
            if (B_BYTES % (THREADS * 16) == 0 || own < B_BYTES)
                copy_async<16>(target + own, source + own, 16);
        }
    }

    // They have come with the group of x.
    __device__ inline void wait(int) {}
};
