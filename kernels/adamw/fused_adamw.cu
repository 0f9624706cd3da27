// AdamW (Loshchilov & Hutter 2019, algorithm 2) over a flat arena in one pass: for each parameter it reads four
// numbers and writes three, and a 16-bit copy. The clip factor is computed on the device from the gradient's norm,
// so the host does not wait; if the norm is not finite, nothing changes.
//
// param, m, v are `accum`; the gradient is `scalar` or `accum`; low, the copy, is `scalar`.
#include "common.cuh"

#define VECS_PER_THREAD 4  // a block takes blockDim.x * VECS_PER_THREAD * ACCUM_VEC parameters

__device__ inline accum widened(scalar x) { return to_accum(x); }
#if defined(SCALAR_F16) || defined(SCALAR_BF16)
__device__ inline accum widened(accum x) { return x; }
#endif

// beta ** n, n >= 0
__device__ inline double power(double beta, long long n) {
  double product = 1;
  for (; n > 0; n /= 2, beta *= beta)
    if (n % 2) product *= beta;
  return product;
}

// The numbers that all parameters share. One thread; it also counts the step.
//   rates: the factor of the gradient; the learning rate over m's bias correction; 1 / sqrt(v's bias correction)
extern "C" __global__ void fused_adamw_begin(double* rates, long long* step, const double* norm, double learning_rate,
                                             double beta1, double beta2, double max_norm) {
  if (!isfinite(norm[0])) return;
  long long t = step[0] + 1;
  step[0] = t;
  rates[0] = max_norm > 0 ? fmin(1.0, max_norm / (norm[0] + 1e-6)) : 1.0;
  rates[1] = learning_rate / (1 - power(beta1, t));
  rates[2] = 1 / sqrt(1 - power(beta2, t));
}

// The segments of the arena, and the current one: its end and its decay.
struct segment {
  const long long* ends;
  const accum* decays;
  int index, count;
  long long end;
  accum decay;

  __device__ void load() { end = ends[index], decay = decays[index]; }

  __device__ void find(long long i) {  // the first segment that ends after i
    int low = 0, high = count - 1;
    while (low < high) {
      int mid = (low + high) / 2;
      if (ends[mid] > i) high = mid;
      else low = mid + 1;
    }
    index = low, load();
  }

  __device__ void advance(long long i) {  // reads memory at a boundary only
    while (i >= end && index < count - 1) index++, load();
  }
};

struct block_constants {  // one thread reads them for the block
  int finite, index;
  long long end;
  accum decay, grad_scale, rate, root_scale;
};

struct hyperparameters {
  accum beta1, beta2, one_minus_beta1, one_minus_beta2, eps, learning_rate;
};

// rates, norm: of `fused_adamw_begin`. at: the segments; any index.
template <typename G>
__device__ inline void update(accum* param, const G* grad, accum* m, accum* v, scalar* low, const double* rates,
                              const double* norm, segment at, hyperparameters h, long long n) {
  __shared__ block_constants shared;
  long long first = blockIdx.x * (long long)(blockDim.x * VECS_PER_THREAD * ACCUM_VEC);
  if (threadIdx.x == 0) {
    shared.finite = isfinite(norm[0]);
    if (shared.finite) {
      at.find(first);
      shared.index = at.index, shared.end = at.end, shared.decay = at.decay;
      shared.grad_scale = (accum)rates[0], shared.rate = (accum)rates[1], shared.root_scale = (accum)rates[2];
    }
  }
  __syncthreads();
  if (!shared.finite) return;
  accum grad_scale = shared.grad_scale, rate = shared.rate, root_scale = shared.root_scale;
  at.index = shared.index, at.end = shared.end, at.decay = shared.decay;
  for (int k = 0; k < VECS_PER_THREAD; k++) {
    long long i = first + (k * blockDim.x + threadIdx.x) * ACCUM_VEC, left = n - i;
    if (left <= 0) break;
    pack<G, ACCUM_VEC> g = load_part<ACCUM_VEC>(grad + i, left);
    pack<accum, ACCUM_VEC> p = load_part<ACCUM_VEC>(param + i, left);
    pack<accum, ACCUM_VEC> first_moment = load_part<ACCUM_VEC>(m + i, left);
    pack<accum, ACCUM_VEC> second_moment = load_part<ACCUM_VEC>(v + i, left);
    pack<scalar, ACCUM_VEC> copy;
    for (int j = 0; j < ACCUM_VEC; j++) {
      at.advance(i + j);
      accum d = widened(g.at[j]) * grad_scale;
      accum m1 = h.beta1 * first_moment.at[j] + h.one_minus_beta1 * d;
      accum v1 = h.beta2 * second_moment.at[j] + h.one_minus_beta2 * d * d;
      accum decayed = p.at[j] * ((accum)1 - h.learning_rate * at.decay);
      p.at[j] = decayed - rate * m1 / (sqrt(v1) * root_scale + h.eps);
      first_moment.at[j] = m1, second_moment.at[j] = v1, copy.at[j] = to_scalar(p.at[j]);
    }
    store_part<ACCUM_VEC>(param + i, p, left);
    store_part<ACCUM_VEC>(m + i, first_moment, left);
    store_part<ACCUM_VEC>(v + i, second_moment, left);
    if (low) store_part<ACCUM_VEC>(low + i, copy, left);
  }
}

// ends (S,), decays (S,): segment s ends before element ends[s] and decays by decays[s]. low may be null.
extern "C" __global__ void __launch_bounds__(256)
    fused_adamw_step(accum* param, const scalar* grad, accum* m, accum* v, scalar* low, const double* rates,
                     const double* norm, const long long* ends, const accum* decays, accum beta1, accum beta2,
                     accum one_minus_beta1, accum one_minus_beta2, accum eps, accum learning_rate, int S, long long n) {
  hyperparameters h = {beta1, beta2, one_minus_beta1, one_minus_beta2, eps, learning_rate};
  update(param, grad, m, v, low, rates, norm, {ends, decays, 0, S, 0, 0}, h, n);
}

// The same step for a gradient in accum.
extern "C" __global__ void __launch_bounds__(256)
    fused_adamw_step_wide(accum* param, const accum* grad, accum* m, accum* v, scalar* low, const double* rates,
                          const double* norm, const long long* ends, const accum* decays, accum beta1, accum beta2,
                          accum one_minus_beta1, accum one_minus_beta2, accum eps, accum learning_rate, int S,
                          long long n) {
  hyperparameters h = {beta1, beta2, one_minus_beta1, one_minus_beta2, eps, learning_rate};
  update(param, grad, m, v, low, rates, norm, {ends, decays, 0, S, 0, 0}, h, n);
}
