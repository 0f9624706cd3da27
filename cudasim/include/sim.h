// What a CUDA source finds built in, for g++: this file is included before the first line of every .cu.
//
// A CUDA thread is a fiber of the runtime (runtime/scheduler.cpp). Whatever makes threads wait for one another goes
// through two calls: sim_barrier (the block) and sim_meet (lanes of a warp: each passes its operands, and the last lane to arrive
// computes the results of all).
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
// All static shared memory of a source is its library's thread-local segment, which the runtime finds and poisons.
#define __shared__ static __thread
// The shim's own loads and stores are no accesses of the kernel: the checker must not see them.
#define SIM_UNSEEN __attribute__((no_sanitize("thread"), no_sanitize("address")))

#define __CUDACC__ 1
#define __CUDA_ARCH__ 800
#define CUDA_SIM 1

#include "vector_types.h"

struct sim_site {  // a line of the source
  const char* file;
  int line;
  sim_site(const char* file = nullptr, int line = 0) : file(file), line(line) {}
};
#define SIM_HERE sim_site(__builtin_FILE(), __builtin_LINE())  // as a default argument: the caller's line

// The built-in variables. The runtime sets `thread` whenever another fiber goes on.
struct sim_builtins {
  uint3 thread, block;
  dim3 block_dim, grid_dim;
};
extern sim_builtins sim_builtin;
#define threadIdx (sim_builtin.thread)
#define blockIdx (sim_builtin.block)
#define blockDim (sim_builtin.block_dim)
#define gridDim (sim_builtin.grid_dim)
#define warpSize 32

// op(lanes, mask, active): what the last lane does for all; lanes[i] is what lane i handed in, if bit i of active is set.
typedef void (*sim_warp_op)(void* const lanes[32], unsigned active);
extern "C" {
extern unsigned char* sim_dynamic_shared;
int sim_barrier(int value, char reduce, sim_site site);  // reduce: 0, '+', '|', '&' over the values
void sim_meet(unsigned mask, void* operands, sim_warp_op op, const char* what, sim_site site);
int sim_lane();
void sim_undefined(sim_site site, const char* format, ...);  // legal to do, but the result means nothing
[[noreturn]] void sim_fault(sim_site site, const char* format, ...);
void sim_access(const void* p, int bytes, char kind, sim_site site);  // kind 'r', 'w', 'a' (atomic), for the checker
void sim_copy_async(void* shared, const void* global, int bytes, sim_site site);
void sim_copy_commit();
void sim_copy_wait(int newest, sim_site site);
}

#include "intrinsics.h"
#include "warp.h"
