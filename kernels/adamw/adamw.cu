// One step of AdamW (Loshchilov & Hutter 2019, algorithm 2), in place on param, m and v, all (n,).
#include "common.cuh"

// rate: the learning rate over m's bias correction; root_scale: 1 / sqrt(v's bias correction);
// decay_factor: 1 - learning rate * weight decay
extern "C" __global__ void __launch_bounds__(256)
    adamw_step(scalar* param, const scalar* grad, scalar* m, scalar* v, accum beta1, accum beta2, accum one_minus_beta1,
               accum one_minus_beta2, accum eps, accum rate, accum root_scale, accum decay_factor, accum grad_scale,
               long long n) {
  long long i = (blockIdx.x * (long long)blockDim.x + threadIdx.x) * VEC, left = n - i;
  if (left <= 0) return;
  pack<scalar, VEC> g = load_part<VEC>(grad + i, left), p = load_part<VEC>(param + i, left);
  pack<scalar, VEC> first_moment = load_part<VEC>(m + i, left), second_moment = load_part<VEC>(v + i, left);
  for (int j = 0; j < VEC; j++) {
    accum d = to_accum(g.at[j]) * grad_scale;
    accum m1 = beta1 * to_accum(first_moment.at[j]) + one_minus_beta1 * d;
    accum v1 = beta2 * to_accum(second_moment.at[j]) + one_minus_beta2 * d * d;
    p.at[j] = to_scalar(decay_factor * to_accum(p.at[j]) - rate * m1 / (sqrt(v1) * root_scale + eps));
    first_moment.at[j] = to_scalar(m1), second_moment.at[j] = to_scalar(v1);
  }
  store_part<VEC>(param + i, p, left);
  store_part<VEC>(m + i, first_moment, left);
  store_part<VEC>(v + i, second_moment, left);
}
