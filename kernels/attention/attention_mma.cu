// Attention on tensor cores (FlashAttention-2, Dao 2023, arXiv 2307.08691): 16-bit storage, capability 8.0 and later.
// Arguments as in attention.cu; D is HEAD, rows begin at multiples of 16 bytes, scale > 0.
//
// A block's own BR rows stay in registers. The tiles of BC rows that it loops over are double buffered in shared
// memory: cp.async fills one stage while the warps compute on the other, so one barrier a tile is enough. The result of
// a product has the register layout of the next product's left operand: probabilities never go through shared memory.
#include "attention_mma.cuh"

#define BC (HEAD > 96 ? 32 : 64)  // keys a tile; two stages of keys and values fill at most 48 KB
#define QUERIES (HEAD > 96 ? 16 : 32)  // in attention_backward_dkv, a tile
// How many blocks an SM must be able to hold: bounds the registers, as far as no loop spills any.
#define FORWARD_BLOCKS (HEAD > 64 ? 2 : 3)
#define BACKWARD_BLOCKS (HEAD > 32 ? 2 : 3)

// Causal mask and end of the keys: scores that row g's query (and row g + 8's) does not see become -infinity.
__device__ inline void mask_scores(float s[BC / 8][4], int query, int first_key, int S, int causal) {
#pragma unroll
  for (int n = 0; n < BC / 8; n++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      int key = first_key + 8 * n + 2 * thread_in_group() + e % 2;
      if (key >= S || (causal && key > query + e / 2 * 8)) s[n][e] = -INFINITY_F;
    }
}

// s = exp(scale * (s - highest so far)); total and sum of the earlier tiles are rescaled to the new maximum. exp is
// taken as a power of two: scale_log2 = scale * log2(e).
__device__ inline void online_softmax(float s[BC / 8][4], float highest[2], float total[2], float sum[HEAD / 8][4],
                                      float scale_log2) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float new_highest = highest[r], row_sum = 0;
#pragma unroll
    for (int n = 0; n < BC / 8; n++) new_highest = fmaxf(new_highest, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    new_highest = fmaxf(new_highest, __shfl_xor_sync(FULL_WARP, new_highest, 1));
    new_highest = fmaxf(new_highest, __shfl_xor_sync(FULL_WARP, new_highest, 2));
    float rescale = exp2_fast((highest[r] - new_highest) * scale_log2), shift = new_highest * scale_log2;
#pragma unroll
    for (int n = 0; n < BC / 8; n++)
#pragma unroll
      for (int e = 2 * r; e < 2 * r + 2; e++) row_sum += s[n][e] = exp2_fast(s[n][e] * scale_log2 - shift);
    highest[r] = new_highest, total[r] = total[r] * rescale + row_sum;  // of this lane's columns; lanes are summed last
#pragma unroll
    for (int n = 0; n < HEAD / 8; n++) sum[n][2 * r] *= rescale, sum[n][2 * r + 1] *= rescale;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS) attention_forward_mma(
    scalar* out, long long out_b, long long out_h, long long out_t, accum* logsumexp, const scalar* q, long long q_b,
    long long q_h, long long q_t, const scalar* k, long long k_b, long long k_h, long long k_t, const scalar* v,
    long long v_b, long long v_h, long long v_t, accum scale, int causal, unsigned long long keep_threshold,
    accum keep_scale, unsigned k0, unsigned k1, int H, int T, int S, int D) {
  __shared__ alignas(16) scalar tiles[4 * BC * HEAD];  // two stages, each with a tile of keys and one of values
  dropout drop = {keep_threshold, keep_scale, k0, k1};
  int n_tiles = (T + BR - 1) / BR, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = (n_tiles - 1 - blockIdx.x % n_tiles) * BR;  // causal: the longest work first
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h;
  int n_keys = causal && first + BR < S ? first + BR : S;  // beyond, every key is hidden
  copy_tile<BR>(tiles + 2 * BC * HEAD, q, q_t, first, T);
  cp_async_commit();
  copy_pair<BC>(tiles, k, k_t, v, v_t, 0, S);
  cp_async_wait<1>();
  __syncthreads();
  unsigned queries[HEAD / 16][4];
  load_rows(queries, tiles + 2 * BC * HEAD);
  float sum[HEAD / 8][4] = {}, highest[2] = {-INFINITY_F, -INFINITY_F}, total[2] = {};
  int query = first + first_row() + group();
  for (int first_key = 0, stage = 0; first_key < n_keys; first_key += BC, stage ^= 1) {
    scalar *k_tile = tiles + stage * 2 * BC * HEAD, *v_tile = k_tile + BC * HEAD;
    cp_async_wait<0>();
    __syncthreads();  // this tile has arrived, and no thread reads the other stage any longer
    if (first_key + BC < n_keys)
      copy_pair<BC>(tiles + (stage ^ 1) * 2 * BC * HEAD, k, k_t, v, v_t, first_key + BC, S);
    float s[BC / 8][4];
    multiply_rows<BC>(s, queries, k_tile);
    if (first_key + BC > S || (causal && first_key + BC > first + first_row() + 1))
      mask_scores(s, query, first_key, S, causal);
    online_softmax(s, highest, total, sum, scale * LOG2_E);
    if (drop.active())
#pragma unroll
      for (int n = 0; n < BC / 8; n++) {
        float mask[4];
        dropout_mask(mask, query, first_key + 8 * n, bh, drop);
        for (int e = 0; e < 4; e++) s[n][e] *= mask[e];
      }
    add_weighted<BC>(sum, s, v_tile);
  }
  for (int r = 0; r < 2; r++) {
    total[r] += __shfl_xor_sync(FULL_WARP, total[r], 1);
    total[r] += __shfl_xor_sync(FULL_WARP, total[r], 2);
    if (thread_in_group() == 0 && query + 8 * r < T)
      logsumexp[(long long)bh * T + query + 8 * r] = highest[r] * scale + log(total[r]);
  }
  __syncthreads();
  store_rows(out + b * out_b + h * out_h, out_t, first, T, tiles, sum, 1 / total[0], 1 / total[1]);
}

// dq = dscores k, where dscores = probs * (dout v^T * mask - delta) * scale. A block owns BR queries.
extern "C" __global__ void __launch_bounds__(THREADS, BACKWARD_BLOCKS) attention_backward_dq_mma(
    scalar* dq, long long dq_b, long long dq_h, long long dq_t, const scalar* dout, long long dout_b, long long dout_h,
    long long dout_t, const scalar* q, long long q_b, long long q_h, long long q_t, const scalar* k, long long k_b,
    long long k_h, long long k_t, const scalar* v, long long v_b, long long v_h, long long v_t,
    const accum* logsumexp, const accum* delta, accum scale, int causal, unsigned long long keep_threshold,
    accum keep_scale, unsigned k0, unsigned k1, int H, int T, int S, int D) {
  __shared__ alignas(16) scalar tiles[4 * BC * HEAD];
  dropout drop = {keep_threshold, keep_scale, k0, k1};
  int n_tiles = (T + BR - 1) / BR, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = (n_tiles - 1 - blockIdx.x % n_tiles) * BR;
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h;
  dout += b * dout_b + h * dout_h, dq += b * dq_b + h * dq_h;
  logsumexp += (long long)bh * T, delta += (long long)bh * T;
  int n_keys = causal && first + BR < S ? first + BR : S;
  copy_tile<BR>(tiles, q, q_t, first, T);
  copy_tile<BR>(tiles + 2 * BC * HEAD, dout, dout_t, first, T);
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
  load_rows(douts, tiles + 2 * BC * HEAD);
  __syncthreads();
  copy_pair<BC>(tiles, k, k_t, v, v_t, 0, S);
  for (int first_key = 0, stage = 0; first_key < n_keys; first_key += BC, stage ^= 1) {
    scalar *k_tile = tiles + stage * 2 * BC * HEAD, *v_tile = k_tile + BC * HEAD;
    cp_async_wait<0>();
    __syncthreads();
    if (first_key + BC < n_keys)
      copy_pair<BC>(tiles + (stage ^ 1) * 2 * BC * HEAD, k, k_t, v, v_t, first_key + BC, S);
    float s[BC / 8][4], dprobs[BC / 8][4];
    multiply_rows<BC>(s, queries, k_tile);
    if (first_key + BC > S || (causal && first_key + BC > first + first_row() + 1))
      mask_scores(s, query, first_key, S, causal);
    multiply_rows<BC>(dprobs, douts, v_tile);
#pragma unroll
    for (int n = 0; n < BC / 8; n++) {
      float mask[4] = {1, 1, 1, 1};
      if (drop.active()) dropout_mask(mask, query, first_key + 8 * n, bh, drop);
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float prob = exp2_fast(s[n][e] * scale_log2 - lse_log2[e / 2]);
        s[n][e] = prob * (dprobs[n][e] * mask[e] - del[e / 2]);
      }
    }
    add_weighted<BC>(sum, s, k_tile);
  }
  __syncthreads();
  store_rows(dq, dq_t, first, T, tiles, sum, scale, scale);
}

// dv = (probs * mask)^T dout, dk = dscores^T q. A block owns BR keys and computes scores transposed: rows are keys.
extern "C" __global__ void __launch_bounds__(THREADS, BACKWARD_BLOCKS) attention_backward_dkv_mma(
    scalar* dk, long long dk_b, long long dk_h, long long dk_t, scalar* dv, long long dv_b, long long dv_h,
    long long dv_t, const scalar* dout, long long dout_b, long long dout_h, long long dout_t, const scalar* q,
    long long q_b, long long q_h, long long q_t, const scalar* k, long long k_b, long long k_h, long long k_t,
    const scalar* v, long long v_b, long long v_h, long long v_t, const accum* logsumexp, const accum* delta,
    accum scale, int causal, unsigned long long keep_threshold, accum keep_scale, unsigned k0, unsigned k1, int H,
    int T, int S, int D) {
  __shared__ alignas(16) scalar tiles[4 * QUERIES * HEAD], v_tile[BR * HEAD];
  dropout drop = {keep_threshold, keep_scale, k0, k1};
  int n_tiles = (S + BR - 1) / BR, bh = blockIdx.x / n_tiles, b = bh / H, h = bh % H;
  int first = blockIdx.x % n_tiles * BR;  // causal: the first keys are seen by the most queries
  q += b * q_b + h * q_h, k += b * k_b + h * k_h, v += b * v_b + h * v_h;
  dout += b * dout_b + h * dout_h, dk += b * dk_b + h * dk_h, dv += b * dv_b + h * dv_h;
  logsumexp += (long long)bh * T, delta += (long long)bh * T;
  copy_tile<BR>(tiles, k, k_t, first, S);
  copy_tile<BR>(v_tile, v, v_t, first, S);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  unsigned keys[HEAD / 16][4], values[HEAD / 16][4];
  load_rows(keys, tiles);
  __syncthreads();
  float dk_sum[HEAD / 8][4] = {}, dv_sum[HEAD / 8][4] = {}, scale_log2 = scale * LOG2_E;
  int first_query = causal ? first / QUERIES * QUERIES : 0, key = first + first_row() + group();
  if (first_query < T) copy_pair<QUERIES>(tiles, q, q_t, dout, dout_t, first_query, T);
  for (int stage = 0; first_query < T; first_query += QUERIES, stage ^= 1) {
    scalar *q_tile = tiles + stage * 2 * QUERIES * HEAD, *dout_tile = q_tile + QUERIES * HEAD;
    float lse_log2[QUERIES / 8][2], del[QUERIES / 8][2], s[QUERIES / 8][4], dprobs[QUERIES / 8][4];
#pragma unroll
    for (int n = 0; n < QUERIES / 8; n++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        int query = first_query + 8 * n + 2 * thread_in_group() + e;
        lse_log2[n][e] = query < T ? logsumexp[query] * LOG2_E : INFINITY_F;
        del[n][e] = query < T ? delta[query] : 0;
      }
    cp_async_wait<0>();
    __syncthreads();
    if (first_query + QUERIES < T)
      copy_pair<QUERIES>(tiles + (stage ^ 1) * 2 * QUERIES * HEAD, q, q_t, dout, dout_t, first_query + QUERIES, T);
    multiply_rows<QUERIES>(s, keys, q_tile);
    load_rows(values, v_tile);  // every time: keys, values and both sums would not fit into registers
    multiply_rows<QUERIES>(dprobs, values, dout_tile);
    bool diagonal = causal && first + first_row() + 15 > first_query;
#pragma unroll
    for (int n = 0; n < QUERIES / 8; n++) {
      float mask[4] = {1, 1, 1, 1};
      if (drop.active())
        dropout_mask_transposed(mask, first_query + 8 * n, first + first_row(), bh, drop);
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float prob = exp2_fast(s[n][e] * scale_log2 - lse_log2[n][e % 2]);
        if (diagonal && key + e / 2 * 8 > first_query + 8 * n + 2 * thread_in_group() + e % 2) prob = 0;
        s[n][e] = prob * mask[e];
        dprobs[n][e] = prob * (dprobs[n][e] * mask[e] - del[n][e % 2]);
      }
    }
    add_weighted<QUERIES>(dv_sum, s, dout_tile);
    add_weighted<QUERIES>(dk_sum, dprobs, q_tile);
  }
  __syncthreads();
  store_rows(dk, dk_t, first, S, tiles, dk_sum, scale, scale);
  store_rows(dv, dv_t, first, S, v_tile, dv_sum, 1, 1);
}
