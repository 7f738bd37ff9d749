// exp, log, trigonometry and pow, by polynomials in double that are rounded once to float, in plain
// loops that vectorise. Nothing is contracted and no library is called, so every build gives the same
// bits. The error is that of the rounding plus 1e-3 units in the last place, over the whole range.
// Polynomials interpolate at Chebyshev nodes. A comment above each gives its relative error.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "formats.h"

namespace {

inline double as_double(uint64_t u) { double x; memcpy(&x, &u, 8); return x; }
inline uint64_t as_bits(double x) { uint64_t u; memcpy(&u, &x, 8); return u; }

// c ? x : y. By bits where that vectorises, because the compiler makes chains of ?: into branches.
inline double choose(bool c, double x, double y) {
#ifdef __AVX2__
  const uint64_t mask = 0u - uint64_t(c);
  return as_double((as_bits(x) & mask) | (as_bits(y) & ~mask));
#else
  return c ? x : y;
#endif
}

inline double with_sign(double magnitude, double sign) {
  const uint64_t bit = 0x8000000000000000u;
  return as_double((as_bits(magnitude) & ~bit) | (as_bits(sign) & bit));
}

template <int N, int I = 0> inline double horner(const double (&c)[N], double x) {
  if constexpr (I == N - 1) return c[I];
  else return c[I] + x * horner<N, I + 1>(c, x);
}

constexpr double INF = __builtin_inf(), NOT_A_NUMBER = __builtin_nan("");
constexpr double LOG2_E = 1.4426950408889634, LN_2 = 0.6931471805599453, PI = 3.141592653589793;
constexpr double TO_INTEGER = 6755399441055744.0;  // 1.5 x 2^52: adding it rounds to an integer, which
                                                   // is then in the sum's low bits
constexpr double MOST = 300;  // 2^300 is infinite in float, and 2^-300 is 0

// (2^r - 1) / r, |r| <= 1/2: 2.7e-10
constexpr double EXP2M1[] = {0.6931471805599453, 0.24022650922288757, 0.055504108839096185,
                             0.009618056678524637, 0.001333350238616277, 0.0001546144469856913,
                             1.5297323760701075e-05};
// log2((1 + s) / (1 - s)) / s in s^2, |s| <= 3 - sqrt 8: 2.7e-14
constexpr double LOG2[] = {2.885390081777851, 0.9617966941122649, 0.5770779426603044,
                           0.41220922406110433, 0.31990680380701336, 0.28288502340748234};
// sin r / r and (1 - cos r) / r^2 in r^2, |r| <= pi/4: 4.8e-12, 7.6e-13
constexpr double SINE[] = {0.9999999999956515, -0.16666666631450996, 0.00833332876883547,
                           -0.00019839198092453864, 2.7173075444014035e-06};
constexpr double COSINE[] = {0.4999999999996371, -0.04166666663727906, 0.001388888508002599,
                             -2.4799858750748857e-05, 2.7236822001886194e-07};
// atan r / r in r^2, |r| <= tan(pi/8): 2.2e-11
constexpr double ARCTAN[] = {0.9999999999782574, -0.33333332090762097, 0.19999883328753007,
                             -0.14281574100917466, 0.11040306933165601, -0.08455158486600185,
                             0.04705163836044703};
// erf x / x in x^2, x <= 1: 3.7e-11; exp(x^2) (1 - erf x) in (x - 2) / (x + 2), 1 <= x <= 4.1: 3e-10
constexpr double ERF_NEAR[] = {1.1283791670615435, -0.3761263846802871, 0.11283782495236845,
                               -0.026865430727670243, 0.005221031807858023, -0.0008484080405535107,
                               0.00011265959025606609, -9.667044571486996e-06};
constexpr double ERFC_FAR[] = {0.2553956763161028, -0.4271858484303502, 0.24165819215308887,
                               -0.07897846283592341, 0.0037330108320571516, 0.006993738850449947,
                               -0.0008493325105842879, -0.0009382787270394628,
                               5.8248885336789884e-05};
// pi/2 in parts of 33 bits, whose multiples by up to 2^20 are exact
constexpr double HALF_PI[] = {1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21};
constexpr float FAR = 1e6f;  // beyond it the library computes sin and cos

// ---- parts ----

struct Power { double scale, part; };  // 2^e = scale (1 + part)

inline Power power_of_two(double e) {
  e = choose(e > MOST, MOST, e);
  e = choose(e < -MOST, -MOST, e);
  const double shifted = e + TO_INTEGER, r = e - (shifted - TO_INTEGER);
  return {as_double((as_bits(shifted) << 52) + 0x3ff0000000000000u), r * horner(EXP2M1, r)};
}

// log2 of a positive finite number.
inline double log2_of(double v) {
  const uint64_t root_half = 0x3fe6a09e667f3bcdu, two52 = 0x4330000000000000u;
  const uint64_t u = as_bits(v) - root_half + 0x3ff0000000000000u;
  const double k = as_double((u >> 52) | two52) - (as_double(two52) + 1023);
  const double m = as_double((u & 0xfffffffffffffu) + root_half), s = (m - 1) / (m + 1);
  return s * horner(LOG2, s * s) + k;
}

// Corrects a logarithm of v that was found, where v is negative, zero, infinite or NaN.
inline double edges_of_log(double found, double v) {
  found = choose(v < INF, found, v);
  found = choose(v == 0, -INF, found);
  return choose(v < 0, NOT_A_NUMBER, found);
}

// sin(x + quarters pi/2).
inline double turned(double x, uint64_t quarters) {
  const double shifted = x * (2 / PI) + TO_INTEGER, n = shifted - TO_INTEGER;
  const double r = ((x - n * HALF_PI[0]) - n * HALF_PI[1]) - n * HALF_PI[2], z = r * r;
  const uint64_t quarter = as_bits(shifted) + quarters;
  const double value = choose(quarter & 1, 1 - z * horner(COSINE, z), r * horner(SINE, z));
  return as_double(as_bits(value) ^ ((quarter & 2) << 62));
}

// atan(y / x) for y, x >= 0.
inline double angle(double y, double x) {
  const bool steep = y > x;
  const double low = choose(steep, x, y), high = choose(steep, y, x);
  const bool wide = low > 0.41421356237309503 * high;  // beyond pi/8
  const double r = choose(wide, low - high, low) / choose(wide, low + high, high);
  const double flat = r * horner(ARCTAN, r * r) + choose(wide, PI / 4, 0);
  const double found = choose(steep, PI / 2 - flat, flat);
  return choose((y == 0) & (x == x), 0, found);
}

inline double root_of_rest(double x) { return std::sqrt((1 - x) * (1 + x)); }

inline bool is_whole(double y) {
  return (std::fabs(y) >= 2147483648.0) | ((y + TO_INTEGER) - TO_INTEGER == y);
}

// ---- functions ----

inline float f_EXP(float x) {
  const Power p = power_of_two(x * LOG2_E);
  return float(p.scale + p.scale * p.part);
}

inline float f_EXPM1(float x) {
  const Power p = power_of_two(x * LOG2_E);
  return float(choose(x == 0, x, p.scale * p.part + (p.scale - 1)));
}

inline float f_LOG(float x) { return float(edges_of_log(log2_of(x) * LN_2, x)); }

inline float f_LOG1P(float x) {
  const double v = x, near = v - v * v * 0.5, far = edges_of_log(log2_of(v + 1) * LN_2, v + 1);
  return float(choose(std::fabs(v) < 1e-5, near, far));
}

// For magnitudes up to FAR.
inline float f_SIN(float x) { return float(turned(x, 0)); }
inline float f_COS(float x) { return float(turned(x, 1)); }

inline float f_ASIN(float x) {
  const double a = std::fabs(double(x));
  return float(with_sign(angle(a, root_of_rest(a)), x));
}

inline float f_ACOS(float x) {
  const double found = angle(root_of_rest(x), std::fabs(double(x)));
  return float(choose(x < 0, PI - found, found));
}

inline float f_ATAN(float x) { return float(with_sign(angle(std::fabs(double(x)), 1), x)); }

inline float f_ATAN2(float y, float x) {
  const double high = std::fabs(double(y)), wide = std::fabs(double(x));
  const bool corner = (high == INF) & (wide == INF);
  const double found = angle(choose(corner, 1, high), choose(corner, 1, wide));
  return float(with_sign(choose(as_bits(double(x)) >> 63, PI - found, found), y));
}

inline float f_TANH(float x) {
  const double a = std::fabs(double(x));
  const Power p = power_of_two(choose(a > 10, 10, a) * (2 * LOG2_E));
  const double less_one = p.scale * p.part + (p.scale - 1);
  return float(with_sign(less_one / (less_one + 2), x));
}

inline float f_ERF(float x) {
  const double a = std::fabs(double(x)), far = choose(a > 4.1, 4.1, a);
  const Power p = power_of_two(far * far * -LOG2_E);
  const double rest = (p.scale + p.scale * p.part) * horner(ERFC_FAR, (far - 2) / (far + 2));
  return float(with_sign(choose(a < 1, a * horner(ERF_NEAR, a * a), 1 - rest), x));
}

inline float f_POW(float base, float exponent) {
  const double x = base, y = exponent, size = std::fabs(x);
  double power = log2_of(size);
  power = choose(size == 0, -INF, choose(size < INF, power, size));
  const Power p = power_of_two(power * y);
  double found = p.scale + p.scale * p.part;
  const bool whole = is_whole(y), odd = whole & !is_whole(y * 0.5);
  found = choose(odd, with_sign(found, x), found);
  found = choose((x < 0) & (size < INF) & !whole, NOT_A_NUMBER, found);
  const bool one = (x == 1) | (y == 0) | ((size == 1) & (std::fabs(y) == INF));
  return float(choose(one, 1, found));
}

}  // namespace
