// CUDA's functions of one thread that C++ lacks: arithmetic, bits, atomics.
#pragma once

template <class T>
inline T __ldg(const T* p) { return *p; }
template <class T>
inline T __ldcs(const T* p) { return *p; }  // streaming: a hint only
template <class T>
inline T __ldcg(const T* p) { return *p; }
template <class T>
inline void __stcs(T* p, T x) { *p = x; }
template <class T>
inline void __stcg(T* p, T x) { *p = x; }

// ------------------------------------------------------------------------------------------------ arithmetic

inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
// approximations on the device; exact here
#undef __expf
#undef __logf
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __exp2f(x) exp2f(x)
#define __log2f(x) log2f(x)
#define __powf(x, y) powf(x, y)
#define __tanhf(x) tanhf(x)
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
inline float exp10(float x) { return exp10f(x); }

#define SIM_MIN_MAX(type)                                                                                    \
  inline type min(type a, type b) { return b < a ? b : a; }                                                  \
  inline type max(type a, type b) { return a < b ? b : a; }
SIM_MIN_MAX(int)
SIM_MIN_MAX(unsigned)
SIM_MIN_MAX(long)
SIM_MIN_MAX(unsigned long)
SIM_MIN_MAX(long long)
SIM_MIN_MAX(unsigned long long)
#undef SIM_MIN_MAX
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
inline long long min(long long a, int b) { return min(a, (long long)b); }
inline long long min(int a, long long b) { return min((long long)a, b); }
inline long long max(long long a, int b) { return max(a, (long long)b); }
inline long long max(int a, long long b) { return max((long long)a, b); }
inline float min(float a, float b) { return fminf(a, b); }  // of a number and NaN, the number
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// ------------------------------------------------------------------------------------------------------ bits

template <class To, class From>
SIM_UNSEEN inline To sim_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &x, sizeof to);
  return to;
}
inline unsigned __float_as_uint(float x) { return sim_bits<unsigned>(x); }
inline int __float_as_int(float x) { return sim_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return sim_bits<float>(x); }
inline float __int_as_float(int x) { return sim_bits<float>(x); }
inline long long __double_as_longlong(double x) { return sim_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return sim_bits<double>(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
  return y;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n) {
  return (unsigned)((((unsigned long long)high << 32 | low) << (n & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n) {
  return (unsigned)(((unsigned long long)high << 32 | low) >> (n & 31));
}

// --------------------------------------------------------------------------------------------------- atomics

// One fiber runs at a time, so a plain update is atomic. They return the value before.
#define SIM_ATOMIC(name, expression)                                                                         \
  template <class T>                                                                                         \
  SIM_UNSEEN inline T name(T* p, typename sim_same<T>::type x, sim_site site = SIM_HERE) {                    \
    sim_access(p, sizeof(T), 'a', site);                                                                     \
    T old = *p;                                                                                              \
    *p = expression;                                                                                         \
    return old;                                                                                              \
  }
template <class T>
struct sim_same { typedef T type; };  // a parameter of this type takes no part in deduction: atomicAdd(p, 1)
SIM_ATOMIC(atomicAdd, old + x)
SIM_ATOMIC(atomicSub, old - x)
SIM_ATOMIC(atomicMin, x < old ? x : old)
SIM_ATOMIC(atomicMax, old < x ? x : old)
SIM_ATOMIC(atomicAnd, old & x)
SIM_ATOMIC(atomicOr, old | x)
SIM_ATOMIC(atomicXor, old ^ x)
SIM_ATOMIC(atomicExch, x)
SIM_ATOMIC(atomicInc, old >= x ? 0 : old + 1)
#undef SIM_ATOMIC
template <class T>
SIM_UNSEEN inline T atomicCAS(T* p, typename sim_same<T>::type expected, typename sim_same<T>::type x,
                              sim_site site = SIM_HERE) {
  sim_access(p, sizeof(T), 'a', site);
  T old = *p;
  if (old == expected) *p = x;
  return old;
}

inline void __threadfence(sim_site site = SIM_HERE) { sim_access(nullptr, 0, 'f', site); }
inline void __threadfence_block(sim_site = SIM_HERE) {}
inline void __trap(sim_site site = SIM_HERE) { sim_fault(site, "__trap()"); }
#undef assert
#define assert(condition) ((condition) ? (void)0 : sim_fault(sim_site{__FILE__, __LINE__}, "assert(%s) failed", #condition))
