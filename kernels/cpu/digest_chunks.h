// The digest of kernels/digest.py over whole chunks. A strip is one 64-bit lane of a vector, as a
// counter of Philox is, so nothing moves between lanes before the end.
#pragma once
#include "philox.h"

namespace {

typedef uint32_t Halves __attribute__((vector_size(8 * COUNTERS)));
constexpr int CHUNK_ROWS = 64, STRIPS = 32, ROW_BYTES = 8 * STRIPS;
constexpr uint64_t DIGEST_SEED = 0x6E68;
// Memory is asked for so far ahead of the sums. Without it, one thread has 0.67 of the speed of a plain
// read by 64-byte loads; with it 0.88 (Intel Xeon with AVX-512, medians of 7 turns, CPU time).
constexpr int AHEAD_BYTES = 4096;
constexpr int GROUP = 4;  // vectors of a row that are summed side by side: their sums stay in registers

// Multiplies the lower halves of all lanes by the upper halves of the same lanes.
inline Words product_of_halves(Words x) {
#if defined(__AVX512F__)
  return (Words)_mm512_mul_epu32((__m512i)x, (__m512i)(x >> 32));
#elif defined(__AVX2__)
  return (Words)_mm256_mul_epu32((__m256i)x, (__m256i)(x >> 32));
#else
  return (x & 0xffffffffull) * (x >> 32);
#endif
}

// NH's term: both halves plus the key's, modulo 2^32 each, and multiplied.
inline Words term(Words words, Words key) {
  return product_of_halves((Words)((Halves)words + (Halves)key));
}

inline Words load_words(const uint8_t* p) {
  Words words;
  memcpy(&words, p, sizeof words);
  return words;
}

// The keys of each row for both totals, as pairs: the lower half is for the lower word.
struct RowKeys {
  RowKeys() {
    uint32_t words[4 * CHUNK_ROWS + MORE_WORDS];
    const uint32_t* found = philox_words(words, 0, 4 * CHUNK_ROWS, {DIGEST_SEED, 0, 0}, 0);
    memcpy(keys, found, sizeof keys);
  }
  uint64_t keys[2][CHUNK_ROWS];
};

// Adds the strips of `num_chunks` chunks to the two totals; `first` is the first strip's number.
void digest_chunks(const uint8_t* data, size_t num_chunks, uint64_t first, uint64_t* totals) {
  static const RowKeys rows;
  Words total0{}, total1{}, lane;
  for (int l = 0; l < COUNTERS; l++) lane[l] = uint64_t(l);
  const uint8_t* const end = data + num_chunks * CHUNK_ROWS * ROW_BYTES;
  for (; data < end; data += CHUNK_ROWS * ROW_BYTES) {
    for (int group = 0; group < ROW_BYTES; group += GROUP * int(sizeof(Words))) {
      Words strips0[GROUP] = {}, strips1[GROUP] = {};
      for (int row = 0; row < CHUNK_ROWS; row++) {
        const Words key0 = Words{} + rows.keys[0][row], key1 = Words{} + rows.keys[1][row];
#pragma GCC unroll 4
        for (int v = 0; v < GROUP; v++) {
          const uint8_t* from = data + row * ROW_BYTES + group + v * int(sizeof(Words));
          __builtin_prefetch(from + AHEAD_BYTES, 0, 2);
          const Words words = load_words(from);
          strips0[v] += term(words, key0);
          strips1[v] += term(words, key1);
        }
      }
      for (int v = 0; v < GROUP; v++, first += COUNTERS) {
        const Block keys_of = philox_block(lane + first, Words{} + 1, Words{}, DIGEST_SEED);
        total0 += term(strips0[v], (keys_of.x0 & 0xffffffffull) | keys_of.x1 << 32);
        total1 += term(strips1[v], (keys_of.x2 & 0xffffffffull) | keys_of.x3 << 32);
      }
    }
  }
  for (int l = 0; l < COUNTERS; l++) {
    totals[0] += total0[l];
    totals[1] += total1[l];
  }
}

}  // namespace
