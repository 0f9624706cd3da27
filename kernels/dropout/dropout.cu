// Dropout. The mask is a function of (key, index), computed in registers and never stored; backward is the same kernel.
#include "common.cuh"

#define GROUP (VEC < 4 ? 4 : VEC)  // elements a thread handles: whole Philox counters, of four words each

// out[i] = x[i] * scale if word i is below the keep_threshold, else x[i] * 0. Word i is word i % 4 of the counter i / 4.
extern "C" __global__ void __launch_bounds__(256)
    dropout(scalar* __restrict__ out, const scalar* __restrict__ x, long long n, unsigned long long keep_threshold,
            accum scale, unsigned k0, unsigned k1) {
  long long first = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * GROUP;
  bool wide = aligned(out) && aligned(x);
  if (first >= n) return;
  unsigned words[GROUP];
#pragma unroll
  for (int g = 0; g < GROUP; g += 4) {
    unsigned long long counter = (unsigned long long)(first + g) / 4;
    philox((unsigned)counter, (unsigned)(counter >> 32), 0, 0, k0, k1, words + g);
  }
#pragma unroll
  for (int g = 0; g < GROUP; g += VEC) {
    vec v = load(x, first + g, n, wide);
#pragma unroll
    for (int j = 0; j < VEC; j++)
      v.at[j] = to_scalar(to_accum(v.at[j]) * (words[g + j] < keep_threshold ? scale : (accum)0));
    store(out, v, first + g, n, wide);
  }
}
