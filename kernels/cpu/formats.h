// 16-bit formats by bits: the hardware's bf16 conversion flushes subnormals.
// Everything here has internal linkage: each instruction set compiles its own copy.
#pragma once
#include <cstdint>
#include <cstring>

namespace {

inline float as_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
inline uint32_t as_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }

inline float from_bf16(uint16_t h) { return as_float(uint32_t(h) << 16); }

inline uint16_t to_bf16_finite(float f) {  // nearest even
  uint32_t u = as_bits(f);
  return uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

inline uint16_t to_bf16(float f) {  // a NaN stays one
  uint32_t u = as_bits(f);
  return (u & 0x7fffffff) > 0x7f800000 ? uint16_t((u >> 16) | 0x40) : to_bf16_finite(f);
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

inline uint32_t key_of(float f) {  // unsigned order of keys is the order of floats; NaN is largest
  uint32_t u = as_bits(f == 0.f ? 0.f : f);
  return f != f ? 0xffffffffu : u ^ (uint32_t(int32_t(u) >> 31) | 0x80000000u);
}

inline float value_of(uint32_t key) {
  return as_float(key == 0xffffffffu ? 0x7fc00000u : key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

}  // namespace
