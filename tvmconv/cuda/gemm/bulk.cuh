// A stage's weights in one piece: one thread starts a bulk copy (sm_90), which counts its bytes on the
// stage's mbarrier (PTX ISA, "cp.async.bulk", "mbarrier"). Addresses and size are multiples of 16.

struct Weights {
    unsigned arrivals;    // the mbarriers in shared memory, eight bytes for each stage
    unsigned parity = 0;  // of the phase in which the stages are filled that are read now

    __device__ inline explicit Weights(char* shared)
        : arrivals((unsigned)__cvta_generic_to_shared(shared + ARRIVALS_AT)) {
        if (threadIdx.x == 0) {
#pragma unroll
            for (int stage = 0; stage < STAGES; ++stage)
                asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;"
                             ::"r"(arrivals + 8 * stage) : "memory");
            // The copies, which come past the ordinary path, must find them started.
            asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        }
        __syncthreads();
    }

    // wgmma, which reads past the ordinary path too, is done with the stage's former weights.
    __device__ inline void start(char* target, const char* source, int stage) const {
        if (threadIdx.x != 0) return;
        unsigned arrival = arrivals + 8 * stage;
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                     ::"r"(arrival), "n"(B_BYTES) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                     "[%0], [%1], %2, [%3];"
                     ::"r"((unsigned)__cvta_generic_to_shared(target)), "l"(source), "n"(B_BYTES),
                     "r"(arrival) : "memory");
    }

    // Every thread waits for itself; stages are waited for in turn.
    __device__ inline void wait(int stage) {
        unsigned here = 0;
        while (here == 0)
            asm volatile("{ .reg .pred ended; "
                         "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2; "
                         "selp.u32 %0, 1, 0, ended; }"
                         : "=r"(here) : "r"(arrivals + 8 * stage), "r"(parity) : "memory");
        if (stage == STAGES - 1) parity ^= 1;
    }
};
