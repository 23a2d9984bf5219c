// Rows of x in chunks of pixels: a channel's pixels lie side by side in memory (channels first, 1x1), so
// shared memory holds one row per channel, and matrices are turned when they are loaded.

constexpr int DEPTH_CHUNKS = TILE_M / CHUNK;  // of one channel
constexpr int PARTS = CHUNK / TOGETHER;  // copies of a chunk: pixels of one image alone are neighbours
constexpr int DEPTH_PASS = TILE_M / WARP_M * (TILE_N / WARP_N) * 32 / DEPTH_CHUNKS;

// A thread's share: one chunk of the pixels, of every DEPTH_PASS-th channel.
struct Rows {
    int base[PARTS];

    __device__ inline Rows(Slice slice, int first_row) {
        first_row += threadIdx.x % DEPTH_CHUNKS * CHUNK;
#pragma unroll
        for (int i = 0; i < PARTS; ++i) {
            // Pixels past the end repeat the last ones; nobody stores them.
            int row = first_row + i * TOGETHER;
            row = row < PIXELS ? row : PIXELS - TOGETHER;
            base[i] = row / PIXELS_W * X_N + slice.group * X_G + row % PIXELS_W;
        }
    }
};

__device__ inline int place_of(int k, int chunk) {
    return (k * DEPTH_CHUNKS + (chunk ^ (k & 7))) * 16;
}

// Starts the copies of a tile of x: TILE_K channels of TILE_M pixels.
__device__ inline void copy_rows(char* target, const element* x, const Rows& rows, Slice slice,
                                 int depth, int tile) {
    int chunk = threadIdx.x % DEPTH_CHUNKS, first = threadIdx.x / DEPTH_CHUNKS;
#pragma unroll
    for (int i = 0; i < A_COPIES; ++i) {
        int within = first + i * DEPTH_PASS, k = tile * TILE_K + within;
        bool exists = k < depth;
#pragma unroll
        for (int part = 0; part < PARTS; ++part)
            copy_async<TOGETHER * (int)sizeof(element)>(
                target + place_of(within, chunk) + part * TOGETHER * (int)sizeof(element),
                x + (exists ? rows.base[part] + k * X_C : 0),
                exists ? TOGETHER * (int)sizeof(element) : 0);
    }
}

// Operand A of 16 rows from `row` on and 16 channels.
__device__ inline void load_rows(unsigned (&a)[4], const char* stage, int row, int step) {
    int lane = threadIdx.x % 32, matrix = lane / 8;
    int k = step * 16 + matrix / 2 * 8 + lane % 8;
    load_turned_matrices(a, stage + place_of(k, row / CHUNK + matrix % 2));
}
