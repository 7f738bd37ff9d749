"""What a program does to its tensors, found by running it on tensors without numbers."""
