// PTX instructions that CUDA C++ has no name for, as functions: g++ cannot compile inline PTX. A source that wraps its
// `asm` calls these instead where CUDA_SIM is defined: #include <sim_ptx.h>. T is __half or __nv_bfloat16.
//
// A register of a fragment (unsigned) holds two 16-bit numbers, the one with the lower index in the lower half. Fragments
// are laid out over the lanes as the PTX manual says. What a warp does together is one call of sim_meet: the last lane
// reads what all lanes handed in and computes the results of all.
#pragma once
#include "cuda_bf16.h"
#include "cuda_fp16.h"

template <class T>
inline float sim_to_float(unsigned bits) { return 0 * bits; }  // any other type has no 16-bit fragments
template <>
inline float sim_to_float<__half>(unsigned bits) { return __half2float(__ushort_as_half((unsigned short)bits)); }
template <>
inline float sim_to_float<__nv_bfloat16>(unsigned bits) {
  return __bfloat162float(__ushort_as_bfloat16((unsigned short)bits));
}

template <class T>
inline unsigned sim_to_bits(float x) { return 0 * x; }
template <>
inline unsigned sim_to_bits<__half>(float x) { return __half_as_ushort(__float2half_rn(x)); }
template <>
inline unsigned sim_to_bits<__nv_bfloat16>(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

// ------------------------------------------------------------------------------------------ matrix products

struct sim_mma {
  float* d;
  const unsigned *a, *b;
};

template <class T>
SIM_UNSEEN void sim_mma_all(void* const lanes[32], unsigned) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const sim_mma& m = *(sim_mma*)lanes[lane];
    int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; half++) {
      int shift = 16 * half;
      for (int i = 0; i < 4; i++) a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] = sim_to_float<T>(m.a[i] >> shift);
      for (int i = 0; i < 2; i++) b[2 * t + 8 * i + half][g] = sim_to_float<T>(m.b[i] >> shift);
    }
  }
  for (int lane = 0; lane < 32; lane++) {
    float* d = ((sim_mma*)lanes[lane])->d;
    for (int i = 0; i < 4; i++) {
      int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      for (int k = 0; k < 16; k++) d[i] += a[row][k] * b[k][column];
    }
  }
}
// mma.sync.aligned.m16n8k16: d (16, 8) += a (16, 16) b (16, 8), products and sums in float32
template <class T>
SIM_UNSEEN void sim_mma_m16n8k16(float d[4], const unsigned a[4], const unsigned b[2], sim_site site = SIM_HERE) {
  sim_mma operands = {d, a, b};
  sim_meet(0xffffffffu, &operands, sim_mma_all<T>, "mma_m16n8k16", site);
}

// ------------------------------------------------------------------------------------------------- ldmatrix

struct sim_ldmatrix {
  unsigned* r;
  const unsigned short* row;
};

SIM_UNSEEN inline unsigned sim_element(void* const lanes[32], int matrix, int row, int column) {
  return ((sim_ldmatrix*)lanes[8 * matrix + row])->row[column];
}

template <bool transposed>
SIM_UNSEEN void sim_ldmatrix_all(void* const lanes[32], unsigned) {
  for (int lane = 0; lane < 32; lane++) {
    unsigned* r = ((sim_ldmatrix*)lanes[lane])->r;
    int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
      if (transposed) r[i] = sim_element(lanes, i, 2 * t, g) | sim_element(lanes, i, 2 * t + 1, g) << 16;
      else r[i] = sim_element(lanes, i, g, 2 * t) | sim_element(lanes, i, g, 2 * t + 1) << 16;
    }
  }
}
template <bool transposed>
SIM_UNSEEN void sim_ldmatrix_meet(unsigned r[4], const void* row, const char* what, sim_site site) {
  sim_access(row, 16, 'm', site);
  sim_ldmatrix operands = {r, (const unsigned short*)row};
  sim_meet(0xffffffffu, &operands, sim_ldmatrix_all<transposed>, what, site);
}
// ldmatrix.sync.aligned.m8n8.x4.shared.b16, and .trans
SIM_UNSEEN inline void sim_ldmatrix_x4(unsigned r[4], const void* row, sim_site site = SIM_HERE) {
  sim_ldmatrix_meet<false>(r, row, "ldmatrix_x4", site);
}
SIM_UNSEEN inline void sim_ldmatrix_x4_trans(unsigned r[4], const void* row, sim_site site = SIM_HERE) {
  sim_ldmatrix_meet<true>(r, row, "ldmatrix_x4_trans", site);
}

// ------------------------------------------------------------------------------------- asynchronous copies

// The runtime copies at the wait, no earlier: a kernel that forgets to wait reads what was there before.
// cp.async.cg.shared.global of 16 bytes; zeros if not valid
inline void sim_cp_async_16(void* shared, const void* global, bool valid, sim_site site = SIM_HERE) {
  sim_copy_async(shared, valid ? global : nullptr, 16, site);
}
inline void sim_cp_async_commit() { sim_copy_commit(); }
template <int N>
inline void sim_cp_async_wait(sim_site site = SIM_HERE) { sim_copy_wait(N, site); }

// ---------------------------------------------------------------------------------------------- arithmetic

// cvt.rn.{f16,bf16}x2.f32: two numbers rounded to 16 bits in one register
template <class T>
inline unsigned sim_pack2(float low, float high) { return sim_to_bits<T>(low) | sim_to_bits<T>(high) << 16; }

inline float sim_exp2(float x) {  // ex2.approx.ftz.f32
  float y = exp2f(fabsf(x) < 0x1p-126f ? 0 : x);
  return y < 0x1p-126f ? 0 : y;
}
