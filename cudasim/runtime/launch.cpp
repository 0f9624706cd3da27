// A launch: allocates stacks and shared arrays, runs the blocks one after another, writes the message of a fault.
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "runtime.h"

void run_block();
extern "C" void* sim_touch_tls();

alignas(1024) static unsigned char dynamic_memory[MAX_SHARED + GUARD];
unsigned char* sim_dynamic_shared = dynamic_memory;
static jmp_buf home;

// --------------------------------------------------------------------------------------------------- messages

void place_text(char* text, size_t bytes, const void* pc, sim_site site) {
  size_t offset = pc ? (char*)pc - 1 - launch.image : 0;
  if (site.line) snprintf(text, bytes, "<pc %zx %s:%d>", offset, site.file, site.line);
  else snprintf(text, bytes, "<pc %zx>", offset);
}

void add_fault(const char* place, const char* text) {
  size_t used = strlen(launch.message), room = launch.message_bytes - used;
  uint3 b = sim_builtin.block, t = sim_builtin.thread;
  if (!launch.faults++)
    snprintf(launch.message, room, "%s: %s, block (%u, %u, %u), thread (%u, %u, %u): %s", place, launch.kernel->name, b.x,
             b.y, b.z, t.x, t.y, t.z, text);
  else if (launch.faults < 6) snprintf(launch.message + used, room, "\n  then %s: %s", place, text);
}

void fault(const void* pc, sim_site site, const char* format, ...) {
  char place[600], text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  place_text(place, sizeof place, pc, site);
  add_fault(place, text);
  abandon();
}

void sim_fault(sim_site site, const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  fault(__builtin_return_address(0), site, "%s", text);
}

void abandon() { longjmp(home, 1); }

static void on_signal(int number, siginfo_t* info, void* context) {
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, number);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  const void* pc = nullptr;
#if defined(__x86_64__)
  pc = (char*)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP] + 1;
#endif
  if (number == SIGFPE) fault(pc, {}, "integer division by zero");
  fault(pc, {}, "access to an address outside all memory, or misaligned, or the stack is full (%p)", info->si_addr);
}

// ----------------------------------------------------------------------------------------------------- memory

// This library among all that are loaded: where its code, its data, and its thread-local segment lie.
static int find_image(dl_phdr_info* info, size_t, void*) {
  bool is_this_library = false;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    auto& part = info->dlpi_phdr[i];
    char *begin = (char*)info->dlpi_addr + part.p_vaddr, *end = begin + part.p_memsz;
    if (part.p_type == PT_TLS) launch.tls = (char*)info->dlpi_tls_data, launch.tls_bytes = part.p_memsz;
    if (part.p_type != PT_LOAD) continue;
    launch.image = (char*)info->dlpi_addr, launch.image_end = end;
    is_this_library |= (char*)&launch >= begin && (char*)&launch < end;
  }
  return is_this_library;
}

// Stacks for all fibers, each with a page below it that faults. All libraries share one set (2048 mappings, of 65530
// that a process may have): `others` is what the first of them returned.
extern "C" __attribute__((visibility("default"))) char* sim_stacks(char* others) {
  if (others) return launch.stacks = others;
  launch.stacks = (char*)mmap(nullptr, (size_t)STACK * MAX_THREADS, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (launch.stacks == MAP_FAILED) return launch.stacks = nullptr;
  for (int i = 0; i < MAX_THREADS; i++) mprotect(launch.stacks + (size_t)STACK * i, GUARD, PROT_NONE);
  return launch.stacks;
}

static void prepare_memory() {
  sim_touch_tls();
  dl_iterate_phdr(find_image, nullptr);
}

static void poison_shared() {
  memset(launch.tls, 0xFF, launch.tls_bytes);
  memset(dynamic_memory, 0xFF, launch.shared_bytes + GUARD);
}

static void check_dynamic_guard() {
  for (size_t i = launch.shared_bytes; i < launch.shared_bytes + GUARD; i++)
    if (dynamic_memory[i] != 0xFF)
      fault(nullptr, {}, "a thread of this block has written past the end of the dynamic shared memory: byte %zu of %zu",
            i, launch.shared_bytes);
}

// ----------------------------------------------------------------------------------------------------- launch

static void run_grid(const unsigned grid[3], unsigned long long seed) {
  unsigned long long n = (unsigned long long)grid[0] * grid[1] * grid[2], step = 1, at = 0;
  if (launch.schedule == RANDOM) {  // a full cycle through the blocks: start and step (coprime to n) from the seed
    at = seed * 0x9E3779B97F4A7C15ull % n;
    auto divides = [](unsigned long long a, unsigned long long b) {
      while (b) { unsigned long long r = a % b; a = b, b = r; }
      return a != 1;
    };
    for (step = n > 2 ? n * 5 / 8 : 1; divides(step, n); step++) {}
  }
  for (unsigned long long i = 0; i < n; i++, at = (at + step) % n) {
    unsigned long long b = launch.schedule == REVERSED ? n - 1 - i : at;
    sim_builtin.block = {(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]), (unsigned)(b / grid[0] / grid[1])};
    poison_shared();
    check_block_begins();
    run_block();
    check_block_ends();
    check_dynamic_guard();
  }
}

static const Kernel* find_kernel(const char* name) {
  for (int i = 0; i < sim_n_kernels; i++)
    if (!strcmp(sim_kernels[i].name, name)) return &sim_kernels[i];
  return nullptr;
}

// How many faults were found; `message` names the first ones.
extern "C" __attribute__((visibility("default"))) int sim_launch(
    const char* name, const unsigned grid[3], const unsigned block[3], void** args, const int* sizes, int n_args,
    size_t shared_bytes, int schedule, unsigned long long seed, char* message, int message_bytes) {
  launch.message = message, launch.message_bytes = message_bytes, launch.faults = 0;
  message[0] = 0;
  const Kernel* k = launch.kernel = find_kernel(name);
  auto refuse = [&](const char* format, auto... values) { return snprintf(message, message_bytes, format, values...), 1; };
  if (!k) return refuse("there is no kernel %s in this file", name);
  if (n_args != k->n_args) return refuse("%s takes %d arguments, not %d", name, k->n_args, n_args);
  for (int i = 0; i < n_args; i++)
    if (sizes[i] != k->sizes[i])
      return refuse("%s: argument %d has %d bytes, its parameter %d", name, i + 1, sizes[i], k->sizes[i]);
  size_t n_threads = (size_t)block[0] * block[1] * block[2];
  if (!n_threads || n_threads > MAX_THREADS || (k->max_threads && n_threads > (size_t)k->max_threads))
    return refuse("%s: a block of %zu threads; at most %d", name, n_threads, k->max_threads ? k->max_threads : MAX_THREADS);
  if (shared_bytes > MAX_SHARED) return refuse("%s: %zu bytes of dynamic shared memory; at most %d", name, shared_bytes, MAX_SHARED);
  launch.args = args, launch.n_threads = (int)n_threads, launch.shared_bytes = shared_bytes;
  launch.schedule = schedule, launch.random = seed;
  sim_builtin.block_dim = dim3(block[0], block[1], block[2]), sim_builtin.grid_dim = dim3(grid[0], grid[1], grid[2]);
  prepare_memory();
  check_launch_begins();

  static char signal_stack[64 << 10];
  stack_t stack = {}, old_stack;
  stack.ss_sp = signal_stack, stack.ss_size = sizeof signal_stack;
  sigaltstack(&stack, &old_stack);
  struct sigaction action = {}, old[3];
  action.sa_sigaction = on_signal, action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  const int signals[3] = {SIGSEGV, SIGBUS, SIGFPE};
  for (int i = 0; i < 3; i++) sigaction(signals[i], &action, &old[i]);
  if (!setjmp(home)) run_grid(grid, seed);
  for (int i = 0; i < 3; i++) sigaction(signals[i], &old[i], nullptr);
  sigaltstack(&old_stack, nullptr);
  return launch.faults;
}
