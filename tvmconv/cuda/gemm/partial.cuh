// Stores a block's sums as they are, for a later launch, in the order in which lanes hold them.
__device__ inline void store_sums(const float (&sums)[STRIPS][WARP_N / 8][4], char*, const Part&,
                                  const element*, const element*, element*, float* partial) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < STRIPS; ++i) {
        int index = blockIdx.z * STRIPS_PER_SPLIT
                    + ((blockIdx.y * TILES + blockIdx.x) * WARPS + warp) * STRIPS + i;
        float4* own = (float4*)partial + (size_t)index * (WARP_N / 8) * 32 + lane;
#pragma unroll
        for (int j = 0; j < WARP_N / 8; ++j)
            own[j * 32] = make_float4(sums[i][j][0], sums[i][j][1], sums[i][j][2], sums[i][j][3]);
    }
}
