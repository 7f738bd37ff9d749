// A small thread pool that survives fork. Blocks are handed out by an atomic counter, so results
// must not (and do not) depend on which thread does a block.
#pragma once
#include <cstddef>
#include <functional>

// Calls work(block, thread) for every block < num_blocks; thread < num_threads. Returns when all
// are done. Threads are kept between calls; a forked child starts its own.
void parallel_blocks(size_t num_blocks, int num_threads, const std::function<void(size_t, int)>& work);
