// Converts 16-bit formats by their bits, because the hardware's bf16 conversion flushes subnormals.
// Everything here has internal linkage: each instruction set compiles its own copy.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

inline float as_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
inline uint32_t as_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }

inline float from_bf16(uint16_t h) { return as_float(uint32_t(h) << 16); }

// Rounds half to even. NaN is not kept.
inline uint16_t to_bf16_finite(float f) {
  uint32_t u = as_bits(f);
  return uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

// Makes HALVES bf16 into floats. One permutation moves the words to upper halves. The compiler's
// code widens, splits and shifts instead: an apply took 1.1 x as long.
constexpr int HALVES = 32;
#if defined(__AVX512BW__)
// 16 of the 32 words, from `first` on.
inline __m512i widened(__m512i words, int first) {
  const __m512i places = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i upper = _mm512_slli_epi32(_mm512_add_epi32(places, _mm512_set1_epi32(first)), 16);
  return _mm512_maskz_permutexvar_epi16(0xAAAAAAAA, upper, words);
}
#endif
inline void widen(const uint16_t* from, float* to) {
#if defined(__AVX512BW__)
  const __m512i words = _mm512_loadu_si512(from);
  for (int i = 0; i < HALVES; i += 16) _mm512_store_si512(to + i, widened(words, i));
#else
  for (int i = 0; i < HALVES; i++) to[i] = from_bf16(from[i]);
#endif
}

// Rounds half to even. NaN stays NaN.
inline uint16_t to_bf16(float f) {
  uint32_t u = as_bits(f);
  return (u & 0x7fffffff) > 0x7f800000 ? uint16_t((u >> 16) | 0x40) : to_bf16_finite(f);
}

// Exact: a factor of 2^112 moves the exponent, also that of subnormals.
inline float from_f16(uint16_t h) {
  uint32_t magnitude = uint32_t(h & 0x7fff) << 13, sign = uint32_t(h & 0x8000) << 16;
  float scaled = as_float(magnitude) * as_float(0x77800000u);
  return as_float(as_bits(scaled) | (magnitude >= 0x0f800000u ? 0x7f800000u : 0u) | sign);
}

// Rounds half to even, by adding and removing a power of two that leaves 11 bits.
inline uint16_t to_f16(float f) {
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

// Keys compare, as unsigned numbers, as the floats do. NaN is the largest, and both zeros are one.
inline uint32_t key_of(float f) {
  uint32_t u = as_bits(f == 0.f ? 0.f : f);
  return f != f ? 0xffffffffu : u ^ (uint32_t(int32_t(u) >> 31) | 0x80000000u);
}

inline float value_of(uint32_t key) {
  return as_float(key == 0xffffffffu ? 0x7fc00000u : key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

}  // namespace
