// AdamW (Loshchilov & Hutter 2019, algorithm 2) over a flat arena in one pass: four numbers read a parameter, three
// written, and its 16-bit copy. The clip factor is computed here from the gradient's norm, so the host waits for
// nothing; a norm that is not finite leaves everything as it was.
//
// param, m, v are `accum`; the gradient is `scalar` or `accum`; low, the copy, is `scalar`.
#include "common.cuh"

#define PACK (16 / (int)sizeof(accum))  // parameters in 128 bits
#define PACKS_A_THREAD 4                // a block's chunk: blockDim.x * PACKS_A_THREAD * PACK parameters

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

// What is the same for all parameters, computed once. One thread; it also counts the step.
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

// The segments of the arena: where the present one ends, and its decay.
struct segment {
  const long long* ends;
  const accum* decays;
  int index, count;
  long long end;
  accum decay;

  __device__ void look() { end = ends[index], decay = decays[index]; }

  __device__ void find(long long i) {  // the first segment that ends after i
    int low = 0, high = count - 1;
    while (low < high) {
      int mid = (low + high) / 2;
      if (ends[mid] > i) high = mid;
      else low = mid + 1;
    }
    index = low, look();
  }

  __device__ void advance(long long i) {  // nearly always there already: memory is read at a boundary only
    while (i >= end && index < count - 1) index++, look();
  }
};

struct shared_numbers {  // what one thread of a block fetches for all
  int go, index;
  long long end;
  accum decay, grad_scale, rate, root_scale;
};

template <typename G>
__device__ inline void update(accum* param, const G* grad, accum* m, accum* v, scalar* low, const double* rates,
                              const double* norm, const long long* ends, const accum* decays, accum beta1,
                              accum beta2, accum rest1, accum rest2, accum eps, accum learning_rate, int S,
                              long long n) {
  __shared__ shared_numbers shared;
  long long first = blockIdx.x * (long long)(blockDim.x * PACKS_A_THREAD * PACK);
  segment at = {ends, decays, 0, S, 0, 0};
  if (threadIdx.x == 0) {
    shared.go = isfinite(norm[0]);
    if (shared.go) {
      at.find(first);
      shared.index = at.index, shared.end = at.end, shared.decay = at.decay;
      shared.grad_scale = (accum)rates[0], shared.rate = (accum)rates[1], shared.root_scale = (accum)rates[2];
    }
  }
  __syncthreads();
  if (!shared.go) return;
  accum grad_scale = shared.grad_scale, rate = shared.rate, root_scale = shared.root_scale;
  at.index = shared.index, at.end = shared.end, at.decay = shared.decay;
  for (int k = 0; k < PACKS_A_THREAD; k++) {
    long long i = first + (k * blockDim.x + threadIdx.x) * PACK, left = n - i;
    if (left <= 0) break;
    pack<G, PACK> g = load_part<PACK>(grad + i, left);
    pack<accum, PACK> p = load_part<PACK>(param + i, left);
    pack<accum, PACK> first_moment = load_part<PACK>(m + i, left), second_moment = load_part<PACK>(v + i, left);
    pack<scalar, PACK> copy;
    for (int j = 0; j < PACK; j++) {
      at.advance(i + j);
      accum d = widened(g.at[j]) * grad_scale;
      accum m1 = beta1 * first_moment.at[j] + rest1 * d, v1 = beta2 * second_moment.at[j] + rest2 * d * d;
      accum shrunk = p.at[j] * ((accum)1 - learning_rate * at.decay);
      p.at[j] = shrunk - rate * m1 / (sqrt(v1) * root_scale + eps);
      first_moment.at[j] = m1, second_moment.at[j] = v1, copy.at[j] = to_scalar(p.at[j]);
    }
    store_part<PACK>(param + i, p, left);
    store_part<PACK>(m + i, first_moment, left);
    store_part<PACK>(v + i, second_moment, left);
    if (low) store_part<PACK>(low + i, copy, left);
  }
}

// ends (S,), decays (S,): segment s ends before element ends[s] and decays by decays[s]. low may be null.
extern "C" __global__ void __launch_bounds__(256)
    fused_adamw_step(accum* param, const scalar* grad, accum* m, accum* v, scalar* low, const double* rates,
                     const double* norm, const long long* ends, const accum* decays, accum beta1, accum beta2,
                     accum rest1, accum rest2, accum eps, accum learning_rate, int S, long long n) {
  update(param, grad, m, v, low, rates, norm, ends, decays, beta1, beta2, rest1, rest2, eps, learning_rate, S, n);
}

// The same for a gradient that was summed up in full precision.
extern "C" __global__ void __launch_bounds__(256)
    fused_adamw_step_wide(accum* param, const accum* grad, accum* m, accum* v, scalar* low, const double* rates,
                          const double* norm, const long long* ends, const accum* decays, accum beta1, accum beta2,
                          accum rest1, accum rest2, accum eps, accum learning_rate, int S, long long n) {
  update(param, grad, m, v, low, rates, norm, ends, decays, beta1, beta2, rest1, rest2, eps, learning_rate, S, n);
}
