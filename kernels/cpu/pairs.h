// The instructions that exist in fused form: any FIRST followed by any SECOND, in one pass over the
// tile. A fused instruction is defined as its parts, each of which rounds as it would alone.
#pragma once
#include <cmath>

#include "formats.h"

// f(a, b; s, u). A name ends with its operands: R is a register, S a number.
#define FIRSTS(X)                                                                            \
  X(ADD_RR) X(ADD_RS) X(SUB_RR) X(SUB_SR) X(MUL_RR) X(MUL_RS) X(MAX_RR) X(MAX_RS) X(MIN_RR)   \
  X(MIN_RS) X(LT_RR) X(LT_RS) X(LT_SR) X(EQ_RR) X(ABS) X(KEEP) X(MASK) X(ADD_SCALED)
// The same functions of a task vector that is read from bf16: a is input k minus register b.
#define DELTA_FIRSTS(X) X(DELTA) X(DELTA_ABS) X(DELTA_KEEP) X(DELTA_MASK)
// g(f, c; t), where f is the FIRST's value.
#define SECONDS(X, f)                                                                        \
  X(f, ADD_R) X(f, ADD_S) X(f, SUB_R) X(f, RSUB_R) X(f, RSUB_S) X(f, MUL_R) X(f, MUL_S)       \
  X(f, MAX_R) X(f, MAX_S) X(f, MIN_R) X(f, MIN_S) X(f, LT_R) X(f, LT_S) X(f, GT_R) X(f, GT_S) \
  X(f, EQ_R) X(f, ABSOLUTE) X(f, TIMES_PLUS_R) X(f, PLUS_SCALED_R)
// The tests of a WHERE, which gives register c or number t where true, and e or u where false.
#define TESTS(X) X(TRUE) X(LT_RR) X(LT_RS) X(LT_SR) X(LE_RR) X(LE_RS) X(LE_SR) X(EQ_RR) X(EQ_RS)

namespace {

// Returns x where it is NaN, else `found`. By bits, because the compiler makes chains of ?: into
// branches.
inline float unless_nan(float x, float found) {
  const uint32_t mask = 0u - uint32_t(x != x);
  return as_float((as_bits(found) & ~mask) | (as_bits(x) & mask));
}

inline float maximum(float x, float y) { return unless_nan(x, x > y ? x : y); }  // NaN wins
inline float minimum(float x, float y) { return unless_nan(x, x < y ? x : y); }

template <bool Two, bool Delta = false> struct Reads {
  static constexpr bool b = Two, delta = Delta, keeps = false;
};

#define FIRST(name, two, expression)                                                  \
  struct name : Reads<two> {                                                          \
    static float of(float a, [[maybe_unused]] float b, [[maybe_unused]] float s,      \
                    [[maybe_unused]] float u) {                                       \
      return expression;                                                              \
    }                                                                                 \
  };
FIRST(ADD_RR, true, a + b)
FIRST(ADD_RS, false, a + s)
FIRST(SUB_RR, true, a - b)
FIRST(SUB_SR, false, s - a)
FIRST(MUL_RR, true, a * b)
FIRST(MUL_RS, false, a * s)
FIRST(MAX_RR, true, maximum(a, b))
FIRST(MAX_RS, false, maximum(a, s))
FIRST(MIN_RR, true, minimum(a, b))
FIRST(MIN_RS, false, minimum(a, s))
FIRST(LT_RR, true, a < b ? 1.f : 0.f)
FIRST(LT_RS, false, a < s ? 1.f : 0.f)
FIRST(LT_SR, false, s < a ? 1.f : 0.f)
FIRST(LE_RR, true, a <= b ? 1.f : 0.f)
FIRST(LE_RS, false, a <= s ? 1.f : 0.f)
FIRST(LE_SR, false, s <= a ? 1.f : 0.f)
FIRST(EQ_RR, true, a == b ? 1.f : 0.f)
FIRST(EQ_RS, false, a == s ? 1.f : 0.f)
FIRST(TRUE, false, a)
FIRST(ABS, false, std::fabs(a))
FIRST(MASK, false, a * (s < std::fabs(a) ? 1.f : 0.f))
FIRST(ADD_SCALED, true, a + b * s)
#undef FIRST

struct KEEP : Reads<false> {
  static constexpr bool keeps = true;
  static float of(float a, float, float s, float u) { return s < std::fabs(a) ? a : u; }
};
struct DELTA : Reads<true, true> {
  static float of(float a, float, float, float) { return a; }
};
struct DELTA_ABS : Reads<true, true> {
  static float of(float a, float, float s, float u) { return ABS::of(a, 0, s, u); }
};
struct DELTA_KEEP : Reads<true, true> {
  static constexpr bool keeps = true;
  static float of(float a, float, float s, float u) { return KEEP::of(a, 0, s, u); }
};
struct DELTA_MASK : Reads<true, true> {
  static float of(float a, float, float s, float u) { return MASK::of(a, 0, s, u); }
};

#define SECOND(name, reads, expression)                                               \
  struct name {                                                                       \
    static constexpr bool c = reads, scales = false;                                  \
    static float of(float x, [[maybe_unused]] float c, [[maybe_unused]] float t) {    \
      return expression;                                                              \
    }                                                                                 \
  };
SECOND(ADD_R, true, x + c)
SECOND(ADD_S, false, x + t)
SECOND(SUB_R, true, x - c)
SECOND(RSUB_R, true, c - x)
SECOND(RSUB_S, false, t - x)
SECOND(MUL_R, true, x * c)
SECOND(MAX_R, true, maximum(x, c))
SECOND(MAX_S, false, maximum(x, t))
SECOND(MIN_R, true, minimum(x, c))
SECOND(MIN_S, false, minimum(x, t))
SECOND(LT_R, true, x < c ? 1.f : 0.f)
SECOND(LT_S, false, x < t ? 1.f : 0.f)
SECOND(GT_R, true, c < x ? 1.f : 0.f)
SECOND(GT_S, false, t < x ? 1.f : 0.f)
SECOND(EQ_R, true, x == c ? 1.f : 0.f)
SECOND(ABSOLUTE, false, std::fabs(x))
SECOND(PLUS_SCALED_R, true, x + c * t)
SECOND(NOTHING, false, x)
#undef SECOND

// These two scale x by t. After a KEEP they take a product that was chosen already: x * t where KEEP
// keeps x, and a product that is the same for all elements where it does not.
struct MUL_S {
  static constexpr bool c = false, scales = true;
  static float of_product(float x, float) { return x; }
  static float of(float x, float, float t) { return x * t; }
};
struct TIMES_PLUS_R {
  static constexpr bool c = true, scales = true;
  static float of_product(float x, float c) { return c + x; }
  static float of(float x, float c, float t) { return c + x * t; }
};

}  // namespace
