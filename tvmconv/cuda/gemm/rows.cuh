// Rows of x in chunks of channels: a pixel's chunks lie side by side in memory.

// A thread's share of the rows that a block copies: column `chunk` of rows first + i * PASS.
struct Rows {
    int base[A_COPIES];  // element of x that the first tap reads, ignoring the borders
    int d[A_COPIES], h[A_COPIES], w[A_COPIES];

    __device__ inline Rows(Slice slice, int first_row) {
        first_row += threadIdx.x / ROW_CHUNKS;
#pragma unroll
        for (int i = 0; i < A_COPIES; ++i) {
            // Rows past the end repeat the last one; nobody stores them.
            int row = first_row + i * PASS;
            Pixel pixel = pixel_of(row < PIXELS ? row : PIXELS - 1);
            d[i] = pixel.d * STRIDE_D + origin_d(slice.phase_d);
            h[i] = pixel.h * STRIDE_H + origin_h(slice.phase_h);
            w[i] = pixel.w * STRIDE_W + origin_w(slice.phase_w);
            base[i] = pixel.n * X_N + slice.group * X_G + d[i] * X_D + h[i] * X_H + w[i] * X_W;
        }
    }

    __device__ inline bool inside(int i, int tap_d, int tap_h, int tap_w) const {
        bool found = true;
        if (PADDED_D) found &= (unsigned)(d[i] + tap_d * STEP_D) < (unsigned)IN_D;
        if (PADDED_H) found &= (unsigned)(h[i] + tap_h * STEP_H) < (unsigned)IN_H;
        if (PADDED_W) found &= (unsigned)(w[i] + tap_w * STEP_W) < (unsigned)IN_W;
        return found;
    }
};

// Chunks of a shared row lie where eight neighbouring rows meet all banks once.
__device__ inline int swizzled(int row, int chunk) {
    return chunk ^ (ROW_CHUNKS == 8 ? row & 7 : (row >> 1) & 3);
}

// Starts the copies of a tile of x: TILE_M rows of TILE_K elements.
__device__ inline void copy_rows(char* target, const element* x, const Rows& rows, Slice slice,
                                 int depth, int tile) {
    int first = threadIdx.x / ROW_CHUNKS, chunk = threadIdx.x % ROW_CHUNKS;
    int k = (tile * ROW_CHUNKS + chunk) * CHUNK;
    // Where whole tiles belong to one tap, its index is the same for all threads.
    int tap = RUN % TILE_K == 0 ? tile / (RUN / TILE_K) : k / RUN;
    int within = k - tap * RUN;
    int tap_w = tap % taps_w(slice.phase_w), rest = tap / taps_w(slice.phase_w);
    int tap_h = rest % taps_h(slice.phase_h), tap_d = rest / taps_h(slice.phase_h);
    int shift = tap_d * (STEP_D * X_D) + tap_h * (STEP_H * X_H) + tap_w * (STEP_W * X_W) + within;
    int bytes = (RUN_FILLED < RUN && within + CHUNK > RUN_FILLED ? RUN_FILLED - within : CHUNK);
    bytes = k < depth ? bytes * (int)sizeof(element) : 0;
#pragma unroll
    for (int i = 0; i < A_COPIES; ++i) {
        int row = first + i * PASS;
        bool copied = bytes > 0 && rows.inside(i, tap_d, tap_h, tap_w);
        copy_async<16>(target + (row * ROW_CHUNKS + swizzled(row, chunk)) * 16,
                   x + (copied ? rows.base[i] + shift : 0), copied ? bytes : 0);
    }
}

// Operand A of 16 rows from `row` on and 32 bytes of depth: eight rows meet all banks once.
__device__ inline void load_rows(unsigned (&a)[4], const char* stage, int row, int step) {
    int lane = threadIdx.x % 32;
    row += lane % 16;
    int chunk = swizzled(row, step * 2 + lane / 16);
    load_matrices(a, stage + (row * ROW_CHUNKS + chunk) * 16);
    round_operands(a);
}
