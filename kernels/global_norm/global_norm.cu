// The norm of many arrays together: each block forms the norm of BLOCK_ELEMENTS elements of one array, then one block
// joins those. In float64, and always in the same order. Squares of float64 numbers may overflow or vanish: there the
// numbers are divided by the largest of them first, and so are the norms, always.
#include "common.cuh"

#define BLOCK_ELEMENTS 16384  // that a block sums; cuda.py has the same number

// The number itself, to divide by; 1 where it is 0 or not finite.
__device__ inline double divisor(double largest) {
  return largest > 0 && largest - largest == 0 ? largest : 1;
}

__device__ inline double sum_of_squares(const scalar* x, long long first, long long stop, double scale,
                                        double* scratch) {
  double sum = 0;
  for (long long i = first + threadIdx.x * VEC; i < stop; i += blockDim.x * VEC) {
    pack<scalar, VEC> part = load_part<VEC>(x + i, stop - i);
    for (int j = 0; j < VEC; j++) {
      double number = (double)to_accum(part.at[j]);
      if (sizeof(scalar) == 8) number /= scale;
      sum += number * number;
    }
  }
  return block_sum(sum, scratch);
}

__device__ inline double largest_magnitude(const scalar* x, long long first, long long stop, double* scratch) {
  double largest = 0;
  for (long long i = first + threadIdx.x * VEC; i < stop; i += blockDim.x * VEC) {
    pack<scalar, VEC> part = load_part<VEC>(x + i, stop - i);
    for (int j = 0; j < VEC; j++) largest = fmax(largest, fabs((double)to_accum(part.at[j])));
  }
  return divisor(block_max(largest, scratch));
}

extern "C" __global__ void __launch_bounds__(256)
    norms_of_blocks(double* norms, const scalar* x, long long n) {
  __shared__ double scratch[WARP];
  long long first = blockIdx.x * (long long)BLOCK_ELEMENTS;
  long long stop = first + BLOCK_ELEMENTS < n ? first + BLOCK_ELEMENTS : n;
  double sum = sum_of_squares(x, first, stop, 1, scratch), scale = 1;
  if (sizeof(scalar) == 8 && !(sum > 1e-290 && sum - sum == 0)) {
    scale = largest_magnitude(x, first, stop, scratch);
    sum = sum_of_squares(x, first, stop, scale, scratch);
  }
  if (threadIdx.x == 0) norms[blockIdx.x] = scale * sqrt(sum);
}

// One block.
extern "C" __global__ void __launch_bounds__(1024)
    norm_of_norms(double* norm, const double* norms, long long n) {
  __shared__ double scratch[WARP];
  double largest = 0, sum = 0;
  for (long long i = threadIdx.x; i < n; i += blockDim.x) largest = fmax(largest, norms[i]);
  double scale = divisor(block_max(largest, scratch));
  for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += norms[i] / scale * (norms[i] / scale);
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) norm[0] = scale * sqrt(sum);
}
