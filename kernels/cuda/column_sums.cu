// The second stage of a sum over all rows. Each block of the first stage has written a row of partial sums.
#include "common.cuh"

#define BLOCK_DIM_Y 16  // rows summed in parallel

// out0[c] = the sum of partials[0, :, c], out1[c] that of partials[1, :, c]. partials (gridDim.y, P, C).
// A block of WARP x BLOCK_DIM_Y threads takes WARP columns; every sum is formed in the same order at every call.
extern "C" __global__ void __launch_bounds__(512)
    column_sums(scalar* __restrict__ out0, scalar* __restrict__ out1, const accum* __restrict__ partials,
                int P, int C) {
  __shared__ accum sums[BLOCK_DIM_Y][WARP];
  int c = blockIdx.x * WARP + threadIdx.x;
  partials += (long long)blockIdx.y * P * C;
  accum sum = 0;
  if (c < C)
    for (int p = threadIdx.y; p < P; p += BLOCK_DIM_Y) sum += partials[(long long)p * C + c];
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || c >= C) return;
  for (int y = 1; y < BLOCK_DIM_Y; y++) sum += sums[y][threadIdx.x];
  (blockIdx.y ? out1 : out0)[c] = to_scalar(sum);
}
