// The runtime of the simulated device: one launch at a time, every CUDA thread a fiber. Shared by the files beside it.
#pragma once
#include "../include/sim.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

enum Schedule { FORWARD, REVERSED, RANDOM };
enum { MAX_THREADS = 1024, STACK = 64 << 10, MAX_SHARED = 232448, GUARD = 4096 };

struct Copy {  // an asynchronous copy in flight
  char *to;
  const char* from;
  int bytes, group;
  sim_site site;
};

struct Fiber {
  void* sp;
  uint3 thread;
  enum { RUNNING, AT_BARRIER, IN_WARP, DONE } state;
  sim_site site;  // where it waits
  const void* pc;
  Copy* copies;
  int n_copies, copy_room, copy_group;
};

struct Meeting {  // lanes of a warp that wait for one another
  unsigned mask, arrived;
  sim_warp_op op;
  const char* what;
  sim_site site;
  void* lanes[32];
};

struct Warp {
  unsigned alive;  // lanes that have not left the kernel
  int n_meetings;
  Meeting meetings[32];
};

struct Kernel {  // a row of the table that the compiled source ends with
  const char* name;
  void (*call)(void** args);
  int n_args;
  const int* sizes;
  int max_threads;  // of __launch_bounds__; 0: none
};
extern "C" const Kernel sim_kernels[];
extern "C" const int sim_n_kernels;

struct Launch {
  const Kernel* kernel;
  void** args;
  int n_threads, current, schedule;
  size_t shared_bytes;
  unsigned long long random;
  Fiber fibers[MAX_THREADS];
  Warp warps[MAX_THREADS / 32];
  int order[MAX_THREADS];  // the threads in the order of the schedule
  int at_barrier, sum, any, all, result[4];
  int ready[MAX_THREADS], first, n_ready;  // a ring
  char *stacks, *tls, *image, *image_end;  // image: the library's own code and data
  size_t tls_bytes;
  void* scheduler_sp;
  char* message;
  int message_bytes, faults;
};
extern Launch launch;

void switch_to_next();         // the current fiber waits: go on with another
void ready_in_order(int n, const int* threads);
[[noreturn]] void abandon();   // leave the kernel for good
[[noreturn]] void fault(const void* pc, sim_site site, const char* format, ...);  // with a message
void add_fault(const char* place, const char* text);  // the first one becomes the message, further ones are named
void place_text(char* text, size_t bytes, const void* pc, sim_site site);  // lines.py replaces it by file and line

// fibers
void fiber_start(Fiber& fiber, char* stack_top);
void fiber_switch(void** from, void* to);

// hooks of the checker; empty in fast mode
void check_launch_begins();
void check_block_begins();
void check_block_ends();
void check_barrier();
void check_meeting(int warp, unsigned lanes, bool orders_memory);
void check_copy(const Copy& copy, bool done);
