// Finishes a block's sums and stores them to y. All of shared memory is free by now.
__device__ inline void store_sums(const float (&sums)[STRIPS][WARP_N / 8][4], char* shared,
                                  const Part& part, const element* packed, const element* residual,
                                  element* y, float*) {
    int warp = threadIdx.x / 32;
    float* strip = (float*)shared + warp * STRIP_FLOATS;
#pragma unroll
    for (int i = 0; i < STRIPS; ++i)
        store_strip(sums[i], strip, part.slice, part.tile_m * TILE_M + strip_row(warp, i),
                    part.tile_n * TILE_N + warp % WARPS_N * WARP_N, packed, residual, y);
}
