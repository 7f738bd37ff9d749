#include "pool.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace {

class Pool {
 public:
  explicit Pool(int num_helpers) : owner_(getpid()) {
    for (int i = 0; i < num_helpers; i++) threads_.emplace_back([this, i] { serve(i + 1); });
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  bool forked() const { return owner_ != getpid(); }
  bool fits(int num_helpers) const { return int(threads_.size()) == num_helpers; }

  void run(size_t num_blocks, const std::function<void(size_t, int)>& work) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      num_blocks_ = num_blocks;
      next_ = 0;
      round_++;
    }
    wake_.notify_all();
    take_blocks(work, 0);
    std::unique_lock<std::mutex> lock(mutex_);
    work_ = nullptr;  // a helper whose core was busy may wake only now, and is not waited for
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  void take_blocks(const std::function<void(size_t, int)>& work, int thread) {
    try {
      for (size_t block; (block = next_.fetch_add(1)) < num_blocks_;) work(block, thread);
    } catch (...) {
      next_ = num_blocks_;
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  void serve(int thread) {
    size_t seen = 0;
    for (;;) {
      const std::function<void(size_t, int)>* work;  // `work_` may be reset before the last block ends
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || round_ != seen; });
        if (stopping_) return;
        seen = round_;
        if (!(work = work_)) continue;
        busy_++;
      }
      take_blocks(*work, thread);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  const pid_t owner_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(size_t, int)>* work_ = nullptr;
  std::atomic<size_t> next_{0};
  size_t num_blocks_ = 0, round_ = 0;
  int busy_ = 0;
  bool stopping_ = false;
  std::exception_ptr error_;
};

}  // namespace

void parallel_blocks(size_t num_blocks, int num_threads,
                     const std::function<void(size_t, int)>& work) {
  if (num_threads <= 1 || num_blocks <= 1) {
    for (size_t block = 0; block < num_blocks; block++) work(block, 0);
    return;
  }
  static std::mutex calls;  // lets one call run at a time; callers have released the GIL
  static Pool* pool = nullptr;  // is never destroyed: its threads end with the process
  std::lock_guard<std::mutex> lock(calls);
  if (pool && pool->forked()) pool = nullptr;  // a forked child has no such threads
  if (pool && !pool->fits(num_threads - 1)) {
    delete pool;
    pool = nullptr;
  }
  if (!pool) pool = new Pool(num_threads - 1);
  pool->run(num_blocks, work);
}
