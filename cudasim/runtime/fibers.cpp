// Switching between fibers: by hand on x86-64 (some 10 ns), by ucontext elsewhere.
#include "runtime.h"

void run_fiber();

#if defined(__x86_64__)

// Saves the registers that a function must preserve on the old stack, takes them from the new one, and returns there.
asm(R"(
  .text
  .p2align 4
fiber_switch_asm:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
extern "C" void fiber_switch_asm(void** from, void* to);

void fiber_switch(void** from, void* to) { fiber_switch_asm(from, to); }

void fiber_start(Fiber& fiber, char* stack_top) {
  void** sp = (void**)stack_top;
  *--sp = nullptr;  // where run_fiber would return to: a debugger's backtrace ends here
  *--sp = (void*)run_fiber;
  for (int i = 0; i < 6; i++) *--sp = nullptr;
  fiber.sp = sp;
}

#else
#include <ucontext.h>

static ucontext_t contexts[MAX_THREADS + 1];

void fiber_switch(void** from, void* to) {  // a "stack pointer" is the address of a context; null: the scheduler's
  ucontext_t* context = &contexts[from == &launch.scheduler_sp ? MAX_THREADS : (Fiber*)from - launch.fibers];
  *from = context;
  swapcontext(context, (ucontext_t*)to);
}

void fiber_start(Fiber& fiber, char* stack_top) {
  ucontext_t& context = contexts[&fiber - launch.fibers];
  getcontext(&context);
  context.uc_stack.ss_sp = stack_top - STACK + GUARD, context.uc_stack.ss_size = STACK - GUARD;
  context.uc_link = nullptr;
  makecontext(&context, run_fiber, 0);
  fiber.sp = &context;
}
#endif
