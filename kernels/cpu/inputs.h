// Where a tile's inputs are read.
#pragma once
#include <cstring>

#include "vm.h"

namespace {

inline int whole_groups(const Tile& t) { return (t.n + LANES - 1) & -LANES; }

__attribute__((noinline)) const uint16_t* padded_copy(const Tile& t, const uint16_t* p) {
  memset(t.padded, 0, sizeof(uint16_t) * TILE);
  memcpy(t.padded, p, sizeof(uint16_t) * t.n);
  return t.padded;
}

// A 16-bit input at this tile, readable up to the end of the last group. A sweep asks for what it
// will read four tiles later, since the hardware stops fetching while a tile is computed: into L2,
// as L1 is full of registers and lanes (1.3 x; into L1 1.05 x). An apply does not, as its output then
// waits (0.85 x).
inline const uint16_t* halves(const Tile& t, int k) {
  const uint16_t* p = static_cast<const uint16_t*>(t.task->inputs[k]) + t.at;
  if (!t.task->out)
    for (int i = 0; i < TILE; i += 32) __builtin_prefetch(p + 4 * TILE + i, 0, 2);
  return t.n % LANES == 0 ? p : padded_copy(t, p);
}

// A float input at this tile. The next tile's is asked for: from memory an apply gains 1.1 to 1.3 x, a
// sweep 1.3 to 1.4 x.
inline const float* floats(const Tile& t, int k) {
  const float* p = static_cast<const float*>(t.task->inputs[k]) + t.at;
  for (int i = 0; i < TILE; i += 16) __builtin_prefetch(p + TILE + i, 0, 2);
  return p;
}

}  // namespace
