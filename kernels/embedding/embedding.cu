// Rows of a table, and their gradient. weight (V, C), ids (N), out (N, C).
//
// Backward must add the rows of dout of one id always in the same order, so it uses no atomics on floats. Instead
// a stable counting sort gives every id the list of its occurrences, in the order of the tokens. The
// tokens are cut into K chunks; `counts` (K, V) says how often an id occurs in a chunk, then where its part of
// the list begins. The place of a list in `order` may differ from run to run, its content does not.
// Bytes: dout once, dweight once, and about 12 * K * V + 24 * N for the lists: with K = 8 and C = 768 in float32
// that is 3 % of dweight.
#include "common.cuh"

#define LONG_LIST 64        // longer lists are summed by a whole block
#define WARPS_PER_LIST 16  // of such a block
#define STRETCH 256

extern "C" __global__ void __launch_bounds__(256)
    embedding_forward(scalar* __restrict__ out, const scalar* __restrict__ weight,
                      const long long* __restrict__ ids, int C) {
  bool wide = C % VEC == 0 && aligned(out) && aligned(weight);
  const scalar* from = weight + ids[blockIdx.x] * C;
  scalar* to = out + (long long)blockIdx.x * C;
  for (int c = threadIdx.x * VEC; c < C; c += blockDim.x * VEC) store(to, load(from, c, C, wide), c, C, wide);
}

// ------------------------------------------------------------------------------------ backward: the lists

// counts[k, v]: how often v occurs in chunk k, that is block k. `used` (2) is set to 0 for the next kernel.
extern "C" __global__ void __launch_bounds__(1024)
    embedding_count(int* counts, int* used, const long long* ids, int N, int V, int chunk) {
  int* chunk_counts = counts + (long long)blockIdx.x * V;
  for (int v = threadIdx.x; v < V; v += blockDim.x) chunk_counts[v] = 0;
  if (blockIdx.x == 0 && threadIdx.x < 2) used[threadIdx.x] = 0;
  __syncthreads();
  long long first = (long long)blockIdx.x * chunk, last = first + chunk < N ? first + chunk : N;
  for (long long n = first + threadIdx.x; n < last; n += blockDim.x) atomicAdd(chunk_counts + ids[n], 1);
}

// lists[v] = (begin, length); counts[k, v] = where in the list chunk k begins. used[0]: length of all lists so
// far, used[1]: how many stand in long_ids. One thread an id.
extern "C" __global__ void __launch_bounds__(256)
    embedding_lists(int* lists, int* long_ids, int* counts, int* used, int V, int K) {
  int v = blockIdx.x * blockDim.x + threadIdx.x;
  if (v >= V) return;
  int length = 0;
  for (int k = 0; k < K; k++) {
    int* count = counts + (long long)k * V + v;
    int in_chunk = *count;
    *count = length;
    length += in_chunk;
  }
  lists[2 * v] = length ? atomicAdd(used, length) : 0;
  lists[2 * v + 1] = length;
  if (length > LONG_LIST) long_ids[atomicAdd(used + 1, 1)] = v;
}

// order: the positions of all tokens, list after list. A warp takes a chunk, 32 tokens at a time.
extern "C" __global__ void __launch_bounds__(32)
    embedding_order(int* order, int* counts, const int* lists, const long long* ids, int N, int V,
                    int chunk) {
  int* cursors = counts + (long long)blockIdx.x * V;  // where in the list the chunk's next occurrence goes
  long long first = (long long)blockIdx.x * chunk, last = first + chunk < N ? first + chunk : N;
  for (long long base = first; base < last; base += WARP) {
    long long n = base + threadIdx.x;
    int id = n < last ? (int)ids[n] : -1, before = 0, same = 0;
    for (int lane = 0; lane < WARP; lane++) {
      bool equal = __shfl_sync(FULL_WARP, id, lane) == id;
      same += equal;
      before += equal && lane < threadIdx.x;
    }
    int cursor = id >= 0 ? cursors[id] : 0;
    __syncwarp();  // all have read their cursor before one lane of each id moves it
    if (id >= 0) order[lists[2 * id] + cursor + before] = (int)n;
    if (id >= 0 && before == same - 1) cursors[id] = cursor + same;
    __syncwarp();
  }
}

// ------------------------------------------------------------------------------------- backward: the sums

// sum += rows order[first], order[first + step], ... of dout, in columns c .. c + VEC - 1.
__device__ inline void add_rows(accum sum[VEC], const scalar* dout, const int* order, int first, int length,
                                int step, int c, int C, bool wide) {
#pragma unroll 4
  for (int i = first; i < length; i += step) {
    vec row = load(dout + (long long)order[i] * C, c, C, wide);
#pragma unroll
    for (int j = 0; j < VEC; j++) sum[j] += to_accum(row.at[j]);
  }
}

__device__ inline void write_row(scalar* dweight, const accum sum[VEC], long long id, int c, int C,
                                 bool wide) {
  vec row;
#pragma unroll
  for (int j = 0; j < VEC; j++) row.at[j] = to_scalar(sum[j]);
  store(dweight + id * C, row, c, C, wide);
}

// Every id without a long list, 0 where it does not occur. A warp takes an id and WARP * VEC columns.
extern "C" __global__ void __launch_bounds__(256)
    embedding_sum(scalar* __restrict__ dweight, const scalar* __restrict__ dout,
                  const int* __restrict__ order, const int* __restrict__ lists, int V, int C) {
  int id = blockIdx.x * blockDim.y + threadIdx.y, c = (blockIdx.y * WARP + threadIdx.x) * VEC;
  bool wide = C % VEC == 0 && aligned(dweight) && aligned(dout);
  if (id >= V || c >= C) return;
  int length = lists[2 * id + 1];
  if (length > LONG_LIST) return;
  accum sum[VEC] = {};
  add_rows(sum, dout, order + lists[2 * id], 0, length, 1, c, C, wide);
  write_row(dweight, sum, id, c, C, wide);
}

// The long lists. Each of WARPS_PER_LIST warps sums every WARPS_PER_LIST-th row, then the first adds up those sums. A warp
// adds STRETCH rows at most one by one: the error of that grows with their number.
extern "C" __global__ void __launch_bounds__(512)
    embedding_sum_long(scalar* __restrict__ dweight, const scalar* __restrict__ dout,
                       const int* __restrict__ order, const int* __restrict__ lists,
                       const int* __restrict__ long_ids, const int* __restrict__ used, int C) {
  __shared__ accum sums[WARPS_PER_LIST][VEC][WARP];
  if (blockIdx.x >= used[1]) return;
  int id = long_ids[blockIdx.x], c = (blockIdx.y * WARP + threadIdx.x) * VEC;
  bool wide = C % VEC == 0 && aligned(dweight) && aligned(dout);
  accum sum[VEC] = {};
  int length = lists[2 * id + 1], step = STRETCH * WARPS_PER_LIST;
  for (int begin = 0; c < C && begin < length; begin += step) {
    accum part[VEC] = {};
    int end = length - begin < step ? length : begin + step;
    add_rows(part, dout, order + lists[2 * id], begin + threadIdx.y, end, WARPS_PER_LIST, c, C, wide);
    for (int j = 0; j < VEC; j++) sum[j] += part[j];
  }
  for (int j = 0; j < VEC; j++) sums[threadIdx.y][j][threadIdx.x] = sum[j];
  __syncthreads();
  if (threadIdx.y > 0 || c >= C) return;
  for (int warp = 1; warp < WARPS_PER_LIST; warp++)
    for (int j = 0; j < VEC; j++) sum[j] += sums[warp][j][threadIdx.x];
  write_row(dweight, sum, id, c, C, wide);
}
