// Softmax and cross-entropy fused; a block takes a row of logits (V,). It finds the maximum and the sum of exponentials
// in one pass (online softmax, Milakov & Gimelshein 2018) and reads the row again for its gradient.
//
// A row may start anywhere (V = 50257 is odd): its middle is moved 128 bits at a time, both ends element by
// element. Forward begins with the last row: the product that made the logits wrote it last, so it is in the cache.
// Backward for the same reason begins with the first row.
#include "common.cuh"

__device__ inline accum infinity() { return __uint_as_float(0x7f800000u); }
__device__ inline accum not_a_number() { return __uint_as_float(0x7fc00000u); }

// ------------------------------------------------------------------------------------ one row by one block

// The part of a row in whole vecs, elements begin to end. It begins at a multiple of 32 bytes, a sector of memory:
// otherwise a warp's 512 bytes would touch 17 sectors instead of 16.
struct middle {
  int begin, end;
};

__device__ inline middle aligned_middle(const scalar* row, int V) {
  int before = (int)((32 - (unsigned long long)row % 32) % 32 / sizeof(scalar));
  int begin = before < V ? before : V;
  return {begin, begin + (V - begin) / VEC * VEC};
}

struct online_softmax {  // the largest number so far, and the sum of exp(x - highest)
  accum highest, sum;
};

struct wide {
  accum at[VEC];
};

__device__ inline wide widened(const vec& v) {
  wide x;
  for (int j = 0; j < VEC; j++) x.at[j] = to_accum(v.at[j]);
  return x;
}

// The number subtracted before exp: the maximum, but 0 while all numbers are -inf, since -inf - -inf would be NaN.
__device__ inline accum exponent_offset(accum highest) { return highest == -infinity() ? (accum)0 : highest; }

template <int N>
__device__ inline online_softmax include(online_softmax so_far, const accum (&x)[N]) {
  accum highest = so_far.highest;
  for (int j = 0; j < N; j++) highest = fmax(highest, x[j]);  // ignores a NaN; exp below does not
  accum offset = exponent_offset(highest), sum = so_far.sum * exp(so_far.highest - offset);
  for (int j = 0; j < N; j++) sum += exp(x[j] - offset);
  return {highest, sum};
}

// How many of the vecs that a thread reads first stay in its registers until it computes the gradient.
#define REGISTER_VECS (sizeof(scalar) == 8 ? 2 : 4)

// The largest number of a row and the sum of exp(x - largest), the same in every thread. The order of the sum depends on
// the row's alignment and V alone.
__device__ inline online_softmax row_softmax(const scalar* row, int V, vec (&in_registers)[REGISTER_VECS], accum* scratch) {
  middle part = aligned_middle(row, V);
  online_softmax state = {-infinity(), 0};
  int i = part.begin + VEC * threadIdx.x, step = VEC * blockDim.x;
#pragma unroll
  for (int k = 0; k < REGISTER_VECS; k++)
    if (i + k * step < part.end) {
      in_registers[k] = load(row + i + k * step);
      state = include(state, widened(in_registers[k]).at);
    }
#pragma unroll 2
  for (i += REGISTER_VECS * step; i < part.end; i += step) state = include(state, widened(load(row + i)).at);
  int n_ends = V - (part.end - part.begin);
  for (int j = threadIdx.x; j < n_ends; j += blockDim.x) {
    accum x[1] = {to_accum(row[j < part.begin ? j : j - part.begin + part.end])};
    state = include(state, x);
  }
  accum highest = block_max(state.highest, scratch), offset = exponent_offset(highest);
  return {highest, block_sum(state.sum * exp(state.highest - offset), scratch)};
}

struct gradient {  // (softmax(row) - onehot(target)) * scale
  accum highest, share, scale;  // share: 1 / sum(exp(row - highest))
  long long target;
  __device__ scalar of(scalar x, int i) const {
    return to_scalar((exp(to_accum(x) - highest) * share - (i == target ? 1 : 0)) * scale);
  }
  __device__ vec of(vec v, int i) const {
    for (int j = 0; j < VEC; j++) v.at[j] = of(v.at[j], i + j);
    return v;
  }
};

// The gradient into drow, which may be row itself. in_registers: from `row_softmax`, or null.
__device__ inline void row_gradient(scalar* drow, const scalar* row, int V, const vec* in_registers, gradient d) {
  middle part = aligned_middle(row, V);
  if (((unsigned long long)drow - (unsigned long long)row) % 16 != 0) part = {V, V};  // never both aligned
  int i = part.begin + VEC * threadIdx.x, step = VEC * blockDim.x;
#pragma unroll
  for (int k = 0; k < REGISTER_VECS; k++) {
    int at = i + k * step;
    if (at < part.end) store(drow + at, d.of(in_registers ? in_registers[k] : load(row + at), at));
  }
  for (i += REGISTER_VECS * step; i < part.end; i += step) store(drow + i, d.of(load(row + i), i));
  int n_ends = V - (part.end - part.begin);
  for (int k = threadIdx.x; k < n_ends; k += blockDim.x) {
    int j = k < part.begin ? k : k - part.begin + part.end;
    drow[j] = d.of(row[j], j);
  }
}

__device__ inline void zero_row(scalar* drow, int V) {
  middle part = aligned_middle(drow, V);
  vec zeros = {};
  for (int i = part.begin + VEC * threadIdx.x; i < part.end; i += VEC * blockDim.x) store(drow + i, zeros);
  int n_ends = V - (part.end - part.begin);
  for (int k = threadIdx.x; k < n_ends; k += blockDim.x)
    drow[k < part.begin ? k : k - part.begin + part.end] = to_scalar(0);
}

// A target outside of the vocabulary makes the loss NaN: a kernel cannot raise, and must not read outside of the row.
__device__ inline double row_loss(const scalar* row, int V, online_softmax softmax, long long target) {
  if (target < 0 || target >= V) return not_a_number();
  return (double)softmax.highest - (double)to_accum(row[target]) + (double)log(softmax.sum);
}

// --------------------------------------------------------------------------------------------- the kernels

// logsumexp (N, 2): of each row the largest number, and the logarithm of the sum of exp(x - largest). Added, they would
// lose the digits that a difference from other large numbers needs.
extern "C" __global__ void __launch_bounds__(512)
    softmax_cross_entropy_forward(double* losses, accum* logsumexp, const scalar* logits, const long long* targets,
                                  long long ignore_index, int V) {
  __shared__ accum scratch[WARP];
  long long n = gridDim.x - 1 - blockIdx.x;
  const scalar* row = logits + n * V;
  vec unused[REGISTER_VECS];
  online_softmax softmax = row_softmax(row, V, unused, scratch);
  if (threadIdx.x == 0) {
    long long target = targets[n];
    store_part<2>(logsumexp + 2 * n, pack<accum, 2>{softmax.highest, log(softmax.sum)}, 2);
    losses[n] = target == ignore_index ? 0 : row_loss(row, V, softmax, target);
  }
}

extern "C" __global__ void __launch_bounds__(512)
    softmax_cross_entropy_backward(scalar* dlogits, const accum* dout, const scalar* logits, const long long* targets,
                                   const accum* logsumexp, const long long* divisor, long long ignore_index, int V) {
  long long n = blockIdx.x, target = targets[n];
  scalar* drow = dlogits + n * V;
  if (target == ignore_index) {
    zero_row(drow, V);
    return;
  }
  pack<accum, 2> lse = load_part<2>(logsumexp + 2 * n, 2);
  accum scale = dout[0] / (accum)divisor[0];
  row_gradient(drow, logits + n * V, V, nullptr, {lse.at[0], exp(-lse.at[1]), scale, target});
}

// Loss and gradient at once. The gradient, for an upstream one of grad_scale, overwrites the logits.
extern "C" __global__ void __launch_bounds__(512)
    softmax_cross_entropy_in_place(double* losses, scalar* logits, const long long* targets, const long long* divisor,
                                   long long ignore_index, double grad_scale, int V) {
  __shared__ accum scratch[WARP];
  long long n = gridDim.x - 1 - blockIdx.x, target = targets[n];
  scalar* row = logits + n * V;
  if (target == ignore_index) {
    if (threadIdx.x == 0) losses[n] = 0;
    zero_row(row, V);
    return;
  }
  vec in_registers[REGISTER_VECS];
  online_softmax softmax = row_softmax(row, V, in_registers, scratch);
  if (threadIdx.x == 0) losses[n] = row_loss(row, V, softmax, target);
  __syncthreads();  // the target's logit is read before its gradient is written there
  accum scale = (accum)(grad_scale / (double)divisor[0]);
  row_gradient(row, row, V, in_registers, {softmax.highest, 1 / softmax.sum, scale, target});
}

// divisor = the number of targets that are not ignored, at least 1; or 1 if the losses are not averaged. One block.
extern "C" __global__ void __launch_bounds__(1024)
    count_targets(long long* divisor, const long long* targets, long long ignore_index, int average, long long N) {
  __shared__ double scratch[WARP];
  double count = 0;
  for (long long n = threadIdx.x; n < N; n += blockDim.x) count += targets[n] != ignore_index;
  count = block_sum(count, scratch);  // exact: whole numbers
  if (threadIdx.x == 0) divisor[0] = average && count > 1 ? (long long)count : 1;
}

// loss = sum(losses) / divisor, in float64 and in a fixed order. One block.
extern "C" __global__ void __launch_bounds__(1024)
    sum_losses(accum* loss, const double* losses, const long long* divisor, long long N) {
  __shared__ double scratch[WARP];
  double sum = 0;
  for (long long n = threadIdx.x; n < N; n += blockDim.x) sum += losses[n];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) loss[0] = (accum)(sum / (double)divisor[0]);
}
