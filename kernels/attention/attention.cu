// Attention in tiles (FlashAttention-2, Dao 2023, arXiv 2307.08691) on ordinary cores: every number type, head sizes
// D up to 128. Nothing of size T * S is ever stored; sums are held in `accum`; no atomics, so bits repeat.
//
// Tiles as in the paper: a block owns BR queries (in attention_backward_dkv: keys), which stay in shared memory, and
// loops over tiles of BC keys (queries). It has THREADS_Y x 16 threads; each computes REG_ROWS x REG_COLS neighbouring
// scores, then the columns 2 x, 2 x + 1, 2 x + 32, ... of REG_ROWS rows of the result.
//
// q, dout, out, dq (B, H, T, D), k, v, dk, dv (B, H, S, D): views with strides (x_b, x_h, x_t, 1) in elements.
// logsumexp, delta (B, H, T). Causal: query i sees keys 0..i. Dropout keeps a probability if word j % 4 of the
// Philox counter (j / 4, i, b * H + h, 0) is below keep_threshold; 2^32 means no dropout.
#include "common.cuh"

#ifndef HEAD     // the launcher sets these three; the values here are for compiling the file alone
#define HEAD 64  // D rounded up to a multiple of 32
#define BR 32
#define BC 32
#endif
#if defined(SCALAR_F64)
#define THREADS_Y 8
#else
#define THREADS_Y 16
#endif
#define THREADS (THREADS_Y * 16)
// How many blocks an SM must be able to hold: bounds the registers, as far as none spill.
#define FORWARD_BLOCKS (HEAD > 32 || sizeof(scalar) > 2 ? 2 : 1)
#define DQ_BLOCKS (HEAD > 32 && sizeof(scalar) > 2 ? 2 : 1)
#define REG_ROWS (BR / THREADS_Y)  // each 1, 2 or 4
#define REG_COLS (BC / 16)
#define MINUS_INFINITY (-(accum)__int_as_float(0x7f800000))

struct alignas(2 * sizeof(accum)) pair {
  accum at[2];
};
struct dropout {
  unsigned long long keep_threshold;
  accum scale;  // 1 / (1 - p)
  unsigned k0, k1;

  __device__ bool active() const { return keep_threshold >> 32 == 0; }
};

// The offset in a tile of vector c of a row. The XOR sends threads that read the same vector of rows REG_COLS apart to
// different banks.
__device__ inline int swizzled(int row, int c) { return row * HEAD + (c ^ (row / REG_COLS % 8)) * ACCUM_VEC; }

__device__ inline int thread_row() { return threadIdx.x / 16 * REG_ROWS; }  // the first of this thread's rows
__device__ inline int thread_col() { return threadIdx.x % 16 * REG_COLS; }

__device__ inline bool whole_vectors(const scalar* x, long long stride, int D) {
  return D % VEC == 0 && stride % VEC == 0 && (unsigned long long)x % 16 == 0;
}

// tile = rows first .. first + N - 1 of x (n, D); zeros past row n and column D.
template <int N>
__device__ inline void load_tile(accum* tile, const scalar* x, long long stride, int first, int n, int D) {
  bool whole = whole_vectors(x, stride, D);
  for (int i = threadIdx.x; i < N * (HEAD / VEC); i += THREADS) {
    int row = i / (HEAD / VEC), d = i % (HEAD / VEC) * VEC;
    const scalar* from = x + (first + row) * stride + d;
    vec values;
    if (whole && first + row < n && d < D)
      values = load(from);
    else
      for (int e = 0; e < VEC; e++) values.at[e] = first + row < n && d + e < D ? from[e] : to_scalar(0);
    for (int c = 0; c < VEC / ACCUM_VEC; c++) {
      accum_vec y;
      for (int e = 0; e < ACCUM_VEC; e++) y.at[e] = to_accum(values.at[c * ACCUM_VEC + e]);
      *reinterpret_cast<accum_vec*>(tile + swizzled(row, d / ACCUM_VEC + c)) = y;
    }
  }
}

// Rows first .. first + BR - 1 of x (n, D) = tile.
__device__ inline void store_tile(scalar* x, long long stride, int first, int n, int D, const accum* tile) {
  bool whole = whole_vectors(x, stride, D);
  for (int i = threadIdx.x; i < BR * (HEAD / VEC); i += THREADS) {
    int row = i / (HEAD / VEC), d = i % (HEAD / VEC) * VEC;
    if (first + row >= n) return;
    scalar* to = x + (first + row) * stride + d;
    vec values;
    for (int c = 0; c < VEC / ACCUM_VEC; c++) {
      accum_vec y = *reinterpret_cast<const accum_vec*>(tile + swizzled(row, d / ACCUM_VEC + c));
      for (int e = 0; e < ACCUM_VEC; e++) values.at[c * ACCUM_VEC + e] = to_scalar(y.at[e]);
    }
    if (whole && d < D)
      store(to, values);
    else
      for (int e = 0; e < VEC; e++)
        if (d + e < D) to[e] = values.at[e];
  }
}

// product[i][j] = dot product of this thread's row i of a and its row j of b: its part of a b^T.
__device__ inline void multiply_rows(accum product[REG_ROWS][REG_COLS], const accum* a, const accum* b) {
#pragma unroll
  for (int i = 0; i < REG_ROWS; i++)
#pragma unroll
    for (int j = 0; j < REG_COLS; j++) product[i][j] = 0;
#pragma unroll 4
  for (int c = 0; c < HEAD / ACCUM_VEC; c++) {
    accum_vec x[REG_ROWS], y[REG_COLS];
#pragma unroll
    for (int i = 0; i < REG_ROWS; i++) x[i] = *reinterpret_cast<const accum_vec*>(a + swizzled(thread_row() + i, c));
#pragma unroll
    for (int j = 0; j < REG_COLS; j++) y[j] = *reinterpret_cast<const accum_vec*>(b + swizzled(thread_col() + j, c));
    for (int e = 0; e < ACCUM_VEC; e++)
#pragma unroll
      for (int i = 0; i < REG_ROWS; i++)
#pragma unroll
        for (int j = 0; j < REG_COLS; j++) product[i][j] += x[i].at[e] * y[j].at[e];
  }
}

// sum += weights (BR, BC) b (BC, HEAD), for this thread's rows and columns.
__device__ inline void add_weighted(accum sum[REG_ROWS][HEAD / 16], const accum* weights, const accum* b) {
  int x = threadIdx.x % 16 * 2;
#pragma unroll 2
  for (int col = 0; col < BC; col += ACCUM_VEC) {
    accum_vec w[REG_ROWS];
#pragma unroll
    for (int i = 0; i < REG_ROWS; i++)
      w[i] = *reinterpret_cast<const accum_vec*>(weights + (thread_row() + i) * BC + col);
    for (int e = 0; e < ACCUM_VEC; e++)
#pragma unroll
      for (int c = 0; c < HEAD / 32; c++) {
        int at = swizzled(col + e, (x + 32 * c) / ACCUM_VEC) + x % ACCUM_VEC;
        pair y = *reinterpret_cast<const pair*>(b + at);
#pragma unroll
        for (int i = 0; i < REG_ROWS; i++) {
          sum[i][2 * c] += w[i].at[e] * y.at[0];
          sum[i][2 * c + 1] += w[i].at[e] * y.at[1];
        }
      }
  }
}

// Writes this thread's part of a row of the result into a tile, times `scale`.
__device__ inline void write_row(accum* tile, const accum sum[HEAD / 16], int row, accum scale) {
  int x = threadIdx.x % 16 * 2;
#pragma unroll
  for (int c = 0; c < HEAD / 32; c++) {
    pair y = {{sum[2 * c] * scale, sum[2 * c + 1] * scale}};
    *reinterpret_cast<pair*>(tile + swizzled(row, (x + 32 * c) / ACCUM_VEC) + x % ACCUM_VEC) = y;
  }
}

__device__ inline void write_weights(accum* weights, const accum w[REG_ROWS][REG_COLS]) {
#pragma unroll
  for (int i = 0; i < REG_ROWS; i++)
#pragma unroll
    for (int j = 0; j < REG_COLS; j++) weights[(thread_row() + i) * BC + thread_col() + j] = w[i][j];
}

// mask[n] = 0 or 1 / (1 - p) for keys j .. j + N - 1 of query i; N is 1, 2 or 4 and divides j.
template <int N>
__device__ inline void dropout_mask(accum mask[N], int i, int j, int bh, const dropout& drop) {
  unsigned words[4];
  philox(j / 4, i, bh, 0, drop.k0, drop.k1, words);
#pragma unroll
  for (int n = 0; n < N; n++) {
    unsigned word = words[n];
    for (int first = N; first < 4; first += N)
      if (j % 4 == first) word = words[first + n];
    mask[n] = word < drop.keep_threshold ? drop.scale : (accum)0;
  }
}

__device__ inline bool visible(int i, int j, int T, int S, int causal) {
  return i < T && j < S && (!causal || j <= i);
}

// out = softmax(q k^T scale) v, logsumexp of the scaled scores. blockIdx.x: (b, h), then tiles of queries.
extern "C" __global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS) attention_forward(
    scalar* out, long long out_b, long long out_h, long long out_t, accum* logsumexp, const scalar* q, long long q_b,
    long long q_h, long long q_t, const scalar* k, long long k_b, long long k_h, long long k_t, const scalar* v,
    long long v_b, long long v_h, long long v_t, accum scale, int causal, unsigned long long keep_threshold,
    accum keep_scale, unsigned k0, unsigned k1, int H, int T, int S, int D) {
  __shared__ alignas(16) accum q_tile[BR * HEAD], kv_tile[BC * HEAD], weights[BR * BC];
  dropout drop = {keep_threshold, keep_scale, k0, k1};
  int n_tiles = (T + BR - 1) / BR, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = (n_tiles - 1 - blockIdx.x % n_tiles) * BR;  // causal: the longest work first
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h, out += b * out_b + h * out_h;
  accum sum[REG_ROWS][HEAD / 16] = {}, total[REG_ROWS] = {}, highest[REG_ROWS];
#pragma unroll
  for (int i = 0; i < REG_ROWS; i++) highest[i] = MINUS_INFINITY;
  load_tile<BR>(q_tile, q, q_t, first, T, D);
  int n_keys = causal && first + BR < S ? first + BR : S;  // beyond, every key is hidden
  for (int first_key = 0; first_key < n_keys; first_key += BC) {
    __syncthreads();  // all threads have used the values of the last tile
    load_tile<BC>(kv_tile, k, k_t, first_key, S, D);
    __syncthreads();
    accum s[REG_ROWS][REG_COLS];
    multiply_rows(s, q_tile, kv_tile);
#pragma unroll
    for (int i = 0; i < REG_ROWS; i++) {  // 16 neighbouring lanes share a row
      int query = first + thread_row() + i, key = first_key + thread_col();
      accum new_highest = highest[i], row_sum = 0;
#pragma unroll
      for (int j = 0; j < REG_COLS; j++) {
        s[i][j] = key + j < S && (!causal || key + j <= query) ? s[i][j] * scale : MINUS_INFINITY;
        new_highest = fmax(new_highest, s[i][j]);
      }
      for (int lane = 8; lane > 0; lane /= 2)
        new_highest = fmax(new_highest, __shfl_xor_sync(FULL_WARP, new_highest, lane));
#pragma unroll
      for (int j = 0; j < REG_COLS; j++) row_sum += s[i][j] = exp(s[i][j] - new_highest);
      for (int lane = 8; lane > 0; lane /= 2) row_sum += __shfl_xor_sync(FULL_WARP, row_sum, lane);
      accum rescale = exp(highest[i] - new_highest);  // the earlier sums are relative to an older, lower maximum
      highest[i] = new_highest, total[i] = total[i] * rescale + row_sum;
#pragma unroll
      for (int d = 0; d < HEAD / 16; d++) sum[i][d] *= rescale;
      if (drop.active()) {
        accum mask[REG_COLS];
        dropout_mask<REG_COLS>(mask, query, key, bh, drop);
#pragma unroll
        for (int j = 0; j < REG_COLS; j++) s[i][j] *= mask[j];
      }
    }
    write_weights(weights, s);  // read by the same half warp only, after the next barrier
    __syncthreads();          // all threads have used the keys
    load_tile<BC>(kv_tile, v, v_t, first_key, S, D);
    __syncthreads();
    add_weighted(sum, weights, kv_tile);
  }
#pragma unroll
  for (int i = 0; i < REG_ROWS; i++) {  // no thread reads q_tile from here on
    int row = thread_row() + i;
    write_row(q_tile, sum[i], row, 1 / total[i]);
    if (threadIdx.x % 16 == 0 && first + row < T)
      logsumexp[(long long)bh * T + first + row] = highest[i] + log(total[i]);
  }
  __syncthreads();
  store_tile(out, out_t, first, T, D, q_tile);
}

// dq = dscores k, where dscores = probs * (dout v^T * mask - delta) * scale. A block owns BR queries.
extern "C" __global__ void __launch_bounds__(THREADS, DQ_BLOCKS) attention_backward_dq(
    scalar* dq, long long dq_b, long long dq_h, long long dq_t, const scalar* dout, long long dout_b, long long dout_h,
    long long dout_t, const scalar* q, long long q_b, long long q_h, long long q_t, const scalar* k, long long k_b,
    long long k_h, long long k_t, const scalar* v, long long v_b, long long v_h, long long v_t,
    const accum* logsumexp, const accum* delta, accum scale, int causal, unsigned long long keep_threshold,
    accum keep_scale, unsigned k0, unsigned k1, int H, int T, int S, int D) {
  __shared__ alignas(16) accum q_tile[BR * HEAD], dout_tile[BR * HEAD], kv_tile[BC * HEAD], weights[BR * BC];
  dropout drop = {keep_threshold, keep_scale, k0, k1};
  int n_tiles = (T + BR - 1) / BR, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = (n_tiles - 1 - blockIdx.x % n_tiles) * BR;
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h;
  dout += b * dout_b + h * dout_h, dq += b * dq_b + h * dq_h;
  logsumexp += (long long)bh * T, delta += (long long)bh * T;
  accum sum[REG_ROWS][HEAD / 16] = {};
  load_tile<BR>(q_tile, q, q_t, first, T, D);
  load_tile<BR>(dout_tile, dout, dout_t, first, T, D);
  int n_keys = causal && first + BR < S ? first + BR : S;
  for (int first_key = 0; first_key < n_keys; first_key += BC) {
    accum probs[REG_ROWS][REG_COLS], dprobs[REG_ROWS][REG_COLS];
    __syncthreads();
    load_tile<BC>(kv_tile, v, v_t, first_key, S, D);
    __syncthreads();
    multiply_rows(dprobs, dout_tile, kv_tile);
    __syncthreads();
    load_tile<BC>(kv_tile, k, k_t, first_key, S, D);
    __syncthreads();
    multiply_rows(probs, q_tile, kv_tile);
#pragma unroll
    for (int i = 0; i < REG_ROWS; i++) {
      int query = first + thread_row() + i, key = first_key + thread_col();
      accum lse = query < T ? logsumexp[query] : 0, del = query < T ? delta[query] : 0, mask[REG_COLS];
#pragma unroll
      for (int j = 0; j < REG_COLS; j++) mask[j] = 1;
      if (drop.active()) dropout_mask<REG_COLS>(mask, query, key, bh, drop);
#pragma unroll
      for (int j = 0; j < REG_COLS; j++) {
        accum prob = visible(query, key + j, T, S, causal) ? exp(probs[i][j] * scale - lse) : 0;
        dprobs[i][j] = prob * (dprobs[i][j] * mask[j] - del) * scale;
      }
    }
    __syncwarp();  // the half warp has used the last tile's weights
    write_weights(weights, dprobs);
    __syncwarp();  // a row of them is written and read by one half warp
    add_weighted(sum, weights, kv_tile);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < REG_ROWS; i++) write_row(q_tile, sum[i], thread_row() + i, 1);
  __syncthreads();
  store_tile(dq, dq_t, first, T, D, q_tile);
}

// dv = (probs * mask)^T dout, dk = dscores^T q. A block owns BR keys and sees the queries one tile after another.
extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_backward_dkv(
    scalar* dk, long long dk_b, long long dk_h, long long dk_t, scalar* dv, long long dv_b, long long dv_h,
    long long dv_t, const scalar* dout, long long dout_b, long long dout_h, long long dout_t, const scalar* q,
    long long q_b, long long q_h, long long q_t, const scalar* k, long long k_b, long long k_h, long long k_t,
    const scalar* v, long long v_b, long long v_h, long long v_t, const accum* logsumexp, const accum* delta,
    accum scale, int causal, unsigned long long keep_threshold, accum keep_scale, unsigned k0, unsigned k1, int H,
    int T, int S, int D) {
  __shared__ alignas(16) accum k_tile[BR * HEAD], v_tile[BR * HEAD], q_tile[BC * HEAD], weights[BR * BC];
  accum* dout_tile = q_tile;  // the same memory holds q and dout in turn
  dropout drop = {keep_threshold, keep_scale, k0, k1};
  int n_tiles = (S + BR - 1) / BR, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = blockIdx.x % n_tiles * BR;  // causal: the first keys are visible by the most queries
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h;
  dout += b * dout_b + h * dout_h, dk += b * dk_b + h * dk_h, dv += b * dv_b + h * dv_h;
  logsumexp += (long long)bh * T, delta += (long long)bh * T;
  accum dk_sum[REG_ROWS][HEAD / 16] = {}, dv_sum[REG_ROWS][HEAD / 16] = {};
  load_tile<BR>(k_tile, k, k_t, first, S, D);
  load_tile<BR>(v_tile, v, v_t, first, S, D);
  for (int first_query = causal ? first / BC * BC : 0; first_query < T; first_query += BC) {
    accum probs[REG_ROWS][REG_COLS], dprobs[REG_ROWS][REG_COLS];
    __syncthreads();
    load_tile<BC>(q_tile, q, q_t, first_query, T, D);
    __syncthreads();
    multiply_rows(probs, k_tile, q_tile);
    __syncthreads();
    load_tile<BC>(dout_tile, dout, dout_t, first_query, T, D);
    __syncthreads();
    multiply_rows(dprobs, v_tile, dout_tile);
#pragma unroll
    for (int j = 0; j < REG_COLS; j++) {
      int query = first_query + thread_col() + j, key = first + thread_row();
      accum lse = query < T ? logsumexp[query] : 0, del = query < T ? delta[query] : 0, mask[REG_ROWS];
#pragma unroll
      for (int i = 0; i < REG_ROWS; i++) mask[i] = 1;
      if (drop.active()) dropout_mask<REG_ROWS>(mask, query, key, bh, drop);
#pragma unroll
      for (int i = 0; i < REG_ROWS; i++) {
        accum prob = visible(query, key + i, T, S, causal) ? exp(probs[i][j] * scale - lse) : 0;
        dprobs[i][j] = prob * (dprobs[i][j] * mask[i] - del) * scale;
        probs[i][j] = prob * mask[i];
      }
    }
    write_weights(weights, probs);
    __syncwarp();
    add_weighted(dv_sum, weights, dout_tile);
    __syncthreads();
    write_weights(weights, dprobs);
    load_tile<BC>(q_tile, q, q_t, first_query, T, D);  // again: shared memory cannot hold both
    __syncthreads();
    add_weighted(dk_sum, weights, q_tile);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < REG_ROWS; i++) {
    write_row(k_tile, dk_sum[i], thread_row() + i, 1);
    write_row(v_tile, dv_sum[i], thread_row() + i, 1);
  }
  __syncthreads();
  store_tile(dk, dk_t, first, S, D, k_tile);
  store_tile(dv, dv_t, first, S, D, v_tile);
}
