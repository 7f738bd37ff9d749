// Digests of bytes, for kernels/cpu/digest.py: threads take blocks of chunks, and add what they find.
#include <atomic>

#include "call.h"
#include "pool.h"

namespace {

constexpr size_t CHUNK = 16384, STRIPS_IN_CHUNK = 32;
constexpr size_t CHUNKS_PER_BLOCK = 32;

}  // namespace

std::pair<uint64_t, uint64_t> digest(uintptr_t address, size_t num_bytes, uint64_t first_chunk,
                                     int num_threads, const std::string& isa) {
  const auto* data = reinterpret_cast<const uint8_t*>(address);
  const DigestChunks digest_chunks = find_isa(isa).digest_chunks;
  const size_t whole = num_bytes / CHUNK, rest = num_bytes % CHUNK;
  std::atomic<uint64_t> total0{num_bytes}, total1{num_bytes};
  auto add = [&](const uint8_t* from, size_t count, uint64_t first) {
    uint64_t totals[2] = {};
    digest_chunks(from, count, (first_chunk + first) * STRIPS_IN_CHUNK, totals);
    total0 += totals[0];
    total1 += totals[1];
  };
  const size_t blocks = (whole + CHUNKS_PER_BLOCK - 1) / CHUNKS_PER_BLOCK;
  parallel_blocks(blocks, num_threads, [&](size_t block, int) {
    const size_t first = block * CHUNKS_PER_BLOCK;
    add(data + first * CHUNK, std::min(CHUNKS_PER_BLOCK, whole - first), first);
  });
  if (rest) {
    uint8_t padded[CHUNK] = {};
    std::memcpy(padded, data + whole * CHUNK, rest);
    add(padded, 1, whole);
  }
  return {total0, total1};
}
