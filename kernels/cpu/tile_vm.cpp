// The tile VM's instructions, compiled once for each instruction set (-DISA=...). They are plain loops
// that the compiler vectorises. It may not contract products and sums, so that every build and every
// backend rounds alike.
#include "vm.h"

#include <cmath>
#include <cstring>

#include "digest_chunks.h"
#include "formats.h"
#include "functions.h"
#include "inputs.h"
#include "order_keys.h"
#include "pairs.h"
#include "philox.h"
#include "statistics.h"

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#ifdef __AVX512F__
#define UNROLLED _Pragma("GCC unroll 4")
#else
#define UNROLLED
#endif
#define LOOP(n) _Pragma("GCC ivdep") UNROLLED for (int i = 0; i < n; i++)

namespace {

inline float* reg(const Tile& t, int index) {
  return static_cast<float*>(__builtin_assume_aligned(t.registers + size_t(index) * TILE, 64));
}

// ---- memory ----

void copy_floats(const Tile& t, const float* from, float* d) {
  memcpy(d, from, sizeof(float) * t.n);
  for (int i = t.n; i < whole_groups(t); i++) d[i] = 0.f;
}

void load_into(Tile& t, int k, float* __restrict d) {
  const int n = whole_groups(t);
  if (t.task->dtypes[k] == F32) return copy_floats(t, floats(t, k), d);
  const uint16_t* p = halves(t, k);
  if (t.task->dtypes[k] == BF16) {
    for (int i = 0; i < n; i += HALVES) widen(p + i, d + i);
  } else {
    LOOP(n) d[i] = from_f16(p[i]);
  }
}

void load(Tile& t, const Insn& x) { load_into(t, x.k, reg(t, x.d)); }

void fill(Tile& t, const Insn& x) {
  float* d = reg(t, x.d);
  const int n = whole_groups(t);
  const float s = x.s;
  LOOP(n) d[i] = s;
}

void row_value(Tile& t, const Insn& x) {
  Insn number = x;
  number.s = t.task->vectors[x.k][t.row];
  fill(t, number);
}

void col_values(Tile& t, const Insn& x) {
  copy_floats(t, t.task->vectors[x.k] + t.col, reg(t, x.d));
}

void store(Tile& t, const Insn& x) {
  memcpy(static_cast<float*>(t.task->out) + t.at, reg(t, x.a), sizeof(float) * t.n);
}

// d = 1 where the flat index is in range k, else 0.
void in_range(Tile& t, const Insn& x) {
  const Range& range = t.task->ranges[x.k];
  float* d = reg(t, x.d);
  const int64_t at = int64_t(t.at), first = range.start > at ? range.start - at : 0;
  const int64_t last = range.stop - at < t.n ? range.stop - at : t.n;
  const bool all = range.step == 1;
  for (int i = 0, n = whole_groups(t); i < n; i++) d[i] = all && i >= first && i < last ? 1.f : 0.f;
  if (all || first >= last) return;
  const int64_t past = (at + first - range.start) % range.step;
  for (int64_t i = first + (past ? range.step - past : 0); i < last; i += range.step) d[i] = 1.f;
}

// ---- f, and g of f ----

// f's value at an element.
template <class F> struct First {
  const float *a, *b;
  const uint16_t* p;
  float s, u;
  First(const Tile& t, const Insn& x)
      : a(reg(t, x.a)), b(reg(t, x.b)), p(F::delta ? halves(t, x.k) : nullptr), s(x.s), u(x.u) {}
  float operator()(int i) const {
    if constexpr (F::delta) return F::of(from_bf16(p[i]) - b[i], 0.f, s, u);
    else if constexpr (F::b) return F::of(a[i], b[i], s, u);
    else return F::of(a[i], 0.f, s, u);
  }
  // Calls body(i, x, y) for i < n, where f's value is F::of(x, y, s, u).
  template <class Body> void each(int n, Body body) const {
    int i = 0;
    if constexpr (F::delta)
      for (; i + HALVES <= n; i += HALVES) {
        alignas(64) float wide[HALVES];
        widen(p + i, wide);
        _Pragma("GCC ivdep") for (int j = 0; j < HALVES; j++) body(i + j, wide[j] - b[i + j], 0.f);
      }
    _Pragma("GCC ivdep") UNROLLED for (; i < n; i++) {
      if constexpr (F::delta) body(i, from_bf16(p[i]) - b[i], 0.f);
      else body(i, a[i], F::b ? b[i] : 0.f);
    }
  }
};

template <class F, class G> void pair(Tile& t, const Insn& x) {
  const First<F> f(t, x);
  float* d = reg(t, x.d);
  const float *c = reg(t, x.c), s = x.s, u = x.u, by = x.t, other = u * by;
  f.each(whole_groups(t), [=](int i, float p, float q) {
    const float third = G::c ? c[i] : 0.f;
    if constexpr (F::keeps && G::scales) d[i] = G::of_product(s < std::fabs(p) ? p * by : other, third);
    else d[i] = G::of(F::of(p, q, s, u), third, by);
  });
}

template <class Test, bool C, bool E> void where(Tile& t, const Insn& x) {
  const First<Test> test(t, x);
  float* d = reg(t, x.d);
  const float *c = reg(t, x.c), *e = reg(t, x.e), yes = x.t, no = x.u;
  const int n = whole_groups(t);
  LOOP(n) {
    float p = yes, q = no;
    if constexpr (C) p = c[i];
    if constexpr (E) q = e[i];
    d[i] = test(i) != 0.f ? p : q;
  }
}

// out = register c (the base) + f, rounded once to the base's dtype. The largest magnitude tells NaN,
// Inf and what rounds to Inf. This check costs nothing beside the store.
template <class F> void store_merged(Tile& t, const Insn& x) {
  const First<F> f(t, x);
  const float* base = reg(t, x.c);
  const int n = t.n;
  int32_t top = 0, limit = 0x7f800000;  // signed, because SSE2 has no unsigned comparison
  auto merged = [&](int i) {
    float v = base[i] + f(i);
    int32_t magnitude = int32_t(as_bits(v) & 0x7fffffff);
    top = magnitude > top ? magnitude : top;
    return v;
  };
  if (t.task->out_dtype == BF16) {
    limit = 0x7f7f8000;  // the smallest magnitude that rounds to Inf
    uint16_t* out = static_cast<uint16_t*>(t.task->out) + t.at;
    LOOP(n) out[i] = to_bf16_finite(merged(i));
  } else if (t.task->out_dtype == F16) {
    limit = 0x477ff000;  // 65520, which rounds to Inf
    uint16_t* out = static_cast<uint16_t*>(t.task->out) + t.at;
    LOOP(n) out[i] = to_f16(merged(i));
  } else {
    float* out = static_cast<float*>(t.task->out) + t.at;
    LOOP(n) out[i] = merged(i);
  }
  t.not_finite |= top >= limit;
}

// d = input k - register b, for any dtype. For bf16 there is the FIRST named DELTA.
void load_delta(Tile& t, const Insn& x) {
  alignas(64) float copy[TILE];  // d may be the base's register
  const float* expert = copy;
  const int n = whole_groups(t);
  if (t.task->dtypes[x.k] == F32 && n == t.n)
    expert = floats(t, x.k);
  else
    load_into(t, x.k, copy);
  float* d = reg(t, x.d);
  const float* base = reg(t, x.b);
  LOOP(n) d[i] = expert[i] - base[i];
}

// ---- the other element-wise ops, and numbers drawn ----

template <float (*F)(float)> void unary(Tile& t, const Insn& x) {
  const float* a = reg(t, x.a);
  float* d = reg(t, x.d);
  const int n = whole_groups(t);
  LOOP(n) d[i] = F(a[i]);
}

// sin or cos. The library reduces arguments that are far from 0.
template <float (*Near)(float), float (*Library)(float)> void periodic(Tile& t, const Insn& x) {
  const float* a = reg(t, x.a);
  float* d = reg(t, x.d);
  const int n = whole_groups(t);
  uint32_t far = 0;
  LOOP(n) far |= uint32_t(std::fabs(a[i]) > FAR);
  if (far) {
    for (int i = 0; i < n; i++) d[i] = std::fabs(a[i]) > FAR ? Library(a[i]) : Near(a[i]);
  } else {
    LOOP(n) d[i] = Near(a[i]);
  }
}

enum Form { RR, RS, SR };
template <float (*F)(float, float), Form form> void binary(Tile& t, const Insn& x) {
  const float *a = reg(t, x.a), *b = reg(t, x.b), s = x.s;
  float* d = reg(t, x.d);
  const int n = whole_groups(t);
  if constexpr (form == RR) { LOOP(n) d[i] = F(a[i], b[i]); }
  else if constexpr (form == RS) { LOOP(n) d[i] = F(a[i], s); }
  else { LOOP(n) d[i] = F(s, a[i]); }
}

void uniform(Tile& t, const Insn& x) {
  alignas(64) uint32_t words[TILE + MORE_WORDS];
  const uint32_t* mine = philox_words(words, t.at, whole_groups(t), t.task->draws[x.k], 0);
  float* d = reg(t, x.d);
  const int n = whole_groups(t);
  LOOP(n) d[i] = unit(mine[i]);
}

void normal(Tile& t, const Insn& x) {
  alignas(64) uint32_t first[TILE + MORE_WORDS], second[TILE + MORE_WORDS];
  const int n = whole_groups(t);
  const uint32_t* u = philox_words(first, t.at, n, t.task->draws[x.k], 1);
  const uint32_t* v = philox_words(second, t.at, n, t.task->draws[x.k], 2);
  float* d = reg(t, x.d);
  LOOP(n) d[i] = std::sqrt(-2.f * f_LOG(1.f - unit(u[i]))) * f_COS(6.2831855f * unit(v[i]));
}

// ---- the table ----

#define ALONE(f) {#f, pair<f, NOTHING>},
#define PAIR(f, g) {#f "__" #g, pair<f, g>},
#define PAIRS(f) SECONDS(PAIR, f)
#define STORED(f) {#f "__STORE_MERGED", store_merged<f>},
#define WHERES(test)                                                                        \
  {#test "__WHERE_RR", where<test, true, true>}, {#test "__WHERE_RS", where<test, true, false>}, \
  {#test "__WHERE_SR", where<test, false, true>}, {#test "__WHERE_SS", where<test, false, false>},
#define UNARY(f) {#f, unary<f_##f>},
#define BINARY(f) \
  {#f "_RR", binary<f_##f, RR>}, {#f "_RS", binary<f_##f, RS>}, {#f "_SR", binary<f_##f, SR>},

const Instruction TABLE[] = {
    {"LOAD", load}, {"LOAD_DELTA", load_delta}, {"FILL", fill}, {"ROW_VALUE", row_value},
    {"COL_VALUES", col_values}, {"IN_RANGE", in_range}, {"UNIFORM", uniform}, {"NORMAL", normal},
    {"STORE", store}, {"TRUE__STORE_MERGED", store_merged<TRUE>},
    FIRSTS(ALONE) DELTA_FIRSTS(ALONE) FIRSTS(PAIRS) DELTA_FIRSTS(PAIRS) FIRSTS(STORED)
    DELTA_FIRSTS(STORED) TESTS(WHERES) UNARY_FUNCTIONS(UNARY) BINARY_FUNCTIONS(BINARY)
    {"SIN", periodic<f_SIN, sinf>}, {"COS", periodic<f_COS, cosf>},
    ALONE(LE_RR) ALONE(LE_RS) ALONE(LE_SR) ALONE(EQ_RS)
    STATISTICS {"HISTOGRAM", histogram}, {"GATHER", gather},
};

}  // namespace

extern "C" InstructionSet CAT(instructions_, ISA)() {
  return {TABLE, int(sizeof TABLE / sizeof TABLE[0]), add_lanes, digest_chunks};
}
