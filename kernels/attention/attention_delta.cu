// The first kernel of attention's backward pass, for ordinary and for tensor cores. Letters as in attention.cu.
#include "common.cuh"

// delta = sum over d of dout * out, which softmax's gradient subtracts. One warp a query, in the order of (B, H, T).
extern "C" __global__ void attention_delta(accum* delta, const scalar* dout, long long dout_b, long long dout_h,
                                           long long dout_t, const scalar* out, long long out_b, long long out_h,
                                           long long out_t, int H, int T, int D, long long n) {
  long long i = (long long)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, bh = i / T, t = i % T;
  if (i >= n) return;
  dout += bh / H * dout_b + bh % H * dout_h + t * dout_t, out += bh / H * out_b + bh % H * out_h + t * out_t;
  bool whole = D % VEC == 0 && ((unsigned long long)dout | (unsigned long long)out) % 16 == 0;
  int lane = threadIdx.x % WARP;
  accum sum = 0;
  if (whole) {
    for (int d = lane * VEC; d < D; d += WARP * VEC) {
      vec x = load(dout + d), y = load(out + d);
      for (int e = 0; e < VEC; e++) sum += to_accum(x.at[e]) * to_accum(y.at[e]);
    }
  } else {
    for (int d = lane; d < D; d += WARP) sum += to_accum(dout[d]) * to_accum(out[d]);
  }
  sum = warp_sum(sum);
  if (lane == 0) delta[i] = sum;
}
