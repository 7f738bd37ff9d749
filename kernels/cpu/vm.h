// The tile VM's vocabulary, shared by the driver (call.h, reduce.cpp, order.cpp) and the
// instructions (tile_vm.cpp).
//
// A program is a list of instructions over float32 registers of up to TILE elements that stay in
// L1. The driver cuts a matrix [rows, cols] into tiles and runs the whole program on each; a tile
// never leaves its row unless nothing in the program depends on rows (then the matrix is one row).
// Instructions compute whole groups of LANES elements; what lies behind a tile's last element is
// neither stored nor counted.
#pragma once
#include <cstddef>
#include <cstdint>

// The first three are numbers of elements, and part of the meaning of sums (statistics.h).
constexpr int TILE = 512;
constexpr int LANES = 64;          // every build sums in the same lanes, so sums have the same bits
constexpr size_t BLOCK = 1 << 16;  // a partial sum covers so many, whatever the number of threads
constexpr int MAX_REDUCTIONS = 64;

enum Dtype : uint8_t { BF16, F16, F32 };

// d = op(a, b, c, e; s, t, u) of registers and numbers. k is an index into one of the task's tables.
struct Insn {
  uint16_t op, d, a, b, c, e, k, unused;
  float s, t, u;
};
static_assert(sizeof(Insn) == 28, "the Python encoder packs 8 H and 3 f");

struct Range { int64_t start, stop, step; };
struct Draw { uint64_t seed; uint32_t draw, unused; };

// Says which digit of the keys HISTOGRAM counts, and which prefix these keys have.
struct Digit {
  int shift, bits;
  uint32_t prefix, prefix_mask;
};

// GATHER counts keys below, at and between these ends, and keeps those between.
struct Bracket {
  uint32_t low, high;
  uint64_t below, at_low, at_high;
  uint32_t* inside;
  size_t num_inside;
};

// What a program runs on. The caller owns what the pointers point to.
struct Task {
  const void* const* inputs;
  const uint8_t* dtypes;
  const float* const* vectors;
  const Range* ranges;
  const Draw* draws;
  void* out;
  uint8_t out_dtype;
};

struct Tile {
  const Task* task;
  size_t at, row, col;  // the first element's flat index, row and column
  int n;
  float* registers;     // TILE floats each, 64-byte aligned
  uint16_t* padded;     // TILE words for a 16-bit input whose last group is not whole
  float* lanes;         // [reductions, LANES]; the driver adds them up in double every few tiles
  double* wide_lanes;   // the same lanes in double
  float* columns;       // [reductions, TILE], for reductions by column
  uint64_t* counts;     // HISTOGRAM's counts
  Digit digit;
  Bracket bracket;
  bool not_finite;
  size_t* since_look;   // the instructions that this thread ran since it looked at the clock
};

using Handler = void (*)(Tile&, const Insn&);
struct Instruction { const char* name; Handler run; };
using AddLanes = void (*)(double* total, float* few);  // total += few, then few = 0; LANES of each
using DigestChunks = void (*)(const uint8_t* data, size_t num_chunks, uint64_t first_strip,
                              uint64_t* totals);  // digest_chunks.h
struct InstructionSet {
  const Instruction* instructions;
  int count;
  AddLanes add_lanes;
  DigestChunks digest_chunks;
};
extern "C" InstructionSet instructions_portable();
extern "C" InstructionSet instructions_avx2();
extern "C" InstructionSet instructions_avx512();
