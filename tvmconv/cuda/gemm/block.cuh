// A block's tile: copies of weights, and where the sums of a warp go. Sums of a warp are strips of 16
// rows and WARP_N channels, in the order of mma.m16n8.

constexpr int WARPS_N = TILE_N / WARP_N;
constexpr int WARPS = TILE_M / WARP_M * WARPS_N;
constexpr int THREADS = 32 * WARPS;
constexpr int STRIPS = WARP_M / 16;
constexpr int A_BYTES = TILE_M * ROW_CHUNKS * 16;
constexpr int B_BYTES = TILE_N * ROW_CHUNKS * 16;
constexpr int STAGE_BYTES = A_BYTES + B_BYTES;

// Row within the block at which a warp's strip starts; the instructions decide.
__device__ inline int strip_row(int warp, int strip);

// A block's part of the product.
struct Part {
    Slice slice;
    int tile_m, tile_n;
    int depth, first, last;  // elements of depth of the slice; tiles of depth of this block
    const char* weights;

    __device__ inline Part(const element* packed) : slice(slice_of(blockIdx.y)) {
        // Blocks that run together share rows of x, which are more than the weights.
        tile_n = blockIdx.x % TILES_N, tile_m = blockIdx.x / TILES_N;
        depth = depth_of(slice);
        int tiles = (depth + TILE_K - 1) / TILE_K;
        first = SPLIT == 1 ? 0 : (int)blockIdx.z * tiles / SPLIT;
        last = SPLIT == 1 ? tiles : ((int)blockIdx.z + 1) * tiles / SPLIT;
        weights = (const char*)packed
                  + (size_t)((blockIdx.y * TILES_N + tile_n) * TILES_K) * B_BYTES;
    }
};

// Starts the copies of a tile of depth, x first; weights lie in memory as they do in shared memory.
template <class Weights>
__device__ inline void copy_stage(char* shared, int stage, const element* x, const Rows& rows,
                                  const Part& part, const Weights& weights, int tile) {
    char* target = shared + stage * STAGE_BYTES;
    copy_rows(target, x, rows, part.slice, part.depth, tile);
    weights.start(target + A_BYTES, part.weights + (size_t)tile * B_BYTES, stage);
}
