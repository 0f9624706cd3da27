// Barriers, and what the lanes of a warp do together: shuffles, votes.
#pragma once

inline void __syncthreads(sim_site site = SIM_HERE) { sim_barrier(0, 0, site); }
inline int __syncthreads_count(int x, sim_site site = SIM_HERE) { return sim_barrier(x != 0, '+', site); }
inline int __syncthreads_or(int x, sim_site site = SIM_HERE) { return sim_barrier(x != 0, '|', site); }
inline int __syncthreads_and(int x, sim_site site = SIM_HERE) { return sim_barrier(x != 0, '&', site); }
inline void __syncwarp(unsigned mask = 0xffffffffu, sim_site site = SIM_HERE) {
  sim_meet(mask, nullptr, nullptr, "__syncwarp", site);
}

// -------------------------------------------------------------------------------------------------- shuffles

template <class T>
struct sim_shuffle {
  T in, out;
  int source;   // lane to read from
  bool absent;  // that lane did not take part
};

template <class T>
SIM_UNSEEN void sim_shuffle_all(void* const lanes[32], unsigned active) {
  for (int i = 0; i < 32; i++) {
    if (!(active >> i & 1)) continue;
    auto& operands = *(sim_shuffle<T>*)lanes[i];
    operands.absent = !(active >> operands.source & 1);
    if (operands.absent) memset((void*)&operands.out, 0xFF, sizeof(T));
    else operands.out = ((sim_shuffle<T>*)lanes[operands.source])->in;
  }
}

template <class T>
SIM_UNSEEN T sim_shuffle_from(unsigned mask, T x, int source, const char* what, sim_site site) {
  sim_shuffle<T> operands;
  operands.in = x, operands.source = source;
  sim_meet(mask, &operands, sim_shuffle_all<T>, what, site);
  if (operands.absent) sim_undefined(site, "%s reads from lane %d, which takes no part", what, source);
  return operands.out;
}

// width cuts the warp into segments of that many lanes, a power of two; a lane beyond its segment's end reads itself.
template <class T>
SIM_UNSEEN T __shfl_sync(unsigned mask, T x, int source, int width = 32, sim_site site = SIM_HERE) {
  int lane = sim_lane();
  return sim_shuffle_from(mask, x, (lane & -width) | (source & (width - 1)), "__shfl_sync", site);
}
template <class T>
SIM_UNSEEN T __shfl_xor_sync(unsigned mask, T x, int flip, int width = 32, sim_site site = SIM_HERE) {
  int lane = sim_lane(), from = lane ^ flip;
  if (from > (lane | (width - 1))) from = lane;
  return sim_shuffle_from(mask, x, from, "__shfl_xor_sync", site);
}
template <class T>
SIM_UNSEEN T __shfl_up_sync(unsigned mask, T x, unsigned delta, int width = 32, sim_site site = SIM_HERE) {
  int lane = sim_lane(), from = lane - (int)delta;
  if (from < (lane & -width)) from = lane;
  return sim_shuffle_from(mask, x, from, "__shfl_up_sync", site);
}
template <class T>
SIM_UNSEEN T __shfl_down_sync(unsigned mask, T x, unsigned delta, int width = 32, sim_site site = SIM_HERE) {
  int lane = sim_lane(), from = lane + (int)delta;
  if (from > (lane | (width - 1))) from = lane;
  return sim_shuffle_from(mask, x, from, "__shfl_down_sync", site);
}

// ------------------------------------------------------------------------------------- votes and reductions

template <class T>
struct sim_vote {
  T in, out;
};

// Every lane's `out` becomes the fold of all lanes' `in`, lane 0 first.
#define SIM_FOLD(name, expression)                                                                           \
  template <class T>                                                                                         \
  SIM_UNSEEN void name(void* const lanes[32], unsigned active) {                                             \
    T all = ((sim_vote<T>*)lanes[__builtin_ctz(active)])->in;                                                \
    for (int i = __builtin_ctz(active) + 1; i < 32; i++)                                                     \
      if (active >> i & 1) {                                                                                 \
        T x = ((sim_vote<T>*)lanes[i])->in;                                                                  \
        all = expression;                                                                                    \
      }                                                                                                      \
    for (int i = 0; i < 32; i++)                                                                             \
      if (active >> i & 1) ((sim_vote<T>*)lanes[i])->out = all;                                              \
  }
SIM_FOLD(sim_fold_or, all | x)
SIM_FOLD(sim_fold_and, all & x)
SIM_FOLD(sim_fold_add, all + x)
SIM_FOLD(sim_fold_min, x < all ? x : all)
SIM_FOLD(sim_fold_max, all < x ? x : all)
#undef SIM_FOLD

template <class T>
SIM_UNSEEN T sim_vote_on(unsigned mask, T x, sim_warp_op op, const char* what, sim_site site) {
  sim_vote<T> operands = {x, x};
  sim_meet(mask, &operands, op, what, site);
  return operands.out;
}
inline unsigned __ballot_sync(unsigned mask, int x, sim_site site = SIM_HERE) {
  return sim_vote_on((mask), x ? 1u << sim_lane() : 0u, sim_fold_or<unsigned>, "__ballot_sync", site);
}
inline int __any_sync(unsigned mask, int x, sim_site site = SIM_HERE) {
  return sim_vote_on(mask, int(x != 0), sim_fold_or<int>, "__any_sync", site);
}
inline int __all_sync(unsigned mask, int x, sim_site site = SIM_HERE) {
  return sim_vote_on(mask, int(x != 0), sim_fold_and<int>, "__all_sync", site);
}
template <class T>
T __reduce_add_sync(unsigned mask, T x, sim_site site = SIM_HERE) {
  return sim_vote_on(mask, x, sim_fold_add<T>, "__reduce_add_sync", site);
}
template <class T>
T __reduce_min_sync(unsigned mask, T x, sim_site site = SIM_HERE) {
  return sim_vote_on(mask, x, sim_fold_min<T>, "__reduce_min_sync", site);
}
template <class T>
T __reduce_max_sync(unsigned mask, T x, sim_site site = SIM_HERE) {
  return sim_vote_on(mask, x, sim_fold_max<T>, "__reduce_max_sync", site);
}
