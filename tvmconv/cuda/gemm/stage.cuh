// Copies x to workspace as the matrix product wants it: padded, channels last and rounded up, groups
// outermost. A block copies STAGE_W columns of one row and STAGE_C channels of one group.

// Eight channels of a column then start in different banks.
constexpr int STAGE_PITCH = STAGE_W + 2;
constexpr int STAGE_BLOCKS_W = (STAGED_W + STAGE_W - 1) / STAGE_W;
constexpr int STAGE_BLOCKS_C = (STAGED_C + STAGE_C - 1) / STAGE_C;

// Element of x at coordinates that count from the lows.
__device__ inline element padded_at(const element* x, int n, int group, int c, int d, int h, int w) {
    int at_d = source_d(d * EVERY_D + LOW_D);
    int at_h = source_h(h * EVERY_H + LOW_H);
    int at_w = source_w(w * EVERY_W + LOW_W);
    if (c >= STAGED_FROM) return element_of(0.0f);
    if (at_d < 0 || at_h < 0 || at_w < 0) return element_of(PAD_VALUE);
    return x[n * FROM_N + group * FROM_G + c * FROM_C + at_d * FROM_D + at_h * FROM_H
             + at_w * FROM_W];
}

__device__ inline void stage(const element* x, element* staged) {
    __shared__ element tile[STAGE_C][STAGE_PITCH];
    int column = blockIdx.x % STAGE_BLOCKS_W * STAGE_W, rest = blockIdx.x / STAGE_BLOCKS_W;
    int channel = rest % STAGE_BLOCKS_C * STAGE_C;
    int row = rest / STAGE_BLOCKS_C;  // group, n, d, h: rows of the copy in order
    int h = row % STAGED_H, outer = row / STAGED_H;
    int d = outer % STAGED_D, n = outer / STAGED_D % STAGED_N, group = outer / STAGED_D / STAGED_N;
    for (int i = threadIdx.x; i < STAGE_C * STAGE_W; i += STAGE_THREADS) {
        int c = FROM_C == 1 ? i % STAGE_C : i / STAGE_W;
        int w = FROM_C == 1 ? i / STAGE_C : i % STAGE_W;
        if (column + w < STAGED_W) tile[c][w] = padded_at(x, n, group, channel + c, d, h, column + w);
    }
    __syncthreads();
    constexpr int ACROSS = STAGE_C / STAGE_VECTOR;
    for (int i = threadIdx.x; i < ACROSS * STAGE_W; i += STAGE_THREADS) {
        int c = i % ACROSS * STAGE_VECTOR, w = i / ACROSS;
        if (channel + c >= STAGED_C || column + w >= STAGED_W) continue;
        Vector<STAGE_VECTOR> values;
#pragma unroll
        for (int j = 0; j < STAGE_VECTOR; ++j) values.at[j] = tile[c + j][w];
        *(Vector<STAGE_VECTOR>*)(staged + (row * STAGED_W + column + w) * STAGED_C + channel + c)
            = values;
    }
}
