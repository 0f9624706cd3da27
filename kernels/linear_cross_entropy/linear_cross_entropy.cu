// What the language model's head fused with its loss needs besides matrix products and softmax_cross_entropy.cu.
#include "common.cuh"

#define PACK (16 / (int)sizeof(accum))

// total (n,) += x, in full precision: the weight's gradient over chunks of tokens. first: total = x.
extern "C" __global__ void __launch_bounds__(256)
    accumulate(accum* total, const scalar* x, int first, long long n) {
  long long i = (blockIdx.x * (long long)blockDim.x + threadIdx.x) * PACK, left = n - i;
  if (left <= 0) return;
  pack<scalar, PACK> part = load_part<PACK>(x + i, left);
  pack<accum, PACK> sum = {};
  if (!first) sum = load_part<PACK>(total + i, left);
  for (int j = 0; j < PACK; j++) sum.at[j] += to_accum(part.at[j]);
  store_part<PACK>(total + i, sum, left);
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
