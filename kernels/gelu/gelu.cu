// GELU (Hendrycks & Gimpel 2016), exact and in GPT-2's tanh form.
//
// The tanh form uses 0.5 * (1 + tanh(u)) = sigmoid(2u), which needs one exponential and has no cancellation;
// the exact one erfc, which unlike 1 + erf keeps its digits far in the negative tail.
#include "common.cuh"

__device__ inline accum gelu(accum x, int tanh_form) {
  const accum TWO_SQRT_2_OVER_PI = (accum)1.5957691216057308, CUBIC = (accum)0.044715;
  if (tanh_form) return x / (1 + exp(-TWO_SQRT_2_OVER_PI * (x + CUBIC * x * x * x)));
  const accum SQRT_HALF = (accum)0.7071067811865476;
  return x * (accum)0.5 * erfc(-x * SQRT_HALF);
}

__device__ inline accum gelu_derivative(accum x, int tanh_form) {
  const accum TWO_SQRT_2_OVER_PI = (accum)1.5957691216057308, CUBIC = (accum)0.044715;
  if (tanh_form) {
    accum square = x * x, s = 1 / (1 + exp(-TWO_SQRT_2_OVER_PI * (x + CUBIC * x * square)));
    return s + x * s * (1 - s) * TWO_SQRT_2_OVER_PI * (1 + 3 * CUBIC * square);
  }
  const accum SQRT_HALF = (accum)0.7071067811865476, INV_SQRT_2PI = (accum)0.3989422804014327;
  return (accum)0.5 * erfc(-x * SQRT_HALF) + x * exp((accum)-0.5 * x * x) * INV_SQRT_2PI;
}

extern "C" __global__ void __launch_bounds__(256)
    gelu_forward(scalar* __restrict__ out, const scalar* __restrict__ x, long long n, int tanh_form) {
  long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
  bool wide = aligned(out) && aligned(x);
  if (i >= n) return;
  vec v = load(x, i, n, wide);
#pragma unroll
  for (int j = 0; j < VEC; j++) v.at[j] = to_scalar(gelu(to_accum(v.at[j]), tanh_form));
  store(out, v, i, n, wide);
}

extern "C" __global__ void __launch_bounds__(256)
    gelu_backward(scalar* __restrict__ dx, const scalar* __restrict__ dout, const scalar* __restrict__ x,
                  long long n, int tanh_form) {
  long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
  bool wide = aligned(dx) && aligned(dout) && aligned(x);
  if (i >= n) return;
  vec v = load(x, i, n, wide), d = load(dout, i, n, wide);
#pragma unroll
  for (int j = 0; j < VEC; j++)
    v.at[j] = to_scalar(to_accum(d.at[j]) * gelu_derivative(to_accum(v.at[j]), tanh_form));
  store(dx, v, i, n, wide);
}
