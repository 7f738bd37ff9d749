"""Weights on disk and in memory: checkpoints, the bank, streaming, fingerprints."""
