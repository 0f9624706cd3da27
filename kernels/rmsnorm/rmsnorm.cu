// rmsnorm (Zhang & Sennrich 2019) over the last axis. Arrays (N, C), rstd (N).
//
// Each array is read once: a row stays in registers from the first pass over it to the last, see rows.cuh.
#include "rows.cuh"

__device__ inline accum sum_of_squares(const vec row[ITEMS], accum scale, accum* scratch) {
  accum squares = 0;
#pragma unroll
  for (int k = 0; k < ITEMS; k++)
    for (int j = 0; j < VEC; j++) {
      accum x = to_accum(row[k].at[j]) / scale;  // past column C: 0
      squares += x * x;
    }
  return block_sum(squares, scratch);
}

// 1 / sqrt(mean of squares + eps) of a row. Where squares overflow or vanish it is divided by its largest number.
__device__ inline accum reciprocal_norm(const vec row[ITEMS], accum eps, int C, accum* scratch) {
  accum squares = sum_of_squares(row, 1, scratch);
  if (in_range(squares)) return (accum)1 / sqrt(squares / C + eps);
  accum scale = largest_magnitude(row, scratch);
  return 1 / hypot(sqrt(sum_of_squares(row, scale, scratch) / C) * scale, sqrt(eps));
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 1)
    rmsnorm_forward(scalar* out, accum* rstd, const scalar* x, const scalar* weight, accum eps, long long N, int C,
                    int rows) {
  __shared__ accum scratch[WARP];
  bool wide = C % VEC == 0 && aligned(out) && aligned(x) && aligned(weight);
  long long row = (long long)blockIdx.x * rows, last = row + rows < N ? row + rows : N;
  vec w[ITEMS], now[ITEMS], next[ITEMS];
  load_row(w, weight, C, wide);
  if (ITEMS == 1) load_row(next, x + row * C, C, wide);
  for (; row < last; row++) {
    take_row(now, next, x + row * C, row + 1 < last, C, wide);
    accum r = reciprocal_norm(now, eps, C, scratch);
#pragma unroll
    for (int k = 0; k < ITEMS; k++) {
      vec y;
      for (int j = 0; j < VEC; j++) y.at[j] = to_scalar(to_accum(now[k].at[j]) * r * to_accum(w[k].at[j]));
      store(out + row * C, y, column(k), C, wide);
    }
    if (threadIdx.x == 0) rstd[row] = r;
  }
}

// partials (gridDim.x, C): each block's share of dweight, for column_sums.cu to add up.
//     dxhat = dout * weight;  dx = (dxhat - xhat * mean(dxhat * xhat)) * rstd
extern "C" __global__ void __launch_bounds__(MAX_THREADS, 1)
    rmsnorm_backward(scalar* dx, accum* partials, const scalar* dout, const scalar* x, const scalar* weight,
                     const accum* rstd, long long N, int C, int rows) {
  __shared__ accum scratch[WARP];
  bool wide = C % VEC == 0 && aligned(dx) && aligned(partials) && aligned(dout) && aligned(x) && aligned(weight);
  long long first = (long long)blockIdx.x * rows, last = first + rows < N ? first + rows : N;
  vec w[ITEMS], d_now[ITEMS], d_next[ITEMS], x_now[ITEMS], x_next[ITEMS];
  accum dweight[ITEMS][VEC] = {};
  load_row(w, weight, C, wide);
  if (ITEMS == 1) load_row(d_next, dout + first * C, C, wide);
  if (ITEMS == 1) load_row(x_next, x + first * C, C, wide);
  for (long long row = first; row < last; row++) {
    accum r = rstd[row], along_xhat = 0;  // dxhat's component along xhat
    take_row(d_now, d_next, dout + row * C, row + 1 < last, C, wide);
    take_row(x_now, x_next, x + row * C, row + 1 < last, C, wide);
#pragma unroll
    for (int k = 0; k < ITEMS; k++)
      for (int j = 0; j < VEC; j++) {
        accum d = to_accum(d_now[k].at[j]), xhat = to_accum(x_now[k].at[j]) * r;  // past column C: d is 0
        along_xhat += d * to_accum(w[k].at[j]) * xhat, dweight[k][j] += d * xhat;
      }
    along_xhat = block_sum(along_xhat, scratch) / C;
#pragma unroll
    for (int k = 0; k < ITEMS; k++) {
      vec y;
      for (int j = 0; j < VEC; j++) {
        accum dxhat = to_accum(d_now[k].at[j]) * to_accum(w[k].at[j]);
        y.at[j] = to_scalar((dxhat - to_accum(x_now[k].at[j]) * r * along_xhat) * r);
      }
      store(dx + row * C, y, column(k), C, wide);
    }
  }
#pragma unroll
  for (int k = 0; k < ITEMS; k++) store(partials + (long long)blockIdx.x * C, dweight[k], column(k), C, wide);
}
