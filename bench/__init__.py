"""Benchmarks. Each row is a ratio of two things measured in the same run."""
