// Conversion to another storage type, rounded to the nearest, ties to even.
#include "common.cuh"

// To float, so that a second rounding, to 16 bits, gives what a single one would: where digits are lost the last bit
// becomes 1 ("round to odd", Boldo & Melquiond 2008), which keeps ties apart from what only looks like one.
__device__ inline float round_to_odd(double x) {
  float y = (float)x;
  if ((double)y == x || x != x) return y;
  unsigned bits = __float_as_uint(y);
  if (fabs((double)y) > fabs(x)) bits--;  // now the neighbour closer to 0
  return __uint_as_float(bits | 1u);
}

template <typename T>
struct number {};  // selects the overload by the result's type

#if defined(SCALAR_F16) || defined(SCALAR_BF16)
__device__ inline scalar convert(double x, number<scalar>) { return to_scalar(round_to_odd(x)); }
__device__ inline scalar convert(float x, number<scalar>) { return to_scalar(x); }
template <typename T>
__device__ inline T convert(scalar x, number<T>) {
  return to_accum(x);
}
#else
template <typename T, typename S>
__device__ inline T convert(S x, number<T>) {
  return (T)x;
}
#endif

// A thread converts as many numbers as fill 128 bits of the wider type.
template <typename T, typename S>
__device__ inline void convert_all(T* out, const S* x, long long n) {
  const int N = 16 / (sizeof(T) > sizeof(S) ? sizeof(T) : sizeof(S));
  long long i = (blockIdx.x * (long long)blockDim.x + threadIdx.x) * N, left = n - i;
  if (left <= 0) return;
  pack<S, N> from = load_part<N>(x + i, left);
  pack<T, N> to;
  for (int j = 0; j < N; j++) to.at[j] = convert(from.at[j], number<T>());
  store_part<N>(out + i, to, left);
}

extern "C" __global__ void __launch_bounds__(256) from_float(scalar* out, const float* x, long long n) {
  convert_all(out, x, n);
}

extern "C" __global__ void __launch_bounds__(256) from_double(scalar* out, const double* x, long long n) {
  convert_all(out, x, n);
}

extern "C" __global__ void __launch_bounds__(256) to_float(float* out, const scalar* x, long long n) {
  convert_all(out, x, n);
}

extern "C" __global__ void __launch_bounds__(256) to_double(double* out, const scalar* x, long long n) {
  convert_all(out, x, n);
}
