// Exact k-th values (order statistics) without a sort, by keys that compare as the floats do
// (formats.h).
//
// Over everything, a sample of 64 elements in every 8192 brackets the ranks. One pass counts the keys
// below and at the ends of the bracket, and gathers those between. These counts tell whether the rank
// is in the bracket. If not, three histogram passes of 11, 11 and 10 bits find it. By row or column,
// the keys of each are gathered, and selected from in memory.
#include <atomic>
#include <cmath>
#include <mutex>

#include "call.h"
#include "formats.h"
#include "pool.h"

namespace {

constexpr uint32_t LARGEST_KEY = 0xffffffffu;
constexpr size_t SAMPLE_EVERY = 8192, SAMPLE_WIDTH = 64;
constexpr double SIGMAS = 8;          // standard errors on each side: a bracket misses once in 10^15
constexpr size_t SMALL = 1 << 15;     // of fewer elements a sample says little
constexpr size_t FEW_KEYS = 1 << 12;  // for up to so many, nth_element is as good as counting

// Keys with the counts of their upper digits, for any number of ranks.
class Keys {
 public:
  Keys(const uint32_t* keys, size_t count) : keys_(keys), count_(count) {
    if (count <= FEW_KEYS) return;
    counts_.resize(2 * BINS);  // two counts take turns: one alone would wait for its last addition
    for (size_t i = 0; i < count; i++) counts_[(i % 2) * BINS + (keys[i] >> SHIFT)]++;
    for (size_t digit = 0; digit < BINS; digit++) counts_[digit] += counts_[BINS + digit];
  }

  // Ranks count from 0.
  uint32_t of_rank(size_t r) {
    if (counts_.empty()) {
      digit_keys_.assign(keys_, keys_ + count_);
      return nth(r);
    }
    size_t digit = 0;
    for (; r >= counts_[digit]; digit++) r -= counts_[digit];
    if (digit != digit_) {
      digit_ = digit;
      digit_keys_.resize(counts_[digit] + 1);
      size_t kept = 0;
      for (size_t i = 0; i < count_; i++) {  // a key that does not stay is overwritten by the next
        digit_keys_[kept] = keys_[i];
        kept += (keys_[i] >> SHIFT) == digit;
      }
      digit_keys_.pop_back();
    }
    return nth(r);
  }

 private:
  static constexpr int SHIFT = 21;
  static constexpr size_t BINS = size_t(1) << (32 - SHIFT);

  // Selects among the keys of one digit, by the digits below.
  uint32_t nth(size_t r) {
    auto keys = digit_keys_;
    size_t count = keys.size();
    for (int shift : {10, 0}) {
      if (count <= FEW_KEYS) break;
      uint32_t counts[1 << 11] = {};
      for (size_t i = 0; i < count; i++) counts[(keys[i] >> shift) & 0x7ff]++;
      uint32_t digit = 0;
      for (; r >= counts[digit]; digit++) r -= counts[digit];
      if (counts[digit] == count) continue;  // all share the digit
      size_t kept = 0;
      for (size_t i = 0; i < count; i++) {
        const uint32_t key = keys[i];
        keys[kept] = key;
        kept += ((key >> shift) & 0x7ff) == digit;
      }
      count = kept;
    }
    std::nth_element(keys.begin(), keys.begin() + ptrdiff_t(r), keys.begin() + ptrdiff_t(count));
    return keys[r];
  }

  const uint32_t* keys_;
  size_t count_, digit_ = BINS;
  std::vector<uint32_t> counts_, digit_keys_;
};

// Writes what the program gives for n <= TILE elements from (row, col) on to `out`, as keys. Returns
// how many.
size_t keys_at(const Call& call, Tile& t, size_t row, size_t col, int n, uint32_t* out) {
  t.bracket = {0, LARGEST_KEY, 0, 0, 0, out, 0};
  call.run_tile(t, row, col, n);
  size_t count = t.bracket.num_inside;  // keys at the ends are counted, but not gathered
  std::fill_n(out + count, t.bracket.at_low, 0u);
  count += t.bracket.at_low;
  std::fill_n(out + count, t.bracket.at_high, LARGEST_KEY);
  return count + t.bracket.at_high;
}

std::vector<uint32_t> sample(const Call& call) {
  const size_t count = call.rows * call.cols, groups = (count + SAMPLE_EVERY - 1) / SAMPLE_EVERY;
  std::vector<uint32_t> keys(groups * SAMPLE_WIDTH);
  auto scratch = call.scratch();
  const size_t per_block = 64;
  std::atomic<size_t> filled{0};
  parallel_blocks((groups + per_block - 1) / per_block, call.num_threads, [&](size_t block, int thread) {
    Tile t = call.tile(*scratch[thread]);
    std::vector<uint32_t> mine(per_block * SAMPLE_WIDTH);
    size_t num_mine = 0;
    for (size_t g = block * per_block; g < std::min(groups, (block + 1) * per_block); g++) {
      const size_t at = g * SAMPLE_EVERY, row = at / call.cols, col = at % call.cols;
      const int n = int(std::min(SAMPLE_WIDTH, call.cols - col));
      num_mine += keys_at(call, t, row, col, n, mine.data() + num_mine);
    }
    const size_t place = filled.fetch_add(num_mine);
    std::copy_n(mine.begin(), num_mine, keys.begin() + ptrdiff_t(place));
  });
  keys.resize(filled);
  return keys;
}

struct Ends { uint32_t low, high; };

// The keys between which the ranks first <= last, from 0, of `count` elements lie, by the sample.
Ends ends_of(const std::vector<uint32_t>& seen, size_t count, size_t first, size_t last) {
  Keys keys(seen.data(), seen.size());
  const double size = double(seen.size());
  auto place = [&](size_t rank, double side) {
    const double share = (double(rank) + 0.5) / double(count);
    return size * share + side * (SIGMAS * std::sqrt(size * share * (1 - share)) + 8);
  };
  const double from = place(first, -1), to = place(last, 1);
  Ends ends{0, LARGEST_KEY};
  if (from >= 0) ends.low = keys.of_rank(size_t(from));
  if (to < size) ends.high = keys.of_rank(size_t(to));
  return ends;
}

struct Gathered {
  uint64_t below = 0, at_low = 0, at_high = 0;
  std::vector<uint32_t> inside;
  bool complete = true;  // false where too much lay inside, so that gathering was given up
};

Gathered gather(const Call& call, Ends ends) {
  auto scratch = call.scratch();
  const size_t most = std::max<size_t>(SMALL, call.rows * call.cols / 8);
  Gathered all;
  std::mutex lock;
  std::vector<std::vector<uint32_t>> buffers(call.num_threads);
  parallel_blocks(call.num_blocks(), call.num_threads, [&](size_t block, int thread) {
    auto& buffer = buffers[thread];
    buffer.resize(call.most_in_block() + LANES);
    Tile t = call.tile(*scratch[thread]);
    t.bracket = {ends.low, ends.high, 0, 0, 0, buffer.data(), 0};
    call.run_block(t, block);
    std::lock_guard<std::mutex> hold(lock);
    all.below += t.bracket.below;
    all.at_low += t.bracket.at_low;
    all.at_high += t.bracket.at_high;
    all.complete &= all.inside.size() + t.bracket.num_inside <= most;
    if (all.complete)
      all.inside.insert(all.inside.end(), buffer.begin(), buffer.begin() + ptrdiff_t(t.bracket.num_inside));
  });
  return all;
}

// Writes the key of rank r, or returns false where it is not in the bracket.
bool pick(const Gathered& found, Ends ends, size_t r, uint32_t& key) {
  if (!found.complete || r < found.below) return false;
  r -= found.below;
  key = ends.low;
  if (r < found.at_low) return true;
  r -= found.at_low;
  if (r < found.inside.size()) {
    key = Keys(found.inside.data(), found.inside.size()).of_rank(r);
    return true;
  }
  key = ends.high;
  return r - found.inside.size() < found.at_high && ends.high > ends.low;
}

uint32_t by_histogram(const Call& call, size_t r) {
  auto scratch = call.scratch();
  uint32_t prefix = 0, mask = 0;
  int shift = 32;
  for (int bits : {11, 11, 10}) {
    shift -= bits;
    const size_t bins = size_t(1) << bits;
    std::vector<std::vector<uint64_t>> counts(call.num_threads, std::vector<uint64_t>(bins));
    parallel_blocks(call.num_blocks(), call.num_threads, [&](size_t block, int thread) {
      Tile t = call.tile(*scratch[thread]);
      t.counts = counts[thread].data();
      t.digit = {shift, bits, prefix, mask};
      call.run_block(t, block);
    });
    uint32_t digit = 0;
    for (;; digit++) {
      uint64_t here = 0;
      for (const auto& mine : counts) here += mine[digit];
      if (r < here || digit + 1 == bins) break;
      r -= here;
    }
    prefix |= digit << shift;
    mask |= uint32_t(bins - 1) << shift;
  }
  return prefix;
}

}  // namespace

std::vector<float> kth_all(const Call& call, const Call& histogram, const std::vector<size_t>& ranks) {
  const size_t count = call.rows * call.cols;
  std::vector<uint32_t> seen;
  if (count > SMALL) seen = sample(call);
  std::vector<float> values(ranks.size());
  Gathered found;
  Ends ends{LARGEST_KEY, 0};
  for (size_t i = 0; i < ranks.size(); i++) {  // ranks ascend, so that neighbours share a pass
    const size_t r = ranks[i] - 1;
    uint32_t key = 0;
    if (i == 0 || !pick(found, ends, r, key)) {
      size_t last = r;  // ranks at most 1/1000 of the elements further share the bracket
      for (size_t j = i; j < ranks.size() && ranks[j] - 1 <= r + count / 1000; j++) last = ranks[j] - 1;
      ends = count > SMALL ? ends_of(seen, count, r, last) : Ends{0, LARGEST_KEY};
      found = gather(call, ends);
      if (!pick(found, ends, r, key)) key = by_histogram(histogram, r);
    }
    values[i] = value_of(key);
  }
  return values;
}

void kth_rows(const Call& call, const std::vector<size_t>& ranks, uintptr_t out) {
  auto scratch = call.scratch();
  float* result = reinterpret_cast<float*>(out);
  parallel_blocks(call.rows, call.num_threads, [&](size_t row, int thread) {
    Tile t = call.tile(*scratch[thread]);
    std::vector<uint32_t> keys(call.cols + LANES);
    size_t count = 0;
    for (size_t col = 0; col < call.cols; col += TILE)
      count += keys_at(call, t, row, col, int(std::min<size_t>(TILE, call.cols - col)), keys.data() + count);
    Keys found(keys.data(), count);
    for (size_t i = 0; i < ranks.size(); i++)
      result[i * call.rows + row] = value_of(found.of_rank(ranks[i] - 1));
  });
}

void kth_columns(const Call& call, const std::vector<size_t>& ranks, uintptr_t out) {
  auto scratch = call.scratch();
  float* result = reinterpret_cast<float*>(out);
  const size_t strips = (call.cols + LANES - 1) / LANES;
  parallel_blocks(strips, call.num_threads, [&](size_t strip, int thread) {
    const size_t first = strip * LANES, width = std::min<size_t>(LANES, call.cols - first);
    Tile t = call.tile(*scratch[thread]);
    std::vector<uint32_t> keys(width * call.rows);
    for (size_t row = 0; row < call.rows; row++) {
      call.run_tile(t, row, first, int(width));
      const float* values = t.registers + size_t(call.program.back().a) * TILE;
      for (size_t i = 0; i < width; i++) keys[i * call.rows + row] = key_of(values[i]);
    }
    for (size_t i = 0; i < width; i++) {
      Keys found(keys.data() + i * call.rows, call.rows);
      for (size_t k = 0; k < ranks.size(); k++)
        result[k * call.cols + first + i] = value_of(found.of_rank(ranks[k] - 1));
    }
  });
}
