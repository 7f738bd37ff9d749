// Runs apply and reductions over blocks. Partial sums are added block by block, whichever thread made
// them.
#include <atomic>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "call.h"
#include "pool.h"

namespace {

enum Kind { KIND_SUM, KIND_MAX, KIND_MIN };
constexpr size_t TILES_IN_FLOAT = 4;  // a float lane sums at most 32 elements, then it goes to double
constexpr size_t ROWS_IN_FLOAT = 16;  // a column sums at most 16 rows in float, then it goes to double

double start_of(int kind) {
  const double inf = std::numeric_limits<double>::infinity();
  return kind == KIND_SUM ? 0.0 : kind == KIND_MAX ? -inf : inf;
}

double combine(int kind, double x, double y) {
  if (kind == KIND_SUM) return x + y;
  if (std::isnan(x) || std::isnan(y)) return std::numeric_limits<double>::quiet_NaN();
  return kind == KIND_MAX ? std::max(x, y) : std::min(x, y);
}

template <class Number> void clear(const std::vector<int>& kinds, Number* values, size_t width) {
  for (size_t k = 0; k < kinds.size(); k++)
    std::fill_n(values + k * width, width, Number(start_of(kinds[k])));
}

double total(int kind, const double* lanes) {
  double value = lanes[0];
  for (int i = 1; i < LANES; i++) value = combine(kind, value, lanes[i]);
  return value;
}

// The lanes of one block or row, and then its totals. Float lanes take a few tiles' elements.
struct Partial {
  Partial(const std::vector<int>& kinds, AddLanes add_lanes) : kinds(kinds), add_lanes(add_lanes) {
    clear(kinds, few, LANES);
    clear(kinds, lanes, LANES);
  }

  void after_tile() {
    if (++num_tiles % TILES_IN_FLOAT == 0) flush();
  }

  void flush() {
    for (size_t k = 0; k < kinds.size(); k++) {
      double* all = lanes + k * LANES;
      float* mine = few + k * LANES;
      if (kinds[k] == KIND_SUM) {
        add_lanes(all, mine);
        continue;
      }
      for (int i = 0; i < LANES; i++) {
        all[i] = combine(kinds[k], all[i], double(mine[i]));
        mine[i] = float(start_of(kinds[k]));
      }
    }
  }

  double operator()(size_t k) const { return total(kinds[k], lanes + k * LANES); }

  const std::vector<int>& kinds;
  const AddLanes add_lanes;
  size_t num_tiles = 0;
  alignas(64) float few[MAX_REDUCTIONS * LANES];
  alignas(64) double lanes[MAX_REDUCTIONS * LANES];
};

}  // namespace

std::vector<int> apply(const std::vector<Call*>& calls, const Addresses& outs,
                       const std::vector<int>& out_dtypes) {
  std::vector<size_t> starts{0};  // each call's first block among the blocks of all
  std::vector<std::atomic<bool>> bad(calls.size());
  const Call* largest = calls[0];
  for (size_t i = 0; i < calls.size(); i++) {
    calls[i]->task.out = reinterpret_cast<void*>(outs[i]);
    calls[i]->task.out_dtype = uint8_t(out_dtypes[i]);
    starts.push_back(starts[i] + calls[i]->num_blocks());
    if (calls[i]->num_registers > largest->num_registers) largest = calls[i];
  }
  auto scratch = largest->scratch();
  parallel_blocks(starts.back(), largest->num_threads, [&](size_t block, int thread) {
    const size_t i = std::upper_bound(starts.begin(), starts.end(), block) - starts.begin() - 1;
    Tile t = calls[i]->tile(*scratch[thread]);
    calls[i]->run_block(t, block - starts[i]);
    if (t.not_finite) bad[i] = true;
  });
  std::vector<int> finite;
  for (const auto& one : bad) finite.push_back(!one);
  return finite;
}

// Reductions over everything, by several programs that cut it alike: one double for each lane, one
// program's after the other's. The first program reads a block from memory, the others from cache.
std::vector<double> reduce_all(const std::vector<Call*>& calls,
                               const std::vector<std::vector<int>>& kinds) {
  const Call& first = *calls[0];
  std::vector<std::vector<std::unique_ptr<Scratch>>> scratch;
  std::vector<int> all_kinds;
  for (size_t c = 0; c < calls.size(); c++) {
    if (calls[c]->rows != first.rows || calls[c]->cols != first.cols)
      throw std::invalid_argument("programs that cut their tensors differently");
    scratch.push_back(calls[c]->scratch());
    all_kinds.insert(all_kinds.end(), kinds[c].begin(), kinds[c].end());
  }
  const size_t blocks = first.num_blocks(), count = all_kinds.size();
  std::vector<double> partial(blocks * count);
  parallel_blocks(blocks, first.num_threads, [&](size_t block, int thread) {
    double* to = partial.data() + block * count;
    for (size_t c = 0; c < calls.size(); c++) {
      Partial mine(kinds[c], calls[c]->add_lanes);
      Tile t = calls[c]->tile(*scratch[c][thread]);
      t.lanes = mine.few;
      t.wide_lanes = mine.lanes;
      calls[c]->run_block(t, block, [&] { mine.after_tile(); });
      mine.flush();
      for (size_t k = 0; k < kinds[c].size(); k++) *to++ = mine(k);
    }
  });
  std::vector<double> result(count);
  for (size_t k = 0; k < count; k++) {
    result[k] = start_of(all_kinds[k]);
    for (size_t block = 0; block < blocks; block++)
      result[k] = combine(all_kinds[k], result[k], partial[block * count + k]);
  }
  return result;
}

// Reductions over each row's columns into float out[k * rows + row].
void reduce_rows(const Call& call, const std::vector<int>& kinds, uintptr_t out) {
  auto scratch = call.scratch();
  float* result = reinterpret_cast<float*>(out);
  parallel_blocks(call.rows, call.num_threads, [&](size_t row, int thread) {
    Partial mine(kinds, call.add_lanes);
    Tile t = call.tile(*scratch[thread]);
    t.lanes = mine.few;
    call.run_row(t, row, 0, call.cols, [&] { mine.after_tile(); });
    mine.flush();
    for (size_t k = 0; k < kinds.size(); k++) result[k * call.rows + row] = float(mine(k));
  });
}

// Reductions over each column's rows into float out[k * cols + col]. A thread owns a strip of
// columns, so no partial results are combined.
void reduce_columns(const Call& call, const std::vector<int>& kinds, uintptr_t out) {
  auto scratch = call.scratch();
  float* result = reinterpret_cast<float*>(out);
  const size_t strips = (call.cols + TILE - 1) / TILE, values = kinds.size() * TILE;
  parallel_blocks(strips, call.num_threads, [&](size_t strip, int thread) {
    const size_t first = strip * TILE, last = std::min(call.cols, first + TILE);
    std::vector<double> columns(values);
    std::vector<float> few(values);
    clear(kinds, columns.data(), TILE);
    Tile t = call.tile(*scratch[thread]);
    t.columns = few.data();
    for (size_t row = 0; row < call.rows;) {
      clear(kinds, few.data(), TILE);
      const size_t stop = std::min(call.rows, row + ROWS_IN_FLOAT);
      for (; row < stop; row++) call.run_row(t, row, first, last);
      for (size_t i = 0; i < values; i++)
        columns[i] = combine(kinds[i / TILE], columns[i], double(few[i]));
    }
    for (size_t k = 0; k < kinds.size(); k++)
      for (size_t i = 0; i < last - first; i++)
        result[k * call.cols + first + i] = float(columns[k * TILE + i]);
  });
}

// Reads words and does next to nothing with them: no sweep can be faster.
uint64_t read_all(uintptr_t address, size_t num_words, int num_threads) {
  const uint64_t* words = reinterpret_cast<const uint64_t*>(address);
  std::atomic<uint64_t> sum{0};
  parallel_blocks((num_words + BLOCK - 1) / BLOCK, num_threads, [&](size_t block, int) {
    uint64_t mine = 0;
    for (size_t i = block * BLOCK; i < std::min(num_words, (block + 1) * BLOCK); i++) mine += words[i];
    sum += mine;
  });
  return sum;
}
