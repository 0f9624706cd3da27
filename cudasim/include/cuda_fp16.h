// float16 in software: storage is 16 bits, arithmetic goes through float and rounds once, to nearest even.
#pragma once

SIM_UNSEEN inline unsigned short sim_half_bits(double x) {
  // from double, so that a float16 result of a double is rounded once; every float is a double exactly
  unsigned long long u = sim_bits<unsigned long long>(x);
  unsigned sign = (unsigned)(u >> 48) & 0x8000;
  int exponent = (int)(u >> 52 & 0x7FF) - 1023;
  unsigned long long mantissa = u & 0xFFFFFFFFFFFFFull;
  if (exponent == 1024) return mantissa ? 0x7FFF : sign | 0x7C00;  // CUDA's NaN is 0x7FFF
  if (exponent > 15) return sign | 0x7C00;
  if (exponent < -25) return sign;
  mantissa |= 1ull << 52;
  int drop = exponent < -14 ? 42 + (-14 - exponent) : 42;  // bits below the last one kept; more for a subnormal
  unsigned long long kept = mantissa >> drop, rest = mantissa & ((1ull << drop) - 1), tie = 1ull << (drop - 1);
  if (rest > tie || (rest == tie && (kept & 1))) kept++;
  // a carry out of the mantissa correctly goes into the exponent, up to infinity
  if (exponent < -14) return sign | (unsigned)kept;
  return sign | (unsigned)(((unsigned long long)(exponent + 14) << 10) + kept);
}

SIM_UNSEEN inline float sim_half_value(unsigned short bits) {
  unsigned sign = (unsigned)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, mantissa = bits & 1023;
  if (exponent == 31) return sim_bits<float>(sign | 0x7F800000 | mantissa << 13);
  if (exponent) return sim_bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  float tiny = (float)mantissa * 0x1p-24f;
  return sign ? -tiny : tiny;
}

struct __half {
  unsigned short bits;
  __half() = default;
  __half(float x) : bits(sim_half_bits(x)) {}
  __half(double x) : bits(sim_half_bits(x)) {}
  __half(int x) : bits(sim_half_bits(x)) {}
  operator float() const { return sim_half_value(bits); }
};
typedef __half half;
struct alignas(4) __half2 {
  __half x, y;
};
typedef __half2 half2;

inline float __half2float(__half x) { return sim_half_value(x.bits); }
inline __half __float2half_rn(float x) { return __half(x); }
inline __half __float2half(float x) { return __half(x); }
inline __half __double2half(double x) { return __half(x); }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline __half __ushort_as_half(unsigned short bits) {
  __half x;
  x.bits = bits;
  return x;
}
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline float2 __half22float2(__half2 v) { return {float(v.x), float(v.y)}; }
inline float __low2float(__half2 v) { return v.x; }
inline float __high2float(__half2 v) { return v.y; }
inline bool __hisnan(__half x) { return (x.bits & 0x7FFF) > 0x7C00; }

#define SIM_HALF_OP(op, name)                                                                                \
  inline __half operator op(__half a, __half b) { return __half(float(a) op float(b)); }                     \
  inline __half name(__half a, __half b) { return __half(float(a) op float(b)); }
SIM_HALF_OP(+, __hadd)
SIM_HALF_OP(-, __hsub)
SIM_HALF_OP(*, __hmul)
SIM_HALF_OP(/, __hdiv)
#undef SIM_HALF_OP
