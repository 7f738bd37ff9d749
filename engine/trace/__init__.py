"""Finds what a program does to its tensors by running it on tensors without numbers."""
