// What the tensor-core kernels of attention share: tiles in shared memory, fragments, the dropout mask of a fragment.
//
// A block is four warps; a warp owns 16 of the block's BR rows. Lane l: g = l / 4, t = l % 4. A fragment of a (16, N)
// float32 matrix is x[N / 8][4]: x[n] holds rows g and g + 8, columns 8 n + 2 t and 8 n + 2 t + 1, in that order.
#pragma once
#include "ptx.cuh"

#ifndef HEAD
#define HEAD 64  // D: a multiple of 16
#endif
#define BR 64
#define THREADS 128
#define ROW_VECS (HEAD / 8)  // vectors of 16 bytes in a row
#define LOWEST_BIT (ROW_VECS & -ROW_VECS)
#define SWIZZLE (LOWEST_BIT < 8 ? LOWEST_BIT : 8)
#define LOG2_E 1.4426950408889634f
#define INFINITY_F __int_as_float(0x7f800000)

struct dropout {
  unsigned long long keep_threshold;
  float scale;  // 1 / (1 - p)
  unsigned k0, k1;

  __device__ bool active() const { return keep_threshold >> 32 == 0; }
};

__device__ inline int first_row() { return threadIdx.x / WARP * 16; }  // of this warp
__device__ inline int group() { return threadIdx.x % WARP / 4; }       // g
__device__ inline int thread_in_group() { return threadIdx.x % 4; }     // t

// The offset in a tile of vector c of a row. Eight consecutive rows begin in only 8 / SWIZZLE of the eight groups of
// banks; the XOR permutes each SWIZZLE neighbouring vectors of a row, so that vector c of eight rows lies in
// all eight groups.
__device__ inline int swizzled(int row, int c) { return row * HEAD + (c ^ (row / (8 / SWIZZLE) % SWIZZLE)) * 8; }

// Begin to copy rows first .. first + N - 1 of x (n, HEAD) into a tile; zeros past row n.
template <int N>
__device__ inline void copy_tile(scalar* tile, const scalar* x, long long stride, int first, int n) {
#pragma unroll
  for (int begin = 0; begin < N * ROW_VECS; begin += THREADS) {
    int i = begin + threadIdx.x, row = i / ROW_VECS, c = i % ROW_VECS;
    if (N * ROW_VECS % THREADS && i >= N * ROW_VECS) break;
    bool valid = first + row < n;
    cp_async_16(tile + swizzled(row, c), x + (valid ? first + row : 0) * stride + 8 * c, valid);
  }
}

// Begin to copy the same rows of x and of y into two tiles, which are adjacent; the copies form one group.
template <int N>
__device__ inline void copy_pair(scalar* tiles, const scalar* x, long long x_stride, const scalar* y,
                                 long long y_stride, int first, int n) {
  copy_tile<N>(tiles, x, x_stride, first, n);
  copy_tile<N>(tiles + N * HEAD, y, y_stride, first, n);
  cp_async_commit();
}

// This warp's 16 rows of a tile as the left operand of a product.
__device__ inline void load_rows(unsigned a[HEAD / 16][4], const scalar* tile) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int k = 0; k < HEAD / 16; k++) ldmatrix_x4(a[k], tile + swizzled(first_row() + lane % 16, 2 * k + lane / 16));
}

// s (16, N) = a b^T for a tile b (N, HEAD).
template <int N>
__device__ inline void multiply_rows(float s[N / 8][4], const unsigned a[HEAD / 16][4], const scalar* b) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int n = 0; n < N / 8; n++) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0;
#pragma unroll
  for (int k = 0; k < HEAD / 16; k++)
#pragma unroll
    for (int n = 0; n < N / 8; n += 2) {
      unsigned r[4];
      ldmatrix_x4(r, b + swizzled(8 * n + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
      mma_m16n8k16(s[n], a[k], r);
      mma_m16n8k16(s[n + 1], a[k], r + 2);
    }
}

// sum (16, HEAD) += w b for a tile b (N, HEAD); w is rounded to 16 bits in its registers.
template <int N>
__device__ inline void add_weighted(float sum[HEAD / 8][4], const float w[N / 8][4], const scalar* b) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int k = 0; k < N / 16; k++) {
    const float *left = w[2 * k], *right = w[2 * k + 1];
    unsigned a[4] = {pack2(left[0], left[1]), pack2(left[2], left[3]), pack2(right[0], right[1]),
                     pack2(right[2], right[3])};
#pragma unroll
    for (int n = 0; n < HEAD / 8; n += 2) {
      unsigned r[4];
      ldmatrix_x4_trans(r, b + swizzled(16 * k + lane % 16, n + lane / 16));
      mma_m16n8k16(sum[n], a, r);
      mma_m16n8k16(sum[n + 1], a, r + 2);
    }
  }
}

// Rows first .. first + BR - 1 of x (n, HEAD) = sum times one factor for row g, one for g + 8. They go
// through this warp's rows of a free tile, so that each store moves 16 bytes.
__device__ inline void store_rows(scalar* x, long long stride, int first, int n, scalar* tile,
                                  const float sum[HEAD / 8][4], float factor, float factor8) {
  int row = first_row() + group(), lane = threadIdx.x % WARP;
#pragma unroll
  for (int c = 0; c < ROW_VECS; c++) {
    scalar* to = tile + swizzled(row, c) + 2 * thread_in_group();
    scalar* to8 = tile + swizzled(row + 8, c) + 2 * thread_in_group();
    *reinterpret_cast<unsigned*>(to) = pack2(sum[c][0] * factor, sum[c][1] * factor);
    *reinterpret_cast<unsigned*>(to8) = pack2(sum[c][2] * factor8, sum[c][3] * factor8);
  }
  __syncwarp();
  for (int i = lane; i < 16 * ROW_VECS; i += WARP) {
    int r = first_row() + i / ROW_VECS, c = i % ROW_VECS;
    if (first + r < n) store(x + (first + r) * stride + 8 * c, load(tile + swizzled(r, c)));
  }
}

__device__ inline void mask_of_words(float mask[4], const unsigned words[4], const dropout& drop) {
  for (int e = 0; e < 4; e++) mask[e] = words[e] < drop.keep_threshold ? drop.scale : 0.0f;
}

// mask = 0 or 1 / (1 - p) for a fragment's rows, queries i and i + 8, and its columns 2 t, 2 t + 1 among the eight keys
// from j on; i is row g's. Lanes t and t ^ 1 need the same two counters: each computes one and passes half of it.
__device__ inline void dropout_mask(float mask[4], int i, int j, int bh, const dropout& drop) {
  unsigned own[4];
  bool odd = threadIdx.x % 2;
  philox(j / 4 + thread_in_group() / 2, odd ? i + 8 : i, bh, 0, drop.k0, drop.k1, own);
  unsigned other0 = __shfl_xor_sync(FULL_WARP, odd ? own[0] : own[2], 1);
  unsigned other1 = __shfl_xor_sync(FULL_WARP, odd ? own[1] : own[3], 1);
  unsigned words[4] = {odd ? other0 : own[0], odd ? other1 : own[1], odd ? own[2] : other0, odd ? own[3] : other1};
  mask_of_words(mask, words, drop);
}

// The mask where rows are keys, j and j + 8 for row g = 0, and columns the eight queries from i on. The four lanes
// with the same g / 4 and t need the same four counters, one word of each: each lane computes one, then they transpose
// the 4 x 4.
__device__ inline void dropout_mask_transposed(float mask[4], int i, int j, int bh, const dropout& drop) {
  unsigned words[4];
  int g = group(), m = g % 4;
  philox(j / 4 + m / 2 * 2 + g / 4, i + 2 * thread_in_group() + m % 2, bh, 0, drop.k0, drop.k1, words);
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2)
#pragma unroll
    for (int low = 0; low < 4; low++) {
      if (low & bit) continue;
      unsigned other = __shfl_xor_sync(FULL_WARP, m & bit ? words[low] : words[low + bit], 4 * bit);
      words[low] = m & bit ? other : words[low];
      words[low + bit] = m & bit ? words[low + bit] : other;
    }
  mask_of_words(mask, words, drop);
}
