// Mapped files. When a file is cut off, reading the part that is gone raises SIGBUS, which ends the
// process. A guarded mapping reads as zeros there instead: whoever reads it checks the file afterwards.
#pragma once
#include <cstddef>
#include <cstdint>

// Guard a mapping. Returns the number by which to forget it. std::runtime_error where there are too many.
int guard_mapping(uintptr_t address, size_t size);
// End the guard: the mapping is gone, or about to go.
void forget_mapping(int number);
