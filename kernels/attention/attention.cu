// Attention in tiles (FlashAttention-2, Dao 2023, arXiv 2307.08691) on ordinary cores: every number type, head sizes
// D up to 128. Nothing of size T * S is ever stored; sums are held in `accum`; no atomics, so bits repeat.
//
// A block owns ROWS queries (in attention_backward_dkv: keys), which stay in shared memory, and streams COLS keys
// (queries) past them at a time. Its threads form THREAD_ROWS x 16; each computes ROW_SHARE x COL_SHARE neighbouring
// scores, then the columns 2 x, 2 x + 1, 2 x + 32, ... of ROW_SHARE rows of the result.
//
// q, dout, out, dq (B, H, T, D), k, v, dk, dv (B, H, S, D): views with strides (x_b, x_h, x_t, 1) in elements.
// logsumexp, delta (B, H, T). Causal: query i sees keys 0..i. Dropout keeps a probability if its Philox word, lane j % 4
// of the counter (j / 4, i, b * H + h, 0), is below keep_below; 2^32 means no dropout.
#include "common.cuh"

#ifndef HEAD     // set by the launcher; these are for compiling the file alone
#define HEAD 64  // D rounded up to a multiple of 32
#define ROWS 32
#define COLS 32
#endif
#if defined(SCALAR_F64)
#define THREAD_ROWS 8
#else
#define THREAD_ROWS 16
#endif
#define THREADS (THREAD_ROWS * 16)
// Blocks that an SM is to hold at once: a bound on registers, as tight as the compiler meets without spilling.
#define FORWARD_BLOCKS (HEAD > 32 || sizeof(scalar) > 2 ? 2 : 1)
#define DQ_BLOCKS (HEAD > 32 && sizeof(scalar) > 2 ? 2 : 1)
#define ROW_SHARE (ROWS / THREAD_ROWS)  // each 1, 2 or 4
#define COL_SHARE (COLS / 16)
#define CHUNK (16 / (int)sizeof(accum))  // numbers in the 16 bytes that shared memory is read by
#define MINUS_INFINITY (-(accum)__int_as_float(0x7f800000))

struct alignas(16) chunk {
  accum at[CHUNK];
};
struct alignas(2 * sizeof(accum)) pair {
  accum at[2];
};
struct dropout {
  unsigned long long keep_below;
  accum scale;  // 1 / (1 - p)
  unsigned k0, k1;
};

// Where chunk c of a row stands in a tile. Threads that read one chunk of COL_SHARE-spaced rows meet different banks.
__device__ inline int place(int row, int c) { return row * HEAD + (c ^ (row / COL_SHARE % 8)) * CHUNK; }

__device__ inline int thread_row() { return threadIdx.x / 16 * ROW_SHARE; }  // the first of this thread's rows
__device__ inline int thread_col() { return threadIdx.x % 16 * COL_SHARE; }

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
    for (int c = 0; c < VEC / CHUNK; c++) {
      chunk y;
      for (int e = 0; e < CHUNK; e++) y.at[e] = to_accum(values.at[c * CHUNK + e]);
      *reinterpret_cast<chunk*>(tile + place(row, d / CHUNK + c)) = y;
    }
  }
}

// Rows first .. first + ROWS - 1 of x (n, D) = tile.
__device__ inline void store_tile(scalar* x, long long stride, int first, int n, int D, const accum* tile) {
  bool whole = whole_vectors(x, stride, D);
  for (int i = threadIdx.x; i < ROWS * (HEAD / VEC); i += THREADS) {
    int row = i / (HEAD / VEC), d = i % (HEAD / VEC) * VEC;
    if (first + row >= n) return;
    scalar* to = x + (first + row) * stride + d;
    vec values;
    for (int c = 0; c < VEC / CHUNK; c++) {
      chunk y = *reinterpret_cast<const chunk*>(tile + place(row, d / CHUNK + c));
      for (int e = 0; e < CHUNK; e++) values.at[c * CHUNK + e] = to_scalar(y.at[e]);
    }
    if (whole && d < D)
      store(to, values);
    else
      for (int e = 0; e < VEC; e++)
        if (d + e < D) to[e] = values.at[e];
  }
}

// product[i][j] = this thread's row i of a . its row j of b: a share of a b^T.
__device__ inline void multiply_rows(accum product[ROW_SHARE][COL_SHARE], const accum* a, const accum* b) {
#pragma unroll
  for (int i = 0; i < ROW_SHARE; i++)
#pragma unroll
    for (int j = 0; j < COL_SHARE; j++) product[i][j] = 0;
#pragma unroll 4
  for (int c = 0; c < HEAD / CHUNK; c++) {
    chunk x[ROW_SHARE], y[COL_SHARE];
#pragma unroll
    for (int i = 0; i < ROW_SHARE; i++) x[i] = *reinterpret_cast<const chunk*>(a + place(thread_row() + i, c));
#pragma unroll
    for (int j = 0; j < COL_SHARE; j++) y[j] = *reinterpret_cast<const chunk*>(b + place(thread_col() + j, c));
    for (int e = 0; e < CHUNK; e++)
#pragma unroll
      for (int i = 0; i < ROW_SHARE; i++)
#pragma unroll
        for (int j = 0; j < COL_SHARE; j++) product[i][j] += x[i].at[e] * y[j].at[e];
  }
}

// sum += weights (ROWS, COLS) b (COLS, HEAD), for this thread's rows and columns.
__device__ inline void add_weighted(accum sum[ROW_SHARE][HEAD / 16], const accum* weights, const accum* b) {
  int x = threadIdx.x % 16 * 2;
#pragma unroll 2
  for (int col = 0; col < COLS; col += CHUNK) {
    chunk w[ROW_SHARE];
#pragma unroll
    for (int i = 0; i < ROW_SHARE; i++)
      w[i] = *reinterpret_cast<const chunk*>(weights + (thread_row() + i) * COLS + col);
    for (int e = 0; e < CHUNK; e++)
#pragma unroll
      for (int c = 0; c < HEAD / 32; c++) {
        int at = place(col + e, (x + 32 * c) / CHUNK) + x % CHUNK;
        pair y = *reinterpret_cast<const pair*>(b + at);
#pragma unroll
        for (int i = 0; i < ROW_SHARE; i++) {
          sum[i][2 * c] += w[i].at[e] * y.at[0];
          sum[i][2 * c + 1] += w[i].at[e] * y.at[1];
        }
      }
  }
}

// This thread's share of the result into a tile, times `scale`.
__device__ inline void put_row(accum* tile, const accum sum[HEAD / 16], int row, accum scale) {
  int x = threadIdx.x % 16 * 2;
#pragma unroll
  for (int c = 0; c < HEAD / 32; c++) {
    pair y = {{sum[2 * c] * scale, sum[2 * c + 1] * scale}};
    *reinterpret_cast<pair*>(tile + place(row, (x + 32 * c) / CHUNK) + x % CHUNK) = y;
  }
}

__device__ inline void put_weights(accum* weights, const accum w[ROW_SHARE][COL_SHARE]) {
#pragma unroll
  for (int i = 0; i < ROW_SHARE; i++)
#pragma unroll
    for (int j = 0; j < COL_SHARE; j++) weights[(thread_row() + i) * COLS + thread_col() + j] = w[i][j];
}

// keep[n] = 0 or 1 / (1 - p) for keys j .. j + N - 1 of query i; N is 1, 2 or 4 and divides j.
template <int N>
__device__ inline void draw(accum keep[N], int i, int j, int bh, const dropout& drop) {
  unsigned words[4];
  philox(j / 4, i, bh, 0, drop.k0, drop.k1, words);
#pragma unroll
  for (int n = 0; n < N; n++) {
    unsigned word = words[n];
    for (int first = N; first < 4; first += N)
      if (j % 4 == first) word = words[first + n];
    keep[n] = word < drop.keep_below ? drop.scale : (accum)0;
  }
}

__device__ inline bool seen(int i, int j, int T, int S, int causal) {
  return i < T && j < S && (!causal || j <= i);
}

// out = softmax(q k^T scale) v, logsumexp of the scaled scores. blockIdx.x: (b, h), then tiles of queries.
extern "C" __global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS) attention_forward(
    scalar* out, long long out_b, long long out_h, long long out_t, accum* logsumexp, const scalar* q, long long q_b,
    long long q_h, long long q_t, const scalar* k, long long k_b, long long k_h, long long k_t, const scalar* v,
    long long v_b, long long v_h, long long v_t, accum scale, int causal, unsigned long long keep_below,
    accum keep_scale, unsigned k0, unsigned k1, int H, int T, int S, int D) {
  __shared__ alignas(16) accum q_tile[ROWS * HEAD], kv_tile[COLS * HEAD], weights[ROWS * COLS];
  dropout drop = {keep_below, keep_scale, k0, k1};
  int n_tiles = (T + ROWS - 1) / ROWS, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = (n_tiles - 1 - blockIdx.x % n_tiles) * ROWS;  // causal: the longest work first
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h, out += b * out_b + h * out_h;
  accum sum[ROW_SHARE][HEAD / 16] = {}, total[ROW_SHARE] = {}, highest[ROW_SHARE];
#pragma unroll
  for (int i = 0; i < ROW_SHARE; i++) highest[i] = MINUS_INFINITY;
  load_tile<ROWS>(q_tile, q, q_t, first, T, D);
  int n_keys = causal && first + ROWS < S ? first + ROWS : S;  // beyond, every key is hidden
  for (int first_key = 0; first_key < n_keys; first_key += COLS) {
    __syncthreads();  // the values of the last tile are used up
    load_tile<COLS>(kv_tile, k, k_t, first_key, S, D);
    __syncthreads();
    accum s[ROW_SHARE][COL_SHARE];
    multiply_rows(s, q_tile, kv_tile);
#pragma unroll
    for (int i = 0; i < ROW_SHARE; i++) {  // 16 neighbouring lanes share a row
      int query = first + thread_row() + i, key = first_key + thread_col();
      accum peak = highest[i], row_sum = 0;
#pragma unroll
      for (int j = 0; j < COL_SHARE; j++) {
        s[i][j] = key + j < S && (!causal || key + j <= query) ? s[i][j] * scale : MINUS_INFINITY;
        peak = fmax(peak, s[i][j]);
      }
      for (int lane = 8; lane > 0; lane /= 2) peak = fmax(peak, __shfl_xor_sync(FULL_WARP, peak, lane));
#pragma unroll
      for (int j = 0; j < COL_SHARE; j++) row_sum += s[i][j] = exp(s[i][j] - peak);
      for (int lane = 8; lane > 0; lane /= 2) row_sum += __shfl_xor_sync(FULL_WARP, row_sum, lane);
      accum shrink = exp(highest[i] - peak);  // what earlier tiles left was relative to a lower maximum
      highest[i] = peak, total[i] = total[i] * shrink + row_sum;
#pragma unroll
      for (int d = 0; d < HEAD / 16; d++) sum[i][d] *= shrink;
      if (drop.keep_below >> 32 == 0) {
        accum keep[COL_SHARE];
        draw<COL_SHARE>(keep, query, key, bh, drop);
#pragma unroll
        for (int j = 0; j < COL_SHARE; j++) s[i][j] *= keep[j];
      }
    }
    put_weights(weights, s);  // read by the same half warp only, after the next barrier
    __syncthreads();          // the keys are used up
    load_tile<COLS>(kv_tile, v, v_t, first_key, S, D);
    __syncthreads();
    add_weighted(sum, weights, kv_tile);
  }
#pragma unroll
  for (int i = 0; i < ROW_SHARE; i++) {  // nobody reads q_tile any more
    int row = thread_row() + i;
    put_row(q_tile, sum[i], row, 1 / total[i]);
    if (threadIdx.x % 16 == 0 && first + row < T) logsumexp[(long long)bh * T + first + row] = highest[i] + log(total[i]);
  }
  __syncthreads();
  store_tile(out, out_t, first, T, D, q_tile);
}

// dq = dscores k, where dscores = probs * (dout v^T * keep - delta) * scale. A block owns ROWS queries.
extern "C" __global__ void __launch_bounds__(THREADS, DQ_BLOCKS) attention_backward_dq(
    scalar* dq, long long dq_b, long long dq_h, long long dq_t, const scalar* dout, long long dout_b, long long dout_h,
    long long dout_t, const scalar* q, long long q_b, long long q_h, long long q_t, const scalar* k, long long k_b,
    long long k_h, long long k_t, const scalar* v, long long v_b, long long v_h, long long v_t,
    const accum* logsumexp, const accum* delta, accum scale, int causal, unsigned long long keep_below,
    accum keep_scale, unsigned k0, unsigned k1, int H, int T, int S, int D) {
  __shared__ alignas(16) accum q_tile[ROWS * HEAD], dout_tile[ROWS * HEAD], kv_tile[COLS * HEAD], weights[ROWS * COLS];
  dropout drop = {keep_below, keep_scale, k0, k1};
  int n_tiles = (T + ROWS - 1) / ROWS, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = (n_tiles - 1 - blockIdx.x % n_tiles) * ROWS;
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h;
  dout += b * dout_b + h * dout_h, dq += b * dq_b + h * dq_h;
  logsumexp += (long long)bh * T, delta += (long long)bh * T;
  accum sum[ROW_SHARE][HEAD / 16] = {};
  load_tile<ROWS>(q_tile, q, q_t, first, T, D);
  load_tile<ROWS>(dout_tile, dout, dout_t, first, T, D);
  int n_keys = causal && first + ROWS < S ? first + ROWS : S;
  for (int first_key = 0; first_key < n_keys; first_key += COLS) {
    accum probs[ROW_SHARE][COL_SHARE], dprobs[ROW_SHARE][COL_SHARE];
    __syncthreads();
    load_tile<COLS>(kv_tile, v, v_t, first_key, S, D);
    __syncthreads();
    multiply_rows(dprobs, dout_tile, kv_tile);
    __syncthreads();
    load_tile<COLS>(kv_tile, k, k_t, first_key, S, D);
    __syncthreads();
    multiply_rows(probs, q_tile, kv_tile);
#pragma unroll
    for (int i = 0; i < ROW_SHARE; i++) {
      int query = first + thread_row() + i, key = first_key + thread_col();
      accum lse = query < T ? logsumexp[query] : 0, del = query < T ? delta[query] : 0, keep[COL_SHARE];
#pragma unroll
      for (int j = 0; j < COL_SHARE; j++) keep[j] = 1;
      if (drop.keep_below >> 32 == 0) draw<COL_SHARE>(keep, query, key, bh, drop);
#pragma unroll
      for (int j = 0; j < COL_SHARE; j++) {
        accum prob = seen(query, key + j, T, S, causal) ? exp(probs[i][j] * scale - lse) : 0;
        dprobs[i][j] = prob * (dprobs[i][j] * keep[j] - del) * scale;
      }
    }
    __syncwarp();  // the last tile's weights are used up
    put_weights(weights, dprobs);
    __syncwarp();  // a row of them is written and read by one half warp
    add_weighted(sum, weights, kv_tile);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < ROW_SHARE; i++) put_row(q_tile, sum[i], thread_row() + i, 1);
  __syncthreads();
  store_tile(dq, dq_t, first, T, D, q_tile);
}

// dv = (probs * keep)^T dout, dk = dscores^T q. A block owns ROWS keys and sees the queries one tile after another.
extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_backward_dkv(
    scalar* dk, long long dk_b, long long dk_h, long long dk_t, scalar* dv, long long dv_b, long long dv_h,
    long long dv_t, const scalar* dout, long long dout_b, long long dout_h, long long dout_t, const scalar* q,
    long long q_b, long long q_h, long long q_t, const scalar* k, long long k_b, long long k_h, long long k_t,
    const scalar* v, long long v_b, long long v_h, long long v_t, const accum* logsumexp, const accum* delta,
    accum scale, int causal, unsigned long long keep_below, accum keep_scale, unsigned k0, unsigned k1, int H, int T,
    int S, int D) {
  __shared__ alignas(16) accum k_tile[ROWS * HEAD], v_tile[ROWS * HEAD], q_tile[COLS * HEAD], weights[ROWS * COLS];
  accum* dout_tile = q_tile;  // the two take turns
  dropout drop = {keep_below, keep_scale, k0, k1};
  int n_tiles = (S + ROWS - 1) / ROWS, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = blockIdx.x % n_tiles * ROWS;  // causal: the first keys are seen by the most queries
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h;
  dout += b * dout_b + h * dout_h, dk += b * dk_b + h * dk_h, dv += b * dv_b + h * dv_h;
  logsumexp += (long long)bh * T, delta += (long long)bh * T;
  accum dk_sum[ROW_SHARE][HEAD / 16] = {}, dv_sum[ROW_SHARE][HEAD / 16] = {};
  load_tile<ROWS>(k_tile, k, k_t, first, S, D);
  load_tile<ROWS>(v_tile, v, v_t, first, S, D);
  for (int first_query = causal ? first / COLS * COLS : 0; first_query < T; first_query += COLS) {
    accum probs[ROW_SHARE][COL_SHARE], dprobs[ROW_SHARE][COL_SHARE];
    __syncthreads();
    load_tile<COLS>(q_tile, q, q_t, first_query, T, D);
    __syncthreads();
    multiply_rows(probs, k_tile, q_tile);
    __syncthreads();
    load_tile<COLS>(dout_tile, dout, dout_t, first_query, T, D);
    __syncthreads();
    multiply_rows(dprobs, v_tile, dout_tile);
#pragma unroll
    for (int j = 0; j < COL_SHARE; j++) {
      int query = first_query + thread_col() + j, key = first + thread_row();
      accum lse = query < T ? logsumexp[query] : 0, del = query < T ? delta[query] : 0, keep[ROW_SHARE];
#pragma unroll
      for (int i = 0; i < ROW_SHARE; i++) keep[i] = 1;
      if (drop.keep_below >> 32 == 0) draw<ROW_SHARE>(keep, query, key, bh, drop);
#pragma unroll
      for (int i = 0; i < ROW_SHARE; i++) {
        accum prob = seen(query, key + i, T, S, causal) ? exp(probs[i][j] * scale - lse) : 0;
        dprobs[i][j] = prob * (dprobs[i][j] * keep[i] - del) * scale;
        probs[i][j] = prob * keep[i];
      }
    }
    put_weights(weights, probs);
    __syncwarp();
    add_weighted(dv_sum, weights, dout_tile);
    __syncthreads();
    put_weights(weights, dprobs);
    load_tile<COLS>(q_tile, q, q_t, first_query, T, D);  // again: there is no room for both
    __syncthreads();
    add_weighted(dk_sum, weights, q_tile);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < ROW_SHARE; i++) {
    put_row(k_tile, dk_sum[i], thread_row() + i, 1);
    put_row(v_tile, dv_sum[i], thread_row() + i, 1);
  }
  __syncthreads();
  store_tile(dk, dk_t, first, S, D, k_tile);
  store_tile(dv, dv_t, first, S, D, v_tile);
}
