// Asynchronous copies into shared memory: waited for too late, too little, or not seen by the others.
#include "ptx.cuh"
#ifndef FIXED
#define FIXED 0
#endif

// RUN: --block 32 --args 'f32[128]=out' 'f32[128]'
// SAYS: asynchronous copy begun at
extern "C" __global__ void missing_wait(float* out, const float* x) {
  __shared__ alignas(16) float tile[128];
  int i = threadIdx.x;
  cp_async_16(tile + 4 * i, x + 4 * i, true);
  cp_async_commit();
  if (FIXED) cp_async_wait<0>();
  for (int k = 0; k < 4; k++) out[4 * i + k] = tile[4 * i + k];  // FAULT
}

// A thread waits for its own copies only.
// RUN: --block 32 --args 'f32[128]=out' 'f32[128]'
// SAYS: race: writes shared `tile`
extern "C" __global__ void missing_barrier_after_wait(float* out, const float* x) {
  __shared__ alignas(16) float tile[128];
  int i = threadIdx.x;
  cp_async_16(tile + 4 * i, x + 4 * i, true);  // FAULT
  cp_async_commit();
  cp_async_wait<0>();
  if (FIXED) __syncthreads();
  for (int k = 0; k < 4; k++) out[i + 32 * k] = tile[127 - i - 32 * k];  // FAULT
}

// Two buffers: one is filled while the other is used. The last round has no copy behind it, so <1> waits for nothing.
// RUN: --block 32 --args 'f32[32]=out' 'f32[384]'
// SAYS: asynchronous copy begun at
extern "C" __global__ void last_tile_not_waited_for(float* out, const float* x) {
  __shared__ alignas(16) float tile[2][128];
  int i = threadIdx.x;
  float sum = 0;
  cp_async_16(tile[0] + 4 * i, x + 4 * i, true);
  cp_async_commit();
  for (int t = 0; t < 3; t++) {
    if (t < 2) cp_async_16(tile[(t + 1) % 2] + 4 * i, x + 128 * (t + 1) + 4 * i, true);
    if (t < 2 || FIXED) cp_async_commit();  // an empty group keeps the count right
    cp_async_wait<1>();
    __syncthreads();
    for (int k = 0; k < 4; k++) sum += tile[t % 2][4 * (31 - i) + k];  // FAULT
    __syncthreads();
  }
  out[i] = sum;
}

// The next copy begins while other threads still read the buffer it goes into.
// RUN: --block 64 --args 'f32[64]=out' 'f32[768]'
// SAYS: race: writes shared `tile`
extern "C" __global__ void copy_into_a_buffer_in_use(float* out, const float* x) {
  __shared__ alignas(16) float tile[256];
  int i = threadIdx.x;
  float sum = 0;
  for (int t = 0; t < 3; t++) {
    cp_async_16(tile + 4 * i, x + 256 * t + 4 * i, true);  // FAULT
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    sum += tile[255 - i];  // FAULT
    if (FIXED) __syncthreads();
  }
  out[i] = sum;
}

// RUN: --block 32 --args 'f32[128]=out' 'f32[132]'
// SAYS: not aligned to 16
extern "C" __global__ void misaligned_copy(float* out, const float* x) {
  __shared__ alignas(16) float tile[128];
  int i = threadIdx.x;
  cp_async_16(tile + 4 * i, x + 4 * i + (FIXED ? 4 : 1), true);  // FAULT
  cp_async_commit();
  cp_async_wait<0>();
  for (int k = 0; k < 4; k++) out[4 * i + k] = tile[4 * i + k];
}

// What has not been committed is in no group, so nobody waits for it.
// RUN: --block 32 --args 'f32[128]=out' 'f32[128]'
// SAYS: asynchronous copy begun at
extern "C" __global__ void missing_commit(float* out, const float* x) {
  __shared__ alignas(16) float tile[128];
  int i = threadIdx.x;
  cp_async_16(tile + 4 * i, x + 4 * i, true);
  if (FIXED) cp_async_commit();
  cp_async_wait<0>();
  for (int k = 0; k < 4; k++) out[4 * i + k] = tile[4 * i + k];  // FAULT
}
