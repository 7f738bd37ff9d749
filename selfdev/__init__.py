"""The Self-Developing loop and its parts, the built-in methods, the zoo, and the command line."""
