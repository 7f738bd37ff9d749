// One source, compiled once per instruction set (-DISA=...). Plain loops that the compiler
// vectorises; no contraction, so that every build and every backend rounds alike.
#include "vm.h"

#include <cmath>
#include <cstring>

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define LOOP _Pragma("GCC ivdep") for (int i = 0; i < n; i++)

namespace {

inline float as_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
inline uint32_t as_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }

// ---- 16-bit formats: by bits, as the hardware instruction for bf16 flushes subnormals ----

inline float from_bf16(uint16_t h) { return as_float(uint32_t(h) << 16); }

inline uint16_t to_bf16(float f) {  // nearest even; a NaN stays one
  uint32_t u = as_bits(f), rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  return (u & 0x7fffffff) > 0x7f800000 ? uint16_t((u >> 16) | 0x40) : uint16_t(rounded);
}

inline float from_f16(uint16_t h) {  // exact: 2^112 moves the exponent, subnormals too
  uint32_t magnitude = uint32_t(h & 0x7fff) << 13, sign = uint32_t(h & 0x8000) << 16;
  float scaled = as_float(magnitude) * as_float(0x77800000u);
  return as_float(as_bits(scaled) | (magnitude >= 0x0f800000u ? 0x7f800000u : 0u) | sign);
}

inline uint16_t to_f16(float f) {  // nearest even: add and remove a power of two that leaves 11 bits
  uint32_t u = as_bits(f), sign = (u >> 16) & 0x8000;
  u &= 0x7fffffff;
  float x = as_float(u);
  uint32_t exponent = u & 0x7f800000;
  exponent = exponent < 0x38800000u ? 0x38800000u : exponent;
  float magic = as_float(exponent + (13u << 23)), rounded = (x + magic) - magic;
  uint32_t h = as_bits(rounded * as_float(0x07800000u)) >> 13;
  bool overflow = as_bits(rounded) >= 0x47800000u;
  return uint16_t(sign | (u > 0x7f800000u ? 0x7e00 : overflow ? 0x7c00 : h));
}

// ---- memory ----

void load(const Tile& t, int k, float* __restrict d) {
  const int n = t.n;
  const Task& task = *t.task;
  if (task.dtypes[k] == F32) {
    memcpy(d, static_cast<const float*>(task.inputs[k]) + t.at, sizeof(float) * n);
  } else {
    const uint16_t* p = static_cast<const uint16_t*>(task.inputs[k]) + t.at;
    if (task.dtypes[k] == BF16) LOOP d[i] = from_bf16(p[i]);
    else LOOP d[i] = from_f16(p[i]);
  }
}

void load_delta(const Tile& t, int k, float* __restrict d, const float* __restrict base) {
  const int n = t.n;
  if (t.task->dtypes[k] == BF16) {
    const uint16_t* p = static_cast<const uint16_t*>(t.task->inputs[k]) + t.at;
    LOOP d[i] = from_bf16(p[i]) - base[i];
  } else {
    load(t, k, d);
    LOOP d[i] = d[i] - base[i];
  }
}

// The check is free beside the store: the largest magnitude after rounding to the output's format
// tells NaN, Inf and what rounds to Inf.
void store_merged(Tile& t, const float* __restrict a, const float* __restrict base) {
  const int n = t.n;
  uint32_t top = 0, limit = 0x7f800000u;
  if (t.task->out_dtype == BF16) {
    uint16_t* out = static_cast<uint16_t*>(t.task->out) + t.at;
    LOOP {
      float v = base[i] + a[i];
      uint32_t e = (as_bits(v) & 0x7fffffff) + 0x8000;
      top = e > top ? e : top;
      uint32_t u = as_bits(v);
      out[i] = uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
    }
    // + 0x8000 takes a tie below the limit up to it: exact, since Inf's neighbour is odd
  } else if (t.task->out_dtype == F16) {
    uint16_t* out = static_cast<uint16_t*>(t.task->out) + t.at;
    limit = 0x477ff000u;  // 65520 rounds to Inf
    LOOP {
      float v = base[i] + a[i];
      uint32_t e = as_bits(v) & 0x7fffffff;
      top = e > top ? e : top;
      out[i] = to_f16(v);
    }
  } else {
    float* out = static_cast<float*>(t.task->out) + t.at;
    LOOP {
      float v = base[i] + a[i];
      uint32_t e = as_bits(v) & 0x7fffffff;
      top = e > top ? e : top;
      out[i] = v;
    }
  }
  t.not_finite |= top >= limit;
}

// ---- reductions: float in 64 lanes within a tile, double lanes across a block's tiles ----

template <class Term> void sum(double* __restrict lanes, int n, Term term) {
  alignas(64) float acc[LANES] = {};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    _Pragma("GCC ivdep") for (int j = 0; j < LANES; j++) acc[j] += term(i + j);
  }
  for (int j = 0; i + j < n; j++) acc[j] += term(i + j);
  for (int j = 0; j < LANES; j++) lanes[j] += acc[j];
}

template <class Better> void extreme(double* __restrict lanes, const float* a, int n, Better better) {
  alignas(64) float acc[LANES];
  for (int j = 0; j < LANES; j++) acc[j] = float(lanes[j]);
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    _Pragma("GCC ivdep") for (int j = 0; j < LANES; j++) {
      float x = a[i + j];
      acc[j] = better(x, acc[j]) || x != x ? x : acc[j];
    }
  }
  for (int j = 0; i + j < n; j++) {
    float x = a[i + j];
    acc[j] = better(x, acc[j]) || x != x ? x : acc[j];
  }
  for (int j = 0; j < LANES; j++) lanes[j] = acc[j];
}

inline uint32_t key_of(float f) {  // unsigned order of keys is the order of floats; NaN is largest
  uint32_t u = as_bits(f == 0.f ? 0.f : f);
  return f != f ? 0xffffffffu : u ^ (uint32_t(int32_t(u) >> 31) | 0x80000000u);
}

void histogram(const Tile& t, const float* a) {
  const Digit& digit = t.digit;
  const uint32_t mask = (1u << digit.bits) - 1;
  for (int i = 0; i < t.n; i++) {
    uint32_t key = key_of(a[i]);
    if ((key & digit.prefix_mask) == digit.prefix) t.counts[(key >> digit.shift) & mask]++;
  }
}

// ---- Philox 4x32-10; see kernels/philox.py for the definition ----

void philox(uint32_t* o, uint64_t block, uint32_t draw, uint32_t stream, uint64_t seed) {
  uint32_t x0 = uint32_t(block), x1 = uint32_t(block >> 32), x2 = draw, x3 = stream;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++) {
    uint64_t p = 0xD2511F53ull * x0, q = 0xCD9E8D57ull * x2;
    x0 = uint32_t(q >> 32) ^ x1 ^ k0;
    x2 = uint32_t(p >> 32) ^ x3 ^ k1;
    x1 = uint32_t(q);
    x3 = uint32_t(p);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  o[0] = x0; o[1] = x1; o[2] = x2; o[3] = x3;
}

void uniform(const Tile& t, const Draw& draw, uint32_t stream, float* d) {
  uint32_t word[4];
  uint64_t block = ~0ull;
  for (int i = 0; i < t.n; i++) {
    uint64_t index = t.at + i;
    if (index / 4 != block) philox(word, block = index / 4, draw.draw, stream, draw.seed);
    d[i] = float(word[index % 4] >> 8) * 5.9604644775390625e-08f;
  }
}

void normal(const Tile& t, const Draw& draw, float* d) {
  float v[TILE];
  uniform(t, draw, 1, d);
  uniform(t, draw, 2, v);
  for (int i = 0; i < t.n; i++)
    d[i] = std::sqrt(-2.f * std::log(1.f - d[i])) * std::cos(6.2831855f * v[i]);
}

// ---- element-wise ops: one line of meaning each ----

#define F(name, expression) inline float f_##name(float x) { return expression; }
F(NEG, -x)
F(ABS, std::fabs(x))
F(SIGN, x > 0.f ? 1.f : x < 0.f ? -1.f : x == 0.f ? 0.f : x)
F(SQRT, std::sqrt(x))
F(RSQRT, 1.f / std::sqrt(x))
F(EXP, std::exp(x))
F(EXPM1, std::expm1(x))
F(LOG, std::log(x))
F(LOG1P, std::log1p(x))
F(SIN, std::sin(x))
F(COS, std::cos(x))
F(ASIN, std::asin(x))
F(ACOS, std::acos(x))
F(ATAN, std::atan(x))
F(TANH, std::tanh(x))
F(ERF, std::erf(x))
F(FLOOR, std::floor(x))
F(CEIL, std::ceil(x))
F(ROUND, std::nearbyint(x))
F(TRUNC, std::trunc(x))
F(ROUND_BF16, from_bf16(to_bf16(x)))
F(ROUND_F16, from_f16(to_f16(x)))
#undef F
#define F(name, expression) inline float f_##name(float x, float y) { return expression; }
F(ADD, x + y)
F(SUB, x - y)
F(MUL, x * y)
F(DIV, x / y)
F(POW, std::pow(x, y))
F(MAX, x > y || x != x ? x : y)
F(MIN, x < y || x != x ? x : y)
F(ATAN2, std::atan2(x, y))
F(LT, x < y ? 1.f : 0.f)
F(LE, x <= y ? 1.f : 0.f)
F(EQ, x == y ? 1.f : 0.f)
F(NE, x != y ? 1.f : 0.f)
#undef F
inline float f_MOD(float x, float y) {  // the sign of the divisor, as torch.remainder
  float r = std::fmod(x, y);
  return r != 0.f && ((r < 0.f) != (y < 0.f)) ? r + y : r;
}

void in_range(const Tile& t, const Range& range, float* d) {
  for (int i = 0; i < t.n; i++) {
    int64_t index = int64_t(t.at) + i, from = index - range.start;
    d[i] = from >= 0 && index < range.stop && from % range.step == 0 ? 1.f : 0.f;
  }
}

}  // namespace

extern "C" void CAT(run_tile_, ISA)(Tile& t, const Insn* program, int count) {
  const int n = t.n;
  const Task& task = *t.task;
  for (int pc = 0; pc < count; pc++) {
    const Insn& x = program[pc];
    const float s = x.s, u = x.t;
    float* d = static_cast<float*>(__builtin_assume_aligned(t.registers + size_t(x.d) * TILE, 64));
    const float* a = t.registers + size_t(x.a) * TILE;
    const float* b = t.registers + size_t(x.b) * TILE;
    const float* c = t.registers + size_t(x.c) * TILE;
    double* lanes = t.lanes + size_t(x.k) * LANES;
    switch (x.op) {
      case LOAD: load(t, x.k, d); break;
      case LOAD_DELTA: load_delta(t, x.k, d, a); break;
      case FILL: LOOP d[i] = s; break;
      case ROW_VALUE: { const float v = task.vectors[x.k][t.row]; LOOP d[i] = v; break; }
      case COL_VALUES: memcpy(d, task.vectors[x.k] + t.col, sizeof(float) * n); break;
      case IN_RANGE: in_range(t, task.ranges[x.k], d); break;
      case UNIFORM: uniform(t, task.draws[x.k], 0, d); break;
      case NORMAL: normal(t, task.draws[x.k], d); break;
      case ADD_SCALED: LOOP d[i] = a[i] + b[i] * s; break;
      case KEEP_ABOVE: LOOP d[i] = std::fabs(a[i]) > s ? a[i] : 0.f; break;
      case WHERE_RRR: LOOP d[i] = a[i] != 0.f ? b[i] : c[i]; break;
      case WHERE_RRS: LOOP d[i] = a[i] != 0.f ? b[i] : u; break;
      case WHERE_RSR: LOOP d[i] = a[i] != 0.f ? s : c[i]; break;
      case WHERE_RSS: LOOP d[i] = a[i] != 0.f ? s : u; break;
      case STORE: memcpy(static_cast<float*>(task.out) + t.at, a, sizeof(float) * n); break;
      case STORE_MERGED: store_merged(t, a, b); break;
      case SUM: sum(lanes, n, [a](int i) { return a[i]; }); break;
      case SUM_ABS: sum(lanes, n, [a](int i) { return std::fabs(a[i]); }); break;
      case SUM_PRODUCT: sum(lanes, n, [a, b](int i) { return a[i] * b[i]; }); break;
      case LARGEST: extreme(lanes, a, n, [](float p, float q) { return p > q; }); break;
      case SMALLEST: extreme(lanes, a, n, [](float p, float q) { return p < q; }); break;
      case HISTOGRAM: histogram(t, a); break;
#define X(name) case name: LOOP d[i] = f_##name(a[i]); break;
      UNARY_OPS(X)
#undef X
#define X(name)                                               \
      case name##_RR: LOOP d[i] = f_##name(a[i], b[i]); break; \
      case name##_RS: LOOP d[i] = f_##name(a[i], s); break;    \
      case name##_SR: LOOP d[i] = f_##name(s, b[i]); break;
      BINARY_OPS(X)
#undef X
      default: __builtin_trap();
    }
  }
}
