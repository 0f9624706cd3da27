// Accesses outside of arrays, and vectors at addresses that are no multiple of their size.
#ifndef FIXED
#define FIXED 0
#endif

// RUN: --block 64 --args 'f32[100]=out' i32=100
// SAYS: writes 4 bytes at byte 400 of argument 1, which has 400
extern "C" __global__ void tail_one_too_far(float* out, int n) {
  for (int i = threadIdx.x; FIXED ? i < n : i <= n; i += blockDim.x)
    out[i] = 1;  // FAULT
}

// RUN: --block 64 --args 'f32[64]=out' 'f32[64]'
// SAYS: reads 4 bytes 4 bytes before the start of argument 2
extern "C" __global__ void before_the_start(float* out, const float* x) {
  int i = threadIdx.x;
  float left = i > 0 || !FIXED ? x[i - 1] : 0;  // FAULT
  out[i] = x[i] - left;
}

// RUN: --block 64 --args 'f32[64]=out'
// SAYS: index 64 in an array of type 'float [64]'
extern "C" __global__ void past_a_shared_array(float* out) {
  __shared__ float tile[64];
  int i = threadIdx.x;
  tile[FIXED ? i : i + 1] = (float)i;  // FAULT
  __syncthreads();
  out[i] = FIXED || i ? tile[i] : 0;
}

// Another array lies behind this one, on a GPU at once.
// RUN: --block 64 --args 'f32[64]=out'
// SAYS: at byte 256 of shared `first`, which has 256
extern "C" __global__ void past_a_shared_array_by_pointer(float* out) {
  __shared__ float first[64], second[64];
  int i = threadIdx.x;
  float* p = first;
  second[i] = 0;
  p[FIXED ? i : i + 1] = 1;  // FAULT
  __syncthreads();
  out[i] = second[i];
}

// RUN: --block 64 --shared 128 --args 'f32[64]=out'
// SAYS: at byte 128 of the dynamic shared memory, which has 128
extern "C" __global__ void too_little_dynamic_shared(float* out) {
  extern __shared__ unsigned char dynamic_shared[];
  float* tile = (float*)dynamic_shared;
  int i = FIXED ? threadIdx.x % 32 : threadIdx.x;
  if (threadIdx.x == i) tile[i] = 1;  // FAULT
  __syncthreads();
  out[threadIdx.x] = tile[i];
}

// RUN: --block 64 --args 'f32[64]=out' 'f32[64]' null
// SAYS: where there is no array
extern "C" __global__ void optional_array_is_null(float* out, const float* x, const float* bias) {
  int i = threadIdx.x;
  out[i] = x[i] + (bias || !FIXED ? bias[i] : 0);  // FAULT
}

// RUN: --block 32 --args 'f32[32]=out' i32=4
// SAYS: index 4 in an array of type 'float [4]'
extern "C" __global__ void past_a_threads_own_array(float* out, int n) {
  float sums[4] = {0, 0, 0, 0};
  for (int k = 0; FIXED ? k < n : k <= n; k++)
    sums[k] += (float)k;  // FAULT
  out[threadIdx.x] = sums[threadIdx.x % 4];
}

// 129 is no multiple of 4: the last vector reaches past the end.
// RUN: --block 64 --args 'f32[129]=out' 'f32[129]' i32=129
// SAYS: reads 16 bytes at byte 512 of argument 2, which has 516
extern "C" __global__ void vector_over_the_tail(float* out, const float* x, int n) {
  int i = threadIdx.x * 4;
  if (i >= n) return;
  if (FIXED && i + 4 > n) {
    for (; i < n; i++) out[i] = x[i];
    return;
  }
  float4 v = *(const float4*)(x + i);  // FAULT
  *(float4*)(out + i) = v;
}

// The second row of 33 numbers does not begin at a multiple of 16 bytes.
// RUN: --grid 2 --block 8 --args 'f32[66]=out' 'f32[66]' i32=33
// SAYS: is not a multiple of 16
extern "C" __global__ void misaligned_vector(float* out, const float* x, int C) {
  x += blockIdx.x * C, out += blockIdx.x * C;
  int i = threadIdx.x * 4;
  if (FIXED) {
    for (int k = 0; k < 4; k++) out[i + k] = x[i + k];
  } else {
    float4 v = *(const float4*)(x + i);  // FAULT
    for (int k = 0; k < 4; k++) out[i + k] = (&v.x)[k];
  }
}

// RUN: --block 32 --shared 512 --args 'f64[32]=out'
// SAYS: is not a multiple of 8
extern "C" __global__ void misaligned_double(double* out) {
  extern __shared__ unsigned char dynamic_shared[];
  int* flags = (int*)dynamic_shared;
  double* sums = (double*)(flags + 32 + !FIXED);
  int i = threadIdx.x;
  flags[i] = i;
  sums[i] = 1.0 / (i + 1);  // FAULT
  out[i] = sums[i];
}
