// Reductions of a tile into 64 float lanes, which the driver adds to double lanes every few tiles.
// Every build adds in the same lanes in the same order, so sums have the same bits on all of them.
// Statistics that read the same registers share one instruction: each register is read once.
#pragma once
#include <cmath>
#include <cstring>
#if defined(__FMA__)
#include <immintrin.h>
#endif

#include "formats.h"
#include "inputs.h"
#include "pairs.h"
#include "vm.h"

namespace {

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
typedef float V __attribute__((vector_size(4 * WIDTH), aligned(4)));
typedef int32_t VI __attribute__((vector_size(4 * WIDTH), aligned(4)));

typedef float H __attribute__((vector_size(2 * WIDTH), aligned(4)));
typedef double W __attribute__((vector_size(4 * WIDTH), aligned(8)));

// Floats as doubles. By intrinsics, because the compiler converts halves and joins them.
inline W wide(const float* p) {
#if defined(__AVX512F__)
  return (W)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(__AVX2__)
  return (W)_mm256_cvtps_pd(_mm_loadu_ps(p));
#else
  return __builtin_convertvector(*reinterpret_cast<const H*>(p), W);
#endif
}
// Adds x * y to the total and rounds once, on every instruction set, so that sums have the same bits.
// In double the product of two floats is exact, so the plain form rounds once too.
inline void add_product(V& total, V x, V y) {
#if defined(__AVX512F__)
  total = (V)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)total);
#elif defined(__FMA__)
  total = (V)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)total);
#else
  for (int i = 0; i < WIDTH; i++) total[i] = std::fma(x[i], y[i], total[i]);
#endif
}
inline void add_product(W& total, W x, W y) { total += x * y; }

// bf16 as floats. By intrinsics, because the compiler's conversion takes five instructions.
inline V widened(const uint16_t* p) {
#if defined(__AVX512F__)
  return (V)widened(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i*)p)), 0);
#elif defined(__AVX2__)
  return (V)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16);
#else
  typedef uint16_t From __attribute__((vector_size(2 * WIDTH), aligned(2)));
  typedef uint32_t Bits __attribute__((vector_size(4 * WIDTH)));
  return (V)(__builtin_convertvector(*reinterpret_cast<const From*>(p), Bits) << 16);
#endif
}
inline V at(const float* p) { return *reinterpret_cast<const V*>(p); }
inline V magnitude(V x) { return (V)((VI)x & 0x7fffffff); }

// Returns the register, set to zero behind the tile's end: zeros change no sum.
inline const float* settled(const Tile& t, int index) {
  float* a = t.registers + size_t(index) * TILE;
  for (int i = t.n; i < ((t.n + LANES - 1) & -LANES); i++) a[i] = 0.f;
  return a;
}

// Adds K sums at once to K rows of lanes. term(u, i) adds the K vectors that begin at element i to the
// accumulators u. Only some lanes are summed at a time, because with 24 accumulators the compiler
// spilled (11.2 -> 8.8 ns).
template <int K, class Vector, class Number, class Term>
void add_up(Number* lanes, int n, Term term) {
  constexpr int REGISTERS = 10, EACH = sizeof(Vector) / sizeof(Number);
  constexpr int FIT = REGISTERS / K >= LANES / EACH ? LANES / EACH
                      : REGISTERS / K >= 4 ? 4 : REGISTERS / K >= 2 ? 2 : 1;
  constexpr int STEP = FIT * EACH;
  for (int first = 0; first < LANES; first += STEP) {
    Vector total[K][FIT];
    for (int m = 0; m < K; m++) memcpy(total[m], lanes + m * LANES + first, sizeof total[m]);
    for (int i = first; i < n; i += LANES)
      for (int j = 0; j < FIT; j++) {
        Vector u[K];
        for (int m = 0; m < K; m++) u[m] = total[m][j];
        term(u, i + EACH * j);
        for (int m = 0; m < K; m++) total[m][j] = u[m];
      }
    for (int m = 0; m < K; m++) memcpy(lanes + m * LANES + first, total[m], sizeof total[m]);
  }
}

template <int K, class Term> void sums(Tile& t, int k, Term term) {
  add_up<K, V>(t.lanes + size_t(k) * LANES, t.n, term);
}

// The sum, the sum of magnitudes and the sum of squares of a register, as far as they are wanted.
template <bool Plain, bool Sizes, bool Squares> void moments(Tile& t, const Insn& x) {
  const float* a = settled(t, x.a);
  sums<Plain + Sizes + Squares>(t, x.k, [a](V* u, int i) {
    const V p = at(a + i);
    int m = 0;
    if constexpr (Plain) u[m++] += p;
    if constexpr (Sizes) u[m++] += magnitude(p);
    if constexpr (Squares) add_product(u[m++], p, p);
  });
}

void dot(Tile& t, const Insn& x) {
  const float *a = settled(t, x.a), *b = settled(t, x.b);
  sums<1>(t, x.k, [a, b](V* u, int i) { add_product(u[0], at(a + i), at(b + i)); });
}

void gram2(Tile& t, const Insn& x) {
  const float *a = settled(t, x.a), *b = settled(t, x.b);
  sums<3>(t, x.k, [a, b](V* u, int i) {
    const V p = at(a + i), q = at(b + i);
    add_product(u[0], p, p), add_product(u[1], p, q), add_product(u[2], q, q);
  });
}

// All products of three vectors. With Sums also the sum and the sum of magnitudes of each: products
// and sums go to different ports.
template <bool Sums> inline void add_gram3(V* u, V p, V q, V r) {
  add_product(u[0], p, p), add_product(u[1], p, q), add_product(u[2], p, r);
  add_product(u[3], q, q), add_product(u[4], q, r), add_product(u[5], r, r);
  if constexpr (Sums) {
    u[6] += p, u[7] += magnitude(p), u[8] += q;
    u[9] += magnitude(q), u[10] += r, u[11] += magnitude(r);
  }
}

template <bool Sums> void gram3(Tile& t, const Insn& x) {
  const float *a = settled(t, x.a), *b = settled(t, x.b), *c = settled(t, x.c);
  sums<Sums ? 12 : 6>(t, x.k, [a, b, c](V* u, int i) {
    add_gram3<Sums>(u, at(a + i), at(b + i), at(c + i));
  });
}

// The same for three bf16 inputs less register b, the base. k has the first lane in 7 bits, then each
// input in 3.
template <bool Sums> void delta_gram3(Tile& t, const Insn& x) {
  alignas(64) uint16_t tails[3][TILE];
  const uint16_t* in[3];
  for (int j = 0; j < 3; j++) {
    in[j] = halves(t, x.k >> (7 + 3 * j) & 7);
    if (t.n % LANES) in[j] = static_cast<uint16_t*>(memcpy(tails[j], in[j], 2 * whole_groups(t)));
  }
  const uint16_t *a = in[0], *b = in[1], *c = in[2];
  const float* base = t.registers + size_t(x.b) * TILE;
  sums<Sums ? 12 : 6>(t, x.k & 127, [a, b, c, base](V* u, int i) {
    const V m = at(base + i);
    add_gram3<Sums>(u, widened(a + i) - m, widened(b + i) - m, widened(c + i) - m);
  });
}

// ---- in double: the moments, from which sums that cancel are made (kernels/execution/moments.py) ----

template <int K, class Term> void wide_sums(Tile& t, int k, Term term) {
  add_up<K, W>(t.wide_lanes + size_t(k) * LANES, t.n, term);
}

void wide_sum(Tile& t, const Insn& x) {
  const float* a = settled(t, x.a);
  wide_sums<1>(t, x.k, [a](W* u, int i) { u[0] += wide(a + i); });
}

void wide_dot(Tile& t, const Insn& x) {
  const float *a = settled(t, x.a), *b = settled(t, x.b);
  wide_sums<1>(t, x.k, [a, b](W* u, int i) { add_product(u[0], wide(a + i), wide(b + i)); });
}

void wide_gram3(Tile& t, const Insn& x) {
  const float *a = settled(t, x.a), *b = settled(t, x.b), *c = settled(t, x.c);
  wide_sums<6>(t, x.k, [a, b, c](W* u, int i) {
    const W p = wide(a + i), q = wide(b + i), r = wide(c + i);
    add_product(u[0], p, p), add_product(u[1], p, q), add_product(u[2], p, r), add_product(u[3], q, q), add_product(u[4], q, r), add_product(u[5], r, r);
  });
}

template <bool Largest> inline float better(float x, float y) {
  return Largest ? maximum(x, y) : minimum(x, y);
}

template <bool Largest, bool Size> void extreme(Tile& t, const Insn& x) {
  float* a = t.registers + size_t(x.a) * TILE;
  // Copies of the last element behind the tile's end change no extreme.
  for (int i = t.n; i < ((t.n + LANES - 1) & -LANES); i++) a[i] = a[t.n - 1];
  V best[LANES / WIDTH];
  float* lanes = t.lanes + size_t(x.k) * LANES;
  memcpy(best, lanes, sizeof best);
  for (int i = 0; i < t.n; i += LANES)
    for (int j = 0; j < LANES / WIDTH; j++) {
      const V p = Size ? magnitude(at(a + i + WIDTH * j)) : at(a + i + WIDTH * j);
      const VI wins = (Largest ? p > best[j] : p < best[j]) | (p != p);
      best[j] = wins ? p : best[j];
    }
  memcpy(lanes, best, sizeof best);
}

// Moves float lanes to double lanes. It is compiled here for each instruction set: in the driver's
// build, which is for any x86, it took a fifth of a sweep.
void add_lanes(double* __restrict total, float* __restrict few) {
  _Pragma("GCC ivdep") for (int i = 0; i < LANES; i++) {
    total[i] += double(few[i]);
    few[i] = 0.f;
  }
}

// ---- by column: the driver moves the float columns to double every few rows ----

void column_sum(Tile& t, const Insn& x) {
  const float* a = t.registers + size_t(x.a) * TILE;
  float* __restrict total = t.columns + size_t(x.k) * TILE;
  const int n = (t.n + LANES - 1) & -LANES;
  _Pragma("GCC ivdep") for (int i = 0; i < n; i++) total[i] += a[i];
}

template <bool Largest> void column_extreme(Tile& t, const Insn& x) {
  const float* a = t.registers + size_t(x.a) * TILE;
  float* __restrict best = t.columns + size_t(x.k) * TILE;
  const int n = (t.n + LANES - 1) & -LANES;
  _Pragma("GCC ivdep") for (int i = 0; i < n; i++) best[i] = better<Largest>(a[i], best[i]);
}

#define STATISTICS                                                                              \
  {"SUM", moments<true, false, false>}, {"SIZES", moments<false, true, false>},                  \
  {"SQUARES", moments<false, false, true>}, {"SUM_SIZES", moments<true, true, false>},           \
  {"SUM_SQUARES", moments<true, false, true>}, {"SIZES_SQUARES", moments<false, true, true>},    \
  {"SUM_SIZES_SQUARES", moments<true, true, true>}, {"DOT", dot}, {"GRAM2", gram2},              \
  {"GRAM3", gram3<false>}, {"GRAM3_MOMENTS", gram3<true>}, {"DELTA_GRAM3", delta_gram3<false>},   \
  {"DELTA_GRAM3_MOMENTS", delta_gram3<true>}, {"WIDE_SUM", wide_sum},                             \
  {"WIDE_DOT", wide_dot}, {"WIDE_GRAM3", wide_gram3},                                            \
  {"LARGEST", extreme<true, false>}, {"SMALLEST", extreme<false, false>},                        \
  {"LARGEST_SIZE", extreme<true, true>}, {"COLUMN_SUM", column_sum},                             \
  {"COLUMN_LARGEST", column_extreme<true>}, {"COLUMN_SMALLEST", column_extreme<false>},

}  // namespace
