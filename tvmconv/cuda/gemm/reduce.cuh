// Adds what the splits of the depth left, in their order, and finishes: one strip per warp.

// Splits whose loads are under way together: about eight loads of 16 bytes.
constexpr int REDUCE_AHEAD = WARP_N < 64 ? 64 / WARP_N : 1;

__device__ inline void reduce(const element* packed, const element* residual, element* y,
                              const float* partial) {
    __shared__ __align__(16) float strips[REDUCE_WARPS][STRIP_FLOATS];
    int own = threadIdx.x / 32, lane = threadIdx.x % 32;
    int index = blockIdx.x * REDUCE_WARPS + own;
    if (index >= STRIPS_PER_SPLIT) return;
    float sums[WARP_N / 8][4] = {};
#pragma unroll(REDUCE_AHEAD)
    for (int split = 0; split < SPLIT; ++split) {
        const float4* part = (const float4*)partial
                             + (size_t)(split * STRIPS_PER_SPLIT + index) * (WARP_N / 8) * 32 + lane;
#pragma unroll
        for (int j = 0; j < WARP_N / 8; ++j) {
            float4 term = part[j * 32];
            sums[j][0] += term.x;
            sums[j][1] += term.y;
            sums[j][2] += term.z;
            sums[j][3] += term.w;
        }
    }
    int strip = index % STRIPS, warp = index / STRIPS % WARPS;
    int tile = index / (STRIPS * WARPS) % TILES, slice = index / (STRIPS * WARPS * TILES);
    int row = tile / TILES_N * TILE_M + strip_row(warp, strip);
    int channel = tile % TILES_N * TILE_N + warp % WARPS_N * WARP_N;
    store_strip(sums, strips[own], slice_of(slice), row, channel, packed, residual, y);
}
