"""The Self-Developing loop: prompts, generation, preferences, DPO, methods, zoo, reports, commands."""
