// Shared by the checker's files: the array at an address, the line of an access, the shadow state of a byte.
#pragma once
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime.h"

struct Array {  // global memory, from memory.py
  uint64_t address, nbytes;
  unsigned char* initialised;  // a flag a byte; null: all of it
};
struct SharedArray {  // a static __shared__ array, from the library's symbols
  uint64_t offset, nbytes;
  const char* name;  // empty: not the kernel's, see is_guard_variable
};

// The last accesses to a byte. Epochs count barriers through the whole launch, so an epoch tells the block as well;
// stamps count the __syncwarps of a warp.
struct Cell {
  uint32_t write_epoch, write_stamp, write_place;  // the last write; epoch 0: none
  uint32_t read_epoch, read_stamp, read_place;     // reads since, by lanes of one warp ...
  uint32_t read_lanes;
  uint32_t other_epoch, other_place;  // ... and the last by another warp or an earlier block
  uint16_t write_thread, read_warp, other_thread;
  bool atomic, pending;  // the last write: by an atomic; by an asynchronous copy in flight
};

enum Kind { READ = 1, WRITE = 2, ATOMIC = 4, PENDING = 8 };
enum Space { GLOBAL, SHARED };

struct Region {  // the array of an access
  Space space;
  const Array* array;         // GLOBAL
  const SharedArray* shared;  // SHARED; null: dynamic
  uint64_t offset;            // of its first byte, in the array
  Cell* cells;                // of its bytes
};

// A place in the source: an offset in the library that Python looks up, or a number of `sites`.
typedef uint32_t Place;
Place place_of(const void* pc);
Place place_of(const void* pc, sim_site site);
std::string text_of(Place place);

void report(bool fatal, Place place, const char* format, ...);
void check_access(const char* p, int bytes, int kind, Place place);

extern uint32_t epoch, block_epoch;  // the current one; that at the beginning of this block
void count_traffic(const Region& region, const char* p, int bytes, bool write, Place place);
void flush_traffic(int warp);
