// Small kernels for test_sim_device.py: what each computes is known, or what memory must move for it.
#include "ptx.cuh"

extern "C" __global__ void convert(scalar* out, const float* x, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) out[i] = to_scalar(x[i]);
}

// out (16, 8) = a (16, 16) b (16, 8), by one warp
extern "C" __global__ void multiply(float* out, const scalar* a, const scalar* b) {
  __shared__ alignas(16) scalar a_tile[16 * 16], b_tile[16 * 8];
  int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  cp_async_16(a_tile + lane * 8, a + lane * 8, true);
  if (lane < 16) cp_async_16(b_tile + lane * 8, b + lane * 8, true);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  unsigned a_fragment[4], b_fragment[4];
  ldmatrix_x4(a_fragment, a_tile + (lane % 16) * 16 + lane / 16 * 8);
  ldmatrix_x4_trans(b_fragment, b_tile + (lane % 16) * 8);
  float d[4] = {0, 0, 0, 0};
  mma_m16n8k16(d, a_fragment, b_fragment);
  for (int i = 0; i < 4; i++) out[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = d[i];
}

// out (6, 32): shuffles in segments of 8 lanes, a vote, a count over the block
extern "C" __global__ void meet(int* out) {
  int lane = threadIdx.x;
  out[lane] = __shfl_sync(FULL_WARP, lane, 3, 8);
  out[32 + lane] = __shfl_up_sync(FULL_WARP, lane, 2, 8);
  out[64 + lane] = __shfl_down_sync(FULL_WARP, lane, 2, 8);
  out[96 + lane] = __shfl_xor_sync(FULL_WARP, lane, 5, 8);
  out[128 + lane] = __ballot_sync(FULL_WARP, lane % 3 == 0);
  out[160 + lane] = __syncthreads_count(lane > 3);
}

// Lane i reads the word i * stride of global and of shared memory, which holds 1024.
extern "C" __global__ void strided(float* out, const float* x, int stride) {
  __shared__ float tile[1024];
  for (int i = threadIdx.x; i < 1024; i += 32) tile[i] = 1;
  __syncwarp();
  float a = x[threadIdx.x * stride];           // GLOBAL
  float b = tile[threadIdx.x * stride % 1024];  // SHARED
  out[threadIdx.x] = a + b;
}

extern "C" __global__ void vectors(float4* out, const float4* x) {
  __shared__ float4 tile[32];
  tile[threadIdx.x] = x[threadIdx.x];  // GLOBAL SHARED
  __syncwarp();
  out[threadIdx.x] = tile[31 - threadIdx.x];
}
