// From sums in registers to y: through shared memory, so that neighbouring lanes store neighbouring
// elements.

constexpr int STRIP_PITCH = WARP_N + STRIP_PAD;  // floats; so rows of a strip start in other banks
constexpr int STRIP_FLOATS = 16 * STRIP_PITCH;

// Where output channel `channel` of a row lies in y, or -1 where the row is no output.
__device__ inline int output_at(Slice slice, int row, int channel) {
    if (Y_ROW > 0) return row < PIXELS ? row * Y_ROW + slice.group * Y_G + channel * Y_C : -1;
    Pixel pixel = pixel_of(row);
    int d = pixel.d * PHASES_D + slice.phase_d;
    int h = pixel.h * PHASES_H + slice.phase_h;
    int w = pixel.w * PHASES_W + slice.phase_w;
    bool exists = row < PIXELS && d < OUT_D && h < OUT_H && w < OUT_W;
    int at = pixel.n * Y_N + slice.group * Y_G + channel * Y_C + d * Y_D + h * Y_H + w * Y_W;
    return exists ? at : -1;
}

// Stores 16 rows and WARP_N channels of sums, of one warp; `strip` is the warp's own memory.
__device__ inline void store_strip(const float (&sums)[WARP_N / 8][4], float* strip, Slice slice,
                                   int first_row, int first_channel, const element* packed,
                                   const element* residual, element* y) {
    int lane = threadIdx.x % 32;
    __syncwarp();
#pragma unroll
    for (int j = 0; j < WARP_N / 8; ++j) {
        float* at = strip + lane / 4 * STRIP_PITCH + j * 8 + lane % 4 * 2;
        *(float2*)at = make_float2(sums[j][0], sums[j][1]);
        *(float2*)(at + 8 * STRIP_PITCH) = make_float2(sums[j][2], sums[j][3]);
    }
    __syncwarp();
    // STORED neighbours are stored at once: channels of a pixel, or pixels of a channel.
    constexpr int ACROSS = CHANNELS_LAST ? WARP_N / STORED : 16 / STORED;
    constexpr int ALONG = CHANNELS_LAST ? 16 : WARP_N;
#pragma unroll
    for (int step = 0; step < ACROSS * ALONG / 32; ++step) {
        int item = step * 32 + lane;
        int across = item % ACROSS * STORED, along = item / ACROSS;
        int row = CHANNELS_LAST ? along : across, column = CHANNELS_LAST ? across : along;
        int channel = first_channel + column;
        int at = output_at(slice, first_row + row, channel);
        if (at < 0 || channel >= CHANNELS) continue;
        Finish finish(packed, slice.group * CHANNELS_PADDED + channel);
        Vector<STORED> values, added;
        if (HAS_RESIDUAL) added = *(const Vector<STORED>*)(residual + at);
#pragma unroll
        for (int i = 0; i < STORED; ++i) {
            const float* sum = strip + row * STRIP_PITCH + column;
            values.at[i] = CHANNELS_LAST ? finish(sum[i], i, added.at[i])
                                         : finish(sum[i * STRIP_PITCH], 0, added.at[i]);
        }
        *(Vector<STORED>*)(y + at) = values;
    }
}
