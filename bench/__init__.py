"""Benchmarks: ratios measured in one run, each beside its floor."""
