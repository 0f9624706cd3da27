// x *= scale for the arrays of a list, and whether all numbers in them were finite: what loss scaling asks for.
#include "common.cuh"

#define PACKS_A_THREAD 4  // a block's chunk: blockDim.x * PACKS_A_THREAD * VEC elements

// bad (blocks,): 1 where a block met a NaN or an infinity
extern "C" __global__ void __launch_bounds__(256)
    scale_in_place(unsigned char* bad, scalar* x, accum scale, long long n) {
  __shared__ accum scratch[WARP];
  long long first = blockIdx.x * (long long)(blockDim.x * PACKS_A_THREAD * VEC);
  accum met = 0;
  for (int k = 0; k < PACKS_A_THREAD; k++) {
    long long i = first + (k * blockDim.x + threadIdx.x) * VEC;
    pack<scalar, VEC> part = load_part<VEC>(x + i, n - i);
    for (int j = 0; j < VEC; j++) {
      accum number = to_accum(part.at[j]);
      if (!isfinite(number)) met = 1;
      part.at[j] = to_scalar(number * scale);
    }
    store_part<VEC>(x + i, part, n - i);
  }
  met = block_max(met, scratch);
  if (threadIdx.x == 0) bad[blockIdx.x] = met > 0;
}

// flag = 1 if no block met one. One block.
extern "C" __global__ void __launch_bounds__(1024)
    all_finite(unsigned char* flag, const unsigned char* bad, long long n) {
  __shared__ accum scratch[WARP];
  accum met = 0;
  for (long long i = threadIdx.x; i < n; i += blockDim.x)
    if (bad[i]) met = 1;
  met = block_max(met, scratch);
  if (threadIdx.x == 0) flag[0] = !(met > 0);
}
