// Reads of memory that nobody has written.
#ifndef FIXED
#define FIXED 0
#endif

// RUN: --block 64 --args 'f32[64]=out' 'f32[64]'
// SAYS: reads argument 1, byte 0, which nobody has written yet
extern "C" __global__ void adds_to_new_memory(float* out, const float* x) {
  int i = threadIdx.x;
  if (FIXED) out[i] = 0;
  out[i] += x[i];  // FAULT
}

// RUN: --block 64 --args 'f32[1]=out' 'f32[40]' i32=40
// SAYS: reads shared `tile`, byte 160, which nobody has written yet
extern "C" __global__ void half_a_tile(float* out, const float* x, int n) {
  __shared__ float tile[64];
  int i = threadIdx.x;
  if (i < n) tile[i] = x[i];
  else if (FIXED) tile[i] = 0;
  __syncthreads();
  if (i == 0) {
    float sum = 0;
    for (int k = 0; k < 64; k++) sum += tile[k];  // FAULT
    out[0] = sum;
  }
}

// RUN: --block 32 --shared 128 --args 'f32[32]=out' 'f32[32]'
// SAYS: reads dynamic shared memory, byte 0, which nobody has written yet
extern "C" __global__ void dynamic_shared_is_not_zero(float* out, const float* x) {
  extern __shared__ unsigned char dynamic_shared[];
  float* sums = (float*)dynamic_shared;
  int i = threadIdx.x;
  if (FIXED) sums[i] = 0;
  sums[i] += x[i];  // FAULT
  out[i] = sums[i];
}

// Shared memory of the block before is not this block's.
// RUN: --grid 2 --block 32 --args 'f32[64]=out'
// SAYS: reads shared `ready`, byte 0, which nobody has written yet
extern "C" __global__ void kept_from_the_block_before(float* out) {
  __shared__ float ready[32];
  int i = threadIdx.x;
  if (blockIdx.x == 0 || FIXED) ready[i] = 1;
  out[blockIdx.x * 32 + i] = ready[i];  // FAULT
}

// The counter that atomicAdd needs has not been set to 0.
// RUN: --block 32 --args 'i32[1]=out'
// SAYS: reads argument 1, byte 0, which nobody has written yet
extern "C" __global__ void counts_from_nothing(int* count) {
  if (FIXED && threadIdx.x == 0) *count = 0;
  __syncthreads();
  atomicAdd(count, 1);  // FAULT
}
