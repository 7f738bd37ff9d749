#include "mappings.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <stdexcept>

namespace {

// One mapping. `begin` is written last and cleared first: a handler that sees it sees the rest.
struct Range {
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<bool> taken{false};
};

constexpr int MOST = 1 << 14;
Range ranges[MOST];
std::atomic<int> used{0};  // ranges from here on were never taken
struct sigaction before;   // what handled the signal until now
std::mutex installing;

// Put zeros in place of the rest of the mapping that holds this address. All that follows it in the file
// is gone, too: one call, not one for each page. Returns whether there is such a mapping.
bool fill_from(uintptr_t address) {
  const uintptr_t page = address & ~uintptr_t(sysconf(_SC_PAGESIZE) - 1);
  for (int i = 0; i < used.load(); i++) {
    const uintptr_t begin = ranges[i].begin.load(), end = ranges[i].end.load();
    if (!begin || address < begin || address >= end) continue;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    void* start = reinterpret_cast<void*>(page);
    return mmap(start, end - page, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED;
  }
  return false;
}

// Runs in the thread that read. mmap is a plain system call, so it may be called here. A signal that is
// not about our mappings goes to the handler before this one, once; a second one ends the process.
void on_bus_error(int number, siginfo_t* info, void* context) {
  static std::atomic<bool> has_passed{false};
  if (fill_from(reinterpret_cast<uintptr_t>(info->si_addr))) return;
  if (has_passed.exchange(true))
    signal(number, SIG_DFL);
  else if (before.sa_flags & SA_SIGINFO)
    before.sa_sigaction(number, info, context);
  else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
    before.sa_handler(number);
  else
    signal(number, SIG_DFL);  // the read is tried again, and ends the process
}

// Others may have put their own handler in place of ours meanwhile.
void install() {
  const std::lock_guard<std::mutex> lock(installing);
  struct sigaction now {};
  sigaction(SIGBUS, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus_error) return;
  before = now;
  struct sigaction ours {};
  ours.sa_sigaction = on_bus_error;
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | (now.sa_flags & SA_ONSTACK);
  sigemptyset(&ours.sa_mask);
  sigaction(SIGBUS, &ours, nullptr);
}

}  // namespace

int guard_mapping(uintptr_t address, size_t size) {
  install();
  for (int i = 0; i < MOST; i++) {
    bool is_taken = false;
    if (!ranges[i].taken.compare_exchange_strong(is_taken, true)) continue;
    const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE));
    ranges[i].end.store((address + size + page - 1) / page * page);
    ranges[i].begin.store(address);
    for (int count = used.load(); count <= i && !used.compare_exchange_weak(count, i + 1);) {}
    return i;
  }
  throw std::runtime_error("too many mapped files");
}

void forget_mapping(int number) {
  ranges[number].begin.store(0);
  ranges[number].end.store(0);
  ranges[number].taken.store(false);
}
