"""From a merge program to a score: tracing, planning, streaming, live weights, tasks, store."""
