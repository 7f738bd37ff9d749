"""The resident engine: a process that holds live models, whose weights are swapped in place."""
