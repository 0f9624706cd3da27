// Races between the threads of a block and between blocks. With FIXED=1 every kernel is correct.
// RUN: how test_sim_faults.py calls the kernel; SAYS: what the report must hold; FAULT: lines of which it must name one first,
// of a race either side.
#ifndef FIXED
#define FIXED 0
#endif

// RUN: --block 64 --args 'f32[64]=out' 'f32[64]'
// SAYS: race: reads shared `tile`
extern "C" __global__ void missing_barrier(float* out, const float* x) {
  __shared__ float tile[64];
  int i = threadIdx.x;
  tile[i] = x[i];  // FAULT
  if (FIXED) __syncthreads();
  out[i] = i < 32 ? tile[i] : tile[i - 32];  // FAULT
}

// The first round is right; in the second the tile is written while others still read it.
// RUN: --block 64 --args 'f32[64]=out' 'f32[256]'
// SAYS: race: reads shared `tile`
extern "C" __global__ void missing_barrier_in_second_round(float* out, const float* x) {
  __shared__ float tile[64];
  int i = threadIdx.x;
  float sum = 0;
  for (int round = 0; round < 4; round++) {
    tile[i] = x[64 * round + i];  // FAULT
    __syncthreads();
    sum += tile[63 - i];  // FAULT
    if (FIXED) __syncthreads();
  }
  out[i] = sum;
}

// RUN: --block 32 --args 'f32[32]=out' 'f32[32]'
// SAYS: race: writes shared `tile`
extern "C" __global__ void missing_syncwarp(float* out, const float* x) {
  __shared__ float tile[32];
  int i = threadIdx.x;
  tile[i] = x[i];  // FAULT
  if (FIXED) __syncwarp();
  float neighbour = tile[(i + 31) % 32];  // FAULT
  if (FIXED) __syncwarp();
  out[i] = neighbour;
}

// A shuffle makes the lanes of a warp meet, but does not order what they do to memory.
// RUN: --block 32 --args 'f32[32]=out' 'f32[32]'
// SAYS: race: reads shared `tile`
extern "C" __global__ void shuffle_is_no_barrier(float* out, const float* x) {
  __shared__ float tile[32];
  int i = threadIdx.x;
  tile[i] = x[i];  // FAULT
  float first = __shfl_sync(0xffffffffu, x[i], 0);
  if (FIXED) __syncwarp();
  out[i] = first + tile[31 - i];  // FAULT
}

// Each half of the warp waits for itself only.
// RUN: --block 32 --args 'f32[32]=out' 'f32[32]'
// SAYS: race: reads shared `tile`
extern "C" __global__ void syncwarp_of_half(float* out, const float* x) {
  __shared__ float tile[32];
  int i = threadIdx.x;
  tile[i] = x[i];  // FAULT
  __syncwarp(FIXED ? 0xffffffffu : i < 16 ? 0x0000ffffu : 0xffff0000u);
  out[i] = tile[31 - i];  // FAULT
}

// RUN: --block 64 --args 'f32[64]=out'
// SAYS: race: writes argument 1
extern "C" __global__ void two_threads_write_one_element(float* out) {
  int i = threadIdx.x;
  out[FIXED ? i : i / 2] = (float)i;  // FAULT
}

// RUN: --grid 3 --block 64 --args 'f32[192]=out'
// SAYS: blocks run in any order
extern "C" __global__ void blocks_overlap(float* out) {
  int stride = FIXED ? blockDim.x : blockDim.x - 1;
  out[blockIdx.x * stride + threadIdx.x] = (float)threadIdx.x;  // FAULT
}

// In place: whether the neighbour's block has run already is not known.
// RUN: --grid 4 --block 32 --args 'f32[128]' 'f32[128]=0'
// SAYS: blocks run in any order
extern "C" __global__ void reads_what_another_block_writes(float* x, float* out) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  float left = i >= 32 ? x[i - 32] : 0;  // FAULT
  (FIXED ? out : x)[i] = left;  // FAULT
}

// The scratch of a block sum is written for the second sum while some have not read the first.
// RUN: --block 64 --args 'f32[64]=out' 'f32[64]'
// SAYS: race: writes shared `scratch`
extern "C" __global__ void scratch_used_again(float* out, const float* x) {
  __shared__ float scratch[2];
  int i = threadIdx.x;
  float sums[2];
  for (int pass = 0; pass < 2; pass++) {
    float sum = x[i] * (float)(pass + 1);
    for (int lane = 16; lane > 0; lane /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lane);
    if (i % 32 == 0) scratch[i / 32] = sum;  // FAULT
    __syncthreads();
    sums[pass] = scratch[0] + scratch[1];  // FAULT
    if (FIXED) __syncthreads();
  }
  out[i] = sums[0] + sums[1];
}

// RUN: --block 128 --args 'f32[1]=out' 'f32[128]'
// SAYS: race: writes shared `tile`
extern "C" __global__ void tree_without_barriers(float* out, const float* x) {
  __shared__ float tile[128];
  int i = threadIdx.x;
  tile[i] = x[i];
  __syncthreads();
  for (int half = 64; half > 0; half /= 2) {
    if (i < half) tile[i] += tile[i + half];  // FAULT
    if (FIXED) __syncthreads();
  }
  if (i == 0) out[0] = tile[0];
}

// RUN: --grid 2 --block 32 --args 'i32[1]=0'
// SAYS: race: reads argument 1
extern "C" __global__ void count_without_atomic(int* count) {
  if (FIXED) atomicAdd(count, 1);
  else *count += 1;  // FAULT
}

// RUN: --block 64 --args 'i32[64]=out'
// SAYS: race: writes shared `count`
extern "C" __global__ void counter_read_too_early(int* out) {
  __shared__ int count;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  atomicAdd(&count, 1);  // FAULT
  if (FIXED) __syncthreads();
  out[threadIdx.x] = count;  // FAULT
}
