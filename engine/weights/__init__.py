"""Weights on disk and in memory: checkpoints, the bank, reading ahead, fingerprints."""
