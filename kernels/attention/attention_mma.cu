// Attention on tensor cores (FlashAttention-2, Dao 2023, arXiv 2307.08691): 16-bit storage, capability 8.0 and later.
// Arguments as in attention.cu; D is HEAD, rows begin at multiples of 16 bytes, scale > 0.
//
// A block's own rows wait in registers. What streams past them has two places in shared memory: while one is worked on,
// cp.async fills the other, so one barrier a tile is enough. A product's result in registers has the layout that the
// next product wants on its left: probabilities never go through shared memory.
#include "attention_mma.cuh"

#define COLS (HEAD > 96 ? 32 : 64)  // keys a tile; two places of keys and values fill 48 KB at most
#define QUERIES (HEAD > 96 ? 16 : 32)  // in attention_backward_dkv, a tile
// Blocks that an SM is to hold at once: a bound on registers, as tight as the compiler meets without spills in a loop.
#define FORWARD_BLOCKS (HEAD > 64 ? 2 : 3)
#define BACKWARD_BLOCKS (HEAD > 32 ? 2 : 3)

// Scores that row g's query (and row g + 8's) does not see become -infinity.
__device__ inline void hide(float s[COLS / 8][4], int query, int first_key, int S, int causal) {
#pragma unroll
  for (int n = 0; n < COLS / 8; n++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      int key = first_key + 8 * n + 2 * place_in_group() + e % 2;
      if (key >= S || (causal && key > query + e / 2 * 8)) s[n][e] = -INFINITY_F;
    }
}

// s = exp(scale * (s - highest so far)); what earlier tiles left in total and sum shrinks to the new maximum. exp is
// taken as a power of two: scale_log2 = scale * log2(e).
__device__ inline void online_softmax(float s[COLS / 8][4], float highest[2], float total[2], float sum[HEAD / 8][4],
                                      float scale_log2) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float peak = highest[r], row_sum = 0;
#pragma unroll
    for (int n = 0; n < COLS / 8; n++) peak = fmaxf(peak, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    peak = fmaxf(peak, __shfl_xor_sync(FULL_WARP, peak, 1));
    peak = fmaxf(peak, __shfl_xor_sync(FULL_WARP, peak, 2));
    float shrink = exp2_fast((highest[r] - peak) * scale_log2), shift = peak * scale_log2;
#pragma unroll
    for (int n = 0; n < COLS / 8; n++)
#pragma unroll
      for (int e = 2 * r; e < 2 * r + 2; e++) row_sum += s[n][e] = exp2_fast(s[n][e] * scale_log2 - shift);
    highest[r] = peak, total[r] = total[r] * shrink + row_sum;  // this lane's columns; lanes are summed at the end
#pragma unroll
    for (int n = 0; n < HEAD / 8; n++) sum[n][2 * r] *= shrink, sum[n][2 * r + 1] *= shrink;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS) attention_forward_mma(
    scalar* out, long long out_b, long long out_h, long long out_t, accum* logsumexp, const scalar* q, long long q_b,
    long long q_h, long long q_t, const scalar* k, long long k_b, long long k_h, long long k_t, const scalar* v,
    long long v_b, long long v_h, long long v_t, accum scale, int causal, unsigned long long keep_below,
    accum keep_scale, unsigned k0, unsigned k1, int H, int T, int S, int D) {
  __shared__ alignas(16) scalar tiles[4 * COLS * HEAD];  // two places, each for a tile of keys and one of values
  dropout drop = {keep_below, keep_scale, k0, k1};
  int n_tiles = (T + ROWS - 1) / ROWS, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = (n_tiles - 1 - blockIdx.x % n_tiles) * ROWS;  // causal: the longest work first
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h;
  int n_keys = causal && first + ROWS < S ? first + ROWS : S;  // beyond, every key is hidden
  copy_tile<ROWS>(tiles + 2 * COLS * HEAD, q, q_t, first, T);
  cp_async_commit();
  copy_pair<COLS>(tiles, k, k_t, v, v_t, 0, S);
  cp_async_wait<1>();
  __syncthreads();
  unsigned queries[HEAD / 16][4];
  load_rows(queries, tiles + 2 * COLS * HEAD);
  float sum[HEAD / 8][4] = {}, highest[2] = {-INFINITY_F, -INFINITY_F}, total[2] = {};
  int query = first + first_row() + group();
  for (int first_key = 0, turn = 0; first_key < n_keys; first_key += COLS, turn ^= 1) {
    scalar *k_tile = tiles + turn * 2 * COLS * HEAD, *v_tile = k_tile + COLS * HEAD;
    cp_async_wait<0>();
    __syncthreads();  // this tile has arrived, and nobody reads the other place any more
    if (first_key + COLS < n_keys)
      copy_pair<COLS>(tiles + (turn ^ 1) * 2 * COLS * HEAD, k, k_t, v, v_t, first_key + COLS, S);
    float s[COLS / 8][4];
    multiply_rows<COLS>(s, queries, k_tile);
    if (first_key + COLS > S || (causal && first_key + COLS > first + first_row() + 1))
      hide(s, query, first_key, S, causal);
    online_softmax(s, highest, total, sum, scale * LOG2_E);
    if (drop.keep_below >> 32 == 0)
#pragma unroll
      for (int n = 0; n < COLS / 8; n++) {
        float keep[4];
        draw(keep, query, first_key + 8 * n, bh, drop);
        for (int e = 0; e < 4; e++) s[n][e] *= keep[e];
      }
    add_weighted<COLS>(sum, s, v_tile);
  }
  for (int r = 0; r < 2; r++) {
    total[r] += __shfl_xor_sync(FULL_WARP, total[r], 1);
    total[r] += __shfl_xor_sync(FULL_WARP, total[r], 2);
    if (place_in_group() == 0 && query + 8 * r < T)
      logsumexp[(long long)bh * T + query + 8 * r] = highest[r] * scale + log(total[r]);
  }
  __syncthreads();
  store_rows(out + b * out_b + h * out_h, out_t, first, T, tiles, sum, 1 / total[0], 1 / total[1]);
}

// dq = dscores k, where dscores = probs * (dout v^T * keep - delta) * scale. A block owns ROWS queries.
extern "C" __global__ void __launch_bounds__(THREADS, BACKWARD_BLOCKS) attention_backward_dq_mma(
    scalar* dq, long long dq_b, long long dq_h, long long dq_t, const scalar* dout, long long dout_b, long long dout_h,
    long long dout_t, const scalar* q, long long q_b, long long q_h, long long q_t, const scalar* k, long long k_b,
    long long k_h, long long k_t, const scalar* v, long long v_b, long long v_h, long long v_t,
    const accum* logsumexp, const accum* delta, accum scale, int causal, unsigned long long keep_below,
    accum keep_scale, unsigned k0, unsigned k1, int H, int T, int S, int D) {
  __shared__ alignas(16) scalar tiles[4 * COLS * HEAD];
  dropout drop = {keep_below, keep_scale, k0, k1};
  int n_tiles = (T + ROWS - 1) / ROWS, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = (n_tiles - 1 - blockIdx.x % n_tiles) * ROWS;
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h;
  dout += b * dout_b + h * dout_h, dq += b * dq_b + h * dq_h;
  logsumexp += (long long)bh * T, delta += (long long)bh * T;
  int n_keys = causal && first + ROWS < S ? first + ROWS : S;
  copy_tile<ROWS>(tiles, q, q_t, first, T);
  copy_tile<ROWS>(tiles + 2 * COLS * HEAD, dout, dout_t, first, T);
  cp_async_commit();
  int query = first + first_row() + group();
  float lse_log2[2], del[2], sum[HEAD / 8][4] = {}, scale_log2 = scale * LOG2_E;
  for (int r = 0; r < 2; r++) {  // queries past T have probability 0
    lse_log2[r] = query + 8 * r < T ? logsumexp[query + 8 * r] * LOG2_E : INFINITY_F;
    del[r] = query + 8 * r < T ? delta[query + 8 * r] : 0;
  }
  cp_async_wait<0>();
  __syncthreads();
  unsigned queries[HEAD / 16][4], douts[HEAD / 16][4];
  load_rows(queries, tiles);
  load_rows(douts, tiles + 2 * COLS * HEAD);
  __syncthreads();
  copy_pair<COLS>(tiles, k, k_t, v, v_t, 0, S);
  for (int first_key = 0, turn = 0; first_key < n_keys; first_key += COLS, turn ^= 1) {
    scalar *k_tile = tiles + turn * 2 * COLS * HEAD, *v_tile = k_tile + COLS * HEAD;
    cp_async_wait<0>();
    __syncthreads();
    if (first_key + COLS < n_keys)
      copy_pair<COLS>(tiles + (turn ^ 1) * 2 * COLS * HEAD, k, k_t, v, v_t, first_key + COLS, S);
    float s[COLS / 8][4], dprobs[COLS / 8][4];
    multiply_rows<COLS>(s, queries, k_tile);
    if (first_key + COLS > S || (causal && first_key + COLS > first + first_row() + 1))
      hide(s, query, first_key, S, causal);
    multiply_rows<COLS>(dprobs, douts, v_tile);
#pragma unroll
    for (int n = 0; n < COLS / 8; n++) {
      float keep[4] = {1, 1, 1, 1};
      if (drop.keep_below >> 32 == 0) draw(keep, query, first_key + 8 * n, bh, drop);
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float prob = exp2_fast(s[n][e] * scale_log2 - lse_log2[e / 2]);
        s[n][e] = prob * (dprobs[n][e] * keep[e] - del[e / 2]);
      }
    }
    add_weighted<COLS>(sum, s, k_tile);
  }
  __syncthreads();
  store_rows(dq, dq_t, first, T, tiles, sum, scale, scale);
}

// dv = (probs * keep)^T dout, dk = dscores^T q. A block owns ROWS keys and computes scores transposed: rows are keys.
extern "C" __global__ void __launch_bounds__(THREADS, BACKWARD_BLOCKS) attention_backward_dkv_mma(
    scalar* dk, long long dk_b, long long dk_h, long long dk_t, scalar* dv, long long dv_b, long long dv_h,
    long long dv_t, const scalar* dout, long long dout_b, long long dout_h, long long dout_t, const scalar* q,
    long long q_b, long long q_h, long long q_t, const scalar* k, long long k_b, long long k_h, long long k_t,
    const scalar* v, long long v_b, long long v_h, long long v_t, const accum* logsumexp, const accum* delta,
    accum scale, int causal, unsigned long long keep_below, accum keep_scale, unsigned k0, unsigned k1, int H, int T,
    int S, int D) {
  __shared__ alignas(16) scalar tiles[4 * QUERIES * HEAD], v_tile[ROWS * HEAD];
  dropout drop = {keep_below, keep_scale, k0, k1};
  int n_tiles = (S + ROWS - 1) / ROWS, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = blockIdx.x % n_tiles * ROWS;  // causal: the first keys are seen by the most queries
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h;
  dout += b * dout_b + h * dout_h, dk += b * dk_b + h * dk_h, dv += b * dv_b + h * dv_h;
  logsumexp += (long long)bh * T, delta += (long long)bh * T;
  copy_tile<ROWS>(tiles, k, k_t, first, S);
  copy_tile<ROWS>(v_tile, v, v_t, first, S);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  unsigned keys[HEAD / 16][4], values[HEAD / 16][4];
  load_rows(keys, tiles);
  __syncthreads();
  float dk_sum[HEAD / 8][4] = {}, dv_sum[HEAD / 8][4] = {}, scale_log2 = scale * LOG2_E;
  int first_query = causal ? first / QUERIES * QUERIES : 0, key = first + first_row() + group();
  if (first_query < T) copy_pair<QUERIES>(tiles, q, q_t, dout, dout_t, first_query, T);
  for (int turn = 0; first_query < T; first_query += QUERIES, turn ^= 1) {
    scalar *q_tile = tiles + turn * 2 * QUERIES * HEAD, *dout_tile = q_tile + QUERIES * HEAD;
    float lse_log2[QUERIES / 8][2], del[QUERIES / 8][2], s[QUERIES / 8][4], dprobs[QUERIES / 8][4];
#pragma unroll
    for (int n = 0; n < QUERIES / 8; n++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        int query = first_query + 8 * n + 2 * place_in_group() + e;
        lse_log2[n][e] = query < T ? logsumexp[query] * LOG2_E : INFINITY_F;
        del[n][e] = query < T ? delta[query] : 0;
      }
    cp_async_wait<0>();
    __syncthreads();
    if (first_query + QUERIES < T)
      copy_pair<QUERIES>(tiles + (turn ^ 1) * 2 * QUERIES * HEAD, q, q_t, dout, dout_t, first_query + QUERIES, T);
    multiply_rows<QUERIES>(s, keys, q_tile);
    load_rows(values, v_tile);  // every time: keys, values and both sums would not fit into registers
    multiply_rows<QUERIES>(dprobs, values, dout_tile);
    bool diagonal = causal && first + first_row() + 15 > first_query;
#pragma unroll
    for (int n = 0; n < QUERIES / 8; n++) {
      float keep[4] = {1, 1, 1, 1};
      if (drop.keep_below >> 32 == 0)
        draw_transposed(keep, first_query + 8 * n, first + first_row(), bh, drop);
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float prob = exp2_fast(s[n][e] * scale_log2 - lse_log2[n][e % 2]);
        if (diagonal && key + e / 2 * 8 > first_query + 8 * n + 2 * place_in_group() + e % 2) prob = 0;
        s[n][e] = prob * keep[e];
        dprobs[n][e] = prob * (dprobs[n][e] * keep[e] - del[n][e % 2]);
      }
    }
    add_weighted<QUERIES>(dv_sum, s, dout_tile);
    add_weighted<QUERIES>(dk_sum, dprobs, q_tile);
  }
  __syncthreads();
  store_rows(dk, dk_t, first, S, tiles, dk_sum, scale, scale);
  store_rows(dv, dv_t, first, S, v_tile, dv_sum, 1, 1);
}
