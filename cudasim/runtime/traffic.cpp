// Counters of check mode: what the memory system moves for each line of the source.
//
// Lanes run one after another. The k-th execution of an instruction by each lane since the warp last met counts as one
// access of the warp: global memory moves it in sectors of 32 bytes, shared memory in waves, each of which
// serves every one of 32 banks (4 bytes wide) with one word.
#include <algorithm>

#include "check.h"

struct Access {
  uint64_t address[32];
  unsigned lanes;
};
struct Instruction {  // of one warp, since its lanes last met
  Place place;
  Space space;
  bool write;
  int bytes;
  unsigned n[32];  // how often each lane has executed it
  std::vector<Access> accesses;
};
struct Counter {  // as CounterRow in module.py
  uint64_t place, space, write, accesses, lanes, bytes, distinct, sectors, least_sectors, waves, least_waves;
};

static std::vector<Counter> counters;
static std::unordered_map<uint64_t, int> counter_of;
struct Pending {
  std::unordered_map<uint64_t, int> index;
  std::vector<Instruction> instructions;
};
static Pending pending[MAX_THREADS / 32];

static uint64_t key(Place place, Space space, bool write, int bytes) {
  return (uint64_t)place << 32 | (uint64_t)bytes << 2 | space << 1 | write;
}

void count_traffic(const Region& region, const char* p, int bytes, bool write, Place place) {
  while (bytes > 16) {  // a larger struct takes several instructions
    count_traffic(region, p, 16, write, place);
    p += 16, bytes -= 16;
  }
  Pending& warp = pending[launch.current / 32];
  auto found = warp.index.emplace(key(place, region.space, write, bytes), (int)warp.instructions.size());
  if (found.second) warp.instructions.push_back({place, region.space, write, bytes, {}, {}});
  Instruction& instruction = warp.instructions[found.first->second];
  int lane = launch.current % 32;
  unsigned k = instruction.n[lane]++;
  if (k == instruction.accesses.size()) instruction.accesses.push_back({});
  instruction.accesses[k].address[lane] = (uint64_t)p;
  instruction.accesses[k].lanes |= 1u << lane;
}

// Distinct units of `size` bytes that lanes first .. last - 1 touch.
static int units(const Access& a, int bytes, int size, int first, int last, uint64_t* out) {
  int n = 0;
  for (int i = first; i < last; i++)
    if (a.lanes >> i & 1)
      for (uint64_t u = a.address[i] / size; u <= (a.address[i] + bytes - 1) / size; u++) out[n++] = u;
  std::sort(out, out + n);
  return (int)(std::unique(out, out + n) - out);
}

static void add_global(Counter& c, const Access& a, int bytes) {
  uint64_t unit[32 * 17];
  int sectors = units(a, bytes, 32, 0, 32, unit), distinct = units(a, bytes, 1, 0, 32, unit);
  c.sectors += sectors, c.distinct += distinct, c.least_sectors += (distinct + 31) / 32;
}

// 32 lanes of up to 4 bytes go together, 16 of 8 bytes, 8 of 16 bytes.
static void add_shared(Counter& c, const Access& a, int bytes) {
  int together = bytes <= 4 ? 32 : bytes <= 8 ? 16 : 8;
  for (int first = 0; first < 32; first += together) {
    uint64_t word[32 * 5];
    int n = units(a, bytes, 4, first, first + together, word), in_bank[32] = {}, waves = 0;
    for (int i = 0; i < n; i++) waves = std::max(waves, ++in_bank[word[i] % 32]);
    c.waves += waves, c.least_waves += n > 0, c.distinct += 4 * n;
  }
}

void flush_traffic(int warp) {
  for (Instruction& instruction : pending[warp].instructions) {
    auto found = counter_of.emplace(key(instruction.place, instruction.space, instruction.write, 0), (int)counters.size());
    if (found.second) counters.push_back({instruction.place, instruction.space, instruction.write});
    Counter& c = counters[found.first->second];
    for (const Access& a : instruction.accesses) {
      c.accesses++, c.lanes += __builtin_popcount(a.lanes);
      c.bytes += (uint64_t)__builtin_popcount(a.lanes) * instruction.bytes;
      if (instruction.space == GLOBAL) add_global(c, a, instruction.bytes);
      else add_shared(c, a, instruction.bytes);
    }
  }
  pending[warp].instructions.clear(), pending[warp].index.clear();
}

// Writes up to `room` counters to `out`; returns how many there are.
extern "C" __attribute__((visibility("default"))) int sim_counters(Counter* out, int room) {
  std::copy(counters.begin(), counters.begin() + std::min<size_t>(room, counters.size()), out);
  return (int)counters.size();
}

extern "C" __attribute__((visibility("default"))) void sim_reset_counters() {
  counters.clear(), counter_of.clear();
  for (Pending& p : pending) p.instructions.clear(), p.index.clear();
}

// A counter's place as text, which Python replaces by file and line.
extern "C" __attribute__((visibility("default"))) void sim_place(uint64_t place, char* text, int bytes) {
  snprintf(text, bytes, "%s", text_of((Place)place).c_str());
}
