// One block's tile of the matrix product by wgmma: warpgroups of four warps multiply what lies in
// shared memory while they copy what comes later. Copies run STAGES - 2 tiles ahead: one stage is
// read by the multiplication under way, one was read by the multiplication before it.
// Shared memory is as SWIZZLE_128B wants it: rows of 128 bytes, chunks exchanged by row % 8.

constexpr int STEPS = 4;  // of 16 elements of depth

// Each of a warpgroup's four warps has 16 of 64 rows.
__device__ inline int strip_row(int warp, int strip) {
    return warp / 4 * (4 * WARP_M) + strip * 64 + warp % 4 * 16;
}

// Descriptor of a matrix of rows of 128 bytes: address, bytes between groups of eight rows, swizzle
// (PTX ISA, "Matrix Descriptor Format").
__device__ inline unsigned long long matrix_at(const char* shared) {
    unsigned address = (unsigned)__cvta_generic_to_shared(shared);
    return (unsigned long long)(address >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

// Orders registers and copies before the multiplications that follow.
__device__ inline void begin_multiplications() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ inline void commit_multiplications() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most `pending` groups of this warpgroup are under way.
template <int pending>
__device__ inline void wait_multiplications() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// Makes what cp.async wrote visible to wgmma, which reads past the ordinary path.
__device__ inline void show_copies() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Keeps the compiler from moving sums while they are being added to.
__device__ inline void hold(float (&sums)[STRIPS][WARP_N / 8][4]) {
#pragma unroll
    for (int i = 0; i < STRIPS; ++i)
#pragma unroll
        for (int j = 0; j < WARP_N / 8; ++j)
#pragma unroll
            for (int k = 0; k < 4; ++k) asm volatile("" : "+f"(sums[i][j][k])::"memory");
}

// Starts the multiplications of one stage.
__device__ inline void multiply_stage(float (&sums)[STRIPS][WARP_N / 8][4], const char* stage) {
    unsigned long long weights = matrix_at(stage + A_BYTES);
#pragma unroll
    for (int step = 0; step < STEPS; ++step)
#pragma unroll
        for (int i = 0; i < STRIPS; ++i) {
            int row = (threadIdx.x / 128 * STRIPS + i) * 64;
            // 32 bytes on in a row, in units of 16.
            multiply_add(sums[i], matrix_at(stage + row * 128) + 2 * step, weights + 2 * step);
        }
}

__device__ inline void multiply(const element* x, const element* packed, const element* residual,
                                element* y, float* partial) {
    extern __shared__ __align__(1024) char shared[];
    Part part(packed);
    Rows rows(part.slice, part.tile_m * TILE_M);
    Weights weights(shared);
    float sums[STRIPS][WARP_N / 8][4] = {};
#pragma unroll
    for (int ahead = 0; ahead < STAGES - 2; ++ahead) {
        int tile = part.first + ahead;
        if (tile < part.last) copy_stage(shared, ahead, x, rows, part, weights, tile);
        commit_copies();
    }
    int read = 0, written = STAGES - 2;
#pragma unroll 1
    for (int tile = part.first; tile < part.last; ++tile) {
        wait_copies<STAGES - 3>();
        show_copies();
        weights.wait(read);
        __syncthreads();
        hold(sums);
        begin_multiplications();
        multiply_stage(sums, shared + read * STAGE_BYTES);
        commit_multiplications();
        hold(sums);
        // All warpgroups have waited for the multiplication before the last one.
        int next = tile + STAGES - 2;
        if (next < part.last) copy_stage(shared, written, x, rows, part, weights, next);
        commit_copies();
        wait_multiplications<1>();
        read = read + 1 == STAGES ? 0 : read + 1;
        written = written + 1 == STAGES ? 0 : written + 1;
    }
    wait_multiplications<0>();
    hold(sums);
    wait_copies<0>();
    __syncthreads();
    store_sums(sums, shared, part, packed, residual, y, partial);
}
