"""From a merge program to a score (docs/architecture.md): tracing, planning, streaming, live weights, tasks, store."""
