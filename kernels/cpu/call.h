// One call from Python: a program, what it runs on, and how a matrix is cut into blocks and tiles.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vm.h"

using Addresses = std::vector<uintptr_t>;

struct Isa { const char* name; InstructionSet (*instructions)(); bool (*supported)(); };
const std::vector<Isa>& isas();  // best first, the portable build last
InstructionSet find_isa(const std::string& name);  // "": the best that this processor runs

// Thrown where a call's time is over. What it was to write is of no use then.
struct Late : std::exception {
  const char* what() const noexcept override { return "the time of a call is over"; }
};
constexpr size_t LOOK_EVERY = 4096;  // instructions, each of a tile: some ms of the slowest ones

// One thread's registers and padded input, zeroed.
struct Scratch {
  explicit Scratch(int num_registers)
      : memory(static_cast<float*>(std::aligned_alloc(64, bytes(num_registers)))),
        registers(memory + TILE) {
    std::memset(memory, 0, bytes(num_registers));
  }
  ~Scratch() { std::free(memory); }
  Scratch(const Scratch&) = delete;
  static size_t bytes(int num_registers) { return sizeof(float) * TILE * (size_t(num_registers) + 1); }
  float* const memory;
  float* const registers;
  mutable size_t since_look = LOOK_EVERY;  // so the first tile looks
  uint16_t* padded() const { return reinterpret_cast<uint16_t*>(memory); }
};

// Addresses come as integers. Python owns the tensors behind them (BoundCall in kernels/cpu/vm.py).
struct Call {
  std::vector<Insn> program;
  std::vector<Handler> handlers;
  AddLanes add_lanes;
  int num_registers, num_threads;
  size_t rows, cols;
  double deadline;  // by the monotonic clock, in seconds
  std::vector<const void*> inputs;
  std::vector<uint8_t> dtypes;
  std::vector<const float*> vectors;
  std::vector<Range> ranges;
  std::vector<Draw> draws;
  Task task;

  Call(const char* code, size_t code_bytes, int registers, size_t rows_, size_t cols_,
       const Addresses& in, const std::vector<int>& kinds, const Addresses& vecs,
       const std::vector<int64_t>& range_words, const std::vector<uint64_t>& draw_words, int threads,
       const std::string& isa, double deadline_);

  Tile tile(const Scratch& scratch) const {
    Tile t{};
    t.task = &task;
    t.registers = scratch.registers;
    t.padded = scratch.padded();
    t.since_look = &scratch.since_look;
    return t;
  }

  void look(Tile& t) const {
    *t.since_look = 0;
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    if (std::chrono::duration<double>(now).count() > deadline) throw Late();
  }

  void run_tile(Tile& t, size_t row, size_t col, int n) const {
    t.row = row;
    t.col = col;
    t.at = row * cols + col;
    t.n = n;
    if (*t.since_look >= LOOK_EVERY) look(t);
    *t.since_look += program.size();
    for (size_t i = 0; i < program.size(); i++) handlers[i](t, program[i]);
  }

  struct Nothing { void operator()() const {} };

  // Runs tiles over columns [first, last) of one row, and `after` each of them.
  template <class After = Nothing>
  void run_row(Tile& t, size_t row, size_t first, size_t last, After after = {}) const {
    for (size_t col = first; col < last; col += TILE) {
      run_tile(t, row, col, int(std::min<size_t>(TILE, last - col)));
      after();
    }
  }

  // A block is a fixed number of whole rows, or a fixed piece of the only row.
  size_t rows_per_block() const {
    return rows == 1 ? 1 : std::max<size_t>(1, BLOCK / std::max<size_t>(1, cols));
  }
  size_t num_blocks() const {
    return rows == 1 ? (cols + BLOCK - 1) / BLOCK : (rows + rows_per_block() - 1) / rows_per_block();
  }
  size_t most_in_block() const { return rows == 1 ? BLOCK : rows_per_block() * cols; }
  template <class After = Nothing> void run_block(Tile& t, size_t block, After after = {}) const {
    if (rows == 1) return run_row(t, 0, block * BLOCK, std::min(cols, (block + 1) * BLOCK), after);
    size_t last = std::min(rows, (block + 1) * rows_per_block());
    for (size_t row = block * rows_per_block(); row < last; row++) run_row(t, row, 0, cols, after);
  }

  std::vector<std::unique_ptr<Scratch>> scratch() const {
    std::vector<std::unique_ptr<Scratch>> all;
    for (int i = 0; i < num_threads; i++) all.push_back(std::make_unique<Scratch>(num_registers));
    return all;
  }
};

// ---- entry points; they run without the interpreter's lock ----

// Runs several calls at once, so that small tensors fill all threads. Returns whether each call's
// results are all finite.
std::vector<int> apply(const std::vector<Call*>& calls, const Addresses& outs, const std::vector<int>& out_dtypes);
std::vector<double> reduce_all(const std::vector<Call*>& calls,
                               const std::vector<std::vector<int>>& kinds);
void reduce_rows(const Call& call, const std::vector<int>& kinds, uintptr_t out);
void reduce_columns(const Call& call, const std::vector<int>& kinds, uintptr_t out);
uint64_t read_all(uintptr_t address, size_t num_words, int num_threads);

// Returns both totals of a piece of a tensor (kernels/digest.py), its number of bytes included. The piece
// begins with chunk `first_chunk`; if its last chunk is not whole, it is the end of the tensor.
std::pair<uint64_t, uint64_t> digest(uintptr_t address, size_t num_bytes, uint64_t first_chunk,
                                     int num_threads, const std::string& isa);

// k-th values of what GATHER and HISTOGRAM read, the last instructions of the two programs. Ranks
// count from 1. `out` takes a float for each rank, and for each row or column.
std::vector<float> kth_all(const Call& gather, const Call& histogram, const std::vector<size_t>& ranks);
void kth_rows(const Call& gather, const std::vector<size_t>& ranks, uintptr_t out);
void kth_columns(const Call& gather, const std::vector<size_t>& ranks, uintptr_t out);
