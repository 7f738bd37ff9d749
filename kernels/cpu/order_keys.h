// What k-th values need of a tile: counts of one digit of the keys, or the keys inside a bracket.
// Keys are in formats.h.
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

// GATHER counts keys below and at the ends of the bracket, and appends those strictly between, as the
// elements follow each other.
#ifdef __AVX512F__
// key_of of 16 floats. x + 0 is +0 for both zeros.
inline __m512i keys_at(const float* a) {
  const __m512 x = _mm512_load_ps(a);
  const __m512i u = _mm512_castps_si512(_mm512_add_ps(x, _mm512_setzero_ps()));
  const __m512i sign = _mm512_set1_epi32(INT32_MIN), largest = _mm512_set1_epi32(-1);
  // 0x1e is u ^ (v | sign) of the three operands u, v and sign.
  const __m512i key = _mm512_ternarylogic_epi32(u, _mm512_srai_epi32(u, 31), sign, 0x1e);
  return _mm512_mask_mov_epi32(key, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), largest);
}

void gather(Tile& t, const Insn& x) {
  const float* a = t.registers + size_t(x.a) * TILE;
  Bracket& bracket = t.bracket;
  const __m512i low = _mm512_set1_epi32(int(bracket.low)), high = _mm512_set1_epi32(int(bracket.high));
  const __m512i one = _mm512_set1_epi32(1);
  const bool wanted = bracket.high > bracket.low;
  uint32_t* to = bracket.inside + bracket.num_inside;
  __m512i below = _mm512_setzero_si512(), above = below, at_high = below;
  for (int i = 0; i < t.n; i += 16) {
    const __mmask16 valid = __mmask16(t.n - i < 16 ? (1u << (t.n - i)) - 1 : 0xffff);
    const __m512i key = keys_at(a + i);
    const __mmask16 less = _mm512_mask_cmplt_epu32_mask(valid, key, low);
    const __mmask16 more = _mm512_mask_cmpgt_epu32_mask(valid, key, low);
    const __mmask16 last = _mm512_mask_cmpeq_epu32_mask(valid, key, high);
    const __mmask16 inside = _mm512_mask_cmplt_epu32_mask(more, key, high);
    below = _mm512_mask_add_epi32(below, less, below, one);
    above = _mm512_mask_add_epi32(above, more, above, one);
    at_high = _mm512_mask_add_epi32(at_high, last, at_high, one);
    if (!wanted) continue;
    // Stored even where nothing is inside: a branch on that costs more.
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(inside, key));
    to += __builtin_popcount(inside);
  }
  if (wanted) bracket.num_inside = size_t(to - bracket.inside);
  const uint64_t num_below = uint64_t(_mm512_reduce_add_epi32(below));
  bracket.below += num_below;
  bracket.at_low += uint64_t(t.n) - num_below - uint64_t(_mm512_reduce_add_epi32(above));
  bracket.at_high += uint64_t(_mm512_reduce_add_epi32(at_high));
}
#else
size_t keep_inside(const uint32_t* keys, int n, uint32_t low, uint32_t high, uint32_t* out) {
  const uint32_t span = high - low - 1;  // key - low - 1 < span says in one comparison: inside
  size_t kept = 0;
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    uint32_t any = 0;
    for (int j = 0; j < 16; j++) any |= uint32_t(keys[i + j] > low) & uint32_t(keys[i + j] < high);
    if (!any) continue;
    for (int j = 0; j < 16; j++) {
      out[kept] = keys[i + j];
      kept += keys[i + j] - low - 1 < span;
    }
  }
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
#endif

}  // namespace
