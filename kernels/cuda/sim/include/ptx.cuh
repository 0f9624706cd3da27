// The simulated device's own kernels/cuda/ptx.cuh: the same functions, with the semantics of that file's comments.
// What a warp does together is one meeting (sim_meet): the last lane reads what all handed in and works for all.
#pragma once
#include "common.cuh"

inline float sim_wide(unsigned bits) {  // a 16-bit number of a fragment
#if defined(SCALAR_BF16)
  return __bfloat162float(__ushort_as_bfloat16((unsigned short)bits));
#elif defined(SCALAR_F16)
  return __half2float(__ushort_as_half((unsigned short)bits));
#else
  return 0 * bits;  // ptx.cuh needs 16-bit storage
#endif
}

// ------------------------------------------------------------------------------------------ matrix products

struct sim_mma {
  float* d;
  const unsigned *a, *b;
};

SIM_UNSEEN inline void sim_mma_all(void* const lanes[32], unsigned) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const sim_mma& m = *(sim_mma*)lanes[lane];
    int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; half++) {
      int shift = 16 * half;
      for (int i = 0; i < 4; i++) a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] = sim_wide(m.a[i] >> shift);
      for (int i = 0; i < 2; i++) b[2 * t + 8 * i + half][g] = sim_wide(m.b[i] >> shift);
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
SIM_UNSEEN inline void mma_m16n8k16(float d[4], const unsigned a[4], const unsigned b[2], sim_site site = SIM_HERE) {
  sim_mma mine = {d, a, b};
  sim_meet(0xffffffffu, &mine, sim_mma_all, "mma_m16n8k16", site);
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
SIM_UNSEEN void sim_ldmatrix_x4(unsigned r[4], const void* row, const char* what, sim_site site) {
  sim_access(row, 16, 'm', site);
  sim_ldmatrix mine = {r, (const unsigned short*)row};
  sim_meet(0xffffffffu, &mine, sim_ldmatrix_all<transposed>, what, site);
}
SIM_UNSEEN inline void ldmatrix_x4(unsigned r[4], const void* row, sim_site site = SIM_HERE) {
  sim_ldmatrix_x4<false>(r, row, "ldmatrix_x4", site);
}
SIM_UNSEEN inline void ldmatrix_x4_trans(unsigned r[4], const void* row, sim_site site = SIM_HERE) {
  sim_ldmatrix_x4<true>(r, row, "ldmatrix_x4_trans", site);
}

// ------------------------------------------------------------------------------------- asynchronous copies

// The runtime copies at the wait, no earlier: a kernel that forgets to wait reads what was there before.
inline void cp_async_16(void* shared, const void* global, bool valid, sim_site site = SIM_HERE) {
  sim_copy_async(shared, valid ? global : nullptr, 16, site);
}
inline void cp_async_commit() { sim_copy_commit(); }
template <int N>
inline void cp_async_wait(sim_site site = SIM_HERE) { sim_copy_wait(N, site); }

// ---------------------------------------------------------------------------------------------- arithmetic

inline unsigned pack2(float low, float high) {
#if defined(SCALAR_BF16)
  return __bfloat16_as_ushort(__float2bfloat16_rn(low)) | (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
#elif defined(SCALAR_F16)
  return __half_as_ushort(__float2half_rn(low)) | (unsigned)__half_as_ushort(__float2half_rn(high)) << 16;
#else
  return 0 * (low + high);
#endif
}
inline float exp2_fast(float x) {
  float y = exp2f(fabsf(x) < 0x1p-126f ? 0 : x);
  return y < 0x1p-126f ? 0 : y;
}
