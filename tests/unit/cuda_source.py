"""Hand-written CUDA, so that compiling and launching are tested without any schedule."""

# A sum per thread over 64 staged values; and a kernel whose array must live on the stack.
SOURCE = """
extern "C" __global__ void __launch_bounds__(64) staged(
    const float *__restrict__ x, const float *__restrict__ packed, float *__restrict__ y) {
  __shared__ float rows[64];
  const int at = blockIdx.x * 64 + threadIdx.x;
  rows[threadIdx.x] = x[at];
  __syncthreads();
  float sum = 0.0f;
  for (int i = 0; i < 64; ++i) sum += rows[i] * packed[i * 64 + threadIdx.x];
  y[at] = sum;
}

extern "C" __global__ void __launch_bounds__(32) on_stack(const float *x, float *y) {
  float kept[600];
  for (int i = 0; i < 600; ++i) kept[i] = x[i * threadIdx.x];
  float sum = 0.0f;
  for (int i = 0; i < 600; ++i) sum += kept[(i * (int)x[0]) % 600] * kept[i];
  y[threadIdx.x] = sum;
}
"""
# Too many values for the registers that the launch bounds leave.
SPILLING = """
extern "C" __global__ void __launch_bounds__(1024, 2) spilling(const float *x, float *y) {
  float kept[96];
#pragma unroll
  for (int i = 0; i < 96; ++i) kept[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 96; ++i) y[i * 1024 + threadIdx.x] = kept[i] * kept[(i * 7 + 5) % 96];
}
"""
