// Rows in registers: what kernels that normalise the last axis share. Arrays (N, C).
//
// A block takes `rows` rows, one after the other. A thread owns the same columns of each: ITEMS groups of VEC
// neighbours. A row stays in registers from the first pass over it to the last, the weights for all rows, so each
// array is read once. The loads of the next row are in flight while the block sums the current one.
#pragma once
#include "common.cuh"

#ifndef ITEMS
#define ITEMS 1  // the launcher takes more for rows that are longer than MAX_THREADS groups
#endif
#define MAX_THREADS (ITEMS == 1 ? 512 : 256)  // so that rows and weights fit the registers

__device__ inline int column(int item) { return (item * blockDim.x + threadIdx.x) * VEC; }

__device__ inline void load_row(vec row[ITEMS], const scalar* x, int C, bool wide) {
#pragma unroll
  for (int k = 0; k < ITEMS; k++) row[k] = load(x, column(k), C, wide);
}

// Puts the row at x into `now` and, if another row follows, starts its loads into `next` (prefetch). With several groups
// a thread there is no prefetch: their loads hide the latency themselves, and registers are scarce.
__device__ inline void take_row(vec now[ITEMS], vec next[ITEMS], const scalar* x, bool another, int C, bool wide) {
  if (ITEMS > 1) return load_row(now, x, C, wide);
  now[0] = next[0];
  if (another) load_row(next, x + C, C, wide);
}

// Whether a sum of squares has neither overflowed nor lost digits to subnormal numbers; false for a NaN.
__device__ inline bool in_range(accum squares) {
  return squares > (accum)(sizeof(accum) == 8 ? 1e-290 : 1e-30) && squares - squares == 0;
}

// The largest magnitude of a row, to divide by; 1 where that is 0 or not finite. The same in every thread.
__device__ inline accum largest_magnitude(const vec row[ITEMS], accum* scratch) {
  accum largest = 0;
#pragma unroll
  for (int k = 0; k < ITEMS; k++)
    for (int j = 0; j < VEC; j++) largest = fmax(largest, fabs(to_accum(row[k].at[j])));
  largest = block_max(largest, scratch);
  return largest > 0 && largest - largest == 0 ? largest : (accum)1;
}

// Sums of a and of b over the block, the same in every thread. scratch: shared memory, 2 * WARP numbers;
// the caller may use it again afterwards.
__device__ inline void block_sums(accum& a, accum& b, accum* scratch) {
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, n_warps = blockDim.x / WARP;
  a = warp_sum(a), b = warp_sum(b);
  if (lane == 0) scratch[warp] = a, scratch[WARP + warp] = b;
  __syncthreads();
  a = warp_sum(lane < n_warps ? scratch[lane] : (accum)0);
  b = warp_sum(lane < n_warps ? scratch[WARP + lane] : (accum)0);
  __syncthreads();
}
