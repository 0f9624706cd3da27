// Elementwise kernels of the head fused with its loss; the rest are matrix products and softmax_cross_entropy.cu.
#include "common.cuh"

// total (n,) += x, in accum: sums the weight's gradient over chunks of tokens. first: total = x instead.
extern "C" __global__ void __launch_bounds__(256)
    accumulate(accum* total, const scalar* x, int first, long long n) {
  long long i = (blockIdx.x * (long long)blockDim.x + threadIdx.x) * ACCUM_VEC, left = n - i;
  if (left <= 0) return;
  pack<scalar, ACCUM_VEC> part = load_part<ACCUM_VEC>(x + i, left);
  pack<accum, ACCUM_VEC> sum = {};
  if (!first) sum = load_part<ACCUM_VEC>(total + i, left);
  for (int j = 0; j < ACCUM_VEC; j++) sum.at[j] += to_accum(part.at[j]);
  store_part<ACCUM_VEC>(total + i, sum, left);
}

// out = x * dout / grad_scale
extern "C" __global__ void __launch_bounds__(256)
    rescale(scalar* out, const scalar* x, const accum* dout, accum grad_scale, long long n) {
  long long i = (blockIdx.x * (long long)blockDim.x + threadIdx.x) * VEC, left = n - i;
  if (left <= 0) return;
  accum factor = dout[0] / grad_scale;
  pack<scalar, VEC> part = load_part<VEC>(x + i, left);
  for (int j = 0; j < VEC; j++) part.at[j] = to_scalar(to_accum(part.at[j]) * factor);
  store_part<VEC>(out + i, part, left);
}
