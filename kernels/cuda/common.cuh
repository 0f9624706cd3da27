// What all kernels share: the two number types, conversions between them, 128-bit accesses, reductions over a warp and
// over a block, random numbers.
//
// A .cu file is compiled once for each storage type. `scalar` is what arrays hold, `accum` what is computed in:
//     -DSCALAR_F32  float   float        -DSCALAR_F16   __half         float
//     -DSCALAR_F64  double  double       -DSCALAR_BF16  __nv_bfloat16  float
#pragma once

#if defined(SCALAR_F64)
typedef double scalar;
typedef double accum;
#elif defined(SCALAR_F16)
#include <cuda_fp16.h>
typedef __half scalar;
typedef float accum;
#elif defined(SCALAR_BF16)
#include <cuda_bf16.h>
typedef __nv_bfloat16 scalar;
typedef float accum;
#else
typedef float scalar;
typedef float accum;
#endif

#define FULL_WARP 0xffffffffu
#define WARP 32

__device__ inline accum to_accum(scalar x) {
#if defined(SCALAR_F16)
  return __half2float(x);
#elif defined(SCALAR_BF16)
  return __bfloat162float(x);
#else
  return x;
#endif
}

__device__ inline scalar to_scalar(accum x) {  // rounds to the nearest, ties to even
#if defined(SCALAR_F16)
  return __float2half_rn(x);
#elif defined(SCALAR_BF16)
  return __float2bfloat16_rn(x);
#else
  return x;
#endif
}

// ------------------------------------------------------------------------------------------ 128-bit accesses

#define VEC (16 / (int)sizeof(scalar))  // scalars in 128 bits: 2, 4 or 8

struct alignas(16) vec {
  scalar at[VEC];
};

__device__ inline vec load(const scalar* p) { return *reinterpret_cast<const vec*>(p); }  // p: 16-byte aligned
__device__ inline void store(scalar* p, const vec& v) { *reinterpret_cast<vec*>(p) = v; }

__device__ inline bool aligned(const void* p) { return (unsigned long long)p % 16 == 0; }

// Scalars i .. i + VEC - 1 of the n at p, 0 past the end. wide: p is aligned and i a multiple of VEC.
__device__ inline vec load(const scalar* p, long long i, long long n, bool wide) {
  if (wide && i + VEC <= n) return load(p + i);
  vec v;
#pragma unroll
  for (int j = 0; j < VEC; j++) v.at[j] = i + j < n ? p[i + j] : to_scalar(0);
  return v;
}

__device__ inline void store(scalar* p, const vec& v, long long i, long long n, bool wide) {  // nothing past the end
  if (wide && i + VEC <= n) return store(p + i, v);
#pragma unroll
  for (int j = 0; j < VEC; j++)
    if (i + j < n) p[i + j] = v.at[j];
}

#define ACCUM_VEC (16 / (int)sizeof(accum))  // numbers of type accum in 128 bits: 2 or 4

struct alignas(16) accum_vec {
  accum at[ACCUM_VEC];
};

__device__ inline void store(accum* p, const accum sums[VEC], long long i, long long n, bool wide) {
  if (wide && i + VEC <= n) {
#pragma unroll
    for (int j = 0; j < VEC; j += ACCUM_VEC) {
      accum_vec part;
      for (int l = 0; l < ACCUM_VEC; l++) part.at[l] = sums[j + l];
      *reinterpret_cast<accum_vec*>(p + i + j) = part;
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < VEC; j++)
    if (i + j < n) p[i + j] = sums[j];
}

// --------------------------------------------------------------------- vectors of any type, at the end of an array too

// N neighbours of any type, moved in one access.
template <typename T, int N>
struct alignas(N * sizeof(T)) pack {
  T at[N];
};

// p[0..N), of which the first n belong to the array; zeros past them. One access where p allows it: no tail code.
template <int N, typename T>
__device__ inline pack<T, N> load_part(const T* p, long long n) {
  if (n >= N && (unsigned long long)p % (N * sizeof(T)) == 0) return *reinterpret_cast<const pack<T, N>*>(p);
  pack<T, N> part = {};
  for (int j = 0; j < N; j++)
    if (j < n) part.at[j] = p[j];
  return part;
}

template <int N, typename T>
__device__ inline void store_part(T* p, const pack<T, N>& part, long long n) {
  if (n >= N && (unsigned long long)p % (N * sizeof(T)) == 0) {
    *reinterpret_cast<pack<T, N>*>(p) = part;
    return;
  }
  for (int j = 0; j < N; j++)
    if (j < n) p[j] = part.at[j];
}

// ------------------------------------------------------------------------------- sums over a warp and a block

template <typename T>
__device__ inline T warp_sum(T x) {  // the same in every lane, always in the same order
  for (int lane = WARP / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(FULL_WARP, x, lane);
  return x;
}

template <typename T>
__device__ inline T warp_max(T x) {
  for (int lane = WARP / 2; lane > 0; lane /= 2) x = fmax(x, __shfl_xor_sync(FULL_WARP, x, lane));
  return x;
}

// The sum over a block of whole warps, the same in every thread. scratch: shared memory, one number a warp;
// the caller may use it again afterwards.
template <typename T>
__device__ inline T block_sum(T x, T* scratch) {
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, n_warps = blockDim.x / WARP;
  x = warp_sum(x);
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  x = warp_sum(lane < n_warps ? scratch[lane] : (T)0);
  __syncthreads();  // all have read scratch: the caller may write into it again
  return x;
}

template <typename T>
__device__ inline T block_max(T x, T* scratch) {
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, n_warps = blockDim.x / WARP;
  x = warp_max(x);
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  x = warp_max(lane < n_warps ? scratch[lane] : scratch[0]);
  __syncthreads();
  return x;
}

// ------------------------------------------------------------------------------------------------- randomness

// Philox4x32-10 (Salmon et al. 2011): four random words for a counter of four words and a key of two.
__device__ inline void philox(unsigned c0, unsigned c1, unsigned c2, unsigned c3, unsigned k0, unsigned k1,
                              unsigned out[4]) {
  for (int round = 0; round < 10; round++) {
    unsigned long long a = 0xD2511F53ull * c0, b = 0xCD9E8D57ull * c2;
    unsigned n0 = (unsigned)(b >> 32) ^ c1 ^ k0, n2 = (unsigned)(a >> 32) ^ c3 ^ k1;
    c1 = (unsigned)b, c3 = (unsigned)a, c0 = n0, c2 = n2;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}
