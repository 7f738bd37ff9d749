// Element-wise functions that are not fused with others, each defined in one line.
#pragma once
#include <cmath>

#include "formats.h"
#include "transcendental.h"

#define UNARY_FUNCTIONS(X)                                                                   \
  X(NEG) X(SIGN) X(SQRT) X(RSQRT) X(EXP) X(EXPM1) X(LOG) X(LOG1P) X(ASIN) X(ACOS) X(ATAN)     \
  X(TANH) X(ERF) X(FLOOR) X(CEIL) X(ROUND) X(TRUNC) X(ROUND_BF16) X(ROUND_F16)
#define BINARY_FUNCTIONS(X) X(DIV) X(POW) X(MOD) X(ATAN2) X(NE)

namespace {

#define F(name, expression) inline float f_##name(float x) { return expression; }
F(NEG, -x)
F(SIGN, x > 0.f ? 1.f : x < 0.f ? -1.f : x == 0.f ? 0.f : x)
F(SQRT, std::sqrt(x))
F(RSQRT, 1.f / std::sqrt(x))
F(FLOOR, std::floor(x))
F(CEIL, std::ceil(x))
F(ROUND, std::nearbyint(x))
F(TRUNC, std::trunc(x))
F(ROUND_BF16, from_bf16(to_bf16(x)))
F(ROUND_F16, from_f16(to_f16(x)))
#undef F
#define F(name, expression) inline float f_##name(float x, float y) { return expression; }
F(DIV, x / y)
F(NE, x != y ? 1.f : 0.f)
#undef F
// The result has the divisor's sign, as in torch.remainder.
inline float f_MOD(float x, float y) {
  float r = std::fmod(x, y);
  return r != 0.f && ((r < 0.f) != (y < 0.f)) ? r + y : r;
}

}  // namespace
