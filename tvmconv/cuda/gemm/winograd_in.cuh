// Winograd's transform of x: v[group, phases, point][tile][channel] = Bh patch Bw, rounded once to an
// element. A thread has a tile and two channels; neighbouring lanes have neighbouring channels.

// Place along an axis of input, or output, `i` of a tile: tiles of a dilated axis interleave.
template <int m, int dilation>
__device__ inline int position(int tile, int i) {
    return (tile / dilation * m + i) * dilation + tile % dilation;
}

// What two channels of x are at coordinates of the map, or of its copy; zeros outside.
__device__ inline Vector<2> pair_at(const element* x, int d, int h, int w) {
    bool inside = true;
    if (READ_TESTED_D) inside &= (unsigned)d < (unsigned)READ_EXTENT_D;
    if (READ_TESTED_H) inside &= (unsigned)h < (unsigned)READ_EXTENT_H;
    if (READ_TESTED_W) inside &= (unsigned)w < (unsigned)READ_EXTENT_W;
    Vector<2> pair = {};
    if (inside) pair = *(const Vector<2>*)(x + d * READ_D + h * READ_H + w * READ_W);
    return pair;
}

__device__ inline void transform(const element* x, element* v) {
    int index = blockIdx.x * TRANSFORM_THREADS + threadIdx.x;
    if (index >= TRANSFORMS) return;
    int channel = index % (RUN / 2) * 2, rest = index / (RUN / 2);
    int tile = rest % TILES_IN, outer = rest / TILES_IN;  // of a group and its phases
    int tile_w = tile % TILES_W, tile_h = tile / TILES_W % TILES_H;
    int d = tile / (TILES_W * TILES_H) % SLICES_D, n = tile / (TILES_W * TILES_H * SLICES_D);
    int group = outer / (PARTS_H * PARTS_W);
    int from_h = start_h(outer / PARTS_W % PARTS_H), from_w = start_w(outer % PARTS_W);
    const element* from = x + n * READ_N + group * READ_G + channel;
    float half[2][POINTS_H][POINTS_W];
#pragma unroll
    for (int i = 0; i < POINTS_H; ++i) {
        float row[2][POINTS_W];
#pragma unroll
        for (int j = 0; j < POINTS_W; ++j) {
            Vector<2> pair = pair_at(from, d + READ_LOW_D, position<M_H, DILATION_H>(tile_h, i) + from_h,
                                     position<M_W, DILATION_W>(tile_w, j) + from_w);
            row[0][j] = float_of(pair.at[0]);
            row[1][j] = float_of(pair.at[1]);
        }
        transform_input_w(row[0], half[0][i]);
        transform_input_w(row[1], half[1][i]);
    }
    element* to = v + (outer * (POINTS_H * POINTS_W) * TILES_IN + tile) * RUN + channel;
#pragma unroll
    for (int j = 0; j < POINTS_W; ++j) {
        float column[2][POINTS_H], points[2][POINTS_H];
#pragma unroll
        for (int i = 0; i < POINTS_H; ++i) {
            column[0][i] = half[0][i][j];
            column[1][i] = half[1][i][j];
        }
        transform_input_h(column[0], points[0]);
        transform_input_h(column[1], points[1]);
#pragma unroll
        for (int i = 0; i < POINTS_H; ++i) {
            Vector<2> pair = {element_of(points[0][i]), element_of(points[1][i])};
            *(Vector<2>*)(to + (i * POINTS_W + j) * (TILES_IN * RUN)) = pair;
        }
    }
}
