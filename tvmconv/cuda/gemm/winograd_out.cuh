// Winograd's transform of sums: y[tile] = epilogue(Ah sums Aw). A thread has two channels of a tile and
// reads them as partial.cuh left them, point by point and split by split, eight bytes at a time.

constexpr int FRAGMENTS = TILES * WARPS * STRIPS * (WARP_N / 8);  // of a point: 16 tiles, 8 channels

// Sums of two channels of a tile at a point.
__device__ inline float2 sums_at(const float2* sums, int point) {
    float2 total = make_float2(0.0f, 0.0f);
#pragma unroll
    for (int split = 0; split < SPLIT; ++split) {
        float2 part = sums[((size_t)split * SLICES + point) * (FRAGMENTS * 64)];
        total.x += part.x;
        total.y += part.y;
    }
    return total;
}

// Stores one output of each of a thread's channels, those that exist.
__device__ inline void store_pair(const float (&values)[2], int at, int channel, int group,
                                  const element* packed, const element* residual, element* y) {
#pragma unroll
    for (int c = 0; c < 2; c += OWN_CHANNELS) {
        if (channel + c >= CHANNELS) continue;
        Finish finish(packed, group * CHANNELS_PADDED + channel + c);
        Vector<OWN_CHANNELS> stored, added;
        if (HAS_RESIDUAL) added = *(const Vector<OWN_CHANNELS>*)(residual + at + c * Y_C);
#pragma unroll
        for (int own = 0; own < OWN_CHANNELS; ++own)
            stored.at[own] = finish(values[c + own], own, added.at[own]);
        *(Vector<OWN_CHANNELS>*)(y + at + c * Y_C) = stored;
    }
}

__device__ inline void finish(const element* packed, const element* residual, element* y,
                              const float* partial) {
    int index = blockIdx.x * FINISH_THREADS + threadIdx.x;
    int within = index % 64, fragment = index / 64 % FRAGMENTS, outer = index / 64 / FRAGMENTS;
    int eight = fragment % (WARP_N / 8), rest = fragment / (WARP_N / 8);
    int warp = rest / STRIPS % WARPS, block = rest / STRIPS / WARPS;
    int row = block / TILES_N * TILE_M + strip_row(warp, rest % STRIPS) + within / 8 + within % 2 * 8;
    int channel = block % TILES_N * TILE_N + warp % WARPS_N * WARP_N + eight * 8 + within / 2 % 4 * 2;
    if (row >= PIXELS || channel >= CHANNELS) return;
    const float2* sums = (const float2*)partial
                         + ((size_t)outer * (POINTS_H * POINTS_W) * FRAGMENTS + fragment) * 64 + within;
    float half[2][POINTS_H][M_W];
#pragma unroll
    for (int i = 0; i < POINTS_H; ++i) {
        float points[2][POINTS_W];
#pragma unroll
        for (int j = 0; j < POINTS_W; ++j) {
            float2 both = sums_at(sums, i * POINTS_W + j);
            points[0][j] = both.x;
            points[1][j] = both.y;
        }
        transform_output_w(points[0], half[0][i]);
        transform_output_w(points[1], half[1][i]);
    }
    Pixel pixel = pixel_of(row);
    int group = outer / (PARTS_H * PARTS_W);
    int part_h = outer / PARTS_W % PARTS_H, part_w = outer % PARTS_W;
    int image = pixel.n * Y_N + group * Y_G + channel * Y_C + pixel.d * Y_D;
#pragma unroll
    for (int j = 0; j < M_W; ++j) {
        float column[2][POINTS_H], values[2][M_H];
#pragma unroll
        for (int i = 0; i < POINTS_H; ++i) {
            column[0][i] = half[0][i][j];
            column[1][i] = half[1][i][j];
        }
        transform_output_h(column[0], values[0]);
        transform_output_h(column[1], values[1]);
        int w = position<M_W, DILATION_W>(pixel.w % TILES_W, j) * PARTS_W + part_w;
#pragma unroll
        for (int i = 0; i < M_H; ++i) {
            int h = position<M_H, DILATION_H>(pixel.w / TILES_W, i) * PARTS_H + part_h;
            if (h >= OUT_H || w >= OUT_W) continue;
            float both[2] = {values[0][i], values[1][i]};
            store_pair(both, image + h * Y_H + w * Y_W, channel, group, packed, residual, y);
        }
    }
}
