// Appended to every source: the table of its kernels for the runtime, built from their C++ types.
#pragma once

struct sim_kernel {  // as struct Kernel of runtime/runtime.h
  const char* name;
  void (*call)(void** args);
  int n_args;
  const int* sizes;
  int max_threads;
};

template <int...>
struct sim_indices {};
template <int n, int... i>
struct sim_range : sim_range<n - 1, n - 1, i...> {};
template <int... i>
struct sim_range<0, i...> { typedef sim_indices<i...> type; };

template <class... P, int... i>
SIM_UNSEEN inline void sim_unpack(void (*kernel)(P...), void** args, sim_indices<i...>) {
  kernel(*(P*)args[i]...);
}
template <class... P>
SIM_UNSEEN inline void sim_unpack(void (*kernel)(P...), void** args) {
  sim_unpack(kernel, args, typename sim_range<sizeof...(P)>::type());
}
template <auto kernel>
SIM_UNSEEN void sim_call(void** args) { sim_unpack(kernel, args); }

template <class... P>
constexpr int sim_count(void (*)(P...)) { return sizeof...(P); }
template <class... P>
struct sim_sizes_of { static constexpr int sizes[] = {(int)sizeof(P)..., 0}; };
template <class... P>
constexpr const int* sim_sizes(void (*)(P...)) { return sim_sizes_of<P...>::sizes; }
template <class... N>
constexpr int sim_first(int n, N...) { return n; }

static __thread char sim_tls_begin;
extern "C" SIM_UNSEEN void* sim_touch_tls() { return &sim_tls_begin; }  // the thread-local segment exists from now on
