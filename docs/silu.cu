// SiLU, x * sigmoid(x), and its gradient: the worked example of docs/gpu.md. One thread takes 128 bits.
#include "common.cuh"

__device__ inline accum sigmoid(accum x) { return (accum)1 / ((accum)1 + exp(-x)); }

extern "C" __global__ void __launch_bounds__(256)
    silu_forward(scalar* __restrict__ out, const scalar* __restrict__ x, long long n) {
  long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
  if (i >= n) return;
  bool wide = aligned(out) && aligned(x);
  vec v = load(x, i, n, wide);
#pragma unroll
  for (int j = 0; j < VEC; j++) {
    accum a = to_accum(v.at[j]);
    v.at[j] = to_scalar(a * sigmoid(a));
  }
  store(out, v, i, n, wide);
}

extern "C" __global__ void __launch_bounds__(256)
    silu_backward(scalar* __restrict__ dx, const scalar* __restrict__ dout, const scalar* __restrict__ x, long long n) {
  long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
  if (i >= n) return;
  bool wide = aligned(dx) && aligned(dout) && aligned(x);
  vec d = load(dout, i, n, wide), v = load(x, i, n, wide);
#pragma unroll
  for (int j = 0; j < VEC; j++) {
    accum a = to_accum(v.at[j]), s = sigmoid(a);
    d.at[j] = to_scalar(to_accum(d.at[j]) * s * ((accum)1 + a * ((accum)1 - s)));
  }
  store(dx, d, i, n, wide);
}
