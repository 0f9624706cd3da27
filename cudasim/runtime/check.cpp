// Check mode: every load and store of a kernel comes here first, through the calls that -fsanitize=thread puts before
// them. The thread sanitizer itself is not linked: CUDA threads are ordered by other rules.
//
// Within a block: __syncthreads orders everything, __syncwarp the lanes it names, a shuffle nothing. Between blocks of
// one launch nothing is ordered. Shared memory is unwritten when a block begins, global memory until it is written.
#include "check.h"

#include <stdarg.h>
#include <stdlib.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>

uint32_t epoch, block_epoch;
static std::vector<uint32_t> block_epochs;  // of the blocks that have begun, to name them
static std::vector<uint3> blocks;

static const Array* arrays;
static int n_arrays;
static std::vector<Cell*> array_cells;
static const SharedArray* shared_arrays;
static int n_shared_arrays;
static std::vector<Cell> static_cells, dynamic_cells;

struct Clock {  // of a warp: known[i][j] is the stamp up to which lane i has seen what lane j did
  uint32_t now, known[32][32];
};
static Clock clocks[MAX_THREADS / 32];

// ----------------------------------------------------------------------------------------- places, messages

static std::vector<std::pair<uint32_t, sim_site>> sites;
static std::unordered_map<uint32_t, Place> site_places;
static std::set<std::pair<Place, const char*>> reported;

Place place_of(const void* pc) { return (Place)((char*)pc - 1 - launch.image); }

Place place_of(const void* pc, sim_site site) {
  auto found = site_places.emplace(place_of(pc), 0x80000000u | (Place)sites.size());
  if (found.second) sites.push_back({place_of(pc), site});
  return found.first->second;
}

std::string text_of(Place place) {  // Python replaces it by file and line
  char text[600];
  if (place & 0x80000000u) {
    auto& s = sites[place & 0x7FFFFFFF];
    place_text(text, sizeof text, launch.image + s.first + 1, s.second);
  } else place_text(text, sizeof text, launch.image + place + 1, {});
  return text;
}

// One report for each line and kind of fault; the kernel goes on unless that would be fatal to this process.
void report(bool fatal, Place place, const char* format, ...) {
  if (reported.insert({place, format}).second) {
    char text[1500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    add_fault(text_of(place).c_str(), text);
  }
  if (fatal) abandon();
}

static std::string thread_name(int thread) {
  dim3 n = sim_builtin.block_dim;
  return "thread (" + std::to_string(thread % n.x) + ", " + std::to_string(thread / n.x % n.y) + ", " +
         std::to_string(thread / n.x / n.y) + ")";
}

static std::string block_name(uint32_t at) {
  uint3 b = blocks[std::upper_bound(block_epochs.begin(), block_epochs.end(), at) - block_epochs.begin() - 1];
  return "block (" + std::to_string(b.x) + ", " + std::to_string(b.y) + ", " + std::to_string(b.z) + ")";
}

static std::string memory_name(const Region& r) {
  char text[300];
  const char* shared = r.shared ? r.shared->name : "dynamic shared memory";
  if (r.space == SHARED) snprintf(text, sizeof text, "%s, byte %zu", shared, (size_t)r.offset);
  else snprintf(text, sizeof text, "<array %zx>, byte %zu", (size_t)r.array->address, (size_t)r.offset);
  return text;
}

// ------------------------------------------------------------------------------------------- address -> array

static void outside(Place place, const char* what, int bytes, const std::string& memory, int64_t offset, uint64_t size) {
  if (offset < 0) report(true, place, "%s %d bytes %lld bytes before the start of %s", what, bytes, (long long)-offset,
                         memory.c_str());
  report(true, place, "%s %d bytes at byte %lld of %s, which has %llu", what, bytes, (long long)offset, memory.c_str(),
         (unsigned long long)size);
}

static Region locate_static(const char* p, int bytes, const char* what, Place place) {
  uint64_t offset = p - launch.tls;
  const SharedArray* nearest = shared_arrays;
  for (int i = 0; i < n_shared_arrays; i++) {
    const SharedArray& a = shared_arrays[i];
    if (offset >= a.offset && offset + bytes <= a.offset + a.nbytes)
      return {SHARED, nullptr, &a, offset - a.offset, &static_cells[offset]};
    if (a.offset <= offset) nearest = &a;
  }
  outside(place, what, bytes, nearest->name, (int64_t)(offset - nearest->offset), nearest->nbytes);
  __builtin_unreachable();
}

static Region locate_global(const char* p, int bytes, const char* what, Place place) {
  static int last = 0;
  uint64_t address = (uint64_t)p;
  auto inside = [&](const Array& a) { return address >= a.address && address + bytes <= a.address + a.nbytes; };
  if (last >= n_arrays || !inside(arrays[last])) {
    last = (int)(std::upper_bound(arrays, arrays + n_arrays, address,
                                  [](uint64_t x, const Array& a) { return x < a.address; }) - arrays) - 1;
    if (last < 0 || !inside(arrays[last])) {
      // name the nearest array, which may be the next one
      int near = last < 0 ? 0 : last;
      if (last >= 0 && last + 1 < n_arrays && address >= arrays[last].address + arrays[last].nbytes &&
          arrays[last + 1].address - address < address - (arrays[last].address + arrays[last].nbytes)) near = last + 1;
      last = 0;
      if (!n_arrays || llabs((long long)(address - arrays[near].address)) > (1ll << 40) || address < 4096)
        report(true, place, "%s %d bytes at address %p, where there is no array", what, bytes, (void*)p);
      char name[60];
      snprintf(name, sizeof name, "<array %zx>", (size_t)arrays[near].address);
      outside(place, what, bytes, name, (int64_t)(address - arrays[near].address), arrays[near].nbytes);
    }
  }
  if (!array_cells[last]) array_cells[last] = (Cell*)calloc(arrays[last].nbytes, sizeof(Cell));
  uint64_t offset = address - arrays[last].address;
  return {GLOBAL, &arrays[last], nullptr, offset, array_cells[last] + offset};
}

static Region locate(const char* p, int bytes, const char* what, Place place) {
  char* dynamic = (char*)sim_dynamic_shared;
  if (p >= launch.tls && p < launch.tls + launch.tls_bytes) return locate_static(p, bytes, what, place);
  if (p >= dynamic - GUARD && p < dynamic + MAX_SHARED + GUARD) {
    if (p < dynamic || p + bytes > dynamic + launch.shared_bytes)
      outside(place, what, bytes, "the dynamic shared memory", p - dynamic, launch.shared_bytes);
    return {SHARED, nullptr, nullptr, (uint64_t)(p - dynamic), &dynamic_cells[p - dynamic]};
  }
  return locate_global(p, bytes, what, place);
}

// ------------------------------------------------------------------------------------------------- races

static bool same_block(uint32_t at) { return at >= block_epoch; }

// Whether what `thread` did at this epoch and stamp comes before what the current thread does now.
static bool ordered(int thread, uint32_t at, uint32_t stamp) {
  if (thread == launch.current || at < epoch) return true;
  if (thread / 32 != launch.current / 32) return false;
  return clocks[thread / 32].known[launch.current % 32][thread % 32] >= stamp;
}

static void race(Place place, const Region& r, const char* now, const char* then, int thread, uint32_t at, Place other) {
  std::string who = same_block(at) ? thread_name(thread) : block_name(at);
  const char* advice = same_block(at) ? "no barrier lies between" : "blocks run in any order";
  report(false, place, "race: %s %s, which %s %s at %s; %s", now, memory_name(r).c_str(), who.c_str(), then,
         text_of(other).c_str(), advice);
}

static void check_read(Cell& c, const Region& r, int kind, Place place) {
  uint32_t stamp = clocks[launch.current / 32].now, lane = 1u << launch.current % 32;
  int warp = launch.current / 32;
  if (c.pending && same_block(c.write_epoch))
    report(false, place, "reads %s, into which an asynchronous copy begun at %s may be under way; wait for it first",
           memory_name(r).c_str(), text_of(c.write_place).c_str());
  else if (c.write_epoch && (!same_block(c.write_epoch) || !ordered(c.write_thread, c.write_epoch, c.write_stamp)))
    race(place, r, "reads", "wrote", c.write_thread, c.write_epoch, c.write_place);
  // keep the reads of this warp in this epoch that no __syncwarp orders before this one, and one of another warp
  if (c.read_epoch && (c.read_epoch != epoch || c.read_warp != warp)) {
    if ((c.read_epoch == epoch && !(c.other_epoch && !same_block(c.other_epoch))) || !same_block(c.read_epoch)) {
      c.other_epoch = c.read_epoch, c.other_place = c.read_place;
      c.other_thread = 32 * c.read_warp + __builtin_ctz(c.read_lanes);
    }
    c.read_lanes = 0;
  } else if (c.read_lanes && c.read_stamp != stamp) {
    for (int i = 0; i < 32; i++)
      if (c.read_lanes >> i & 1 && ordered(32 * warp + i, c.read_epoch, c.read_stamp)) c.read_lanes &= ~(1u << i);
  }
  c.read_stamp = c.read_lanes ? std::min(c.read_stamp, stamp) : stamp;
  c.read_lanes |= lane, c.read_epoch = epoch, c.read_warp = (uint16_t)warp, c.read_place = place;
}

static void check_write(Cell& c, const Region& r, int kind, Place place) {
  bool both_atomic = c.atomic && kind & ATOMIC;
  if (c.write_epoch && !both_atomic && (!same_block(c.write_epoch) || !ordered(c.write_thread, c.write_epoch, c.write_stamp)))
    race(place, r, "writes", "wrote", c.write_thread, c.write_epoch, c.write_place);
  else if (c.other_epoch && (!same_block(c.other_epoch) || !ordered(c.other_thread, c.other_epoch, 0xffffffffu)))
    race(place, r, "writes", "read", c.other_thread, c.other_epoch, c.other_place);
  else if (c.read_epoch)
    for (int i = 0; i < 32; i++) {
      int thread = 32 * c.read_warp + i;
      if (!(c.read_lanes >> i & 1)) continue;
      if (same_block(c.read_epoch) && ordered(thread, c.read_epoch, c.read_stamp)) continue;
      race(place, r, "writes", "read", thread, c.read_epoch, c.read_place);
      break;
    }
  c.write_epoch = epoch, c.write_stamp = clocks[launch.current / 32].now, c.write_place = place;
  c.write_thread = (uint16_t)launch.current, c.atomic = kind & ATOMIC, c.pending = kind & PENDING;
  c.read_epoch = c.other_epoch = c.read_lanes = 0;
}

// ------------------------------------------------------------------------------------------------ accesses

void check_access(const char* p, int bytes, int kind, Place place) {
  const char* what = kind & ATOMIC ? "atomically updates" : kind & WRITE ? "writes" : "reads";
  Region r = locate(p, bytes, what, place);
  unsigned char* flags = r.space == GLOBAL && r.array->initialised ? r.array->initialised + r.offset : nullptr;
  bool unwritten = false;
  for (int i = 0; i < bytes; i++) {
    Cell& c = r.cells[i];
    if (r.space == SHARED && c.write_epoch < block_epoch) {  // of an earlier block: not this memory
      if (c.read_epoch < block_epoch) c = {};
      c.write_epoch = 0;
    }
    if (kind & (READ | ATOMIC)) unwritten |= r.space == SHARED ? !c.write_epoch : flags && !flags[i];
    if (kind & READ) check_read(c, r, kind, place);
    if (kind & WRITE) check_write(c, r, kind, place);
    if (kind & WRITE && flags) flags[i] = 1;
  }
  if (unwritten) report(false, place, "reads %s, which nobody has written yet", memory_name(r).c_str());
  count_traffic(r, p, bytes, kind & WRITE, place);
}

static bool is_private(const char* p) {  // the thread's own stack, the built-in variables, constants
  return (p >= launch.stacks && p < launch.stacks + (size_t)STACK * MAX_THREADS) || (p >= launch.image && p < launch.image_end &&
         !(p >= (char*)sim_dynamic_shared - GUARD && p < (char*)sim_dynamic_shared + MAX_SHARED + GUARD));
}

// g++ keeps a flag "has been constructed" for a shared array of a class; its poisoned value means yes.
static bool is_guard_variable(const char* p) {
  if (p < launch.tls || p >= launch.tls + launch.tls_bytes) return false;
  for (int i = 0; i < n_shared_arrays; i++) {
    const SharedArray& a = shared_arrays[i];
    uint64_t offset = p - launch.tls;
    if (!*a.name && offset >= a.offset && offset < a.offset + a.nbytes) return true;
  }
  return false;
}

static inline void hook(const void* address, int bytes, int aligned, int kind, const void* pc) {
  const char* p = (const char*)address;
  if (is_private(p) || is_guard_variable(p)) return;
  if ((uintptr_t)p % aligned)
    report(true, place_of(pc), "%s %d bytes at %p: the address is not a multiple of %d", kind == READ ? "reads" : "writes",
           bytes, address, aligned);
  check_access(p, bytes, kind, place_of(pc));
}

#define HOOKS(n)                                                                                                \
  void __tsan_read##n(void* p) { hook(p, n, n, READ, __builtin_return_address(0)); }                            \
  void __tsan_write##n(void* p) { hook(p, n, n, WRITE, __builtin_return_address(0)); }                          \
  void __tsan_unaligned_read##n(void* p) { hook(p, n, 1, READ, __builtin_return_address(0)); }                  \
  void __tsan_unaligned_write##n(void* p) { hook(p, n, 1, WRITE, __builtin_return_address(0)); }                \
  void __tsan_volatile_read##n(void* p) { hook(p, n, n, READ, __builtin_return_address(0)); }                   \
  void __tsan_volatile_write##n(void* p) { hook(p, n, n, WRITE, __builtin_return_address(0)); }
extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void* p, size_t n) { hook(p, (int)n, 1, READ, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t n) { hook(p, (int)n, 1, WRITE, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

// -fsanitize=bounds: an index past the end of an array whose size is in its type, also of a thread's own array
struct Bounds {
  const char* file;
  uint32_t line, column;
  struct Type {
    uint16_t kind, info;
    char name[1];
  } * array, *index;
};
void __ubsan_handle_out_of_bounds(Bounds* at, void* index) {
  report(true, place_of(__builtin_return_address(0)), "index %ld in an array of type %s", (long)(int)(intptr_t)index, at->array->name);
}
}

void sim_access(const void* p, int bytes, char kind, sim_site site) {
  if (!bytes || is_private((const char*)p)) return;
  Place place = place_of(__builtin_return_address(0), site);
  if ((uintptr_t)p % bytes) report(true, place, "accesses %d bytes at %p: the address is not a multiple of %d", bytes, p, bytes);
  check_access((const char*)p, bytes, kind == 'a' ? WRITE | ATOMIC : kind == 'w' ? WRITE : READ, place);
}

void sim_undefined(sim_site site, const char* format, ...) {
  char text[500];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  report(false, place_of(__builtin_return_address(0), site), "%s", text);
}

void check_copy(const Copy& c, bool done) {
  Place place = place_of(__builtin_return_address(0), c.site);
  if (!done && c.from) check_access(c.from, c.bytes, READ, place);
  check_access(c.to, c.bytes, done ? WRITE : WRITE | PENDING, place);
}

// ---------------------------------------------------------------------------------- calls of the scheduler

void check_block_begins() {
  block_epoch = ++epoch;
  block_epochs.push_back(epoch), blocks.push_back(sim_builtin.block);
  for (Clock& c : clocks) {
    c.now = 1;
    memset(c.known, 0, sizeof c.known);
  }
}

void check_block_ends() {
  for (int w = 0; 32 * w < launch.n_threads; w++) flush_traffic(w);
}

void check_barrier() {
  epoch++;
  check_block_ends();
}

void check_meeting(int warp, unsigned lanes, bool orders_memory) {
  if (lanes == launch.warps[warp].alive) flush_traffic(warp);
  if (!orders_memory) return;
  Clock& c = clocks[warp];
  uint32_t known[32] = {};
  for (int i = 0; i < 32; i++)
    if (lanes >> i & 1)
      for (int j = 0; j < 32; j++) known[j] = std::max(known[j], lanes >> j & 1 ? c.now : c.known[i][j]);
  for (int i = 0; i < 32; i++)
    if (lanes >> i & 1) memcpy(c.known[i], known, sizeof known);
  c.now++;
}

void check_launch_begins() {
  for (Cell* cells : array_cells) free(cells);
  array_cells.assign(n_arrays, nullptr);
  static_cells.assign(launch.tls_bytes, Cell{});
  dynamic_cells.assign(launch.shared_bytes, Cell{});
  block_epochs.clear(), blocks.clear(), reported.clear();
  epoch = block_epoch = 0;
}

extern "C" __attribute__((visibility("default"))) void sim_memory(const Array* global, int n_global,
                                                                   const SharedArray* shared, int n_shared) {
  arrays = global, n_arrays = n_global, shared_arrays = shared, n_shared_arrays = n_shared;
}
