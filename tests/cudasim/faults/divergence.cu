// Barriers that some threads do not reach, warps that are not complete.
#define FULL_WARP 0xffffffffu
#ifndef FIXED
#define FIXED 0
#endif

// RUN: --block 64 --args 'f32[64]=out'
// SAYS: 32 of 64 threads wait at a barrier that the others never reach (32 have left the kernel)
extern "C" __global__ void barrier_in_a_branch(float* out) {
  int i = threadIdx.x;
  if (i < (FIXED ? 64 : 32)) {
    __syncthreads();  // FAULT
  }
  out[i] = 1;
}

// RUN: --block 64 --args 'f32[50]=out' 'f32[50]' i32=50
// SAYS: 50 of 64 threads wait at a barrier
extern "C" __global__ void early_return(float* out, const float* x, int n) {
  __shared__ float tile[64];
  int i = threadIdx.x;
  if (!FIXED && i >= n) return;
  tile[i] = i < n ? x[i] : 0;
  __syncthreads();  // FAULT
  if (i < n) out[i] = tile[n - 1 - i];
}

// 100 columns: the first 36 threads come round twice.
// RUN: --block 64 --args 'f32[1]=out' 'f32[100]' i32=100
// SAYS: 36 of 64 threads wait at a barrier
extern "C" __global__ void barrier_in_an_uneven_loop(float* out, const float* x, int n) {
  __shared__ float total;
  if (threadIdx.x == 0) total = 0;
  int rounded = FIXED ? (n + 63) / 64 * 64 : n;
  for (int i = threadIdx.x; i < rounded; i += blockDim.x) {
    __syncthreads();  // FAULT
    if (threadIdx.x == 0) total += x[i];
  }
  if (threadIdx.x == 0) out[0] = total;
}

// RUN: --block 32 --args 'f32[32]=out'
// SAYS: threads of one warp meet at different __syncthreads
extern "C" __global__ void two_barriers_for_one(float* out) {
  int i = threadIdx.x;
  if (FIXED) __syncthreads();
  else if (i < 16) {
    out[i] = 1;
    __syncthreads();  // FAULT
  } else {
    __syncthreads();
  }
  out[i] = 2;
}

// RUN: --block 32 --args 'f32[32]=out'
// SAYS: __shfl_sync reads from lane 20, which takes no part
extern "C" __global__ void shuffle_from_an_absent_lane(float* out) {
  int i = threadIdx.x;
  float x = (float)i;
  if (i < 16) x = __shfl_sync(0x0000ffffu, x, FIXED ? 2 : 20);  // FAULT
  out[i] = x;
}

// RUN: --block 32 --args 'f32[32]=out'
// SAYS: lane 16 is not in its own mask 0x0000ffff
extern "C" __global__ void wrong_mask(float* out) {
  int i = threadIdx.x;
  out[i] = __shfl_xor_sync(FIXED ? 0xffffffffu : 0x0000ffffu, (float)i, 1);  // FAULT
}

// RUN: --block 32 --args 'f32[32]=out'
// SAYS: lanes 0x0000ffff wait for lanes 0xffff0000, which never come
extern "C" __global__ void full_mask_in_a_branch(float* out) {
  int i = threadIdx.x;
  if (i < 16) {
    out[i] = __shfl_xor_sync(FIXED ? 0x0000ffffu : FULL_WARP, (float)i, 1);  // FAULT
  } else {
    out[i] = 0;
    if (!FIXED) __syncthreads();
  }
}

// 48 threads: the second warp has 16 lanes, and a sum over 32 reads from the others.
// RUN: --block 48 --args 'f32[48]=out'
// SAYS: which takes no part
extern "C" __global__ void sum_over_half_a_warp(float* out) {
  float x = 1;
  int lanes = FIXED && threadIdx.x >= 32 ? 16 : 32;
  for (int lane = lanes / 2; lane > 0; lane /= 2)
    x += __shfl_xor_sync(FULL_WARP, x, lane);  // FAULT
  out[threadIdx.x] = x;
}

// RUN: --block 32 --args 'f32[32]=out'
// SAYS: lanes of one warp meet at different places
extern "C" __global__ void shuffle_and_vote(float* out) {
  int i = threadIdx.x;
  float x = (float)i;
  if (FIXED || i % 2) x = __shfl_sync(FULL_WARP, x, 0);  // FAULT
  else x = (float)__any_sync(FULL_WARP, i == 5);  // FAULT
  out[i] = x;
}

// RUN: --block 32 --args 'i32[32]=out' i32=0
// SAYS: integer division by zero
extern "C" __global__ void division_by_zero(int* out, int n) {
  out[threadIdx.x] = FIXED && n == 0 ? 0 : 100 / n;  // FAULT
}
