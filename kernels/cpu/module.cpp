// The driver of the tile VM: cuts a matrix into blocks and tiles, runs them on the pool, combines
// partial sums in block order. Python passes pointers as integers and keeps the tensors alive.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "pool.h"
#include "vm.h"

namespace nb = nanobind;
using Addresses = std::vector<uintptr_t>;

namespace {

// ---- instruction sets ----

struct Isa { const char* name; RunTile run; bool (*supported)(); };

const Isa ISAS[] = {  // best first
#ifdef HAVE_X86_BUILDS
    {"avx512", run_tile_avx512, [] {
       return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma"); }},
    {"avx2", run_tile_avx2, [] {
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("f16c"); }},
#endif
    {"portable", run_tile_portable, [] { return true; }},
};

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Isa& isa : ISAS) if (isa.supported()) names.push_back(isa.name);
  return names;
}

RunTile find_isa(const std::string& name) {
  for (const Isa& isa : ISAS)
    if (isa.supported() && (name.empty() || name == isa.name)) return isa.run;
  throw std::invalid_argument("this processor cannot run the build " + name);
}

// ---- one call ----

struct Registers {  // aligned scratch of one thread
  explicit Registers(int count)
      : memory(static_cast<float*>(std::aligned_alloc(64, sizeof(float) * TILE * size_t(count)))) {}
  ~Registers() { std::free(memory); }
  Registers(const Registers&) = delete;
  float* const memory;
};

struct Call {  // what Python hands over, for all entry points
  std::vector<Insn> program;
  int num_registers, num_threads;
  size_t rows, cols;
  std::vector<const void*> inputs;
  std::vector<uint8_t> dtypes;
  std::vector<const float*> vectors;
  std::vector<Range> ranges;
  std::vector<Draw> draws;
  RunTile run;
  Task task;

  Call(nb::bytes code, int registers, size_t rows_, size_t cols_, const Addresses& in,
       const std::vector<int>& kinds, const Addresses& vecs, const std::vector<int64_t>& range_words,
       const std::vector<uint64_t>& draw_words, int threads, const std::string& isa)
      : program(code.size() / sizeof(Insn)), num_registers(std::max(1, registers)),
        num_threads(std::max(1, threads)), rows(rows_), cols(cols_), run(find_isa(isa)) {
    std::memcpy(program.data(), code.c_str(), program.size() * sizeof(Insn));
    for (uintptr_t p : in) inputs.push_back(reinterpret_cast<const void*>(p));
    for (int kind : kinds) dtypes.push_back(uint8_t(kind));
    for (uintptr_t p : vecs) vectors.push_back(reinterpret_cast<const float*>(p));
    for (size_t i = 0; i + 2 < range_words.size(); i += 3)
      ranges.push_back({range_words[i], range_words[i + 1], range_words[i + 2]});
    for (size_t i = 0; i + 1 < draw_words.size(); i += 2)
      draws.push_back({draw_words[i], uint32_t(draw_words[i + 1]), 0});
    task = {inputs.data(), dtypes.data(), vectors.data(), ranges.data(), draws.data(), nullptr, F32};
  }

  Tile tile(float* registers) const {
    return {&task, 0, 0, 0, 0, registers, nullptr, nullptr, {0, 0, 0, 0}, false};
  }

  // Tiles of columns [first, last) of one row.
  void run_row(Tile& t, size_t row, size_t first, size_t last) const {
    for (size_t col = first; col < last; col += TILE) {
      t.row = row;
      t.col = col;
      t.at = row * cols + col;
      t.n = int(std::min<size_t>(TILE, last - col));
      run(t, program.data(), int(program.size()));
    }
  }

  // A block is a fixed number of whole rows, or a fixed piece of the only row.
  size_t rows_per_block() const { return rows == 1 ? 1 : std::max<size_t>(1, BLOCK / std::max<size_t>(1, cols)); }
  size_t num_blocks() const {
    return rows == 1 ? (cols + BLOCK - 1) / BLOCK : (rows + rows_per_block() - 1) / rows_per_block();
  }
  void run_block(Tile& t, size_t block) const {
    if (rows == 1) return run_row(t, 0, block * BLOCK, std::min(cols, (block + 1) * BLOCK));
    size_t last = std::min(rows, (block + 1) * rows_per_block());
    for (size_t row = block * rows_per_block(); row < last; row++) run_row(t, row, 0, cols);
  }
};

std::vector<std::unique_ptr<Registers>> scratch(const Call& call) {
  std::vector<std::unique_ptr<Registers>> all;
  for (int i = 0; i < call.num_threads; i++) all.push_back(std::make_unique<Registers>(call.num_registers));
  return all;
}

enum Kind { KIND_SUM, KIND_MAX, KIND_MIN };

double start_of(int kind) {
  const double inf = std::numeric_limits<double>::infinity();
  return kind == KIND_SUM ? 0.0 : kind == KIND_MAX ? -inf : inf;
}

double combine(int kind, double x, double y) {
  if (kind == KIND_SUM) return x + y;
  if (std::isnan(x) || std::isnan(y)) return std::numeric_limits<double>::quiet_NaN();
  return kind == KIND_MAX ? std::max(x, y) : std::min(x, y);
}

void clear(const std::vector<int>& kinds, double* lanes) {
  for (size_t k = 0; k < kinds.size(); k++)
    std::fill_n(lanes + k * LANES, LANES, start_of(kinds[k]));
}

double total(int kind, const double* lanes) {
  double value = lanes[0];
  for (int i = 1; i < LANES; i++) value = combine(kind, value, lanes[i]);
  return value;
}

// ---- entry points ----

bool apply(Call& call, uintptr_t out, int out_dtype) {
  nb::gil_scoped_release unlocked;
  call.task.out = reinterpret_cast<void*>(out);
  call.task.out_dtype = uint8_t(out_dtype);
  auto registers = scratch(call);
  std::atomic<bool> bad{false};
  parallel_blocks(call.num_blocks(), call.num_threads, [&](size_t block, int thread) {
    Tile t = call.tile(registers[thread]->memory);
    call.run_block(t, block);
    if (t.not_finite) bad = true;
  });
  return !bad;
}

// Reductions over everything: one double each.
std::vector<double> reduce_all(Call& call, const std::vector<int>& kinds) {
  nb::gil_scoped_release unlocked;
  auto registers = scratch(call);
  const size_t blocks = call.num_blocks(), count = kinds.size();
  std::vector<double> partial(blocks * count);
  parallel_blocks(blocks, call.num_threads, [&](size_t block, int thread) {
    alignas(64) double lanes[MAX_REDUCTIONS * LANES];
    clear(kinds, lanes);
    Tile t = call.tile(registers[thread]->memory);
    t.lanes = lanes;
    call.run_block(t, block);
    for (size_t k = 0; k < count; k++) partial[block * count + k] = total(kinds[k], lanes + k * LANES);
  });
  std::vector<double> result(count);
  for (size_t k = 0; k < count; k++) {
    result[k] = start_of(kinds[k]);
    for (size_t block = 0; block < blocks; block++)
      result[k] = combine(kinds[k], result[k], partial[block * count + k]);
  }
  return result;
}

// Reductions over each row's columns into float out[k * rows + row].
void reduce_rows(Call& call, const std::vector<int>& kinds, uintptr_t out) {
  nb::gil_scoped_release unlocked;
  auto registers = scratch(call);
  float* result = reinterpret_cast<float*>(out);
  parallel_blocks(call.rows, call.num_threads, [&](size_t row, int thread) {
    alignas(64) double lanes[MAX_REDUCTIONS * LANES];
    clear(kinds, lanes);
    Tile t = call.tile(registers[thread]->memory);
    t.lanes = lanes;
    call.run_row(t, row, 0, call.cols);
    for (size_t k = 0; k < kinds.size(); k++)
      result[k * call.rows + row] = float(total(kinds[k], lanes + k * LANES));
  });
}

// Reductions over each column's rows into float out[k * cols + col]. A thread owns a strip of
// columns, so there are no partials; the VM leaves each value in register k, not in lanes.
void reduce_columns(Call& call, const std::vector<int>& kinds, uintptr_t out) {
  nb::gil_scoped_release unlocked;
  auto registers = scratch(call);
  float* result = reinterpret_cast<float*>(out);
  const size_t strips = (call.cols + TILE - 1) / TILE, count = kinds.size();
  parallel_blocks(strips, call.num_threads, [&](size_t strip, int thread) {
    const size_t first = strip * TILE, last = std::min(call.cols, first + TILE);
    std::vector<double> columns(count * TILE);
    for (size_t k = 0; k < count; k++)
      std::fill_n(columns.data() + k * TILE, TILE, start_of(kinds[k]));
    Tile t = call.tile(registers[thread]->memory);
    for (size_t row = 0; row < call.rows; row++) {
      call.run_row(t, row, first, last);
      for (size_t k = 0; k < count; k++)
        for (size_t i = 0; i < last - first; i++) {
          double& column = columns[k * TILE + i];
          column = combine(kinds[k], column, double(t.registers[k * TILE + i]));
        }
    }
    for (size_t k = 0; k < count; k++)
      for (size_t i = 0; i < last - first; i++)
        result[k * call.cols + first + i] = float(columns[k * TILE + i]);
  });
}

// The k-th smallest (from 1) of what HISTOGRAM sees: digits of 11, 11 and 10 bits of the key.
float kth(Call& call, uint64_t k) {
  nb::gil_scoped_release unlocked;
  auto registers = scratch(call);
  uint32_t prefix = 0, mask = 0;
  int shift = 32;
  for (int bits : {11, 11, 10}) {
    shift -= bits;
    const size_t bins = size_t(1) << bits;
    std::vector<std::vector<uint64_t>> counts(call.num_threads, std::vector<uint64_t>(bins));
    parallel_blocks(call.num_blocks(), call.num_threads, [&](size_t block, int thread) {
      Tile t = call.tile(registers[thread]->memory);
      t.counts = counts[thread].data();
      t.digit = {shift, bits, prefix, mask};
      call.run_block(t, block);
    });
    uint32_t digit = 0;
    for (;; digit++) {
      uint64_t here = 0;
      for (const auto& mine : counts) here += mine[digit];
      if (k <= here || digit + 1 == bins) break;
      k -= here;
    }
    prefix |= digit << shift;
    mask |= uint32_t(bins - 1) << shift;
  }
  if (prefix == 0xffffffffu) return std::numeric_limits<float>::quiet_NaN();
  uint32_t bits = prefix & 0x80000000u ? prefix & 0x7fffffffu : ~prefix;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

}  // namespace

NB_MODULE(_cpu, m) {
  m.doc() = "The C++ backend's tile VM. Use kernels/cpu_backend.py, which encodes its programs.";
#ifdef HAVE_X86_BUILDS
  __builtin_cpu_init();
#endif
  m.attr("TILE") = TILE;
  m.attr("MAX_REDUCTIONS") = MAX_REDUCTIONS;
  m.def("isas", &isas, "Builds that this processor runs, best first.");
  m.def("best_isa", [] { return isas().front(); });
  m.def("opcodes", [] {
    std::vector<std::string> names = {
        "LOAD", "LOAD_DELTA", "FILL", "ROW_VALUE", "COL_VALUES", "IN_RANGE", "UNIFORM", "NORMAL",
        "ADD_SCALED", "KEEP_ABOVE", "WHERE_RRR", "WHERE_RRS", "WHERE_RSR", "WHERE_RSS", "STORE",
        "STORE_MERGED", "SUM", "SUM_ABS", "SUM_PRODUCT", "LARGEST", "SMALLEST", "HISTOGRAM"};
#define X(name) names.push_back(#name);
    UNARY_OPS(X)
#undef X
#define X(name) for (const char* form : {"_RR", "_RS", "_SR"}) names.push_back(std::string(#name) + form);
    BINARY_OPS(X)
#undef X
    return names;
  }, "Names of the instructions, in the order of their numbers.");
  nb::class_<Call>(m, "Call")
      .def(nb::init<nb::bytes, int, size_t, size_t, const Addresses&, const std::vector<int>&,
                    const Addresses&, const std::vector<int64_t>&, const std::vector<uint64_t>&, int,
                    const std::string&>(),
           nb::arg("code"), nb::arg("num_registers"), nb::arg("rows"), nb::arg("cols"),
           nb::arg("inputs"), nb::arg("dtypes"), nb::arg("vectors"), nb::arg("ranges"),
           nb::arg("draws"), nb::arg("num_threads"), nb::arg("isa"))
      .def("apply", &apply, nb::arg("out"), nb::arg("out_dtype"))
      .def("reduce_all", &reduce_all, nb::arg("kinds"))
      .def("reduce_rows", &reduce_rows, nb::arg("kinds"), nb::arg("out"))
      .def("reduce_columns", &reduce_columns, nb::arg("kinds"), nb::arg("out"))
      .def("kth", &kth, nb::arg("k"));
}
