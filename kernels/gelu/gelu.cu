// GELU (Hendrycks & Gimpel 2016), exact and in GPT-2's tanh form.
//
// The tanh form uses 0.5 * (1 + tanh(u)) = sigmoid(2u) = root * ratio with root = exp(u), ratio = root / (1 + root^2):
// one exponential and no cancellation. A factor with both, one after the other, keeps its digits where the sigmoid
// itself is subnormal. The exact form uses erfc, which unlike 1 + erf keeps its digits far in the negative tail, and
// where that is subnormal its asymptotic series (Abramowitz & Stegun 7.1.23).
#include "common.cuh"

#define INV_SQRT_2PI (accum)0.3989422804014327
#define ERFC_VANISHES (accum)(sizeof(accum) == 8 ? -37 : -13)

struct gate {  // sigmoid(2u) in two factors
  accum root, ratio, square, limited;
};

__device__ inline gate tanh_gate(accum x) {
  const accum SQRT_2_OVER_PI = (accum)0.7978845608028654, CUBIC = (accum)(0.7978845608028654 * 0.044715);
  x = x < -30 ? (accum)-30 : x > (accum)8.7 ? (accum)8.7 : x;  // where the gate is 0 and 1; a NaN stays
  accum square = x * x, root = exp(x * (SQRT_2_OVER_PI + CUBIC * square));
  return {root, root / (1 + root * root), square, x};
}

__device__ inline accum gelu(accum x, int tanh_form) {
  if (tanh_form) {
    gate g = tanh_gate(x);
    return x * g.ratio * g.root;
  }
  if (x < ERFC_VANISHES) {
    accum root = exp((accum)-0.25 * x * x), q = 1 / (x * x);
    return -root * INV_SQRT_2PI * (1 - q * (1 - 3 * q * (1 - 5 * q * (1 - 7 * q)))) * root;
  }
  return x * (accum)0.5 * erfc(-x * (accum)0.7071067811865476);
}

__device__ inline accum gelu_gradient(accum dout, accum x, int tanh_form) {
  if (tanh_form) {
    const accum LINEAR = (accum)1.5957691216057308, SQUARE = (accum)(1.5957691216057308 * 3 * 0.044715);
    gate g = tanh_gate(x);
    return dout * g.ratio * (g.root + g.limited * g.ratio * (LINEAR + SQUARE * g.square));
  }
  x = x < -1000 ? (accum)-1000 : x;  // whose square is no overflow
  bool far = x < ERFC_VANISHES;  // there half of the exponent, twice
  accum root = exp((far ? (accum)-0.25 : (accum)-0.5) * x * x);
  accum cdf = (accum)0.5 * erfc(-x * (accum)0.7071067811865476);
  return dout * cdf + dout * x * root * INV_SQRT_2PI * (far ? root : 1);
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
    v.at[j] = to_scalar(gelu_gradient(to_accum(d.at[j]), to_accum(v.at[j]), tanh_form));
  store(dx, v, i, n, wide);
}
