"""The resident engine: a process that holds a live model, whose weights are swapped in place."""
