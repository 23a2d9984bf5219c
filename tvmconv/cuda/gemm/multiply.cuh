// One block's tile of the matrix product by mma.sync: copies run STAGES - 1 tiles of depth ahead of
// the multiplications (cp.async); x is read from shared memory by ldmatrix, weights as packed, in the
// order in which lanes multiply them.

constexpr int STEPS = TILE_K / (2 * CHUNK);  // of 32 bytes of depth

__device__ inline int strip_row(int warp, int strip) {
    return warp / WARPS_N * WARP_M + strip * 16;
}

// Multiplies what one stage holds.
__device__ inline void multiply_stage(float (&sums)[STRIPS][WARP_N / 8][4], const char* stage,
                                      int warp_m, int warp_n) {
    int lane = threadIdx.x % 32;
    const char* weights = stage + A_BYTES;
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
        unsigned a[STRIPS][4];
#pragma unroll
        for (int i = 0; i < STRIPS; ++i)
            load_rows(a[i], stage, warp_m * WARP_M + i * 16, step);
#pragma unroll
        for (int j = 0; j < WARP_N / 16; ++j) {
            int block = step * (TILE_N / 16) + warp_n * (WARP_N / 16) + j;
            uint4 b = *(const uint4*)(weights + (block * 32 + lane) * 16);
#pragma unroll
            for (int i = 0; i < STRIPS; ++i) {
                multiply_add(sums[i][2 * j], a[i], b.x, b.y);
                multiply_add(sums[i][2 * j + 1], a[i], b.z, b.w);
            }
        }
    }
}

__device__ inline void multiply(const element* x, const element* packed, const element* residual,
                                element* y, float* partial) {
    extern __shared__ __align__(128) char shared[];
    int warp = threadIdx.x / 32;
    Part part(packed);
    Rows rows(part.slice, part.tile_m * TILE_M);
    Weights weights(shared);
    float sums[STRIPS][WARP_N / 8][4] = {};
#pragma unroll
    for (int ahead = 0; ahead < STAGES - 1; ++ahead) {
        int tile = part.first + ahead;
        if (tile < part.last) copy_stage(shared, ahead, x, rows, part, weights, tile);
        commit_copies();
    }
    int read = 0, written = STAGES - 1;
#pragma unroll 1
    for (int tile = part.first; tile < part.last; ++tile) {
        wait_copies<STAGES - 2>();
        __syncthreads();
        // Nobody reads the stage before this one any more.
        int next = tile + STAGES - 1;
        if (next < part.last) copy_stage(shared, written, x, rows, part, weights, next);
        commit_copies();
        multiply_stage(sums, shared + read * STAGE_BYTES, warp / WARPS_N, warp % WARPS_N);
        read = read + 1 == STAGES ? 0 : read + 1;
        written = written + 1 == STAGES ? 0 : written + 1;
    }
    wait_copies<0>();
    __syncthreads();
    store_sums(sums, shared, part, packed, residual, y, partial);
}
