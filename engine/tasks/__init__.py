"""Tasks: their questions and prompts, and how answers are graded."""
