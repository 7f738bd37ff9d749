// Philox 4x32-10 by lanes; see kernels/philox.py for the definition. Element 4 j + w of a draw is
// word w of counter j.
#pragma once
#include "vm.h"

namespace {

inline float unit(uint32_t word) { return float(word >> 8) * 5.9604644775390625e-08f; }

// The words of elements at, at + 1, ..., at + n - 1, somewhere in `out` [n + 8].
inline const uint32_t* philox_words(uint32_t* __restrict out, size_t at, int n, const Draw& draw,
                                    uint32_t stream) {
  const uint64_t first = at / 4;
  const int num_blocks = (n + 7) / 4;
  const uint32_t seed0 = uint32_t(draw.seed), seed1 = uint32_t(draw.seed >> 32), number = draw.draw;
  _Pragma("GCC ivdep") for (int j = 0; j < num_blocks; j++) {
    uint64_t block = first + uint64_t(j);
    uint32_t x0 = uint32_t(block), x1 = uint32_t(block >> 32), x2 = number, x3 = stream;
    uint32_t k0 = seed0, k1 = seed1;
    for (int round = 0; round < 10; round++) {
      uint64_t p = 0xD2511F53ull * x0, q = 0xCD9E8D57ull * x2;
      x0 = uint32_t(q >> 32) ^ x1 ^ k0;
      x2 = uint32_t(p >> 32) ^ x3 ^ k1;
      x1 = uint32_t(q);
      x3 = uint32_t(p);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    out[4 * j] = x0;
    out[4 * j + 1] = x1;
    out[4 * j + 2] = x2;
    out[4 * j + 3] = x3;
  }
  return out + at % 4;
}

}  // namespace
