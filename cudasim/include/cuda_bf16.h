// bfloat16 in software: the upper half of a float, rounded to nearest even.
#pragma once

SIM_UNSEEN inline unsigned short sim_bfloat16_bits(float x) {
  unsigned u = sim_bits<unsigned>(x);
  if ((u & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;  // CUDA's NaN
  return (unsigned short)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

SIM_UNSEEN inline float sim_bfloat16_value(unsigned short bits) { return sim_bits<float>((unsigned)bits << 16); }

// A double is rounded to float towards odd first: the second rounding then gives what one alone would.
SIM_UNSEEN inline float sim_odd_float(double x) {
  float y = (float)x;
  if ((double)y == x || x != x) return y;
  unsigned u = sim_bits<unsigned>(y);
  if (!(u & 1)) u += (fabs((double)y) < fabs(x)) ? 1 : -1;
  return sim_bits<float>(u);
}

struct __nv_bfloat16 {
  unsigned short bits;
  __nv_bfloat16() = default;
  __nv_bfloat16(float x) : bits(sim_bfloat16_bits(x)) {}
  __nv_bfloat16(double x) : bits(sim_bfloat16_bits(sim_odd_float(x))) {}
  __nv_bfloat16(int x) : bits(sim_bfloat16_bits(sim_odd_float(x))) {}
  operator float() const { return sim_bfloat16_value(bits); }
};
typedef __nv_bfloat16 nv_bfloat16;
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
typedef __nv_bfloat162 nv_bfloat162;

inline float __bfloat162float(__nv_bfloat16 x) { return sim_bfloat16_value(x.bits); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __double2bfloat16(double x) { return __nv_bfloat16(x); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  __nv_bfloat16 x;
  x.bits = bits;
  return x;
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {__nv_bfloat16(v.x), __nv_bfloat16(v.y)}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {float(v.x), float(v.y)}; }
inline float __low2float(__nv_bfloat162 v) { return v.x; }
inline float __high2float(__nv_bfloat162 v) { return v.y; }

#define SIM_BFLOAT16_OP(op, name)                                                                            \
  inline __nv_bfloat16 operator op(__nv_bfloat16 a, __nv_bfloat16 b) {                                       \
    return __nv_bfloat16(float(a) op float(b));                                                              \
  }                                                                                                          \
  inline __nv_bfloat16 name(__nv_bfloat16 a, __nv_bfloat16 b) { return __nv_bfloat16(float(a) op float(b)); }
SIM_BFLOAT16_OP(+, __hadd)
SIM_BFLOAT16_OP(-, __hsub)
SIM_BFLOAT16_OP(*, __hmul)
SIM_BFLOAT16_OP(/, __hdiv)
#undef SIM_BFLOAT16_OP
