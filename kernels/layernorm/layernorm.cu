// layernorm (Ba et al. 2016) over the last axis. Arrays (N, C), mean, rstd (N).
//
// Each array is read once: a row stays in registers from the first pass over it to the last, see rows.cuh.
#include "rows.cuh"

// -------------------------------------------------------------------------------------------------- forward

// Mean of a row / scale, which lies in the registers of the block; returns the sum of squared deviations from it.
__device__ inline accum deviations(accum& m, const vec row[ITEMS], accum scale, int C, accum* scratch) {
  accum sum = 0;
#pragma unroll
  for (int k = 0; k < ITEMS; k++)
    for (int j = 0; j < VEC; j++) sum += to_accum(row[k].at[j]) / scale;  // past column C it is 0
  m = block_sum(sum, scratch) / C;
  accum squares = 0;  // of deviations: the mean of squares would cancel for rows far from 0
#pragma unroll
  for (int k = 0; k < ITEMS; k++)
    for (int j = 0; j < VEC; j++) {
      accum d = to_accum(row[k].at[j]) / scale - m;
      if (column(k) + j < C) squares += d * d;
    }
  return block_sum(squares, scratch);
}

// Mean and 1 / sqrt(variance + eps) of a row. Where squares overflow or vanish the row is divided by its largest number.
__device__ inline void statistics(accum& m, accum& r, const vec row[ITEMS], accum eps, int C,
                                  accum* scratch) {
  accum squares = deviations(m, row, 1, C, scratch);
  r = (accum)1 / sqrt(squares / C + eps);
  if (in_range(squares)) return;
  accum scale = largest_magnitude(row, scratch);
  squares = deviations(m, row, scale, C, scratch);
  m *= scale;
  r = 1 / hypot(sqrt(squares / C) * scale, sqrt(eps));
}

__device__ inline void normalise(scalar* out, const vec row[ITEMS], accum m, accum r, const vec weight[ITEMS],
                                 const vec bias[ITEMS], int C, bool wide) {
#pragma unroll
  for (int k = 0; k < ITEMS; k++) {
    vec y;
    for (int j = 0; j < VEC; j++) {
      accum xhat = (to_accum(row[k].at[j]) - m) * r;
      y.at[j] = to_scalar(xhat * to_accum(weight[k].at[j]) + to_accum(bias[k].at[j]));
    }
    store(out, y, column(k), C, wide);
  }
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 1)
    layernorm_forward(scalar* out, accum* mean, accum* rstd, const scalar* x, const scalar* weight,
                      const scalar* bias, accum eps, long long N, int C, int rows) {
  __shared__ accum scratch[WARP];
  bool wide = C % VEC == 0 && aligned(out) && aligned(x) && aligned(weight) && aligned(bias);
  long long row = (long long)blockIdx.x * rows, last = row + rows < N ? row + rows : N;
  vec w[ITEMS], b[ITEMS], now[ITEMS], next[ITEMS];
  load_row(w, weight, C, wide);
  load_row(b, bias, bias ? C : 0, wide);
  if (ITEMS == 1) load_row(next, x + row * C, C, wide);
  for (; row < last; row++) {
    take_row(now, next, x + row * C, row + 1 < last, C, wide);
    accum m, r;
    statistics(m, r, now, eps, C, scratch);
    normalise(out + row * C, now, m, r, w, b, C, wide);
    if (threadIdx.x == 0) mean[row] = m, rstd[row] = r;
  }
}

// ------------------------------------------------------------------------------------------------- backward

// One row of dx, and what it adds to dweight and dbias. dresidual: the row that is added to it, or null.
//     dxhat = dout * weight;  dx = (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)) * rstd + dresidual
__device__ inline void backward_row(scalar* dx, accum dweight[ITEMS][VEC], accum dbias[ITEMS][VEC],
                                    const vec dout[ITEMS], const scalar* dresidual, const vec x[ITEMS],
                                    const vec weight[ITEMS], accum m, accum r, int C, bool wide,
                                    accum* scratch) {
  vec added[ITEMS];
  if (ITEMS == 1) load_row(added, dresidual, dresidual ? C : 0, wide);  // in flight during the sums
  accum along_one = 0, along_xhat = 0;  // dxhat's components along (1, ..., 1) and along xhat
#pragma unroll
  for (int k = 0; k < ITEMS; k++)
    for (int j = 0; j < VEC; j++) {
      accum d = to_accum(dout[k].at[j]), xhat = (to_accum(x[k].at[j]) - m) * r;  // past column C: d is 0
      accum dxhat = d * to_accum(weight[k].at[j]);
      along_one += dxhat, along_xhat += dxhat * xhat;
      dweight[k][j] += d * xhat, dbias[k][j] += d;
    }
  block_sums(along_one, along_xhat, scratch);
  along_one /= C, along_xhat /= C;
  if (ITEMS > 1) load_row(added, dresidual, dresidual ? C : 0, wide);  // after the sums, when registers are free
#pragma unroll
  for (int k = 0; k < ITEMS; k++) {
    vec y;
    for (int j = 0; j < VEC; j++) {
      accum xhat = (to_accum(x[k].at[j]) - m) * r;
      accum dxhat = to_accum(dout[k].at[j]) * to_accum(weight[k].at[j]);
      y.at[j] = to_scalar((dxhat - along_one - xhat * along_xhat) * r + to_accum(added[k].at[j]));
    }
    store(dx, y, column(k), C, wide);
  }
}

// partials (2, gridDim.x, C): each block's sums for dweight and dbias, which column_sums.cu adds up.
extern "C" __global__ void __launch_bounds__(MAX_THREADS, 1)
    layernorm_backward(scalar* dx, accum* partials, const scalar* dout, const scalar* x, const scalar* weight,
                       const accum* mean, const accum* rstd, const scalar* dresidual, long long N, int C,
                       int rows) {
  __shared__ accum scratch[2 * WARP];
  bool wide = C % VEC == 0 && aligned(dx) && aligned(partials) && aligned(dout) && aligned(dresidual) &&
              aligned(x) && aligned(weight);
  long long first = (long long)blockIdx.x * rows, last = first + rows < N ? first + rows : N;
  int lane = threadIdx.x % WARP;
  accum means = 0, rstds = 0;  // of row `lane` of the current 32
  vec w[ITEMS], d_now[ITEMS], d_next[ITEMS], x_now[ITEMS], x_next[ITEMS];
  accum dweight[ITEMS][VEC] = {}, dbias[ITEMS][VEC] = {};
  load_row(w, weight, C, wide);
  if (ITEMS == 1) load_row(d_next, dout + first * C, C, wide);
  if (ITEMS == 1) load_row(x_next, x + first * C, C, wide);
  for (long long row = first; row < last; row++) {
    int number = (row - first) % WARP;
    if (number == 0 && row + lane < last) means = mean[row + lane], rstds = rstd[row + lane];
    accum m = __shfl_sync(FULL_WARP, means, number), r = __shfl_sync(FULL_WARP, rstds, number);
    take_row(d_now, d_next, dout + row * C, row + 1 < last, C, wide);
    take_row(x_now, x_next, x + row * C, row + 1 < last, C, wide);
    const scalar* added = dresidual ? dresidual + row * C : nullptr;
    backward_row(dx + row * C, dweight, dbias, d_now, added, x_now, w, m, r, C, wide, scratch);
  }
  accum* dweights = partials + (long long)blockIdx.x * C;
  accum* dbiases = dweights + (long long)gridDim.x * C;
#pragma unroll
  for (int k = 0; k < ITEMS; k++) {
    store(dweights, dweight[k], column(k), C, wide);
    store(dbiases, dbias[k], column(k), C, wide);
  }
}
