// What a linear layer needs besides its matrix products: the bias, and the bias's gradient. Arrays are (N, C); a block
// of WARP x BLOCK_DIM_Y threads takes WARP * VEC columns, BLOCK_DIM_Y rows at a time.
#include "common.cuh"

#define BLOCK_DIM_Y 8  // blockDim.x is WARP

// The VEC columns of one thread: neighbours where all rows are aligned, else WARP apart, so that neighbouring lanes
// read neighbouring columns.
struct columns {
  bool wide;
  int first;

  __device__ int at(int j) const { return wide ? first + j : first + j * WARP; }

  __device__ pack<scalar, VEC> load(const scalar* row, int C) const {
    if (wide) return load_part<VEC>(row + first, C - first);
    pack<scalar, VEC> part = {};
    for (int j = 0; j < VEC; j++)
      if (at(j) < C) part.at[j] = row[at(j)];
    return part;
  }

  __device__ void store(scalar* row, const pack<scalar, VEC>& part, int C) const {
    if (wide) return store_part<VEC>(row + first, part, C - first);
    for (int j = 0; j < VEC; j++)
      if (at(j) < C) row[at(j)] = part.at[j];
  }
};

__device__ inline columns columns_of_thread(const scalar* rows, int C) {
  bool wide = C % VEC == 0 && (unsigned long long)rows % 16 == 0;
  return {wide, (int)(blockIdx.x * WARP * VEC + threadIdx.x * (wide ? VEC : 1))};
}

// out (N, C) += bias (C,). blockIdx.y: a chunk of rows, for which the bias is read once.
extern "C" __global__ void __launch_bounds__(256)
    add_bias(scalar* out, const scalar* bias, int C, int chunk, long long N) {
  long long first = blockIdx.y * (long long)chunk, stop = first + chunk < N ? first + chunk : N;
  columns own = columns_of_thread(out, C);
  pack<scalar, VEC> bias_part = own.load(bias, C);
  for (long long n = first + threadIdx.y; n < stop; n += BLOCK_DIM_Y) {
    pack<scalar, VEC> part = own.load(out + n * C, C);
    for (int j = 0; j < VEC; j++) part.at[j] = to_scalar(to_accum(part.at[j]) + to_accum(bias_part.at[j]));
    own.store(out + n * C, part, C);
  }
}

// partials (chunks, C): the sum of each column over one chunk of rows; `column_sums` adds those up. blockIdx.y: chunk.
extern "C" __global__ void __launch_bounds__(256)
    sum_columns_of_chunks(accum* partials, const scalar* rows, int C, int chunk, long long N) {
  __shared__ accum sums[BLOCK_DIM_Y][VEC][WARP + WARP / VEC];  // padded: neighbouring columns lie in different banks
  long long first = blockIdx.y * (long long)chunk, stop = first + chunk < N ? first + chunk : N;
  columns own = columns_of_thread(rows, C);
  accum thread_sum[VEC] = {};
  for (long long n = first + threadIdx.y; n < stop; n += BLOCK_DIM_Y) {
    pack<scalar, VEC> part = own.load(rows + n * C, C);
    for (int j = 0; j < VEC; j++) thread_sum[j] += to_accum(part.at[j]);
  }
  for (int j = 0; j < VEC; j++) sums[threadIdx.y][j][threadIdx.x] = thread_sum[j];
  __syncthreads();
  int base = blockIdx.x * WARP * VEC;
  for (int c = threadIdx.y * WARP + threadIdx.x; c < WARP * VEC && base + c < C; c += WARP * BLOCK_DIM_Y) {
    int j = own.wide ? c % VEC : c / WARP, lane = own.wide ? c / VEC : c % WARP;
    accum sum = 0;
    for (int y = 0; y < BLOCK_DIM_Y; y++) sum += sums[y][j][lane];
    partials[blockIdx.y * (long long)C + base + c] = sum;
  }
}
