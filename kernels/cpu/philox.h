// Philox 4x32-10 for several counters at once. kernels/philox.py has the definition: element 4 j + w
// of a draw is word w of counter j.
#pragma once
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#include <cstring>

#include "vm.h"

namespace {

// A word is in the lower half of a 64-bit lane, so that a product stays in its lane. Loops over 32-bit
// words would move both halves of every product, and take 2.5 x as long.
#if defined(__AVX512F__)
constexpr int COUNTERS = 8;
#define EVEN_LANES 0, 8, 2, 10, 4, 12, 6, 14
#define ODD_LANES 1, 9, 3, 11, 5, 13, 7, 15
#elif defined(__AVX2__)
constexpr int COUNTERS = 4;
#define EVEN_LANES 0, 4, 2, 6
#define ODD_LANES 1, 5, 3, 7
#else
constexpr int COUNTERS = 2;
#define EVEN_LANES 0, 2
#define ODD_LANES 1, 3
#endif
typedef uint64_t Words __attribute__((vector_size(8 * COUNTERS)));
#if defined(__clang__)
#define LANES_OF(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else  // GCC has __builtin_shufflevector only from version 12 on
#define LANES_OF(x, y, ...) __builtin_shuffle(x, y, Words{__VA_ARGS__})
#endif
constexpr int MORE_WORDS = 4 * COUNTERS;  // at most so many words are drawn beyond the last one

inline float unit(uint32_t word) { return float(word >> 8) * 5.9604644775390625e-08f; }

// Multiplies the lower halves.
inline Words product(Words x, uint64_t by) {
#if defined(__AVX512F__)
  return (Words)_mm512_mul_epu32((__m512i)x, _mm512_set1_epi64(int64_t(by)));
#elif defined(__AVX2__)
  return (Words)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(int64_t(by)));
#else
  return (x & 0xffffffffull) * by;
#endif
}

// The four words of COUNTERS counters; the upper halves of the lanes do not matter.
struct Block { Words x0, x1, x2, x3; };

inline Block philox_block(Words counters, Words draw, Words stream, uint64_t seed) {
  Words x0 = counters, x1 = counters >> 32, x2 = draw, x3 = stream;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const Words p = product(x0, 0xD2511F53ull), q = product(x2, 0xCD9E8D57ull);
    x0 = (q >> 32) ^ x1 ^ uint64_t(k0);
    x2 = (p >> 32) ^ x3 ^ uint64_t(k1);
    x1 = q;
    x3 = p;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {x0, x1, x2, x3};
}

// Returns the words of elements at, at + 1, ..., at + n - 1. They are somewhere in `out`, which has
// n + MORE_WORDS places.
inline const uint32_t* philox_words(uint32_t* __restrict out, size_t at, int n, const Draw& draw,
                                    uint32_t stream) {
  const int num_blocks = (n + int(at % 4) + 3) / 4;
  const Words number = Words{} + uint64_t(draw.draw), streams = Words{} + uint64_t(stream);
  Words counter_of_lane;  // even lanes have the first half of the counters, odd lanes the second
  for (int l = 0; l < COUNTERS; l++) counter_of_lane[l] = uint64_t(l % 2 * (COUNTERS / 2) + l / 2);
  for (int j = 0; j < num_blocks; j += COUNTERS) {
    const Words counters = counter_of_lane + (at / 4 + uint64_t(j));
    const Block words = philox_block(counters, number, streams, draw.seed);
    const Words front = (words.x0 & 0xffffffffull) | words.x1 << 32;
    const Words back = (words.x2 & 0xffffffffull) | words.x3 << 32;
    const Words even = LANES_OF(front, back, EVEN_LANES);
    const Words odd = LANES_OF(front, back, ODD_LANES);
    memcpy(out + 4 * j, &even, sizeof even);
    memcpy(out + 4 * j + 2 * COUNTERS, &odd, sizeof odd);
  }
  return out + at % 4;
}

}  // namespace
