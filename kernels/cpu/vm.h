// The tile VM's vocabulary, shared by the driver (module.cpp) and the kernels (tile_vm.cpp).
//
// A program is a list of instructions over float32 registers of up to TILE elements that stay in
// L1. The driver cuts a matrix [rows, cols] into tiles and runs the whole program on each; a tile
// never leaves its row unless nothing in the program depends on rows (then the matrix is one row).
#pragma once
#include <cstddef>
#include <cstdint>

constexpr int TILE = 512;    // elements; part of the meaning of sums (see stats in tile_vm.cpp)
constexpr int LANES = 64;    // every build sums in the same lanes, so the order does not depend on it
constexpr size_t BLOCK = 1 << 16;  // elements per partial sum: fixed, whatever the thread count
constexpr int MAX_REDUCTIONS = 64;

enum Dtype : uint8_t { BF16, F16, F32 };

// Binary and select ops come in forms by operand: register (R) or scalar (S).
#define UNARY_OPS(X)                                                                              \
  X(NEG) X(ABS) X(SIGN) X(SQRT) X(RSQRT) X(EXP) X(EXPM1) X(LOG) X(LOG1P) X(SIN) X(COS) X(ASIN)     \
  X(ACOS) X(ATAN) X(TANH) X(ERF) X(FLOOR) X(CEIL) X(ROUND) X(TRUNC) X(ROUND_BF16) X(ROUND_F16)
#define BINARY_OPS(X)                                                                             \
  X(ADD) X(SUB) X(MUL) X(DIV) X(POW) X(MAX) X(MIN) X(MOD) X(ATAN2) X(LT) X(LE) X(EQ) X(NE)

enum Op : uint16_t {
  LOAD,         // d = input k as float32
  LOAD_DELTA,   // d = input k - register a (the base)
  FILL,         // d = s
  ROW_VALUE,    // d = vector k at this row
  COL_VALUES,   // d = vector k at these columns
  IN_RANGE,     // d = 1 where the flat index lies in range k
  UNIFORM,      // d = Philox numbers of draw k
  NORMAL,
  ADD_SCALED,   // d = a + b * s, rounded twice, as two instructions would
  KEEP_ABOVE,   // d = |a| > s ? a : 0
  WHERE_RRR, WHERE_RRS, WHERE_RSR, WHERE_RSS,  // d = a ? b : c; scalars: b is s, c is t
  STORE,        // out = a as float32
  STORE_MERGED, // out = a + b (the base) in the base's dtype, with the non-finite check
  SUM, SUM_ABS, SUM_PRODUCT, LARGEST, SMALLEST,  // reduction k of a (and b)
  HISTOGRAM,    // count the keys of a by their digit, for order statistics
#define X(name) name,
  UNARY_OPS(X)
#undef X
#define X(name) name##_RR, name##_RS, name##_SR,
  BINARY_OPS(X)
#undef X
  NUM_OPS
};

struct Insn {
  uint16_t op, d, a, b, c, k;
  float s, t;
};
static_assert(sizeof(Insn) == 20, "the Python encoder packs 6 H and 2 f");

struct Range { int64_t start, stop, step; };
struct Draw { uint64_t seed; uint32_t draw, unused; };

struct Digit {  // which digit of the order-preserving key is counted, and which prefix it must have
  int shift, bits;
  uint32_t prefix, prefix_mask;
};

struct Task {  // what a program runs on: pointers are owned by the caller
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
  size_t at, row, col;  // flat index of the first element, its row and column
  int n;
  float* registers;     // TILE floats each, 64-byte aligned
  double* lanes;        // [reductions, LANES]
  uint64_t* counts;     // of HISTOGRAM
  Digit digit;
  bool not_finite;
};

using RunTile = void (*)(Tile&, const Insn*, int);
extern "C" void run_tile_portable(Tile&, const Insn*, int);
extern "C" void run_tile_avx2(Tile&, const Insn*, int);
extern "C" void run_tile_avx512(Tile&, const Insn*, int);
