// For loss scaling: x *= scale for the arrays of a list, and whether all their numbers were finite.
#include "common.cuh"

#define VECS_PER_THREAD 4  // a block takes blockDim.x * VECS_PER_THREAD * VEC elements

// nonfinite (blocks,): 1 where a block met a NaN or an infinity
extern "C" __global__ void __launch_bounds__(256)
    scale_in_place(unsigned char* nonfinite, scalar* x, accum scale, long long n) {
  __shared__ accum scratch[WARP];
  long long first = blockIdx.x * (long long)(blockDim.x * VECS_PER_THREAD * VEC);
  accum found = 0;
  for (int k = 0; k < VECS_PER_THREAD; k++) {
    long long i = first + (k * blockDim.x + threadIdx.x) * VEC;
    pack<scalar, VEC> part = load_part<VEC>(x + i, n - i);
    for (int j = 0; j < VEC; j++) {
      accum number = to_accum(part.at[j]);
      if (!isfinite(number)) found = 1;
      part.at[j] = to_scalar(number * scale);
    }
    store_part<VEC>(x + i, part, n - i);
  }
  found = block_max(found, scratch);
  if (threadIdx.x == 0) nonfinite[blockIdx.x] = found > 0;
}

// flag = 1 if no block met a NaN or an infinity. One block.
extern "C" __global__ void __launch_bounds__(1024)
    all_finite(unsigned char* flag, const unsigned char* nonfinite, long long n) {
  __shared__ accum scratch[WARP];
  accum found = 0;
  for (long long i = threadIdx.x; i < n; i += blockDim.x)
    if (nonfinite[i]) found = 1;
  found = block_max(found, scratch);
  if (threadIdx.x == 0) flag[0] = !(found > 0);
}
