// Python's door to the tile VM: it chooses the instruction set and binds the entry points of call.h.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "call.h"
#include "mappings.h"

namespace nb = nanobind;

const std::vector<Isa>& isas() {
  static const std::vector<Isa> all = {
#ifdef HAVE_X86_BUILDS
      {"avx512", instructions_avx512, [] {
         return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma"); }},
      {"avx2", instructions_avx2, [] {
         return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("f16c"); }},
#endif
      {"portable", instructions_portable, [] { return true; }},
  };
  return all;
}

InstructionSet find_isa(const std::string& name) {
  for (const Isa& isa : isas())
    if (isa.supported() && (name.empty() || name == isa.name)) return isa.instructions();
  throw std::invalid_argument("this processor cannot run the build " + name);
}

namespace {

std::vector<std::string> supported() {
  std::vector<std::string> names;
  for (const Isa& isa : isas())
    if (isa.supported()) names.push_back(isa.name);
  return names;
}

std::vector<std::string> opcodes() {
  const InstructionSet set = instructions_portable();
  std::vector<std::string> names;
  for (int i = 0; i < set.count; i++) names.push_back(set.instructions[i].name);
  return names;
}

void make_call(Call* self, nb::bytes code, int num_registers, size_t rows, size_t cols,
               const Addresses& inputs, const std::vector<int>& dtypes, const Addresses& vectors,
               const std::vector<int64_t>& ranges, const std::vector<uint64_t>& draws,
               int num_threads, const std::string& isa, double deadline) {
  new (self) Call(code.c_str(), code.size(), num_registers, rows, cols, inputs, dtypes, vectors,
                  ranges, draws, num_threads, isa, deadline);
}

}  // namespace

Call::Call(const char* code, size_t code_bytes, int registers, size_t rows_, size_t cols_,
           const Addresses& in, const std::vector<int>& kinds, const Addresses& vecs,
           const std::vector<int64_t>& range_words, const std::vector<uint64_t>& draw_words,
           int threads, const std::string& isa, double deadline_)
    : program(code_bytes / sizeof(Insn)), num_registers(std::max(1, registers)),
      num_threads(std::max(1, threads)), rows(rows_), cols(cols_), deadline(deadline_) {
  std::memcpy(program.data(), code, program.size() * sizeof(Insn));
  const InstructionSet set = find_isa(isa);
  add_lanes = set.add_lanes;
  for (const Insn& x : program) {
    if (x.op >= set.count) throw std::invalid_argument("an instruction that does not exist");
    handlers.push_back(set.instructions[x.op].run);
  }
  for (uintptr_t p : in) inputs.push_back(reinterpret_cast<const void*>(p));
  for (int kind : kinds) dtypes.push_back(uint8_t(kind));
  for (uintptr_t p : vecs) vectors.push_back(reinterpret_cast<const float*>(p));
  for (size_t i = 0; i + 2 < range_words.size(); i += 3)
    ranges.push_back({range_words[i], range_words[i + 1], range_words[i + 2]});
  for (size_t i = 0; i + 1 < draw_words.size(); i += 2)
    draws.push_back({draw_words[i], uint32_t(draw_words[i + 1]), 0});
  task = {inputs.data(), dtypes.data(), vectors.data(), ranges.data(), draws.data(), nullptr, F32};
}

NB_MODULE(_cpu, m) {
  m.doc() = "The C++ backend's tile VM. Use it through kernels/cpu/vm.py, which encodes its programs.";
#ifdef HAVE_X86_BUILDS
  __builtin_cpu_init();
#endif
  using nb::arg;
  using unlocked = nb::call_guard<nb::gil_scoped_release>;
  nb::exception<Late>(m, "Late");
  m.def("isas", &supported, "Builds that this processor runs, best first.");
  m.def("best_isa", [] { return supported().front(); });
  m.def("opcodes", &opcodes, "Names of the instructions, in the order of their numbers.");
  m.def("read_all", &read_all, arg("address"), arg("num_words"), arg("num_threads"), unlocked(),
        "The sum of 64-bit words: the bench compares sweeps with it.");
  m.def("digest", &digest, arg("address"), arg("num_bytes"), arg("first_chunk"), arg("num_threads"),
        arg("isa") = "", unlocked(), "Both totals of a piece of a tensor's bytes.");
  m.def("guard_mapping", &guard_mapping, arg("address"), arg("size"),
        "Make a mapped file read as zeros where it is cut off. Returns the mapping's number.");
  m.def("forget_mapping", &forget_mapping, arg("number"), "End the guard of a mapping.");
  m.def("apply", &apply, arg("calls"), arg("outs"), arg("out_dtypes"), unlocked(),
        "Write each call's results to its output, and return whether they are finite.");
  nb::class_<Call>(m, "Call")
      .def("__init__", &make_call, arg("code"), arg("num_registers"), arg("rows"), arg("cols"),
           arg("inputs"), arg("dtypes"), arg("vectors"), arg("ranges"), arg("draws"),
           arg("num_threads"), arg("isa"), arg("deadline"))
      .def("reduce_rows", &reduce_rows, arg("kinds"), arg("out"), unlocked())
      .def("reduce_columns", &reduce_columns, arg("kinds"), arg("out"), unlocked())
      .def("kth_all", &kth_all, arg("histogram"), arg("ranks"), unlocked())
      .def("kth_rows", &kth_rows, arg("ranks"), arg("out"), unlocked())
      .def("kth_columns", &kth_columns, arg("ranks"), arg("out"), unlocked());
  m.def("reduce_all", &reduce_all, arg("calls"), arg("kinds"), unlocked(),
        "Sums and extremes of several programs, in one walk over blocks.");
}
