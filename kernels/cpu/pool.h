// A small thread pool that survives fork. An atomic counter hands out blocks, so results must not
// depend on which thread does a block.
#pragma once
#include <cstddef>
#include <functional>

// Calls work(block, thread) for every block < num_blocks, with thread < num_threads, and returns when
// all are done. Threads are kept between calls. A forked child starts its own. Where `work` throws, blocks
// that were not begun are left out, and the first exception is thrown again.
void parallel_blocks(size_t num_blocks, int num_threads, const std::function<void(size_t, int)>& work);
