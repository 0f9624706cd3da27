// The norm of many arrays together: each block sums the squares of BLOCK_ELEMENTS elements of one array, then one
// block adds those sums up. In float64, and always in the same order.
#include "common.cuh"

#define BLOCK_ELEMENTS 16384  // that a block sums; cuda.py has the same number

extern "C" __global__ void __launch_bounds__(256)
    sum_of_squares(double* partial, const scalar* x, long long n) {
  __shared__ double scratch[WARP];
  long long first = blockIdx.x * (long long)BLOCK_ELEMENTS;
  long long stop = first + BLOCK_ELEMENTS < n ? first + BLOCK_ELEMENTS : n;
  double sum = 0;
  for (long long i = first + threadIdx.x * VEC; i < stop; i += blockDim.x * VEC) {
    pack<scalar, VEC> part = load_part<VEC>(x + i, stop - i);
    for (int j = 0; j < VEC; j++) {
      double number = (double)to_accum(part.at[j]);
      sum += number * number;
    }
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block.
extern "C" __global__ void __launch_bounds__(1024)
    root_of_sum(double* norm, const double* partial, long long n) {
  __shared__ double scratch[WARP];
  double sum = 0;
  for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) norm[0] = sqrt(sum);
}
