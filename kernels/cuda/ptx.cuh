// The tensor-core instructions that CUDA C++ has no name for, one wrapper each: all inline PTX of the project is here.
// Needs compute capability 8.0 and 16-bit storage (SCALAR_F16 or SCALAR_BF16). The simulator executes no PTX: there the
// names below stand for its functions. "Warp": all 32 lanes must call it together.
//
// A register of a fragment (unsigned) holds two 16-bit numbers, the one with the lower index in the lower half.
// Lane l: group g = l / 4, t = l % 4.
#pragma once
#include "common.cuh"

#if defined(CUDA_SIM)
#include <sim_ptx.h>
#define mma_m16n8k16 sim_mma_m16n8k16<scalar>
#define ldmatrix_x4 sim_ldmatrix_x4
#define ldmatrix_x4_trans sim_ldmatrix_x4_trans
#define cp_async_16 sim_cp_async_16
#define cp_async_commit sim_cp_async_commit
#define cp_async_wait sim_cp_async_wait
#define pack2 sim_pack2<scalar>
#define exp2_fast sim_exp2
#else

#if defined(SCALAR_BF16)
#define PTX_TYPE "bf16"
#else
#define PTX_TYPE "f16"
#endif

// Warp: d (16, 8) += a (16, 16) b (16, 8); a and b of 16 bits, products and sums in float32.
//   d[0], d[1] = D[g][2t], D[g][2t + 1]             d[2], d[3] = D[g + 8][2t], D[g + 8][2t + 1]
//   a[0] = A[g][2t, 2t + 1]                         a[1] = A[g + 8][2t, 2t + 1]
//   a[2] = A[g][2t + 8, 2t + 9]                     a[3] = A[g + 8][2t + 8, 2t + 9]
//   b[0] = B[2t, 2t + 1][g]                         b[1] = B[2t + 8, 2t + 9][g]
__device__ inline void mma_m16n8k16(float d[4], const unsigned a[4], const unsigned b[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32." PTX_TYPE "." PTX_TYPE ".f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

// Warp: four 8 x 8 matrices of 16-bit numbers out of shared memory. Lane l passes the address of row l % 8 of matrix
// l / 8: eight numbers in 16 bytes, aligned to 16. Then r[i] = matrix i's [g][2t, 2t + 1].
__device__ inline void ldmatrix_x4(unsigned r[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same rows, each matrix transposed on the way: r[i] = matrix i's [2t, 2t + 1][g].
__device__ inline void ldmatrix_x4_trans(unsigned r[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// Begin a copy of 16 bytes from global to shared memory, both aligned to 16, past the registers and the L1 cache.
// valid false: 16 zero bytes are written and global memory is not read. Thread: no other lane takes part.
__device__ inline void cp_async_16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
               : "memory");
}

// Close the group of the copies this thread has begun since its last commit; a group may be empty.
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until at most the N latest groups of this thread are still under way. What other threads copied is seen only
// after a __syncthreads as well.
template <int N>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Two float32 rounded to 16 bits, ties to even, in one register: low in the lower half.
__device__ inline unsigned pack2(float low, float high) {
  unsigned r;
  asm("cvt.rn." PTX_TYPE "x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// 2^x to 2 ulp, in one instruction; 2^-inf = 0, a subnormal x or result counts as 0.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#endif  // CUDA_SIM
