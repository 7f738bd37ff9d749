// What order statistics need of a tile: counts of one digit of the keys, or the keys inside a
// bracket. Keys are in formats.h.
#pragma once
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "formats.h"
#include "vm.h"

namespace {

void keys_of(const Tile& t, const Insn& x, uint32_t* __restrict keys) {
  const float* a = t.registers + size_t(x.a) * TILE;
  const int n = (t.n + LANES - 1) & -LANES;
  _Pragma("GCC ivdep") for (int i = 0; i < n; i++) keys[i] = key_of(a[i]);
}

void histogram(Tile& t, const Insn& x) {
  alignas(64) uint32_t keys[TILE];
  keys_of(t, x, keys);
  const Digit& digit = t.digit;
  const uint32_t mask = (1u << digit.bits) - 1;
  for (int i = 0; i < t.n; i++)
    if ((keys[i] & digit.prefix_mask) == digit.prefix) t.counts[(keys[i] >> digit.shift) & mask]++;
}

// Appends the keys strictly between the ends, in order.
size_t keep_inside(const uint32_t* keys, int n, uint32_t low, uint32_t high, uint32_t* out) {
  size_t kept = 0;
  int i = 0;
#ifdef __AVX512F__
  const __m512i least = _mm512_set1_epi32(int(low)), most = _mm512_set1_epi32(int(high));
  for (; i + 16 <= n; i += 16) {
    __m512i key = _mm512_load_si512(keys + i);
    __mmask16 in = _mm512_cmpgt_epu32_mask(key, least) & _mm512_cmplt_epu32_mask(key, most);
    if (!in) continue;
    _mm512_storeu_si512(out + kept, _mm512_maskz_compress_epi32(in, key));
    kept += size_t(__builtin_popcount(in));
  }
#else
  const uint32_t span = high - low - 1;  // key - low - 1 < span: inside, in one comparison
  for (; i + 16 <= n; i += 16) {
    uint32_t any = 0;
    for (int j = 0; j < 16; j++) any |= uint32_t(keys[i + j] > low) & uint32_t(keys[i + j] < high);
    if (!any) continue;
    for (int j = 0; j < 16; j++) {
      out[kept] = keys[i + j];
      kept += keys[i + j] - low - 1 < span;
    }
  }
#endif
  for (; i < n; i++)
    if (keys[i] > low && keys[i] < high) out[kept++] = keys[i];
  return kept;
}

void gather(Tile& t, const Insn& x) {
  alignas(64) uint32_t keys[TILE];
  keys_of(t, x, keys);
  Bracket& bracket = t.bracket;
  const uint32_t low = bracket.low, high = bracket.high;
  const int n = t.n;
  uint32_t below = 0, at_low = 0, at_high = 0;
  _Pragma("GCC ivdep") for (int i = 0; i < n; i++) {
    below += keys[i] < low;
    at_low += keys[i] == low;
    at_high += keys[i] == high;
  }
  bracket.below += below;
  bracket.at_low += at_low;
  bracket.at_high += at_high;
  if (high > low)
    bracket.num_inside += keep_inside(keys, n, low, high, bracket.inside + bracket.num_inside);
}

}  // namespace
